//! The form of `expect.toml`.
//!
//! ```toml
//! [[step]]
//! compose = "up -d"            # a line for docker-compose
//!
//! [[step]]
//! outside = "wget -qO- http://198.51.100.2:8080/"
//! says = ["hello"]             # parts of the output, each of which has to be there
//! eventually = true            # tried again until it holds
//! ```
//! Every step has exactly one of `compose`, `docker`, `host`, `outside`. `{project}` stands for the project's name and
//! `{dir}` for its directory.

use serde::Deserialize;

/// What is expected of a project.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectations {
    /// One sentence for people.
    pub about: String,
    /// Environment of every docker-compose command, `KEY=VALUE`; a step may set others.
    #[serde(default)]
    pub env: Vec<String>,
    /// What happens, in order.
    pub step: Vec<Step>,
}

/// A command and what has to come of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Step {
    /// A line for docker-compose.
    pub compose: Option<String>,
    /// A line for the docker client.
    pub docker: Option<String>,
    /// A shell line on the daemon's machine.
    pub host: Option<String>,
    /// A shell line on the machine's neighbour, out in the network.
    pub outside: Option<String>,
    /// Environment of the command, `KEY=VALUE`.
    pub env: Vec<String>,
    /// Text for the command's standard input.
    pub input: String,
    /// Expected exit code.
    pub code: i32,
    /// The output without its final newline.
    pub is: Option<String>,
    /// The lines of the output in any order.
    pub lines: Option<Vec<String>>,
    /// Parts of the output, standard error included.
    pub says: Vec<String>,
    /// What the output must not hold, standard error included.
    pub lacks: Vec<String>,
    /// Whether to try again until it holds.
    pub eventually: bool,
}

impl Expectations {
    /// Reads expectations; panics on anything that is none, since the file is part of the test.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let parsed: Self = toml::from_str(text).unwrap_or_else(|error| panic!("expect.toml: {error}"));
        for step in &parsed.step {
            let commands = [&step.compose, &step.docker, &step.host, &step.outside];
            let given = commands.iter().filter(|command| command.is_some()).count();
            assert!(given == 1, "a step has one command: {step:?}");
        }
        parsed
    }
}

impl Step {
    /// The step with `fill` applied to every text in it.
    #[must_use]
    pub fn filled(&self, fill: impl Fn(&str) -> String) -> Self {
        let one = |text: &Option<String>| text.as_deref().map(&fill);
        let all = |texts: &Vec<String>| texts.iter().map(|text| fill(text)).collect::<Vec<_>>();
        Self {
            compose: one(&self.compose),
            docker: one(&self.docker),
            host: one(&self.host),
            outside: one(&self.outside),
            env: all(&self.env),
            input: fill(&self.input),
            code: self.code,
            is: one(&self.is),
            lines: self.lines.as_ref().map(&all),
            says: all(&self.says),
            lacks: all(&self.lacks),
            eventually: self.eventually,
        }
    }

    /// What does not hold of an outcome, if anything.
    #[must_use]
    pub fn complaint(&self, code: i32, stdout: &str, stderr: &str) -> Option<String> {
        let both = format!("{stdout}{stderr}");
        if code != self.code {
            return Some(format!("exit code {code} and not {}", self.code));
        }
        if let Some(expected) = &self.is
            && stdout.trim_end_matches('\n') != expected
        {
            return Some(format!("the output is not {expected:?}"));
        }
        if let Some(expected) = &self.lines {
            let sorted = |lines: Vec<&str>| {
                let mut lines = lines;
                lines.sort_unstable();
                lines.join("\n")
            };
            if sorted(stdout.lines().collect()) != sorted(expected.iter().map(String::as_str).collect()) {
                return Some(format!("the lines are not {expected:?}"));
            }
        }
        let missing = self.says.iter().find(|part| !both.contains(part.as_str()));
        let excess = self.lacks.iter().find(|part| both.contains(part.as_str()));
        missing
            .map(|part| format!("the output does not hold {part:?}"))
            .or_else(|| excess.map(|part| format!("the output holds {part:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::Expectations;

    #[test]
    fn a_step_is_judged_by_code_and_output() {
        let parsed = Expectations::parse(
            "about = 'x'\n[[step]]\ncompose = 'ps'\nsays = ['up']\nlacks = ['exit']\nlines = ['b', 'a up']\n",
        );
        let step = &parsed.step[0];
        assert_eq!(step.complaint(0, "a up\nb\n", ""), None);
        assert!(step.complaint(1, "a up\nb\n", "").is_some());
        assert!(step.complaint(0, "a up\n", "").is_some());
        assert!(step.complaint(0, "a up\nb\n", "exit").is_some());
    }

    #[test]
    #[should_panic(expected = "a step has one command")]
    fn a_step_without_a_command_is_refused() {
        let parsed = Expectations::parse("about = 'x'\n[[step]]\nsays = ['up']\n");
        assert_eq!(parsed.step.len(), 1);
    }
}

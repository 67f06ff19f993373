//! Runs one project: its steps in order, then takes it down and looks for what is left of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use integration_cli::condition::{PATIENCE, poll};
use integration_cli::process::{Outcome, command, run};
use integration_cli::{Case, Session, words};
use serde_json::json;

use crate::expect::{Expectations, Step};

/// One case for each directory below `root`.
#[must_use]
pub fn cases(root: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let mut directories: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    directories.retain(|path| path.join("expect.toml").exists());
    directories.sort();
    directories
        .into_iter()
        .map(|directory| {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Case::new(name, move |test| Project::new(test, &directory).run())
        })
        .collect()
}

/// A project on a daemon.
#[derive(Debug)]
struct Project<'a> {
    session: &'a Session,
    name: String,
    directory: PathBuf,
    expectations: Expectations,
}

impl<'a> Project<'a> {
    fn new(session: &'a Session, directory: &Path) -> Self {
        let text = std::fs::read_to_string(directory.join("expect.toml")).expect("expect.toml");
        // Compose allows no hyphen in the names of projects as old as this client makes them.
        let name = session.name("p").replace('-', "");
        Self { session, name, directory: directory.to_owned(), expectations: Expectations::parse(&text) }
    }

    fn run(&self) {
        let directory = self.directory.to_string_lossy();
        let fill = |text: &str| text.replace("{project}", &self.name).replace("{dir}", &directory);
        for step in &self.expectations.step {
            self.check(&step.filled(fill));
        }
        self.compose(&["down", "-v", "--remove-orphans", "-t", "1"], &[], "").ok();
        self.assert_nothing_left();
    }

    fn check(&self, step: &Step) {
        let mut last = self.carry_out(step);
        let mut complaint = step.complaint(last.code, &last.stdout, &last.stderr);
        if step.eventually && complaint.is_some() {
            poll(PATIENCE, &mut || {
                last = self.carry_out(step);
                complaint = step.complaint(last.code, &last.stdout, &last.stderr);
                complaint.is_none().then_some(())
            });
        }
        if let Some(complaint) = complaint {
            panic!("{} ({}): {complaint}\n{last:?}", self.name, self.expectations.about);
        }
    }

    fn carry_out(&self, step: &Step) -> Outcome {
        if let Some(line) = &step.compose {
            let line = words::split(line);
            let arguments: Vec<&str> = line.iter().map(String::as_str).collect();
            return self.compose(&arguments, &step.env, &step.input);
        }
        if let Some(line) = &step.docker {
            return self.session.docker_with_input(line, step.input.as_bytes());
        }
        match (&step.host, &step.outside) {
            (Some(script), _) => self.session.host(script),
            (_, Some(script)) => self.session.outside(script),
            _ => unreachable!("a step has one command"),
        }
    }

    /// Runs docker-compose in the project's directory.
    fn compose(&self, arguments: &[&str], environment: &[String], input: &str) -> Outcome {
        let mut compose: Command = command(compose_program());
        // The file's name is not among those this client looks for; a project may bring its own choice of files.
        let chosen = arguments.first().is_some_and(|argument| *argument == "-f");
        compose.args((!chosen).then_some(["-f", "compose.yaml"]).into_iter().flatten());
        compose.args(arguments).current_dir(&self.directory);
        let docker = self.session.docker_command::<&str>(&[]);
        compose.envs(docker.get_envs().filter_map(|(key, value)| Some((key, value?))));
        compose.env("COMPOSE_PROJECT_NAME", &self.name).env("COMPOSE_HTTP_TIMEOUT", "60");
        let pairs = self.expectations.env.iter().chain(environment);
        compose.envs(pairs.filter_map(|pair| pair.split_once('=')));
        run(compose, input.as_bytes())
    }

    /// Everything of the project carries its label, so that nothing can hide.
    fn assert_nothing_left(&self) {
        let filters = json!({"label": [format!("com.docker.compose.project={}", self.name)]});
        let containers = self.session.list("/containers/json?all=1", &filters);
        let networks = self.session.list("/networks", &filters);
        let path = integration_cli::session::with_filters("/volumes", &filters);
        let volumes = self.session.get(&path).expect(200).json()["Volumes"].clone();
        assert!(containers.is_empty() && networks.is_empty(), "left: {containers:?} {networks:?}");
        assert!(volumes.as_array().is_none_or(Vec::is_empty), "left: {volumes}");
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.compose(&["down", "-v", "--remove-orphans", "-t", "1"], &[], "");
        }
    }
}

/// The compose client: `SHOAL_TEST_COMPOSE`, else Debian's docker-compose.
fn compose_program() -> PathBuf {
    std::env::var_os("SHOAL_TEST_COMPOSE").map_or_else(|| "docker-compose".into(), PathBuf::from)
}

//! Whether a runtime makes checkpoints.
//!
//! Start reading at [`require`]. A runtime that was built without CRIU, as Debian's crun is, does not know the command; asked for
//! help on it, it says so, before anything is begun.

use std::time::Duration;

use crate::command::{self, CommandError, Output};
use crate::error::{ErrorChain, NodeError};

/// How long a runtime may take to say how a command of its is used.
const LIMIT: Duration = Duration::from_secs(60);

/// Refuses, with the reason, unless the runtime knows the command. `arguments` stand before each command of it.
pub(super) async fn require(program: &str, mut arguments: Vec<String>) -> Result<(), NodeError> {
    arguments.extend(["checkpoint".to_owned(), "--help".to_owned()]);
    let asked = command::run(program, &arguments, LIMIT).await;
    match trouble(&asked) {
        None => Ok(()),
        Some(trouble) => Err(NodeError::not_implemented(format!(
            "checkpoints need a runtime that works with CRIU, which {program} does not: {trouble}"
        ))),
    }
}

/// What the runtime says instead of help.
fn trouble(asked: &Result<Output, CommandError>) -> Option<String> {
    match asked {
        Ok(output) if output.status.success() => None,
        Ok(output) if output.complaint().is_empty() => Some(format!("{}", output.status)),
        Ok(output) => Some(output.complaint()),
        Err(error) => Some(ErrorChain(error).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use shoal_types::ErrorKind;

    use super::*;

    /// Asks a program that does what the script does.
    async fn ask(script: &str) -> Result<(), NodeError> {
        require("sh", ["-c", script, "runtime"].map(str::to_owned).to_vec()).await
    }

    #[tokio::test]
    async fn a_runtime_that_does_not_know_the_command_is_refused_in_its_words() {
        ask(r#"[ "$*" = "checkpoint --help" ]"#).await.unwrap();
        for (script, reason) in [
            // Debian's crun 1.8.1.
            (r#"echo "unknown command $1" >&2; exit 1"#, "unknown command checkpoint"),
            ("exit 3", "exit status: 3"),
        ] {
            let refusal = ask(script).await.unwrap_err();
            assert_eq!(refusal.kind(), ErrorKind::NotImplemented);
            let text = "checkpoints need a runtime that works with CRIU, which sh does not: ";
            assert_eq!(refusal.message(), format!("{text}{reason}"));
        }
        let missing = require("no-such-runtime", Vec::new()).await.unwrap_err();
        assert!(missing.message().contains("start no-such-runtime"), "{}", missing.message());
    }
}

//! Whether CRIU works on this machine.
//!
//! Start reading at [`require`]. CRIU knows the kernels of its time: one that is too new for it is found out here, before a
//! process is stopped, and told in CRIU's words.

use std::time::Duration;

use crate::command::{self, CommandError, Output};
use crate::error::{ErrorChain, NodeError};

/// How long the check may take. It looks at the kernel only.
const LIMIT: Duration = Duration::from_secs(60);
const MISSING: &str =
    "checkpoints need CRIU (https://criu.org), which is not installed: install the package criu";
const UNFIT: &str = "checkpoints need CRIU, and the one that is installed does not work with this kernel";

/// Refuses, with the reason, unless CRIU works.
pub(super) async fn require() -> Result<(), NodeError> {
    let checked = command::run("criu", &["check"], LIMIT).await;
    match reason(&checked) {
        None => Ok(()),
        Some(reason) => Err(NodeError::not_implemented(reason)),
    }
}

/// Why it does not work.
fn reason(checked: &Result<Output, CommandError>) -> Option<String> {
    match checked {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("{UNFIT}: {}", cause(output))),
        Err(CommandError::Start { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Some(MISSING.to_owned())
        }
        Err(error) => Some(format!("{UNFIT}: {}", ErrorChain(error))),
    }
}

/// CRIU's first error without the place in its source: `Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds`.
fn cause(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().find_map(|line| Some(line.strip_prefix("Error (")?.split_once("): ")?.1));
    error.map_or_else(|| output.complaint(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn ended(code: i32, complaint: &str) -> Result<Output, CommandError> {
        let status = ExitStatus::from_raw(code << 8);
        Ok(Output { status, stdout: Vec::new(), stderr: complaint.as_bytes().to_vec() })
    }

    #[test]
    fn the_reason_is_crius_first_error_or_that_it_is_missing() {
        assert_eq!(reason(&ended(0, "Warn  (criu/kerndat.c:1470): clone3 is not there\n")), None);
        let unfit = "Warn  (criu/x.c:1): z\nError (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds\nError (criu/x.c:1): y\n";
        assert_eq!(
            reason(&ended(1, unfit)).unwrap(),
            format!("{UNFIT}: vdso: Unexpected rt vDSO area bounds")
        );
        let missing =
            CommandError::Start { program: "criu".to_owned(), source: std::io::ErrorKind::NotFound.into() };
        assert_eq!(reason(&Err(missing)).unwrap(), MISSING);
    }
}

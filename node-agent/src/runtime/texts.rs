//! PURE. Docker's words around a runtime's failure. The command line derives its exit status from them.
//!
//! Start reading at [`create_failure`].

use node_shim::protocol::{Failure, FailureKind};

const TASK_FAILED: &str = "failed to create task for container: failed to create shim task";
const CREATE_FAILED: &str = "OCI runtime create failed: runc create failed";
const EXEC_FAILED: &str = "OCI runtime exec failed: exec failed";
const PROCESS_FAILED: &str = "unable to start container process";
const INIT_FAILED: &str = "error during container init";
/// The kernel's words for a file where a directory should be, or the other way round.
const NOT_A_DIRECTORY: &str = "not a directory";
/// Docker's advice on a mount whose two ends are not of one kind.
const MISMATCHED_MOUNT: &str = "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type";
/// What clients look for to tell that a program cannot be executed.
const PERMISSION_DENIED: &str = "permission denied";

/// Why a container could not be created or started.
pub(crate) fn create_failure(failure: &Failure) -> String {
    let message = complete(failure);
    // A runtime that is driven by its command line speaks for itself.
    if message.contains("create failed") {
        return format!("{TASK_FAILED}: {message}");
    }
    // What failed before the program was looked at says so itself.
    let says_init = message.starts_with(INIT_FAILED);
    match failure.kind {
        FailureKind::CommandNotFound | FailureKind::NotExecutable if !says_init => {
            format!("{TASK_FAILED}: {CREATE_FAILED}: {PROCESS_FAILED}: {INIT_FAILED}: {message}")
        }
        FailureKind::CommandNotFound if message.contains(NOT_A_DIRECTORY) => {
            format!("{TASK_FAILED}: {CREATE_FAILED}: {PROCESS_FAILED}: {message}: {MISMATCHED_MOUNT}")
        }
        FailureKind::CommandNotFound | FailureKind::NotExecutable => {
            format!("{TASK_FAILED}: {CREATE_FAILED}: {PROCESS_FAILED}: {message}")
        }
        FailureKind::Runtime => format!("{TASK_FAILED}: {CREATE_FAILED}: {PROCESS_FAILED}: {message}"),
        FailureKind::WrongPhase
        | FailureKind::NotRunning
        | FailureKind::NoSuchExec
        | FailureKind::AlreadyExists
        | FailureKind::Invalid
        | FailureKind::Internal => format!("{TASK_FAILED}: {message}"),
    }
}

/// Why a command could not be run in a container.
pub(crate) fn exec_failure(failure: &Failure) -> String {
    let message = complete(failure);
    if message.contains("exec failed") {
        return message;
    }
    format!("{EXEC_FAILED}: {PROCESS_FAILED}: {message}")
}

/// Old clients know a program that cannot be executed only by one phrase, which a directory does not earn by itself.
fn complete(failure: &Failure) -> String {
    let message = &failure.message;
    if failure.kind == FailureKind::NotExecutable && !message.contains(PERMISSION_DENIED) {
        return format!("{message}: {PERMISSION_DENIED}");
    }
    message.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_hold_what_the_command_line_looks_for() {
        let missing =
            Failure::new(FailureKind::CommandNotFound, "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(
            create_failure(&missing),
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"nope\": executable file not found in $PATH"
        );
        assert_eq!(
            exec_failure(&missing),
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH"
        );
        let directory = Failure::new(FailureKind::NotExecutable, "exec: \"/tmp\": is a directory");
        assert!(create_failure(&directory).ends_with("exec: \"/tmp\": is a directory: permission denied"));
        let mount = Failure::new(
            FailureKind::CommandNotFound,
            "error during container init: open mount point /etc/passwd/x: not a directory",
        );
        assert_eq!(
            create_failure(&mount),
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: open mount point /etc/passwd/x: not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
        );
        let external = Failure::new(FailureKind::Runtime, "runc create failed: invalid mount");
        assert_eq!(
            create_failure(&external),
            "failed to create task for container: failed to create shim task: runc create failed: invalid mount"
        );
    }
}

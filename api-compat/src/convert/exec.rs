//! Commands run in a container, and the keys that detach from one.
//!
//! Start reading at [`spec`] and [`inspect`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node_agent::api::execs::{ExecSpec, ExecView};

use crate::error::ApiError;
use crate::model::exec::{ExecCreate, ExecInspect, ProcessConfig};
use crate::version::ApiVersion;

/// The command that a request describes.
pub(crate) fn spec(create: ExecCreate, version: ApiVersion) -> Result<ExecSpec, ApiError> {
    let command = create.cmd.unwrap_or_default();
    if command.is_empty() {
        return Err(ApiError::invalid("No exec command specified"));
    }
    Ok(ExecSpec {
        command,
        env: create.env.unwrap_or_default(),
        user: create.user,
        working_dir: create.working_dir,
        tty: create.tty,
        privileged: create.privileged,
        attach_stdin: create.attach_stdin,
        attach_stdout: create.attach_stdout,
        attach_stderr: create.attach_stderr,
        detach_keys: checked_detach_keys(&create.detach_keys)?,
        console_size: console_size(create.console_size, create.tty, version),
    })
}

/// The size of a terminal, if there is a terminal, and if the version knew of it.
pub(crate) fn console_size(size: Option<[u16; 2]>, tty: bool, version: ApiVersion) -> Option<(u16, u16)> {
    size.filter(|_| tty && version.is_from(42)).map(Into::into)
}

/// What is known of a command.
pub(crate) fn inspect(view: &ExecView) -> ExecInspect {
    let spec = &view.spec;
    let keys = spec.detach_keys.as_deref().and_then(detach_key_bytes).unwrap_or_default();
    ExecInspect {
        id: view.id.to_string(),
        running: view.running,
        exit_code: view.exit_code,
        process_config: ProcessConfig {
            tty: spec.tty,
            entrypoint: spec.command.first().cloned().unwrap_or_default(),
            arguments: spec.command.iter().skip(1).cloned().collect(),
            privileged: spec.privileged,
            user: spec.user.clone(),
        },
        open_stdin: spec.attach_stdin,
        open_stderr: spec.attach_stderr,
        open_stdout: spec.attach_stdout,
        can_remove: false,
        container_id: view.container.to_string(),
        detach_keys: STANDARD.encode(keys),
        pid: view.pid,
    }
}

/// Keys that detach, if any were given; refuses what is none.
pub(crate) fn checked_detach_keys(written: &str) -> Result<Option<String>, ApiError> {
    if written.is_empty() {
        return Ok(None);
    }
    match detach_key_bytes(written) {
        Some(_) => Ok(Some(written.to_owned())),
        None => Err(ApiError::invalid(format!("Invalid detach keys ({written}) provided"))),
    }
}

/// Reads keys separated by commas, each one character or `ctrl-` and one of `a` to `z`, `@`, `[`, `\`, `]`, `^`, `_`.
fn detach_key_bytes(written: &str) -> Option<Vec<u8>> {
    written
        .split(',')
        .map(|key| match (key.strip_prefix("ctrl-"), key.as_bytes()) {
            (_, [byte]) => Some(*byte),
            (Some("@"), _) => Some(0),
            (Some("["), _) => Some(27),
            (Some("\\"), _) => Some(28),
            (Some("]"), _) => Some(29),
            (Some("^"), _) => Some(30),
            (Some("_"), _) => Some(31),
            (Some(letter), _) => match letter.as_bytes() {
                [byte @ b'a'..=b'z'] => Some(byte - b'a' + 1),
                _ => None,
            },
            (None, _) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_characters_and_control_keys() {
        assert_eq!(detach_key_bytes("ctrl-p,ctrl-q"), Some(vec![16, 17]));
        assert_eq!(detach_key_bytes("a,ctrl-@,ctrl-_"), Some(vec![b'a', 0, 31]));
        assert_eq!(checked_detach_keys(""), Ok(None));
        for wrong in ["ctrl-", "ctrl-A", "ab", "a,,b", "ctrl-pp", "ctrl-é"] {
            assert_eq!(
                checked_detach_keys(wrong).unwrap_err().message(),
                format!("Invalid detach keys ({wrong}) provided")
            );
        }
    }
}

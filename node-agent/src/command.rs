//! Helper programs: the only place that starts them.
//!
//! Start reading at [`run`]. Arguments are a vector, never a line for a shell; there is a time limit; output is captured and
//! bounded. Shims are no helper programs, see `shim_client`.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// How much of each stream is kept. No helper program says more that anybody would read.
const MAX_OUTPUT_LEN: u64 = 16 * 1024 * 1024;

/// Why a helper program has no result.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("start {program}")]
    Start {
        /// The program.
        program: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Its output could not be read.
    #[error("read the output of {program}")]
    Read {
        /// The program.
        program: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("{program} takes longer than {limit:?}")]
    TimedOut {
        /// The program.
        program: String,
        /// How long it might have taken.
        limit: Duration,
    },
}

/// What a helper program has said.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its complaints.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The first line of the complaints, for an error message.
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).lines().next().unwrap_or_default().trim().to_owned()
    }
}

/// Runs a program to its end. It is looked up in `PATH`, gets no input, nothing else of the daemon's environment, and is
/// killed when the limit is over or the caller goes away.
pub async fn run<A: AsRef<OsStr>>(
    program: &str,
    arguments: &[A],
    limit: Duration,
) -> Result<Output, CommandError> {
    let name = || program.to_owned();
    #[expect(clippy::disallowed_methods, reason = "this is the place where helper programs start")]
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let mut child = command.spawn().map_err(|source| CommandError::Start { program: name(), source })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let running = async {
        let (stdout, stderr, status) = tokio::join!(read(stdout), read(stderr), child.wait());
        Ok(Output { stdout: stdout?, stderr: stderr?, status: status? })
    };
    match tokio::time::timeout(limit, running).await {
        Ok(outcome) => outcome.map_err(|source| CommandError::Read { program: name(), source }),
        Err(_elapsed) => Err(CommandError::TimedOut { program: name(), limit }),
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(MAX_OUTPUT_LEN).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn output_complaints_and_status_come_back() {
        let output = run("sh", &["-c", "echo out; echo err >&2; exit 3"], LIMIT).await.unwrap();
        assert_eq!((output.stdout.as_slice(), output.complaint().as_str()), (b"out\n".as_slice(), "err"));
        assert_eq!(output.status.code(), Some(3));
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_killed() {
        let error = run("sleep", &["60"], Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_missing_program_is_told_by_name() {
        let error = run("no-such-program", &["x"], LIMIT).await.unwrap_err();
        assert_eq!(error.to_string(), "start no-such-program");
    }
}

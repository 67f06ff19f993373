//! Programs of the machine that measuring needs: ip, nsenter, tar, the docker client.
//!
//! Start reading at [`run`]. All of the bench starts programs through here.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A program with its arguments, to be started by the caller.
#[expect(clippy::disallowed_methods, reason = "helper programs of developers, not of the daemon")]
pub(super) fn command<A: AsRef<std::ffi::OsStr>>(
    program: impl AsRef<std::ffi::OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs a program and returns what it writes; its error output is part of the error.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    finish(command(program, arguments))
}

/// Runs words separated by blanks, none of which holds a blank itself.
pub(super) fn run_line(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("no program named")?;
    finish(command(program, words))
}

/// Runs a prepared program to its end and returns what it writes.
pub(super) fn finish(mut command: Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        bail!(
            "{} {}: {}: {}",
            command.get_program().display(),
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

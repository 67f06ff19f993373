//! The one binary of Shoal: the daemon, and everything that it starts.
//!
//! Start reading at [`main`], then `daemon.rs`. The helpers (`shim`, `init`, `netd`, `runtime`) are dispatched to before anything
//! else is touched: they have no threads, no async runtime and few pages of memory of their own.

mod check_config;
mod config;
mod listen;
mod pidfile;
mod telemetry;

use std::ffi::OsString;
use std::process::ExitCode;

use config::Invocation;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let _program = arguments.next();
    let arguments: Vec<OsString> = arguments.collect();
    let rest = || arguments.iter().skip(1).cloned();
    match arguments.first().and_then(|argument| argument.to_str()) {
        Some("check-config") => check_config::run(rest()),
        _ => run_daemon(arguments),
    }
}

fn run_daemon(arguments: Vec<OsString>) -> ExitCode {
    match config::read_command_line(arguments.into_iter()) {
        Ok(Invocation::Help) => {
            say(&config::usage());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Version) => {
            say(&format!("Shoal version {}, build {}\n", env!("CARGO_PKG_VERSION"), "unknown"));
            ExitCode::SUCCESS
        }
        Ok(Invocation::Validate(line)) => match config::load(&line) {
            Ok(_) => {
                say("configuration OK\n");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
        Ok(Invocation::Run(line)) => match config::load(&line) {
            Ok(config) => {
                let _ = telemetry::start(&config);
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
        Err(error) => fail(&error),
    }
}

/// Tells the user why nothing happens.
fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    use std::io::Write as _;
    // Nobody is left to be told if even this fails.
    let _ = writeln!(std::io::stderr(), "{error}");
    ExitCode::FAILURE
}

/// Writes to standard output; whoever has closed it does not want to know.
pub(crate) fn say(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

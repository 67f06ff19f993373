//! The one binary of Shoal: the daemon, and everything that it starts.
//!
//! Start reading at [`main`], then `daemon.rs`. The helpers (`shim`, `init`, `namespaces`, `netd`, `runtime`) are dispatched to before
//! anything else is touched: they have no threads, no async runtime and few pages of memory of their own.

mod check_config;
mod config;
mod daemon;
mod directories;
mod engine;
mod identity;
mod init;
mod limits;
mod listen;
mod membership;
mod memory;
mod metrics;
mod parts;
mod pidfile;
mod signals;
mod stacks;
mod telemetry;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use config::Invocation;
use node_agent::userns::namespaces::HELPER;

/// The version of Docker's engine whose behaviour this one has, with our own behind it (semver build metadata): clients
/// compare it, people read it.
pub(crate) const VERSION: &str = concat!("29.0.0+shoal.", env!("CARGO_PKG_VERSION"));
/// The commit that this was built from, when the build was told.
pub(crate) const COMMIT: &str = match option_env!("SHOAL_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().unwrap_or_default();
    if Path::new(&program).file_name().is_some_and(|name| name == "docker-init") {
        return init::run(arguments);
    }
    let arguments: Vec<OsString> = arguments.collect();
    let rest = || arguments.iter().skip(1).cloned();
    match arguments.first().and_then(|argument| argument.to_str()) {
        Some("shim") => node_shim::main(rest()),
        Some("init") => init::run(rest()),
        Some(HELPER) => node_runtime::hold_namespaces(rest()),
        Some("netd") => overlay_net::netd::main(rest()),
        Some("runtime") => node_runtime::cli::main(rest()),
        Some("check-config") => check_config::run(rest()),
        Some("restore-swarm") => membership::restore::run(rest()),
        Some("uninstall") => with_command_line(rest(), daemon::uninstall),
        _ => with_command_line(arguments.into_iter(), daemon::run),
    }
}

/// Reads the daemon's command line and does what it says, or `act`.
pub(crate) fn with_command_line(
    arguments: impl Iterator<Item = OsString>,
    act: impl FnOnce(&config::CommandLine) -> ExitCode,
) -> ExitCode {
    match config::read_command_line(arguments) {
        Ok(Invocation::Help) => {
            say(&config::usage());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Version) => {
            say(&format!("Shoal version {VERSION}, build {COMMIT}\n"));
            ExitCode::SUCCESS
        }
        Ok(Invocation::Validate(line)) => match config::load(&line) {
            Ok(_) => {
                say("configuration OK\n");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        },
        Ok(Invocation::Run(line)) => act(&line),
        Err(error) => fail(&error),
    }
}

/// Tells the user why nothing happens.
pub(crate) fn fail(error: &dyn std::fmt::Display) -> ExitCode {
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

//! The OCI command line: what `shoald runtime` does, in the shape of runc's so that it can stand in for it.
//!
//! Start reading at [`main`]. Global options come first, then a command from the table [`COMMANDS`]; each command parses its own
//! options in a file of its own. State of containers lives below `--root` (`store.rs`). The embedded use in the shim does not
//! come through here.

mod arguments;
mod create;
mod exec;
mod list;
mod log;
mod manage;
mod run;
mod store;
mod terminal;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::{Result, RuntimeError};
use crate::sealed;
use arguments::Arguments;
use log::Log;
use store::Store;

/// What every command gets.
struct Invocation {
    store: Store,
    arguments: Arguments,
    log: Log,
}

/// A command: its arguments in, the exit status out.
type Command = fn(Invocation) -> Result<u8>;

/// The commands; the second field tells whether one clones processes into containers and must run sealed.
const COMMANDS: [(&str, Sealing, Command); 14] = [
    ("create", Sealing::Needed, create::create),
    ("run", Sealing::Needed, run::run),
    ("exec", Sealing::Needed, exec::exec),
    ("start", Sealing::NotNeeded, create::start),
    ("state", Sealing::NotNeeded, list::state),
    ("list", Sealing::NotNeeded, list::list),
    ("ps", Sealing::NotNeeded, list::ps),
    ("kill", Sealing::NotNeeded, manage::kill),
    ("delete", Sealing::NotNeeded, manage::delete),
    ("pause", Sealing::NotNeeded, manage::pause),
    ("resume", Sealing::NotNeeded, manage::resume),
    ("update", Sealing::NotNeeded, manage::update),
    ("events", Sealing::NotNeeded, manage::events),
    ("features", Sealing::NotNeeded, list::features),
];

/// Whether a command must run from the sealed binary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sealing {
    Needed,
    NotNeeded,
}

/// Where state is kept without `--root`.
const DEFAULT_ROOT: &str = "/run/shoal/runtime";

/// Runs a command line, given without the program's name.
///
/// `create`, `run` and `exec` start this program anew from its sealed binary (see [`sealed`]) when it is not sealed yet.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut log = Log::default();
    match dispatch(arguments.collect(), &mut log) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            log.failure(&error);
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: Vec<OsString>, log: &mut Log) -> Result<u8> {
    let mut arguments = Arguments::new(words);
    let mut root = PathBuf::from(DEFAULT_ROOT);
    while let Some(option) = arguments.next_option()? {
        match option.as_str() {
            "root" => root = arguments.value()?.into(),
            "log" => log.open(&PathBuf::from(arguments.value()?))?,
            "log-format" => log.set_format(&arguments.text()?)?,
            // Accepted because engines pass them: there is nothing more to log, and no daemonless mode to choose.
            "debug" => {}
            "rootless" | "criu" => drop(arguments.value()?),
            "systemd-cgroup" => {
                return Err(RuntimeError::Unsupported(
                    "--systemd-cgroup: cgroups are named by cgroupfs paths; configure the engine for cgroupfs".to_owned(),
                ));
            }
            "version" | "v" => {
                terminal::print_line(&format!("shoal runtime {}\nspec: 1.2.0", env!("CARGO_PKG_VERSION")));
                return Ok(0);
            }
            "help" | "h" => return Ok(print_usage()),
            other => return Err(arguments.unknown(other)),
        }
    }
    let Some(name) = arguments.next_word()? else { return Ok(print_usage()) };
    let found = COMMANDS.iter().find(|(known, _, _)| *known == name);
    let Some((_, sealing, command)) = found else {
        return Err(RuntimeError::InvalidSpec(format!("unknown command {name:?}")));
    };
    if *sealing == Sealing::Needed && !sealed::is_sealed() {
        return Err(sealed::run_again(std::env::args_os()));
    }
    command(Invocation { store: Store::new(root), arguments, log: log.clone() })
}

fn print_usage() -> u8 {
    let names: Vec<&str> = COMMANDS.iter().map(|(name, _, _)| *name).collect();
    terminal::print_line(&format!(
        "usage: [--root DIR] [--log FILE] [--log-format text|json] COMMAND [OPTIONS] ID [ARGUMENTS]\ncommands: {}",
        names.join(" ")
    ));
    0
}

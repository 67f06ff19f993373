//! One small synchronous process per container, which owns the container's stdio, its log and its exit code, so
//! that a container never depends on the daemon.
//!
//! Start reading at [`protocol`]: what the daemon and the shim say to each other, and the files of the bundle. Then
//! `process.rs`, the start and the loop; `container.rs`, the life of the container; `stdio`, who gets its output. The
//! crate has no tokio and no threads: a shim is resident for as long as its container, so every page counts. The
//! daemon's side of the protocol is `node-agent/src/shim_client`.

mod bundle;
mod checkpoint;
mod cleanup;
mod container;
mod error;
mod execs;
pub mod launch;
pub mod log;
pub mod logread;
pub mod memory;
mod oom;
mod poll;
mod process;
pub mod protocol;
mod reaper;
mod requests;
mod runtime;
mod socket;
mod stdio;
pub mod stream;
mod sys;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

pub use error::ProcessError;

/// The argument before the path to an empty mount namespace.
pub const EMPTY_MOUNTS: &str = "--empty-mounts";

/// Runs this process as a shim (`BUNDLE`), or as the cleanup after one (`--cleanup BUNDLE`); the arguments are those
/// behind the name of the command. Before them may stand `--empty-mounts PATH`, where the daemon has a namespace of
/// [`node_runtime::empty_mounts`] open.
///
/// To be called before the process has made a thread, touched a signal or opened anything: a shim closes all
/// descriptors but its standard ones. Standard input of a shim may be one end of a socket pair, the first connection.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let (empty_mounts, arguments) = match arguments.as_slice() {
        [flag, path, rest @ ..] if flag == EMPTY_MOUNTS => (Some(Path::new(path)), rest),
        all => (None, all),
    };
    let outcome = match arguments {
        [flag, bundle] if flag == "--cleanup" => cleanup::clean_up(Path::new(bundle)),
        [bundle] if !bundle.to_string_lossy().starts_with('-') => {
            process::run(Path::new(bundle), empty_mounts)
        }
        _ => Err(ProcessError::Usage),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Writes a line for the operator: standard error is the bundle's `shim.log`.
pub(crate) fn report(text: &str) {
    let line = format!("{} {text}\n", jiff::Timestamp::now());
    // If even this cannot be written there is nobody to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

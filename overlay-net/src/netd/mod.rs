//! netd: the small process that keeps name servers, held ports and splice proxies alive while the daemon is away.
//!
//! Start reading at [`main`] (the process) and at `client.rs` (the daemon's side). It decides nothing: the daemon tells
//! it the whole state once and changes after that, and a daemon that comes back finds everything as it was. Why it is
//! a process of its own: docs/decisions/2026-11-21-netd.md.

mod client;
mod holds;
pub(crate) mod protocol;
mod server;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

pub(crate) use client::Client;

use crate::wireguard;

/// Long enough for a daemon that restarts.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Runs netd until it is told to stop; the daemon's binary calls this for `shoald netd`.
///
/// `args` are the arguments after `netd`, as [`crate::host::SpawnNetd`] received them. With `wireguard` as the first of
/// them it is the process that encrypts overlay networks where the kernel does not.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args.peekable();
    if args.next_if(|first| first == wireguard::MODE).is_some() {
        return wireguard::main(args);
    }
    let Some(options) = parse(args) else {
        tracing::error!("usage: netd --socket PATH [--idle-ms NUMBER]");
        return ExitCode::FAILURE;
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "netd failed");
            ExitCode::FAILURE
        }
    }
}

/// What the command line says.
#[derive(Debug)]
struct Options {
    socket: PathBuf,
    /// How long netd waits without work and without a daemon before it ends.
    idle_limit: Duration,
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Options> {
    let mut options = Options { socket: PathBuf::new(), idle_limit: IDLE_LIMIT };
    while let Some(flag) = args.next() {
        let value = args.next()?;
        match flag.to_str()? {
            "--socket" => options.socket = PathBuf::from(value),
            "--idle-ms" => options.idle_limit = Duration::from_millis(value.to_str()?.parse().ok()?),
            _ => return None,
        }
    }
    Some(options).filter(|options| !options.socket.as_os_str().is_empty())
}

fn run(options: &Options) -> io::Result<()> {
    let Some(_lock) = take_lock(&options.socket)? else {
        // Two daemons, or two threads of one, asked at the same time: the other process serves both.
        return Ok(());
    };
    // Signals to the daemon's session are not meant for us. A session leader by birth is fine, too.
    let _ = setsid();
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, server::serve(&options.socket, options.idle_limit))
}

/// Makes this the only netd of the socket; absent when there is another.
pub(crate) fn take_lock(socket: &Path) -> io::Result<Option<fs::File>> {
    let lock = fs::OpenOptions::new().create(true).append(true).open(socket.with_extension("lock"))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Every sandbox has two sockets, every published port one or two.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

//! `run`: create, start, and, unless detached, stay until the end and clean up.

use std::os::fd::{AsFd, OwnedFd};

use super::Invocation;
use super::create::{CreateArguments, make, start_by_id};
use super::store::{Store, read_spec};
use super::terminal::{self, Session};
use crate::container::Container;
use crate::error::{Result, RuntimeError};
use crate::{KillScope, lifecycle, listener};

/// What `run` does at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Delete,
    Keep,
    Detach,
}

/// Makes and starts a container; in the foreground its exit status becomes the command's.
pub(super) fn run(mut invocation: Invocation) -> Result<u8> {
    let mut arguments = CreateArguments::default();
    let mut ending = Ending::Delete;
    while let Some(option) = invocation.arguments.next_option()? {
        match option.as_str() {
            "detach" | "d" => ending = Ending::Detach,
            "keep" => ending = Ending::Keep,
            other => {
                if !arguments.read(other, &mut invocation)? {
                    return Err(invocation.arguments.unknown(other));
                }
            }
        }
    }
    let id = invocation.arguments.id()?;
    invocation.arguments.finish()?;
    let bundle = arguments.bundle()?;
    let spec = read_spec(&bundle.join("config.json"))?;
    let has_terminal = spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    if ending == Ending::Detach && has_terminal && arguments.console_socket.is_none() {
        return Err(RuntimeError::InvalidSpec(
            "cannot allocate tty if runtime will detach without setting console socket".to_owned(),
        ));
    }
    let store = &invocation.store;
    let created = make(store, &invocation.log, &id, &bundle, (&spec, &arguments))?;
    let result = hand_over_terminal(&arguments, created.terminal).and_then(|terminal| {
        if ending == Ending::Detach {
            start_by_id(store, &id)?;
            return Ok(0);
        }
        // Signals are received from here on: the program may be told to end as soon as it runs.
        let session = Session::open(terminal)?;
        let container = start_by_id(store, &id)?;
        stay(&container, &session)
    });
    let failed = result.is_err();
    if ending == Ending::Delete || failed {
        remove(store, &id, created.container, &spec)?;
    }
    result
}

/// Sends the terminal to whoever asked for it; otherwise it is shown here.
fn hand_over_terminal(arguments: &CreateArguments, master: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
    match (&arguments.console_socket, master) {
        (Some(socket), Some(master)) => {
            listener::send_descriptor(socket, b"/dev/pts/ptmx", master.as_fd())?;
            Ok(None)
        }
        (_, master) => Ok(master),
    }
}

/// Passes signals and terminal traffic until the container's process has ended; returns its status.
fn stay(container: &Container, session: &Session) -> Result<u8> {
    session.serve(container.pidfd(), |signal| {
        // The process may have ended meanwhile; that is seen next.
        let _ = container.kill(signal, KillScope::Init);
    })?;
    let status = lifecycle::reap(container)?.unwrap_or(0);
    Ok(terminal::exit_status(status))
}

fn remove(store: &Store, id: &str, container: Container, spec: &oci_spec::runtime::Spec) -> Result<()> {
    container.delete(spec)?;
    store.forget(id)
}

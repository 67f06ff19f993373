//! A process that makes namespaces for somebody else and holds them until that one has opened them.
//!
//! Start reading at [`hold_namespaces`]. It writes no mappings and pins nothing: who started it has the rights for that.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::namespaces::open_namespace;
use crate::sys;

/// Makes a user namespace and a network namespace that belongs to it, says so with one byte on standard output, and ends
/// when its input does. With an argument the user namespace at this path is entered instead of making one.
///
/// To be called in a process with one thread that does nothing else.
pub fn hold_namespaces(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let entered = match arguments.next() {
        None => sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET),
        Some(path) => enter(&PathBuf::from(path)),
    };
    let told = entered.and_then(|()| {
        io::stdout().write_all(b"+")?;
        io::stdout().flush()?;
        io::stdin().read_to_end(&mut Vec::new())
    });
    match told {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be left to read it.
            let _ = writeln!(io::stderr(), "make namespaces: {error}");
            ExitCode::FAILURE
        }
    }
}

fn enter(path: &std::path::Path) -> io::Result<()> {
    let namespace = open_namespace(path).map_err(|error| io::Error::other(error.chain()))?;
    sys::setns(&namespace, libc::CLONE_NEWUSER)?;
    sys::unshare(libc::CLONE_NEWNET)
}

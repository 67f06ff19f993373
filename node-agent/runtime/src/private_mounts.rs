//! Work in a mount namespace that nobody else sees.
//!
//! Start reading at [`in_private_mount_namespace`]. Mounts made there end with it; a detached clone (open_tree(2)) that the
//! work returns lasts as long as its descriptor. Nothing here knows what is mounted.

use rustix::mount::{MountPropagationFlags, mount_change};

use crate::error::{Context, Result, RuntimeError};
use crate::sys;

/// Runs `work` on a thread of its own, in a copy of the caller's mount namespace from which no mount propagates, and
/// waits for it. Working directory and umask are the thread's own, too. May be called in a process with threads.
pub fn in_private_mount_namespace<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    on_thread(|| {
        sys::unshare(libc::CLONE_NEWNS).step(|| "make a mount namespace")?;
        make_private()?;
        work()
    })
}

/// Keeps what is mounted in this namespace from showing in others, and the reverse.
pub(crate) fn make_private() -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step(|| "make the mounts of the namespace private")
}

/// Runs `work` on a thread of its own and waits for it. What the thread does to its namespaces ends with it.
pub(crate) fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("private-mounts".to_owned())
            .spawn_scoped(scope, work)
            .step(|| "start a thread")?;
        thread.join().unwrap_or_else(|_| {
            Err(RuntimeError::step("work in a mount namespace", std::io::Error::other("the thread panicked")))
        })
    })
}

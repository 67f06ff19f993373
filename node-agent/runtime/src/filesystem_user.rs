//! Work as a user of a container's user namespace, with all rights of this process.
//!
//! Start reading at [`as_filesystem_user`]. The kernel makes no file for somebody who has no id in the user namespace that a
//! file system was mounted in (`EOVERFLOW`), and this process's root has none in a tmpfs of a remapped container.

use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};

use crate::error::{Context as _, Result};
use crate::private_mounts::on_thread;
use crate::sys;

/// Runs `work` on a thread of its own and waits for it. Files that it makes are this user's and this group's; what it may do
/// is what the caller may do. May be called in a process with threads.
pub fn as_filesystem_user<T: Send>(uid: u32, gid: u32, work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(|| {
        let capabilities = rustix::thread::capabilities(None).step(|| "read the capabilities")?;
        let dumpable = dumpable_behavior().step(|| "read whether the process may be dumped")?;
        sys::set_filesystem_ids(uid, gid);
        // The kernel has set those aside that are about files.
        rustix::thread::set_capabilities(None, capabilities).step(|| "raise the capabilities")?;
        if dumpable == DumpableBehavior::Dumpable {
            // A change of ids takes it from the whole process; nobody but this thread can tell that it was one.
            set_dumpable_behavior(dumpable).step(|| "allow dumps of the process again")?;
        }
        Ok(work())
    })
}

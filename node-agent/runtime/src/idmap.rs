//! User namespaces that exist only to carry the mappings of an idmapped mount.
//!
//! Start reading at [`user_namespace`]. The kernel has no way to make a mapping without a process, so a short-lived
//! child holds the namespace while it is opened.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::LinuxIdMapping;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::error::{Context, Result};
use crate::namespaces::{mapping_lines, open_namespace};
use crate::sys::{self, CloneRequest, Cloned};

/// Makes a user namespace with these mappings and returns a descriptor of it.
pub(crate) fn user_namespace(uid: &[LinuxIdMapping], gid: &[LinuxIdMapping]) -> Result<OwnedFd> {
    let uid = mapping_lines(Some(uid), "uid")?;
    let gid = mapping_lines(Some(gid), "gid")?;
    let flags = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    match sys::clone_process(CloneRequest { flags, cgroup: None })
        .step(|| "create a user namespace for an idmapped mount")?
    {
        Cloned::Child => wait_to_be_killed(),
        Cloned::Parent { pid, pidfd } => {
            let result = write_mappings(pid, &uid, &gid)
                .and_then(|()| open_namespace(&PathBuf::from(format!("/proc/{pid}/ns/user"))));
            let killed =
                pidfd_send_signal(&pidfd, Signal::KILL).step(|| "end the holder of a user namespace");
            let reaped = waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)), WaitIdOptions::EXITED)
                .step(|| "reap the holder of a user namespace");
            let namespace = result?;
            killed?;
            reaped?;
            Ok(namespace)
        }
    }
}

/// Writes the mappings of a process that has just entered a new user namespace.
pub(crate) fn write_mappings(pid: i32, uid: &str, gid: &str) -> Result<()> {
    fs::write(format!("/proc/{pid}/uid_map"), uid).step(|| "write uid_map")?;
    fs::write(format!("/proc/{pid}/gid_map"), gid).step(|| "write gid_map")
}

fn wait_to_be_killed() -> ! {
    // If the caller dies first, nobody would ever end this process.
    if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_ok() {
        while rustix::process::getppid().is_some() {
            // Only a signal ends this, never the clock: the process exists to hold a namespace.
            std::thread::sleep(std::time::Duration::from_secs(3600));
        }
    }
    sys::exit_now(0)
}

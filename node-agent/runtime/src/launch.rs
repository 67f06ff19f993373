//! The last steps of every process of a container, from a prepared root to execve(2); the same for create and exec.
//!
//! Start reading at [`Launch::prepare`] (before the gate) and [`Launch::execute`] (after it). The order matters:
//!
//! 1. what needs privileges: keyring, scheduling, stdio, bounding set, ids, labels;
//! 2. without `noNewPrivileges` the filter is loaded next, because that needs `CAP_SYS_ADMIN`, and the capabilities are
//!    dropped under it; with it the capabilities go first and the filter is the last thing before execve(2);
//! 3. nothing but the error message to the creator happens after a failed execve(2).

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Gid, Uid};
use rustix::thread::CapabilitySet;

use crate::channel::{Channel, Message};
use crate::container::Keyring;
use crate::error::{Context, ExecutableError, Result, RuntimeError};
use crate::executable;
use crate::limits;
use crate::masks::write_proc;
use crate::paths::{RootDirectory, read_small_file};
use crate::process::ProcessPlan;
use crate::seccomp::Filter;
use crate::sys::{self, CloseMode, StringVector};
use crate::tty;

/// What is needed besides the plan of the process.
#[derive(Debug)]
pub(crate) struct LaunchContext<'a> {
    pub(crate) plan: &'a ProcessPlan,
    pub(crate) filter: Option<&'a Filter>,
    /// The host's procfs.
    pub(crate) proc: &'a OwnedFd,
    /// The name of a new session keyring.
    pub(crate) keyring: Option<CString>,
    /// The process's side of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) preserved_fds: u32,
}

/// Names the keyring of a container, if it gets one.
pub(crate) fn keyring_name(id: &str, keyring: Keyring) -> Option<CString> {
    match keyring {
        Keyring::New => CString::new(format!("_ses.{id}")).ok(),
        Keyring::Inherited => None,
    }
}

/// A process that only has to be executed.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    context: LaunchContext<'a>,
    program: CString,
    environment: StringVector,
}

/// Larger passwd files than this are not searched for a home directory.
const LONGEST_PASSWD: u64 = 4 << 20;

impl<'a> Launch<'a> {
    /// Finds home directory, working directory and program, as the process will see them.
    pub(crate) fn prepare(context: LaunchContext<'a>, root: &RootDirectory) -> Result<Self> {
        let plan = context.plan;
        let home = if plan.wants_home { Some(find_home(root, plan.uid)?) } else { None };
        let environment = plan.environment_with_home(home);
        if plan.uid != 0 {
            // File access is judged as the user from here; the kernel sets its file capabilities aside meanwhile.
            sys::set_filesystem_ids(plan.uid, plan.gid);
        }
        let found = enter_directory(plan).and_then(|()| {
            let name = plan.arguments.strings().first().map(CString::as_c_str).unwrap_or_default();
            executable::find(name, &plan.search_path).map_err(RuntimeError::from)
        });
        if plan.uid != 0 {
            sys::set_filesystem_ids(0, 0);
        }
        Ok(Self { program: found?, context, environment })
    }

    /// Becomes the process; returns only when that failed.
    pub(crate) fn execute(self, channel: &Channel) -> RuntimeError {
        match self.try_execute(channel) {
            Ok(failure) => RuntimeError::Executable(failure),
            Err(error) => error,
        }
    }

    fn try_execute(self, channel: &Channel) -> Result<ExecutableError> {
        let plan = self.context.plan;
        self.settle()?;
        drop_bounding_set(plan.capabilities.bounding)?;
        take_ids(plan)?;
        self.set_labels()?;
        if plan.no_new_privileges {
            rustix::thread::set_no_new_privs(true).step(|| "set no_new_privs")?;
            set_capabilities(plan)?;
            self.load_filter(channel)?;
        } else {
            self.load_filter(channel)?;
            set_capabilities(plan)?;
        }
        let error = sys::execute(&self.program, &plan.arguments, &self.environment);
        Ok(executable::execution_failure(&self.program, error.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// Does what needs the privileges that are about to go.
    fn settle(&self) -> Result<()> {
        let plan = self.context.plan;
        match &self.context.terminal {
            Some(slave) => tty::take(slave, plan.uid)?,
            None => tty::give_stdio(plan.uid)?,
        }
        if let Some(name) = &self.context.keyring {
            match sys::join_session_keyring(name) {
                // A kernel without keyrings, or a quota that is used up: the process shares what it has, as in crun.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EDQUOT)) => {}
                other => other.step(|| "join a session keyring")?,
            }
        }
        if let Some(scheduler) = plan.scheduler {
            sys::set_scheduler(scheduler).step(|| "set the scheduler")?;
        }
        if let Some(priority) = plan.io_priority {
            sys::set_io_priority(priority).step(|| "set the IO priority")?;
        }
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(plan.umask));
        let first = 3 + self.context.preserved_fds;
        sys::close_range(first, u32::MAX, CloseMode::OnExec).step(|| "mark descriptors to be closed")?;
        for fd in 3..first {
            let fd = i32::try_from(fd).unwrap_or(i32::MAX);
            if !sys::is_open(fd) {
                return Err(RuntimeError::InvalidSpec(format!("preserved descriptor {fd} is not open")));
            }
            sys::keep_on_exec(fd).step(|| "preserve a descriptor")?;
        }
        limits::lower_descriptors(plan)
    }

    fn set_labels(&self) -> Result<()> {
        let plan = self.context.plan;
        if let Some(profile) = &plan.apparmor_profile {
            let value = format!("exec {profile}");
            let describe = || format!("apply apparmor profile {profile:?}");
            match write_proc(self.context.proc, Path::new("self/attr/apparmor/exec"), &value) {
                // Kernels before 5.8 have only the file that all modules share.
                Err(rustix::io::Errno::NOENT) => {
                    write_proc(self.context.proc, Path::new("self/attr/exec"), &value).step(describe)?;
                }
                other => other.step(describe)?,
            }
        }
        if let Some(label) = &plan.selinux_label {
            write_proc(self.context.proc, Path::new("self/attr/exec"), label)
                .step(|| format!("apply SELinux label {label:?}"))?;
        }
        Ok(())
    }

    fn load_filter(&self, channel: &Channel) -> Result<()> {
        let Some(filter) = self.context.filter else { return Ok(()) };
        let listener = filter.load().step(|| "load the seccomp filter")?;
        if let Some(listener) = listener {
            use std::os::fd::AsRawFd as _;
            channel.send(&Message::SeccompListener(listener.as_raw_fd()))?;
            // The creator takes the listener out of this process before it answers.
            channel.await_continue()?;
        }
        Ok(())
    }
}

/// Changes into the working directory and makes sure that it is inside the container's root.
fn enter_directory(plan: &ProcessPlan) -> Result<()> {
    let describe = || format!("chdir to cwd ({:?}) set in config.json failed", plan.cwd.to_string_lossy());
    rustix::process::chdir(&plan.cwd).step(describe)?;
    // A directory that was reached through a leaked descriptor of the host is not below the root: the kernel then
    // gives no absolute path for it (CVE-2024-21626).
    let inside = rustix::process::getcwd(Vec::new()).is_ok_and(|path| path.to_bytes().starts_with(b"/"));
    if inside {
        Ok(())
    } else {
        Err(RuntimeError::step(
            "current working directory is outside of container mount namespace root -- possible container breakout detected",
            rustix::io::Errno::NOENT,
        ))
    }
}

fn find_home(root: &RootDirectory, uid: u32) -> Result<CString> {
    let passwd = read_small_file(root, Path::new("/etc/passwd"), LONGEST_PASSWD)?.unwrap_or_default();
    Ok(home_of(&passwd, uid).and_then(|home| CString::new(home).ok()).unwrap_or_else(|| c"/".to_owned()))
}

/// Finds the home directory of a user in a passwd file.
fn home_of(passwd: &[u8], uid: u32) -> Option<&[u8]> {
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let number = std::str::from_utf8(fields.nth(2)?).ok()?;
        let home = fields.nth(2)?;
        (number.parse() == Ok(uid) && !home.is_empty()).then_some(home)
    })
}

/// Highest capability that any kernel could have in a 64-bit mask.
const MOST_CAPABILITIES: u32 = 63;

fn drop_bounding_set(keep: u64) -> Result<()> {
    for number in 0..=MOST_CAPABILITIES {
        if keep & 1 << number != 0 {
            continue;
        }
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows no capability of this number, and none above it.
            Err(rustix::io::Errno::INVAL) => return Ok(()),
            Err(other) => return Err(RuntimeError::step("drop a capability from the bounding set", other)),
        }
    }
    Ok(())
}

fn take_ids(plan: &ProcessPlan) -> Result<()> {
    if plan.uid != 0 {
        rustix::thread::set_keep_capabilities(true).step(|| "keep capabilities over the change of user")?;
    }
    let groups: Vec<Gid> = plan.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    rustix::thread::set_thread_groups(&groups).step(|| "set the additional groups")?;
    let gid = Gid::from_raw(plan.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).step(|| format!("set the group to {}", plan.gid))?;
    let uid = Uid::from_raw(plan.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).step(|| format!("set the user to {}", plan.uid))?;
    if plan.uid != 0 {
        rustix::thread::set_keep_capabilities(false).step(|| "stop keeping capabilities")?;
        // The change of user has emptied the effective set; loading the filter needs it once more.
        let mut sets = rustix::thread::capabilities(None).step(|| "read the capabilities")?;
        sets.effective = sets.permitted;
        rustix::thread::set_capabilities(None, sets).step(|| "raise the capabilities")?;
    }
    Ok(())
}

fn set_capabilities(plan: &ProcessPlan) -> Result<()> {
    let wanted = plan.capabilities;
    let sets = rustix::thread::CapabilitySets {
        effective: CapabilitySet::from_bits_retain(wanted.effective),
        permitted: CapabilitySet::from_bits_retain(wanted.permitted),
        inheritable: CapabilitySet::from_bits_retain(wanted.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).step(|| "set the capabilities")?;
    if wanted.ambient == 0 {
        return Ok(());
    }
    for number in (0..=MOST_CAPABILITIES).filter(|number| wanted.ambient & 1 << number != 0) {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::configure_capability_in_ambient_set(capability, true) {
            // What is not both permitted and inheritable cannot be ambient; runc goes on without it too.
            Ok(()) | Err(rustix::io::Errno::PERM | rustix::io::Errno::INVAL) => {}
            Err(other) => return Err(RuntimeError::step("set an ambient capability", other)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_directory_is_that_of_the_user_number() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/sh\nbroken\nuser:x:1000:1000::/home/user:/bin/sh\nn:x:7:7:::\n";
        assert_eq!(home_of(passwd, 0), Some(b"/root".as_slice()));
        assert_eq!(home_of(passwd, 1000), Some(b"/home/user".as_slice()));
        assert_eq!(home_of(passwd, 7), None);
        assert_eq!(home_of(passwd, 8), None);
    }
}

//! Telling when processes of a cgroup are killed for lack of memory.
//!
//! Start reading at [`OomEvents`]. The kernel's notifications only say that something happened; what happened is read
//! from the counter, so that several kills between two looks are not lost and a removal is not taken for one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};

use super::files::{self, entry_of, write};
use super::{Cgroup, Directory};
use crate::error::{Context, Result, RuntimeError};

/// Polls readable when a process of the cgroup may have been killed for lack of memory.
#[derive(Debug)]
pub struct OomEvents {
    notifications: OwnedFd,
    cgroup: Cgroup,
    seen: u64,
}

/// Reads the counter of kills; zero when the cgroup or its controller is gone.
pub(super) fn kills(cgroup: &Cgroup) -> u64 {
    let legacy = cgroup.legacy().iter().find(|directory| directory.has("memory")).map(Directory::path);
    match (legacy, cgroup.unified().map(Directory::path)) {
        (Some(path), _) => entry_of(&path, "memory.oom_control", "oom_kill"),
        (None, Some(path)) => entry_of(&path, "memory.events", "oom_kill"),
        (None, None) => 0,
    }
}

impl OomEvents {
    pub(super) fn open(cgroup: &Cgroup) -> Result<Self> {
        let legacy = cgroup.legacy().iter().find(|directory| directory.has("memory")).map(Directory::path);
        let notifications = match (legacy, cgroup.unified()) {
            (Some(path), _) => {
                let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                    .step(|| "create an eventfd")?;
                let control = path.join("memory.oom_control");
                let control = rustix::fs::open(&control, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .step(|| format!("open {}", control.display()))?;
                let request = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
                write(&path, "cgroup.event_control", &request)?;
                event
            }
            (None, Some(unified)) => {
                let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
                let watch = inotify::init(flags).step(|| "create an inotify instance")?;
                let file = unified.path().join("memory.events");
                inotify::add_watch(&watch, &file, inotify::WatchFlags::MODIFY)
                    .step(|| format!("watch {}", file.display()))?;
                watch
            }
            (None, None) => {
                return Err(RuntimeError::Unsupported(
                    "OOM events on a host without the memory controller".to_owned(),
                ));
            }
        };
        Ok(Self { notifications, cgroup: cgroup.clone(), seen: kills(cgroup) })
    }

    /// Drains the notifications and returns how many processes were killed since the last call.
    pub fn take(&mut self) -> Result<u64> {
        let mut buffer = [0_u8; 4096];
        loop {
            match rustix::io::read(&self.notifications, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
                // An eventfd is empty after one read; inotify may have more.
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(RuntimeError::step("read OOM notifications", error)),
            }
        }
        let now = kills(&self.cgroup);
        let new = now.saturating_sub(self.seen);
        self.seen = self.seen.max(now);
        Ok(new)
    }

    /// Tells whether the cgroup still exists; its removal also makes the descriptor readable.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.cgroup
            .controller_directory("memory")
            .is_some_and(|path| files::read_if_present(&path, "cgroup.procs").is_some())
    }
}

impl AsFd for OomEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifications.as_fd()
    }
}

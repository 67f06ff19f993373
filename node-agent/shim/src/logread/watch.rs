//! Tells when logs have grown or were rotated: one inotify instance for any number of logs.
//!
//! Start reading at [`LogWatcher`]. The kernel grants a user few instances, but many watches. A watch says only that
//! there may be news; a [`super::LogReader`] finds out what.

use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// A watch of one [`LogWatcher`]; never used for another log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(i32);

/// Watches directories of logs. Its descriptor polls readable when one of them has news.
#[derive(Debug)]
pub struct LogWatcher {
    inotify: OwnedFd,
    /// How many watch each directory: the kernel gives the same watch to all of them.
    counts: BTreeMap<WatchId, u32>,
}

impl LogWatcher {
    /// A watcher of nothing.
    pub fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, counts: BTreeMap::new() })
    }

    /// Watches the log whose current file is at this path. To be called before the reader has caught up, so that
    /// nothing falls between.
    pub fn watch(&mut self, log: &Path) -> io::Result<WatchId> {
        let directory = log.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
        let news = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let id = WatchId(inotify::add_watch(&self.inotify, directory, news)?);
        *self.counts.entry(id).or_default() += 1;
        Ok(id)
    }

    /// Ends one watch. One whose directory is gone has ended by itself.
    pub fn unwatch(&mut self, id: WatchId) {
        let Some(count) = self.counts.get_mut(&id) else { return };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&id);
            let _ = inotify::remove_watch(&self.inotify, id.0);
        }
    }

    /// The watches that have news since the last call; does not wait. All of them, if the kernel could not keep count.
    pub fn take_news(&mut self) -> io::Result<Vec<WatchId>> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut space);
        let mut news = Vec::new();
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => {
                    news = self.counts.keys().copied().collect();
                }
                Ok(event) => news.push(WatchId(event.wd())),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        news.sort_unstable();
        news.dedup();
        Ok(news)
    }
}

impl AsFd for LogWatcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

//! News of logs: one watcher of the kernel for all logs that are followed.
//!
//! Start reading at [`LogNews::subscribe`]. The kernel grants a user few watchers (inotify instances), so all readers share
//! one. Its task begins with the first reader and ends with the engine. News only say "look again".

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use node_shim::logread::{LogWatcher, WatchId};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// The watcher that all readers share. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogNews {
    hub: Arc<Mutex<Option<Arc<Hub>>>>,
}

#[derive(Debug)]
struct Hub {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    watcher: LogWatcher,
    readers: HashMap<WatchId, Vec<Weak<Notify>>>,
}

/// A reader's interest in one log; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    id: WatchId,
    news: Arc<Notify>,
}

impl LogNews {
    /// Watches the log whose current file is at this path. To be called before the reader has caught up.
    pub(crate) fn subscribe(&self, path: &Path) -> io::Result<Subscription> {
        let hub = self.hub()?;
        let news = Arc::new(Notify::new());
        let mut state = hub.lock();
        let id = state.watcher.watch(path)?;
        state.readers.entry(id).or_default().push(Arc::downgrade(&news));
        drop(state);
        Ok(Subscription { hub, id, news })
    }

    fn hub(&self) -> io::Result<Arc<Hub>> {
        let mut place = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = place.as_ref() {
            return Ok(Arc::clone(hub));
        }
        let watcher = LogWatcher::new()?;
        let descriptor = watcher.as_fd().try_clone_to_owned()?;
        #[expect(deprecated, reason = "what it wants instead is unsafe; the descriptor is owned and valid")]
        let readable = AsyncFd::new(descriptor)?;
        let state = State { watcher, readers: HashMap::new() };
        let hub = Arc::new(Hub { state: Mutex::new(state) });
        tokio::spawn(pass_on(readable, Arc::downgrade(&hub)));
        *place = Some(Arc::clone(&hub));
        Ok(hub)
    }
}

impl Subscription {
    /// Waits for news. One that came before is not missed. May be dropped: it is then told the next time.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.watcher.unwatch(self.id);
        if let Some(readers) = state.readers.get_mut(&self.id) {
            readers.retain(|reader| reader.upgrade().is_some_and(|news| !Arc::ptr_eq(&news, &self.news)));
            if readers.is_empty() {
                state.readers.remove(&self.id);
            }
        }
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes readers when the kernel has news. Ends when nobody can subscribe any more.
async fn pass_on(readable: AsyncFd<OwnedFd>, hub: Weak<Hub>) {
    loop {
        let Ok(mut ready) = readable.readable().await else { return };
        let Some(hub) = hub.upgrade() else { return };
        let mut state = hub.lock();
        match state.watcher.take_news() {
            Ok(ids) => {
                for news in ids.iter().filter_map(|id| state.readers.get(id)).flatten() {
                    if let Some(news) = news.upgrade() {
                        news.notify_one();
                    }
                }
            }
            Err(error) => tracing::error!(%error, "news of logs cannot be read"),
        }
        ready.clear_ready();
    }
}

//! Memory that an idle daemon does not need: the code of what it has just done, and the heap that this took and has freed.
//!
//! Start reading at [`Quiet::keep`]. What is still allocated is not looked at.

use std::sync::Arc;
use std::time::Duration;

use node_shim::memory::{let_go_of_code, let_go_of_heap};
use tokio::sync::Notify;

/// How long nobody must have asked for anything.
const QUIET: Duration = Duration::from_secs(2);

/// Knows when the daemon was last asked for something. Cheap to clone; clones share everything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quiet {
    asked: Arc<Notify>,
}

impl Quiet {
    /// Somebody asks for something, or has got what was asked for.
    pub(crate) fn disturb(&self) {
        self.asked.notify_one();
    }

    /// Lets go of memory each time it has become quiet. Sleeps without a timer as long as it stays so. Never returns.
    pub(crate) async fn keep(self) {
        loop {
            while tokio::time::timeout(QUIET, self.asked.notified()).await.is_ok() {}
            let_go_of_code();
            let_go_of_heap();
            self.asked.notified().await;
        }
    }
}

//! What happens to a blob while it travels, as events.
//!
//! Start reading at [`Progress`]. Events are facts, not texts: Docker's words for them ("Pulling fs layer", "Pushing")
//! are made in api-compat. They come as fast as chunks do; whoever shows them limits the rate.

use std::time::Duration;

use shoal_types::Digest;

/// One thing that happened to one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Waits for its turn: the limit of concurrent transfers is reached.
    Waiting,
    /// Bytes have come from the registry. `current` counts what was kept from earlier attempts too.
    Downloading {
        /// Bytes that are here.
        current: u64,
        /// Size of the blob.
        total: u64,
    },
    /// All bytes are here; their digest is being computed.
    Verifying,
    /// The blob is whole and its digest is right.
    Downloaded,
    /// The transfer failed and will go on after a pause, from where it stopped.
    Retrying {
        /// How many attempts have failed without getting anywhere.
        attempt: u32,
        /// How long the pause is.
        delay: Duration,
    },
    /// Bytes have gone to the registry.
    Pushing {
        /// Bytes that the registry has, or that are on their way.
        current: u64,
        /// Size of the blob.
        total: u64,
    },
    /// The registry has taken the blob and agreed on its digest.
    Pushed,
    /// The registry has the blob already, in this repository.
    AlreadyExists,
    /// The registry has linked the blob from another repository, without an upload.
    Mounted {
        /// The repository it was linked from, such as `library/busybox`.
        from: String,
    },
}

/// Is told what happens. Called from the transfer itself: return at once, never block.
pub trait ProgressSink: Send + Sync {
    /// Takes note of one event of one blob.
    fn report(&self, blob: &Digest, progress: Progress);
}

/// Nobody watches.
impl ProgressSink for () {
    fn report(&self, _blob: &Digest, _progress: Progress) {}
}

impl<F: Fn(&Digest, Progress) + Send + Sync> ProgressSink for F {
    fn report(&self, blob: &Digest, progress: Progress) {
        self(blob, progress);
    }
}

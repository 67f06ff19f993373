//! Waiting for a condition instead of sleeping for a guess.

use std::time::{Duration, Instant};

/// How long a condition may take before a test gives up: generous, since only a failing test ever waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at while waiting; short enough not to be seen in the wall time of a test.
const INTERVAL: Duration = Duration::from_millis(15);

/// Polls `probe` until it yields a value; panics with `what` when [`PATIENCE`] runs out.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, probe)
}

/// Polls `probe` until it yields a value; panics with `what` when `limit` runs out.
pub fn within<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    poll(limit, &mut probe).unwrap_or_else(|| panic!("waited {limit:?} in vain until {what}"))
}

/// Polls `probe` until it yields a value or `limit` runs out.
pub fn poll<T>(limit: Duration, probe: &mut dyn FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if start.elapsed() >= limit {
            return None;
        }
        std::thread::park_timeout(INTERVAL);
    }
}

//! Time, as the leader's parts see it.
//!
//! Start reading at [`Clock`]. Decisions are pure and take the time as an argument; only their drivers hold a clock, so that a
//! simulation can hold another.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

/// Where the time comes from.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Returns when so much time has passed.
    async fn sleep(&self, duration: Duration);
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        // Passing time is what is asked for.
        tokio::time::sleep(duration).await;
    }
}

/// `at` and so much later, or the end of time.
pub(crate) fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_add(duration).unwrap_or(Timestamp::MAX)
}

/// `at` and so much earlier, or the beginning of time.
pub(crate) fn before(at: Timestamp, duration: Duration) -> Timestamp {
    at.checked_sub(duration).unwrap_or(Timestamp::MIN)
}

/// How long it is from `now` until `at`; nothing if that has passed.
pub(crate) fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}

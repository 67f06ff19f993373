//! Time, as the leader's parts see it.
//!
//! Start reading at [`Clock`]. Decisions are pure and take the time as an argument; only their drivers hold a clock, so that a
//! simulation can hold another. A leader's is a [`LeaderClock`]: what is stored for later (when a task may start, how long an
//! update has been watched) must come true although somebody turns the machine's clock back, or another leads whose clock is behind.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;

/// How often what waits for a time of day looks whether it has come: clocks may be set, and sleep does not notice.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(15);

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

/// The machine's clock, except that it never goes back: behind the time that was told last it goes on as a stopwatch does.
///
/// When the machine's clock is turned forward it follows, so delays end early then, as they do in swarm.
#[derive(Debug)]
pub struct LeaderClock {
    machine: fn() -> Timestamp,
    /// What was told last, and when that was.
    told: Mutex<(Timestamp, Instant)>,
}

impl LeaderClock {
    /// A clock that is not behind `newest`, the newest time that leaders before have written.
    pub fn not_before(newest: Timestamp) -> Self {
        Self::over(Timestamp::now, newest)
    }

    fn over(machine: fn() -> Timestamp, newest: Timestamp) -> Self {
        Self { machine, told: Mutex::new((newest, Instant::now())) }
    }
}

#[async_trait]
impl Clock for LeaderClock {
    fn now(&self) -> Timestamp {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = never_back((self.machine)(), told.0, told.1.elapsed());
        *told = (now, Instant::now());
        now
    }

    async fn sleep(&self, duration: Duration) {
        // Passing time is what is asked for.
        tokio::time::sleep(duration).await;
    }
}

/// The time `elapsed` after it was `told`, when the machine says `machine`. Pure.
pub(crate) fn never_back(machine: Timestamp, told: Timestamp, elapsed: Duration) -> Timestamp {
    machine.max(after(told, elapsed))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    #[test]
    fn time_goes_on_when_the_machines_clock_is_turned_back_and_follows_it_forward() {
        let second = Duration::from_secs(1);
        for (what, machine, expected) in [
            ("the usual", at(101), at(101)),
            ("turned back by an hour", at(101 - 3600), at(101)),
            ("turned forward by an hour", at(101 + 3600), at(101 + 3600)),
        ] {
            assert_eq!(never_back(machine, at(100), second), expected, "{what}");
        }
    }

    #[test]
    fn a_leader_whose_clock_is_behind_begins_where_the_one_before_was() {
        let clock = LeaderClock::over(|| at(10), at(5000));
        let first = clock.now();
        assert!(first >= at(5000), "{first}");
        while clock.now() == first {
            std::hint::spin_loop();
        }
        assert!(clock.now() > first, "it goes on");
    }
}

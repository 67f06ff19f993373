//! PURE. Whether the engine starts a container again by itself, and when.
//!
//! Start reading at [`after_exit`] (while the daemon runs) and [`at_boot`] (when it starts). The rules are Docker's
//! restart manager's: 100 ms doubling to one minute, forgotten after a run of ten seconds. Timers are the actor's.

use std::time::Duration;

use shoal_types::container::restart::RestartPolicy;

/// The first delay.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// No delay is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A run as long as this was a good one: the next delay is the first again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// The delay that the last restart waited for; `None` before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BackOff {
    last: Option<Duration>,
}

impl BackOff {
    /// The delay before the next start, after a run of this length.
    pub(crate) fn next(&mut self, ran_for: Duration) -> Duration {
        let delay = match self.last {
            Some(last) if ran_for < GOOD_RUN => last.saturating_mul(2).min(LONGEST_DELAY),
            Some(_) | None => FIRST_DELAY,
        };
        self.last = Some(delay);
        delay
    }

    /// Forgets: the user has started the container.
    pub(crate) fn reset(&mut self) {
        self.last = None;
    }
}

/// Who ended the last run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// A stop or a kill that was asked for.
    User,
    /// Anything else.
    Itself,
}

/// Whether a container that has just exited is started again.
pub(crate) fn after_exit(policy: RestartPolicy, code: i32, n_restarts: u32, ended_by: EndedBy) -> bool {
    if ended_by == EndedBy::User {
        return false;
    }
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max_retries } => {
            code != 0 && (max_retries == 0 || n_restarts < max_retries)
        }
    }
}

/// Whether a container that does not run is started when the daemon starts. One that was never started is not.
///
/// Docker restarts `on-failure` containers even if the user had stopped them (the exit code of a stop looks like a
/// failure); here the user's wish holds.
pub(crate) fn at_boot(policy: RestartPolicy, code: i32, n_restarts: u32, ended_by: EndedBy) -> bool {
    match policy {
        RestartPolicy::Always => true,
        RestartPolicy::No | RestartPolicy::UnlessStopped | RestartPolicy::OnFailure { .. } => {
            after_exit(policy, code, n_restarts, ended_by)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute_and_start_over_after_a_good_run() {
        let mut back_off = BackOff::default();
        let short = Duration::from_secs(1);
        let delays: Vec<u128> = (0..12).map(|_| back_off.next(short).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(back_off.next(GOOD_RUN), FIRST_DELAY);
        back_off.next(short);
        back_off.reset();
        assert_eq!(back_off.next(short), FIRST_DELAY);
    }

    #[test]
    fn policies_decide_by_code_count_and_who_ended_the_run() {
        use EndedBy::{Itself, User};
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        let thrice = OnFailure { max_retries: 3 };
        let for_ever = OnFailure { max_retries: 0 };
        // policy, code, restarts so far, who ended it: again after the exit, again at boot
        let cases = [
            (No, 1, 0, Itself, false, false),
            (Always, 0, 9, Itself, true, true),
            (Always, 0, 0, User, false, true),
            (UnlessStopped, 0, 9, Itself, true, true),
            (UnlessStopped, 1, 0, User, false, false),
            (thrice, 0, 0, Itself, false, false),
            (thrice, 1, 2, Itself, true, true),
            (thrice, 1, 3, Itself, false, false),
            (for_ever, 137, 1000, Itself, true, true),
            (for_ever, 137, 0, User, false, false),
        ];
        for (policy, code, n_restarts, ended_by, later, boot) in cases {
            let case = format!("{policy:?} {code} {n_restarts} {ended_by:?}");
            assert_eq!(after_exit(policy, code, n_restarts, ended_by), later, "after exit: {case}");
            assert_eq!(at_boot(policy, code, n_restarts, ended_by), boot, "at boot: {case}");
        }
    }
}

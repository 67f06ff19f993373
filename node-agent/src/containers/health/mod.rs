//! PURE. Health checks: when to probe, and what a result means.
//!
//! Start reading at [`Check`] (what is wished for, with defaults) and [`record`] (what a result changes). `monitor.rs` is
//! the part of the actor that keeps time; `probe.rs` runs a probe.

pub(crate) mod monitor;
pub(crate) mod probe;

use std::time::Duration;

use shoal_types::container::health::{Health, HealthSpec, HealthStatus, HealthTest, ProbeResult};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: u32 = 3;
/// How many results are kept.
const LOG_LEN: usize = 5;
/// The only exit code that means health; 2 is reserved, everything else is a failure.
const EXIT_HEALTHY: i32 = 0;

/// What is probed, and how often, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Time between the end of a probe and the next.
    pub(crate) interval: Duration,
    /// How long a probe may take.
    pub(crate) timeout: Duration,
    /// Failures in a row that mean bad health.
    pub(crate) retries: u32,
    /// Time after the start in which failures do not count.
    pub(crate) start_period: Duration,
    /// Time between probes in that time.
    pub(crate) start_interval: Duration,
}

impl Check {
    /// The check that a spec leads to; `None` when there is nothing to run. `shell` is the container's.
    pub(crate) fn of(spec: Option<&HealthSpec>, shell: Option<&[String]>) -> Option<Self> {
        let spec = spec?;
        let command = match spec.test.as_ref()? {
            HealthTest::Disabled => return None,
            HealthTest::Command(words) => words.clone(),
            HealthTest::Shell(line) => {
                let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
                let mut words = shell.filter(|shell| !shell.is_empty()).map_or_else(default, <[_]>::to_vec);
                words.push(line.clone());
                words
            }
        };
        if command.is_empty() {
            return None;
        }
        let or = |wish: Duration, default| if wish.is_zero() { default } else { wish };
        Some(Self {
            command,
            interval: or(spec.interval, DEFAULT_INTERVAL),
            timeout: or(spec.timeout, DEFAULT_TIMEOUT),
            retries: if spec.retries == 0 { DEFAULT_RETRIES } else { spec.retries },
            start_period: spec.start_period,
            start_interval: or(spec.start_interval, DEFAULT_START_INTERVAL),
        })
    }

    /// Time until the next probe of a container that has run for so long.
    pub(crate) fn pause(&self, status: HealthStatus, ran_for: Duration) -> Duration {
        if ran_for < self.start_period && status == HealthStatus::Starting {
            self.start_interval
        } else {
            self.interval
        }
    }
}

/// What is known of a container that has just been started.
pub(crate) fn starting(previous: Option<&Health>) -> Health {
    let log = previous.map(|health| health.log.clone()).unwrap_or_default();
    Health { status: HealthStatus::Starting, failing_streak: 0, log }
}

/// Whether a result has changed the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The same as before.
    Same,
    /// Another one, which listeners are told of.
    Changed,
}

/// Takes a result into account. `into_run` is how long the container had run when the probe began.
pub(crate) fn record(health: &mut Health, check: &Check, result: ProbeResult, into_run: Duration) -> Change {
    let before = health.status;
    let is_success = result.exit_code == EXIT_HEALTHY;
    if health.log.len() >= LOG_LEN {
        health.log.drain(..=health.log.len() - LOG_LEN);
    }
    health.log.push(result);
    if is_success {
        health.failing_streak = 0;
        health.status = HealthStatus::Healthy;
    } else if health.status != HealthStatus::Starting || into_run >= check.start_period {
        health.failing_streak = health.failing_streak.saturating_add(1);
        if health.failing_streak >= check.retries {
            health.status = HealthStatus::Unhealthy;
        }
    }
    if health.status == before { Change::Same } else { Change::Changed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HealthStatus::{Healthy, Starting, Unhealthy};

    fn spec(test: HealthTest) -> HealthSpec {
        HealthSpec { test: Some(test), ..HealthSpec::default() }
    }

    fn check() -> Check {
        let spec = HealthSpec {
            retries: 2,
            start_period: Duration::from_secs(60),
            ..spec(HealthTest::Command(vec!["x".to_owned()]))
        };
        Check::of(Some(&spec), None).unwrap()
    }

    fn result(exit_code: i32) -> ProbeResult {
        let at = jiff::Timestamp::UNIX_EPOCH;
        ProbeResult { start: at, end: at, exit_code, output: String::new() }
    }

    #[test]
    fn a_check_has_dockers_defaults() {
        let check = Check::of(Some(&spec(HealthTest::Shell("exit 0".to_owned()))), None).unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "exit 0"]);
        assert_eq!((check.interval.as_secs(), check.timeout.as_secs(), check.retries), (30, 30, 3));
        assert_eq!((check.start_period.as_secs(), check.start_interval.as_secs()), (0, 5));
        let shell = ["/bin/ash".to_owned(), "-ec".to_owned()];
        let check = Check::of(Some(&spec(HealthTest::Shell("x".to_owned()))), Some(&shell)).unwrap();
        assert_eq!(check.command, ["/bin/ash", "-ec", "x"]);
        assert_eq!(Check::of(None, None), None);
        assert_eq!(Check::of(Some(&spec(HealthTest::Disabled)), None), None);
        assert_eq!(Check::of(Some(&HealthSpec::default()), None), None);
    }

    /// Exit codes with the seconds into the run, and the status and streak after each.
    #[test]
    fn verdicts_follow_the_results() {
        type Steps<'a> = &'a [(i32, u64, HealthStatus, u32)];
        let cases: [Steps<'_>; 4] = [
            &[(0, 1, Healthy, 0), (1, 2, Healthy, 1), (1, 3, Unhealthy, 2), (0, 4, Healthy, 0)],
            // Failures in the start period do not count, a success ends it.
            &[(1, 1, Starting, 0), (1, 2, Starting, 0), (0, 3, Healthy, 0), (1, 4, Healthy, 1)],
            &[(1, 59, Starting, 0), (1, 60, Starting, 1), (-1, 61, Unhealthy, 2), (2, 62, Unhealthy, 3)],
            &[(1, 61, Starting, 1), (0, 62, Healthy, 0)],
        ];
        for steps in cases {
            let mut health = starting(None);
            for &(code, seconds, status, streak) in steps {
                let before = health.status;
                let change = record(&mut health, &check(), result(code), Duration::from_secs(seconds));
                assert_eq!((health.status, health.failing_streak), (status, streak), "{steps:?}");
                assert_eq!(change == Change::Changed, before != status, "{steps:?}");
            }
        }
    }

    #[test]
    fn only_the_last_five_results_are_kept() {
        let mut health = starting(None);
        for code in 0..9 {
            record(&mut health, &check(), result(code), Duration::ZERO);
        }
        let codes: Vec<i32> = health.log.iter().map(|result| result.exit_code).collect();
        assert_eq!(codes, [4, 5, 6, 7, 8]);
    }

    #[test]
    fn probes_are_more_frequent_while_it_starts() {
        let check = check();
        let (early, late) = (Duration::from_secs(1), Duration::from_secs(61));
        assert_eq!(check.pause(Starting, early), DEFAULT_START_INTERVAL);
        assert_eq!(check.pause(Healthy, early), DEFAULT_INTERVAL);
        assert_eq!(check.pause(Starting, late), DEFAULT_INTERVAL);
    }
}

//! How often things were done and how long they took, for whoever measures the daemon.
//!
//! Start reading at [`Figures`]. Names, labels and the bounds of the histograms are those that dockerd gives Prometheus; writing
//! them as text is the daemon's business. Only what succeeded is timed, as in dockerd. Nothing here can fail or wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of a histogram's buckets in milliseconds: Prometheus' defaults.
pub const BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000];

/// An action that is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A container's changes were listed.
    ContainerChanges,
    /// An image was made of a container.
    ContainerCommit,
    /// A container was created.
    ContainerCreate,
    /// A container was removed.
    ContainerDelete,
    /// A container was started.
    ContainerStart,
    /// An image was removed.
    ImageDelete,
    /// An image's history was listed.
    ImageHistory,
    /// An image was pulled.
    ImagePull,
    /// An image was pushed.
    ImagePush,
    /// Addresses were chosen for a container.
    NetworkAllocate,
    /// A container was plumbed.
    NetworkConnect,
    /// A container's networks were given back.
    NetworkRelease,
    /// What is known of the host was gathered.
    SystemInfo,
    /// A probe of a health check was prepared.
    HealthCheckStart,
}

impl Action {
    /// Every action, families together.
    pub const ALL: [Self; 14] = [
        Self::ContainerChanges,
        Self::ContainerCommit,
        Self::ContainerCreate,
        Self::ContainerDelete,
        Self::ContainerStart,
        Self::HealthCheckStart,
        Self::SystemInfo,
        Self::ImageDelete,
        Self::ImageHistory,
        Self::ImagePull,
        Self::ImagePush,
        Self::NetworkAllocate,
        Self::NetworkConnect,
        Self::NetworkRelease,
    ];

    /// dockerd's family of figures, with its help text, and the label that tells actions of a family apart, if it has one.
    #[must_use]
    pub fn family(self) -> (&'static str, &'static str, Option<(&'static str, &'static str)>) {
        const CONTAINER: (&str, &str) = (
            "engine_daemon_container_actions_seconds",
            "The number of seconds it takes to process each container action",
        );
        const IMAGE: (&str, &str) = (
            "engine_daemon_image_actions_seconds",
            "The number of seconds it takes to process each image action",
        );
        const NETWORK: (&str, &str) = (
            "engine_daemon_network_actions_seconds",
            "The number of seconds it takes to process each network action",
        );
        let of = |(name, help): (&'static str, &'static str), action| (name, help, Some(("action", action)));
        match self {
            Self::ContainerChanges => of(CONTAINER, "changes"),
            Self::ContainerCommit => of(CONTAINER, "commit"),
            Self::ContainerCreate => of(CONTAINER, "create"),
            Self::ContainerDelete => of(CONTAINER, "delete"),
            Self::ContainerStart => of(CONTAINER, "start"),
            Self::ImageDelete => of(IMAGE, "delete"),
            Self::ImageHistory => of(IMAGE, "history"),
            Self::ImagePull => of(IMAGE, "pull"),
            Self::ImagePush => of(IMAGE, "push"),
            Self::NetworkAllocate => of(NETWORK, "allocate"),
            Self::NetworkConnect => of(NETWORK, "connect"),
            Self::NetworkRelease => of(NETWORK, "release"),
            Self::SystemInfo => (
                "engine_daemon_host_info_functions_seconds",
                "The number of seconds it takes to call functions gathering info about the host",
                Some(("function", "system_info")),
            ),
            Self::HealthCheckStart => (
                "engine_daemon_health_check_start_duration_seconds",
                "The number of seconds it takes to prepare to run health checks",
                None,
            ),
        }
    }
}

/// The figures of one daemon. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    kept: Arc<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    timed: [Histogram; Action::ALL.len()],
    health_checks: AtomicU64,
    failed_health_checks: AtomicU64,
}

#[derive(Debug, Default)]
struct Histogram {
    /// How many took at most as long as the bound; the last takes all others.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

/// What a histogram shows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timed {
    /// How many took at most as long as each of [`BOUNDS_MS`].
    pub at_most: [u64; BOUNDS_MS.len()],
    /// How many there were.
    pub count: u64,
    /// How long all of them took.
    pub sum: Duration,
}

impl Figures {
    /// Notes that an action that began at `start` has succeeded now.
    pub fn note(&self, action: Action, start: Instant) {
        self.add(action, start.elapsed());
    }

    /// Passes an outcome on, and notes it when it is a success.
    pub fn noted<T, E>(&self, action: Action, start: Instant, outcome: Result<T, E>) -> Result<T, E> {
        if outcome.is_ok() {
            self.note(action, start);
        }
        outcome
    }

    /// Notes that a health check was run.
    pub fn note_health_check(&self, exit_code: i32) {
        self.kept.health_checks.fetch_add(1, Ordering::Relaxed);
        if exit_code != 0 {
            self.kept.failed_health_checks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How long an action took.
    #[must_use]
    pub fn timed(&self, action: Action) -> Timed {
        self.histogram(action).map(Histogram::read).unwrap_or_default()
    }

    /// How many health checks were run, and how many of them failed.
    #[must_use]
    pub fn health_checks(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.kept.health_checks), read(&self.kept.failed_health_checks))
    }

    fn add(&self, action: Action, took: Duration) {
        let Some(histogram) = self.histogram(action) else { return };
        let bucket = BOUNDS_MS.iter().position(|bound| took <= Duration::from_millis(*bound));
        histogram.buckets[bucket.unwrap_or(BOUNDS_MS.len())].fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        histogram.sum_us.fetch_add(took, Ordering::Relaxed);
    }

    fn histogram(&self, action: Action) -> Option<&Histogram> {
        let at = Action::ALL.iter().position(|known| *known == action)?;
        self.kept.timed.get(at)
    }
}

impl Histogram {
    fn read(&self) -> Timed {
        let mut timed =
            Timed { sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)), ..Timed::default() };
        for (at, bucket) in self.buckets.iter().enumerate() {
            timed.count += bucket.load(Ordering::Relaxed);
            if let Some(shown) = timed.at_most.get_mut(at) {
                *shown = timed.count;
            }
        }
        timed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_every_bucket_that_is_wide_enough() {
        let figures = Figures::default();
        for millis in [1, 5, 6, 90, 20_000] {
            figures.add(Action::ContainerStart, Duration::from_millis(millis));
        }
        let timed = figures.timed(Action::ContainerStart);
        assert_eq!(timed.at_most, [2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!((timed.count, timed.sum), (5, Duration::from_millis(20_102)));
        assert_eq!(figures.timed(Action::ContainerCreate), Timed::default());
    }

    #[test]
    fn only_what_succeeds_is_timed() {
        let figures = Figures::default();
        let _ = figures.noted::<(), ()>(Action::ImagePull, Instant::now(), Err(()));
        let clone = figures.clone();
        let _ = clone.noted::<(), ()>(Action::ImagePull, Instant::now(), Ok(()));
        drop(clone);
        assert_eq!(figures.timed(Action::ImagePull).count, 1);
        figures.note_health_check(0);
        figures.note_health_check(-1);
        assert_eq!(figures.health_checks(), (2, 1));
    }

    #[test]
    fn every_action_is_listed_once_and_families_stand_together() {
        let mut families: Vec<_> = Action::ALL.iter().map(|action| action.family().0).collect();
        families.dedup();
        let mut distinct = families.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(families.len(), distinct.len());
        let mut all: Vec<_> = Action::ALL.iter().map(|action| action.family()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), Action::ALL.len());
    }
}

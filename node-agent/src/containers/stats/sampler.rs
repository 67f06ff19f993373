//! The one who reads counters for everybody who watches: once a second for each container, however many watch it.
//!
//! Start reading at [`Sampler::watch`]. The task lives as long as somebody watches; it takes all readings of a second one after
//! the other on one blocking thread, keeps the kernel's files open from one second to the next, and asks for the machine's own
//! figures once for all of them. Who is slow misses readings instead of holding others up. It reads nothing for a container
//! that nobody asks about.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use node_runtime::cgroup::Counters;
use rustix::process::{Resource, getrlimit};
use shoal_types::ContainerId;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::reading::{MachineReading, Subject, open_counters, read};
use crate::api::streams::StatsReading;
use crate::containers::host::Host;
use crate::containers::slot::Presence;
use crate::containers::{Shared, run_blocking};
use crate::error::ErrorChain;

/// Time between two readings: the rhythm that clients expect.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Which part of the daemon's descriptors may be counters; those of more containers are opened for each reading.
const SHARE_OF_DESCRIPTORS: u64 = 4;

/// The last reading of a container; `None` while it does not run.
pub(super) type Latest = Option<Arc<StatsReading>>;

/// Knows who watches what. There is a task that reads as long as there is a container in it.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    watched: Mutex<Watched>,
}

type Watched = BTreeMap<ContainerId, watch::Sender<Latest>>;

/// A container whose turn it is.
struct Turn {
    id: ContainerId,
    /// `None` if it does not run.
    subject: Option<Subject>,
    latest: watch::Sender<Latest>,
}

impl Sampler {
    /// Follows the readings of a container from the next one on. The channel closes when the container has been removed.
    pub(super) fn watch(&self, shared: &Arc<Shared>, id: ContainerId) -> watch::Receiver<Latest> {
        let mut watched = self.lock();
        if watched.is_empty() {
            shared.spawn(sample(Arc::clone(shared)));
        }
        watched.entry(id).or_default().subscribe()
    }

    /// Whose turn it is now; `None`, and the end of the task, when nobody watches any more.
    fn round(&self, shared: &Shared) -> Option<Vec<Turn>> {
        let mut watched = self.lock();
        let config = shared.config();
        let mut turns = Vec::with_capacity(watched.len());
        watched.retain(|id, latest| {
            let published = shared.slot(*id).map(|slot| slot.published());
            let here = published.filter(|published| published.presence == Presence::Here);
            let (Some(published), true) = (here, latest.receiver_count() > 0) else { return false };
            let subject = Subject::of(&published.view, &config);
            turns.push(Turn { id: *id, subject, latest: latest.clone() });
            true
        });
        Some(turns).filter(|turns| !turns.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sample(shared: Arc<Shared>) {
    let mut ticks = interval_at(Instant::now() + INTERVAL, INTERVAL);
    // After a second that took longer, the next begins later rather than at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept = Kept::new();
    loop {
        ticks.tick().await;
        let Some(turns) = shared.sampler.round(&shared) else { return };
        let host = Arc::clone(&shared.host);
        let taken = run_blocking(move || {
            let readings = kept.take(&host, turns);
            (kept, readings)
        });
        let readings = match taken.await {
            Ok((back, readings)) => {
                kept = back;
                readings
            }
            Err(error) => {
                tracing::error!(error = %ErrorChain(&error), "a second's statistics are missing");
                kept = Kept::new();
                continue;
            }
        };
        // From here and all together: each from the other thread would wake one that sleeps.
        for (latest, reading) in readings {
            latest.send_replace(reading);
        }
    }
}

/// Counters that stay open from one second to the next.
struct Kept {
    open: BTreeMap<ContainerId, (Subject, Counters)>,
    /// How many containers' counters may stay open.
    most: usize,
}

impl Kept {
    fn new() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / SHARE_OF_DESCRIPTORS;
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        Self { open: BTreeMap::new(), most: descriptors / Counters::MOST_FILES }
    }

    /// Reads the counters of all whose turn it is, and closes those of everybody else.
    fn take(&mut self, host: &Host, turns: Vec<Turn>) -> Vec<(watch::Sender<Latest>, Latest)> {
        let machine = MachineReading::take(host);
        let mut before = std::mem::take(&mut self.open);
        let mut readings = Vec::with_capacity(turns.len());
        for Turn { id, subject, latest } in turns {
            let known = before.remove(&id);
            let reading = subject.and_then(|subject| self.read(id, subject, known, &machine));
            readings.push((latest, reading));
        }
        readings
    }

    /// Reads the counters of one container, which may be open already.
    fn read(
        &mut self,
        id: ContainerId,
        subject: Subject,
        known: Option<(Subject, Counters)>,
        machine: &MachineReading,
    ) -> Latest {
        let known = known.filter(|(of, _)| *of == subject);
        let counters = known.map_or_else(|| open_counters(&subject), |(_, counters)| Ok(counters));
        let mut counters = counters
            .inspect_err(|error| {
                tracing::warn!(container.id = %id, error = %ErrorChain(error), "counters are missing");
            })
            .ok()?;
        let reading = read(&subject, &mut counters, machine).map(Arc::new);
        if self.open.len() < self.most {
            self.open.insert(id, (subject, counters));
        }
        reading
    }
}

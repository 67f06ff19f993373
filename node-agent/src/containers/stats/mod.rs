//! What a container uses: the kernel's counters, read once or again and again.
//!
//! Start reading at [`Engine::statistics`]. `reading.rs` is one reading, `sampler.rs` reads for all who watch.

mod reading;
mod sampler;

use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::watch;

use self::reading::{MachineReading, Subject};
use self::sampler::INTERVAL;
pub(crate) use self::sampler::Sampler;
use super::slot::Presence;
use super::{Engine, Handle, Shared, run_blocking};
use crate::api::containers::ContainerView;
use crate::api::streams::{StatsMode, StatsReading, StatsSample};
use crate::error::NodeError;

/// What a stream of samples remembers.
struct Watching {
    handle: Handle,
    shared: Arc<Shared>,
    latest: watch::Receiver<sampler::Latest>,
    previous: Option<Arc<StatsReading>>,
    /// When the first sample was taken.
    begun: Option<Instant>,
}

impl Engine {
    /// Measures what a container uses.
    pub(super) async fn statistics(
        &self,
        name: &str,
        mode: StatsMode,
    ) -> Result<BoxStream<'static, Result<StatsSample, NodeError>>, NodeError> {
        let handle = self.find(name)?;
        let shared = Arc::clone(&self.shared);
        Ok(match mode {
            StatsMode::OneShot => {
                let current = read_once(&shared, &handle.view()).await?;
                let sample = sample(&handle.view(), current, None);
                stream::iter([Ok(sample)]).boxed()
            }
            StatsMode::Once => stream::once(async move { measure_twice(&shared, &handle).await }).boxed(),
            StatsMode::Stream => {
                let latest = shared.sampler.watch(&shared, handle.id());
                let watching = Watching { handle, shared, latest, previous: None, begun: None };
                stream::unfold(watching, next).boxed()
            }
        })
    }
}

async fn measure_twice(shared: &Arc<Shared>, handle: &Handle) -> Result<StatsSample, NodeError> {
    let previous = read_once(shared, &handle.view()).await?;
    if previous.is_some() {
        // Rates are what lies between two readings, and the time between them is the measure.
        tokio::time::sleep(INTERVAL).await;
    }
    let view = handle.view();
    let current = read_once(shared, &view).await?;
    Ok(sample(&view, current, previous))
}

/// The first sample comes at once, the others in the rhythm of the sampler, whether or not anything has happened.
async fn next(mut watching: Watching) -> Option<(Result<StatsSample, NodeError>, Watching)> {
    let is_first = watching.begun.is_none();
    let begun = *watching.begun.get_or_insert_with(Instant::now);
    if !is_first {
        watching.latest.changed().await.ok()?;
        // Too soon after the first for a rate.
        while begun.elapsed() < INTERVAL / 2 {
            watching.latest.changed().await.ok()?;
        }
    }
    let published = watching.handle.slot().published();
    if published.presence == Presence::Removed {
        return None;
    }
    let current = if is_first {
        // A container that ends in this moment is one that does not run.
        read_once(&watching.shared, &published.view).await.unwrap_or(None)
    } else {
        watching.latest.borrow_and_update().clone()
    };
    let sample = sample(&published.view, current.clone(), watching.previous.take());
    watching.previous = current;
    Some((Ok(sample), watching))
}

fn sample(
    view: &ContainerView,
    current: Option<Arc<StatsReading>>,
    previous: Option<Arc<StatsReading>>,
) -> StatsSample {
    StatsSample { id: view.id, name: view.name.clone(), current, previous }
}

/// Reads everything; `None` when the container does not run.
async fn read_once(
    shared: &Arc<Shared>,
    view: &ContainerView,
) -> Result<Option<Arc<StatsReading>>, NodeError> {
    let Some(subject) = Subject::of(view, &shared.config()) else { return Ok(None) };
    let host = Arc::clone(&shared.host);
    run_blocking(move || {
        let mut counters = reading::open_counters(&subject)?;
        Ok(reading::read(&subject, &mut counters, &MachineReading::take(&host)).map(Arc::new))
    })
    .await?
}

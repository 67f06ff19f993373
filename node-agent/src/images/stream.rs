//! Progress of a transfer as a stream, and the transfer as a task that lives as long as the stream.
//!
//! Start reading at [`run`]. What fails before the first item is the failure of the request.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::fetch::LayerTicket;
use super::flights::State;
use crate::api::images::{LayerPhase, Progress, ProgressStream};
use crate::error::NodeError;

/// How many items a slow client may be behind before the transfer waits for it; downloads go on meanwhile.
const QUEUE_LEN: usize = 64;
/// How often the number of bytes is told, as in Docker.
const INTERVAL: Duration = Duration::from_millis(100);

/// Where a transfer tells its progress.
#[derive(Debug, Clone)]
pub(super) struct Out {
    items: mpsc::Sender<Result<Progress, NodeError>>,
}

impl Out {
    /// Tells something. Fails when nobody listens any more, so that the transfer ends.
    pub(super) async fn tell(&self, item: Progress) -> Result<(), NodeError> {
        self.items
            .send(Ok(item))
            .await
            .map_err(|source| NodeError::failed("report progress to a client that went away", source))
    }

    /// Tells how far a layer is, unless the client is behind; another such message will follow.
    pub(super) fn tell_if_room(&self, id: &str, phase: LayerPhase) {
        let _ = self.items.try_send(Ok(Progress::Layer { id: id.to_owned(), phase }));
    }

    /// Tells what happens to one layer.
    pub(super) async fn tell_layer(&self, id: &str, phase: LayerPhase) -> Result<(), NodeError> {
        self.tell(Progress::Layer { id: id.to_owned(), phase }).await
    }

    /// Tells what happens to a layer until it is here.
    pub(super) async fn follow(&self, id: &str, mut ticket: LayerTicket) -> Result<(), NodeError> {
        let mut told: Option<LayerPhase> = None;
        let mut told_at: Option<Instant> = None;
        loop {
            match ticket.state() {
                State::Done(outcome) => {
                    outcome.map_err(NodeError::Shared)?;
                    // The last phases may have been too quick to be seen.
                    let last = if told == Some(LayerPhase::AlreadyExists) {
                        None
                    } else {
                        Some(LayerPhase::PullComplete)
                    };
                    return self.catch_up(id, &mut told, last).await;
                }
                State::Progress(phase) => {
                    let counts = matches!(phase, LayerPhase::Downloading(..) | LayerPhase::Extracting(..));
                    let is_same_kind = told.as_ref().is_some_and(|told| rank(told) == rank(&phase));
                    let next =
                        told_at.map(|told_at| told_at + INTERVAL).filter(|next| *next > Instant::now());
                    match next {
                        Some(next) if counts && is_same_kind => {
                            // Neither arm loses anything: the state is looked at again.
                            tokio::select! {
                                () = tokio::time::sleep_until(next) => {}
                                changed = ticket.changed() => changed?,
                            }
                            continue;
                        }
                        _ => {
                            self.catch_up(id, &mut told, Some(phase)).await?;
                            told_at = Some(Instant::now());
                        }
                    }
                }
            }
            ticket.changed().await?;
        }
    }

    /// Tells a phase and those before it that were passed unseen, so that every client sees them in order.
    async fn catch_up(
        &self,
        id: &str,
        told: &mut Option<LayerPhase>,
        phase: Option<LayerPhase>,
    ) -> Result<(), NodeError> {
        let Some(phase) = phase else { return Ok(()) };
        if rank(&phase) < told.as_ref().map_or(0, rank) || told.as_ref() == Some(&phase) {
            return Ok(());
        }
        for milestone in missed(told.as_ref(), &phase) {
            self.tell_layer(id, milestone).await?;
        }
        *told = Some(phase.clone());
        self.tell_layer(id, phase).await
    }
}

/// What a layer must have passed between two phases. Whether it was downloaded is known if it was seen to be.
fn missed(told: Option<&LayerPhase>, phase: &LayerPhase) -> Vec<LayerPhase> {
    let (before, now) = (told.map_or(0, rank), rank(phase));
    let mut missed = Vec::new();
    if *phase == LayerPhase::AlreadyExists {
        return missed;
    }
    if before < 1 && now > 1 {
        missed.push(LayerPhase::PullingFsLayer);
    }
    if before == 3 && now > 4 {
        missed.push(LayerPhase::VerifyingChecksum);
    }
    if (3..=4).contains(&before) && now > 5 {
        missed.push(LayerPhase::DownloadComplete);
    }
    missed
}

/// The order in which a layer passes its phases; those of pushes have none.
fn rank(phase: &LayerPhase) -> u8 {
    match phase {
        LayerPhase::PullingFsLayer => 1,
        LayerPhase::Waiting => 2,
        LayerPhase::Downloading(..) => 3,
        LayerPhase::VerifyingChecksum => 4,
        LayerPhase::DownloadComplete => 5,
        LayerPhase::Extracting(..) => 6,
        LayerPhase::PullComplete => 7,
        LayerPhase::AlreadyExists
        | LayerPhase::Preparing
        | LayerPhase::Pushing(..)
        | LayerPhase::Pushed
        | LayerPhase::LayerAlreadyExists
        | LayerPhase::MountedFrom(_)
        | LayerPhase::Loading(..) => 8,
    }
}

/// Runs a transfer as a task. Waits for its first item; if that is an error, it is the answer. Dropping the stream
/// cancels the task.
pub(super) async fn run<F>(transfer: impl FnOnce(Out) -> F) -> Result<ProgressStream, NodeError>
where
    F: Future<Output = Result<(), NodeError>> + Send + 'static,
{
    let (items, mut received) = mpsc::channel(QUEUE_LEN);
    let work = transfer(Out { items: items.clone() });
    let task = tokio::spawn(async move {
        if let Err(error) = work.await {
            // Without a listener nobody is interested in the failure either.
            let _ = items.send(Err(error)).await;
        }
    });
    let task = AbortOnDrop(task);
    let first = match received.recv().await {
        None => return Ok(futures_util::stream::empty().boxed()),
        Some(first) => first?,
    };
    let rest = Rest { received, _task: task };
    Ok(futures_util::stream::once(async { Ok(first) }).chain(rest).boxed())
}

struct Rest {
    received: mpsc::Receiver<Result<Progress, NodeError>>,
    _task: AbortOnDrop,
}

impl Stream for Rest {
    type Item = Result<Progress, NodeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.received.poll_recv(context)
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

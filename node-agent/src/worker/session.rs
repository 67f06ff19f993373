//! Sessions with managers: opened, kept alive, opened again.
//!
//! Start reading at [`SessionKeeper::run`]. Inputs: the dispatcher's port and what the node says of itself. Outputs: events for the
//! worker's owner task, and [`Connection`] for everybody. It understands no assignment; a worker that finds a gap asks for another session
//! by [`Verdict::Reopen`].

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use shoal_types::ErrorKind;
use shoal_types::cluster::node::NodeDescription;
use shoal_types::protocol::{PROTOCOL_VERSION, SessionEvent, SessionMessage, SessionRequest};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::connection::{Connection, ConnectionState};
use super::description::Describer;
use super::dispatcher::{DispatchError, Dispatcher, Reports, Session};
use super::overlays::Way;

/// How long opening a session may take, all managers tried.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// How long a heartbeat may take.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(5);
/// How often the node looks whether what it says of itself still holds.
const DESCRIBE_EVERY: Duration = Duration::from_secs(20);
/// The first wait after a session that could not be opened, doubled with each.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest. Elections take one to three seconds; nodes shall be back soon after.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// An event, and where to say whether the session is still good.
pub(super) type Delivery = (SessionEvent, oneshot::Sender<Verdict>);

/// Whether a session is still good after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is.
    GoOn,
    /// It has left something out and must be opened anew.
    Reopen,
}

/// Keeps a session open as long as it lives.
pub(super) struct SessionKeeper {
    pub(super) dispatcher: Arc<dyn Dispatcher>,
    pub(super) describer: Describer,
    /// Where the node is reached; empty lets the leader look.
    pub(super) address: String,
    /// Where events go. One waits at a time: the leader's own flow control holds the rest back.
    pub(super) events: mpsc::Sender<Delivery>,
    pub(super) connection: watch::Sender<Connection>,
    pub(super) way: watch::Sender<Way>,
}

impl SessionKeeper {
    /// Opens sessions, one after the other, until the receiver of events is gone.
    pub(super) async fn run(self) {
        let mut failures = 0;
        while !self.events.is_closed() {
            let opened = self.open().await;
            let outcome = match opened {
                Ok((session, description)) => {
                    let outcome = self.keep(session, &description).await;
                    self.close(outcome.as_ref().err().cloned());
                    outcome.map(|n_events| n_events > 1)
                }
                Err(error) => Err(error),
            };
            failures = match outcome {
                Ok(true) => 0,
                Ok(false) => failures + 1,
                Err(error) => {
                    self.note_failure(error, failures);
                    failures + 1
                }
            };
            // Managers that cannot be reached do not say when they can.
            tokio::time::sleep(wait_after(failures, rand::random())).await;
        }
    }

    async fn open(&self) -> Result<(Box<dyn Session>, NodeDescription), DispatchError> {
        let description = self.describer.describe().await?;
        let request = SessionRequest {
            version: PROTOCOL_VERSION,
            description: description.clone(),
            address: self.address.clone(),
        };
        match tokio::time::timeout(OPEN_LIMIT, self.dispatcher.open(request)).await {
            Ok(opened) => Ok((opened?, description)),
            Err(_) => Err(DispatchError::new(ErrorKind::Unavailable, "no manager answers")),
        }
    }

    /// Hands events on and says that the node lives, until the session ends. Returns how many events there were.
    async fn keep(
        &self,
        mut session: Box<dyn Session>,
        description: &NodeDescription,
    ) -> Result<u64, DispatchError> {
        let reports = session.reports();
        let mut n_events = 0;
        let heart = beat(Arc::clone(&reports));
        tokio::pin!(heart);
        let (acknowledged, acknowledgements) = watch::channel(0);
        let acknowledging = acknowledge(Arc::clone(&reports), acknowledgements);
        tokio::pin!(acknowledging);
        let changed = self.description_changes(description);
        tokio::pin!(changed);
        loop {
            let event = tokio::select! {
                // Cancel-safe by the port's promise.
                event = session.next() => event,
                error = &mut heart => return Err(error),
                never = &mut acknowledging => match never {},
                () = &mut changed => return Ok(n_events),
                () = self.events.closed() => return Ok(n_events),
            };
            let Some(event) = event.transpose()? else { return Ok(n_events) };
            n_events += 1;
            if let SessionEvent::Session(message) = &event {
                self.greet(Arc::new(message.as_ref().clone()), &reports);
            }
            let sequence = match &event {
                SessionEvent::Assignments(message) if message.tells_of_draining() => Some(message.results_in),
                _ => None,
            };
            let (verdict, answer) = oneshot::channel();
            if self.events.send((event, verdict)).await.is_err() {
                return Ok(n_events);
            }
            // The heart must go on beating while the worker writes down what it was told.
            let answer = tokio::select! {
                answer = answer => answer,
                error = &mut heart => return Err(error),
                never = &mut acknowledging => match never {},
            };
            if answer != Ok(Verdict::GoOn) {
                tracing::info!("session has a gap and is opened anew");
                return Ok(n_events);
            }
            if let Some(sequence) = sequence {
                acknowledged.send_replace(sequence);
            }
        }
    }

    fn greet(&self, message: Arc<SessionMessage>, reports: &Arc<dyn Reports>) {
        let is_new = self.connection.borrow().message().is_none();
        let since = if is_new { Instant::now() } else { self.connection.borrow().since };
        self.connection.send_replace(Connection { since, state: ConnectionState::Open(message) });
        if is_new {
            tracing::info!("session with the managers is open");
            self.way.send_replace(Some(Arc::clone(reports)));
        }
    }

    fn close(&self, error: Option<DispatchError>) {
        self.way.send_replace(None);
        if self.connection.borrow().message().is_some() {
            tracing::info!("session with the managers has ended");
            self.connection
                .send_replace(Connection { since: Instant::now(), state: ConnectionState::Closed(error) });
        }
    }

    fn note_failure(&self, error: DispatchError, failures: u32) {
        if failures == 0 {
            tracing::info!(%error, "no session with the managers");
        }
        self.connection.send_if_modified(|connection| match &mut connection.state {
            ConnectionState::Closed(known) if known.as_ref() != Some(&error) => {
                *known = Some(error);
                true
            }
            _ => false,
        });
    }

    /// Resolves when the node has something else to say of itself.
    async fn description_changes(&self, told: &NodeDescription) {
        let mut keys = self.describer.keys.clone();
        loop {
            tokio::select! {
                // The machine does not tell of changes of what is described.
                () = tokio::time::sleep(DESCRIBE_EVERY) => {}
                // Others wait for them. Whoever keeps them lives as long as the worker.
                Ok(()) = keys.changed() => {}
            }
            if self.describer.describe().await.is_ok_and(|now| now != *told) {
                return;
            }
        }
    }
}

/// Beats until that fails.
async fn beat(reports: Arc<dyn Reports>) -> DispatchError {
    loop {
        match tokio::time::timeout(HEARTBEAT_LIMIT, reports.heartbeat()).await {
            // The beat itself: the manager says when it wants the next one.
            Ok(Ok(next)) => tokio::time::sleep(next).await,
            Ok(Err(error)) => return error,
            Err(_) => return DispatchError::new(ErrorKind::Unavailable, "heartbeat is not answered"),
        }
    }
}

/// Says how far the node is as told, the newest each time. One that is lost holds a task up for a while and nothing else.
async fn acknowledge(reports: Arc<dyn Reports>, mut sequences: watch::Receiver<u64>) -> Infallible {
    loop {
        if sequences.changed().await.is_err() {
            // Nothing more will come; the session is about to end.
            std::future::pending::<()>().await;
        }
        let sequence = *sequences.borrow_and_update();
        match tokio::time::timeout(HEARTBEAT_LIMIT, reports.acknowledge(sequence)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, sequence, "managers are not told that this node is as told");
            }
            Err(_) => tracing::debug!(sequence, "managers do not take in that this node is as told"),
        }
    }
}

/// How long to wait after so many sessions in a row that came to nothing. `chance` spreads nodes that lost the same leader.
fn wait_after(failures: u32, chance: f64) -> Duration {
    if failures == 0 {
        return FIRST_WAIT.mul_f64(chance);
    }
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.min(10));
    doubled.min(LONGEST_WAIT).mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_differ_between_nodes() {
        assert_eq!(wait_after(0, 0.0), Duration::ZERO);
        assert_eq!(wait_after(1, 1.0), Duration::from_millis(200));
        assert_eq!(wait_after(3, 0.0), Duration::from_millis(400));
        assert_eq!(wait_after(40, 1.0), LONGEST_WAIT);
        assert_eq!(wait_after(40, 0.0), LONGEST_WAIT / 2);
    }
}

//! The event log: a bounded history and its subscribers.
//!
//! Start reading at [`EventLog`]. Events are facts that have happened and are durable already; publishing never waits. A
//! subscriber that falls behind by more than its queue loses the oldest of what it missed, and only that subscriber
//! does. Texts of events are put together by those who publish; their JSON is the front end's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::api::events::{Event, EventKind, EventScope, EventWindow, Events};

/// How many past events are kept for replay, as dockerd does.
const HISTORY_LEN: usize = 256;
/// How many events a subscriber may be behind. Compose starts some hundred containers at once, with about ten events
/// each; a slow terminal must not lose them.
const QUEUE_LEN: usize = 4096;

/// The history and the subscribers. Cheap to clone; lives as long as the daemon.
#[derive(Debug, Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // Held for the push and the send together, so that history and live events have one order.
    history: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
    n_published: AtomicU64,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl EventLog {
    /// An empty log.
    pub fn new() -> Self {
        let (live, _) = broadcast::channel(QUEUE_LEN);
        let history = Mutex::new(VecDeque::with_capacity(HISTORY_LEN));
        Self { shared: Arc::new(Shared { history, live, n_published: AtomicU64::new(0) }) }
    }

    /// Publishes that something happened to an object just now.
    pub fn publish(&self, kind: EventKind, action: &str, actor: &str, attributes: BTreeMap<String, String>) {
        self.publish_event(Event {
            kind,
            action: action.to_owned(),
            actor: actor.to_owned(),
            attributes,
            time: Timestamp::now(),
            scope: EventScope::Local,
        });
    }

    /// Publishes an event as it is.
    pub fn publish_event(&self, event: Event) {
        let event = Arc::new(event);
        self.shared.n_published.fetch_add(1, Ordering::Relaxed);
        let mut history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY_LEN {
            history.pop_front();
        }
        history.push_back(Arc::clone(&event));
        // Fails only when nobody listens.
        let _ = self.shared.live.send(event);
    }

    /// How many events were published since the daemon started.
    pub fn n_published(&self) -> u64 {
        self.shared.n_published.load(Ordering::Relaxed)
    }

    /// Live events from now on, for tests that must not miss one.
    #[cfg(test)]
    pub(crate) fn receiver(&self) -> broadcast::Receiver<Arc<Event>> {
        self.shared.live.subscribe()
    }

    /// Past events of the window and a receiver that continues exactly after them.
    fn open(&self, window: EventWindow) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
        let wants_past = window.since.is_some() || window.until.is_some();
        let past = history
            .iter()
            .filter(|event| wants_past && window.since.is_none_or(|since| event.time >= since))
            .filter(|event| window.until.is_none_or(|until| event.time <= until))
            .cloned()
            .collect();
        (past, self.shared.live.subscribe())
    }
}

#[async_trait]
impl Events for EventLog {
    async fn subscribe(&self, window: EventWindow) -> BoxStream<'static, Arc<Event>> {
        let (past, receiver) = self.open(window);
        let deadline = window.until.map(|until| {
            let left = until.duration_since(Timestamp::now());
            tokio::time::Instant::now() + std::time::Duration::try_from(left).unwrap_or_default()
        });
        let live = stream::unfold((receiver, window, deadline), next_live);
        stream::iter(past).chain(live).boxed()
    }

    fn subscribers(&self) -> usize {
        self.shared.live.receiver_count()
    }
}

type LiveState = (broadcast::Receiver<Arc<Event>>, EventWindow, Option<tokio::time::Instant>);

async fn next_live(state: LiveState) -> Option<(Arc<Event>, LiveState)> {
    let (mut receiver, window, deadline) = state;
    loop {
        let received = match deadline {
            // Dropping `recv` loses nothing: the receiver keeps its place.
            Some(deadline) => tokio::time::timeout_at(deadline, receiver.recv()).await.ok()?,
            None => receiver.recv().await,
        };
        match received {
            Ok(event) if window.since.is_some_and(|since| event.time < since) => {}
            Ok(event) if window.until.is_some_and(|until| event.time > until) => return None,
            Ok(event) => return Some((event, (receiver, window, deadline))),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(events.missed = missed, "an event subscriber does not keep up");
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(log: &EventLog, action: &str) {
        log.publish(EventKind::Container, action, "id", BTreeMap::new());
    }

    async fn actions(stream: BoxStream<'static, Arc<Event>>) -> Vec<String> {
        stream.map(|event| event.action.clone()).collect().await
    }

    #[tokio::test]
    async fn past_and_live_events_form_one_sequence() {
        let log = EventLog::new();
        publish(&log, "create");
        let window = EventWindow { since: Some(Timestamp::UNIX_EPOCH), until: None };
        let stream = log.subscribe(window).await;
        publish(&log, "start");
        publish(&log, "die");
        assert_eq!(actions(stream.take(3).boxed()).await, ["create", "start", "die"]);
    }

    #[tokio::test]
    async fn without_a_window_only_live_events_come() {
        let log = EventLog::new();
        publish(&log, "create");
        let stream = log.subscribe(EventWindow::default()).await;
        publish(&log, "start");
        assert_eq!(actions(stream.take(1).boxed()).await, ["start"]);
    }

    #[tokio::test]
    async fn a_window_in_the_past_ends_at_once() {
        let log = EventLog::new();
        publish(&log, "create");
        let window = EventWindow { since: Some(Timestamp::UNIX_EPOCH), until: Some(Timestamp::now()) };
        assert_eq!(actions(log.subscribe(window).await).await, ["create"]);
    }

    #[tokio::test]
    async fn only_the_last_256_events_are_replayed() {
        let log = EventLog::new();
        for number in 0..300 {
            publish(&log, &number.to_string());
        }
        let window = EventWindow { since: None, until: Some(Timestamp::now()) };
        let replayed = actions(log.subscribe(window).await).await;
        assert_eq!((replayed.len(), replayed[0].as_str()), (256, "44"));
    }
}

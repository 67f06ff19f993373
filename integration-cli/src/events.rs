//! The daemon's events as a test sees them: recorded from now on, or asked for afterwards.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Request;
use crate::session::{Session, with_filters};

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Kind of object.
    pub kind: String,
    /// What happened.
    pub action: String,
    /// The object's id (or reference).
    pub id: String,
    /// Everything else.
    pub raw: Value,
}

impl Event {
    fn of(raw: Value) -> Self {
        let text = |pointer: &str| {
            raw.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_else(|| panic!("no {pointer} in {raw}"))
                .to_owned()
        };
        Self { kind: text("/Type"), action: text("/Action"), id: text("/Actor/ID"), raw }
    }

    /// An attribute; panics when the event has none of that name.
    #[track_caller]
    #[must_use]
    pub fn attribute(&self, key: &str) -> &str {
        let value = self.raw["Actor"]["Attributes"][key].as_str();
        value.unwrap_or_else(|| panic!("no attribute {key} in {}", self.raw))
    }

    /// `kind action`, the form in which tests compare sequences.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.kind, self.action)
    }
}

/// This moment as `since` and `until` take it: seconds, a point, nine digits.
#[must_use]
pub fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// A recording that began when the daemon had accepted the subscription.
#[derive(Debug)]
pub struct Recording {
    events: Receiver<Event>,
    seen: Vec<Event>,
}

impl Session {
    /// Records events that pass `filters` (e.g. `json!({"container": ["x"]})`) from now on.
    #[track_caller]
    #[must_use]
    pub fn record_events(&self, filters: &Value) -> Recording {
        let mut stream = self.open(Request::new("GET", &with_filters("/events", filters))).expect(200);
        stream.read_limit(Duration::from_secs(600));
        let (sender, events) = channel();
        std::thread::spawn(move || {
            while let Some(raw) = stream.next_json() {
                if sender.send(Event::of(raw)).is_err() {
                    break;
                }
            }
        });
        Recording { events, seen: Vec::new() }
    }

    /// Asks for past events that pass `filters`, from the beginning of time until now.
    #[track_caller]
    #[must_use]
    pub fn past_events(&self, filters: &Value) -> Vec<Event> {
        let reply = self.get(&with_filters(&format!("/events?since=0&until={}", now()), filters)).expect(200);
        reply.json_stream().into_iter().map(Event::of).collect()
    }

    /// Filter for the events of one container by name or id.
    #[must_use]
    pub fn container_filter(&self, container: &str) -> Value {
        json!({"type": ["container"], "container": [container]})
    }
}

impl Recording {
    /// Waits for an event with this `kind action` label and returns it.
    #[track_caller]
    pub fn wait_for(&mut self, label: &str) -> Event {
        if let Some(event) = self.seen.iter().find(|event| event.label() == label) {
            return event.clone();
        }
        loop {
            let Ok(event) = self.events.recv_timeout(crate::condition::PATIENCE) else {
                panic!("no event {label:?} after {:?}", self.labels());
            };
            self.seen.push(event.clone());
            if event.label() == label {
                return event;
            }
        }
    }

    /// Waits for an event that `wanted` accepts.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        if let Some(event) = self.seen.iter().find(|event| wanted(event)) {
            return event.clone();
        }
        loop {
            let Ok(event) = self.events.recv_timeout(crate::condition::PATIENCE) else {
                panic!("no event: {what}; seen {:?}", self.labels());
            };
            self.seen.push(event.clone());
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Takes what has arrived meanwhile, without waiting, and returns everything so far, in order.
    pub fn so_far(&mut self) -> &[Event] {
        self.seen.extend(self.events.try_iter());
        &self.seen
    }

    /// Everything seen so far, in order.
    #[must_use]
    pub fn seen(&self) -> &[Event] {
        &self.seen
    }

    /// The labels of everything seen so far, in order.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        self.seen.iter().map(Event::label).collect()
    }

    /// Forgets what was seen.
    pub fn forget(&mut self) {
        self.seen.clear();
    }
}

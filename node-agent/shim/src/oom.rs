//! Processes of the container that the kernel killed for want of memory.
//!
//! Start reading at [`Shim::watch_oom`]. The kernel counts in the cgroup and tells when to look; the daemon is told of
//! every change, and there is one more look when the container has ended. cgroup v1 tells *before* it kills, so a look
//! that finds nothing is repeated a few times. A kernel that does not tell at all is reported and lived with.

use std::time::{Duration, Instant};

use node_runtime::cgroup::{Cgroup, OomEvents};

use crate::poll::{Interest, Token};
use crate::process::Shim;
use crate::protocol::Event;
use crate::report;

/// How long after the kernel's word to look again, the first time; doubled each time.
const FIRST_DELAY: Duration = Duration::from_millis(5);

/// How often to look again: about two and a half seconds in all.
const MOST_LOOKS: u32 = 9;

/// What is known about memory kills.
#[derive(Debug, Default)]
pub(crate) struct OomWatch {
    events: Option<OomEvents>,
    /// The cgroup's count before this run.
    baseline: u64,
    kills: u64,
    again: Option<Again>,
}

/// Another look, because the last one came too early.
#[derive(Debug, Clone, Copy)]
struct Again {
    at: Instant,
    n_looks: u32,
}

impl Again {
    fn after(n_looks: u32) -> Option<Self> {
        (n_looks < MOST_LOOKS).then(|| Self { at: Instant::now() + FIRST_DELAY * (1 << n_looks), n_looks })
    }
}

impl OomWatch {
    /// How many processes were killed in this run.
    pub(crate) fn kills(&self) -> u64 {
        self.kills
    }

    /// When another look is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.again.map(|again| again.at)
    }
}

impl Shim {
    /// Begins to watch the container's cgroup.
    pub(crate) fn watch_oom(&mut self, cgroup: &Cgroup) {
        self.oom.baseline = cgroup.oom_kills().unwrap_or_default();
        let watched = cgroup.oom_events().map_err(|error| error.chain()).and_then(|events| {
            let added = self.poller.add(&events, Token::Oom, Interest::READ.and(Interest::PRIORITY));
            added.map(|()| events).map_err(|error| error.to_string())
        });
        match watched {
            Ok(events) => self.oom.events = Some(events),
            Err(error) => report(&format!("cannot watch for memory kills: {error}")),
        }
    }

    /// The kernel has news.
    pub(crate) fn on_oom(&mut self) {
        let Some(events) = &mut self.oom.events else { return };
        if let Err(error) = events.take() {
            // Level-triggered: what cannot be taken would be told for ever. The counter is still read at the end.
            report(&format!("cannot take notice of memory kills: {}", error.chain()));
            self.poller.remove(&*events);
            self.oom.events = None;
        }
        if !self.read_oom_kills() {
            self.oom.again = Again::after(0);
        }
    }

    /// Looks again if it is time to.
    pub(crate) fn settle_oom(&mut self) {
        let Some(again) = self.oom.again.filter(|again| again.at <= Instant::now()) else { return };
        self.oom.again = if self.read_oom_kills() { None } else { Again::after(again.n_looks + 1) };
    }

    /// Looks at the counter; `true` when there are more kills than before.
    pub(crate) fn read_oom_kills(&mut self) -> bool {
        let counted = self.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok()).unwrap_or_default();
        let kills = counted.saturating_sub(self.oom.baseline);
        let has_news = kills > self.oom.kills;
        if has_news {
            self.oom.kills = kills;
            self.tell(Event::Oom { kills });
        }
        has_news
    }
}

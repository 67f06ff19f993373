//! Processes of the container that the kernel killed for want of memory.
//!
//! Start reading at [`Shim::watch_oom`]. The kernel counts in the cgroup; this counts along, tells the daemon of every
//! change, and looks once more when the container has ended. A kernel that does not tell is reported and lived with.

use node_runtime::cgroup::{Cgroup, OomEvents};

use crate::poll::{Interest, Token};
use crate::process::Shim;
use crate::protocol::Event;
use crate::report;

/// What is known about memory kills.
#[derive(Debug, Default)]
pub(crate) struct OomWatch {
    events: Option<OomEvents>,
    kills: u64,
}

impl OomWatch {
    /// How many processes were killed in this run.
    pub(crate) fn kills(&self) -> u64 {
        self.kills
    }
}

impl Shim {
    /// Begins to watch the container's cgroup.
    pub(crate) fn watch_oom(&mut self, cgroup: &Cgroup) {
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
        match events.take() {
            Ok(n_killed) => self.add_oom_kills(n_killed),
            Err(error) => {
                // Level-triggered: what cannot be read would be told for ever. The counter is still read at the end.
                report(&format!("cannot read memory kills: {}", error.chain()));
                self.poller.remove(&*events);
                self.oom.events = None;
            }
        }
    }

    /// Looks at the counter, because the news may be later than the death of the process.
    pub(crate) fn read_oom_kills(&mut self) {
        if self.oom.events.is_some() {
            self.on_oom();
        }
        let counted = self.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok());
        let n_unseen = counted.unwrap_or_default().saturating_sub(self.oom.kills);
        self.add_oom_kills(n_unseen);
    }

    fn add_oom_kills(&mut self, n_killed: u64) {
        if n_killed > 0 {
            self.oom.kills += n_killed;
            let kills = self.oom.kills;
            self.tell(Event::Oom { kills });
        }
    }
}

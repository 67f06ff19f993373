//! The one place where a shim waits: epoll, and the names of what it waits for.
//!
//! Start reading at [`Token`]. Registrations are level-triggered. A token never names two things in the life of a
//! process, so an event that was already fetched when its source went away finds nothing and is dropped.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;

use crate::stream::Stream;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// How many events are fetched at once.
const BATCH_LEN: usize = 32;

/// The number of a connection; counts up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u32);

/// The number of a process' stdio; 0 is the init process, execs count up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u32);

impl SessionId {
    /// The container's init process.
    pub(crate) const INIT: Self = Self(0);
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A signal is pending.
    Signals,
    /// Somebody connects.
    Listener,
    /// The kernel killed something for want of memory.
    Oom,
    /// A connection can be read or written, or is over.
    Connection(ConnectionId),
    /// A process wrote something, or closed its end.
    Output(SessionId, Stream),
    /// A process' standard input has room again, or is over.
    Input(SessionId),
}

impl Token {
    fn encode(self) -> EventData {
        let (kind, detail, number) = match self {
            Self::Signals => (0, 0, 0),
            Self::Listener => (1, 0, 0),
            Self::Oom => (2, 0, 0),
            Self::Connection(id) => (3, 0, id.0),
            Self::Output(id, stream) => (4, stream as u64, id.0),
            Self::Input(id) => (5, 0, id.0),
        };
        EventData::new_u64(kind << 40 | detail << 32 | u64::from(number))
    }

    fn decode(data: EventData) -> Option<Self> {
        let data = data.u64();
        let number = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        match (data >> 40, (data >> 32) & 0xff) {
            (0, _) => Some(Self::Signals),
            (1, _) => Some(Self::Listener),
            (2, _) => Some(Self::Oom),
            (3, _) => Some(Self::Connection(ConnectionId(number))),
            (4, 1) => Some(Self::Output(SessionId(number), Stream::Stdout)),
            (4, 2) => Some(Self::Output(SessionId(number), Stream::Stderr)),
            (5, _) => Some(Self::Input(SessionId(number))),
            _ => None,
        }
    }
}

/// What happened to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready {
    /// Whose event it is.
    pub(crate) token: Token,
    /// Bytes, or the end of the stream, can be read.
    pub(crate) readable: bool,
    /// There is room to write.
    pub(crate) writable: bool,
    /// The other side is gone for good, both ways.
    pub(crate) hung_up: bool,
}

/// What to be told about a source. Hang-ups are always told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interest(EventFlags);

impl Interest {
    pub(crate) const NONE: Self = Self(EventFlags::empty());
    pub(crate) const READ: Self = Self(EventFlags::IN);
    pub(crate) const WRITE: Self = Self(EventFlags::OUT);
    /// What cgroup files report as a change.
    pub(crate) const PRIORITY: Self = Self(EventFlags::PRI);

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// At most this long.
    Until(Duration),
    /// For ever: what a shim does when it is idle.
    Endless,
}

/// The epoll instance.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Begins to watch a source, which must not be watched yet.
    pub(crate) fn add(&self, source: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, token.encode(), interest.0)?)
    }

    /// Changes what to be told about a watched source.
    pub(crate) fn modify(&self, source: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, token.encode(), interest.0)?)
    }

    /// Stops watching, also for hang-ups. A source that is not watched is no failure.
    pub(crate) fn remove(&self, source: impl AsFd) {
        // The only failures are that it was not watched and that it cannot be: both mean that it is not.
        let _ = epoll::delete(&self.epoll, source);
    }

    /// Waits and returns what happened; nothing when the time is over or a signal came between.
    pub(crate) fn wait(&self, patience: Patience) -> io::Result<Vec<Ready>> {
        let timeout = match patience {
            Patience::Until(duration) => Some(Timespec {
                tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(duration.subsec_nanos()),
            }),
            Patience::Endless => None,
        };
        let mut events = [const { std::mem::MaybeUninit::<Event>::uninit() }; BATCH_LEN];
        let (events, _) = match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok(events) => events,
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        };
        Ok(events
            .iter()
            .filter_map(|event| Some(describe(event.flags, Token::decode(event.data)?)))
            .collect())
    }
}

fn describe(flags: EventFlags, token: Token) -> Ready {
    Ready {
        token,
        readable: flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR),
        writable: flags.contains(EventFlags::OUT),
        hung_up: flags.intersects(EventFlags::HUP | EventFlags::ERR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_the_kernel() {
        let id = u32::MAX;
        for token in [
            Token::Signals,
            Token::Listener,
            Token::Oom,
            Token::Connection(ConnectionId(id)),
            Token::Output(SessionId(id), Stream::Stdout),
            Token::Output(SessionId(7), Stream::Stderr),
            Token::Input(SessionId(id)),
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }
}

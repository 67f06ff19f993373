//! Whether the worker has a session with managers.
//!
//! Start reading at [`Connection`].

use std::sync::Arc;
use std::time::Duration;

use shoal_types::protocol::SessionMessage;
use tokio::time::Instant;

use super::dispatcher::DispatchError;

/// Whether there is a session, since when, and what it says.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Since when it is so.
    pub since: Instant,
    /// How it is.
    pub state: ConnectionState,
}

/// Whether there is a session.
#[derive(Debug, Clone)]
pub enum ConnectionState {
    /// There is none; why the last attempt has failed, if it has.
    Closed(Option<DispatchError>),
    /// There is one; what the leader has last said of node and managers.
    Open(Arc<SessionMessage>),
}

impl Connection {
    /// No session yet.
    pub(super) fn closed() -> Self {
        Self { since: Instant::now(), state: ConnectionState::Closed(None) }
    }

    /// For how long there has been no session; `None` when there is one.
    pub fn alone_for(&self) -> Option<Duration> {
        match self.state {
            ConnectionState::Closed(_) => Some(self.since.elapsed()),
            ConnectionState::Open(_) => None,
        }
    }

    /// What the leader has last said, if there is a session.
    pub fn message(&self) -> Option<&Arc<SessionMessage>> {
        match &self.state {
            ConnectionState::Open(message) => Some(message),
            ConnectionState::Closed(_) => None,
        }
    }

    /// Why the last attempt has failed, if there is no session.
    pub fn error(&self) -> Option<&DispatchError> {
        match &self.state {
            ConnectionState::Closed(error) => error.as_ref(),
            ConnectionState::Open(_) => None,
        }
    }
}

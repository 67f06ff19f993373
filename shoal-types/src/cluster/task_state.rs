//! How far a task has come.
//!
//! Start reading at [`TaskState`]. The order of the variants is the order of life: a state never goes back.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The states of a task, in order. What is observed moves forward only; what is desired is one of [`Self::Ready`],
/// [`Self::Running`], [`Self::Complete`], [`Self::Shutdown`] and [`Self::Remove`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Made by an orchestrator.
    New,
    /// Has its addresses and ports; waits for a node.
    Pending,
    /// Has a node.
    Assigned,
    /// The node has taken it.
    Accepted,
    /// The node fetches what it needs.
    Preparing,
    /// It could start.
    Ready,
    /// It is being started.
    Starting,
    /// It runs, and is healthy if it has a check.
    Running,
    /// It has ended as it should.
    Complete,
    /// It was stopped.
    Shutdown,
    /// It has ended as it should not.
    Failed,
    /// The node could not run it.
    Rejected,
    /// It is to be forgotten, because its service is gone or smaller.
    Remove,
    /// Its node has not been heard of for long.
    Orphaned,
}

impl TaskState {
    /// Whether nothing of the task runs any more.
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_after_running_is_terminal() {
        use TaskState::*;
        let living = [New, Pending, Assigned, Accepted, Preparing, Ready, Starting, Running];
        assert!(living.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(living.iter().all(|state| !state.is_terminal()));
        assert!(
            [Complete, Shutdown, Failed, Rejected, Remove, Orphaned].iter().all(|state| state.is_terminal())
        );
    }
}

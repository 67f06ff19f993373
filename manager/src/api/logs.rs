//! Ports: what tasks have written.
//!
//! Start reading at [`Logs`].

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use shoal_types::protocol::{LogLine, LogOptions};

use super::ClusterError;

/// Lines as they come from the nodes; their order between tasks is the order of arrival. A failure that is followed by the end
/// says what could not be had (a node that is not there, a task that has no node).
pub type LineStream = BoxStream<'static, Result<LogLine, ClusterError>>;

/// Logs of tasks, wherever they run.
#[async_trait]
pub trait Logs: Send + Sync {
    /// Reads logs. Dropping the stream ends the reading on every node.
    async fn read(&self, of: LogsOf, options: LogOptions) -> Result<LineStream, ClusterError>;
}

/// Whose logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogsOf {
    /// Of every task of this service, by id, name or beginning of the id.
    Service(String),
    /// Of this task.
    Task(String),
}

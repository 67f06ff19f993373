//! Ports: what has happened to objects of the cluster.
//!
//! Start reading at [`Events`]. Docker's names of actions and attributes are used as they are; that of a kind is the front end's.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use super::ClusterError;

/// What has happened to objects of the cluster, as this manager sees it. Only managers have it.
#[async_trait]
pub trait Events: Send + Sync {
    /// Everything from now on. Ends when this machine is no manager any more; who is too slow misses events.
    async fn subscribe(&self) -> Result<BoxStream<'static, ClusterEvent>, ClusterError>;
}

/// Something that happened to one object of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEvent {
    /// Kind of the object.
    pub kind: ClusterEventKind,
    /// What happened.
    pub action: ClusterAction,
    /// The object's id.
    pub id: String,
    /// Its name, and what has changed as `<key>.old` and `<key>.new`.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Timestamp,
}

/// Kinds of objects that events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterEventKind {
    /// A service.
    Service,
    /// A node.
    Node,
    /// A network.
    Network,
    /// A secret.
    Secret,
    /// A config.
    Config,
}

/// What can happen to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterAction {
    /// It was made.
    Create,
    /// It was changed.
    Update,
    /// It was removed.
    Remove,
}

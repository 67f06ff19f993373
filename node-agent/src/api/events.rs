//! Ports: what has happened.
//!
//! Start reading at [`Events`]. Docker's names of actions and attributes are used as they are, because they are the
//! vocabulary of everybody who listens; their JSON form is the front end's.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

/// The event history and its subscribers. A subscriber that does not keep up loses events; it never holds up anybody.
#[async_trait]
pub trait Events: Send + Sync {
    /// Past events (at most the last 256) and those to come, in one sequence without gap or repetition.
    async fn subscribe(&self, window: EventWindow) -> BoxStream<'static, Arc<Event>>;

    /// How many subscribers there are.
    fn subscribers(&self) -> usize;
}

/// Which time a subscriber is interested in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventWindow {
    /// Past events since then; `None` without `until` begins now.
    pub since: Option<Timestamp>,
    /// The sequence ends then; `None` never ends.
    pub until: Option<Timestamp>,
}

/// Something that happened to one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Kind of the object.
    pub kind: EventKind,
    /// What happened, such as `start` or `exec_create: sh`.
    pub action: String,
    /// Id, or reference, or name of the object.
    pub actor: String,
    /// What is known of it; for containers its labels, image and name too.
    pub attributes: BTreeMap<String, String>,
    /// When.
    pub time: Timestamp,
    /// Where it is known.
    pub scope: EventScope,
}

/// Kinds of objects that events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
    /// The daemon itself.
    Daemon,
    /// A plugin.
    Plugin,
    /// The build cache.
    Builder,
    /// A node of the cluster.
    Node,
    /// A service.
    Service,
    /// A secret.
    Secret,
    /// A config.
    Config,
}

impl EventKind {
    /// The name by which Docker's API knows the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Daemon => "daemon",
            Self::Plugin => "plugin",
            Self::Builder => "builder",
            Self::Node => "node",
            Self::Service => "service",
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }
}

/// Where an event is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventScope {
    /// On this node.
    Local,
    /// On every manager.
    Swarm,
}

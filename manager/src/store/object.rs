//! What the replicated store holds: one kind of object for each noun of the cluster.
//!
//! Start reading at [`Object`]. Objects are shared and never changed in place; a newer one replaces the older. What an object
//! means is said in `shoal_types::cluster`; how they change is [`super::Change`].

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::Meta;
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::node::Node;
use shoal_types::cluster::overlay::Attachment;
use shoal_types::cluster::secret::{Config, Secret};
use shoal_types::cluster::service::Service;
use shoal_types::cluster::settings::{Cluster, JoinTokens};
use shoal_types::cluster::task::Task;
use shoal_types::{ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId};

/// An object of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// The cluster itself; there is one.
    Cluster(Arc<Cluster>),
    /// The cluster's authority and what lets machines join; there is one.
    Authority(Arc<Authority>),
    /// A machine.
    Node(Arc<Node>),
    /// A service.
    Service(Arc<Service>),
    /// A copy of a service.
    Task(Arc<Task>),
    /// A network of the cluster.
    Network(Arc<ClusterNetwork>),
    /// A secret.
    Secret(Arc<Secret>),
    /// A config.
    Config(Arc<Config>),
    /// A certificate that is no longer accepted.
    Revocation(Arc<Revocation>),
    /// A plain container in a network of the cluster.
    Attachment(Arc<Attachment>),
}

/// The kinds of [`Object`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// [`Object::Cluster`].
    Cluster,
    /// [`Object::Authority`].
    Authority,
    /// [`Object::Node`].
    Node,
    /// [`Object::Service`].
    Service,
    /// [`Object::Task`].
    Task,
    /// [`Object::Network`].
    Network,
    /// [`Object::Secret`].
    Secret,
    /// [`Object::Config`].
    Config,
    /// [`Object::Revocation`].
    Revocation,
    /// [`Object::Attachment`].
    Attachment,
}

/// What names an object: its kind and id. Shown as `task/0a1b…`, which is also a fit name for a record on disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Key {
    /// The cluster.
    Cluster,
    /// Its authority.
    Authority,
    /// A node.
    Node(NodeId),
    /// A service.
    Service(ServiceId),
    /// A task.
    Task(TaskId),
    /// A network.
    Network(NetworkId),
    /// A secret.
    Secret(SecretId),
    /// A config.
    Config(ConfigId),
    /// The revocation of a node's certificates.
    Revocation(NodeId),
    /// An attachment.
    Attachment(TaskId),
}

/// The cluster's authority and what lets machines join. It never leaves the managers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Version and times.
    pub meta: Meta,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM; empty when an authority outside the cluster signs.
    pub key: String,
    /// What lets machines join.
    pub tokens: JoinTokens,
    /// The key that locks managers' keys, as the administrator sees it; `None` without autolock.
    pub unlock_key: Option<String>,
    /// The authority that takes over once every node has a certificate of it.
    pub successor: Option<AuthoritySuccessor>,
}

impl fmt::Debug for Authority {
    /// Leaves keys and tokens out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// The authority that takes over from another.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthoritySuccessor {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM; empty when an authority outside the cluster signs.
    pub key: String,
    /// Its certificate signed by the present authority, PEM.
    pub cross_signed: String,
}

impl fmt::Debug for AuthoritySuccessor {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthoritySuccessor").finish_non_exhaustive()
    }
}

/// Says that certificates of a node that was removed are no longer accepted, until they would have expired anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The node.
    pub node: NodeId,
    /// Version and times.
    pub meta: Meta,
    /// When the last of its certificates expires; afterwards this may be forgotten.
    pub until: Timestamp,
}

impl Object {
    /// What names it.
    pub fn key(&self) -> Key {
        match self {
            Self::Cluster(_) => Key::Cluster,
            Self::Authority(_) => Key::Authority,
            Self::Node(node) => Key::Node(node.id),
            Self::Service(service) => Key::Service(service.id),
            Self::Task(task) => Key::Task(task.id),
            Self::Network(network) => Key::Network(network.id.clone()),
            Self::Secret(secret) => Key::Secret(secret.id),
            Self::Config(config) => Key::Config(config.id),
            Self::Revocation(revocation) => Key::Revocation(revocation.node),
            Self::Attachment(attachment) => Key::Attachment(attachment.id),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> ObjectKind {
        self.key().kind()
    }

    /// Its version and times.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Cluster(object) => &object.meta,
            Self::Authority(object) => &object.meta,
            Self::Node(object) => &object.meta,
            Self::Service(object) => &object.meta,
            Self::Task(object) => &object.meta,
            Self::Network(object) => &object.meta,
            Self::Secret(object) => &object.meta,
            Self::Config(object) => &object.meta,
            Self::Revocation(object) => &object.meta,
            Self::Attachment(object) => &object.meta,
        }
    }

    /// Its version and times, to be changed; others who share the object keep what they have.
    pub fn meta_mut(&mut self) -> &mut Meta {
        match self {
            Self::Cluster(object) => &mut Arc::make_mut(object).meta,
            Self::Authority(object) => &mut Arc::make_mut(object).meta,
            Self::Node(object) => &mut Arc::make_mut(object).meta,
            Self::Service(object) => &mut Arc::make_mut(object).meta,
            Self::Task(object) => &mut Arc::make_mut(object).meta,
            Self::Network(object) => &mut Arc::make_mut(object).meta,
            Self::Secret(object) => &mut Arc::make_mut(object).meta,
            Self::Config(object) => &mut Arc::make_mut(object).meta,
            Self::Revocation(object) => &mut Arc::make_mut(object).meta,
            Self::Attachment(object) => &mut Arc::make_mut(object).meta,
        }
    }

    /// The name that no other object of its kind may have; `None` of kinds without such a name.
    pub fn unique_name(&self) -> Option<&str> {
        match self {
            Self::Service(service) => Some(&service.spec.name),
            Self::Network(network) => Some(&network.spec.name),
            Self::Secret(secret) => Some(&secret.spec.name),
            Self::Config(config) => Some(&config.spec.name),
            Self::Cluster(_)
            | Self::Authority(_)
            | Self::Node(_)
            | Self::Task(_)
            | Self::Revocation(_)
            | Self::Attachment(_) => None,
        }
    }
}

/// Makes an [`Object`] of what it wraps.
macro_rules! object_from {
    ($($name:ident),*) => {$(
        impl From<$name> for Object {
            fn from(object: $name) -> Self {
                Self::from(Arc::new(object))
            }
        }
    )*};
}
object_from!(Cluster, Authority, Node, Service, Task, ClusterNetwork, Secret, Config, Revocation, Attachment);

/// Makes an [`Object`] of what it wraps, shared.
macro_rules! object_from_shared {
    ($($variant:ident: $name:ident),*) => {$(
        impl From<Arc<$name>> for Object {
            fn from(object: Arc<$name>) -> Self {
                Self::$variant(object)
            }
        }
    )*};
}
object_from_shared!(
    Cluster: Cluster, Authority: Authority, Node: Node, Service: Service, Task: Task, Network: ClusterNetwork,
    Secret: Secret, Config: Config, Revocation: Revocation, Attachment: Attachment
);

impl Key {
    /// The kind of the object that it names.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Cluster => ObjectKind::Cluster,
            Self::Authority => ObjectKind::Authority,
            Self::Node(_) => ObjectKind::Node,
            Self::Service(_) => ObjectKind::Service,
            Self::Task(_) => ObjectKind::Task,
            Self::Network(_) => ObjectKind::Network,
            Self::Secret(_) => ObjectKind::Secret,
            Self::Config(_) => ObjectKind::Config,
            Self::Revocation(_) => ObjectKind::Revocation,
            Self::Attachment(_) => ObjectKind::Attachment,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Cluster | Self::Authority => write!(f, "{kind}"),
            Self::Node(id) | Self::Revocation(id) => write!(f, "{kind}/{id}"),
            Self::Service(id) => write!(f, "{kind}/{id}"),
            Self::Task(id) | Self::Attachment(id) => write!(f, "{kind}/{id}"),
            Self::Network(id) => write!(f, "{kind}/{id}"),
            Self::Secret(id) => write!(f, "{kind}/{id}"),
            Self::Config(id) => write!(f, "{kind}/{id}"),
        }
    }
}

impl fmt::Display for ObjectKind {
    /// The word that swarm's texts have for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Authority => "authority",
            Self::Node => "node",
            Self::Service => "service",
            Self::Task => "task",
            Self::Network => "network",
            Self::Secret => "secret",
            Self::Config => "config",
            Self::Revocation => "revocation",
            Self::Attachment => "attachment",
        })
    }
}

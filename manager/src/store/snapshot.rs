//! An immutable view of the store.
//!
//! Start reading at [`Snapshot`]. Cloning costs a handful of counted pointers, because the maps share what has not changed;
//! look-ups go through indexes that every change keeps up to date. Pure; changes are in [`super::apply`].

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use rpds::RedBlackTreeMapSync as Map;
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::node::Node;
use shoal_types::cluster::overlay::Attachment;
use shoal_types::cluster::secret::{Config, Secret};
use shoal_types::cluster::service::Service;
use shoal_types::cluster::settings::Cluster;
use shoal_types::cluster::task::{Task, TaskPlace};
use shoal_types::container::networking::Protocol;
use shoal_types::{ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId};

use super::index::Indexes;
use super::load::NodeLoad;
use super::object::{Authority, Key, Object, ObjectKind, Revocation};

/// An immutable view of the store as of one index.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub(super) index: u64,
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) authority: Option<Arc<Authority>>,
    pub(super) nodes: Map<NodeId, Arc<Node>>,
    pub(super) services: Map<ServiceId, Arc<Service>>,
    pub(super) tasks: Map<TaskId, Arc<Task>>,
    pub(super) networks: Map<NetworkId, Arc<ClusterNetwork>>,
    pub(super) secrets: Map<SecretId, Arc<Secret>>,
    pub(super) configs: Map<ConfigId, Arc<Config>>,
    pub(super) revocations: Map<NodeId, Arc<Revocation>>,
    pub(super) attachments: Map<TaskId, Arc<Attachment>>,
    pub(super) indexes: Indexes,
    /// What the last changes concerned, by index.
    pub(super) recent: Map<u64, Arc<[Key]>>,
    /// The index since which `recent` is complete.
    pub(super) recent_since: u64,
}

impl Snapshot {
    /// The store that holds these objects, as of `index`; how a store is read from disk or taken over from another manager.
    pub fn from_objects(index: u64, objects: impl IntoIterator<Item = Object>) -> Self {
        let mut snapshot = Self { index, recent_since: index, ..Self::default() };
        for object in objects {
            snapshot.put(object);
        }
        snapshot
    }

    /// The index as of which it is.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Every object, kind by kind.
    pub fn objects(&self) -> impl Iterator<Item = Object> + '_ {
        let cluster = self.cluster.iter().cloned().map(Object::Cluster);
        let authority = self.authority.iter().cloned().map(Object::Authority);
        cluster
            .chain(authority)
            .chain(self.nodes.values().cloned().map(Object::Node))
            .chain(self.networks.values().cloned().map(Object::Network))
            .chain(self.secrets.values().cloned().map(Object::Secret))
            .chain(self.configs.values().cloned().map(Object::Config))
            .chain(self.services.values().cloned().map(Object::Service))
            .chain(self.tasks.values().cloned().map(Object::Task))
            .chain(self.revocations.values().cloned().map(Object::Revocation))
            .chain(self.attachments.values().cloned().map(Object::Attachment))
    }

    /// The newest time at which an object was changed. Looks at every object.
    pub fn newest_time(&self) -> Timestamp {
        self.objects().map(|object| object.meta().updated).max().unwrap_or(Timestamp::MIN)
    }

    /// The object of that name.
    pub fn get(&self, key: &Key) -> Option<Object> {
        match key {
            Key::Cluster => self.cluster.clone().map(Object::Cluster),
            Key::Authority => self.authority.clone().map(Object::Authority),
            Key::Node(id) => self.nodes.get(id).cloned().map(Object::Node),
            Key::Service(id) => self.services.get(id).cloned().map(Object::Service),
            Key::Task(id) => self.tasks.get(id).cloned().map(Object::Task),
            Key::Network(id) => self.networks.get(id).cloned().map(Object::Network),
            Key::Secret(id) => self.secrets.get(id).cloned().map(Object::Secret),
            Key::Config(id) => self.configs.get(id).cloned().map(Object::Config),
            Key::Revocation(id) => self.revocations.get(id).cloned().map(Object::Revocation),
            Key::Attachment(id) => self.attachments.get(id).cloned().map(Object::Attachment),
        }
    }

    /// What has changed after `index`, in order and with repetitions; `None` if that is too long ago, and everything must be
    /// looked at.
    pub fn changed_since(&self, index: u64) -> Option<impl Iterator<Item = &Key>> {
        (index >= self.recent_since)
            .then(|| self.recent.range(index.saturating_add(1)..).flat_map(|(_, keys)| keys.iter()))
    }

    /// The cluster itself; `None` only before its first moment.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// The cluster's authority.
    pub fn authority(&self) -> Option<&Arc<Authority>> {
        self.authority.as_ref()
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// All nodes, in order of id.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// How many nodes there are.
    pub fn n_nodes(&self) -> usize {
        self.nodes.size()
    }

    /// Nodes that call themselves `hostname`.
    pub fn nodes_by_hostname(&self, hostname: &str) -> impl Iterator<Item = &Arc<Node>> {
        let hostname: Arc<str> = hostname.into();
        let start = (hostname.clone(), NodeId::from_u128(0));
        self.indexes
            .hostnames
            .range(start..)
            .take_while(move |(name, _)| *name == hostname)
            .filter_map(|(_, id)| self.nodes.get(id))
    }

    /// What tasks take of a node; `None` if nothing.
    pub fn load(&self, node: NodeId) -> Option<&NodeLoad> {
        self.indexes.loads.get(&node).map(Arc::as_ref)
    }

    /// A service.
    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    /// All services, in order of id.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The service that publishes a port on every node.
    pub fn service_of_port(&self, protocol: Protocol, port: u16) -> Option<ServiceId> {
        self.indexes.ports.get(&(protocol, port)).copied()
    }

    /// Services that publish a port on the nodes of their tasks.
    pub fn services_of_host_port(
        &self,
        protocol: Protocol,
        port: u16,
    ) -> impl Iterator<Item = ServiceId> + '_ {
        self.indexes
            .host_ports
            .range((protocol, port, ServiceId::from_u128(0))..)
            .take_while(move |&&(other, number, _)| (other, number) == (protocol, port))
            .map(|&(_, _, service)| service)
    }

    /// A task.
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// All tasks, in order of id.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// How many tasks there are.
    pub fn n_tasks(&self) -> usize {
        self.tasks.size()
    }

    /// Tasks of a service, in order of place.
    pub fn tasks_of(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        let start = (service, TaskPlace::Slot(0), TaskId::from_u128(0));
        self.indexes
            .places
            .range(start..)
            .take_while(move |(owner, _, _)| *owner == service)
            .filter_map(|(_, _, id)| self.tasks.get(id))
    }

    /// Tasks in one place of a service.
    pub fn tasks_in(&self, service: ServiceId, place: TaskPlace) -> impl Iterator<Item = &Arc<Task>> {
        self.indexes
            .places
            .range((service, place, TaskId::from_u128(0))..)
            .take_while(move |(owner, here, _)| *owner == service && *here == place)
            .filter_map(|(_, _, id)| self.tasks.get(id))
    }

    /// Services that have tasks, whether or not they exist any more.
    pub fn services_with_tasks(&self) -> impl Iterator<Item = ServiceId> + '_ {
        let mut next = Some(ServiceId::from_u128(0));
        std::iter::from_fn(move || {
            let start = (next?, TaskPlace::Slot(0), TaskId::from_u128(0));
            let (service, _, _) = self.indexes.places.range(start..).next()?;
            next = service.as_u128().checked_add(1).map(ServiceId::from_u128);
            Some(*service)
        })
    }

    /// Tasks that were given to a node.
    pub fn tasks_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.indexes
            .by_node
            .range((node, TaskId::from_u128(0))..)
            .take_while(move |(owner, _)| *owner == node)
            .filter_map(|(_, id)| self.tasks.get(id))
    }

    /// Tasks that wait for the allocator, service by service.
    pub fn unallocated_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.indexes.unallocated.iter().filter_map(|(_, id)| self.tasks.get(id))
    }

    /// Tasks that wait for the scheduler, those of one version of a service's spec one after the other.
    pub fn unassigned_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.indexes.unassigned.iter().filter_map(|(_, _, id)| self.tasks.get(id))
    }

    /// Tasks that have ended and are to be forgotten.
    pub fn disposable_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.indexes.disposable.iter().filter_map(|id| self.tasks.get(id))
    }

    /// A plain container in a network of the cluster.
    pub fn attachment(&self, id: TaskId) -> Option<&Arc<Attachment>> {
        self.attachments.get(&id)
    }

    /// Plain containers of a node that are in networks of the cluster.
    pub fn attachments_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Attachment>> {
        self.indexes
            .attached
            .range((node, TaskId::from_u128(0))..)
            .take_while(move |(owner, _)| *owner == node)
            .filter_map(|(_, id)| self.attachments.get(id))
    }

    /// Whether any service publishes a port on every node.
    pub fn has_ingress_ports(&self) -> bool {
        !self.indexes.ports.is_empty()
    }

    /// A network.
    pub fn network(&self, id: &NetworkId) -> Option<&Arc<ClusterNetwork>> {
        self.networks.get(id)
    }

    /// All networks, in order of id.
    pub fn networks(&self) -> impl Iterator<Item = &Arc<ClusterNetwork>> {
        self.networks.values()
    }

    /// Whether nobody has this address of a network.
    pub fn is_free_address(&self, network: &NetworkId, address: IpAddr) -> bool {
        !self.indexes.addresses.contains_key(&(network.clone(), address))
    }

    /// Who has addresses of a network: the network itself its gateways, services, tasks, attachments, nodes.
    pub fn addresses_of(&self, network: &NetworkId) -> impl Iterator<Item = (IpAddr, &Key)> {
        let network = network.clone();
        let start = (network.clone(), IpAddr::from([0, 0, 0, 0]));
        self.indexes
            .addresses
            .range(start..)
            .take_while(move |((owner, _), _)| *owner == network)
            .map(|((_, address), key)| (*address, key))
    }

    /// Whether no network has this VXLAN network identifier.
    pub fn is_free_vni(&self, vni: u32) -> bool {
        !self.indexes.vnis.contains_key(&vni)
    }

    /// A secret.
    pub fn secret(&self, id: SecretId) -> Option<&Arc<Secret>> {
        self.secrets.get(&id)
    }

    /// All secrets, in order of id.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.secrets.values()
    }

    /// A config.
    pub fn config(&self, id: ConfigId) -> Option<&Arc<Config>> {
        self.configs.get(&id)
    }

    /// All configs, in order of id.
    pub fn configs(&self) -> impl Iterator<Item = &Arc<Config>> {
        self.configs.values()
    }

    /// The revocation of a node's certificates.
    pub fn revocation(&self, node: NodeId) -> Option<&Arc<Revocation>> {
        self.revocations.get(&node)
    }

    /// All revocations.
    pub fn revocations(&self) -> impl Iterator<Item = &Arc<Revocation>> {
        self.revocations.values()
    }

    /// The object of a kind with unique names that has this one.
    pub fn by_name(&self, kind: ObjectKind, name: &str) -> Option<&Key> {
        self.indexes.names.get(&(kind, Arc::from(name)))
    }
}

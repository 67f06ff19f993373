//! Indexes over the objects: who has a name, which tasks a service or node has, what waits for a decision, what is taken.
//!
//! Start reading at [`Indexes`]. They are derived from the objects alone and never stored; [`Indexes::add`] and
//! [`Indexes::remove`] are exact opposites, so the cost of a change does not depend on the size of the cluster. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use rpds::{RedBlackTreeMapSync as Map, RedBlackTreeSetSync as Set};
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::node::Node;
use shoal_types::cluster::overlay::Attachment;
use shoal_types::cluster::service::{PublishMode, Service};
use shoal_types::cluster::task::{Task, TaskPlace};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::container::networking::Protocol;
use shoal_types::{NetworkId, NodeId, ServiceId, TaskId};

use super::load::{self, NodeLoad};
use super::object::{Key, Object, ObjectKind};

/// What can be asked of the objects without looking at all of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Indexes {
    /// Who has a name.
    pub(super) names: Map<(ObjectKind, Arc<str>), Key>,
    /// Nodes by host name, which is not unique.
    pub(super) hostnames: Set<(Arc<str>, NodeId)>,
    /// Tasks of a service, in order of place.
    pub(super) places: Set<(ServiceId, TaskPlace, TaskId)>,
    /// Tasks of a node.
    pub(super) by_node: Set<(NodeId, TaskId)>,
    /// Attachments of a node.
    pub(super) attached: Set<(NodeId, TaskId)>,
    /// Tasks that wait for the allocator, by service.
    pub(super) unallocated: Set<(ServiceId, TaskId)>,
    /// Tasks that wait for the scheduler, by version of a service's spec.
    pub(super) unassigned: Set<(ServiceId, u64, TaskId)>,
    /// Tasks that have ended and are to be forgotten.
    pub(super) disposable: Set<TaskId>,
    /// Who publishes a port on every node.
    pub(super) ports: Map<(Protocol, u16), ServiceId>,
    /// Who publishes a port on the nodes of its tasks.
    pub(super) host_ports: Set<(Protocol, u16, ServiceId)>,
    /// Who has an address of a network.
    pub(super) addresses: Map<(NetworkId, IpAddr), Key>,
    /// Which VXLAN network identifiers are given out.
    pub(super) vnis: Map<u32, NetworkId>,
    /// What tasks take of nodes.
    pub(super) loads: Map<NodeId, Arc<NodeLoad>>,
}

impl Indexes {
    /// Adds what an object contributes.
    pub(super) fn add(&mut self, object: &Object) {
        if let Some(name) = object.unique_name() {
            self.names.insert_mut((object.kind(), name.into()), object.key());
        }
        match object {
            Object::Node(node) => {
                if let Some(hostname) = hostname(node) {
                    self.hostnames.insert_mut((hostname, node.id));
                }
                for address in node_addresses(node) {
                    self.addresses.insert_mut(address, Key::Node(node.id));
                }
            }
            Object::Service(service) => self.add_service(service),
            Object::Task(task) => self.add_task(task),
            Object::Network(network) => {
                for pool in network.allocation.iter().flat_map(|allocation| &allocation.pools) {
                    self.addresses
                        .insert_mut((network.id.clone(), pool.gateway), Key::Network(network.id.clone()));
                }
                for vni in vnis(network) {
                    self.vnis.insert_mut(vni, network.id.clone());
                }
            }
            Object::Attachment(attachment) => {
                self.attached.insert_mut((attachment.node, attachment.id));
                for address in attachment_addresses(attachment) {
                    self.addresses.insert_mut(address, Key::Attachment(attachment.id));
                }
            }
            Object::Cluster(_)
            | Object::Authority(_)
            | Object::Secret(_)
            | Object::Config(_)
            | Object::Revocation(_) => {}
        }
    }

    /// Takes away what an object has contributed and adds what its later form does, if that is something else: most changes are
    /// reports of tasks, and of these only the first and the last concern anything here.
    pub(super) fn exchange(&mut self, before: &Object, after: &Object) {
        if let (Object::Task(before), Object::Task(after)) = (before, after)
            && contributes_the_same(before, after)
        {
            return;
        }
        self.remove(before);
        self.add(after);
    }

    /// Takes away what an object has contributed in this form.
    pub(super) fn remove(&mut self, object: &Object) {
        if let Some(name) = object.unique_name() {
            self.names.remove_mut(&(object.kind(), Arc::<str>::from(name)));
        }
        match object {
            Object::Node(node) => {
                if let Some(hostname) = hostname(node) {
                    self.hostnames.remove_mut(&(hostname, node.id));
                }
                for address in node_addresses(node) {
                    self.addresses.remove_mut(&address);
                }
            }
            Object::Service(service) => self.remove_service(service),
            Object::Task(task) => self.remove_task(task),
            Object::Network(network) => {
                for pool in network.allocation.iter().flat_map(|allocation| &allocation.pools) {
                    self.addresses.remove_mut(&(network.id.clone(), pool.gateway));
                }
                for vni in vnis(network) {
                    self.vnis.remove_mut(&vni);
                }
            }
            Object::Attachment(attachment) => {
                self.attached.remove_mut(&(attachment.node, attachment.id));
                for address in attachment_addresses(attachment) {
                    self.addresses.remove_mut(&address);
                }
            }
            Object::Cluster(_)
            | Object::Authority(_)
            | Object::Secret(_)
            | Object::Config(_)
            | Object::Revocation(_) => {}
        }
    }

    /// Remembers that a task has failed on its node.
    pub(super) fn note_failure(&mut self, task: &Task, at: jiff::Timestamp) {
        if let Some(node) = task.node {
            self.change_load(node, |load| load.note_failure(task, at));
        }
    }

    fn add_service(&mut self, service: &Service) {
        for port in ingress_ports(service) {
            self.ports.insert_mut(port, service.id);
        }
        for (protocol, port) in service_host_ports(service) {
            self.host_ports.insert_mut((protocol, port, service.id));
        }
        for (network, address) in &service.endpoint.virtual_ips {
            self.addresses.insert_mut((network.clone(), address.addr()), Key::Service(service.id));
        }
    }

    fn remove_service(&mut self, service: &Service) {
        for port in ingress_ports(service) {
            self.ports.remove_mut(&port);
        }
        for (protocol, port) in service_host_ports(service) {
            self.host_ports.remove_mut(&(protocol, port, service.id));
        }
        for (network, address) in &service.endpoint.virtual_ips {
            self.addresses.remove_mut(&(network.clone(), address.addr()));
        }
    }

    fn add_task(&mut self, task: &Task) {
        self.places.insert_mut((task.service, task.place, task.id));
        if let Some(node) = task.node {
            self.by_node.insert_mut((node, task.id));
            self.change_load(node, |load| load.add(task));
        }
        match waits_for(task) {
            Some(Waiting::Allocation) => self.unallocated.insert_mut((task.service, task.id)),
            Some(Waiting::Node) => self.unassigned.insert_mut((task.service, task.spec_version, task.id)),
            Some(Waiting::Disposal) => self.disposable.insert_mut(task.id),
            None => {}
        }
        for (network, address) in addresses(task) {
            self.addresses.insert_mut((network, address), Key::Task(task.id));
        }
    }

    fn remove_task(&mut self, task: &Task) {
        self.places.remove_mut(&(task.service, task.place, task.id));
        if let Some(node) = task.node {
            self.by_node.remove_mut(&(node, task.id));
            self.change_load(node, |load| load.remove(task));
        }
        match waits_for(task) {
            Some(Waiting::Allocation) => self.unallocated.remove_mut(&(task.service, task.id)),
            Some(Waiting::Node) => self.unassigned.remove_mut(&(task.service, task.spec_version, task.id)),
            Some(Waiting::Disposal) => self.disposable.remove_mut(&task.id),
            None => false,
        };
        for (network, address) in addresses(task) {
            self.addresses.remove_mut(&(network, address));
        }
    }

    fn change_load(&mut self, node: NodeId, change: impl FnOnce(&mut NodeLoad)) {
        let mut load = self.loads.get(&node).map_or_else(NodeLoad::default, |load| NodeLoad::clone(load));
        change(&mut load);
        if load.is_empty() {
            self.loads.remove_mut(&node);
        } else {
            self.loads.insert_mut(node, Arc::new(load));
        }
    }
}

/// Whether the later form of a task stands in every index as the one before does.
fn contributes_the_same(before: &Task, after: &Task) -> bool {
    (before.service, before.place, before.node) == (after.service, after.place, after.node)
        && (before.spec_version, waits_for(before)) == (after.spec_version, waits_for(after))
        && load::is_same(before, after)
        && addresses(before).eq(addresses(after))
}

/// What a task waits for that a loop of the leader does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Allocation,
    Node,
    Disposal,
}

fn waits_for(task: &Task) -> Option<Waiting> {
    let never_ran = task.status.state < TaskState::Assigned;
    if task.desired >= TaskState::Remove && (never_ran || task.status.state.is_terminal()) {
        return Some(Waiting::Disposal);
    }
    match task.status.state {
        TaskState::New if task.is_wanted() => Some(Waiting::Allocation),
        TaskState::Pending if task.is_wanted() => Some(Waiting::Node),
        _ => None,
    }
}

fn hostname(node: &Node) -> Option<Arc<str>> {
    node.description.as_ref().map(|description| description.hostname.as_str().into())
}

/// Ports that a service publishes on every node: those that it asks for by number, and those that it was given.
pub(super) fn ingress_ports(service: &Service) -> impl Iterator<Item = (Protocol, u16)> + '_ {
    service
        .spec
        .endpoint
        .ports
        .iter()
        .chain(&service.endpoint.ports)
        .filter(|port| port.mode == PublishMode::Ingress && port.published != 0)
        .map(|port| (port.protocol, port.published))
}

fn service_host_ports(service: &Service) -> impl Iterator<Item = (Protocol, u16)> + '_ {
    service
        .spec
        .endpoint
        .ports
        .iter()
        .filter(|port| port.mode == PublishMode::Host && port.published != 0)
        .map(|port| (port.protocol, port.published))
}

pub(super) fn vnis(network: &ClusterNetwork) -> impl Iterator<Item = u32> + '_ {
    network
        .allocation
        .iter()
        .flat_map(|allocation| &allocation.pools)
        .map(|pool| pool.vni)
        .filter(|&vni| vni != 0)
}

/// Addresses that a task holds: until nothing of it runs any more.
pub(super) fn addresses(task: &Task) -> impl Iterator<Item = (NetworkId, IpAddr)> + '_ {
    let never_ran = task.status.state < TaskState::Assigned && !task.is_wanted();
    task.networks.iter().filter(move |_| !never_ran && !task.status.state.is_terminal()).flat_map(
        |attachment| attachment.addresses.iter().map(|address| (attachment.network.clone(), address.addr())),
    )
}

/// Addresses that a node itself holds.
pub(super) fn node_addresses(node: &Node) -> impl Iterator<Item = (NetworkId, IpAddr)> + '_ {
    node.attachments.iter().flat_map(|attachment| {
        attachment.addresses.iter().map(|address| (attachment.network.clone(), address.addr()))
    })
}

/// Addresses that a plain container holds.
pub(super) fn attachment_addresses(
    attachment: &Attachment,
) -> impl Iterator<Item = (NetworkId, IpAddr)> + '_ {
    attachment.addresses.iter().map(|address| (attachment.network.clone(), address.addr()))
}

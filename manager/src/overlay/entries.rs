//! One entry of a network's table, from what the store says. Pure.
//!
//! Start reading at [`entry`], then [`touched`], which tells what a change of the store may have changed in tables. An entry depends
//! on nothing but the objects that its key and network name, so both stay in step by looking at the same few objects.

use std::collections::BTreeSet;

use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::node::{DataPathKey, Node, NodeState};
use shoal_types::cluster::overlay::{
    AFFINITY_LABEL, Affinity, Attachment, ClientSource, EntryKey, INGRESS_CLIENT_LABEL, OVERLAY_DRIVER,
    OverlayEntry, OverlayKeys, OverlayNetwork, OverlayPeer, OverlayService, PeerState, is_encrypted,
};
use shoal_types::cluster::service::{PublishMode, ResolutionMode, Service};
use shoal_types::cluster::task::{Task, TaskAttachment};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::network::{Network, PoolSpec};
use shoal_types::{NetworkId, NodeId, TaskId};

use crate::store::{Key, Snapshot};

/// A network as a node is told of it; `None` if it spans no nodes, or has nothing yet.
pub(crate) fn network(view: &Snapshot, network: &ClusterNetwork, node: NodeId) -> Option<OverlayNetwork> {
    if network.spec.driver != OVERLAY_DRIVER {
        return None;
    }
    let pools = network.allocation.as_ref()?.pools.clone();
    let mut spec = network.spec.clone();
    spec.ipam.pools = pools
        .iter()
        .map(|pool| PoolSpec {
            subnet: Some(pool.subnet),
            range: pool.range,
            gateway: Some(pool.gateway),
            auxiliary: Default::default(),
        })
        .collect();
    let own = view.node(node).into_iter().flat_map(|node| &node.attachments);
    let own = own.filter(|attachment| attachment.network == network.id);
    Some(OverlayNetwork {
        network: Network { id: network.id.clone(), spec, created: network.meta.created },
        pools,
        port: view.cluster().map_or(0, |cluster| cluster.data_path_port),
        node_addresses: own.flat_map(|attachment| attachment.addresses.clone()).collect(),
    })
}

/// The networks of which a node must know: those of its tasks until nothing of them runs, of its attached containers, and
/// ingress if the node has an address there.
pub(crate) fn networks_of(view: &Snapshot, node: NodeId) -> BTreeSet<NetworkId> {
    let tasks = view.tasks_on(node).filter(|task| runs_or_will(task)).flat_map(|task| &task.networks);
    let mut networks: BTreeSet<NetworkId> = tasks.map(|attachment| &attachment.network).cloned().collect();
    networks.extend(view.attachments_on(node).map(|attachment| attachment.network.clone()));
    if view.has_ingress_ports() {
        let own = view.node(node).into_iter().flat_map(|node| &node.attachments);
        networks.extend(own.map(|attachment| attachment.network.clone()));
    }
    networks.retain(|id| view.network(id).is_some_and(|network| network.spec.driver == OVERLAY_DRIVER));
    networks
}

fn runs_or_will(task: &Task) -> bool {
    task.status.state >= TaskState::Assigned && !task.status.state.is_terminal()
}

/// The entry of that key in a network, as the store is.
pub(crate) fn entry(view: &Snapshot, network: &NetworkId, key: EntryKey) -> Option<OverlayEntry> {
    match key {
        EntryKey::Task(id) => {
            let of_task = || peer_of_task(view, network, view.task(id)?);
            of_task().or_else(|| peer_of_attachment(view, network, id)).map(OverlayEntry::Peer)
        }
        EntryKey::Node(id) => peer_of_node(network, view.node(id)?).map(OverlayEntry::Peer),
        EntryKey::Service(id) => {
            service_in(view.network(network)?, view.service(id)?).map(OverlayEntry::Service)
        }
        EntryKey::Keys(id) => keys_of_node(view, network, id).map(OverlayEntry::Keys),
    }
}

/// The keys that may have an entry in a network.
pub(crate) fn keys_in(view: &Snapshot, network: &NetworkId) -> BTreeSet<EntryKey> {
    let mut keys = BTreeSet::new();
    for (_, owner) in view.addresses_of(network) {
        match owner {
            Key::Task(id) => {
                keys.insert(EntryKey::Task(*id));
                keys.extend(view.task(*id).map(|task| EntryKey::Service(task.service)));
                keys.extend(view.task(*id).and_then(|task| task.node).map(EntryKey::Keys));
            }
            Key::Attachment(id) => {
                keys.insert(EntryKey::Task(*id));
                keys.extend(view.attachment(*id).map(|attachment| EntryKey::Keys(attachment.node)));
            }
            Key::Service(id) => drop(keys.insert(EntryKey::Service(*id))),
            Key::Node(id) => keys.extend([EntryKey::Node(*id), EntryKey::Keys(*id)]),
            _ => {}
        }
    }
    keys
}

/// The entries that a change of `key` from one view to the other may have changed.
pub(crate) fn touched(before: &Snapshot, after: &Snapshot, key: &Key) -> Vec<(NetworkId, EntryKey)> {
    let both = [before, after];
    match key {
        Key::Task(id) => {
            both.iter().filter_map(|view| view.task(*id)).flat_map(|task| of_task(task)).collect()
        }
        Key::Attachment(id) => {
            let attachments = both.iter().filter_map(|view| view.attachment(*id));
            let of = |attachment: &Attachment| {
                let keys = [EntryKey::Task(*id), EntryKey::Keys(attachment.node)];
                keys.map(|key| (attachment.network.clone(), key))
            };
            attachments.flat_map(|attachment| of(attachment)).collect()
        }
        Key::Service(id) => {
            let services = both.iter().filter_map(|view| view.service(*id));
            let networks = services.flat_map(|service| networks_of_service(service));
            networks.map(|network| (network, EntryKey::Service(*id))).collect()
        }
        Key::Node(id) => of_node(before, after, *id),
        _ => Vec::new(),
    }
}

fn of_task(task: &Task) -> Vec<(NetworkId, EntryKey)> {
    let keys = [EntryKey::Task(task.id), EntryKey::Service(task.service)];
    let keys: Vec<EntryKey> = keys.into_iter().chain(task.node.map(EntryKey::Keys)).collect();
    let all = |network: &NetworkId| keys.iter().map(|key| (network.clone(), *key)).collect::<Vec<_>>();
    task.networks.iter().flat_map(|attachment| all(&attachment.network)).collect()
}

fn networks_of_service(service: &Service) -> BTreeSet<NetworkId> {
    let given = service.endpoint.virtual_ips.iter().map(|(network, _)| network.clone());
    given
        .chain(service.spec.template.networks.iter().map(|wish| NetworkId::new(wish.target.as_str())))
        .collect()
}

fn of_node(before: &Snapshot, after: &Snapshot, id: NodeId) -> Vec<(NetworkId, EntryKey)> {
    let (was, is) = (before.node(id), after.node(id));
    let own = [was, is].into_iter().flatten().flat_map(|node| &node.attachments);
    let own_keys = [EntryKey::Node(id), EntryKey::Keys(id)];
    let mut touched: Vec<_> =
        own.flat_map(|attachment| own_keys.map(|key| (attachment.network.clone(), key))).collect();
    if was.map(|node| tunnel_keys(node)) != is.map(|node| tunnel_keys(node)) {
        let networks = networks_of(after, id).into_iter();
        touched.extend(networks.map(|network| (network, EntryKey::Keys(id))));
    }
    if was.and_then(|node| node.vtep()) != is.and_then(|node| node.vtep()) {
        touched.extend(after.tasks_on(id).flat_map(|task| of_task(task)));
        let attachments = after.attachments_on(id);
        touched.extend(attachments.flat_map(|other| {
            [EntryKey::Task(other.id), EntryKey::Keys(id)].map(|key| (other.network.clone(), key))
        }));
    }
    touched
}

fn peer_of_task(view: &Snapshot, network: &NetworkId, task: &Task) -> Option<OverlayPeer> {
    let attachment = task.networks.iter().find(|attachment| attachment.network == *network)?;
    let node = task.node.filter(|_| runs_or_will(task))?;
    let container = task.status.container.map(|container| container.id);
    let state = match task.status.state {
        _ if task.desired > TaskState::Complete => PeerState::Draining,
        TaskState::Running => PeerState::Serving,
        _ => PeerState::Starting,
    };
    Some(OverlayPeer {
        key: EntryKey::Task(task.id),
        addresses: some(&attachment.addresses)?,
        vtep: view.node(node)?.vtep()?,
        node,
        name: task.name(),
        aliases: container.iter().map(|container| container.short()).collect(),
        service: Some(task.service),
        container,
        state,
    })
}

fn peer_of_attachment(view: &Snapshot, network: &NetworkId, id: TaskId) -> Option<OverlayPeer> {
    let attachment = view.attachment(id).filter(|attachment| attachment.network == *network)?;
    Some(OverlayPeer {
        key: EntryKey::Task(id),
        addresses: some(&attachment.addresses)?,
        vtep: view.node(attachment.node)?.vtep()?,
        node: attachment.node,
        name: attachment.name.clone(),
        aliases: attachment.aliases.clone(),
        service: None,
        container: Some(attachment.container),
        state: PeerState::Serving,
    })
}

fn peer_of_node(network: &NetworkId, node: &Node) -> Option<OverlayPeer> {
    let attachment = node.attachments.iter().find(|attachment| attachment.network == *network)?;
    Some(OverlayPeer {
        key: EntryKey::Node(node.id),
        addresses: some(&attachment.addresses)?,
        vtep: node.vtep()?,
        node: node.id,
        name: String::new(),
        aliases: Vec::new(),
        service: None,
        container: None,
        state: PeerState::Serving,
    })
}

fn tunnel_keys(node: &Node) -> &[DataPathKey] {
    node.description.as_ref().map_or(&[], |description| &description.data_path_keys)
}

/// Those of the keys that a node says are its own which no other node that is there has said before.
///
/// A key that two nodes claim is used for neither, so that one of them could silence the other.
pub(crate) fn keys_of_its_own(view: &Snapshot, id: NodeId, said: Vec<DataPathKey>) -> Vec<DataPathKey> {
    let is_others = |said: &DataPathKey| {
        view.nodes().any(|other| {
            other.id != id
                && other.status.state == NodeState::Ready
                && tunnel_keys(other).iter().any(|key| key.public == said.public)
        })
    };
    let (others, own): (Vec<DataPathKey>, Vec<DataPathKey>) = said.into_iter().partition(is_others);
    if !others.is_empty() {
        tracing::warn!(node.id = %id, "node claims keys of another node's end of tunnels: they are not told to anybody");
    }
    own
}

/// The keys of a node that has anybody in a network whose frames cannot be read.
fn keys_of_node(view: &Snapshot, network: &NetworkId, id: NodeId) -> Option<OverlayKeys> {
    view.network(network).filter(|network| is_encrypted(&network.spec))?;
    let node = view.node(id)?;
    let keys = tunnel_keys(node);
    let is_peer = |attachments: &[TaskAttachment]| attachments.iter().any(|one| one.network == *network);
    let has_peers = view.tasks_on(id).any(|task| runs_or_will(task) && is_peer(&task.networks))
        || view.attachments_on(id).any(|attachment| attachment.network == *network)
        || is_peer(&node.attachments);
    (has_peers && !keys.is_empty()).then_some(())?;
    Some(OverlayKeys { node: id, vtep: node.vtep()?, keys: keys.to_vec() })
}

fn service_in(network: &ClusterNetwork, service: &Service) -> Option<OverlayService> {
    let here = service.endpoint.virtual_ips.iter().filter(|(id, _)| *id == network.id);
    let vips: Vec<ipnet::IpNet> = here.map(|(_, vip)| *vip).collect();
    let wish = service.spec.template.networks.iter().find(|wish| wish.target == network.id.as_str());
    let is_dnsrr = service.spec.endpoint.resolution == ResolutionMode::Dnsrr;
    if vips.is_empty() && !(is_dnsrr && wish.is_some()) {
        return None;
    }
    let published = service.endpoint.ports.iter().filter(|port| port.mode == PublishMode::Ingress);
    Some(OverlayService {
        id: service.id,
        name: service.spec.name.clone(),
        aliases: wish.map(|wish| wish.aliases.clone()).unwrap_or_default(),
        vips,
        affinity: affinity(service),
        ports: published.filter(|_| network.spec.ingress).cloned().collect(),
        client: match service.spec.labels.get(INGRESS_CLIENT_LABEL).map(String::as_str) {
            Some("node") => ClientSource::Node,
            _ => ClientSource::Kept,
        },
    })
}

fn affinity(service: &Service) -> Affinity {
    match service.spec.labels.get(AFFINITY_LABEL).map(String::as_str) {
        Some("client") => Affinity::ClientAddress,
        _ => Affinity::None,
    }
}

fn some(addresses: &[ipnet::IpNet]) -> Option<Vec<ipnet::IpNet>> {
    (!addresses.is_empty()).then(|| addresses.to_vec())
}

#[cfg(test)]
mod tests;

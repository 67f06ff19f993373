//! Networks that span nodes, as the nodes that take part in them are told of them.
//!
//! Start reading at [`OverlayNetwork`] and [`OverlayEntry`]: managers derive a table of entries for each network from what the
//! cluster wants and has observed, and nodes make links, names and load balancing of it. An entry stands by itself and has a
//! key, so one moved task is one small change. [`Attachment`] is what the cluster keeps of a plain container that takes part.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Meta;
use super::network::AllocatedPool;
use super::node::DataPathKey;
use super::service::PublishedServicePort;
use crate::ids::{ContainerId, NetworkId, NodeId, ServiceId, TaskId};
use crate::network::{Network, NetworkSpec};

/// Name of the driver whose networks span nodes.
pub const OVERLAY_DRIVER: &str = "overlay";

/// Label of a service by which clients stay with the task that answered them first: `client` is by the client's address.
pub const AFFINITY_LABEL: &str = "io.shoal.affinity";

/// Label of a service by which its tasks see the address of a node instead of the client's, at ports that are published on
/// every node: `node`.
pub const INGRESS_CLIENT_LABEL: &str = "io.shoal.ingress.client";

/// Option of a network by which its frames cannot be read between nodes. It is swarm's.
pub const ENCRYPTED_OPTION: &str = "encrypted";

/// A network that spans nodes, as one of its nodes is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayNetwork {
    /// The network, its pools filled in from what it was given.
    pub network: Network,
    /// Its subnets with their identifiers.
    pub pools: Vec<AllocatedPool>,
    /// UDP port of the cluster's data path.
    pub port: u16,
    /// The addresses that the node itself has in it: only in the ingress network, from where it reaches tasks for clients of
    /// published ports.
    pub node_addresses: Vec<IpNet>,
}

/// One entry of a network's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlayEntry {
    /// Somebody with addresses in the network.
    Peer(OverlayPeer),
    /// A service that is reached in the network.
    Service(OverlayService),
    /// The keys of a node; only in encrypted networks, of nodes that have peers there.
    Keys(OverlayKeys),
}

/// Names an entry within its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKey {
    /// A task, or an attachment: their ids never meet.
    Task(TaskId),
    /// A node that has addresses of its own.
    Node(NodeId),
    /// A service.
    Service(ServiceId),
    /// The keys of a node.
    Keys(NodeId),
}

/// Somebody with addresses in a network: a task, a plain container, a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayPeer {
    /// Names the entry; never [`EntryKey::Service`] or [`EntryKey::Keys`].
    pub key: EntryKey,
    /// Its addresses, with the prefix of their subnet.
    pub addresses: Vec<IpNet>,
    /// Address of its node's end of the tunnels.
    pub vtep: IpAddr,
    /// Its node.
    pub node: NodeId,
    /// Its name: `service.slot.id` of a task.
    pub name: String,
    /// Further names that lead to it alone.
    pub aliases: Vec<String>,
    /// The service that it is a task of; `None` of others.
    pub service: Option<ServiceId>,
    /// The container, once it is known.
    pub container: Option<ContainerId>,
    /// Whether anybody is led to it.
    pub state: PeerState,
}

/// The keys of a node that is in an encrypted network. That they are its own is vouched for by the managers: it has told
/// them in a session that its certificate has opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayKeys {
    /// The node.
    pub node: NodeId,
    /// Address of its end of the tunnels.
    pub vtep: IpAddr,
    /// Its keys, newest first.
    pub keys: Vec<DataPathKey>,
}

/// Whether anybody is led to a peer by a name or by a service's address. It is reachable at its own address in every state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// Not yet: its task is not running or not yet healthy.
    Starting,
    /// Yes.
    Serving,
    /// No more: it is about to be stopped. Connections that it has go on.
    Draining,
}

/// A service that is reached in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayService {
    /// The service.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// Further names that it has in this network.
    pub aliases: Vec<String>,
    /// The addresses that lead to any of its tasks, one of each family of the network, IPv4 first; none when its names lead to
    /// the tasks themselves.
    #[serde(default)]
    pub vips: Vec<IpNet>,
    /// Whether a client stays with one task.
    pub affinity: Affinity,
    /// Ports that it publishes on every node; only in the ingress network.
    pub ports: Vec<PublishedServicePort>,
    /// Which address its tasks see at these.
    pub client: ClientSource,
}

/// Whether a client stays with one task of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// Every connection may go to another one.
    #[default]
    None,
    /// Connections from one address go to one task, for as long as the set of tasks does not change.
    ClientAddress,
}

/// Which source address tasks see of connections to a port that is published on every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientSource {
    /// The client's own.
    #[default]
    Kept,
    /// That of the node that the client has asked.
    Node,
}

/// A plain container that takes part in a network of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its id, of the kind that tasks have: swarm counts attachments as tasks.
    pub id: TaskId,
    /// Version and times.
    pub meta: Meta,
    /// The network.
    pub network: NetworkId,
    /// The container's node.
    pub node: NodeId,
    /// The container.
    pub container: ContainerId,
    /// The container's name.
    pub name: String,
    /// Further names that lead to it.
    pub aliases: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

impl OverlayNetwork {
    /// Whether its frames cannot be read between nodes.
    pub fn is_encrypted(&self) -> bool {
        is_encrypted(&self.network.spec)
    }
}

/// Whether a network's frames cannot be read between nodes. The option needs no value; swarm takes `false` for none.
pub fn is_encrypted(spec: &NetworkSpec) -> bool {
    !matches!(spec.options.get(ENCRYPTED_OPTION).map(String::as_str), None | Some("false" | "0"))
}

impl OverlayEntry {
    /// What names it within its network.
    pub fn key(&self) -> EntryKey {
        match self {
            Self::Peer(peer) => peer.key,
            Self::Service(service) => EntryKey::Service(service.id),
            Self::Keys(keys) => EntryKey::Keys(keys.node),
        }
    }
}

impl OverlayPeer {
    /// Its hardware address, which nobody needs to be told: `02:42` and the four bytes of its IPv4 address, as libnetwork makes
    /// them, and of a peer without one the last four bytes of the first address.
    pub fn mac(&self) -> Option<[u8; 6]> {
        let v4 = self.addresses.iter().find(|net| matches!(net, IpNet::V4(_)));
        let last = match v4.or_else(|| self.addresses.first())?.addr() {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(address) => {
                let [.., a, b, c, d] = address.octets();
                [a, b, c, d]
            }
        };
        let [a, b, c, d] = last;
        Some([0x02, 0x42, a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(addresses: &[&str]) -> OverlayPeer {
        OverlayPeer {
            key: EntryKey::Task(TaskId::from_u128(1)),
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
            vtep: "192.0.2.1".parse().unwrap(),
            node: NodeId::from_u128(1),
            name: "web.1.x".into(),
            aliases: Vec::new(),
            service: None,
            container: None,
            state: PeerState::Serving,
        }
    }

    #[test]
    fn the_hardware_address_follows_from_the_ipv4_address() {
        assert_eq!(peer(&["fd00::9/64", "10.0.1.7/24"]).mac(), Some([2, 0x42, 10, 0, 1, 7]));
        assert_eq!(peer(&["fd00::1:2:3/64"]).mac(), Some([2, 0x42, 0, 2, 0, 3]));
        assert_eq!(peer(&[]).mac(), None);
    }

    #[test]
    fn an_entry_is_the_same_after_a_journey() {
        let entry = OverlayEntry::Peer(peer(&["10.0.1.7/24"]));
        let text = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<OverlayEntry>(&text).unwrap(), entry);
    }
}

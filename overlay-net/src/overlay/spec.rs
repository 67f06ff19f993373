//! What an overlay network is made of, as the managers hand it out: subnets, tunnel ends, peers, services, published
//! ports, names.
//!
//! Start reading at [`OverlaySpec`] (the network) and [`Peer`] (one address behind one node). These values come from
//! the cluster's tables, whole at first and as changes after that; every kind has a key, so that a change replaces or
//! removes one entry and nothing else. No IO and no decisions here.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use shoal_types::SandboxId;

use crate::spec::{
    DriverSpec, EndpointSpec, HostPorts, MacAddr, NetworkSpec, Protocol, PublishSpec, Reach, SandboxMode,
    SandboxSpec,
};

/// The port that VXLAN frames travel to unless the cluster was told otherwise (RFC 7348, section 8).
pub const DEFAULT_VXLAN_PORT: u16 = 4789;

/// One overlay network as every node of it sees it; differs between nodes in [`OverlaySpec::vtep`] alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlaySpec {
    /// Its subnets, each with a tunnel of its own; at least one, IPv4 first where there are both families.
    pub subnets: Vec<OverlaySubnet>,
    /// MTU of the underlay as the option `com.docker.network.driver.mtu` gives it; when absent, that of the link
    /// that has [`OverlaySpec::vtep`]. What the tunnel needs is subtracted from either.
    pub underlay_mtu: Option<u32>,
    /// Address of this node that tunnels end at (its data path address); must be on one of its links.
    pub vtep: IpAddr,
    /// UDP port of the tunnels, the same on every node of the cluster (`--data-path-port`).
    pub port: u16,
    /// Whether frames are encrypted between nodes (`--opt encrypted`).
    pub encryption: Encryption,
    /// Whether its containers have the second interface, on the node's gateway bridge, that leads outside. Giving them
    /// that endpoint is the engine's business; here it decides nothing but is part of the network.
    pub reach: Reach,
    /// What the network is for.
    pub role: OverlayRole,
    /// First part of interface names in the containers, `eth` by default.
    pub container_iface_prefix: String,
}

/// One subnet of an overlay network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlaySubnet {
    /// The subnet in canonical form.
    pub subnet: IpNet,
    /// Address of the bridge in the network's namespace, the same on every node: the way to the other subnets of the
    /// network. It is no default route; that is the second interface's, on `docker_gwbridge`.
    pub gateway: Option<IpAddr>,
    /// VXLAN network identifier, from 4096 to 2^24 - 1; unique in the cluster.
    pub vni: u32,
}

/// Whether an overlay network's frames can be read on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// They can.
    #[default]
    Off,
    /// They cannot: they go through the node's WireGuard ([`crate::Host::apply_wireguard`]) or nowhere. Refused with
    /// [`crate::NetError::NotSupported`] by nodes without IPv6.
    On,
}

/// What an overlay network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlayRole {
    /// Containers talk to each other.
    #[default]
    Containers,
    /// Published ports reach tasks over it: what comes in on it is answered to the node that it came from, so that
    /// tasks see the client's own address.
    Ingress,
}

/// Everything that a network's tables say; the whole of what [`TableChange`] changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OverlayTables {
    /// One for each address of the network that is in use in the cluster, also on this node; in any order.
    pub peers: Vec<Peer>,
}

/// One address of an overlay network and where it is. The key is the address: a task that moved is one entry set again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The task's (or the attached container's, or a node's ingress) address.
    pub address: IpAddr,
    /// Its hardware address; [`MacAddr::for_addresses`] of its addresses on every node.
    pub mac: MacAddr,
    /// The tunnel end of the node that it is on. Entries with this node's own are kept and programmed nowhere.
    pub vtep: IpAddr,
}

/// One change of a network's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableChange {
    /// Adds the peer, or replaces the one with the same address.
    Set(Peer),
    /// Removes the peer with that address; fine when there is none.
    Remove(IpAddr),
}

/// One service name's single address, as it is balanced inside one sandbox. The key is the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualService {
    /// The virtual address; of either family. It belongs to no interface anywhere.
    pub vip: IpAddr,
    /// The tasks behind it, of the same family. None that serves: connections are refused at once.
    pub backends: Vec<Backend>,
    /// Whether a client stays with one task.
    pub affinity: Affinity,
}

/// One task behind a virtual address or a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Backend {
    /// Its address in the network concerned.
    pub address: IpAddr,
    /// Whether it gets new connections.
    pub state: BackendState,
}

/// Whether a task gets new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// It does.
    Serving,
    /// It keeps those it has. One that is left out of the list altogether loses them: they are reset when the client
    /// sends next, instead of hanging.
    Draining,
}

/// Whether a client stays with one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// Every connection goes where chance has it.
    #[default]
    None,
    /// Connections of one source address go to one task, as long as the set of tasks does not change.
    ClientAddress,
}

/// One change of the services of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceChange {
    /// Adds the service, or replaces the one with the same virtual address.
    Set(VirtualService),
    /// Removes the service with that address; fine when there is none.
    Remove(IpAddr),
}

/// This node's part in the routing mesh: the sandbox between its published ports and the ingress network.
///
/// Give the same spec again with other ports to publish or to withdraw them. The record that comes of it
/// ([`crate::Sandbox`]) is kept and handed back like a container's.
#[derive(Debug, Clone)]
pub struct IngressSpec {
    /// Names the namespace; chosen once for a node and kept with the record.
    pub sandbox: SandboxId,
    /// The leg in the ingress network ([`OverlayRole::Ingress`]), with this node's own address there and the
    /// hardware address that follows from it.
    pub inside: EndpointSpec,
    /// The leg on the node's gateway bridge (`docker_gwbridge`), with an address of its pool.
    pub outside: EndpointSpec,
    /// What is published on every node.
    pub ports: Vec<IngressPort>,
}

/// One published port of a service, the same on every node. The key is protocol and published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressPort {
    /// Its protocol.
    pub protocol: Protocol,
    /// Port of every node.
    pub published: u16,
    /// Port inside the tasks.
    pub target: u16,
    /// Address of the node to publish on; every one when absent.
    pub host_ip: Option<IpAddr>,
    /// The tasks' addresses in the ingress network. None that serves: connections are refused at once.
    pub backends: Vec<Backend>,
    /// Whether a client stays with one task.
    pub affinity: Affinity,
    /// Which address tasks see.
    pub client: ClientAddress,
}

/// Which source address tasks see of connections through the routing mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAddress {
    /// The client's own.
    #[default]
    Kept,
    /// The ingress address of the node that the client connected to.
    Node,
}

/// Names of one owner in one network; names of several owners that are equal mix, and unmix when one goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameEntry {
    /// Whose names these are, unique in the network: a task's or a service's id. The key of [`NameChange`]. An address of
    /// several owners leads back to the names of the one that sorts first.
    pub owner: String,
    /// Every name that resolves to the addresses. The first one is the answer to reverse look-ups.
    pub names: Vec<String>,
    /// What they resolve to.
    pub addresses: Vec<IpAddr>,
}

/// One change of the names of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameChange {
    /// Adds the owner's names, or replaces them.
    Set(NameEntry),
    /// Forgets the owner; fine when it has no names.
    Remove(String),
}

/// What bringing the kernel to the desired state took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repaired {
    /// Objects of the kernel that were missing and were made.
    pub added: usize,
    /// Objects that were there and are not wanted, or were wrong, and were removed.
    pub removed: usize,
}

impl Repaired {
    /// Whether everything was as wanted.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl IngressSpec {
    /// The sandbox that this is for the rest of the crate, as [`crate::Desired`] wants it after a restart.
    pub fn sandbox_spec(&self) -> SandboxSpec {
        let publish = self.ports.iter().map(|port| PublishSpec {
            container_port: port.published,
            protocol: port.protocol,
            host_ip: port.host_ip,
            host_ports: HostPorts::Range(port.published, port.published),
        });
        SandboxSpec {
            id: self.sandbox,
            mode: SandboxMode::Private,
            endpoints: vec![self.inside_endpoint(), self.outside.clone()],
            publish: publish.collect(),
            sysctls: self.sysctls(),
            resolver: None,
        }
    }

    /// The namespace routes between the node and the tasks, and clients are on either side of it.
    fn sysctls(&self) -> Vec<(String, String)> {
        let mut sysctls = vec![
            ("net.ipv4.ip_forward", "1"),
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
        ];
        if self.inside.addresses.iter().any(|net| net.addr().is_ipv6()) {
            sysctls.push(("net.ipv6.conf.all.forwarding", "1"));
        }
        sysctls.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The leg inside without the ingress network's answering rules, which are for tasks.
    fn inside_endpoint(&self) -> EndpointSpec {
        let DriverSpec::Overlay(overlay) = &self.inside.network.driver else { return self.inside.clone() };
        let driver = DriverSpec::Overlay(OverlaySpec { role: OverlayRole::Containers, ..overlay.clone() });
        let network = NetworkSpec { driver, ..(*self.inside.network).clone() };
        EndpointSpec { network: Arc::new(network), ..self.inside.clone() }
    }
}

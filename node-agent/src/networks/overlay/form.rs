//! From what managers tell of a network to what overlay-net is given, and the difference between two such forms. PURE.
//!
//! Start reading at [`Form::of`], then [`Form::changes_to`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use overlay_net::{
    Affinity, Backend, BackendState, ClientAddress, Encryption, IngressPort, MacAddr, NameChange, NameEntry,
    OverlayRole, OverlaySpec, OverlaySubnet, OverlayTables, Peer, Protocol as NetProtocol, Reach,
    ServiceChange, TableChange, VirtualService,
};
use shoal_types::ServiceId;
use shoal_types::cluster::overlay::{
    self as told, EntryKey, OverlayEntry, OverlayNetwork, OverlayPeer, OverlayService, PeerState,
};

use super::super::sandbox_spec::to_net;
use crate::error::NodeError;

/// Option that says how large packets of the underlay may be.
const MTU_OPTION: &str = "com.docker.network.driver.mtu";

/// The network as the mechanism is given it. `vtep` is this node's end of the tunnels.
pub(crate) fn overlay_spec(overlay: &OverlayNetwork, vtep: IpAddr) -> Result<OverlaySpec, NodeError> {
    let spec = &overlay.network.spec;
    let mtu = spec.options.get(MTU_OPTION).map(|value| {
        let wrong = |_| NodeError::invalid(format!("invalid value for {MTU_OPTION}: {value:?}"));
        value.parse::<u32>().map_err(wrong)
    });
    let subnet = |pool: &shoal_types::cluster::network::AllocatedPool| OverlaySubnet {
        subnet: pool.subnet,
        gateway: Some(pool.gateway),
        vni: pool.vni,
    };
    Ok(OverlaySpec {
        subnets: overlay.pools.iter().map(subnet).collect(),
        underlay_mtu: mtu.transpose()?,
        vtep,
        port: if overlay.port == 0 { overlay_net::overlay::spec::DEFAULT_VXLAN_PORT } else { overlay.port },
        encryption: if overlay.is_encrypted() { Encryption::On } else { Encryption::Off },
        reach: if spec.internal { Reach::Internal } else { Reach::External },
        role: if spec.ingress { OverlayRole::Ingress } else { OverlayRole::Containers },
        container_iface_prefix: "eth".to_owned(),
    })
}

/// Everything that a network's table means for this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Form {
    /// Addresses and where they are.
    pub(crate) peers: BTreeMap<IpAddr, Peer>,
    /// Services with an address of their own.
    pub(crate) services: BTreeMap<IpAddr, VirtualService>,
    /// Names, by owner.
    pub(crate) names: BTreeMap<String, NameEntry>,
    /// Ports that are published on every node.
    pub(crate) ports: BTreeMap<(NetProtocol, u16), IngressPort>,
}

/// What has changed in a form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FormChanges {
    /// Of the peers.
    pub(crate) peers: Vec<TableChange>,
    /// Of the services.
    pub(crate) services: Vec<ServiceChange>,
    /// Of the names.
    pub(crate) names: Vec<NameChange>,
}

impl Form {
    /// What the entries of a network mean.
    pub(crate) fn of(entries: &BTreeMap<EntryKey, OverlayEntry>, role: OverlayRole) -> Self {
        let mut form = Self::default();
        let mut members: BTreeMap<ServiceId, Vec<&OverlayPeer>> = BTreeMap::new();
        for entry in entries.values() {
            let OverlayEntry::Peer(peer) = entry else { continue };
            form.add_peer(peer, role);
            if let Some(service) = peer.service {
                members.entry(service).or_default().push(peer);
            }
        }
        for entry in entries.values() {
            let OverlayEntry::Service(service) = entry else { continue };
            let members = members.get(&service.id).map_or(&[][..], Vec::as_slice);
            form.add_service(service, members, role);
        }
        form
    }

    /// Peers as the mechanism takes them whole.
    pub(crate) fn tables(&self) -> OverlayTables {
        OverlayTables { peers: self.peers.values().copied().collect() }
    }

    /// What leads from here to `after`.
    pub(crate) fn changes_to(&self, after: &Self) -> FormChanges {
        FormChanges {
            peers: changes(
                &self.peers,
                &after.peers,
                |peer| TableChange::Set(*peer),
                |key| TableChange::Remove(*key),
            ),
            services: changes(
                &self.services,
                &after.services,
                |service| ServiceChange::Set(service.clone()),
                |key| ServiceChange::Remove(*key),
            ),
            names: changes(
                &self.names,
                &after.names,
                |entry| NameChange::Set(entry.clone()),
                |key| NameChange::Remove(key.clone()),
            ),
        }
    }

    fn add_peer(&mut self, peer: &OverlayPeer, role: OverlayRole) {
        let Some(mac) = peer.mac().map(MacAddr) else { return };
        for address in &peer.addresses {
            let address = address.addr();
            self.peers.insert(address, Peer { address, mac, vtep: peer.vtep });
        }
        if role == OverlayRole::Ingress || peer.state != PeerState::Serving || peer.name.is_empty() {
            return;
        }
        let mut names = vec![peer.name.clone()];
        names.extend(peer.aliases.iter().filter(|alias| **alias != peer.name).cloned());
        self.name(owner("peer", peer.key), names, addresses(peer).collect());
    }

    fn add_service(&mut self, service: &OverlayService, members: &[&OverlayPeer], role: OverlayRole) {
        let affinity = match service.affinity {
            told::Affinity::None => Affinity::None,
            told::Affinity::ClientAddress => Affinity::ClientAddress,
        };
        let backends: Vec<Backend> = members.iter().flat_map(|member| backends(member)).collect();
        for port in &service.ports {
            let protocol = to_net(port.protocol);
            let client = match service.client {
                told::ClientSource::Kept => ClientAddress::Kept,
                told::ClientSource::Node => ClientAddress::Node,
            };
            let published = IngressPort {
                protocol,
                published: port.published,
                target: port.target,
                host_ip: None,
                backends: backends.clone(),
                affinity,
                client,
            };
            self.ports.insert((protocol, port.published), published);
        }
        if role == OverlayRole::Ingress {
            return;
        }
        let serving = || members.iter().filter(|member| member.state == PeerState::Serving);
        let tasks: Vec<IpAddr> = serving().flat_map(|member| addresses(member)).collect();
        let mut names = vec![service.name.clone()];
        names.extend(service.aliases.iter().filter(|alias| **alias != service.name).cloned());
        let of_tasks = names.iter().map(|name| format!("tasks.{name}")).collect();
        let key = EntryKey::Service(service.id);
        let vips: Vec<IpAddr> = service.vips.iter().map(|vip| vip.addr()).collect();
        for &vip in &vips {
            let of_family = backends.iter().filter(|backend| backend.address.is_ipv4() == vip.is_ipv4());
            let backends = of_family.copied().collect();
            self.services.insert(vip, VirtualService { vip, backends, affinity });
        }
        let found = if vips.is_empty() { tasks.clone() } else { vips };
        self.name(owner("service", key), names, found);
        self.name(owner("tasks", key), of_tasks, tasks);
    }

    fn name(&mut self, owner: String, names: Vec<String>, addresses: Vec<IpAddr>) {
        if !addresses.is_empty() {
            self.names.insert(owner.clone(), NameEntry { owner, names, addresses });
        }
    }
}

fn addresses(peer: &OverlayPeer) -> impl Iterator<Item = IpAddr> + '_ {
    peer.addresses.iter().map(|net| net.addr())
}

fn backends(peer: &OverlayPeer) -> Vec<Backend> {
    let state = match peer.state {
        PeerState::Starting => return Vec::new(),
        PeerState::Serving => BackendState::Serving,
        PeerState::Draining => BackendState::Draining,
    };
    addresses(peer).map(|address| Backend { address, state }).collect()
}

/// Whose names these are. Names of one task (`peer`) sort before those of a service and of its tasks, so that an
/// address leads back to its own.
fn owner(kind: &str, key: EntryKey) -> String {
    match key {
        EntryKey::Task(id) => format!("{kind} {id}"),
        EntryKey::Node(id) => format!("{kind} {id}"),
        EntryKey::Service(id) => format!("{kind} {id}"),
        EntryKey::Keys(id) => format!("{kind} {id}"),
    }
}

fn changes<K: Ord, V: PartialEq, C>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    set: impl Fn(&V) -> C,
    remove: impl Fn(&K) -> C,
) -> Vec<C> {
    let gone = before.keys().filter(|key| !after.contains_key(key)).map(remove);
    let new = after.iter().filter(|(key, value)| before.get(key) != Some(value)).map(|(_, value)| set(value));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests;

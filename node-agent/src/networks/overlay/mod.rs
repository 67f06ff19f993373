//! Networks that span nodes, as this node has them: what managers have told, and what was made of it.
//!
//! Start reading at [`Board`], the node's view, then [`take`]: news of the managers become changes of the kernel, of names and of
//! services. [`form`] is the pure part in between; [`attach`] lets plain containers join; [`ingress`] is the node's part in the
//! ports that are published on every node; [`encryption`] its part in networks that nobody can read; [`gateway`] the bridge by which containers reach the world. [`keep`] writes down
//! and repairs.
//!
//! The order that holds after a crash: a network is written down before anything of it is made, its table soon after it has
//! changed. A daemon that comes back makes what is written down, and is told the rest by the managers.

mod attach;
mod encryption;
pub(super) mod form;
mod gateway;
mod ingress;
mod keep;
mod take;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use overlay_net::{OverlayRole, VirtualService, WireguardSpec};
use serde::{Deserialize, Serialize};
use shoal_types::cluster::node::DataPathKey;
use shoal_types::cluster::overlay::{EntryKey, OverlayEntry, OverlayNetwork, OverlayPeer};
use shoal_types::container::networking::EndpointSpec;
use shoal_types::{ContainerId, NetworkId, SandboxId, TaskId};
use tokio::sync::{Notify, watch};

pub(super) use self::form::Form;
pub(super) use self::gateway::GATEWAY_BRIDGE;
use self::ingress::Ingress;
pub(super) use self::ingress::IngressRecord;
use super::plans::Plan;
use super::{Entry, State, kernel, wishes};
use crate::api::networks::{OverlayServiceView, OverlayTaskView, OverlayView};
use crate::containers::ports::NetworkRequest;
use crate::error::NodeError;
use crate::store::Record;
use crate::worker::OverlayMember;

/// What this node knows of networks that span nodes. The networks themselves are in [`State::networks`] beside all others.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) networks: BTreeMap<NetworkId, Overlay>,
    /// What plain containers were given.
    attached: HashMap<(ContainerId, NetworkId), Attached>,
    /// Containers that are being let in: what managers know of them is not stale.
    attaching: BTreeSet<ContainerId>,
    /// Sandboxes that have been told their services, and are told what changes in them.
    served: BTreeSet<SandboxId>,
    /// Attachments that have ended and of which no manager knows it yet.
    owed: BTreeSet<TaskId>,
    /// Networks that the node has made for itself and of which managers tell no more.
    pub(super) let_go: BTreeSet<NetworkId>,
    ingress: Option<Ingress>,
    /// What the encrypted data path was made last; `None` without an encrypted network.
    encryption: Option<WireguardSpec>,
}

/// A network that spans nodes.
#[derive(Debug)]
pub(super) struct Overlay {
    pub(super) told: OverlayNetwork,
    pub(super) entries: BTreeMap<EntryKey, OverlayEntry>,
    form: Form,
    standing: Standing,
    /// Whether something could not be done, so that it has to be given whole.
    has_failed: bool,
    /// Whether the table is other than the one on disk.
    is_unsaved: bool,
}

/// Why the node has a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Managers have told it.
    Wanted,
    /// It was looked up or written down before; managers are about to tell it.
    Expected,
    /// Managers want it no more; it goes with its last member.
    Unwanted,
}

/// What a plain container was given in a network.
#[derive(Debug, Clone)]
struct Attached {
    id: TaskId,
    addresses: Vec<IpNet>,
}

/// A network that spans nodes, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OverlayRecord {
    told: OverlayNetwork,
    entries: Vec<OverlayEntry>,
    vtep: IpAddr,
}

impl Record for OverlayRecord {
    const TABLE: &'static str = "overlays";
}

/// What belongs to such networks and is not state.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// The keys of this node for encrypted networks, as they are told to managers.
    keys: watch::Sender<Vec<DataPathKey>>,
    /// The cluster's authority is being exchanged, and keys with it.
    rotation: Notify,
    /// Who this node is in its cluster, if it is in one.
    member: Mutex<Option<OverlayMember>>,
    /// Held while the kernel is brought to another state of the board, so that changes keep their order.
    turn: tokio::sync::Mutex<()>,
    /// Shared while containers are let in, alone while managers are told who has left: a container that comes back at once is given
    /// what it had, and must not lose it to word of its leaving that arrives later.
    doorway: tokio::sync::RwLock<()>,
    /// Something is to be written down.
    unsaved: Notify,
}

impl Surroundings {
    fn member(&self) -> Option<OverlayMember> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Board {
    /// Whether managers want a network no more and its last containers are still in it.
    pub(super) fn is_leaving(&self, network: &NetworkId) -> bool {
        self.networks.get(network).is_some_and(|overlay| overlay.standing == Standing::Unwanted)
    }
}

impl Overlay {
    fn new(told: OverlayNetwork, standing: Standing) -> Self {
        Self {
            told,
            entries: BTreeMap::new(),
            form: Form::default(),
            standing,
            has_failed: false,
            is_unsaved: true,
        }
    }

    fn role(&self) -> OverlayRole {
        if self.told.network.spec.ingress { OverlayRole::Ingress } else { OverlayRole::Containers }
    }

    /// Everybody with addresses.
    pub(super) fn peers(&self) -> impl Iterator<Item = &OverlayPeer> {
        self.entries.values().filter_map(|entry| match entry {
            OverlayEntry::Peer(peer) => Some(peer),
            OverlayEntry::Service(_) | OverlayEntry::Keys(_) => None,
        })
    }

    fn record(&self, vtep: IpAddr) -> OverlayRecord {
        OverlayRecord { told: self.told.clone(), entries: self.entries.values().cloned().collect(), vtep }
    }
}

impl State {
    /// Takes over a network that was written down.
    pub(super) fn restore_overlay(&mut self, record: OverlayRecord) -> Result<(), NodeError> {
        let mut overlay = Overlay::new(record.told, Standing::Expected);
        overlay.entries = record.entries.into_iter().map(|entry| (entry.key(), entry)).collect();
        overlay.form = Form::of(&overlay.entries, overlay.role());
        overlay.is_unsaved = false;
        self.put_overlay_network(&overlay.told, record.vtep)?;
        self.board.networks.insert(overlay.told.network.id.clone(), overlay);
        Ok(())
    }

    /// Lists a network beside all others, with the members that it has.
    fn put_overlay_network(&mut self, told: &OverlayNetwork, vtep: IpAddr) -> Result<(), NodeError> {
        let kernel = Arc::new(kernel::overlay_network_spec(told, vtep)?);
        let id = told.network.id.clone();
        let members = self.networks.remove(&id).map(|entry| entry.members).unwrap_or_default();
        self.networks.insert(id, Entry { network: told.network.clone(), kernel, members });
        Ok(())
    }

    /// The addresses that a container has in a network that spans nodes: what managers have given to its task or to itself.
    pub(super) fn overlay_addresses(
        &self,
        network: &NetworkId,
        request: &NetworkRequest,
        endpoint: &EndpointSpec,
    ) -> Result<Vec<IpNet>, NodeError> {
        let attached = self.board.attached.get(&(request.container, network.clone()));
        let given = attached.map(|attached| &attached.addresses);
        let given = given.or_else(|| self.task_peer(network, request, endpoint).map(|peer| &peer.addresses));
        let Some(given) = given else {
            return Err(NodeError::unavailable(format!(
                "Could not attach to network {network}: the managers have given no address"
            )));
        };
        let has_v6 = !wishes::switches_ipv6_off(request, endpoint);
        Ok(given.iter().filter(|net| has_v6 || net.addr().is_ipv4()).copied().collect())
    }

    /// The task that a container is, if it is one of this network: managers have told of it by its name and address.
    fn task_peer(
        &self,
        network: &NetworkId,
        request: &NetworkRequest,
        endpoint: &EndpointSpec,
    ) -> Option<&OverlayPeer> {
        let wanted: Vec<IpAddr> = wanted_addresses(endpoint);
        let overlay = self.board.networks.get(network)?;
        overlay.peers().find(|peer| {
            peer.service.is_some()
                && peer.name == request.name
                && !wanted.is_empty()
                && wanted.iter().all(|address| peer.addresses.iter().any(|net| net.addr() == *address))
        })
    }

    /// Who is in a network that spans nodes, for those who inspect it.
    pub(super) fn overlay_view(&self, network: &NetworkId) -> Option<OverlayView> {
        let overlay = self.board.networks.get(network)?;
        let mut view = OverlayView::default();
        for peer in overlay.peers() {
            view.nodes.insert(peer.node, peer.vtep);
        }
        for entry in overlay.entries.values() {
            let OverlayEntry::Service(service) = entry else { continue };
            let of_service = overlay.peers().filter(|peer| peer.service == Some(service.id));
            let task = |peer: &OverlayPeer| {
                let address = peer.addresses.first()?.addr();
                Some(OverlayTaskView { name: peer.name.clone(), address, vtep: peer.vtep })
            };
            let shown = OverlayServiceView {
                vip: service.vips.first().map(|vip| vip.addr()),
                ports: service.ports.clone(),
                tasks: of_service.filter_map(task).collect(),
            };
            view.services.insert(service.name.clone(), shown);
        }
        Some(view)
    }

    /// Every service that the processes of a container reach by an address of its own.
    fn services_of(&self, plan: &Plan) -> Vec<VirtualService> {
        let overlays = plan.networks().filter_map(|id| self.board.networks.get(id));
        overlays.flat_map(|overlay| overlay.form.services.values().cloned()).collect()
    }

    /// Whether a container is in any network that spans nodes.
    fn is_in_overlay(&self, plan: &Plan) -> bool {
        plan.networks().any(|id| self.board.networks.contains_key(id))
    }
}

/// The addresses that an endpoint asks for.
fn wanted_addresses(endpoint: &EndpointSpec) -> Vec<IpAddr> {
    let v4 = endpoint.ipv4_address.map(IpAddr::V4);
    v4.into_iter().chain(endpoint.ipv6_address.map(IpAddr::V6)).collect()
}

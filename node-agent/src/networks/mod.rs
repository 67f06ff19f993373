//! Networks: names and records, who is connected, and what containers are told about the network they get.
//!
//! Start reading at [`NetworkStore`], the only owner of the network table and of the address space. The mechanism
//! (bridges, rules, ports, names) is overlay-net's; this module decides what it is asked for and keeps the records.
//!
//! | file | what |
//! |---|---|
//! | `create.rs` | from a wish to a checked, complete network |
//! | `kernel.rs` | PURE: from a network's record to what overlay-net is given |
//! | `predefined.rs` | `bridge`, `host` and `none`, made from the daemon's settings at every boot |
//! | `port.rs` | the node's port: list, inspect, remove, prune |
//! | `wishes.rs` | PURE: what a container may wish for |
//! | `sandboxes.rs` | the engine's port: plan, connect, disconnect, restore |
//! | `plans.rs` | PURE: what has been decided for each container, with its addresses |
//! | `sandbox_spec.rs` | PURE: from a container's plan to what overlay-net is given |
//! | `of_nodes.rs` | networks of the cluster that every node makes for itself |
//! | `overlay/` | networks that span nodes: what managers tell, plain containers that join, published ports |
//! | `files.rs` | /etc/hosts and /etc/resolv.conf of a container |
//!
//! After a crash: records and the containers' own memories say what shall exist; [`overlay_net::Host::restore`] makes
//! it so.

mod create;
mod default_bridge;
mod files;
mod kernel;
mod of_nodes;
mod overlay;
mod plans;
mod port;
mod predefined;
mod sandbox_spec;
mod sandboxes;
mod wishes;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use overlay_net::dns::files::ResolvOverrides;
use overlay_net::ipam::{BasePool, PoolRecord, Space};
use overlay_net::{NetError, Sandbox};
use serde::{Deserialize, Serialize};
use shoal_types::container::state::EndpointStatus;
use shoal_types::network::Network;
use shoal_types::{ContainerId, ErrorKind, NetworkId};

use self::plans::Plan;
pub use self::port::{Connections, NetworkPort};
use crate::error::NodeError;
use crate::events::EventLog;
use crate::store::{Record, Store};

/// Name of the network that containers get when nobody says otherwise.
pub const DEFAULT_BRIDGE: &str = "bridge";
/// Name of the network that is the host's own.
pub const HOST: &str = "host";
/// Name of the network that leads nowhere.
pub const NONE: &str = "none";

/// What the daemon's settings say about networks.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The default bridge; `None` when there is to be none.
    pub default_bridge: Option<DefaultBridge>,
    /// Where subnets are taken from; empty are Docker's pools.
    pub address_pools: Vec<BasePool>,
    /// The node's own prefix for IPv6 subnets.
    pub ula: BasePool,
    /// Options of new networks by driver.
    pub default_options: BTreeMap<String, BTreeMap<String, String>>,
    /// Address at which ports are published; `None` is all of both families.
    pub publish_ip: Option<IpAddr>,
    /// Whether containers may be reached at their own addresses from other machines.
    pub direct_routing: DirectRouting,
    /// What containers' resolv.conf gets instead of the host's.
    pub resolver: ResolvOverrides,
    /// What `host-gateway` stands for; empty is the gateway of the default bridge.
    pub host_gateway: Vec<IpAddr>,
    /// How the mechanism works on this node.
    pub mechanism: overlay_net::Config,
}

/// Whether other machines may reach containers at their own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectRouting {
    /// They may not, but for networks in routed mode.
    Dropped,
    /// They may.
    Allowed,
}

/// Who makes the interface of the default bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BridgeOwner {
    /// The daemon, with the addresses it likes.
    Daemon,
    /// The user, before the daemon starts; its addresses say what the subnets are.
    User,
}

/// Settings of the default bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultBridge {
    /// Name of the interface.
    pub interface: String,
    /// Who makes it.
    pub owner: BridgeOwner,
    /// Address and prefix of the interface.
    pub address: Option<IpNet>,
    /// The same for IPv6.
    pub address_v6: Option<IpNet>,
    /// Part of the subnet from which addresses are taken.
    pub range: Option<IpNet>,
    /// The IPv6 subnet.
    pub subnet_v6: Option<IpNet>,
    /// What its containers get as gateway instead of the interface's address; somebody else's business to answer there.
    pub gateway: Option<IpAddr>,
    /// The same for IPv6.
    pub gateway_v6: Option<IpAddr>,
    /// Whether it has IPv6 at all.
    pub ipv6: bool,
    /// Whether its containers talk to each other.
    pub icc: bool,
    /// Whether outgoing packets take the host's address.
    pub masquerade: bool,
    /// MTU; `None` is the kernel's.
    pub mtu: Option<u32>,
}

/// A network as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct NetworkRecord {
    network: Network,
    pools: Vec<PoolRecord>,
}

impl Record for NetworkRecord {
    const TABLE: &'static str = "networks";
}

/// A network in memory.
#[derive(Debug)]
struct Entry {
    network: Network,
    kernel: Arc<overlay_net::NetworkSpec>,
    /// Containers whose sandbox is joined to it, or is about to be.
    members: BTreeMap<ContainerId, Member>,
}

/// A container that is connected to a network.
#[derive(Debug, Clone)]
struct Member {
    name: String,
    status: EndpointStatus,
}

/// Everything that changes.
#[derive(Debug)]
struct State {
    space: Space,
    networks: BTreeMap<NetworkId, Entry>,
    plans: HashMap<ContainerId, Plan>,
    /// Networks that span nodes.
    board: overlay::Board,
}

/// The networks of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NetworkStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    events: EventLog,
    config: NetworkConfig,
    host: overlay_net::Host,
    /// Never held across an await or a call into the kernel.
    state: Mutex<State>,
    /// Held while a network is made or removed, so that these do not meet.
    changes: tokio::sync::Mutex<()>,
    /// Held by the one prune that may run.
    pruning: tokio::sync::Mutex<()>,
    overlay: overlay::Surroundings,
    /// Told whenever a sandbox was removed.
    departures: tokio::sync::Notify,
}

/// How long the kernel gets to free the interfaces of a removed container by itself, which costs nobody anything.
const GRACE: Duration = Duration::from_secs(2);

impl NetworkStore {
    /// Reads the table and makes the predefined networks' records. Touches no interface: that is
    /// [`crate::containers::ports::ContainerNetworks::restore`]'s, once it is known who runs. Blocks.
    pub fn open(store: Store, events: EventLog, mut config: NetworkConfig) -> Result<Self, NodeError> {
        let host = overlay_net::Host::open(config.mechanism.clone()).map_err(NodeError::from)?;
        if let Some(wanted) = &config.default_bridge {
            let present = overlay_net::host::interface_addresses(&wanted.interface)?;
            config.default_bridge = Some(default_bridge::settle(wanted, present.as_deref())?);
        }
        let bases = match config.address_pools.as_slice() {
            [] => overlay_net::ipam::default_bases(config.ula),
            given => given.iter().copied().chain([config.ula]).collect(),
        };
        let mut state = State {
            space: Space::new(bases),
            networks: BTreeMap::new(),
            plans: HashMap::new(),
            board: overlay::Board::default(),
        };
        for (_, record) in store.load::<NetworkRecord>()? {
            if !predefined::is_name(&record.network.spec.name) {
                state.restore(record, &config)?;
            }
        }
        for (_, record) in store.load::<overlay::OverlayRecord>()? {
            state.restore_overlay(record)?;
        }
        for (_, record) in store.load::<overlay::IngressRecord>()? {
            state.restore_ingress(record);
        }
        let networks = Self {
            shared: Arc::new(Shared {
                store,
                events,
                config,
                host,
                state: Mutex::new(state),
                changes: tokio::sync::Mutex::new(()),
                pruning: tokio::sync::Mutex::new(()),
                overlay: overlay::Surroundings::default(),
                departures: tokio::sync::Notify::new(),
            }),
        };
        Ok(networks)
    }

    /// Watches over the helper process that answers names and holds ports while the daemon is away; starts it again
    /// when it dies. Never returns; the composition root owns the task.
    pub async fn watch_netd(&self) {
        loop {
            self.shared.host.netd_closed().await;
            tracing::warn!("netd has ended; starting it again");
            let host = self.shared.host.clone();
            let repaired = tokio::task::spawn_blocking(move || host.repair_netd()).await;
            if let Ok(Err(error)) = repaired {
                tracing::error!(error = %crate::error::ErrorChain(&error), "netd cannot be started");
            }
        }
    }

    /// Deletes interfaces of removed containers whose namespace the kernel keeps. Never returns; the composition root owns
    /// the task.
    pub async fn watch_departures(&self) {
        loop {
            self.shared.departures.notified().await;
            // The kernel tells nobody that it keeps a namespace; only time does.
            tokio::time::sleep(GRACE).await;
            let host = self.shared.host.clone();
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || host.sweep()).await {
                tracing::warn!(error = %crate::error::ErrorChain(&error), "interfaces of removed containers stay");
            }
        }
    }

    /// Lets the helper process end if it has nothing to do; for the daemon's orderly end. What containers need stays.
    pub async fn close(&self) {
        let host = self.shared.host.clone();
        // Cut off only with the daemon itself.
        let _ = tokio::task::spawn_blocking(move || {
            if let Err(error) = host.sweep() {
                tracing::warn!(error = %crate::error::ErrorChain(&error), "interfaces of removed containers stay");
            }
            host.leave_netd();
        })
        .await;
    }

    /// Takes a sandbox out of the kernel; what the kernel keeps of it for a while is looked after.
    async fn remove_sandbox(&self, sandbox: Sandbox) -> Result<Vec<NetError>, NodeError> {
        let host = self.shared.host.clone();
        let errors = run_blocking(move || host.remove_sandbox(&sandbox)).await;
        self.shared.departures.notify_one();
        errors
    }

    /// Removes every trace of networks from the kernel and lets netd end. For the uninstall, when no container runs.
    pub async fn dismantle(&self) -> Result<(), NodeError> {
        let host = self.shared.host.clone();
        run_blocking(move || {
            let report = host.restore(&overlay_net::Desired::default());
            for error in &report.errors {
                tracing::warn!(error = %crate::error::ErrorChain(error), "network could not be removed");
            }
            host.remove_firewall()?;
            host.leave_netd();
            Ok(())
        })
        .await?
    }

    /// Finds a network by full id, exact name or unique id prefix, in that order.
    pub fn find(&self, name: &str) -> Result<Network, NodeError> {
        self.with_state(|state| state.find(name).map(|entry| entry.network.clone()))
    }

    fn with_state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Takes over a record: its addresses are reserved and its kernel form is computed.
    fn restore(&mut self, record: NetworkRecord, config: &NetworkConfig) -> Result<(), NodeError> {
        let NetworkRecord { network, pools } = record;
        let kernel = Arc::new(kernel::network_spec(&network, &pools, config)?);
        self.space.restore(&network.id, &pools, &[]);
        let entry = Entry { network, kernel, members: BTreeMap::new() };
        self.networks.insert(entry.network.id.clone(), entry);
        Ok(())
    }

    /// A network of the cluster that its last containers are only leaving lets another have its name.
    fn by_name(&self, name: &str) -> Option<&Entry> {
        let named = self.networks.values().filter(|entry| entry.network.spec.name == name);
        named.min_by_key(|entry| self.board.is_leaving(&entry.network.id))
    }

    fn find(&self, name: &str) -> Result<&Entry, NodeError> {
        let missing = || NodeError::NoSuchNetwork(name.to_owned());
        if name.is_empty() {
            return Err(NodeError::invalid("invalid network name or ID supplied: empty"));
        }
        if let Some(entry) = self.networks.get(&NetworkId::new(name)).or_else(|| self.by_name(name)) {
            return Ok(entry);
        }
        let mut matching = self.networks.values().filter(|entry| entry.network.id.as_str().starts_with(name));
        let found = matching.next().ok_or_else(missing)?;
        match matching.count() {
            0 => Ok(found),
            others => Err(NodeError::invalid(format!(
                "network {name} is ambiguous ({} matches found on ID prefix)",
                others + 1
            ))),
        }
    }
}

impl From<NetError> for NodeError {
    /// Takes over the kind, and the texts whole: they are what Docker's clients look at.
    fn from(error: NetError) -> Self {
        use NetError;
        // Docker answers with the status of a failure where only a port or an address is not to be had.
        let is_answer = matches!(
            error,
            NetError::AddressesExhausted { .. }
                | NetError::PortAllocated { .. }
                | NetError::PortBind { .. }
                | NetError::PortsExhausted
        );
        match error.kind() {
            ErrorKind::Internal if !is_answer => Self::failed("set up networking", error),
            kind => Self::Refused { kind, message: crate::error::ErrorChain(&error).to_string() },
        }
    }
}

async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work).await.map_err(|source| NodeError::failed("run network work", source))
}

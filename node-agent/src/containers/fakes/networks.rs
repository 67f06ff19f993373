//! Networks without a kernel: addresses are counted, namespaces are names.
//!
//! Start reading at [`FakeNetworks`]. What it does not do: drivers, name resolution, checks of wishes beyond the few
//! that tests of the engine need.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ipnet::Ipv4Net;
use shoal_types::container::networking::{EndpointSpec, NetworkMode};
use shoal_types::container::state::{EndpointStatus, PublishedPort};
use shoal_types::{ContainerId, EndpointId, NetworkId, SandboxId};

use super::Faults;
use crate::containers::ports::{
    ContainerNetworks, JoinedNetwork, NetworkFiles, NetworkPlan, NetworkRequest, NetworkRun,
    PreparedNetworks, SandboxRecord,
};
use crate::error::NodeError;

/// Name of the network of containers that ask for none.
const DEFAULT_NETWORK: &str = "bridge";
/// First port given out when none is asked for.
const FIRST_PORT: u16 = 49153;

/// Networks in memory.
#[derive(Debug)]
pub struct FakeNetworks {
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    networks: BTreeMap<String, NetworkId>,
    plans: BTreeMap<ContainerId, (NetworkRequest, SandboxRecord)>,
    runs: BTreeMap<ContainerId, NetworkRun>,
    n_addresses: u8,
}

impl FakeNetworks {
    /// The default bridge, `host` and `none`.
    pub fn new(faults: Faults) -> Self {
        let networks =
            [DEFAULT_NETWORK, "host", "none"].map(|name| (name.to_owned(), NetworkId::random_local()));
        let state = State { networks: networks.into(), ..State::default() };
        Self { faults, state: Mutex::new(state) }
    }

    /// Adds a user-defined network.
    pub fn add_network(&self, name: &str) {
        self.state().networks.insert(name.to_owned(), NetworkId::random_local());
    }

    /// Containers that hold a namespace, addresses or ports.
    pub fn holders(&self) -> Vec<ContainerId> {
        let state = self.state();
        state.plans.keys().chain(state.runs.keys()).copied().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, key: &str) -> Option<(String, NetworkId)> {
        self.networks
            .iter()
            .find(|(name, id)| name.as_str() == key || id.as_str() == key)
            .map(|(name, id)| (name.clone(), id.clone()))
    }

    fn join(&mut self, key: &str, request: &NetworkRequest) -> Result<JoinedNetwork, NodeError> {
        let (name, id) = self.find(key).ok_or_else(|| NodeError::NoSuchNetwork(key.to_owned()))?;
        let mut status = absent(id.clone());
        status.endpoint_id = Some(EndpointId::random());
        status.dns_names = vec![request.name.clone(), request.container.short()];
        let driver =
            if matches!(name.as_str(), "host" | "none") { name.clone() } else { "bridge".to_owned() };
        if driver == "bridge" {
            self.n_addresses = self.n_addresses.wrapping_add(1);
            let address = Ipv4Addr::new(172, 17, 0, self.n_addresses.wrapping_add(1));
            status.ipv4 = Ipv4Net::new(address, 16).ok();
            status.ipv4_gateway = Some(Ipv4Addr::new(172, 17, 0, 1));
            status.mac_address = Some(format!("02:42:ac:11:00:{:02x}", address.octets()[3]));
        }
        Ok(JoinedNetwork { id, name, driver, status })
    }
}

fn absent(network_id: NetworkId) -> EndpointStatus {
    EndpointStatus {
        network_id,
        endpoint_id: None,
        ipv4: None,
        ipv4_gateway: None,
        ipv6: None,
        ipv6_gateway: None,
        mac_address: None,
        dns_names: Vec::new(),
    }
}

fn network_of(mode: &NetworkMode) -> Option<String> {
    match mode {
        NetworkMode::DefaultBridge => Some(DEFAULT_NETWORK.to_owned()),
        NetworkMode::None => Some("none".to_owned()),
        NetworkMode::Host => Some("host".to_owned()),
        NetworkMode::Network(name) => Some(name.clone()),
        NetworkMode::Container(_) => None,
    }
}

fn files_of(request: &NetworkRequest) -> NetworkFiles {
    let hosts = format!("127.0.0.1\tlocalhost\n172.17.0.2\t{}\n", request.hostname);
    NetworkFiles { hosts, resolv_conf: "nameserver 192.0.2.1\n".to_owned() }
}

#[async_trait]
impl ContainerNetworks for FakeNetworks {
    async fn prepare(&self, request: &NetworkRequest) -> Result<PreparedNetworks, NodeError> {
        let call = self.faults.enter("networks.prepare").await?;
        let mut prepared = PreparedNetworks::default();
        if !request.networking.disabled {
            let mut wishes = request.networking.endpoints.clone();
            if let Some(name) = network_of(&request.networking.mode) {
                wishes.entry(name).or_default();
            }
            let state = self.state();
            for (key, wish) in wishes {
                let (name, id) = state.find(&key).unwrap_or_else(|| (key, NetworkId::new("")));
                prepared.statuses.insert(name.clone(), absent(id));
                prepared.endpoints.insert(name, wish);
            }
        }
        call.done().await;
        Ok(prepared)
    }

    async fn plan(&self, request: &NetworkRequest) -> Result<NetworkPlan, NodeError> {
        let call = self.faults.enter("networks.plan").await?;
        let id = SandboxId::random();
        let is_host = request.networking.mode == NetworkMode::Host;
        let netns = (!is_host).then(|| PathBuf::from(format!("/run/fake/netns/{}", id.short())));
        let sandbox = SandboxRecord { id, netns };
        {
            let mut state = self.state();
            if let Some(missing) = request.networking.endpoints.keys().find(|key| state.find(key).is_none()) {
                return Err(NodeError::NoSuchNetwork(missing.clone()));
            }
            state.plans.insert(request.container, (request.clone(), sandbox.clone()));
        }
        call.done().await;
        Ok(NetworkPlan { sandbox, files: files_of(request) })
    }

    async fn connect(&self, container: ContainerId) -> Result<NetworkRun, NodeError> {
        let call = self.faults.enter("networks.connect").await?;
        let run = {
            let mut state = self.state();
            let Some((request, sandbox)) = state.plans.get(&container).cloned() else {
                return Err(NodeError::conflict(format!("no plan for container {container}")));
            };
            let keys: Vec<String> = request.networking.endpoints.keys().cloned().collect();
            let joined: Vec<JoinedNetwork> =
                keys.iter().map(|key| state.join(key, &request)).collect::<Result<_, _>>()?;
            let published = publish(&request)?;
            let taken = state.runs.values().flat_map(|run| &run.published);
            if let Some(port) = published.iter().find(|port| {
                taken.clone().any(|taken| {
                    taken.host_port == port.host_port
                        && taken.container_port.protocol == port.container_port.protocol
                })
            }) {
                let number = port.host_port.unwrap_or_default();
                let message = format!("Bind for 0.0.0.0:{number} failed: port is already allocated");
                return Err(NodeError::failed(
                    "failed to set up container networking",
                    std::io::Error::other(message),
                ));
            }
            let memory = serde_json::Value::Null;
            let run = NetworkRun { sandbox, joined, published, memory };
            state.runs.insert(container, run.clone());
            run
        };
        call.done().await;
        Ok(run)
    }

    async fn disconnect(&self, container: ContainerId) -> Vec<NodeError> {
        let call = match self.faults.enter("networks.disconnect").await {
            Ok(call) => call,
            Err(error) => return vec![error],
        };
        {
            let mut state = self.state();
            state.plans.remove(&container);
            state.runs.remove(&container);
        }
        call.done().await;
        Vec::new()
    }

    async fn join(
        &self,
        request: &NetworkRequest,
        network: &str,
        _endpoint: &EndpointSpec,
    ) -> Result<NetworkRun, NodeError> {
        let call = self.faults.enter("networks.join").await?;
        let run = {
            let mut state = self.state();
            let joined = state.join(network, request)?;
            let run = state.runs.get_mut(&request.container).ok_or_else(|| {
                NodeError::conflict(format!("container {} is not running", request.container))
            })?;
            run.joined.retain(|present| present.id != joined.id);
            run.joined.push(joined);
            run.clone()
        };
        call.done().await;
        Ok(run)
    }

    async fn files(&self, request: &NetworkRequest) -> Result<NetworkFiles, NodeError> {
        let call = self.faults.enter("networks.files").await?;
        let files = files_of(request);
        call.done().await;
        Ok(files)
    }

    async fn leave(&self, request: &NetworkRequest, network: &str) -> Result<NetworkRun, NodeError> {
        let call = self.faults.enter("networks.leave").await?;
        let run = {
            let mut state = self.state();
            let run = state.runs.get_mut(&request.container).ok_or_else(|| {
                NodeError::conflict(format!("container {} is not running", request.container))
            })?;
            run.joined.retain(|joined| joined.name != network && joined.id.as_str() != network);
            run.clone()
        };
        call.done().await;
        Ok(run)
    }

    async fn rename(&self, request: &NetworkRequest) -> Result<NetworkRun, NodeError> {
        let call = self.faults.enter("networks.rename").await?;
        let run = {
            let mut state = self.state();
            let run = state.runs.get_mut(&request.container).ok_or_else(|| {
                NodeError::conflict(format!("container {} is not running", request.container))
            })?;
            for joined in &mut run.joined {
                joined.status.dns_names = vec![request.name.clone(), request.container.short()];
            }
            run.clone()
        };
        call.done().await;
        Ok(run)
    }

    async fn restore(
        &self,
        running: Vec<(NetworkRequest, NetworkRun)>,
    ) -> Result<BTreeMap<ContainerId, NetworkRun>, NodeError> {
        let mut state = self.state();
        state.plans.clear();
        state.runs = running
            .into_iter()
            .map(|(request, run)| {
                state.plans.insert(request.container, (request.clone(), run.sandbox.clone()));
                (request.container, run)
            })
            .collect();
        Ok(state.runs.clone())
    }

    async fn forget(&self, container: ContainerId) {
        self.state().plans.remove(&container);
    }
}

fn publish(request: &NetworkRequest) -> Result<Vec<PublishedPort>, NodeError> {
    let mut next_port = FIRST_PORT;
    let mut ports = Vec::new();
    for wish in &request.networking.published {
        let host_port = wish.host_ports.map_or_else(
            || {
                next_port += 1;
                next_port - 1
            },
            |(first, _)| first,
        );
        let host_ip = wish.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let host_port = Some(host_port);
        ports.push(PublishedPort { container_port: wish.container_port, host_ip, host_port });
    }
    Ok(ports)
}

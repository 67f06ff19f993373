//! The engine's port: from a container's wishes to a connected namespace, and back.
//!
//! Start reading at the implementation of [`ContainerNetworks`]. A start makes a [`Plan`] (addresses, empty namespace),
//! then connects it; both are kept here in memory and, as [`Memory`], with the container, so that a restarted daemon
//! finds them again. Kernel work happens on blocking threads and never under the state's lock.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use ipnet::IpNet;
use overlay_net::dns::files::LoopbackServers;
use overlay_net::ipam::Family;
use overlay_net::{
    Desired, DriverSpec, EndpointSpec as NetEndpoint, Forwarding, HostPorts, LinkFlow,
    Protocol as NetProtocol, PublishSpec, Reach, Sandbox, SandboxMode, SandboxSpec,
};
use serde::{Deserialize, Serialize};
use shoal_types::container::networking::{EndpointSpec, NetworkMode, PortPublish, PortSpec, Protocol};
use shoal_types::container::state::{EndpointStatus, PublishedPort};
use shoal_types::{ContainerId, EndpointId, NetworkId, SandboxId};

use super::files::{self, Resolver};
use super::{DEFAULT_BRIDGE, Entry, Member, NetworkStore, State, kernel, predefined, run_blocking, wishes};
use crate::containers::ports::{
    ContainerNetworks, JoinedNetwork, NamespaceOwner, NetworkFiles, NetworkPlan, NetworkRequest, NetworkRun,
    PreparedNetworks, SandboxRecord,
};
use crate::error::NodeError;

/// What has been decided for a container that starts or runs.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    request: NetworkRequest,
    pub(super) id: SandboxId,
    assignments: Vec<Assignment>,
    /// What is there in the kernel; `None` before the namespace exists.
    sandbox: Option<Sandbox>,
}

/// What a container has been given at one network.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Assignment {
    endpoint: EndpointId,
    network: NetworkId,
    /// The network's name, which is also the key of the wish.
    name: String,
    addresses: Vec<IpNet>,
    #[serde(default)]
    purpose: Purpose,
}

/// Why a container is in a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Purpose {
    /// Somebody has asked for it.
    #[default]
    Asked,
    /// It is its way out of networks that span nodes; nobody is shown it.
    Gateway,
}

/// What must be remembered of a running container across a restart of the daemon.
#[derive(Debug, Serialize, Deserialize)]
struct Memory {
    sandbox: Sandbox,
    assignments: Vec<Assignment>,
}

impl Memory {
    /// Forgets networks that the container does not want: it was being disconnected when the daemon died. Returns whether
    /// there were none.
    fn keep_only(&mut self, request: &NetworkRequest) -> bool {
        let n_before = self.assignments.len();
        self.assignments.retain(|given| {
            given.purpose == Purpose::Gateway || request.networking.endpoints.contains_key(&given.name)
        });
        let Self { sandbox, assignments } = self;
        sandbox.endpoints.retain(|endpoint| assignments.iter().any(|given| given.endpoint == endpoint.id));
        assignments.len() == n_before
    }
}

#[async_trait]
impl ContainerNetworks for NetworkStore {
    async fn prepare(&self, request: &NetworkRequest) -> Result<PreparedNetworks, NodeError> {
        let has_bridge = self.shared.config.default_bridge.is_some();
        self.with_state(|state| wishes::prepare(state, request, has_bridge))
    }

    async fn plan(&self, request: &NetworkRequest) -> Result<NetworkPlan, NodeError> {
        // What a start that failed half-way has left.
        let _ = self.disconnect(request.container).await;
        let planned = async {
            self.attach(request).await?;
            let gateway = self.gateway_for(request).await?;
            self.with_state(|state| state.plan(request, gateway.as_ref()))
        };
        let plan = match planned.await {
            Ok(plan) => plan,
            Err(error) => {
                self.detach(request.container, None);
                return Err(error);
            }
        };
        let made = self.make_namespace(&plan).await;
        let files = match made {
            Ok(sandbox) => {
                self.with_state(|state| state.set_sandbox(request.container, sandbox));
                self.texts(request).await
            }
            Err(error) => Err(error),
        };
        if files.is_err() {
            let _ = self.disconnect(request.container).await;
        }
        Ok(NetworkPlan { sandbox: self.sandbox_record(request.container), files: files? })
    }

    async fn connect(&self, container: ContainerId) -> Result<NetworkRun, NodeError> {
        self.apply(container).await
    }

    async fn disconnect(&self, container: ContainerId) -> Vec<NodeError> {
        self.detach(container, None);
        let Some(plan) = self.with_state(|state| state.take_plan(&container)) else { return Vec::new() };
        let mut errors = Vec::new();
        if let Some(sandbox) = plan.sandbox {
            match self.remove_sandbox(sandbox).await {
                Ok(failures) => errors.extend(failures.into_iter().map(NodeError::from)),
                Err(error) => errors.push(error),
            }
        }
        // Only now: an address must not be given out while an interface still has it.
        self.with_state(|state| plan.assignments.iter().for_each(|given| state.take_back(container, given)));
        self.drop_unwanted_overlays().await;
        errors
    }

    async fn join(
        &self,
        request: &NetworkRequest,
        network: &str,
        endpoint: &EndpointSpec,
    ) -> Result<NetworkRun, NodeError> {
        self.attach_to(request, network, endpoint).await?;
        let gateway = self.gateway_for(request).await?;
        let assignments = self.with_state(|state| {
            let name = state.find(network)?.network.spec.name.clone();
            let mut assignments = vec![state.assign(request, &name, endpoint)?];
            let has_one =
                |plan: &Plan| plan.assignments.iter().any(|given| given.purpose == Purpose::Gateway);
            if let Some(gateway) = &gateway
                && !state.plans.get(&request.container).is_some_and(has_one)
            {
                assignments.push(state.assign_gateway(request, gateway)?);
            }
            if let Some(plan) = state.plans.get_mut(&request.container) {
                plan.request = request.clone();
                plan.assignments.extend_from_slice(&assignments);
            }
            Ok::<_, NodeError>(assignments)
        })?;
        let joined = self.apply(request.container).await;
        if joined.is_err() {
            let is_new = |given: &Assignment| assignments.iter().any(|new| new.endpoint == given.endpoint);
            self.with_state(|state| {
                if let Some(plan) = state.plans.get_mut(&request.container) {
                    plan.assignments.retain(|given| !is_new(given));
                }
                assignments.iter().for_each(|given| state.take_back(request.container, given));
            });
            for given in &assignments {
                self.detach(request.container, Some(&given.network));
            }
        }
        joined
    }

    async fn leave(&self, request: &NetworkRequest, network: &str) -> Result<NetworkRun, NodeError> {
        let left = self.with_state(|state| {
            let id = state.find(network)?.network.id.clone();
            let Some(plan) = state.plans.get_mut(&request.container) else { return Ok(None) };
            plan.request = request.clone();
            let place = plan.assignments.iter().position(|given| given.network == id);
            Ok::<_, NodeError>(place.map(|place| (place, plan.assignments.remove(place))))
        })?;
        let run = self.apply(request.container).await;
        if let Some((place, assignment)) = left {
            if run.is_ok() {
                self.detach(request.container, Some(&assignment.network));
            }
            self.with_state(|state| match (&run, state.plans.get_mut(&request.container)) {
                (Err(_), Some(plan)) => plan.assignments.insert(place, assignment),
                _ => state.take_back(request.container, &assignment),
            });
            self.drop_unwanted_overlays().await;
        }
        run
    }

    async fn files(&self, request: &NetworkRequest) -> Result<NetworkFiles, NodeError> {
        self.texts(request).await
    }

    async fn rename(&self, request: &NetworkRequest) -> Result<NetworkRun, NodeError> {
        self.with_state(|state| {
            if let Some(plan) = state.plans.get_mut(&request.container) {
                plan.request = request.clone();
            }
        });
        self.apply(request.container).await
    }

    async fn restore(
        &self,
        running: Vec<(NetworkRequest, NetworkRun)>,
    ) -> Result<BTreeMap<ContainerId, NetworkRun>, NodeError> {
        self.ensure_predefined().await?;
        let mut runs = BTreeMap::new();
        for (request, run) in running {
            let container = request.container;
            let Ok(mut memory) = serde_json::from_value::<Memory>(run.memory.clone()) else {
                tracing::warn!(container.id = %container, "network memory of a container cannot be read");
                continue;
            };
            let is_whole = memory.keep_only(&request);
            self.with_state(|state| {
                state.adopt(request, memory);
                state.adopt_attachments(container);
            });
            let run = if is_whole { Ok(run) } else { self.with_state(|state| state.run(container)) };
            match run {
                Ok(run) => drop(runs.insert(container, run)),
                Err(error) => {
                    tracing::error!(container.id = %container, error = %error.message(), "network of a container cannot be told");
                }
            }
        }
        let desired = self.desired(&runs);
        let host = self.shared.host.clone();
        let report = match run_blocking(move || {
            warn_of_foreign_drops(&host);
            host.restore(&desired)
        })
        .await
        {
            Ok(report) => report,
            Err(error) => {
                tracing::error!(error = %error.message(), "networking cannot be restored");
                return Ok(BTreeMap::new());
            }
        };
        for what in report.removed {
            tracing::info!(what, "removed a leftover of networking");
        }
        for error in report.errors {
            tracing::error!(error = %crate::error::ErrorChain(&error), "networking is not as it should be");
        }
        runs.retain(|_, run| !report.lost.contains(&run.sandbox.id));
        self.with_state(|state| {
            state.lose_ingress(&report.lost);
            let lost: Vec<ContainerId> =
                state.plans.keys().filter(|container| !runs.contains_key(container)).copied().collect();
            for container in lost {
                let Some(plan) = state.take_plan(&container) else { continue };
                plan.assignments.iter().for_each(|given| state.take_back(container, given));
            }
        });
        self.restore_overlays().await;
        Ok(runs)
    }

    async fn forget(&self, container: ContainerId) {
        for error in self.disconnect(container).await {
            tracing::warn!(container.id = %container, error = %error.message(), "network of a removed container");
        }
    }
}

impl NetworkStore {
    /// Makes the namespace of a plan, without any interface. The host's own needs no making.
    async fn make_namespace(&self, plan: &Plan) -> Result<Sandbox, NodeError> {
        let spec = SandboxSpec {
            id: plan.id,
            mode: sandbox_mode(&plan.request),
            endpoints: Vec::new(),
            publish: Vec::new(),
            sysctls: plan.request.sysctls.clone(),
            resolver: None,
        };
        let host = self.shared.host.clone();
        Ok(run_blocking(move || host.ensure_sandbox(&spec, None)).await??)
    }

    /// Brings the kernel to what a container's plan says now.
    async fn apply(&self, container: ContainerId) -> Result<NetworkRun, NodeError> {
        let conf = files::host_resolv_conf();
        let resolver =
            |request: &NetworkRequest| Resolver::new(conf, &self.shared.config.resolver, &request.networking);
        let (spec, previous) = self
            .with_state(|state| state.sandbox_spec(container, resolver))
            .ok_or_else(|| NodeError::failed("connect the container", "its network was not planned"))?;
        let host = self.shared.host.clone();
        let sandbox = run_blocking(move || host.ensure_sandbox(&spec, previous.as_ref())).await??;
        self.with_state(|state| state.set_sandbox(container, sandbox));
        self.give_services(container).await;
        self.with_state(|state| state.run(container))
    }

    fn sandbox_record(&self, container: ContainerId) -> SandboxRecord {
        self.with_state(|state| {
            let plan = state.plans.get(&container);
            let netns = plan.and_then(|plan| plan.sandbox.as_ref()).and_then(|sandbox| sandbox.netns.clone());
            SandboxRecord { id: plan.map_or_else(SandboxId::random, |plan| plan.id), netns }
        })
    }

    /// The texts of hosts and resolv.conf.
    async fn texts(&self, request: &NetworkRequest) -> Result<NetworkFiles, NodeError> {
        let conf = run_blocking(files::host_resolv_conf).await?;
        let resolver = Resolver::new(conf, &self.shared.config.resolver, &request.networking);
        let (own, linked, is_embedded, bridge_gateways) = self.with_state(|state| {
            let own = state.plans.get(&request.container).map(Plan::addresses).unwrap_or_default();
            (own, state.linked(request), state.has_resolver(request.container), state.default_gateways())
        });
        let configured = &self.shared.config.host_gateway;
        let gateways = if configured.is_empty() { &bridge_gateways } else { configured };
        if sandbox_mode(request) == SandboxMode::Host {
            let hosts = files::host_mode_hosts(request, gateways)?;
            return Ok(NetworkFiles { hosts, resolv_conf: resolver.plain_file(LoopbackServers::Kept) });
        }
        let hosts = files::hosts(request, &own, linked, gateways)?;
        let resolv_conf = if is_embedded {
            resolver.embedded_file()
        } else {
            resolver.plain_file(LoopbackServers::Dropped)
        };
        Ok(NetworkFiles { hosts, resolv_conf })
    }

    /// Everything that shall exist, for the mechanism's restore.
    fn desired(&self, runs: &BTreeMap<ContainerId, NetworkRun>) -> Desired {
        let conf = files::host_resolv_conf();
        self.with_state(|state| {
            let networks = state
                .networks
                .values()
                .filter(|entry| !entry.network.spec.config_only)
                .map(|entry| Arc::clone(&entry.kernel))
                .collect();
            let sandbox = |container: &ContainerId| {
                let resolver = |request: &NetworkRequest| {
                    Resolver::new(conf.clone(), &self.shared.config.resolver, &request.networking)
                };
                let (spec, sandbox) = state.sandbox_spec(*container, resolver)?;
                Some((spec, sandbox?))
            };
            let sandboxes = runs.keys().filter_map(sandbox).chain(state.ingress_desired()).collect();
            Desired { networks, sandboxes }
        })
    }
}

impl Plan {
    /// The networks that it is in.
    pub(super) fn networks(&self) -> impl Iterator<Item = &NetworkId> {
        self.assignments.iter().map(|given| &given.network)
    }

    /// The namespace, once it is there with interfaces in it.
    pub(super) fn sandbox_id(&self) -> Option<SandboxId> {
        self.sandbox.as_ref().filter(|sandbox| !sandbox.endpoints.is_empty()).map(|sandbox| sandbox.id)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.assignments.iter().flat_map(|given| &given.addresses).map(IpNet::addr).collect()
    }
}

impl State {
    /// Assigns addresses at every network that a container wishes for, all or none.
    fn plan(&mut self, request: &NetworkRequest, gateway: Option<&NetworkId>) -> Result<Plan, NodeError> {
        let container = request.container;
        let mut plan = Plan {
            request: request.clone(),
            id: SandboxId::random(),
            assignments: Vec::new(),
            sandbox: None,
        };
        let asked: Vec<_> = ordered(request).into_iter().map(Some).chain(gateway.map(|_| None)).collect();
        for wish in asked {
            let assigned = match (wish, gateway) {
                (Some((name, endpoint)), _) => self.assign(request, name, endpoint),
                (None, Some(gateway)) => self.assign_gateway(request, gateway),
                (None, None) => continue,
            };
            match assigned {
                Ok(assignment) => plan.assignments.push(assignment),
                Err(error) => {
                    plan.assignments.iter().for_each(|given| self.take_back(container, given));
                    return Err(error);
                }
            }
        }
        self.plans.insert(container, plan.clone());
        Ok(plan)
    }

    /// Gives a container its way out of networks that span nodes.
    fn assign_gateway(
        &mut self,
        request: &NetworkRequest,
        gateway: &NetworkId,
    ) -> Result<Assignment, NodeError> {
        let assignment = self.assign(request, gateway.as_str(), &EndpointSpec::default())?;
        Ok(Assignment { purpose: Purpose::Gateway, ..assignment })
    }

    /// Gives a container an endpoint with addresses at one network, and makes it a member.
    fn assign(
        &mut self,
        request: &NetworkRequest,
        name: &str,
        endpoint: &EndpointSpec,
    ) -> Result<Assignment, NodeError> {
        let entry = self.find(name)?;
        if entry.network.spec.config_only {
            return Err(NodeError::forbidden(format!(
                "configuration network is not allowed: container cannot be connected to network {name}"
            )));
        }
        let (id, name) = (entry.network.id.clone(), entry.network.spec.name.clone());
        if self.board.networks.contains_key(&id) {
            let addresses = self.overlay_addresses(&id, request, endpoint)?;
            return Ok(self.make_member(request, id, name, addresses));
        }
        let (has_v4, has_v6) = kernel::families(&entry.kernel);
        let has_v6 = has_v6 && !wishes::switches_ipv6_off(request, endpoint);
        let wanted = [
            (has_v4, Family::V4, endpoint.ipv4_address.map(IpAddr::V4)),
            (has_v6, Family::V6, endpoint.ipv6_address.map(IpAddr::V6)),
        ];
        let mut addresses: Vec<IpNet> = Vec::new();
        for (_, family, given) in wanted.into_iter().filter(|(has_family, ..)| *has_family) {
            let taken = match given {
                Some(address) => self.space.take(&id, address),
                None => self.space.allocate(&id, family),
            };
            match taken {
                Ok(address) => addresses.push(address),
                Err(error) => {
                    addresses.iter().for_each(|taken| self.space.release(&id, taken.addr()));
                    return Err(error.into());
                }
            }
        }
        Ok(self.make_member(request, id, name, addresses))
    }

    fn make_member(
        &mut self,
        request: &NetworkRequest,
        network: NetworkId,
        name: String,
        addresses: Vec<IpNet>,
    ) -> Assignment {
        let member = Member { name: request.name.clone(), status: wishes::idle_status(network.clone()) };
        if let Some(entry) = self.networks.get_mut(&network) {
            entry.members.insert(request.container, member);
        }
        Assignment { endpoint: EndpointId::random(), network, name, addresses, purpose: Purpose::Asked }
    }

    /// Ends a membership and frees its addresses.
    fn take_back(&mut self, container: ContainerId, given: &Assignment) {
        given.addresses.iter().for_each(|address| self.space.release(&given.network, address.addr()));
        if let Some(entry) = self.networks.get_mut(&given.network) {
            entry.members.remove(&container);
        }
    }

    /// Takes over what a container had when the daemon went.
    fn adopt(&mut self, request: NetworkRequest, memory: Memory) {
        let container = request.container;
        for given in &memory.assignments {
            for address in &given.addresses {
                // Taken already only if two containers remember one address; the kernel will tell.
                let _ = self.space.take(&given.network, address.addr());
            }
            let member =
                Member { name: request.name.clone(), status: wishes::idle_status(given.network.clone()) };
            if let Some(entry) = self.networks.get_mut(&given.network) {
                entry.members.insert(container, member);
            }
        }
        let plan = Plan { request, id: memory.sandbox.id, assignments: memory.assignments, sandbox: None };
        self.plans.insert(container, plan);
        self.set_sandbox(container, memory.sandbox);
    }

    /// Records what the kernel has, and shows it to those who inspect networks.
    fn set_sandbox(&mut self, container: ContainerId, sandbox: Sandbox) {
        if let Some(plan) = self.plans.get_mut(&container) {
            plan.sandbox = Some(sandbox);
        }
        let Some(plan) = self.plans.get(&container).cloned() else { return };
        for given in &plan.assignments {
            let Some(status) = self.status(&plan, given) else { continue };
            if let Some(member) =
                self.networks.get_mut(&given.network).and_then(|e| e.members.get_mut(&container))
            {
                member.status = status;
                member.name.clone_from(&plan.request.name);
            }
        }
    }

    /// What a container's plan is for the mechanism, and what is there already.
    fn sandbox_spec(
        &self,
        container: ContainerId,
        resolver: impl FnOnce(&NetworkRequest) -> Resolver,
    ) -> Option<(SandboxSpec, Option<Sandbox>)> {
        let plan = self.plans.get(&container)?;
        let endpoints: Vec<NetEndpoint> =
            plan.assignments.iter().filter_map(|given| self.endpoint_spec(plan, given)).collect();
        let is_internal = plan.assignments.iter().all(|given| self.is_internal(&given.network));
        let forwarding = if is_internal { Forwarding::Refused } else { Forwarding::Allowed };
        let resolver_spec = self
            .has_resolver(container)
            .then(|| resolver(&plan.request).spec(forwarding, scoped_links(&plan.request)));
        let spec = SandboxSpec {
            id: plan.id,
            mode: sandbox_mode(&plan.request),
            endpoints,
            publish: publish(&plan.request),
            sysctls: plan.request.sysctls.clone(),
            resolver: resolver_spec,
        };
        Some((spec, plan.sandbox.clone()))
    }

    fn endpoint_spec(&self, plan: &Plan, given: &Assignment) -> Option<NetEndpoint> {
        let entry = self.networks.get(&given.network)?;
        if matches!(entry.kernel.driver, DriverSpec::Host | DriverSpec::None) {
            return None;
        }
        let wish = plan.request.networking.endpoints.get(&given.name).cloned().unwrap_or_default();
        let option = |name: &str| wish.driver_options.get(name);
        let sysctls = wishes::endpoint_sysctls(&wish).map(str::to_owned).collect();
        Some(NetEndpoint {
            id: given.endpoint,
            network: Arc::clone(&entry.kernel),
            addresses: given.addresses.clone(),
            mac: wish.mac_address.as_deref().and_then(|mac| mac.parse().ok()),
            ifname: option("com.docker.network.endpoint.ifname").and_then(|name| name.parse().ok()),
            gateway_priority: wish.gateway_priority,
            sysctls,
            // Names in networks that span nodes are the managers' to tell.
            names: if is_user_defined(entry) && given.purpose == Purpose::Asked && !is_overlay(entry) {
                wishes::dns_names(&plan.request, &wish)
            } else {
                Vec::new()
            },
            links: self.link_flows(plan, given),
        })
    }

    /// What a container may reach at those it links to although `icc=false` keeps others away: the ports they expose.
    fn link_flows(&self, plan: &Plan, given: &Assignment) -> Vec<LinkFlow> {
        if given.name != DEFAULT_BRIDGE {
            return Vec::new();
        }
        let linked = plan.request.links.iter().filter_map(|link| self.plans.get(&link.container));
        let flows = linked.flat_map(|server| {
            let here = server.assignments.iter().filter(|other| other.network == given.network);
            let addresses = here.flat_map(|other| &other.addresses).map(IpNet::addr);
            addresses.flat_map(|address| {
                server.request.networking.exposed.iter().map(move |port| LinkFlow {
                    server: address,
                    port: port.port,
                    protocol: to_net(port.protocol),
                })
            })
        });
        flows.collect()
    }

    /// What inspect shows of one endpoint.
    fn status(&self, plan: &Plan, given: &Assignment) -> Option<EndpointStatus> {
        let entry = self.networks.get(&given.network)?;
        let wish = plan.request.networking.endpoints.get(&given.name).cloned().unwrap_or_default();
        let endpoint =
            plan.sandbox.iter().flat_map(|sandbox| &sandbox.endpoints).find(|e| e.id == given.endpoint);
        let is_nominal = matches!(entry.kernel.driver, DriverSpec::Host | DriverSpec::None);
        if endpoint.is_none() && !is_nominal {
            return Some(wishes::idle_status(given.network.clone()));
        }
        let (ipv4_gateway, ipv6_gateway) = kernel::next_hops(&entry.kernel);
        Some(EndpointStatus {
            network_id: given.network.clone(),
            endpoint_id: Some(given.endpoint),
            ipv4: given
                .addresses
                .iter()
                .find_map(|net| if let IpNet::V4(net) = net { Some(*net) } else { None }),
            ipv4_gateway,
            ipv6: given
                .addresses
                .iter()
                .find_map(|net| if let IpNet::V6(net) = net { Some(*net) } else { None }),
            ipv6_gateway,
            mac_address: endpoint.map(|endpoint| endpoint.mac.to_string()),
            dns_names: if is_user_defined(entry) {
                wishes::dns_names(&plan.request, &wish)
            } else {
                Vec::new()
            },
        })
    }

    /// What the engine keeps of a connected container.
    fn run(&self, container: ContainerId) -> Result<NetworkRun, NodeError> {
        let gone = || NodeError::failed("connect the container", "its network was taken away meanwhile");
        let plan = self.plans.get(&container).ok_or_else(gone)?;
        let sandbox = plan.sandbox.clone().ok_or_else(gone)?;
        let asked = plan.assignments.iter().filter(|given| given.purpose == Purpose::Asked);
        let joined = asked.filter_map(|given| {
            let entry = self.networks.get(&given.network)?;
            Some(JoinedNetwork {
                id: given.network.clone(),
                name: given.name.clone(),
                driver: entry.network.spec.driver.clone(),
                status: self.status(plan, given)?,
            })
        });
        let published = sandbox.published.iter().filter_map(|port| {
            let host = port.host?;
            let container_port = PortSpec { port: port.container_port, protocol: from_net(port.protocol) };
            Some(PublishedPort { container_port, host_ip: host.ip(), host_port: host.port() })
        });
        Ok(NetworkRun {
            sandbox: SandboxRecord { id: plan.id, netns: sandbox.netns.clone() },
            joined: joined.collect(),
            published: published.collect(),
            memory: serde_json::to_value(Memory {
                sandbox: sandbox.clone(),
                assignments: plan.assignments.clone(),
            })
            .map_err(|source| NodeError::failed("remember the container's network", source))?,
        })
    }

    /// Whether the embedded server answers in a container: one of its networks is user-defined.
    fn has_resolver(&self, container: ContainerId) -> bool {
        let Some(plan) = self.plans.get(&container) else { return false };
        plan.assignments.iter().any(|given| self.networks.get(&given.network).is_some_and(is_user_defined))
    }

    fn is_internal(&self, network: &NetworkId) -> bool {
        self.networks.get(network).is_some_and(|entry| match &entry.kernel.driver {
            DriverSpec::Bridge(bridge) => bridge.reach == Reach::Internal,
            DriverSpec::Macvlan(macvlan) => macvlan.reach == Reach::Internal,
            DriverSpec::Overlay(overlay) => overlay.reach == Reach::Internal,
            DriverSpec::Host | DriverSpec::None => false,
        })
    }

    /// Lines of the hosts file for containers that are linked in the old way, on the default bridge.
    fn linked(&self, request: &NetworkRequest) -> Vec<(IpAddr, Vec<String>)> {
        let Some(bridge) = self.by_name(DEFAULT_BRIDGE) else { return Vec::new() };
        let line = |link: &crate::containers::ports::LinkTarget| {
            let status = &bridge.members.get(&link.container)?.status;
            let address = status.ipv4.map(|net| IpAddr::V4(net.addr()))?;
            let mut names = vec![link.alias.clone(), link.hostname.clone()];
            if link.alias != link.name {
                names.push(link.name.clone());
            }
            Some((address, names))
        };
        request.links.iter().filter_map(line).collect()
    }

    fn default_gateways(&self) -> Vec<IpAddr> {
        let Some(bridge) = self.by_name(DEFAULT_BRIDGE) else { return Vec::new() };
        let (v4, v6) = kernel::gateways(&bridge.kernel);
        v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).collect()
    }
}

/// A container's networks in the order in which its interfaces are numbered: the mode's own first, then by name.
fn ordered(request: &NetworkRequest) -> Vec<(&str, &EndpointSpec)> {
    let primary = wishes::primary(&request.networking.mode, true);
    let mut all: Vec<(&str, &EndpointSpec)> =
        request.networking.endpoints.iter().map(|(name, endpoint)| (name.as_str(), endpoint)).collect();
    all.sort_by_key(|(name, _)| (Some(*name) != primary, *name));
    all
}

fn sandbox_mode(request: &NetworkRequest) -> SandboxMode {
    match request.networking.mode {
        NetworkMode::Host => SandboxMode::Host,
        NetworkMode::DefaultBridge
        | NetworkMode::None
        | NetworkMode::Container(_)
        | NetworkMode::Network(_) => match request.owner {
            NamespaceOwner::Host => SandboxMode::Private,
            NamespaceOwner::Container => SandboxMode::Remapped(None),
            NamespaceOwner::Peer(process) => SandboxMode::Remapped(Some(process)),
        },
    }
}

/// Whether the embedded server knows the names of a network's members.
fn is_user_defined(entry: &Entry) -> bool {
    !predefined::is_name(&entry.network.spec.name)
}

/// Whether a network spans nodes.
fn is_overlay(entry: &Entry) -> bool {
    matches!(entry.kernel.driver, DriverSpec::Overlay(_))
}

/// Names that only this container knows: `container[:alias]` of its endpoints.
fn scoped_links(request: &NetworkRequest) -> Vec<(String, String)> {
    let links = request.networking.endpoints.values().flat_map(|endpoint| &endpoint.links);
    let pair = |link: &String| {
        let (container, alias) = link.split_once(':').unwrap_or((link, link));
        (alias.to_owned(), container.to_owned())
    };
    links.map(pair).collect()
}

/// What to publish: what was asked for, and with `--publish-all` every other exposed port.
fn publish(request: &NetworkRequest) -> Vec<PublishSpec> {
    let networking = &request.networking;
    let from_wish = |wish: &PortPublish| PublishSpec {
        container_port: wish.container_port.port,
        protocol: to_net(wish.container_port.protocol),
        host_ip: wish.host_ip,
        host_ports: wish
            .host_ports
            .map_or(HostPorts::Ephemeral, |(first, last)| HostPorts::Range(first, last)),
    };
    let mut all: Vec<PublishSpec> = networking.published.iter().map(from_wish).collect();
    if networking.publish_all {
        let is_published =
            |port: &PortSpec| networking.published.iter().any(|wish| wish.container_port == *port);
        all.extend(networking.exposed.iter().filter(|port| !is_published(port)).map(|port| PublishSpec {
            container_port: port.port,
            protocol: to_net(port.protocol),
            host_ip: None,
            host_ports: HostPorts::Ephemeral,
        }));
    }
    all
}

pub(super) fn to_net(protocol: Protocol) -> NetProtocol {
    match protocol {
        Protocol::Tcp => NetProtocol::Tcp,
        Protocol::Udp => NetProtocol::Udp,
        Protocol::Sctp => NetProtocol::Sctp,
    }
}

fn from_net(protocol: NetProtocol) -> Protocol {
    match protocol {
        NetProtocol::Tcp => Protocol::Tcp,
        NetProtocol::Udp => Protocol::Udp,
        NetProtocol::Sctp => Protocol::Sctp,
    }
}
/// Rules of others that drop forwarded packets cut containers off; no rule of ours can let in what they drop.
fn warn_of_foreign_drops(host: &overlay_net::Host) {
    match host.foreign_drops() {
        Ok(chains) if chains.is_empty() => {}
        Ok(chains) => tracing::warn!(
            chains = chains.join(", "),
            "firewall chains of others drop forwarded packets; containers may not reach the network"
        ),
        Err(error) => {
            tracing::debug!(error = %crate::error::ErrorChain(&error), "firewall rules of others cannot be read");
        }
    }
}

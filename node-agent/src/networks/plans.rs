//! What has been decided for containers that start or run, and what is remembered of it. Touches nothing but the state.
//!
//! Start reading at [`Plan`] and at `State::plan`, which gives addresses out. What a plan means for the kernel is in
//! `sandbox_spec.rs`; who carries it out, in `sandboxes.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use overlay_net::ipam::Family;
use overlay_net::{DriverSpec, Sandbox};
use serde::{Deserialize, Serialize};
use shoal_types::container::networking::{EndpointSpec, PortSpec};
use shoal_types::container::state::{EndpointStatus, PublishedPort};
use shoal_types::{ContainerId, EndpointId, NetworkId, SandboxId};

use super::sandbox_spec::{from_net, is_user_defined};
use super::{Member, State, kernel, wishes};
use crate::containers::ports::{JoinedNetwork, NetworkRequest, NetworkRun, SandboxRecord};
use crate::error::NodeError;

/// What has been decided for a container that starts or runs.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) request: NetworkRequest,
    pub(super) id: SandboxId,
    pub(super) assignments: Vec<Assignment>,
    /// What is there in the kernel; `None` before the namespace exists.
    pub(super) sandbox: Option<Sandbox>,
}

/// What a container has been given at one network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) endpoint: EndpointId,
    pub(super) network: NetworkId,
    /// The network's name, which is also the key of the wish.
    pub(super) name: String,
    pub(super) addresses: Vec<IpNet>,
    #[serde(default)]
    pub(super) purpose: Purpose,
}

/// Why a container is in a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Purpose {
    /// Somebody has asked for it.
    #[default]
    Asked,
    /// It is its way out of networks that span nodes; nobody is shown it.
    Gateway,
}

/// What must be remembered of a running container across a restart of the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    sandbox: Sandbox,
    assignments: Vec<Assignment>,
}

impl Memory {
    /// Forgets networks that the container does not want: it was being disconnected when the daemon died. Returns whether
    /// there were none.
    pub(super) fn keep_only(&mut self, request: &NetworkRequest) -> bool {
        let n_before = self.assignments.len();
        self.assignments.retain(|given| {
            given.purpose == Purpose::Gateway || request.networking.endpoints.contains_key(&given.name)
        });
        let Self { sandbox, assignments } = self;
        sandbox.endpoints.retain(|endpoint| assignments.iter().any(|given| given.endpoint == endpoint.id));
        assignments.len() == n_before
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

    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.assignments.iter().flat_map(|given| &given.addresses).map(IpNet::addr).collect()
    }
}

impl State {
    /// Assigns addresses at every network that a container wishes for, all or none.
    pub(super) fn plan(
        &mut self,
        request: &NetworkRequest,
        gateway: Option<&NetworkId>,
    ) -> Result<Plan, NodeError> {
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
    pub(super) fn assign_gateway(
        &mut self,
        request: &NetworkRequest,
        gateway: &NetworkId,
    ) -> Result<Assignment, NodeError> {
        let assignment = self.assign(request, gateway.as_str(), &EndpointSpec::default())?;
        Ok(Assignment { purpose: Purpose::Gateway, ..assignment })
    }

    /// Gives a container an endpoint with addresses at one network, and makes it a member.
    pub(super) fn assign(
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
    pub(super) fn take_back(&mut self, container: ContainerId, given: &Assignment) {
        given.addresses.iter().for_each(|address| self.space.release(&given.network, address.addr()));
        if let Some(entry) = self.networks.get_mut(&given.network) {
            entry.members.remove(&container);
        }
    }

    /// Takes over what a container had when the daemon went.
    pub(super) fn adopt(&mut self, request: NetworkRequest, memory: Memory) {
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
    pub(super) fn set_sandbox(&mut self, container: ContainerId, sandbox: Sandbox) {
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
        let (ipv4_gateway, ipv6_gateway) = kernel::next_hops(&entry.kernel, &given.addresses);
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
    pub(super) fn run(&self, container: ContainerId) -> Result<NetworkRun, NodeError> {
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
        Ok(NetworkRun {
            sandbox: SandboxRecord { id: plan.id, netns: sandbox.netns.clone() },
            joined: joined.collect(),
            published: published(&sandbox),
            memory: serde_json::to_value(Memory {
                sandbox: sandbox.clone(),
                assignments: plan.assignments.clone(),
            })
            .map_err(|source| NodeError::failed("remember the container's network", source))?,
        })
    }
}

/// What is shown of the ports: those that are translated before those that are only open, as dockerd has them.
fn published(sandbox: &Sandbox) -> Vec<PublishedPort> {
    let (translated, open): (Vec<_>, Vec<_>) = sandbox.published.iter().partition(|port| port.host.is_some());
    let shown = |port: &overlay_net::PublishedPort| PublishedPort {
        container_port: PortSpec { port: port.container_port, protocol: from_net(port.protocol) },
        host_ip: port.host.map_or_else(|| unspecified(port.target.ip()), |host| host.ip()),
        host_port: port.host.map(|host| host.port()),
    };
    translated.into_iter().chain(open).map(shown).collect()
}

/// Every address of a family.
fn unspecified(of_family: IpAddr) -> IpAddr {
    match of_family {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
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

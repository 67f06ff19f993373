//! Gives networks their subnets and identifiers, services their addresses and ports, tasks their addresses.
//!
//! Start reading at [`Allocator::allocate`]. It reads a draft of the store and writes to it; what is taken is an index of the store,
//! so nothing has to be counted and nothing can leak. The only thing that an [`Allocator`] remembers is where it looked last, so
//! that a number that was given back is given out again as late as possible. Who cannot be given something says why.

pub(crate) mod address;
mod pool;
mod port;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::node::Node;
use shoal_types::cluster::service::{EndpointSpec, PublishMode, ResolutionMode, Service, ServiceEndpoint};
use shoal_types::cluster::task::{Task, TaskAttachment, TaskStatus};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::container::networking::Protocol;
use shoal_types::{NetworkId, ServiceId};

use self::address::{Family, families};
use crate::scheduler::{MOST_CHANGES, Pass};
use crate::store::{Conflict, Draft, Snapshot};

/// What is said of a task that waits for a node.
const PENDING: &str = "pending task scheduling";

/// Why something could not be given out. Shown to users as the error of the task or network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Shortage {
    #[error("network {0} not found")]
    NoNetwork(String),
    #[error("network {0} has no addresses yet")]
    NotReady(String),
    #[error("could not find an available IP address in network {0}")]
    Addresses(String),
    #[error(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )]
    Subnets,
    #[error(
        "could not find an available, non-overlapping IPv6 address pool among the defaults to assign to the network"
    )]
    SubnetsV6,
    #[error("Pool overlaps with other one on this address space")]
    Overlap,
    #[error("VNI {0} is already in use")]
    Vni(u32),
    #[error("no port of 30000 to 32767 is free")]
    Ports,
    #[error("port '{0}' is already in use by another service")]
    PortTaken(u16),
    #[error("service needs ingress network, but no ingress network is present")]
    NoIngress,
}

/// Where was looked last. A new leader begins with none.
#[derive(Debug, Default)]
pub(crate) struct Allocator {
    addresses: HashMap<(NetworkId, Family), IpAddr>,
    ports: HashMap<Protocol, u16>,
    /// Services that could not be given what they need.
    unsatisfied: BTreeSet<ServiceId>,
}

impl Allocator {
    /// Gives out what is needed: networks that have nothing, `services` (those that have changed), tasks that are new.
    pub(crate) fn allocate(
        &mut self,
        draft: &mut Draft,
        services: impl IntoIterator<Item = ServiceId>,
    ) -> Result<Pass, Conflict> {
        pool::allocate_networks(draft)?;
        self.allocate_nodes(draft)?;
        let mut waiting = std::mem::take(&mut self.unsatisfied);
        waiting.extend(services);
        for id in waiting {
            if let Some(service) = draft.view().service(id).cloned() {
                match self.endpoint_of(draft.view(), &service) {
                    Ok(endpoint) if endpoint == service.endpoint => {}
                    Ok(endpoint) => draft.update(Service { endpoint, ..Service::clone(&service) })?,
                    // Its tasks say why.
                    Err(_) => drop(self.unsatisfied.insert(id)),
                }
            }
        }
        // A view of its own, because the draft changes meanwhile. Nothing looks at those that are left for the next pass.
        let view = draft.view().clone();
        for task in view.unallocated_tasks() {
            if draft.n_changes() >= MOST_CHANGES {
                return Ok(Pass::Partial);
            }
            self.allocate_task(draft, task)?;
        }
        Ok(Pass::Complete)
    }

    /// Gives every node an address of its own in the ingress network once a service publishes ports there, from where it reaches
    /// tasks on other nodes.
    fn allocate_nodes(&mut self, draft: &mut Draft) -> Result<(), Conflict> {
        if !draft.view().has_ingress_ports() {
            return Ok(());
        }
        let Some(network) = ingress(draft.view()).filter(|network| network.allocation.is_some()).cloned()
        else {
            return Ok(());
        };
        let has_one = |node: &Arc<Node>| node.attachments.iter().any(|own| own.network == network.id);
        let without: Vec<Arc<Node>> = draft.view().nodes().filter(|node| !has_one(node)).cloned().collect();
        for node in without {
            let addresses = match self.choose_addresses(draft.view(), &network) {
                Ok(addresses) => addresses,
                Err(shortage) => {
                    // Ports do not answer on it; everything else of it works.
                    tracing::warn!(node.id = %node.id, %shortage, "a node has no address in the ingress network");
                    return Ok(());
                }
            };
            let own = TaskAttachment {
                network: network.id.clone(),
                addresses,
                aliases: Vec::new(),
                driver_options: Default::default(),
            };
            draft.update(Node { attachments: vec![own], ..Node::clone(&node) })?;
        }
        Ok(())
    }

    /// What a service is given: what it has, as far as it still needs that, and the rest anew.
    fn endpoint_of(&mut self, view: &Snapshot, service: &Service) -> Result<ServiceEndpoint, Shortage> {
        let ports = self.choose_ports(view, service)?;
        let mut endpoint = ServiceEndpoint { ports, virtual_ips: Vec::new() };
        if service.spec.endpoint.resolution == ResolutionMode::Dnsrr {
            return Ok(endpoint);
        }
        for network in networks_of(view, service)? {
            if network.allocation.as_ref().is_none_or(|allocation| allocation.pools.is_empty()) {
                continue;
            }
            for family in families(&network) {
                let is_kept =
                    |(id, ip): &&(NetworkId, IpNet)| *id == network.id && Family::of(ip.addr()) == family;
                let address = match service.endpoint.virtual_ips.iter().find(is_kept) {
                    Some((_, address)) => *address,
                    None => self.choose_address(view, &network, family)?,
                };
                endpoint.virtual_ips.push((network.id.clone(), address));
            }
        }
        Ok(endpoint)
    }

    /// Gives a task its addresses and lets it go on to the scheduler, or says why not.
    fn allocate_task(&mut self, draft: &mut Draft, task: &Arc<Task>) -> Result<(), Conflict> {
        let Some(service) = draft.view().service(task.service).cloned() else { return Ok(()) };
        let status = match self.attachments(draft.view(), &service, task) {
            Ok(networks) => {
                let status = TaskStatus {
                    state: TaskState::Pending,
                    at: draft.now(),
                    message: PENDING.to_owned(),
                    error: String::new(),
                    ..task.status.clone()
                };
                return draft.update(Task { networks, status, ..Task::clone(task) });
            }
            Err(shortage) => TaskStatus { error: shortage.to_string(), ..task.status.clone() },
        };
        if status.error == task.status.error {
            return Ok(());
        }
        draft.update(Task { status, ..Task::clone(task) })
    }

    /// The networks of a task, with its addresses.
    fn attachments(
        &mut self,
        view: &Snapshot,
        service: &Service,
        task: &Task,
    ) -> Result<Vec<TaskAttachment>, Shortage> {
        if self.unsatisfied.contains(&service.id) {
            self.endpoint_of(view, service)?;
        }
        let mut attachments = Vec::new();
        if uses_ingress(&task.endpoint) {
            let network = ingress(view).ok_or(Shortage::NoIngress)?;
            attachments.push(TaskAttachment {
                network: network.id.clone(),
                addresses: self.choose_addresses(view, network)?,
                aliases: Vec::new(),
                driver_options: Default::default(),
            });
        }
        for wish in &task.template.networks {
            let network = find(view, &wish.target)?;
            attachments.push(TaskAttachment {
                network: network.id.clone(),
                addresses: self.choose_addresses(view, network)?,
                aliases: wish.aliases.clone(),
                driver_options: wish.driver_options.clone(),
            });
        }
        Ok(attachments)
    }
}

/// Whether a service publishes ports on every node.
pub(crate) fn uses_ingress(endpoint: &EndpointSpec) -> bool {
    endpoint.ports.iter().any(|port| port.mode == PublishMode::Ingress)
}

fn ingress(view: &Snapshot) -> Option<&Arc<ClusterNetwork>> {
    view.networks().find(|network| network.spec.ingress)
}

/// The networks in which a service has an address of its own.
fn networks_of(view: &Snapshot, service: &Service) -> Result<Vec<Arc<ClusterNetwork>>, Shortage> {
    let mut networks = Vec::new();
    if uses_ingress(&service.spec.endpoint) {
        networks.push(Arc::clone(ingress(view).ok_or(Shortage::NoIngress)?));
    }
    for wish in &service.spec.template.networks {
        let network = find(view, &wish.target)?;
        if network.allocation.is_none() {
            return Err(Shortage::NotReady(network.spec.name.clone()));
        }
        networks.push(Arc::clone(network));
    }
    Ok(networks)
}

fn find<'a>(view: &'a Snapshot, id: &str) -> Result<&'a Arc<ClusterNetwork>, Shortage> {
    view.network(&NetworkId::new(id)).ok_or_else(|| Shortage::NoNetwork(id.to_owned()))
}

#[cfg(test)]
mod tests;

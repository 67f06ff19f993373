//! Networks of the cluster: wished for here, given subnets by the allocator.
//!
//! Start reading at the implementation of [`Networks`] and at [`first_networks`], what every cluster begins with.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use shoal_types::cluster::Meta;
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::overlay::OVERLAY_DRIVER;
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::network::{NetworkScope, NetworkSpec};
use shoal_types::{ErrorKind, NetworkId};

use super::Control;
use super::files::new_meta;
use super::refusal::{Code, refuse};
use crate::allocator::uses_ingress;
use crate::api::networks::Networks;
use crate::error::ClusterError;
use crate::store::{Key, ObjectKind, Snapshot};

/// Marks networks that exist on every node by themselves, so that services can name them.
const PREDEFINED_LABEL: &str = "com.docker.swarm.predefined";
/// Marks networks that the cluster has made for itself.
const INTERNAL_LABEL: &str = "com.docker.swarm.internal";
/// Name of the network over which published ports are reached on every node.
const INGRESS: &str = "ingress";

/// The networks that a cluster begins with: ingress, and names for those that every node has by itself.
pub fn first_networks(now: Timestamp) -> Vec<ClusterNetwork> {
    let new = |spec| ClusterNetwork {
        id: NetworkId::random_cluster(),
        meta: Meta { version: 0, created: now, updated: now },
        spec,
        allocation: None,
        error: String::new(),
    };
    let predefined = |driver: &str| NetworkSpec {
        name: driver.to_owned(),
        driver: driver.to_owned(),
        labels: BTreeMap::from([(PREDEFINED_LABEL.to_owned(), "true".to_owned())]),
        scope: NetworkScope::Swarm,
        ..NetworkSpec::default()
    };
    let ingress = NetworkSpec {
        name: INGRESS.to_owned(),
        driver: "overlay".to_owned(),
        labels: BTreeMap::from([(INTERNAL_LABEL.to_owned(), "true".to_owned())]),
        ingress: true,
        scope: NetworkScope::Swarm,
        ..NetworkSpec::default()
    };
    vec![new(ingress), new(predefined("bridge")), new(predefined("host"))]
}

/// Whether a network only stands for one that every node has by itself.
fn is_predefined(network: &ClusterNetwork) -> bool {
    network.spec.labels.contains_key(PREDEFINED_LABEL)
}

#[async_trait]
impl Networks for Control {
    async fn create(&self, mut spec: NetworkSpec) -> Result<NetworkId, ClusterError> {
        let mut draft = self.draft();
        if spec.driver.is_empty() {
            spec.driver = "overlay".to_owned();
        }
        spec.scope = NetworkScope::Swarm;
        if spec.ipv4 == Some(false) {
            return Err(refuse(
                ErrorKind::InvalidArgument,
                "IPv4 cannot be disabled in a Swarm scoped network",
            ));
        }
        check_subnets(&spec)?;
        if spec.ingress {
            if spec.attachable {
                return Err(refuse(ErrorKind::InvalidArgument, "ingress network cannot be attachable"));
            }
            if let Some(other) = draft.view().networks().find(|network| network.spec.ingress) {
                return Err(Code::AlreadyExists
                    .refuse(format_args!("ingress network ({}) is already present", other.id)));
            }
        }
        if let Some(Key::Network(other)) = draft.view().by_name(ObjectKind::Network, &spec.name) {
            let is_predefined = draft.view().network(other).is_some_and(|other| is_predefined(other));
            return Err(match is_predefined {
                true => refuse(
                    ErrorKind::Forbidden,
                    format!("{} is a pre-defined network and cannot be created", spec.name),
                ),
                false => {
                    refuse(ErrorKind::Conflict, format!("network with name {} already exists", spec.name))
                }
            });
        }
        let id = NetworkId::random_cluster();
        draft.create(ClusterNetwork {
            id: id.clone(),
            meta: new_meta(&draft),
            spec,
            allocation: None,
            error: String::new(),
        })?;
        self.commit(draft).await?;
        Ok(id)
    }

    async fn list(&self) -> Result<Vec<ClusterNetwork>, ClusterError> {
        let view = self.view();
        Ok(view
            .networks()
            .filter(|network| !is_predefined(network))
            .map(|network| ClusterNetwork::clone(network))
            .collect())
    }

    async fn inspect(&self, name: &str) -> Result<ClusterNetwork, ClusterError> {
        let view = self.view();
        // Predefined ones too: a client looks for them here before it makes a service that uses the node's own network.
        self.find_network(&view, name).map(|network| ClusterNetwork::clone(&network))
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        let mut draft = self.draft();
        let network = self.find_network(draft.view(), name)?;
        may_remove(draft.view(), &network)?;
        draft.remove(Key::Network(network.id.clone()))?;
        self.commit(draft).await
    }
}

/// Refuses subnets that could never be given addresses from.
fn check_subnets(spec: &NetworkSpec) -> Result<(), ClusterError> {
    let invalid = |message: String| Err(refuse(ErrorKind::InvalidArgument, message));
    if spec.driver != OVERLAY_DRIVER {
        return Ok(());
    }
    let mut wrong = Vec::new();
    for pool in &spec.ipam.pools {
        let Some(subnet) = pool.subnet else { continue };
        if subnet != subnet.trunc() {
            wrong.push(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()));
        }
        if subnet.addr().is_ipv6() && spec.ipv6 != Some(true) {
            wrong.push(format!("invalid subnet {subnet}: IPv6 has not been enabled for this network"));
        }
        if let Some(range) = pool.range.filter(|range| !subnet.contains(range)) {
            wrong.push(format!("invalid ip-range {range}: CIDR block must be part of subnet {subnet}"));
        }
        let block = if subnet.addr().is_ipv4() { "IPv4" } else { "IPv6" };
        let mut outside = |what: &str, address: std::net::IpAddr| {
            if !subnet.contains(&address) {
                wrong.push(format!("invalid {what} {address}: parent subnet is an {block} block"));
            }
        };
        pool.gateway.into_iter().for_each(|gateway| outside("gateway", gateway));
        pool.auxiliary.values().for_each(|address| outside("auxiliary address", *address));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => invalid(format!("invalid network config:\n{}", wrong.join("\n"))),
    }
}

/// Refuses the removal of a network that something uses.
fn may_remove(view: &Snapshot, network: &ClusterNetwork) -> Result<(), ClusterError> {
    if is_predefined(network) {
        return Err(Code::FailedPrecondition.refuse(format_args!(
            "network {} ({}) is a swarm predefined network and cannot be removed",
            network.id, network.spec.name
        )));
    }
    if network.spec.ingress {
        let publisher = view.services().find(|service| uses_ingress(&service.spec.endpoint));
        return match publisher {
            Some(service) => Err(Code::FailedPrecondition.refuse(format_args!(
                "ingress network cannot be removed because service {} depends on it",
                service.id
            ))),
            None => Ok(()),
        };
    }
    let is_target = |target: &str| target == network.id.as_str() || target == network.spec.name;
    if let Some(service) = view
        .services()
        .find(|service| service.spec.template.networks.iter().any(|wish| is_target(&wish.target)))
    {
        return Err(Code::FailedPrecondition
            .refuse(format_args!("network {} is in use by service {}", network.id, service.id)));
    }
    // A task that is on its way out, or whose service is gone, holds nothing up: its node keeps the network until the last
    // container has left it.
    let stays = |task: &Task| {
        view.service(task.service).is_some()
            && task.desired <= TaskState::Running
            && task.status.state <= TaskState::Running
    };
    let task = view.addresses_of(&network.id).find_map(|(_, key)| match key {
        Key::Task(id) if view.task(*id).is_none_or(|task| stays(task)) => Some(*id),
        Key::Attachment(id) => Some(*id),
        _ => None,
    });
    match task {
        Some(task) => {
            Err(Code::FailedPrecondition
                .refuse(format_args!("network {} is in use by task {task}", network.id)))
        }
        None => Ok(()),
    }
}

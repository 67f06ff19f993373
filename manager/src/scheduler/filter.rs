//! Which nodes can take a task, and which rule kept the others from it.
//!
//! Start reading at [`first_refusal`]. Pure; a node is judged by its own object and by what its tasks take of it.

use std::collections::BTreeMap;

use shoal_types::Platform;
use shoal_types::cluster::node::{Availability, Node, NodeDescription, NodeState};
use shoal_types::cluster::service::GenericResource;
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::container::mounts::MountSource;

use super::constraint::Constraint;
use super::generic;
use crate::store::{NodeLoad, Snapshot};

/// The rules, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Filter {
    /// It is there and takes tasks.
    Ready,
    /// It has what the task reserves.
    Resources,
    /// It has the drivers.
    Plugins,
    /// It meets the constraints.
    Constraints,
    /// It is what the image is for.
    Platform,
    /// Its ports are free.
    HostPorts,
    /// It has not as many of the service as it may have.
    MaxReplicas,
}

/// How it is told that a port that a task has on its node is taken; the nodes are named after it.
const PORT_IS_TAKEN: &str = "host-mode port already in use on";

/// Whether a task waits for a port of a node, perhaps among other things.
pub(crate) fn waits_for_host_port(task: &Task) -> bool {
    task.status.state < TaskState::Assigned && task.status.error.contains(PORT_IS_TAKEN)
}

/// A task to be placed, with what has to be read once for all nodes.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) task: &'a Task,
    /// `None` if one of them cannot be read; then no node meets them.
    pub(super) constraints: Option<Vec<Constraint>>,
    network_drivers: Vec<String>,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(view: &Snapshot, task: &'a Task) -> Self {
        let texts = &task.template.placement.constraints;
        let network_drivers = task
            .networks
            .iter()
            .filter_map(|attachment| view.network(&attachment.network))
            .map(|network| network.spec.driver.clone())
            .collect();
        Self { task, constraints: super::constraint::parse_all(texts).ok(), network_drivers }
    }
}

/// The first rule that keeps a task from a node; `None` if the node can take it.
pub(super) fn first_refusal(candidate: &Candidate<'_>, node: &Node, load: &NodeLoad) -> Option<Filter> {
    let Some(description) = &node.description else { return Some(Filter::Ready) };
    let task = candidate.task;
    let refused = |filter: Filter, passes: bool| (!passes).then_some(filter);
    refused(Filter::Ready, is_ready(node))
        .or_else(|| refused(Filter::Resources, has_resources(task, description, load)))
        .or_else(|| refused(Filter::Plugins, has_plugins(candidate, description)))
        .or_else(|| refused(Filter::Constraints, meets_constraints(candidate, node)))
        .or_else(|| refused(Filter::Platform, is_platform(task, description)))
        .or_else(|| refused(Filter::HostPorts, has_ports(task, load)))
        .or_else(|| refused(Filter::MaxReplicas, may_have_another(task, load)))
}

/// Says why no node could take a task: the rules that kept most nodes from it first.
pub(super) fn explain(refusals: &BTreeMap<Filter, usize>) -> String {
    let mut sorted: Vec<(Filter, usize)> = refusals.iter().map(|(&filter, &n)| (filter, n)).collect();
    sorted.sort_by_key(|&(filter, n)| (std::cmp::Reverse(n), filter));
    if sorted.is_empty() {
        return "no suitable node".to_owned();
    }
    let reasons: Vec<String> = sorted.into_iter().map(|(filter, n)| reason(filter, n)).collect();
    format!("no suitable node ({})", reasons.join("; "))
}

fn reason(filter: Filter, n: usize) -> String {
    let nodes = if n == 1 { "1 node".to_owned() } else { format!("{n} nodes") };
    match filter {
        Filter::Ready => format!("{nodes} not available for new tasks"),
        Filter::Resources => format!("insufficient resources on {nodes}"),
        Filter::Plugins => format!("missing plugin on {nodes}"),
        Filter::Constraints => format!("scheduling constraints not satisfied on {nodes}"),
        Filter::Platform => format!("unsupported platform on {nodes}"),
        Filter::HostPorts => format!("{PORT_IS_TAKEN} {nodes}"),
        Filter::MaxReplicas => "max replicas per node limit exceed".to_owned(),
    }
}

fn is_ready(node: &Node) -> bool {
    node.status.state == NodeState::Ready && node.spec.availability == Availability::Active
}

fn has_resources(task: &Task, node: &NodeDescription, load: &NodeLoad) -> bool {
    has_amounts(task, node, load)
        && generic::claim(&task.template.resources.reserved_generic, &node.generic, load).is_some()
}

/// Whether a node has what a task that runs there reserves and was given, beside what `load` takes.
pub(crate) fn still_fits(task: &Task, node: &NodeDescription, load: &NodeLoad) -> bool {
    let given = &task.generic;
    has_amounts(task, node, load) && generic::claim(given, &node.generic, load).as_ref() == Some(given)
}

fn has_amounts(task: &Task, node: &NodeDescription, load: &NodeLoad) -> bool {
    let wanted = &task.template.resources;
    let is_enough = |wanted: i64, has: i64, taken: i64| wanted <= 0 || wanted <= has.saturating_sub(taken);
    is_enough(wanted.reserved_nano_cpus, node.nano_cpus, load.nano_cpus)
        && is_enough(wanted.reserved_memory, node.memory, load.memory)
}

/// Whether the drivers that a task needs are there. A node that lists no driver of a kind is taken at its word for all.
fn has_plugins(candidate: &Candidate<'_>, node: &NodeDescription) -> bool {
    let has = |kind: &str, name: &str| {
        let mut of_kind = node.plugins.iter().filter(|(has, _)| has == kind).peekable();
        of_kind.peek().is_none()
            || of_kind.any(|(_, has)| has == name || has.trim_end_matches(":latest") == name)
    };
    let volumes = candidate.task.template.container.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { driver, .. } if !driver.is_empty() => Some(driver.as_str()),
        _ => None,
    });
    let logging = candidate.task.logging().into_iter().map(|logging| logging.driver.as_str());
    volumes.into_iter().all(|driver| has("Volume", driver))
        && candidate.network_drivers.iter().all(|driver| has("Network", driver))
        && logging.filter(|driver| !matches!(*driver, "" | "none")).all(|driver| has("Log", driver))
}

fn meets_constraints(candidate: &Candidate<'_>, node: &Node) -> bool {
    candidate
        .constraints
        .as_ref()
        .is_some_and(|constraints| constraints.iter().all(|constraint| constraint.is_met_by(node)))
}

fn is_platform(task: &Task, node: &NodeDescription) -> bool {
    let platforms = &task.template.placement.platforms;
    platforms.is_empty()
        || platforms.iter().any(|asked| {
            // Nothing said is any; what is said may be another name of the same (`x86_64`).
            let os = if asked.os.is_empty() { &node.platform.os } else { &asked.os };
            let asked = Platform::new(os, &asked.architecture, &asked.variant);
            asked.os == node.platform.os
                && (asked.architecture.is_empty() || asked.rank_on(&node.platform).is_some())
        })
}

fn has_ports(task: &Task, load: &NodeLoad) -> bool {
    use shoal_types::cluster::service::PublishMode;
    task.endpoint
        .ports
        .iter()
        .filter(|port| port.mode == PublishMode::Host && port.published != 0)
        .all(|port| !load.host_ports.contains_key(&(port.protocol, port.published)))
}

fn may_have_another(task: &Task, load: &NodeLoad) -> bool {
    let most = task.template.placement.max_per_node;
    most == 0 || load.by_service.get(&task.service).copied().unwrap_or(0) < most
}

/// What a task is given of its node's named resources.
pub(super) fn claims(task: &Task, node: &Node, load: &NodeLoad) -> Vec<(String, GenericResource)> {
    let has = node.description.as_ref().map(|description| description.generic.as_slice()).unwrap_or_default();
    generic::claim(&task.template.resources.reserved_generic, has, load).unwrap_or_default()
}

//! What tasks take of a node: kept up to date with every change, so that placing a task never counts tasks.
//!
//! Start reading at [`NodeLoad`]. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use shoal_types::ServiceId;
use shoal_types::cluster::service::{GenericResource, PublishMode};
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::container::networking::Protocol;

/// How long a failure of a task counts against its node (swarm's figure).
pub(super) const FAILURE_MEMORY: Duration = Duration::from_secs(5 * 60);
/// How many failures within [`FAILURE_MEMORY`] put a node behind all others (swarm's figure).
pub(super) const FAILURES_THAT_COUNT: usize = 5;

/// What tasks take of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeLoad {
    /// Billionths of a processor that are reserved.
    pub nano_cpus: i64,
    /// Bytes of memory that are reserved.
    pub memory: i64,
    /// Named resources that are taken, by kind: how many that are all alike, and which particular ones.
    pub generic: BTreeMap<String, (u64, BTreeSet<String>)>,
    /// Tasks that are wanted there.
    pub active: u64,
    /// The same by service.
    pub by_service: BTreeMap<ServiceId, u64>,
    /// Ports of the node that tasks publish on it alone, and by how many tasks.
    pub host_ports: BTreeMap<(Protocol, u16), u32>,
    /// The last failures of each version of a service's spec, oldest first. Not rebuilt after a restart of the manager
    /// for tasks that are forgotten by then.
    failures: BTreeMap<(ServiceId, u64), Vec<Timestamp>>,
}

/// Whether a task takes something of its node: from its assignment on until nothing of it runs any more. A task that was made for
/// a particular node takes nothing before the scheduler has agreed.
fn occupies(task: &Task) -> bool {
    (TaskState::Assigned..=TaskState::Running).contains(&task.status.state)
}

impl NodeLoad {
    /// Whether nothing is known of the node's tasks.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What can be told from the tasks that there are.
    #[cfg(test)]
    pub(super) fn without_failures(&self) -> Self {
        Self { failures: BTreeMap::new(), ..self.clone() }
    }

    /// Whether tasks of this version of a service have failed there too often of late.
    pub fn is_failing(&self, service: ServiceId, spec_version: u64, now: Timestamp) -> bool {
        self.failures.get(&(service, spec_version)).is_some_and(|failures| {
            failures.iter().filter(|&&at| is_recent(at, now)).count() >= FAILURES_THAT_COUNT
        })
    }

    /// Counts a task in.
    pub(crate) fn add(&mut self, task: &Task) {
        if occupies(task) {
            self.nano_cpus = self.nano_cpus.saturating_add(task.template.resources.reserved_nano_cpus);
            self.memory = self.memory.saturating_add(task.template.resources.reserved_memory);
            for (kind, resource) in &task.generic {
                let taken = self.generic.entry(kind.clone()).or_default();
                match resource {
                    GenericResource::Discrete(amount) => taken.0 = taken.0.saturating_add(*amount),
                    GenericResource::Named(name) => {
                        taken.1.insert(name.clone());
                    }
                }
            }
            for port in host_ports(task) {
                let uses = self.host_ports.entry(port).or_default();
                *uses = uses.saturating_add(1);
            }
            if task.is_wanted() {
                self.active = self.active.saturating_add(1);
                let tasks = self.by_service.entry(task.service).or_default();
                *tasks = tasks.saturating_add(1);
            }
        }
    }

    /// Counts a task out that was counted in in this form.
    pub(super) fn remove(&mut self, task: &Task) {
        if !occupies(task) {
            return;
        }
        self.nano_cpus = self.nano_cpus.saturating_sub(task.template.resources.reserved_nano_cpus);
        self.memory = self.memory.saturating_sub(task.template.resources.reserved_memory);
        for (kind, resource) in &task.generic {
            if let Some(taken) = self.generic.get_mut(kind) {
                match resource {
                    GenericResource::Discrete(amount) => taken.0 = taken.0.saturating_sub(*amount),
                    GenericResource::Named(name) => {
                        taken.1.remove(name);
                    }
                }
                if taken.0 == 0 && taken.1.is_empty() {
                    self.generic.remove(kind);
                }
            }
        }
        for port in host_ports(task) {
            if let Some(uses) = self.host_ports.get_mut(&port) {
                *uses = uses.saturating_sub(1);
                if *uses == 0 {
                    self.host_ports.remove(&port);
                }
            }
        }
        if task.is_wanted() {
            self.active = self.active.saturating_sub(1);
            if let Some(tasks) = self.by_service.get_mut(&task.service) {
                *tasks = tasks.saturating_sub(1);
                if *tasks == 0 {
                    self.by_service.remove(&task.service);
                }
            }
        }
    }

    /// Remembers that a task has failed.
    pub(super) fn note_failure(&mut self, task: &Task, at: Timestamp) {
        self.failures.retain(|_, failures| failures.last().is_some_and(|&last| is_recent(last, at)));
        let failures = self.failures.entry((task.service, task.spec_version)).or_default();
        if failures.len() >= FAILURES_THAT_COUNT {
            failures.remove(0);
        }
        failures.push(at);
    }
}

/// Whether two forms of a task take the same of their node.
pub(super) fn is_same(before: &Task, after: &Task) -> bool {
    let reserved = |task: &Task| {
        let resources = &task.template.resources;
        (resources.reserved_nano_cpus, resources.reserved_memory, task.is_wanted())
    };
    match (occupies(before), occupies(after)) {
        (false, false) => true,
        (true, true) => {
            (before.service, before.node, reserved(before)) == (after.service, after.node, reserved(after))
                && before.generic == after.generic
                && host_ports(before).eq(host_ports(after))
        }
        (true, false) | (false, true) => false,
    }
}

fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    at.checked_add(FAILURE_MEMORY).is_ok_and(|end| end > now)
}

/// Ports that a task publishes on its own node under a number that is known beforehand.
pub(super) fn host_ports(task: &Task) -> impl Iterator<Item = (Protocol, u16)> + '_ {
    task.endpoint
        .ports
        .iter()
        .filter(|port| port.mode == PublishMode::Host && port.published != 0)
        .map(|port| (port.protocol, port.published))
}

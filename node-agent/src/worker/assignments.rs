//! What managers have told this node to have.
//!
//! Start reading at [`Assigned::apply`]. Pure: a message goes in, what it changes comes out. Secrets and configs are held here and
//! nowhere else on the node, but for the memory that containers see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shoal_types::cluster::secret::{Config, Secret};
use shoal_types::cluster::task::Task;
use shoal_types::network::Network;
use shoal_types::protocol::{Assignment, AssignmentChange, AssignmentMessage};
use shoal_types::{ConfigId, NetworkId, SecretId, TaskId};

/// Everything that tasks of this node refer to.
#[derive(Debug, Clone, Default)]
pub(super) struct Dependencies {
    /// Secrets.
    pub(super) secrets: BTreeMap<SecretId, Arc<Secret>>,
    /// Configs.
    pub(super) configs: BTreeMap<ConfigId, Arc<Config>>,
    /// Networks.
    pub(super) networks: BTreeMap<NetworkId, Arc<Network>>,
    /// Whether a manager has told them in this life of the daemon. Until then something that is missing is only not known.
    pub(super) are_known: bool,
}

/// What the node was told.
#[derive(Debug, Default)]
pub(super) struct Assigned {
    at: Option<u64>,
    tasks: BTreeMap<TaskId, Arc<Task>>,
    dependencies: Arc<Dependencies>,
}

/// What a message has changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Difference {
    /// Tasks that are new or other than before.
    pub(super) updated: Vec<TaskId>,
    /// Tasks that are to be forgotten.
    pub(super) removed: Vec<TaskId>,
}

/// A message that does not continue what the node was told: the session has to be opened anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap;

impl Assigned {
    /// What the node still knew when its daemon started.
    pub(super) fn restored(tasks: impl IntoIterator<Item = Task>) -> Self {
        let tasks = tasks.into_iter().map(|task| (task.id, Arc::new(task))).collect();
        Self { tasks, ..Self::default() }
    }

    /// A task.
    pub(super) fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// All tasks.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// What tasks refer to.
    pub(super) fn dependencies(&self) -> Arc<Dependencies> {
        Arc::clone(&self.dependencies)
    }

    /// Takes a message in. A full one replaces everything; an incremental one must continue the one before.
    pub(super) fn apply(&mut self, message: AssignmentMessage) -> Result<Difference, Gap> {
        let is_full = message.applies_to.is_none();
        if !is_full && message.applies_to != self.at {
            return Err(Gap);
        }
        let mut dependencies =
            if is_full { Dependencies::default() } else { self.dependencies.as_ref().clone() };
        dependencies.are_known = true;
        let mut updated = BTreeSet::new();
        let mut removed: BTreeSet<TaskId> =
            if is_full { self.tasks.keys().copied().collect() } else { BTreeSet::new() };
        for change in message.changes {
            match change {
                AssignmentChange::Update(Assignment::Task(task)) => {
                    removed.remove(&task.id);
                    if self.tasks.get(&task.id).is_none_or(|known| !means_the_same(known, &task)) {
                        updated.insert(task.id);
                    }
                    self.tasks.insert(task.id, Arc::new(*task));
                }
                AssignmentChange::RemoveTask(id) => {
                    updated.remove(&id);
                    removed.insert(id);
                }
                change => depend(&mut dependencies, change),
            }
        }
        removed.retain(|id| self.tasks.remove(id).is_some());
        self.at = Some(message.results_in);
        self.dependencies = Arc::new(dependencies);
        Ok(Difference { updated: updated.into_iter().collect(), removed: removed.into_iter().collect() })
    }
}

/// Whether two forms of a task ask the same of the node. What managers note about it (its status as reported, times, versions)
/// asks nothing.
fn means_the_same(one: &Task, other: &Task) -> bool {
    one.desired == other.desired
        && one.template == other.template
        && one.endpoint == other.endpoint
        && one.networks == other.networks
        && one.generic == other.generic
}

fn depend(dependencies: &mut Dependencies, change: AssignmentChange) {
    match change {
        AssignmentChange::Update(Assignment::Secret(secret)) => {
            dependencies.secrets.insert(secret.id, Arc::new(secret));
        }
        AssignmentChange::Update(Assignment::Config(config)) => {
            dependencies.configs.insert(config.id, Arc::new(config));
        }
        AssignmentChange::Update(Assignment::Network(network)) => {
            dependencies.networks.insert(network.id.clone(), Arc::new(*network));
        }
        AssignmentChange::RemoveSecret(id) => {
            dependencies.secrets.remove(&id);
        }
        AssignmentChange::RemoveConfig(id) => {
            dependencies.configs.remove(&id);
        }
        AssignmentChange::RemoveNetwork(id) => {
            dependencies.networks.remove(&id);
        }
        AssignmentChange::Update(Assignment::Overlay(overlay)) => {
            dependencies.networks.insert(overlay.network.id.clone(), Arc::new(overlay.network));
        }
        AssignmentChange::RemoveOverlay(id) => {
            dependencies.networks.remove(&id);
        }
        // Tasks are the caller's, tables of networks the node's (`super::overlays`).
        AssignmentChange::Update(Assignment::Task(_) | Assignment::Entry(..))
        | AssignmentChange::RemoveTask(_)
        | AssignmentChange::RemoveEntry(..) => {}
    }
}

#[cfg(test)]
mod tests {
    use shoal_types::cluster::task_state::TaskState;

    use super::*;
    use crate::worker::testing::{a_secret, a_task};

    fn update(task: &Task) -> AssignmentChange {
        AssignmentChange::Update(Assignment::Task(Box::new(task.clone())))
    }

    fn message(
        applies_to: Option<u64>,
        results_in: u64,
        changes: Vec<AssignmentChange>,
    ) -> AssignmentMessage {
        AssignmentMessage { applies_to, results_in, changes }
    }

    #[test]
    fn a_full_message_forgets_what_it_does_not_name() {
        let (one, two) = (a_task("one", 1), a_task("two", 1));
        let mut assigned = Assigned::restored([one.clone(), two.clone()]);
        assert!(!assigned.dependencies().are_known);
        let mut changed = two;
        changed.desired = TaskState::Shutdown;
        let three = a_task("three", 1);
        let difference = assigned.apply(message(None, 7, vec![update(&changed), update(&three)])).unwrap();
        let mut updated = vec![changed.id, three.id];
        updated.sort();
        assert_eq!(difference, Difference { updated, removed: vec![one.id] });
        assert!(assigned.dependencies().are_known);
    }

    #[test]
    fn what_managers_note_about_a_task_is_no_difference() {
        let mut one = a_task("one", 1);
        let mut assigned = Assigned::restored([one.clone()]);
        one.meta.version = 9;
        one.status.state = TaskState::Running;
        assert_eq!(assigned.apply(message(None, 7, vec![update(&one)])), Ok(Difference::default()));
    }

    #[test]
    fn increments_apply_in_order_or_not_at_all() {
        let one = a_task("one", 1);
        let mut assigned = Assigned::default();
        assert_eq!(assigned.apply(message(Some(1), 2, vec![])), Err(Gap));
        assigned.apply(message(None, 1, vec![])).unwrap();
        let secret = a_secret("pw", b"x");
        let both = vec![AssignmentChange::Update(Assignment::Secret(secret.clone())), update(&one)];
        let difference = assigned.apply(message(Some(1), 2, both)).unwrap();
        assert_eq!(difference.updated, [one.id]);
        assert!(assigned.dependencies().secrets.contains_key(&secret.id));
        assert_eq!(assigned.apply(message(Some(1), 3, vec![])), Err(Gap));
        let gone = vec![AssignmentChange::RemoveTask(one.id), AssignmentChange::RemoveSecret(secret.id)];
        assert_eq!(assigned.apply(message(Some(2), 3, gone)).unwrap().removed, [one.id]);
        assert!(assigned.dependencies().secrets.is_empty());
    }
}

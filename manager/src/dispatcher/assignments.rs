//! What a node shall have, and how that differs from what it was told. Pure.
//!
//! Start reading at [`Told::catch_up`]. A node is told of its tasks from the moment they are given to it until they are forgotten, and of the
//! secrets, configs and networks that its living tasks use: of nothing else. What a node itself reports is not told back to
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::network::Network;
use shoal_types::protocol::{Assignment, AssignmentChange, AssignmentMessage};
use shoal_types::{ConfigId, NetworkId, NodeId, SecretId, TaskId};

use crate::store::Snapshot;

/// What a node was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Rises with each message; 0 before the first.
    sequence: u64,
    tasks: BTreeMap<TaskId, Arc<Task>>,
    secrets: BTreeMap<SecretId, u64>,
    configs: BTreeMap<ConfigId, u64>,
    networks: BTreeMap<NetworkId, u64>,
}

impl Told {
    /// What to tell the node so that it knows what `snapshot` says, and remembers that it was told. The first message is the
    /// whole, later ones are differences; `None` if there is none.
    pub(crate) fn catch_up(&mut self, node: NodeId, snapshot: &Snapshot) -> Option<AssignmentMessage> {
        let wanted = wanted_tasks(node, snapshot);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        self.tell_files(&wanted, snapshot, &mut before, &mut after);
        self.tell_networks(&wanted, snapshot, &mut before, &mut after);
        let mut changes = before;
        for (id, task) in &wanted {
            if self.tasks.get(id).is_none_or(|told| !is_same_to_node(told, task)) {
                changes.push(AssignmentChange::Update(Assignment::Task(Box::new(Task::clone(task)))));
            }
        }
        changes.extend(
            self.tasks
                .keys()
                .filter(|id| !wanted.contains_key(id))
                .map(|id| AssignmentChange::RemoveTask(*id)),
        );
        changes.extend(after);
        self.tasks = wanted;
        if changes.is_empty() && self.sequence > 0 {
            return None;
        }
        let applies_to = (self.sequence > 0).then_some(self.sequence);
        self.sequence += 1;
        Some(AssignmentMessage { applies_to, results_in: self.sequence, changes })
    }

    fn tell_files(
        &mut self,
        tasks: &BTreeMap<TaskId, Arc<Task>>,
        snapshot: &Snapshot,
        before: &mut Vec<AssignmentChange>,
        after: &mut Vec<AssignmentChange>,
    ) {
        let living = || tasks.values().filter(|task| is_living(task)).map(|task| &task.template.container);
        let secrets = living().flat_map(|container| &container.secrets).map(|wish| wish.id);
        let secrets: BTreeSet<SecretId> = secrets.collect();
        let configs = living().flat_map(|container| &container.configs).map(|wish| wish.id);
        let configs: BTreeSet<ConfigId> = configs.collect();
        for secret in secrets.iter().filter_map(|id| snapshot.secret(*id)) {
            if self.secrets.insert(secret.id, secret.meta.version) != Some(secret.meta.version) {
                before.push(AssignmentChange::Update(Assignment::Secret((**secret).clone())));
            }
        }
        for config in configs.iter().filter_map(|id| snapshot.config(*id)) {
            if self.configs.insert(config.id, config.meta.version) != Some(config.meta.version) {
                before.push(AssignmentChange::Update(Assignment::Config((**config).clone())));
            }
        }
        let gone =
            self.secrets.extract_if(.., |id, _| !secrets.contains(id) || snapshot.secret(*id).is_none());
        after.extend(gone.map(|(id, _)| AssignmentChange::RemoveSecret(id)));
        let gone =
            self.configs.extract_if(.., |id, _| !configs.contains(id) || snapshot.config(*id).is_none());
        after.extend(gone.map(|(id, _)| AssignmentChange::RemoveConfig(id)));
    }

    fn tell_networks(
        &mut self,
        tasks: &BTreeMap<TaskId, Arc<Task>>,
        snapshot: &Snapshot,
        before: &mut Vec<AssignmentChange>,
        after: &mut Vec<AssignmentChange>,
    ) {
        let living = tasks.values().filter(|task| is_living(task));
        let used: BTreeSet<&NetworkId> =
            living.flat_map(|task| &task.networks).map(|attachment| &attachment.network).collect();
        for network in used.iter().filter_map(|id| snapshot.network(id)) {
            if self.networks.insert(network.id.clone(), network.meta.version) != Some(network.meta.version) {
                let network = Network {
                    id: network.id.clone(),
                    spec: network.spec.clone(),
                    created: network.meta.created,
                };
                before.push(AssignmentChange::Update(Assignment::Network(Box::new(network))));
            }
        }
        let gone = self.networks.extract_if(.., |id, _| !used.contains(id) || snapshot.network(id).is_none());
        after.extend(gone.map(|(id, _)| AssignmentChange::RemoveNetwork(id)));
    }
}

/// Tasks that a node shall know of: those that were given to it and are not forgotten.
fn wanted_tasks(node: NodeId, snapshot: &Snapshot) -> BTreeMap<TaskId, Arc<Task>> {
    snapshot
        .tasks_on(node)
        .filter(|task| task.status.state >= TaskState::Assigned && task.status.state != TaskState::Orphaned)
        .map(|task| (task.id, Arc::clone(task)))
        .collect()
}

/// Whether something of the task runs, or will.
fn is_living(task: &Task) -> bool {
    !task.status.state.is_terminal() && task.desired <= TaskState::Complete
}

/// Whether two forms of a task differ only in what its node has reported.
fn is_same_to_node(told: &Task, now: &Task) -> bool {
    if told.meta.version == now.meta.version {
        return true;
    }
    let mut as_told = now.clone();
    as_told.meta = told.meta;
    as_told.status = told.status.clone();
    as_told.started = told.started;
    as_told.ended = told.ended;
    as_told == *told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::store::{Change, Object};
    use shoal_types::cluster::secret::{FileTarget, Secret, SecretReference, SecretSpec};

    const NODE: NodeId = NodeId::from_u128(1);

    fn secret(number: u128) -> Secret {
        let spec = SecretSpec { name: format!("secret{number}"), ..SecretSpec::default() };
        Secret { id: SecretId::from_u128(number), meta: fixtures::meta(), spec }
    }

    fn task(number: u128, node: u128, secrets: &[u128]) -> Task {
        let mut task =
            fixtures::task(number, &fixtures::service(1, 1), number.try_into().unwrap(), TaskState::Assigned);
        task.node = Some(NodeId::from_u128(node));
        let target = FileTarget { path: "s".into(), uid: "0".into(), gid: "0".into(), mode: 0o444 };
        Arc::make_mut(&mut task.template).container.secrets = secrets
            .iter()
            .map(|number| SecretReference {
                id: SecretId::from_u128(*number),
                name: format!("secret{number}"),
                target: target.clone(),
            })
            .collect();
        task
    }

    fn shapes(message: &AssignmentMessage) -> Vec<String> {
        let shape = |change: &AssignmentChange| match change {
            AssignmentChange::Update(Assignment::Task(task)) => format!("+t{}", task.id.as_u128()),
            AssignmentChange::Update(Assignment::Secret(secret)) => format!("+s{}", secret.id.as_u128()),
            AssignmentChange::RemoveTask(id) => format!("-t{}", id.as_u128()),
            AssignmentChange::RemoveSecret(id) => format!("-s{}", id.as_u128()),
            other => format!("{other:?}"),
        };
        message.changes.iter().map(shape).collect()
    }

    fn create(snapshot: &mut Snapshot, objects: impl IntoIterator<Item = Object>) {
        let index = snapshot.index() + 1;
        let changes: Vec<Change> = objects.into_iter().map(Change::Create).collect();
        snapshot.apply(index, &changes).unwrap();
    }

    fn change(snapshot: &mut Snapshot, change: Change) {
        let index = snapshot.index() + 1;
        snapshot.apply(index, &[change]).unwrap();
    }

    #[test]
    fn the_first_message_is_the_whole_and_later_ones_are_differences() {
        let (mut snapshot, mut told) = (Snapshot::default(), Told::default());
        create(&mut snapshot, [secret(7).into(), secret(8).into(), secret(9).into()]);
        create(&mut snapshot, [task(1, 1, &[7]).into(), task(2, 2, &[9]).into()]);
        let first = told.catch_up(NODE, &snapshot).unwrap();
        assert_eq!((first.applies_to, first.results_in), (None, 1));
        assert_eq!(shapes(&first), ["+s7", "+t1"], "nothing of other nodes");
        assert!(told.catch_up(NODE, &snapshot).is_none());
        create(&mut snapshot, [task(3, 1, &[7, 8]).into()]);
        let second = told.catch_up(NODE, &snapshot).unwrap();
        assert_eq!((second.applies_to, second.results_in), (Some(1), 2));
        assert_eq!(shapes(&second), ["+s8", "+t3"], "what a task needs comes before it, and only once");
        change(&mut snapshot, Change::Remove(crate::store::Key::Task(TaskId::from_u128(3))));
        assert_eq!(shapes(&told.catch_up(NODE, &snapshot).unwrap()), ["-t3", "-s8"]);
    }

    #[test]
    fn an_empty_node_is_told_so_once() {
        let (snapshot, mut told) = (Snapshot::default(), Told::default());
        let first = told.catch_up(NODE, &snapshot).unwrap();
        assert!(first.applies_to.is_none() && first.changes.is_empty());
        assert!(told.catch_up(NODE, &snapshot).is_none());
    }

    #[test]
    fn what_a_node_reports_is_not_told_back_but_its_end_takes_secrets_away() {
        let (mut snapshot, mut told) = (Snapshot::default(), Told::default());
        create(&mut snapshot, [secret(7).into()]);
        create(&mut snapshot, [task(1, 1, &[7]).into()]);
        told.catch_up(NODE, &snapshot).unwrap();
        let id = TaskId::from_u128(1);
        let report = |state| Change::ReportTask {
            task: id,
            status: fixtures::status(state, fixtures::at(1)),
            at: fixtures::at(1),
        };
        change(&mut snapshot, report(TaskState::Running));
        assert!(told.catch_up(NODE, &snapshot).is_none());
        change(&mut snapshot, Change::Desire { task: id, state: TaskState::Shutdown, at: fixtures::at(2) });
        assert_eq!(shapes(&told.catch_up(NODE, &snapshot).unwrap()), ["+t1", "-s7"]);
        change(&mut snapshot, report(TaskState::Shutdown));
        assert!(told.catch_up(NODE, &snapshot).is_none());
    }

    #[test]
    fn a_task_without_a_node_yet_is_told_to_nobody() {
        let (mut snapshot, mut told) = (Snapshot::default(), Told::default());
        let mut waiting = task(1, 1, &[]);
        waiting.status.state = TaskState::Pending;
        create(&mut snapshot, [waiting.into()]);
        assert!(told.catch_up(NODE, &snapshot).unwrap().changes.is_empty());
    }
}

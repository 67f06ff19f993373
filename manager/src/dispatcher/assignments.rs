//! What a node shall have, and how that differs from what it was told. Pure.
//!
//! Start reading at [`Told::catch_up`]. A node is told of its tasks from the moment they are given to it until they are forgotten, and of the
//! secrets, configs and networks that its living tasks use: of nothing else. What a node itself reports is not told back to
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shoal_types::cluster::overlay::{OVERLAY_DRIVER, OverlayNetwork};
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::network::Network;
use shoal_types::protocol::{Assignment, AssignmentChange, AssignmentMessage};
use shoal_types::{ConfigId, NetworkId, NodeId, SecretId, TaskId};

use super::drains::{Drains, is_draining};
use crate::overlay::entries;
use crate::overlay::tables::{News, Tables};
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
    overlays: BTreeMap<NetworkId, ToldOverlay>,
}

/// What a node was told of a network that spans nodes.
#[derive(Debug)]
struct ToldOverlay {
    network: OverlayNetwork,
    /// How far it was told the table.
    revision: u64,
}

impl Told {
    /// What to tell the node so that it knows what `snapshot` says, and remembers that it was told. The first message is the
    /// whole, later ones are differences; `None` if there is none.
    pub(crate) fn catch_up(
        &mut self,
        node: NodeId,
        snapshot: &Snapshot,
        tables: &Tables,
        drains: &Drains,
    ) -> Option<AssignmentMessage> {
        let mut wanted = wanted_tasks(node, snapshot);
        self.hold_back(&mut wanted, drains);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        self.tell_files(&wanted, snapshot, &mut before, &mut after);
        self.tell_networks(&wanted, snapshot, &mut before, &mut after);
        self.tell_overlays(node, snapshot, tables, (&mut before, &mut after));
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

    /// Takes in a task that was told and of which nothing is new to the node, so that an older form of it is not kept.
    pub(super) fn take_in(&mut self, task: &Arc<Task>) {
        if let Some(told) = self.tasks.get_mut(&task.id) {
            *told = Arc::clone(task);
        }
    }

    /// Leaves tasks that shall stop as the node was told of them, for as long as others may still lead clients to them.
    fn hold_back(&self, wanted: &mut BTreeMap<TaskId, Arc<Task>>, drains: &Drains) {
        for (id, task) in wanted.iter_mut().filter(|(id, task)| is_draining(task) && drains.holds(**id)) {
            if let Some(told) = self.tasks.get(id).filter(|told| told.desired <= TaskState::Complete) {
                *task = Arc::clone(told);
            }
        }
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
        let spans_nodes = |id: &&NetworkId| {
            snapshot.network(id).is_some_and(|network| network.spec.driver == OVERLAY_DRIVER)
        };
        let used: BTreeSet<&NetworkId> = living
            .flat_map(|task| &task.networks)
            .map(|attachment| &attachment.network)
            .filter(|id| !spans_nodes(id))
            .collect();
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

impl Told {
    /// Whether the node was told of one of these networks.
    pub(crate) fn knows_any(&self, networks: &BTreeSet<NetworkId>) -> bool {
        networks.iter().any(|network| self.overlays.contains_key(network))
    }

    fn tell_overlays(
        &mut self,
        node: NodeId,
        snapshot: &Snapshot,
        tables: &Tables,
        (before, after): (&mut Vec<AssignmentChange>, &mut Vec<AssignmentChange>),
    ) {
        let used = entries::networks_of(snapshot, node);
        let networks = used.iter().filter_map(|id| snapshot.network(id));
        for network in networks.filter_map(|network| entries::network(snapshot, network, node)) {
            let id = network.network.id.clone();
            let told = self.overlays.get(&id);
            let news = tables.since(&id, told.map(|told| told.revision));
            let is_anew = told.is_some() && matches!(news, News::Whole(_));
            if is_anew {
                before.push(AssignmentChange::RemoveOverlay(id.clone()));
            }
            if is_anew || told.is_none_or(|told| told.network != network) {
                before.push(AssignmentChange::Update(Assignment::Overlay(Box::new(network.clone()))));
            }
            let update = |entry| AssignmentChange::Update(Assignment::Entry(id.clone(), Box::new(entry)));
            match news {
                News::Whole(entries) => {
                    before.extend(entries.into_iter().map(|entry| update(entry.as_ref().clone())));
                }
                News::Changes(changes) => {
                    before.extend(changes.into_iter().map(|(key, entry)| match entry {
                        Some(entry) => update(entry.as_ref().clone()),
                        None => AssignmentChange::RemoveEntry(id.clone(), key),
                    }));
                }
            }
            let revision = tables.revision(&id);
            self.overlays.insert(id, ToldOverlay { network, revision });
        }
        let gone = self.overlays.extract_if(.., |id, _| !used.contains(id));
        after.extend(gone.map(|(id, _)| AssignmentChange::RemoveOverlay(id)));
    }
}

/// Tasks that a node shall know of: those that were given to it and are not forgotten.
fn wanted_tasks(node: NodeId, snapshot: &Snapshot) -> BTreeMap<TaskId, Arc<Task>> {
    snapshot
        .tasks_on(node)
        .filter(|task| is_known_to_node(task))
        .map(|task| (task.id, Arc::clone(task)))
        .collect()
}

/// Whether the task was given to a node that may still have it.
fn is_known_to_node(task: &Task) -> bool {
    task.status.state >= TaskState::Assigned && task.status.state != TaskState::Orphaned
}

/// Whether something of the task runs, or will.
fn is_living(task: &Task) -> bool {
    !task.status.state.is_terminal() && task.desired <= TaskState::Complete
}

/// Whether a task has become so that its node may have to be told something. Not if only what the node itself has reported of it is
/// new, and the task neither has ended by that nor shall stop.
pub(super) fn is_news(before: &Task, after: &Task) -> bool {
    let known = |task: &Task| (is_known_to_node(task), task.status.state.is_terminal());
    after.desired > TaskState::Complete || known(before) != known(after) || !is_same_to_node(before, after)
}

/// Whether two forms of a task differ only in what its node has reported.
fn is_same_to_node(told: &Task, now: &Task) -> bool {
    // Everything is named, so that no later field is forgotten here.
    let Task {
        id,
        meta,
        service,
        place,
        service_name,
        template,
        usual_logging,
        endpoint,
        node,
        desired,
        status: _,
        networks,
        generic,
        not_before,
        started: _,
        ended: _,
        labels,
        job_iteration,
        spec_version,
    } = told;
    meta.version == now.meta.version
        || ((id, service, place, node) == (&now.id, &now.service, &now.place, &now.node)
            && (desired, not_before) == (&now.desired, &now.not_before)
            && (job_iteration, spec_version) == (&now.job_iteration, &now.spec_version)
            && (networks, generic) == (&now.networks, &now.generic)
            && usual_logging == &now.usual_logging
            && (service_name, labels, endpoint) == (&now.service_name, &now.labels, &now.endpoint)
            && (Arc::ptr_eq(template, &now.template) || *template == now.template))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::store::{Change, Object};
    use shoal_types::cluster::overlay::EntryKey;
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

    fn tell(told: &mut Told, snapshot: &Snapshot) -> Option<AssignmentMessage> {
        let mut tables = Tables::default();
        tables.advance(&Arc::new(snapshot.clone()));
        told.catch_up(NODE, snapshot, &tables, &Drains::default())
    }

    fn shapes(message: &AssignmentMessage) -> Vec<String> {
        let shape = |change: &AssignmentChange| match change {
            AssignmentChange::Update(Assignment::Task(task)) => format!("+t{}", task.id.as_u128()),
            AssignmentChange::Update(Assignment::Secret(secret)) => format!("+s{}", secret.id.as_u128()),
            AssignmentChange::RemoveTask(id) => format!("-t{}", id.as_u128()),
            AssignmentChange::RemoveSecret(id) => format!("-s{}", id.as_u128()),
            AssignmentChange::Update(Assignment::Overlay(overlay)) => format!("+n{}", overlay.network.id),
            AssignmentChange::Update(Assignment::Entry(_, entry)) => match entry.key() {
                EntryKey::Task(id) => format!("+p{}", id.as_u128()),
                other => format!("+{other:?}"),
            },
            AssignmentChange::RemoveEntry(_, EntryKey::Task(id)) => format!("-p{}", id.as_u128()),
            AssignmentChange::RemoveOverlay(id) => format!("-n{id}"),
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
        let first = tell(&mut told, &snapshot).unwrap();
        assert_eq!((first.applies_to, first.results_in), (None, 1));
        assert_eq!(shapes(&first), ["+s7", "+t1"], "nothing of other nodes");
        assert!(tell(&mut told, &snapshot).is_none());
        create(&mut snapshot, [task(3, 1, &[7, 8]).into()]);
        let second = tell(&mut told, &snapshot).unwrap();
        assert_eq!((second.applies_to, second.results_in), (Some(1), 2));
        assert_eq!(shapes(&second), ["+s8", "+t3"], "what a task needs comes before it, and only once");
        change(&mut snapshot, Change::Remove(crate::store::Key::Task(TaskId::from_u128(3))));
        assert_eq!(shapes(&tell(&mut told, &snapshot).unwrap()), ["-t3", "-s8"]);
    }

    #[test]
    fn an_empty_node_is_told_so_once() {
        let (snapshot, mut told) = (Snapshot::default(), Told::default());
        let first = tell(&mut told, &snapshot).unwrap();
        assert!(first.applies_to.is_none() && first.changes.is_empty());
        assert!(tell(&mut told, &snapshot).is_none());
    }

    #[test]
    fn what_a_node_reports_is_not_told_back_but_its_end_takes_secrets_away() {
        let (mut snapshot, mut told) = (Snapshot::default(), Told::default());
        create(&mut snapshot, [secret(7).into()]);
        create(&mut snapshot, [task(1, 1, &[7]).into()]);
        tell(&mut told, &snapshot).unwrap();
        let id = TaskId::from_u128(1);
        let report = |state| Change::ReportTask {
            task: id,
            status: fixtures::status(state, fixtures::at(1)),
            at: fixtures::at(1),
        };
        change(&mut snapshot, report(TaskState::Running));
        assert!(tell(&mut told, &snapshot).is_none());
        change(&mut snapshot, Change::Desire { task: id, state: TaskState::Shutdown, at: fixtures::at(2) });
        assert_eq!(shapes(&tell(&mut told, &snapshot).unwrap()), ["+t1", "-s7"]);
        change(&mut snapshot, report(TaskState::Shutdown));
        assert!(tell(&mut told, &snapshot).is_none());
    }

    #[test]
    fn a_task_without_a_node_yet_is_told_to_nobody() {
        let (mut snapshot, mut told) = (Snapshot::default(), Told::default());
        let mut waiting = task(1, 1, &[]);
        waiting.status.state = TaskState::Pending;
        create(&mut snapshot, [waiting.into()]);
        assert!(tell(&mut told, &snapshot).unwrap().changes.is_empty());
    }

    #[test]
    fn a_task_that_drains_is_told_to_stop_when_nobody_leads_there_any_more() {
        let (mut snapshot, mut told, mut drains) = (Snapshot::default(), Told::default(), Drains::default());
        let mut tables = Tables::default();
        let mut catch_up = |snapshot: &Snapshot, told: &mut Told, drains: &Drains| {
            tables.advance(&Arc::new(snapshot.clone()));
            let message = told.catch_up(NODE, snapshot, &tables, drains);
            message.map(|message| (shapes(&message), message.tells_of_draining()))
        };
        let mut serving = task(1, 1, &[7]);
        serving.status.state = TaskState::Running;
        serving.desired = TaskState::Running;
        serving.networks = vec![shoal_types::cluster::task::TaskAttachment {
            network: NetworkId::new("net1"),
            addresses: vec!["10.0.1.9/24".parse().unwrap()],
            aliases: Vec::new(),
            driver_options: BTreeMap::new(),
        }];
        let id = serving.id;
        create(&mut snapshot, [fixtures::node(1).into(), fixtures::network("net1", "one", 1).into()]);
        create(&mut snapshot, [secret(7).into(), serving.into()]);
        let told_at_first = catch_up(&snapshot, &mut told, &drains).unwrap();
        assert_eq!(told_at_first, (vec!["+s7".into(), "+nnet1".into(), "+p1".into(), "+t1".into()], false));
        change(&mut snapshot, Change::Desire { task: id, state: TaskState::Shutdown, at: fixtures::at(2) });
        // In the table at once; the task itself, and what it needs, stay.
        assert_eq!(catch_up(&snapshot, &mut told, &drains), Some((vec!["+p1".into()], true)));
        assert_eq!(catch_up(&snapshot, &mut told, &drains), None);
        let now = std::time::Instant::now();
        drains.begin(id, [(NODE, 2)].into(), now);
        assert_eq!(catch_up(&snapshot, &mut told, &drains), None);
        assert_eq!(drains.note(NODE, 2), [id]);
        assert_eq!(catch_up(&snapshot, &mut told, &drains), Some((vec!["+t1".into(), "-s7".into()], false)));
    }

    #[test]
    fn a_network_comes_with_its_table_before_the_task_and_then_one_entry_at_a_time() {
        let (mut snapshot, mut told, mut tables) = (Snapshot::default(), Told::default(), Tables::default());
        let mut catch_up = |snapshot: &Snapshot, told: &mut Told| {
            tables.advance(&Arc::new(snapshot.clone()));
            told.catch_up(NODE, snapshot, &tables, &Drains::default()).map(|message| shapes(&message))
        };
        let in_network = |number: u128, node: u128| {
            let mut task = task(number, node, &[]);
            task.networks = vec![shoal_types::cluster::task::TaskAttachment {
                network: NetworkId::new("net1"),
                addresses: vec![format!("10.0.1.{}/24", number + 9).parse().unwrap()],
                aliases: Vec::new(),
                driver_options: BTreeMap::new(),
            }];
            task
        };
        let nodes = [fixtures::node(1).into(), fixtures::node(2).into()];
        create(&mut snapshot, nodes.into_iter().chain([fixtures::network("net1", "one", 1).into()]));
        create(&mut snapshot, [in_network(2, 2).into()]);
        assert!(catch_up(&snapshot, &mut told).unwrap().is_empty(), "nothing of the node is in it");
        create(&mut snapshot, [in_network(1, 1).into()]);
        assert_eq!(catch_up(&snapshot, &mut told).unwrap(), ["+nnet1", "+p1", "+p2", "+t1"]);
        create(&mut snapshot, [in_network(3, 2).into()]);
        assert_eq!(catch_up(&snapshot, &mut told).unwrap(), ["+p3"]);
        change(&mut snapshot, Change::Remove(crate::store::Key::Task(TaskId::from_u128(2))));
        assert_eq!(catch_up(&snapshot, &mut told).unwrap(), ["-p2"]);
        change(&mut snapshot, Change::Remove(crate::store::Key::Task(TaskId::from_u128(1))));
        assert_eq!(catch_up(&snapshot, &mut told).unwrap(), ["-t1", "-nnet1"]);
    }
}

//! Chooses a node for each task.
//!
//! Start reading at [`schedule`]. Pure: it reads a draft of the store and writes to it. Tasks of one version of a service are placed
//! together, each on the node with the fewest of them; a task that no node can take says why, and is looked at again with every
//! change. What tasks take of nodes is kept by the store, so a placement costs one look at each node for its group and a step
//! in a heap for each task.

pub mod constraint;
mod filter;
mod generic;
mod spread;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use shoal_types::NodeId;
use shoal_types::cluster::node::Node;
use shoal_types::cluster::task::{Task, TaskStatus};
use shoal_types::cluster::task_state::TaskState;

use crate::store::{Conflict, Draft, NodeLoad, Snapshot};
use filter::{Candidate, Filter, claims, explain, first_refusal};
pub(crate) use filter::{still_fits, waits_for_host_port};
use spread::{Pick, Tree, path};

/// Most objects that one pass changes; a commit of more would keep others waiting.
pub(crate) const MOST_CHANGES: usize = 500;

/// Whether a pass has done everything that there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It has.
    Complete,
    /// It has stopped at [`MOST_CHANGES`]; another goes on where it was.
    Partial,
}

/// Gives nodes to tasks that have none, and agrees to those that were made for a node.
pub fn schedule(draft: &mut Draft) -> Result<Pass, Conflict> {
    // A view of its own, because the draft changes meanwhile.
    let view = draft.view().clone();
    let mut waiting = view.unassigned_tasks().peekable();
    while let Some(group) = next_group(&mut waiting) {
        let (preassigned, free): (Vec<_>, Vec<_>) = group.into_iter().partition(|task| task.node.is_some());
        for task in &preassigned {
            confirm(draft, task)?;
        }
        if !free.is_empty() {
            place_group(draft, &free)?;
        }
        if draft.n_changes() >= MOST_CHANGES {
            return Ok(Pass::Partial);
        }
    }
    Ok(Pass::Complete)
}

/// The next tasks of one version of a service, as many as a pass changes at most: a service may have any number, and nothing shall look at
/// those that are left for the next pass.
fn next_group<'a>(
    waiting: &mut std::iter::Peekable<impl Iterator<Item = &'a Arc<Task>>>,
) -> Option<Vec<Arc<Task>>> {
    let first = waiting.next()?;
    let mut group = vec![Arc::clone(first)];
    let is_alike =
        |task: &&Arc<Task>| (task.service, task.spec_version) == (first.service, first.spec_version);
    while group.len() < MOST_CHANGES
        && let Some(task) = waiting.next_if(|task| is_alike(task))
    {
        group.push(Arc::clone(task));
    }
    Some(group)
}

/// Agrees to a task that was made for a node, or says why not.
fn confirm(draft: &mut Draft, task: &Arc<Task>) -> Result<(), Conflict> {
    let view = draft.view();
    let Some(node) = task.node.and_then(|id| view.node(id)).cloned() else { return Ok(()) };
    let candidate = Candidate::new(view, task);
    match first_refusal(&candidate, &node, load_of(view, node.id)) {
        None => assign(draft, task, &node, "scheduler confirmed task can run on preassigned node"),
        Some(filter) => refuse(draft, task, explain(&BTreeMap::from([(filter, 1)]))),
    }
}

/// Places tasks of one version of a service.
fn place_group(draft: &mut Draft, tasks: &[Arc<Task>]) -> Result<(), Conflict> {
    let Some(first) = tasks.first() else { return Ok(()) };
    let preferences = &first.template.placement.spread_over;
    // In order of id.
    let nodes: Vec<Arc<Node>> = draft.view().nodes().cloned().collect();
    let candidate = Candidate::new(draft.view(), first);
    let mut tree = Tree::new(preferences);
    for node in &nodes {
        let load = load_of(draft.view(), node.id);
        let of_service = load.by_service.get(&first.service).copied().unwrap_or(0);
        let pick = pick(&candidate, node, load, draft.now());
        tree.add(&path(preferences, node), of_service, pick);
    }
    let chosen = |pick: Pick| nodes.get(nodes.binary_search_by_key(&pick.node, |node| node.id).ok()?);
    let mut waiting = tasks.iter();
    for task in waiting.by_ref() {
        if draft.n_changes() >= MOST_CHANGES {
            return Ok(());
        }
        let Some(node) = tree.take().and_then(chosen) else {
            let refusals = refusals(draft.view(), &candidate);
            refuse(draft, task, explain(&refusals))?;
            break;
        };
        assign(draft, task, node, "scheduler assigned task to node")?;
        let load = load_of(draft.view(), node.id);
        if let Some(again) = pick(&candidate, node, load, draft.now()) {
            tree.put_back(&path(preferences, node), again);
        }
    }
    if waiting.len() > 0 {
        let explanation = explain(&refusals(draft.view(), &candidate));
        for task in waiting {
            refuse(draft, task, explanation.clone())?;
        }
    }
    Ok(())
}

/// A node as a choice for a task; `None` if it cannot take it.
fn pick(candidate: &Candidate<'_>, node: &Node, load: &NodeLoad, now: Timestamp) -> Option<Pick> {
    let task = candidate.task;
    first_refusal(candidate, node, load).is_none().then(|| Pick {
        is_failing: load.is_failing(task.service, task.spec_version, now),
        of_service: load.by_service.get(&task.service).copied().unwrap_or(0),
        active: load.active,
        node: node.id,
    })
}

/// How many nodes each rule keeps a task from.
fn refusals(view: &Snapshot, candidate: &Candidate<'_>) -> BTreeMap<Filter, usize> {
    let mut refusals = BTreeMap::new();
    for node in view.nodes() {
        if let Some(filter) = first_refusal(candidate, node, load_of(view, node.id)) {
            let n = refusals.entry(filter).or_insert(0_usize);
            *n = n.saturating_add(1);
        }
    }
    refusals
}

fn load_of(view: &Snapshot, node: NodeId) -> &NodeLoad {
    static NOTHING: std::sync::LazyLock<NodeLoad> = std::sync::LazyLock::new(NodeLoad::default);
    view.load(node).unwrap_or(&NOTHING)
}

fn assign(draft: &mut Draft, task: &Arc<Task>, node: &Node, message: &str) -> Result<(), Conflict> {
    let generic = claims(task, node, load_of(draft.view(), node.id));
    let status = TaskStatus {
        state: TaskState::Assigned,
        at: draft.now(),
        message: message.to_owned(),
        error: String::new(),
        ..task.status.clone()
    };
    draft.update(Task { node: Some(node.id), generic, status, ..Task::clone(task) })
}

/// Says why a task cannot be placed; nothing is written if it says so already.
fn refuse(draft: &mut Draft, task: &Arc<Task>, error: String) -> Result<(), Conflict> {
    if task.status.error == error {
        return Ok(());
    }
    let status = TaskStatus { error, ..task.status.clone() };
    draft.update(Task { status, ..Task::clone(task) })
}

#[cfg(test)]
mod tests {
    use shoal_types::Platform;
    use shoal_types::cluster::node::{Availability, NodeState};
    use shoal_types::cluster::service::{PublishMode, PublishedServicePort, Service};
    use shoal_types::container::networking::Protocol;

    use super::*;
    use crate::fixtures::{at, node, service, task};
    use crate::store::Object;

    /// Schedules `n` tasks of a service and says where they are, and what the first that has no place says.
    fn place(nodes: Vec<Node>, n: u64, change: impl FnOnce(&mut Service)) -> (Vec<u128>, String) {
        let mut service = service(1, n);
        change(&mut service);
        let mut objects: Vec<Object> = nodes.into_iter().map(Object::from).collect();
        for slot in 1..=n {
            objects.push(task(slot.into(), &service, slot, TaskState::Pending).into());
        }
        objects.push(service.into());
        let mut draft = Draft::new(&Arc::new(Snapshot::from_objects(1, objects)), at(0));
        schedule(&mut draft).unwrap();
        let placed = draft.view().tasks().filter_map(|task| Some(task.node?.as_u128())).collect();
        let error = draft.view().unassigned_tasks().next().map(|task| task.status.error.clone());
        (placed, error.unwrap_or_default())
    }

    fn with(number: u128, change: impl FnOnce(&mut Node)) -> Node {
        let mut node = node(number);
        change(&mut node);
        node
    }

    #[test]
    fn tasks_are_spread_over_nodes() {
        let (mut placed, error) = place(vec![node(1), node(2), node(3)], 7, |_| {});
        placed.sort_unstable();
        assert_eq!(placed, [1, 1, 1, 2, 2, 3, 3]);
        assert_eq!(error, "");
    }

    #[test]
    fn tasks_are_spread_over_values_of_a_label_before_nodes() {
        let zone = |number, zone: &str| {
            with(number, |node| drop(node.spec.labels.insert("zone".to_owned(), zone.to_owned())))
        };
        let nodes = vec![zone(1, "a"), zone(2, "a"), zone(3, "a"), zone(4, "b"), node(5)];
        let (mut placed, _) = place(nodes, 9, |service| {
            service.spec.template.placement.spread_over.push("node.labels.zone".to_owned());
        });
        placed.sort_unstable();
        assert_eq!(placed, [1, 2, 3, 4, 4, 4, 5, 5, 5]);
    }

    #[test]
    fn a_task_that_cannot_be_placed_says_why() {
        type Change = fn(&mut Service);
        let drained = || with(9, |node| node.spec.availability = Availability::Drain);
        let down = || with(8, |node| node.status.state = NodeState::Down);
        let cases: Vec<(Vec<Node>, u64, Change, &str)> = vec![
            (vec![], 1, |_| {}, "no suitable node"),
            (vec![drained(), down()], 1, |_| {}, "no suitable node (2 nodes not available for new tasks)"),
            (vec![drained()], 1, |_| {}, "no suitable node (1 node not available for new tasks)"),
            (
                vec![node(1), drained(), node(2)],
                1,
                |service| service.spec.template.placement.constraints.push("node.role==manager".to_owned()),
                "no suitable node (scheduling constraints not satisfied on 2 nodes; 1 node not available for new tasks)",
            ),
            (
                vec![node(1)],
                5,
                |service| service.spec.template.resources.reserved_nano_cpus = 1_000_000_000,
                "no suitable node (insufficient resources on 1 node)",
            ),
            (
                vec![node(1)],
                1,
                |service| {
                    service.spec.template.placement.platforms.push(Platform::new("linux", "s390x", ""));
                },
                "no suitable node (unsupported platform on 1 node)",
            ),
            (
                vec![node(1)],
                2,
                |service| service.spec.template.placement.max_per_node = 1,
                "no suitable node (max replicas per node limit exceed)",
            ),
            (
                vec![node(1), node(2)],
                3,
                |service| {
                    service.spec.endpoint.ports.push(PublishedServicePort {
                        name: String::new(),
                        protocol: Protocol::Tcp,
                        target: 80,
                        published: 80,
                        mode: PublishMode::Host,
                    });
                },
                "no suitable node (host-mode port already in use on 2 nodes)",
            ),
            (
                vec![with(1, |node| {
                    if let Some(description) = &mut node.description {
                        description.plugins.push(("Log".to_owned(), "json-file".to_owned()));
                    }
                })],
                1,
                |service| {
                    service.spec.template.logging = Some(shoal_types::container::spec::LoggingSpec {
                        driver: "syslog".to_owned(),
                        options: BTreeMap::new(),
                    });
                },
                "no suitable node (missing plugin on 1 node)",
            ),
        ];
        for (nodes, n, change, expected) in cases {
            assert_eq!(place(nodes, n, change).1, expected);
        }
    }

    #[test]
    fn a_platform_may_be_asked_for_by_any_of_its_names_and_in_part() {
        for (os, architecture) in [("linux", "x86_64"), ("Linux", "AMD64"), ("", "x86_64"), ("linux", "")] {
            let asked =
                Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: String::new() };
            let (placed, error) = place(vec![node(1)], 1, |service| {
                service.spec.template.placement.platforms.push(asked.clone());
            });
            assert_eq!((placed.as_slice(), error.as_str()), ([1].as_slice(), ""), "{asked:?}");
        }
    }

    #[test]
    fn a_node_on_which_a_version_keeps_failing_comes_last() {
        let service = service(1, 1);
        let mut objects: Vec<Object> = vec![node(1).into(), node(2).into(), service.clone().into()];
        let filler = crate::fixtures::service(2, 1);
        for number in 50..53 {
            let mut task = task(number, &filler, 1, TaskState::Running);
            task.node = Some(NodeId::from_u128(2));
            objects.push(task.into());
        }
        for number in 10..15 {
            let mut task = task(number, &service, 1, TaskState::Assigned);
            task.node = Some(NodeId::from_u128(1));
            objects.push(task.into());
        }
        let mut store = Snapshot::from_objects(1, objects);
        for number in 10..15_u64 {
            let change = crate::store::Change::ReportTask {
                task: shoal_types::TaskId::from_u128(number.into()),
                status: crate::fixtures::status(TaskState::Failed, at(1)),
                at: at(1),
            };
            store.apply(number, &[change]).unwrap();
        }
        store
            .apply(20, &[crate::store::Change::Create(task(1, &service, 1, TaskState::Pending).into())])
            .unwrap();
        for (seconds, expected) in [(2, 2), (400, 1)] {
            let mut draft = Draft::new(&Arc::new(store.clone()), at(seconds));
            schedule(&mut draft).unwrap();
            let task = draft.view().task(shoal_types::TaskId::from_u128(1)).unwrap();
            assert_eq!(task.node, Some(NodeId::from_u128(expected)), "after {seconds} s");
        }
    }
}

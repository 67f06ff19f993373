//! Which sessions a change of the store concerns. Pure.
//!
//! Start reading at [`concern`]. Its cost is that of what has changed: most changes are reports of nodes, and of these nobody has
//! to be told. Tables of networks know by themselves whom they concern (`overlay::tables`).

use std::collections::BTreeSet;

use shoal_types::{NodeId, TaskId};

use super::assignments::is_news;
use crate::store::{Key, Snapshot};

/// Whom a change concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Concern {
    /// Nodes to which something may have to be told.
    pub(super) nodes: BTreeSet<NodeId>,
    /// Tasks of which nothing is new but what their nodes have reported.
    pub(super) reported: Vec<TaskId>,
}

/// Whom the changes from one view to the other concern; `None` if that is every node.
pub(super) fn concern(before: &Snapshot, after: &Snapshot) -> Option<Concern> {
    // From the first published port to the last, every node is in the ingress network.
    if before.has_ingress_ports() != after.has_ingress_ports() {
        return None;
    }
    let mut concern = Concern::default();
    for key in after.changed_since(before.index())?.collect::<BTreeSet<_>>() {
        match key {
            Key::Task(id) => concern.note_task(*id, before, after),
            Key::Node(id) | Key::Revocation(id) => {
                concern.nodes.insert(*id);
            }
            Key::Attachment(id) => {
                let nodes = [before, after].into_iter().filter_map(|view| Some(view.attachment(*id)?.node));
                concern.nodes.extend(nodes);
            }
            // What nodes are told of services stands in the tables of networks.
            Key::Service(_) => {}
            // Which tasks use them is written in the tasks; these change rarely enough to look at everybody.
            Key::Cluster | Key::Authority | Key::Network(_) | Key::Secret(_) | Key::Config(_) => return None,
        }
    }
    Some(concern)
}

impl Concern {
    fn note_task(&mut self, id: TaskId, before: &Snapshot, after: &Snapshot) {
        match (before.task(id), after.task(id)) {
            (Some(was), Some(is)) if !is_news(was, is) => self.reported.push(id),
            (was, is) => self.nodes.extend([was, is].into_iter().flatten().filter_map(|task| task.node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::store::Change;
    use shoal_types::cluster::task_state::TaskState;

    /// Two tasks of node 1: the first comes up, the second runs.
    fn world() -> Snapshot {
        let service = fixtures::service(1, 2);
        let task = |number: u128, state| {
            let mut task = fixtures::task(number, &service, number.try_into().unwrap(), state);
            task.node = Some(NodeId::from_u128(1));
            task
        };
        Snapshot::from_objects(
            1,
            [
                fixtures::node(1).into(),
                fixtures::node(2).into(),
                task(1, TaskState::Starting).into(),
                task(2, TaskState::Running).into(),
            ],
        )
    }

    fn after(changes: &[Change]) -> Option<Concern> {
        let before = world();
        let mut after = before.clone();
        after.apply(2, changes).unwrap();
        concern(&before, &after)
    }

    fn report(task: u128, state: TaskState) -> Change {
        let (at, task) = (fixtures::at(1), TaskId::from_u128(task));
        Change::ReportTask { task, status: fixtures::status(state, at), at }
    }

    #[test]
    fn nobody_is_told_back_what_a_node_has_reported_unless_a_task_has_ended() {
        let nobody = |tasks: &[u128]| Concern {
            reported: tasks.iter().map(|task| TaskId::from_u128(*task)).collect(),
            ..Concern::default()
        };
        let its_node = Concern { nodes: [NodeId::from_u128(1)].into(), ..Concern::default() };
        assert_eq!(after(&[report(1, TaskState::Running)]), Some(nobody(&[1])));
        assert_eq!(after(&[report(2, TaskState::Failed)]).as_ref(), Some(&its_node));
        let stop =
            Change::Desire { task: TaskId::from_u128(1), state: TaskState::Shutdown, at: fixtures::at(1) };
        assert_eq!(after(std::slice::from_ref(&stop)).as_ref(), Some(&its_node));
        // What it reports of a task that shall stop may be what others have waited for.
        assert_eq!(after(&[stop, report(1, TaskState::Running)]).as_ref(), Some(&its_node));
    }

    #[test]
    fn what_any_task_may_use_concerns_everybody() {
        let network = fixtures::network("net1", "one", 1);
        assert_eq!(after(&[Change::Create(network.into())]), None);
    }
}

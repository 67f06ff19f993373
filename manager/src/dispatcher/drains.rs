//! Tasks that shall stop go on until nobody leads clients to them any more. Pure.
//!
//! Start reading at [`Drains::holds`]. A task whose desired state passes RUNNING is *draining* in the tables of its networks at once, and
//! every node that has one of these says when it is as told. Only then, or after [`LIMIT`], the task's own node is told to stop it:
//! a connection that any node was about to send there has arrived, and new ones go elsewhere. A new leader knows of no wait: what it
//! tells first is the whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::{NodeId, TaskId};

/// How long a task waits for nodes that do not answer. They may be cut off, and then lead nobody there for long.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// Tasks that shall stop and still serve.
#[derive(Debug, Default)]
pub(crate) struct Drains {
    known: BTreeMap<TaskId, Standing>,
}

#[derive(Debug)]
enum Standing {
    /// These have not said yet that they are as told: up to which message.
    Waiting { nodes: BTreeMap<NodeId, u64>, until: Instant },
    /// The task may be stopped.
    Over,
}

/// Whether clients may still be on their way to a task that shall stop.
pub(crate) fn is_draining(task: &Task) -> bool {
    task.desired > TaskState::Complete
        && task.status.state == TaskState::Running
        && task.networks.iter().any(|attachment| !attachment.addresses.is_empty())
}

impl Drains {
    /// Whether the node of a draining task must not be told yet that it shall stop. So it is from the moment that the task
    /// drains, before anybody was asked to wait for.
    pub(crate) fn holds(&self, task: TaskId) -> bool {
        !matches!(self.known.get(&task), Some(Standing::Over))
    }

    /// Begins to wait for nodes, unless that was begun before. Answers whether nothing has to be waited for.
    pub(super) fn begin(&mut self, task: TaskId, nodes: BTreeMap<NodeId, u64>, now: Instant) -> bool {
        if self.known.contains_key(&task) {
            return false;
        }
        let is_over = nodes.is_empty();
        let standing = if is_over { Standing::Over } else { Standing::Waiting { nodes, until: now + LIMIT } };
        self.known.insert(task, standing);
        is_over
    }

    /// Takes in that a node is as it was told up to a message; the tasks that may be stopped now.
    pub(super) fn note(&mut self, node: NodeId, sequence: u64) -> Vec<TaskId> {
        self.end(|nodes, _| {
            if nodes.get(&node).is_some_and(|awaited| *awaited <= sequence) {
                nodes.remove(&node);
            }
            nodes.is_empty()
        })
    }

    /// The tasks that have waited for too long.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<TaskId> {
        self.end(|_, until| until <= now)
    }

    /// Forgets tasks that do not drain any more.
    pub(super) fn retain(&mut self, is_draining: impl Fn(TaskId) -> bool) {
        self.known.retain(|task, _| is_draining(*task));
    }

    fn end(&mut self, mut is_over: impl FnMut(&mut BTreeMap<NodeId, u64>, Instant) -> bool) -> Vec<TaskId> {
        let mut ended = Vec::new();
        for (task, standing) in &mut self.known {
            let Standing::Waiting { nodes, until } = standing else { continue };
            if is_over(nodes, *until) {
                *standing = Standing::Over;
                ended.push(*task);
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TaskId = TaskId::from_u128(1);
    const TWO: TaskId = TaskId::from_u128(2);

    fn node(number: u128) -> NodeId {
        NodeId::from_u128(number)
    }

    #[test]
    fn a_task_is_held_until_every_node_has_come_so_far() {
        let (mut drains, now) = (Drains::default(), Instant::now());
        assert!(drains.holds(ONE), "before anybody has looked");
        assert!(!drains.begin(ONE, [(node(1), 7), (node(2), 3)].into(), now));
        assert!(!drains.begin(TWO, [(node(2), 4)].into(), now));
        assert!(drains.note(node(1), 6).is_empty());
        assert!(drains.note(node(2), 3).is_empty());
        assert_eq!(drains.note(node(2), 5), [TWO]);
        assert!(drains.holds(ONE) && !drains.holds(TWO));
        assert_eq!(drains.note(node(1), 9), [ONE]);
        assert!(!drains.holds(ONE));
        assert!(!drains.begin(ONE, BTreeMap::new(), now), "it is over once");
    }

    #[test]
    fn nobody_waits_for_ever_nor_for_nobody() {
        let (mut drains, now) = (Drains::default(), Instant::now());
        assert!(drains.begin(ONE, BTreeMap::new(), now));
        assert!(!drains.holds(ONE));
        drains.begin(TWO, [(node(1), 1)].into(), now);
        assert!(drains.take_overdue(now + LIMIT / 2).is_empty());
        assert_eq!(drains.take_overdue(now + LIMIT), [TWO]);
        assert!(drains.take_overdue(now + LIMIT).is_empty());
        drains.retain(|task| task == ONE);
        assert!(drains.holds(TWO) && !drains.holds(ONE));
    }
}

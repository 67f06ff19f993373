//! Nodes as the leader sees them: they take what they are told, bring it on step by step, fail, and report when they can.
//!
//! Start reading at [`World::work`].

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng as _;
use shoal_types::TaskId;
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;

use super::World;
use crate::fixtures::status;
use crate::store::Change;

/// A node.
#[derive(Debug, Default)]
pub(super) struct Agent {
    /// What each task that it knows really is.
    pub(super) actual: BTreeMap<TaskId, TaskState>,
    /// When, by the true time, it was cut off, if it is; it goes on with what it was told last.
    pub(super) cut_since: Option<Duration>,
    /// What it was told last.
    told: BTreeMap<TaskId, (TaskState, bool)>,
}

impl World {
    /// Lets every node do a step for each of its tasks, and report if it can.
    pub(super) fn work(&mut self) {
        let mut reports = Vec::new();
        let nodes: Vec<_> = self.agents.keys().copied().collect();
        for node in nodes {
            let Some(agent) = self.agents.get_mut(&node) else { continue };
            let is_known = self.store.node(node).is_some();
            if agent.cut_since.is_none() && is_known {
                let tasks = self.store.tasks_on(node).filter(|task| is_told(task));
                agent.told =
                    tasks.map(|task| (task.id, (task.desired, task.job_iteration.is_some()))).collect();
                let told = &agent.told;
                agent.actual.retain(|id, _| told.contains_key(id));
            }
            for (&id, &(desired, is_job)) in &agent.told {
                let actual = agent.actual.entry(id).or_insert(TaskState::Assigned);
                if let Some(next) = step(*actual, desired, is_job, self.peace, &mut self.rng) {
                    *actual = next;
                }
            }
            // Reports are repeated until the store knows: a lost one is like a late one.
            if agent.cut_since.is_none() && (self.peace || self.rng.random_ratio(9, 10)) {
                for (&id, &state) in &agent.actual {
                    if self.store.task(id).is_some_and(|task| task.status.state < state) {
                        reports.push(Change::ReportTask {
                            task: id,
                            status: status(state, self.now),
                            at: self.now,
                        });
                    }
                }
            }
        }
        if !reports.is_empty() {
            assert!(self.commit(&reports));
        }
    }
}

/// Whether a node is told of a task.
fn is_told(task: &Task) -> bool {
    task.status.state >= TaskState::Assigned
}

/// What becomes of a task in one step; `None` if it stays as it is.
fn step(
    actual: TaskState,
    desired: TaskState,
    is_job: bool,
    peace: bool,
    rng: &mut rand::rngs::StdRng,
) -> Option<TaskState> {
    use TaskState::{
        Accepted, Assigned, Complete, Failed, Preparing, Ready, Rejected, Running, Shutdown, Starting,
    };
    if actual.is_terminal() || rng.random_ratio(1, 3) {
        return None;
    }
    if desired >= Shutdown {
        return rng.random_ratio(1, 3).then_some(Shutdown);
    }
    let fails = !peace && rng.random_ratio(1, 40);
    match actual {
        Assigned => Some(Accepted),
        Accepted => Some(Preparing),
        Preparing if fails => Some(Rejected),
        Preparing => Some(Ready),
        Ready if desired > Ready => Some(Starting),
        Starting if fails => Some(Failed),
        Starting => Some(Running),
        Running if is_job => rng.random_ratio(1, 5).then_some(if fails { Failed } else { Complete }),
        Running if fails => Some(if rng.random_ratio(1, 4) { Complete } else { Failed }),
        _ => None,
    }
}

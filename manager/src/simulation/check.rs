//! What must hold: at every moment, and when everybody is left in peace.
//!
//! Start reading at [`World::check_moment`] and [`World::check_wishes`].

use std::collections::{BTreeMap, BTreeSet};

use shoal_types::cluster::node::NodeState;
use shoal_types::cluster::service::{Service, ServiceMode, UpdateOrder, UpdateState};
use shoal_types::cluster::task::{Task, TaskPlace};
use shoal_types::cluster::task_state::TaskState;

use super::World;
use crate::orchestrator::is_dirty;
use crate::store::{Key, Snapshot};

impl World {
    /// No state goes back, nothing that runs is forgotten, no place has two tasks that run.
    pub(super) fn check_moment(&self, next: &Snapshot) {
        let Some(keys) = next.changed_since(self.store.index()) else { return };
        for key in keys {
            let Key::Task(id) = key else { continue };
            match (self.store.task(*id), next.task(*id)) {
                (Some(before), Some(after)) => {
                    assert!(
                        before.status.state <= after.status.state,
                        "{} observed {before:?} {after:?}",
                        self.seed
                    );
                    assert!(
                        before.desired <= after.desired,
                        "{} desired {} {}",
                        self.seed,
                        brief(before),
                        brief(after)
                    );
                    assert!(
                        before.node.is_none() || before.node == after.node,
                        "{} moved {after:?}",
                        self.seed
                    );
                }
                (Some(before), None) => self.check_forgotten(before),
                (None, _) => {}
            }
            if let Some(task) = next.task(*id) {
                self.check_place(next, task);
            }
        }
    }

    /// Only what has stopped, or will never be heard of, is forgotten.
    fn check_forgotten(&self, task: &Task) {
        let actual = task
            .node
            .and_then(|node| self.agents.get(&node))
            .and_then(|agent| agent.actual.get(&task.id))
            .copied();
        let is_gone = task.status.state == TaskState::Orphaned;
        assert!(
            is_gone || actual.is_none_or(TaskState::is_terminal) || task.status.state < TaskState::Assigned,
            "seed {}: {} is forgotten, but is {actual:?}",
            self.seed,
            brief(task)
        );
    }

    fn check_place(&self, next: &Snapshot, task: &Task) {
        let Some(service) = next.service(task.service) else { return };
        let starts_first = |policy: &Option<shoal_types::cluster::service::UpdatePolicy>| {
            policy.as_ref().is_some_and(|policy| policy.order == UpdateOrder::StartFirst)
        };
        let may_overlap = [Some(&service.spec), service.previous.as_deref()]
            .into_iter()
            .flatten()
            .any(|spec| starts_first(&spec.update) || starts_first(&spec.rollback));
        if may_overlap {
            return;
        }
        let may_run = |task: &&std::sync::Arc<Task>| {
            let is_told = task.desired > TaskState::Ready || task.desired == TaskState::Running;
            let actual = task
                .node
                .and_then(|node| self.agents.get(&node))
                .and_then(|agent| agent.actual.get(&task.id).copied())
                .unwrap_or(TaskState::New);
            is_told
                && (TaskState::Starting..=TaskState::Running).contains(&actual)
                && !self.strays.contains(&task.id)
        };
        let running: Vec<_> = next.tasks_in(task.service, task.place).filter(may_run).collect();
        assert!(
            running.len() <= 1,
            "seed {}: one place runs {}",
            self.seed,
            list(running.iter().map(|task| task.as_ref()))
        );
    }

    /// Everything is as it was wished for.
    pub(super) fn check_wishes(&self) {
        for service in self.store.services() {
            let tasks: Vec<&Task> = self.store.tasks_of(service.id).map(AsRef::as_ref).collect();
            self.check_update(service, &tasks);
            self.check_copies(service, &tasks);
        }
        for task in self.store.tasks() {
            assert!(
                self.store.service(task.service).is_some(),
                "seed {}: {} is left over",
                self.seed,
                brief(task)
            );
            let will_never_run = task.status.state < TaskState::Assigned && !task.is_wanted();
            let settled = will_never_run
                || task.status.state.is_terminal()
                || task.status.state == TaskState::Running && task.is_wanted();
            assert!(settled, "seed {}: {} has not settled", self.seed, brief(task));
        }
        assert_eq!(self.store.unassigned_tasks().count(), 0, "seed {}", self.seed);
    }

    fn check_update(&self, service: &Service, tasks: &[&Task]) {
        match service.update.as_ref().map(|update| update.state) {
            // What had failed before was only heard of now; its user would look at it.
            Some(UpdateState::Paused | UpdateState::RollbackPaused) => return,
            Some(UpdateState::Updating | UpdateState::RollbackStarted) => panic!(
                "seed {}: {:?} of {:?} {:?} with {}",
                self.seed,
                service.update,
                service.spec.update,
                service.spec.rollback,
                list(tasks.iter().copied())
            ),
            Some(UpdateState::Completed | UpdateState::RollbackCompleted) | None => {}
        }
        if service.job.is_some() {
            return;
        }
        for task in tasks.iter().filter(|task| task.is_wanted()) {
            let node = task.node.and_then(|node| self.store.node(node));
            assert!(!is_dirty(service, task, node), "seed {}: {} is of another spec", self.seed, brief(task));
        }
    }

    fn check_copies(&self, service: &Service, tasks: &[&Task]) {
        let mut by_place: BTreeMap<TaskPlace, Vec<&&Task>> = BTreeMap::new();
        for task in tasks.iter().filter(|task| task.is_wanted()) {
            by_place.entry(task.place).or_default().push(task);
        }
        assert!(
            by_place.values().all(|tasks| tasks.len() == 1),
            "seed {}: {}",
            self.seed,
            list(tasks.iter().copied())
        );
        let n_ready = self.store.nodes().filter(|node| node.status.state == NodeState::Ready).count();
        let expected = match service.spec.mode {
            ServiceMode::Replicated { replicas } => usize::try_from(replicas).unwrap(),
            ServiceMode::Global | ServiceMode::GlobalJob => n_ready,
            ServiceMode::ReplicatedJob { total_completions, .. } => {
                usize::try_from(total_completions).unwrap()
            }
        };
        let restart = &service.spec.template.restart;
        let is_persistent = restart.max_attempts == 0
            && match restart.condition {
                shoal_types::cluster::service::RestartCondition::Any => true,
                // A task that ends by itself with success is not replaced.
                shoal_types::cluster::service::RestartCondition::OnFailure => service.job.is_some(),
                shoal_types::cluster::service::RestartCondition::None => false,
            };
        let n = match service.job {
            None => by_place.len(),
            Some(job) => tasks
                .iter()
                .filter(|task| task.job_iteration == Some(job.iteration))
                .filter(|task| task.status.state == TaskState::Complete)
                // Work may be done twice: by a node that was cut off, and by the one that was asked instead.
                .map(|task| task.place)
                .collect::<BTreeSet<_>>()
                .len(),
        };
        // Completed tasks of nodes that were removed stay counted.
        let is_as_wished = match (is_persistent, &service.spec.mode) {
            (true, ServiceMode::GlobalJob) => n >= expected,
            (true, _) => n == expected,
            (false, ServiceMode::GlobalJob) => true,
            (false, _) => n <= expected,
        };
        assert!(
            is_as_wished,
            "seed {}: {n} of {expected} of {:?} {:?} {:?}: {}",
            self.seed,
            service.spec.mode,
            service.update,
            service.spec.template.restart,
            list(tasks.iter().copied())
        );
    }
}

/// A task in one line.
fn brief(task: &Task) -> String {
    format!(
        "[{} {} of {} v{} node {:?} created {} not before {:?} started {:?} ended {:?} {}]",
        task.status.state,
        task.desired,
        task.name(),
        task.spec_version,
        task.node.map(|node| node.as_u128()),
        task.meta.created,
        task.not_before,
        task.started,
        task.ended,
        task.status.error
    )
}

fn list<'a>(tasks: impl Iterator<Item = &'a Task>) -> String {
    tasks.map(|task| format!("\n  {}", brief(task))).collect()
}

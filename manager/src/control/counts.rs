//! How many tasks of a service do what: the figures of `docker service ls`.
//!
//! Start reading at [`count`]. Pure.

use std::sync::Arc;

use shoal_types::cluster::service::{Service, ServiceMode};
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;

use crate::api::services::TaskCounts;

/// Counts tasks of a service (spec/swarm.md 7.5). A task on a node that is down still counts as running.
pub(super) fn count<'a>(service: &Service, tasks: impl Iterator<Item = &'a Arc<Task>>) -> TaskCounts {
    let iteration = service.job.map(|job| job.iteration);
    let mut counts = TaskCounts::default();
    let mut n_wanted = 0_u64;
    let mut n_unfinished = 0_u64;
    for task in tasks {
        if iteration.is_some() && task.job_iteration != iteration {
            continue;
        }
        let state = task.status.state;
        counts.running = counts.running.saturating_add(u64::from(state == TaskState::Running));
        counts.completed = counts.completed.saturating_add(u64::from(state == TaskState::Complete));
        n_wanted = n_wanted.saturating_add(u64::from(task.desired == TaskState::Running));
        let is_unfinished = task.desired == TaskState::Complete && state != TaskState::Complete;
        n_unfinished = n_unfinished.saturating_add(u64::from(is_unfinished));
    }
    counts.desired = match service.spec.mode {
        ServiceMode::Replicated { replicas } => replicas,
        ServiceMode::ReplicatedJob { max_concurrent, .. } => max_concurrent,
        ServiceMode::Global => n_wanted,
        ServiceMode::GlobalJob => n_unfinished,
    };
    if iteration.is_none() {
        counts.completed = 0;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{service, task};

    #[test]
    fn a_replicated_service_counts_what_runs_and_wants_its_replicas() {
        let service = service(1, 3);
        let tasks = [
            task(1, &service, 1, TaskState::Running),
            task(2, &service, 2, TaskState::Starting),
            task(3, &service, 3, TaskState::Failed),
        ]
        .map(Arc::new);
        assert_eq!(count(&service, tasks.iter()), TaskCounts { running: 1, desired: 3, completed: 0 });
    }
}

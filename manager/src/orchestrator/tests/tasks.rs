//! Which tasks a service has: slots, restarts, nodes, jobs, removal.

use std::time::Duration;

use shoal_types::cluster::node::{Availability, Node, NodeState};
use shoal_types::cluster::service::{GenericResource, JobStatus, RestartCondition, ServiceMode};
use shoal_types::cluster::task::TaskPlace;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::container::spec::LoggingSpec;
use shoal_types::{NodeId, ServiceId};

use super::{Stage, image, with};
use crate::fixtures::{at, cluster, node, service};
use crate::store::Change;

#[test]
fn slots_are_the_lowest_free_numbers_and_a_smaller_service_gives_up_the_crowded_nodes() {
    let mut stage = Stage::new(2, service(1, 3));
    let places = |stage: &Stage| stage.running().iter().map(|task| task.place).collect::<Vec<_>>();
    assert_eq!(places(&stage), [TaskPlace::Slot(1), TaskPlace::Slot(2), TaskPlace::Slot(3)]);
    stage.change(|service| service.spec.mode = ServiceMode::Replicated { replicas: 2 });
    let mut nodes: Vec<_> = stage.running().iter().map(|task| task.node.unwrap().as_u128()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, [1, 2]);
    stage.change(|service| service.spec.mode = ServiceMode::Replicated { replicas: 3 });
    assert_eq!(places(&stage), [TaskPlace::Slot(1), TaskPlace::Slot(2), TaskPlace::Slot(3)]);
    assert_eq!(stage.store.n_tasks(), 3, "tasks of a place that was given up are forgotten");
}

#[test]
fn a_task_that_ends_is_replaced_after_the_delay_and_as_its_policy_says() {
    use RestartCondition::{Any, None, OnFailure};
    let cases = [
        (Any, TaskState::Complete, true),
        (Any, TaskState::Failed, true),
        (OnFailure, TaskState::Complete, false),
        (OnFailure, TaskState::Failed, true),
        (OnFailure, TaskState::Rejected, true),
        (None, TaskState::Failed, false),
    ];
    for (condition, end, is_replaced) in cases {
        let mut stage = Stage::new(1, with(1, |service| service.spec.template.restart.condition = condition));
        let first = stage.running()[0].id;
        stage.report(first, end);
        stage.settle();
        assert!(stage.running().is_empty());
        stage.pass(4);
        assert!(stage.running().is_empty(), "{condition:?} after {end}: the delay is 5 s");
        stage.pass(2);
        assert_eq!(stage.running().len(), usize::from(is_replaced), "{condition:?} after {end}");
        assert_eq!(stage.store.task(first).unwrap().desired, TaskState::Shutdown);
    }
}

#[test]
fn attempts_are_counted_for_ever_or_within_a_window() {
    let attempts = |window: u64| {
        let mut stage = Stage::new(
            1,
            with(1, |service| {
                let restart = &mut service.spec.template.restart;
                (restart.delay, restart.max_attempts) = (Duration::from_secs(1), 2);
                restart.window = Some(Duration::from_secs(window));
            }),
        );
        let mut n_replaced = 0;
        while n_replaced < 6
            && let Some(task) = stage.running().first().map(|task| task.id)
        {
            stage.report(task, TaskState::Failed);
            stage.settle();
            stage.pass(10);
            n_replaced += stage.running().len();
        }
        n_replaced
    };
    assert_eq!(attempts(0), 2);
    assert_eq!(attempts(15), 6, "two attempts never fall into 15 s");
    assert_eq!(attempts(60), 2);
}

#[test]
fn history_is_kept_as_long_as_the_cluster_says() {
    let mut stage = Stage::new(1, service(1, 1));
    for _ in 0..9 {
        let task = stage.running()[0].id;
        stage.report(task, TaskState::Failed);
        stage.pass(6);
    }
    assert_eq!(stage.store.n_tasks(), 6, "five and the one that runs");
}

#[test]
fn tasks_of_a_node_that_is_lost_are_replaced_at_once() {
    let lose: [fn(&mut Node); 2] =
        [|node| node.status.state = NodeState::Down, |node| node.spec.availability = Availability::Drain];
    for lose in lose {
        let mut stage = Stage::new(2, service(1, 2));
        stage.change_node(2, lose);
        let nodes: Vec<_> = stage.running().iter().filter_map(|task| task.node).collect();
        assert!(nodes.iter().filter(|node| node.as_u128() == 1).count() == 2, "{nodes:?}");
    }
}

#[test]
fn a_paused_node_keeps_its_tasks_and_gets_none() {
    let mut stage = Stage::new(2, service(1, 2));
    stage.change_node(2, |node| node.spec.availability = Availability::Pause);
    stage.change(|service| service.spec.mode = ServiceMode::Replicated { replicas: 6 });
    let on_paused = stage.running().iter().filter(|task| task.node == Some(NodeId::from_u128(2))).count();
    assert_eq!((stage.running().len(), on_paused), (6, 1));
}

#[test]
fn a_node_that_no_longer_meets_constraints_loses_the_task() {
    let mut stage = Stage::new(
        0,
        with(1, |service| {
            service.spec.template.placement.constraints.push("node.labels.disk==ssd".to_owned());
        }),
    );
    for number in [1, 2] {
        let mut node = node(number);
        node.spec.labels.insert("disk".to_owned(), "ssd".to_owned());
        stage.commit(&[Change::Create(node.into())]);
        stage.settle();
    }
    let first = stage.running()[0].clone();
    stage.change_node(first.node.unwrap().as_u128(), |node| node.spec.labels.clear());
    let rejected = stage.store.task(first.id).unwrap();
    assert_eq!(rejected.status.message, "task rejected by constraint enforcer");
    assert_eq!(rejected.status.error, "assigned node no longer meets constraints");
    stage.pass(6);
    assert_ne!(stage.running()[0].node, first.node);
}

#[test]
fn a_node_that_has_lost_what_a_task_was_given_loses_the_task() {
    let gpu = |name: &str| ("gpu".to_owned(), GenericResource::Named(name.to_owned()));
    let mut stage = Stage::new(
        0,
        with(2, |service| {
            service.spec.template.resources.reserved_generic =
                vec![("gpu".to_owned(), GenericResource::Discrete(1))];
            service.spec.template.restart.delay = Duration::ZERO;
        }),
    );
    let mut node = node(1);
    if let Some(description) = &mut node.description {
        description.generic = vec![gpu("a"), gpu("b")];
    }
    stage.commit(&[Change::Create(node.into())]);
    stage.settle();
    let given = |stage: &Stage| {
        let mut given: Vec<_> = stage.running().iter().flat_map(|task| task.generic.clone()).collect();
        given.sort_by_key(|(_, resource)| format!("{resource:?}"));
        given
    };
    assert_eq!(given(&stage), [gpu("a"), gpu("b")]);
    stage.change_node(1, |node| {
        if let Some(description) = &mut node.description {
            description.generic = vec![gpu("b"), gpu("c")];
        }
    });
    stage.pass(1);
    assert_eq!(given(&stage), [gpu("b"), gpu("c")]);
    let messages: Vec<_> =
        stage.store.tasks().filter(|task| !task.is_wanted()).map(|task| &task.status).collect();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].message, "task rejected by constraint enforcer");
}

#[test]
fn a_task_whose_service_names_no_log_driver_has_that_of_the_cluster() {
    let driver = |name: &str| LoggingSpec { driver: name.to_owned(), ..LoggingSpec::default() };
    let mut stage = Stage::new(1, with(1, |_| {}));
    let first = stage.running()[0].id;
    let mut settings = cluster();
    settings.spec.task_logging = Some(driver("local"));
    stage.commit(&[Change::Update(settings.into())]);
    stage.pass(1);
    assert_eq!(stage.running()[0].id, first, "a task stays as it was made");
    stage.change(image("new"));
    stage.pass(10);
    let second = stage.running()[0];
    assert_eq!(second.logging(), Some(&driver("local")));
    let second = second.id;
    stage.change(|_| {});
    stage.pass(10);
    assert_eq!(stage.running()[0].id, second, "an update without a change restarts nothing");
    stage.change(|service| service.spec.template.logging = Some(driver("journald")));
    stage.pass(10);
    assert_eq!(stage.running()[0].logging(), Some(&driver("journald")));
}

#[test]
fn a_global_service_follows_the_nodes() {
    let mut stage = Stage::new(2, with(1, |service| service.spec.mode = ServiceMode::Global));
    assert_eq!(stage.running().len(), 2);
    stage.commit(&[Change::Create(node(3).into())]);
    stage.settle();
    assert_eq!(stage.running().len(), 3);
    stage.change_node(1, |node| node.spec.availability = Availability::Drain);
    assert_eq!(stage.running().len(), 2);
    stage.change_node(1, |node| node.spec.availability = Availability::Active);
    assert_eq!(stage.running().len(), 3);
}

#[test]
fn a_job_runs_until_enough_have_completed_and_an_update_runs_it_again() {
    let mut stage = Stage::new(
        2,
        with(1, |service| {
            service.spec.mode = ServiceMode::ReplicatedJob { max_concurrent: 2, total_completions: 3 };
            service.job = Some(JobStatus { iteration: 0, last_execution: at(0) });
        }),
    );
    let complete = |stage: &mut Stage| {
        let mut n_completed = 0;
        while let Some(task) = stage.running().first().map(|task| task.id) {
            assert!(stage.running().len() <= 2);
            stage.report(task, TaskState::Complete);
            stage.settle();
            n_completed += 1;
        }
        n_completed
    };
    assert!(stage.running().iter().all(|task| task.desired == TaskState::Complete));
    assert_eq!(stage.running()[0].place, TaskPlace::Slot(0));
    assert_eq!(complete(&mut stage), 3);
    stage.change(|_| {});
    assert_eq!(complete(&mut stage), 3);
    assert_eq!(stage.store.n_tasks(), 3, "the run before is forgotten");
}

#[test]
fn tasks_of_a_service_that_is_removed_stop_and_are_forgotten() {
    let mut stage = Stage::new(2, service(1, 5));
    stage.commit(&[Change::Remove(crate::store::Key::Service(ServiceId::from_u128(1)))]);
    stage.settle();
    assert_eq!(stage.store.n_tasks(), 0);
}

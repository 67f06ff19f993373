//! How an update goes on, is paused or taken back.

use std::time::Duration;

use shoal_types::cluster::service::{
    FailureAction, PublishMode, PublishedServicePort, RestartCondition, Service, UpdateOrder, UpdatePolicy,
    UpdateState,
};
use shoal_types::container::networking::Protocol;

use super::{Stage, image, with};
use crate::control::rollback_started;
use crate::decisions::Decisions;
use crate::store::Change;

#[test]
fn an_update_exchanges_a_few_at_a_time_and_is_watched_before_it_is_done() {
    let mut stage = Stage::new(
        2,
        with(4, |service| {
            service.spec.update = Some(UpdatePolicy {
                parallelism: 2,
                delay: Duration::from_secs(3),
                ..UpdatePolicy::default()
            });
        }),
    );
    stage.change(image("new"));
    assert_eq!(stage.update_state(), Some(UpdateState::Updating));
    assert_eq!(stage.service().update.as_ref().unwrap().message, "update in progress");
    assert_eq!((stage.n_running("new"), stage.n_running("busybox")), (2, 2));
    stage.pass(2);
    assert_eq!(stage.n_running("new"), 2, "the delay is 3 s");
    stage.pass(2);
    assert_eq!(stage.n_running("new"), 4);
    stage.pass(3);
    assert_eq!(stage.update_state(), Some(UpdateState::Updating), "the last are watched for 5 s");
    stage.pass(3);
    assert_eq!(stage.update_state(), Some(UpdateState::Completed));
    assert_eq!(stage.service().update.as_ref().unwrap().message, "update completed");
}

#[test]
fn an_update_goes_on_under_another_leader() {
    let mut stage = Stage::new(
        2,
        with(4, |service| {
            service.spec.update =
                Some(UpdatePolicy { delay: Duration::from_secs(2), ..UpdatePolicy::default() });
        }),
    );
    stage.change(image("new"));
    for _ in 0..20 {
        stage.decisions = Decisions::with_id_sequence(stage.store.index());
        stage.pass(1);
        assert_eq!(stage.running().len(), 4);
    }
    assert_eq!((stage.n_running("new"), stage.update_state()), (4, Some(UpdateState::Completed)));
}

#[test]
fn too_many_failures_pause_an_update_or_take_it_back() {
    let cases = [
        (
            FailureAction::Pause,
            0.0,
            UpdateState::Paused,
            "update paused due to failure or early termination of task ",
        ),
        (FailureAction::Rollback, 0.0, UpdateState::RollbackCompleted, "rollback completed"),
        (FailureAction::Continue, 0.0, UpdateState::Completed, "update completed"),
        (FailureAction::Pause, 1.0, UpdateState::Completed, "update completed"),
    ];
    for (on_failure, max_failure_ratio, state, message) in cases {
        let mut stage = Stage::new(
            2,
            with(3, |service| {
                service.spec.update =
                    Some(UpdatePolicy { on_failure, max_failure_ratio, ..UpdatePolicy::default() });
            }),
        );
        stage.change(image("bad"));
        if on_failure == FailureAction::Rollback {
            assert!(
                stage
                    .service()
                    .update
                    .as_ref()
                    .unwrap()
                    .message
                    .starts_with("update rolled back due to failure or early termination of task ")
            );
        }
        stage.pass(30);
        let update = stage.service().update.clone().unwrap();
        assert_eq!(update.state, state, "{on_failure:?} {max_failure_ratio}");
        assert!(update.message.starts_with(message), "{}", update.message);
        let n_good = if state == UpdateState::Paused { 2 } else { 3 };
        if state != UpdateState::Completed {
            assert_eq!(stage.n_running("busybox"), n_good, "{on_failure:?}");
        }
    }
}

#[test]
fn starting_first_never_runs_fewer_tasks_and_keeps_the_old_if_the_new_does_not_start() {
    let mut stage = Stage::new(
        2,
        with(2, |service| {
            service.spec.update = Some(UpdatePolicy {
                order: UpdateOrder::StartFirst,
                on_failure: FailureAction::Pause,
                ..UpdatePolicy::default()
            });
        }),
    );
    stage.change(image("bad"));
    stage.pass(20);
    assert_eq!((stage.n_running("busybox"), stage.update_state()), (2, Some(UpdateState::Paused)));
    stage.change(image("new"));
    for _ in 0..20 {
        assert!(stage.running().len() >= 2);
        stage.pass(1);
    }
    assert_eq!((stage.n_running("new"), stage.running().len()), (2, 2));
    assert_eq!(stage.update_state(), Some(UpdateState::Completed));
}

#[test]
fn a_rollback_to_tasks_that_fail_and_are_not_restarted_is_paused() {
    let mut stage = Stage::new(
        1,
        with(1, |service| {
            service.spec.template.container.image = "bad".to_owned();
            service.spec.template.restart.condition = RestartCondition::None;
        }),
    );
    stage.change(image("good"));
    stage.pass(10);
    assert_eq!((stage.n_running("good"), stage.update_state()), (1, Some(UpdateState::Completed)));
    let mut service = Service::clone(stage.service());
    let before = service.previous.take().unwrap();
    service.previous = Some(Box::new(std::mem::replace(&mut service.spec, *before)));
    service.spec_version += 1;
    service.update = Some(rollback_started(stage.now, "wanted"));
    stage.commit(&[Change::Update(service.into())]);
    stage.pass(10);
    assert_eq!(stage.update_state(), Some(UpdateState::RollbackPaused));
    let n_tried =
        stage.store.tasks().filter(|task| task.spec_version == stage.service().spec_version).count();
    assert_eq!(n_tried, 1, "it is not tried again and again");
}

#[test]
fn starting_first_waits_for_no_port_that_only_the_old_task_can_give_back() {
    // Two nodes for two tasks: each is followed on its own node. With a third node there is one where the port is free.
    for (n_nodes, fewest) in [(2, 1), (3, 2)] {
        let mut stage = Stage::new(
            n_nodes,
            with(2, |service| {
                service.spec.endpoint.ports.push(PublishedServicePort {
                    name: String::new(),
                    protocol: Protocol::Tcp,
                    target: 80,
                    published: 8080,
                    mode: PublishMode::Host,
                });
                service.spec.update = Some(UpdatePolicy {
                    parallelism: 1,
                    delay: Duration::from_secs(2),
                    order: UpdateOrder::StartFirst,
                    ..UpdatePolicy::default()
                });
            }),
        );
        stage.change(image("v2"));
        let mut seen = stage.running().len();
        for _ in 0..20 {
            stage.pass(1);
            seen = seen.min(stage.running().len());
        }
        assert!(seen >= fewest, "{n_nodes} nodes: {seen} ran");
        assert_eq!((stage.n_running("v2"), stage.running().len()), (2, 2), "{n_nodes} nodes");
        assert_eq!(stage.update_state(), Some(UpdateState::Completed), "{n_nodes} nodes");
    }
}

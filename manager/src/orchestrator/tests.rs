//! Services through time: what the leader makes of them second by second, with nodes that do as they are told.
//!
//! Start reading at [`Stage`]. The simulation tries everything with everything; here are the rules that users know by figure and
//! text.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shoal_types::cluster::node::{Availability, Node, NodeState};
use shoal_types::cluster::service::{
    FailureAction, GenericResource, JobStatus, PublishMode, PublishedServicePort, RestartCondition, Service,
    ServiceMode, UpdateOrder, UpdatePolicy, UpdateState,
};
use shoal_types::cluster::task::{Task, TaskPlace};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::container::networking::Protocol;
use shoal_types::container::spec::LoggingSpec;
use shoal_types::{NodeId, ServiceId, TaskId};

use super::{is_mere_progress, reconcile_service};
use crate::clock::after;
use crate::control::rollback_started;
use crate::decisions::Decisions;
use crate::fixtures::{at, cluster, node, service, status};
use crate::store::{Change, Draft, Object, Snapshot};

/// A cluster of nodes that bring every task to its desired state at once, unless its image is called `bad`: that never starts.
struct Stage {
    now: Timestamp,
    store: Arc<Snapshot>,
    decisions: Decisions,
}

impl Stage {
    fn new(n_nodes: u128, service: Service) -> Self {
        let mut objects: Vec<Object> = vec![cluster().into(), service.into()];
        objects.extend((1..=n_nodes).map(|number| Object::from(node(number))));
        let store = Arc::new(Snapshot::from_objects(1, objects));
        let mut stage = Self { now: at(100), store, decisions: Decisions::with_id_sequence(1) };
        stage.settle();
        stage
    }

    fn commit(&mut self, changes: &[Change]) {
        let mut next = Snapshot::clone(&self.store);
        next.apply(next.index() + 1, changes).unwrap();
        self.store = Arc::new(next);
    }

    fn report(&mut self, task: TaskId, state: TaskState) {
        let before = Arc::clone(&self.store);
        self.commit(&[Change::ReportTask { task, status: status(state, self.now), at: self.now }]);
        let (was, is) = (before.task(task).unwrap(), self.store.task(task).unwrap());
        let service = self.store.service(is.service);
        if service.is_some_and(|service| is_mere_progress(service, was, is)) {
            let mut drafts = [&before, &self.store].map(|store| Draft::new(store, self.now));
            let [earlier, later] =
                drafts.each_mut().map(|draft| reconcile_service(draft, is.service).unwrap());
            let [_, later_draft] = drafts;
            assert_eq!((later, later_draft.into_changes()), (earlier, Vec::new()), "{is:?}");
        }
    }

    /// Lets leader and nodes work until nobody has anything to do at this moment.
    fn settle(&mut self) {
        loop {
            let changes = self.decisions.step(&self.store, self.now).unwrap();
            if !changes.is_empty() {
                self.commit(&changes);
                continue;
            }
            let Some((task, state)) = self.store.tasks().find_map(|task| Some((task.id, self.next(task)?)))
            else {
                return;
            };
            self.report(task, state);
        }
    }

    /// What a node makes of a task.
    fn next(&self, task: &Task) -> Option<TaskState> {
        let node = self.store.node(task.node?)?;
        let state = task.status.state;
        if node.status.state != NodeState::Ready || state < TaskState::Assigned || state.is_terminal() {
            return None;
        }
        if task.desired > TaskState::Complete {
            return Some(TaskState::Shutdown);
        }
        let goal = task.desired.min(TaskState::Running);
        match (state < goal, task.template.container.image == "bad" && goal == TaskState::Running) {
            (true, true) => Some(TaskState::Failed),
            (true, false) => Some(goal),
            (false, _) => None,
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = after(self.now, Duration::from_secs(1));
            self.settle();
        }
    }

    fn service(&self) -> &Arc<Service> {
        self.store.service(ServiceId::from_u128(1)).unwrap()
    }

    fn change(&mut self, change: impl FnOnce(&mut Service)) {
        let mut service = Service::clone(self.service());
        let before = service.spec.clone();
        change(&mut service);
        service.update = None;
        service.previous = Some(Box::new(before));
        service.spec_version += 1;
        if let Some(job) = &mut service.job {
            job.iteration += 1;
        }
        self.commit(&[Change::Update(service.into())]);
        self.settle();
    }

    fn change_node(&mut self, number: u128, change: impl FnOnce(&mut Node)) {
        let mut node = Node::clone(self.store.node(NodeId::from_u128(number)).unwrap());
        change(&mut node);
        self.commit(&[Change::Update(node.into())]);
        self.settle();
    }

    fn running(&self) -> Vec<&Arc<Task>> {
        let runs = |task: &&Arc<Task>| task.status.state == TaskState::Running && task.is_wanted();
        self.store.tasks_of(ServiceId::from_u128(1)).filter(runs).collect()
    }

    fn n_running(&self, image: &str) -> usize {
        self.running().iter().filter(|task| task.template.container.image == image).count()
    }

    fn update_state(&self) -> Option<UpdateState> {
        self.service().update.as_ref().map(|update| update.state)
    }
}

fn with(replicas: u64, change: impl FnOnce(&mut Service)) -> Service {
    let mut service = service(1, replicas);
    change(&mut service);
    service
}

fn image(name: &'static str) -> impl FnOnce(&mut Service) {
    move |service| name.clone_into(&mut service.spec.template.container.image)
}

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

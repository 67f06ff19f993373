//! Services through time: what the leader makes of them second by second, with nodes that do as they are told.
//!
//! Start reading at [`Stage`]. The simulation tries everything with everything; here are the rules that users know by figure and
//! text.

mod tasks;
mod updates;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shoal_types::cluster::node::{Node, NodeState};
use shoal_types::cluster::service::{Service, UpdateState};
use shoal_types::cluster::task::Task;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::{NodeId, ServiceId, TaskId};

use super::{is_mere_progress, reconcile_service};
use crate::clock::after;
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

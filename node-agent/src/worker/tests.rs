//! The worker on an engine with fakes of everything around it: what managers hear, what is left behind, and what a restart changes.
//!
//! Start reading at [`Bench`]. Managers are the test itself: it hands assignments to the owner task and hears the reports.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use shoal_types::cluster::overlay::OverlayNetwork;
use shoal_types::cluster::service::{RestartCondition, RestartRule};
use shoal_types::cluster::task::{Task, TaskStatus};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::protocol::{
    Assignment, AssignmentChange, AssignmentMessage, AttachReply, AttachRequest, DetachRequest, LogReport,
    SessionEvent, StatusReport,
};
use shoal_types::{ContainerId, ErrorKind, ImageRef, Platform, TaskId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::connection::{Connection, ConnectionState};
use super::controller::{Controller, Host, Ports};
use super::overlays::Way;
use super::owner::{Leave, Owner};
use super::reporter::Reporter;
use super::session::{Delivery, Verdict};
use super::task::Surroundings;
use super::testing::{NoOverlays, a_session_message, a_task, node_facts};
use super::{DispatchError, Reports, TaskFiles};
use crate::api::containers::{ContainerViews as _, Containers as _, StopOptions};
use crate::api::images::*;
use crate::api::{ByteSource, ByteStream};
use crate::containers::Engine;
use crate::containers::tests::Machine;
use crate::error::NodeError;

/// How long a condition may take to come true. Only a broken worker needs this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Images that cannot be pulled, so that what the engine has must do. Of those of [`ELSEWHERE`] it is known that they are not here.
struct NoRegistry;

/// How names of images begin that only their registry has.
const ELSEWHERE: &str = "registry.test/";

fn none<T>() -> Result<T, NodeError> {
    Err(NodeError::unavailable("no registry here"))
}

#[async_trait]
impl Images for NoRegistry {
    async fn list(&self, _query: ImageQuery) -> Result<Vec<ImageSummary>, NodeError> {
        none()
    }
    async fn inspect(&self, name: &str, _platform: Option<&Platform>) -> Result<ImageView, NodeError> {
        if name.starts_with(ELSEWHERE) { Err(NodeError::NoSuchImage(name.to_owned())) } else { none() }
    }
    async fn history(&self, _name: &str, _: Option<&Platform>) -> Result<Vec<HistoryEntry>, NodeError> {
        none()
    }
    async fn attestations(&self, _query: AttestationQuery) -> Result<Vec<AttestationStatement>, NodeError> {
        none()
    }
    async fn tag(&self, _name: &str, _reference: &ImageRef) -> Result<(), NodeError> {
        none()
    }
    async fn remove(&self, _name: &str, _options: RemoveImage) -> Result<Vec<Removal>, NodeError> {
        none()
    }
    async fn layers_size(&self) -> Result<u64, NodeError> {
        none()
    }
    async fn prune(&self, _filter: ImagePruneFilter) -> Result<(Vec<Removal>, u64), NodeError> {
        none()
    }
}

#[async_trait]
impl ImageTransfers for NoRegistry {
    async fn pull(&self, _request: PullRequest) -> Result<ProgressStream, NodeError> {
        none()
    }
    async fn push(&self, _request: PushRequest) -> Result<ProgressStream, NodeError> {
        none()
    }
    async fn load(&self, _request: LoadRequest, _archive: ByteSource) -> Result<ProgressStream, NodeError> {
        none()
    }
    async fn save(&self, _names: &[String], _platforms: &[Platform]) -> Result<ByteStream, NodeError> {
        none()
    }
    async fn import(&self, _: ImportRequest, _archive: ByteSource) -> Result<ProgressStream, NodeError> {
        none()
    }
    async fn distribution(
        &self,
        _reference: &ImageRef,
        _credentials: Option<Credentials>,
    ) -> Result<Distribution, NodeError> {
        none()
    }
    async fn search(&self, _request: SearchRequest) -> Result<Vec<SearchResult>, NodeError> {
        none()
    }
}

/// Hears reports.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<(TaskId, TaskStatus)>>,
    changed: tokio::sync::Notify,
}

#[async_trait]
impl Reports for Ear {
    async fn heartbeat(&self) -> Result<Duration, DispatchError> {
        Ok(Duration::from_secs(5))
    }

    async fn report(&self, report: StatusReport) -> Result<(), DispatchError> {
        self.heard.lock().unwrap().extend(report.tasks);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn acknowledge(&self, _sequence: u64) -> Result<(), DispatchError> {
        Ok(())
    }

    async fn publish_logs(&self, _report: LogReport) -> Result<(), DispatchError> {
        Ok(())
    }

    async fn look_up(&self, _network: &str) -> Result<OverlayNetwork, DispatchError> {
        Err(DispatchError::new(ErrorKind::NotFound, "there are no networks"))
    }

    async fn attach(&self, _request: AttachRequest) -> Result<AttachReply, DispatchError> {
        Err(DispatchError::new(ErrorKind::NotFound, "there are no networks"))
    }

    async fn detach(&self, _request: DetachRequest) -> Result<(), DispatchError> {
        Ok(())
    }
}

impl Ear {
    /// Waits for a state of a task; returns everything heard of it up to then.
    async fn hear(&self, task: TaskId, state: TaskState) -> Vec<TaskStatus> {
        let hearing = async {
            loop {
                let next = self.changed.notified();
                tokio::pin!(next);
                next.as_mut().enable();
                let heard: Vec<TaskStatus> = {
                    let all = self.heard.lock().unwrap();
                    all.iter().filter(|(id, _)| *id == task).map(|(_, status)| status.clone()).collect()
                };
                if heard.last().is_some_and(|status| status.state == state) {
                    return heard;
                }
                next.await;
            }
        };
        match tokio::time::timeout(PATIENCE, hearing).await {
            Ok(heard) => heard,
            Err(_) => panic!("no {state}: {:?}", self.heard.lock().unwrap()),
        }
    }
}

/// A worker on an engine.
struct Bench {
    engine: Engine,
    ear: Arc<Ear>,
    events: mpsc::Sender<Delivery>,
    leaves: mpsc::Sender<Leave>,
    connection: watch::Sender<Connection>,
    way: watch::Sender<Way>,
    owner: tokio::task::JoinHandle<()>,
}

impl Bench {
    async fn start(machine: &Machine, engine: Engine) -> Self {
        let no_registry = Arc::new(NoRegistry);
        let host = Arc::new(Host {
            ports: Ports {
                containers: Arc::new(engine.clone()),
                views: Arc::new(engine.clone()),
                streams: Arc::new(engine.clone()),
                images: no_registry.clone(),
                transfers: no_registry,
            },
            facts: node_facts(),
            files: TaskFiles {
                directory: machine.root.path().join("exec/tasks"),
                ids: crate::userns::IdMapping::default(),
            },
            describe: |_| "{}".to_owned(),
            starts: Semaphore::new(4),
            overlays: Arc::new(NoOverlays),
        });
        let reporter = Reporter::default();
        let (connection, connected) = watch::channel(Connection::closed());
        let (way, ways) = watch::channel(None);
        let around = Surroundings {
            controller: Controller::new(Arc::clone(&host)),
            store: machine.store.clone(),
            reporter: reporter.clone(),
            connection: connected,
        };
        let owner = Owner::restore(host, around, Arc::new(NoOverlays), ways.clone()).await.unwrap();
        let (events, incoming) = mpsc::channel(1);
        let (leaves, leaving) = mpsc::channel(1);
        let owner = tokio::spawn(owner.run(incoming, leaving));
        tokio::spawn(reporter.run(ways));
        Self { engine, ear: Arc::default(), events, leaves, connection, way, owner }
    }

    /// A worker that has managers, on an engine of its own.
    async fn connected(machine: &Machine) -> Self {
        let bench = Self::start(machine, machine.daemon().await).await;
        bench.connect();
        bench
    }

    /// The same, with a task that runs.
    async fn with_running_task(machine: &Machine, task: &Task) -> Self {
        let bench = Self::connected(machine).await;
        bench.assign(&[task]).await;
        bench.ear.hear(task.id, TaskState::Running).await;
        bench
    }

    fn connect(&self) {
        let state = ConnectionState::Open(Arc::new(a_session_message()));
        self.connection.send_replace(Connection { since: Instant::now(), state });
        self.way.send_replace(Some(self.ear.clone()));
    }

    /// There have been no managers for some time.
    fn disconnect(&self, ago: Duration) {
        let since = Instant::now().checked_sub(ago).unwrap();
        self.connection.send_replace(Connection { since, state: ConnectionState::Closed(None) });
        self.way.send_replace(None);
    }

    /// Tells the worker that these tasks are all it shall have.
    async fn assign(&self, tasks: &[&Task]) {
        let update = |task: &&Task| AssignmentChange::Update(Assignment::Task(Box::new((*task).clone())));
        let changes = tasks.iter().map(update).collect();
        let message = AssignmentMessage { applies_to: None, results_in: 1, changes };
        let (answer, verdict) = oneshot::channel();
        self.events.send((SessionEvent::Assignments(message), answer)).await.unwrap();
        assert_eq!(verdict.await, Ok(Verdict::GoOn));
    }

    async fn container(&self, task: &Task) -> ContainerId {
        self.engine.inspect(&task.name()).await.unwrap().id
    }

    async fn until_gone(&self, task: &Task) {
        let gone = async {
            while self.engine.inspect(&task.name()).await.is_ok() {
                // The engine tells of the removal before the name is free.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }

    /// The daemon is killed and another one starts.
    async fn restart(self, machine: &Machine) -> Self {
        self.owner.abort();
        let _ = self.owner.await;
        let engine = machine.restart(self.engine).await;
        Self::start(machine, engine).await
    }
}

fn states(heard: &[TaskStatus]) -> Vec<TaskState> {
    let mut states: Vec<TaskState> = heard.iter().map(|status| status.state).collect();
    states.dedup();
    states
}

fn desired(task: &Task, state: TaskState) -> Task {
    Task { desired: state, ..task.clone() }
}

#[tokio::test]
async fn a_task_becomes_a_container_runs_ends_and_is_forgotten() {
    let machine = Machine::new();
    let bench = Bench::connected(&machine).await;
    let task = a_task("web", 1);
    bench.assign(&[&task]).await;
    let heard = bench.ear.hear(task.id, TaskState::Running).await;
    assert!(states(&heard).is_sorted(), "{heard:?}");
    let last = heard.last().unwrap();
    assert_eq!(last.message, "started");
    let id = bench.container(&task).await;
    assert_eq!(last.container.unwrap().id, id);
    assert!(last.container.unwrap().pid > 0);
    machine.process(id).exit(1);
    let heard = bench.ear.hear(task.id, TaskState::Failed).await;
    assert_eq!(heard.last().unwrap().error, "task: non-zero exit (1)");
    assert_eq!(heard.last().unwrap().container.unwrap().exit_code, 1);
    // It stays for its log until managers forget the task.
    bench.assign(&[&desired(&task, TaskState::Shutdown)]).await;
    assert_eq!(bench.container(&task).await, id);
    bench.assign(&[]).await;
    bench.until_gone(&task).await;
}

#[tokio::test]
async fn an_exit_with_zero_is_a_completion() {
    let machine = Machine::new();
    let task = desired(&a_task("job", 1), TaskState::Complete);
    let bench = Bench::with_running_task(&machine, &task).await;
    machine.process(bench.container(&task).await).exit(0);
    let heard = bench.ear.hear(task.id, TaskState::Complete).await;
    assert_eq!(
        (heard.last().unwrap().message.as_str(), heard.last().unwrap().error.as_str()),
        ("finished", "")
    );
}

#[tokio::test]
async fn an_image_that_nobody_has_rejects_the_task_in_swarms_words() {
    let machine = Machine::new();
    let bench = Bench::connected(&machine).await;
    let mut task = a_task("web", 1);
    Arc::make_mut(&mut task.template).container.image = "nothing:1".to_owned();
    bench.assign(&[&task]).await;
    let heard = bench.ear.hear(task.id, TaskState::Rejected).await;
    assert_eq!(heard.last().unwrap().error, "No such image: nothing:1");
}

#[tokio::test]
async fn an_image_that_is_not_here_and_cannot_be_pulled_rejects_the_task_with_the_reason() {
    let machine = Machine::new();
    let bench = Bench::connected(&machine).await;
    let mut task = a_task("web", 1);
    Arc::make_mut(&mut task.template).container.image = format!("{ELSEWHERE}some:1");
    bench.assign(&[&task]).await;
    let heard = bench.ear.hear(task.id, TaskState::Rejected).await;
    assert_eq!(heard.last().unwrap().error, "no registry here");
}

#[tokio::test]
async fn a_task_that_is_to_be_ready_waits_to_be_started() {
    let machine = Machine::new();
    let bench = Bench::connected(&machine).await;
    let task = a_task("web", 1);
    bench.assign(&[&desired(&task, TaskState::Ready)]).await;
    bench.ear.hear(task.id, TaskState::Ready).await;
    assert_eq!(bench.engine.inspect(&task.name()).await.unwrap().state.name(), "created");
    bench.assign(&[&task]).await;
    bench.ear.hear(task.id, TaskState::Running).await;
}

#[tokio::test]
async fn a_shutdown_stops_the_container_and_keeps_it() {
    let machine = Machine::new();
    let task = a_task("web", 1);
    let bench = Bench::with_running_task(&machine, &task).await;
    let id = bench.container(&task).await;
    let mut events = machine.follow_events();
    bench.assign(&[&desired(&task, TaskState::Shutdown)]).await;
    events.until("kill").await;
    machine.process(id).exit(143);
    let heard = bench.ear.hear(task.id, TaskState::Shutdown).await;
    assert_eq!(heard.last().unwrap().message, "shutdown");
    assert_eq!(bench.container(&task).await, id);
}

#[tokio::test]
async fn a_restarted_daemon_takes_up_its_tasks_without_stopping_them() {
    let machine = Machine::new();
    let task = a_task("web", 1);
    let bench = Bench::with_running_task(&machine, &task).await;
    let id = bench.container(&task).await;
    let bench = bench.restart(&machine).await;
    bench.connect();
    let heard = bench.ear.hear(task.id, TaskState::Running).await;
    assert_eq!(heard.len(), 1, "one report, of what is: {heard:?}");
    assert!(machine.process(id).signals().is_empty());
    bench.assign(&[&task]).await;
    machine.process(id).exit(2);
    let heard = bench.ear.hear(task.id, TaskState::Failed).await;
    assert_eq!(heard.last().unwrap().error, "task: non-zero exit (2)");
}

#[tokio::test]
async fn what_ended_while_the_daemon_was_away_is_reported_and_not_run_again() {
    let machine = Machine::new();
    let task = a_task("web", 1);
    let bench = Bench::with_running_task(&machine, &task).await;
    let id = bench.container(&task).await;
    let bench = {
        bench.owner.abort();
        bench.engine.close().await;
        machine.process(id).exit(9);
        Bench::start(&machine, machine.daemon().await).await
    };
    bench.connect();
    let heard = bench.ear.hear(task.id, TaskState::Failed).await;
    assert_eq!(heard.last().unwrap().error, "task: non-zero exit (9)");
}

#[tokio::test(start_paused = true)]
async fn without_managers_a_task_is_started_again_in_place_and_stays_running() {
    let machine = Machine::new();
    let task = a_task("web", 1);
    let bench = Bench::with_running_task(&machine, &task).await;
    let id = bench.container(&task).await;
    bench.disconnect(Duration::from_secs(6));
    let mut events = machine.follow_events();
    machine.process(id).exit(1);
    events.until("start").await;
    assert_eq!(bench.container(&task).await, id);
    bench.connect();
    let heard = bench.ear.hear(task.id, TaskState::Running).await;
    assert!(!states(&heard).contains(&TaskState::Failed));
    // With managers the next end is theirs to answer.
    machine.process(id).exit(1);
    bench.ear.hear(task.id, TaskState::Failed).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_that_no_leader_has_taken_is_not_final() {
    let machine = Machine::new();
    let task = a_task("web", 1);
    let bench = Bench::with_running_task(&machine, &task).await;
    let id = bench.container(&task).await;
    // The cable is cut, but the session seems open for some seconds more.
    bench.way.send_replace(None);
    let mut events = machine.follow_events();
    machine.process(id).exit(1);
    events.until("die").await;
    // The clock stands still in this test; this moves it beyond every delay.
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.disconnect(Duration::from_secs(6));
    events.until("start").await;
    bench.connect();
    let heard = bench.ear.hear(task.id, TaskState::Running).await;
    assert!(!states(&heard).contains(&TaskState::Failed));
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_when_managers_come_back_before_the_restart() {
    let machine = Machine::new();
    let mut task = a_task("web", 1);
    Arc::make_mut(&mut task.template).restart = RestartRule {
        condition: RestartCondition::Any,
        delay: Duration::from_secs(600),
        ..RestartRule::default()
    };
    let bench = Bench::with_running_task(&machine, &task).await;
    bench.disconnect(Duration::ZERO);
    machine.process(bench.container(&task).await).exit(4);
    // The clock stands still in this test; this moves it beyond every delay.
    tokio::time::sleep(Duration::from_secs(60)).await;
    bench.connect();
    let heard = bench.ear.hear(task.id, TaskState::Failed).await;
    assert_eq!(heard.last().unwrap().error, "task: non-zero exit (4)");
}

#[tokio::test]
async fn leaving_removes_every_task_and_what_else_is_found() {
    let machine = Machine::new();
    let bench = Bench::connected(&machine).await;
    let (one, two) = (a_task("web", 1), a_task("web", 2));
    bench.assign(&[&one, &two]).await;
    bench.ear.hear(one.id, TaskState::Running).await;
    bench.ear.hear(two.id, TaskState::Running).await;
    for task in [&one, &two] {
        // They have heard nothing; the stop kills them at the end of its grace otherwise.
        let options = StopOptions { signal: None, timeout: Some(0) };
        bench.engine.stop(&task.name(), options).await.unwrap();
    }
    let (done, gone) = oneshot::channel();
    bench.leaves.send(done).await.unwrap();
    gone.await.unwrap();
    for task in [&one, &two] {
        assert!(bench.engine.inspect(&task.name()).await.is_err());
    }
    let bench = bench.restart(&machine).await;
    bench.connect();
    assert!(bench.ear.heard.lock().unwrap().is_empty());
}

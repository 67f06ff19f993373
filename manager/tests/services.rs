//! Services from the wish to the nodes and back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use manager::Cluster;
use manager::api::logs::LogsOf;
use manager::api::services::{CredentialsOf, ServiceFilter, ServiceUpdate, UpdateTarget};
use manager::api::tasks::TaskFilter;
use manager::worker_client::{SessionHandle, WorkerClient};
use shoal_types::TaskId;
use shoal_types::cluster::secret::{FileTarget, SecretReference, SecretSpec};
use shoal_types::cluster::service::{ServiceMode, ServiceSpec};
use shoal_types::cluster::task::{Task, TaskStatus};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::protocol::{
    Assignment, AssignmentChange, LogEnd, LogLine, LogOptions, LogReport, LogStream, SessionEvent,
    StatusReport,
};

use crate::world::{LIMIT, World, eventually, ports, request};

/// A worker that brings every task to the state that is wanted of it, and writes one line of log for whoever reads.
async fn act(worker: WorkerClient, hostname: &'static str) {
    loop {
        let Ok(mut session) = worker.open_session(request(hostname)).await else {
            // An election tells nobody when it will have ended.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (mut tasks, handle) = (BTreeMap::<TaskId, Task>::new(), session.handle());
        // Dropped, and ended with that, when this worker is.
        let mut beating = tokio::task::JoinSet::new();
        beating.spawn(beat(session.handle()));
        while let Some(Ok(event)) = session.next().await {
            match event {
                SessionEvent::Assignments(message) => {
                    for change in message.changes {
                        apply(&mut tasks, change);
                    }
                    let states = tasks.values().map(|task| (task.id, status(task)));
                    let report = StatusReport { tasks: states.collect() };
                    if handle.report(report).await.is_err() {
                        break;
                    }
                }
                SessionEvent::Logs(subscription) => {
                    let line = |id: &TaskId| {
                        let task = &tasks[id];
                        LogLine {
                            task: *id,
                            service: task.service,
                            node: task.node.unwrap(),
                            stream: LogStream::Stdout,
                            at: jiff::Timestamp::now(),
                            attributes: Vec::new(),
                            data: b"hello\n".to_vec(),
                        }
                    };
                    let lines = subscription.tasks.iter().map(line).collect();
                    let report =
                        LogReport { subscription: subscription.id, lines, end: Some(LogEnd::Complete) };
                    handle.publish_logs(report).await.unwrap();
                }
                SessionEvent::Session(_) | SessionEvent::EndLogs(_) => {}
            }
        }
    }
}

async fn beat(session: SessionHandle) {
    while let Ok(next) = session.heartbeat().await {
        // The leader says when the next beat is due.
        tokio::time::sleep(next).await;
    }
}

fn apply(tasks: &mut BTreeMap<TaskId, Task>, change: AssignmentChange) {
    match change {
        AssignmentChange::Update(Assignment::Task(task)) => {
            tasks.insert(task.id, *task);
        }
        AssignmentChange::RemoveTask(id) => {
            tasks.remove(&id);
        }
        _ => {}
    }
}

fn status(task: &Task) -> TaskStatus {
    let state = if task.desired > TaskState::Running { TaskState::Shutdown } else { task.desired };
    TaskStatus {
        state,
        at: jiff::Timestamp::now(),
        message: String::new(),
        error: String::new(),
        container: None,
        host_ports: Vec::new(),
    }
}

fn spec(name: &str, replicas: u64) -> ServiceSpec {
    let mut spec = ServiceSpec {
        name: name.to_owned(),
        mode: ServiceMode::Replicated { replicas },
        ..ServiceSpec::default()
    };
    spec.template.container.image = "busybox".to_owned();
    spec
}

async fn running(ports: &Cluster, service: &str) -> usize {
    let filter = TaskFilter { services: vec![service.to_owned()], ..TaskFilter::default() };
    let tasks = ports.tasks.list(filter).await.unwrap_or_default();
    tasks
        .iter()
        .filter(|task| task.status.state == TaskState::Running && task.desired == TaskState::Running)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_placed_started_scaled_and_removed_whoever_is_asked() {
    let world = World::new();
    let one = world.init("one").await;
    let two = world.join("two", &one).await;
    let workers: Vec<_> =
        futures_util::future::join_all([world.worker("a", &one), world.worker("b", &two)]).await;
    let mut acting: Vec<_> =
        workers.into_iter().zip(["a", "b"]).map(|(worker, name)| tokio::spawn(act(worker, name))).collect();
    let ports = ports(&two);
    let begun = Instant::now();
    ports.services.create(spec("web", 4), None).await.unwrap();
    let answered = begun.elapsed();
    eventually("all run", || async { running(&ports, "web").await == 4 }).await;
    println!("the service was answered after {answered:?} and ran after {:?}", begun.elapsed());
    let mut lines = ports.logs.read(LogsOf::Service("web".to_owned()), LogOptions::default()).await.unwrap();
    let mut n_lines = 0;
    while let Some(line) = futures_util::StreamExt::next(&mut lines).await {
        assert_eq!(line.unwrap().data, b"hello\n");
        n_lines += 1;
    }
    assert_eq!(n_lines, 4);
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut followed = ports.logs.read(LogsOf::Service("web".to_owned()), options).await.unwrap();
    for _ in 0..4 {
        futures_util::StreamExt::next(&mut followed).await.unwrap().unwrap();
    }
    let service = ports.services.inspect("web").await.unwrap();
    let update = ServiceUpdate {
        version: service.meta.version,
        target: UpdateTarget::Spec(Box::new(spec("web", 6))),
        credentials: None,
        credentials_of: CredentialsOf::Spec,
    };
    ports.services.update("web", update).await.unwrap();
    eventually("two more run", || async { running(&ports, "web").await == 6 }).await;
    for _ in 0..2 {
        let line =
            tokio::time::timeout(Duration::from_secs(60), futures_util::StreamExt::next(&mut followed));
        line.await.expect("tasks that come later are heard").unwrap().unwrap();
    }
    drop(followed);
    // A worker dies without a word: its tasks run elsewhere.
    acting.pop().unwrap().abort();
    let begun = Instant::now();
    eventually("its tasks run elsewhere", || async {
        let tasks = ports.tasks.list(TaskFilter::default()).await.unwrap_or_default();
        let is_live =
            |task: &&Task| task.status.state == TaskState::Running && task.desired == TaskState::Running;
        let nodes: BTreeSet<_> = tasks.iter().filter(is_live).map(|task| task.node).collect();
        nodes.len() == 1 && running(&ports, "web").await == 6
    })
    .await;
    println!("a dead worker's tasks ran elsewhere after {:?}", begun.elapsed());
    ports.services.remove("web").await.unwrap();
    assert!(ports.services.inspect("web").await.is_err());
    assert!(ports.services.list(ServiceFilter::default()).await.unwrap().is_empty());
    for worker in acting {
        worker.abort();
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reaches_only_the_node_whose_task_names_it() {
    let world = World::new();
    let manager = world.init("one").await;
    let (a, b) = (world.worker("a", &manager).await, world.worker("b", &manager).await);
    let ports = ports(&manager);
    let secret = SecretSpec { name: "key".to_owned(), data: b"x".to_vec(), ..SecretSpec::default() };
    let id = ports.secrets.create(secret).await.unwrap();
    let mut sessions =
        [a.open_session(request("a")).await.unwrap(), b.open_session(request("b")).await.unwrap()];
    let mut wish = spec("web", 1);
    wish.template.container.secrets = vec![SecretReference {
        id,
        name: "key".to_owned(),
        target: FileTarget { path: "key".into(), uid: "0".into(), gid: "0".into(), mode: 0o444 },
    }];
    ports.services.create(wish, None).await.unwrap();
    let mut told = [(0, 0), (0, 0)];
    let begun = Instant::now();
    while told.iter().all(|(tasks, _)| *tasks == 0) {
        assert!(begun.elapsed() < LIMIT, "no node was told of the task");
        for (session, (tasks, secrets)) in sessions.iter_mut().zip(told.iter_mut()) {
            let next = tokio::time::timeout(Duration::from_millis(50), session.next());
            let Ok(Some(Ok(SessionEvent::Assignments(message)))) = next.await else { continue };
            for change in message.changes {
                match change {
                    AssignmentChange::Update(Assignment::Task(_)) => *tasks += 1,
                    AssignmentChange::Update(Assignment::Secret(secret)) => {
                        assert_eq!(secret.spec.data, b"x");
                        *secrets += 1;
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(told.iter().all(|(tasks, secrets)| (*tasks > 0) == (*secrets > 0)), "{told:?}");
    assert_eq!(told.iter().filter(|(tasks, _)| *tasks > 0).count(), 1);
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_are_incomplete_say_so_at_their_end_and_then_end() {
    let world = World::new();
    let one = world.init("one").await;
    let two = world.join("two", &one).await;
    ports(&one).services.create(spec("web", 1), None).await.unwrap();
    // Nobody works here, so the task waits for a node. The leader and a follower say the same.
    for manager in [&one, &two] {
        let logs = ports(manager).logs;
        let read = logs.read(LogsOf::Service("web".to_owned()), LogOptions::default());
        let lines: Vec<_> = futures_util::StreamExt::collect(read.await.unwrap()).await;
        let [Err(error)] = lines.as_slice() else { panic!("{lines:?}") };
        let text = error.to_string();
        assert!(
            text.starts_with("warning: incomplete log stream.") && text.ends_with("has not been scheduled"),
            "{text}"
        );
    }
}

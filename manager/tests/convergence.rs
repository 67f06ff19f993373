//! How long it takes until every node is as told after a task has moved, with a real leader and sessions over loopback.
//!
//! Start reading at the test. Nodes are sessions that bring every task to the state that is wanted of it and take every table in, but
//! have no kernel. One service has a task on each of them, so that each has the network; the task of another dies again and
//! again. Measured from the report of its end, or of its start, until the last node has taken in what follows. The short form is
//! part of every run; `cargo xtask test convergence` takes the long one: `SHOAL_CONVERGENCE="nodes=100 moves=250"`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use manager::Cluster;
use manager::api::tasks::TaskFilter;
use manager::worker_client::{SessionHandle, WorkerClient};
use shoal_types::cluster::overlay::{EntryKey, OverlayEntry, PeerState};
use shoal_types::cluster::service::{NetworkWish, ServiceMode, ServiceSpec};
use shoal_types::cluster::task::TaskStatus;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::network::NetworkSpec;
use shoal_types::protocol::{Assignment, AssignmentChange, AssignmentMessage, SessionEvent, StatusReport};
use shoal_types::{NodeId, TaskId};
use tokio::sync::{Notify, mpsc};

use crate::world::{LIMIT, World, eventually, ports, request};

/// The bound in every run, whose machine may have much else to do. What is aimed at stands in docs/benchmarks.md.
const BOUND: Duration = Duration::from_secs(10);

/// What is tried.
#[derive(Debug, Clone, Copy)]
struct Plan {
    nodes: usize,
    moves: usize,
}

impl Plan {
    fn from_environment() -> Self {
        let mut plan = Self { nodes: 12, moves: 10 };
        let text = std::env::var("SHOAL_CONVERGENCE").unwrap_or_default();
        for (name, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
            let value: usize = value.parse().expect("a number in SHOAL_CONVERGENCE");
            match name {
                "nodes" => plan.nodes = value,
                "moves" => plan.moves = value,
                _ => panic!("SHOAL_CONVERGENCE knows nodes and moves, not {name}"),
            }
        }
        plan
    }
}

/// What nodes take in of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum News {
    /// It is found.
    Serves,
    /// It is not found any more.
    Gone,
}

/// Which node has taken what in, and when.
#[derive(Default)]
struct Board {
    taken: Mutex<HashMap<(TaskId, News), Vec<Instant>>>,
    reported: Mutex<HashMap<(TaskId, News), Instant>>,
    changed: Notify,
}

impl Board {
    fn report(&self, task: TaskId, news: News) {
        self.reported.lock().unwrap().entry((task, news)).or_insert_with(Instant::now);
    }

    fn take(&self, task: TaskId, news: News) {
        self.taken.lock().unwrap().entry((task, news)).or_default().push(Instant::now());
        self.changed.notify_waiters();
    }

    /// How long after the report the last of so many nodes has taken it in.
    async fn until_taken(&self, task: TaskId, news: News, nodes: usize) -> Duration {
        let taken = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let last = {
                    let taken = self.taken.lock().unwrap();
                    taken
                        .get(&(task, news))
                        .filter(|all| all.len() >= nodes)
                        .and_then(|all| all.last().copied())
                };
                if let Some(last) = last {
                    return last;
                }
                changed.await;
            }
        };
        let last = tokio::time::timeout(LIMIT, taken).await.expect("every node is as told");
        last.duration_since(self.reported.lock().unwrap()[&(task, news)])
    }
}

/// A node without a kernel.
struct Agent {
    session: SessionHandle,
    board: Arc<Board>,
    /// What was reported of each task.
    tasks: BTreeMap<TaskId, TaskState>,
    /// Peers that are found.
    serving: BTreeSet<EntryKey>,
}

impl Agent {
    async fn run(worker: WorkerClient, name: String, board: Arc<Board>, mut deaths: mpsc::Receiver<TaskId>) {
        let mut session = worker.open_session(request(&name)).await.expect("a session");
        let mut agent =
            Self { session: session.handle(), board, tasks: BTreeMap::new(), serving: BTreeSet::new() };
        let beating = tokio::spawn(beat(session.handle()));
        loop {
            tokio::select! {
                // Cancel-safe by its promise.
                event = session.next() => match event {
                    Some(Ok(SessionEvent::Assignments(message))) => agent.take(message).await,
                    Some(Ok(_)) => {}
                    _ => break,
                },
                Some(task) = deaths.recv() => agent.report([(task, TaskState::Failed)].into()).await,
            }
        }
        beating.abort();
    }

    async fn take(&mut self, message: AssignmentMessage) {
        if message.tells_of_draining() {
            self.session.acknowledge(message.results_in).await.expect("an open session");
        }
        let mut due = BTreeMap::new();
        for change in message.changes {
            match change {
                AssignmentChange::Update(Assignment::Entry(_, entry)) => {
                    let OverlayEntry::Peer(peer) = *entry else { continue };
                    self.see(peer.key, peer.state == PeerState::Serving);
                }
                AssignmentChange::RemoveEntry(_, key) => self.see(key, false),
                AssignmentChange::Update(Assignment::Task(task)) => {
                    let state = if task.desired > TaskState::Running {
                        TaskState::Shutdown
                    } else {
                        TaskState::Running
                    };
                    if self.tasks.get(&task.id).is_none_or(|known| *known < state) {
                        due.insert(task.id, state);
                    }
                }
                AssignmentChange::RemoveTask(task) => drop(self.tasks.remove(&task)),
                _ => {}
            }
        }
        self.report(due).await;
    }

    fn see(&mut self, key: EntryKey, serves: bool) {
        let EntryKey::Task(task) = key else { return };
        let changed = if serves { self.serving.insert(key) } else { self.serving.remove(&key) };
        if changed {
            self.board.take(task, if serves { News::Serves } else { News::Gone });
        }
    }

    async fn report(&mut self, states: BTreeMap<TaskId, TaskState>) {
        if states.is_empty() {
            return;
        }
        let report = |(task, state): (&TaskId, &TaskState)| {
            self.board.report(*task, if *state == TaskState::Running { News::Serves } else { News::Gone });
            (*task, TaskStatus::new(*state, jiff::Timestamp::now(), ""))
        };
        let report = StatusReport { tasks: states.iter().map(report).collect() };
        self.tasks.extend(states);
        self.session.report(report).await.expect("an open session");
    }
}

async fn beat(session: SessionHandle) {
    while let Ok(next) = session.heartbeat().await {
        // The leader says when the next beat is due.
        tokio::time::sleep(next).await;
    }
}

fn spec(name: &str, network: &str, mode: ServiceMode) -> ServiceSpec {
    let mut spec = ServiceSpec { name: name.to_owned(), mode, ..ServiceSpec::default() };
    spec.template.container.image = "busybox".to_owned();
    spec.template.restart.delay = Duration::ZERO;
    spec.template.networks = vec![NetworkWish {
        target: network.to_owned(),
        aliases: Vec::new(),
        driver_options: BTreeMap::new(),
    }];
    spec
}

/// The tasks of a service that run, and where.
async fn running(ports: &Cluster, service: &str) -> Vec<(TaskId, NodeId)> {
    let filter = TaskFilter { services: vec![service.to_owned()], ..TaskFilter::default() };
    let tasks = ports.tasks.list(filter).await.unwrap_or_default();
    let run = tasks
        .iter()
        .filter(|task| task.status.state == TaskState::Running && task.desired == TaskState::Running);
    run.filter_map(|task| Some((task.id, task.node?))).collect()
}

/// The task of the service that moves, once it is another one than before.
async fn next_task(ports: &Cluster, former: Option<TaskId>) -> (TaskId, NodeId) {
    let next = async {
        loop {
            let running = running(ports, "web").await;
            if let Some(found) = running.into_iter().find(|(task, _)| Some(*task) != former) {
                return found;
            }
            // Tasks are listed from outside, which has no signal.
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    tokio::time::timeout(LIMIT, next).await.expect("the task runs again")
}

fn share(sorted: &[Duration], part: usize) -> Duration {
    sorted.get((sorted.len() * part / 1000).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_soon_knows_that_a_task_has_moved() {
    let plan = Plan::from_environment();
    let world = World::new();
    let manager = world.init("one").await;
    let (board, ports) = (Arc::new(Board::default()), ports(&manager));
    let mut deaths = HashMap::new();
    let mut agents = tokio::task::JoinSet::new();
    for number in 0..plan.nodes {
        let name = format!("node{number}");
        let token = crate::world::tokens(&manager).await.worker;
        let credentials = world.enrol(&name, &token, &[manager.address()]).await.unwrap();
        let (sender, receiver) = mpsc::channel(1);
        deaths.insert(credentials.node_id(), sender);
        let worker = WorkerClient::new(credentials, vec![manager.address()]);
        agents.spawn(Agent::run(worker, name, Arc::clone(&board), receiver));
    }
    let network =
        NetworkSpec { name: "net".to_owned(), driver: "overlay".to_owned(), ..NetworkSpec::default() };
    let network = ports.networks.create(network).await.unwrap();
    ports.services.create(spec("base", network.as_str(), ServiceMode::Global), None).await.unwrap();
    eventually("every node has the network", || async { running(&ports, "base").await.len() == plan.nodes })
        .await;
    let mode = ServiceMode::Replicated { replicas: 1 };
    ports.services.create(spec("web", network.as_str(), mode), None).await.unwrap();

    let (mut lost, mut found) = (Vec::new(), Vec::new());
    let mut former = None;
    for _ in 0..plan.moves {
        let (task, node) = next_task(&ports, former).await;
        found.push(board.until_taken(task, News::Serves, plan.nodes).await);
        deaths[&node].send(task).await.unwrap();
        lost.push(board.until_taken(task, News::Gone, plan.nodes).await);
        former = Some(task);
    }
    let mut all = [lost.as_slice(), found.as_slice()].concat();
    all.sort_unstable();
    println!(
        "{plan:?}: {} changes known everywhere after {:?} (half), {:?} (99 %), {:?} at most",
        all.len(),
        share(&all, 500),
        share(&all, 990),
        share(&all, 1000)
    );
    assert!(share(&all, 1000) < BOUND, "{all:?}");
    agents.abort_all();
    while agents.join_next().await.is_some() {}
    manager.stop().await;
}

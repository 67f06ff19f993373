//! Nodes without containers: each has a certificate, a connection and a session of its own, and says of every task that it has done
//! what was asked.
//!
//! Start reading at [`Agents`]. They have threads of their own, so that what managers take of the machine can be told apart.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use manager::ca::Credentials;
use manager::worker_client::{SessionHandle, WorkerClient, WorkerSession};
use shoal_types::cluster::task::{Task, TaskContainer, TaskStatus};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::protocol::{Assignment, AssignmentChange, SessionEvent, StatusReport};
use shoal_types::{ContainerId, NodeId, TaskId};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::world::{World, request};

/// Nodes that enrol at the same time.
const ENROLMENTS: usize = 8;

/// What all agents have seen together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Sessions that are open.
    pub(crate) sessions: u64,
    /// Tasks that agents were told of for the first time.
    pub(crate) told: u64,
    /// Tasks that were reported as running, and the report is in the store.
    pub(crate) running: u64,
}

/// Many nodes.
pub(crate) struct Agents {
    runtime: Runtime,
    tally: Arc<watch::Sender<Tally>>,
    running: HashMap<NodeId, AbortHandle>,
    /// Nodes that have ever joined, which numbers their directories.
    n_joined: usize,
}

impl Agents {
    /// No nodes yet.
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("agents")
            .enable_all()
            .build()
            .unwrap();
        Self { runtime, tally: Arc::default(), running: HashMap::new(), n_joined: 0 }
    }

    /// Lets so many nodes more join, and waits until each has a session.
    pub(crate) fn join(&mut self, world: &World, count: usize, token: &str, managers: &[SocketAddr]) {
        let expected = u64::try_from(self.running.len() + count).unwrap();
        let mut enrolling = tokio::task::JoinSet::new();
        for _ in 0..count {
            if enrolling.len() >= ENROLMENTS {
                let enrolled = self.runtime.block_on(enrolling.join_next()).unwrap().unwrap();
                self.start(enrolled, managers);
            }
            self.n_joined += 1;
            let directory = world.config(&format!("agent{}", self.n_joined)).certificates();
            let (token, remotes) = (token.to_owned(), managers.to_vec());
            enrolling.spawn_on(enrol(directory, token, remotes), self.runtime.handle());
        }
        while let Some(enrolled) = self.runtime.block_on(enrolling.join_next()) {
            self.start(enrolled.unwrap(), managers);
        }
        self.wait("sessions are open", |tally| tally.sessions == expected);
    }

    fn start(&mut self, credentials: Arc<Credentials>, managers: &[SocketAddr]) {
        let node = credentials.node_id();
        let live = live(credentials, managers.to_vec(), Arc::clone(&self.tally));
        self.running.insert(node, self.runtime.spawn(live).abort_handle());
    }

    /// Takes the power of one node; which.
    pub(crate) fn lose_one(&mut self) -> NodeId {
        let node = *self.running.keys().next().expect("there is a node to lose");
        self.running.remove(&node).unwrap().abort();
        node
    }

    pub(crate) fn tally(&self) -> Tally {
        *self.tally.borrow()
    }

    /// Waits until the tally is as wished; when that was.
    pub(crate) fn wait(&self, what: &str, wished: impl FnMut(&Tally) -> bool) -> Instant {
        let mut tally = self.tally.subscribe();
        let waited = async {
            let waited = tokio::time::timeout(super::PATIENCE, tally.wait_for(wished)).await;
            waited.is_ok_and(|seen| seen.is_ok())
        };
        let is_so = self.runtime.block_on(waited);
        assert!(is_so, "{what}: {:?}", self.tally());
        Instant::now()
    }
}

async fn enrol(directory: std::path::PathBuf, token: String, remotes: Vec<SocketAddr>) -> Arc<Credentials> {
    use manager::worker_client::{Enrolment, enrol};
    use shoal_types::cluster::node::Availability;

    let availability = Availability::Active;
    enrol(Enrolment { directory, remotes, token, availability }).await.unwrap()
}

/// Counts a session for as long as it is open.
struct OpenSession(Arc<watch::Sender<Tally>>);

impl OpenSession {
    fn new(tally: &Arc<watch::Sender<Tally>>) -> Self {
        tally.send_modify(|tally| tally.sessions += 1);
        Self(Arc::clone(tally))
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.send_modify(|tally| tally.sessions -= 1);
    }
}

/// One node, until it is aborted.
async fn live(credentials: Arc<Credentials>, managers: Vec<SocketAddr>, tally: Arc<watch::Sender<Tally>>) {
    let name = credentials.node_id().to_string();
    let client = WorkerClient::new(credentials, managers);
    let mut tasks = HashMap::new();
    loop {
        let Ok(session) = client.open_session(request(&name)).await else {
            // An election tells nobody when it will have ended, and a thousand nodes must not ask all at once.
            tokio::time::sleep(Duration::from_millis(rand::random_range(50..250))).await;
            continue;
        };
        let _open = OpenSession::new(&tally);
        serve(session, &mut tasks, &tally).await;
    }
}

/// Does what one session says, until it ends.
async fn serve(
    mut session: WorkerSession,
    tasks: &mut HashMap<TaskId, TaskState>,
    tally: &Arc<watch::Sender<Tally>>,
) {
    let (reports, queue) = mpsc::unbounded_channel();
    // Dropped, and ended with that, when the session ends.
    let mut beside = tokio::task::JoinSet::new();
    beside.spawn(beat(session.handle()));
    beside.spawn(report(session.handle(), queue, Arc::clone(tally)));
    while let Some(Ok(event)) = session.next().await {
        let SessionEvent::Assignments(message) = event else { continue };
        for change in message.changes {
            match change {
                AssignmentChange::Update(Assignment::Task(task)) => {
                    if !tasks.contains_key(&task.id) {
                        tally.send_modify(|tally| tally.told += 1);
                    }
                    if let Some(state) = obey(&task, tasks) {
                        let _ = reports.send((task.id, state));
                    }
                }
                AssignmentChange::RemoveTask(id) => {
                    tasks.remove(&id);
                }
                _ => {}
            }
        }
    }
}

/// What a task becomes at once; `None` if it is that already.
fn obey(task: &Task, tasks: &mut HashMap<TaskId, TaskState>) -> Option<TaskState> {
    let next = match task.desired {
        TaskState::Ready => TaskState::Ready,
        desired if desired <= TaskState::Complete => TaskState::Running,
        _ => TaskState::Shutdown,
    };
    (tasks.insert(task.id, next) != Some(next)).then_some(next)
}

async fn beat(handle: SessionHandle) {
    while let Ok(pause) = handle.heartbeat().await {
        // How long the leader has said.
        tokio::time::sleep(pause).await;
    }
}

/// Reports what has happened, as much at once as there is, as the worker of a real node does.
async fn report(
    handle: SessionHandle,
    mut queue: mpsc::UnboundedReceiver<(TaskId, TaskState)>,
    tally: Arc<watch::Sender<Tally>>,
) {
    let mut states = Vec::new();
    while queue.recv_many(&mut states, 1024).await > 0 {
        // A real node is heard of twice at least: when it has begun to prepare a task, and when that runs.
        let started = states.iter().filter(|(_, state)| *state == TaskState::Running);
        let preparing = started.clone().map(|(id, _)| (*id, status(TaskState::Preparing))).collect();
        let reached = states.iter().map(|(id, state)| (*id, status(*state))).collect();
        let n_running = u64::try_from(started.count()).unwrap();
        if n_running > 0 && handle.report(StatusReport { tasks: preparing }).await.is_err() {
            return;
        }
        if handle.report(StatusReport { tasks: reached }).await.is_err() {
            return;
        }
        tally.send_modify(|tally| tally.running += n_running);
        states.clear();
    }
}

fn status(state: TaskState) -> TaskStatus {
    let mut status = TaskStatus::new(state, Timestamp::now(), state.to_string());
    if state >= TaskState::Ready {
        let pid = if state == TaskState::Running { 4711 } else { 0 };
        status.container = Some(TaskContainer { id: ContainerId::random(), pid, exit_code: 0 });
    }
    status
}

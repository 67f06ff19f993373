//! The leader's side of workers' sessions: who is there, what each shall have, what each has observed.
//!
//! Start reading at [`Dispatcher`]. [`session`] is one open session, [`assignments`] the pure difference between what a node was told and what it shall
//! be told, [`mod@concern`] which nodes that is to be asked of, [`drains`] who must have been told before a task may be stopped, [`batch`] the queue that puts what many nodes report into few commits. One loop looks at what has changed in the
//! store and writes to the sessions that it concerns, another looks for nodes that have fallen silent. All of it exists only
//! while this manager leads.
//!
//! A node is silent for longer than the cluster's heartbeat period: down. It is told to speak three times as often, so one
//! lost beat harms nobody.

pub(crate) mod assignments;
mod batch;
mod concern;
mod drains;
mod logs;
mod serve;
mod session;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shoal_types::cluster::node::{NodeState, NodeStatus};
use shoal_types::protocol::{LogOptions, ManagerPeer, SessionEvent, SessionId};
use shoal_types::{NetworkId, NodeId, TaskId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::allocator::Allocator;
use crate::clock::Clock;
use crate::overlay::tables::Tables;
use crate::store::{Change, Key, Snapshot, Store};
use batch::Batch;
use concern::{Concern, concern};
use drains::{Drains, is_draining};
use logs::LogBroker;
pub(crate) use logs::LogNews;
pub(crate) use serve::{Acknowledgement, Beat, LogsOfSession, ReportOfSession};
use session::Session;

/// How many times a node speaks within the period after which it counts as gone.
const BEATS: u32 = 3;
/// How long after a change in the store sessions are written to, so that changes that come together travel together.
const GATHER: Duration = Duration::from_millis(20);
/// How often it is looked for silent nodes and for managers that come and go.
const WATCH: Duration = Duration::from_millis(250);
/// How long nodes may take to find a new leader before they count as gone.
const FIND_LEADER: Duration = Duration::from_secs(15);
/// Sessions that one node may open within [`REGISTRATION_WINDOW`].
const REGISTRATIONS: usize = 3;
const REGISTRATION_WINDOW: Duration = Duration::from_secs(8);
/// What is said of nodes that a new leader has not heard of.
const LEADER_CHANGED: &str = "Node moved to \"unknown\" state due to leadership change in cluster";
/// What is said of nodes that have fallen silent.
const HEARTBEAT_FAILURE: &str = "heartbeat failure";

/// Who else manages; asked from time to time.
pub(crate) trait ManagersView: Send + Sync {
    /// All managers and where they listen.
    fn managers(&self) -> Vec<ManagerPeer>;
}

/// The leader's side of workers' sessions.
pub(crate) struct Dispatcher {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    managers: Arc<dyn ManagersView>,
    batch: Batch,
    sessions: Mutex<Sessions>,
    logs: LogBroker,
    /// Where addresses of attachments were looked for last.
    attachments: Mutex<Allocator>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Sessions {
    open: HashMap<NodeId, Session>,
    /// Nodes that have not come back since this manager leads, or since their session broke without them being down, and until when they may.
    awaited: HashMap<NodeId, Instant>,
    /// When each node has opened sessions of late.
    registrations: HashMap<NodeId, Vec<Instant>>,
    /// The tables of networks that span nodes.
    tables: Tables,
    /// Tasks that shall stop and to which clients may still be led.
    drains: Drains,
    /// What the managers were when sessions were last told.
    managers: Vec<ManagerPeer>,
}

impl Dispatcher {
    /// Begins; [`Self::run`] must be driven for as long as this manager leads.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        managers: Arc<dyn ManagersView>,
    ) -> Arc<Self> {
        Arc::new(Self {
            batch: Batch::new(Arc::clone(&store)),
            store,
            clock,
            managers,
            sessions: Mutex::default(),
            logs: LogBroker::default(),
            attachments: Mutex::default(),
        })
    }

    /// Takes over the nodes of the leader before, then keeps sessions told and watched until `stop`; all sessions are
    /// closed then.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            tokio::join!(self.batch.run(), self.take_over(), self.tell(), self.watch());
        };
        // Dropped at any point: what was not told is told anew by the next leader.
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
        let mut sessions = self.lock();
        sessions.open.clear();
        self.logs.close();
    }

    /// Begins to read logs of tasks, and says at once which nodes cannot send theirs.
    pub(crate) async fn subscribe_logs(
        &self,
        tasks: BTreeMap<NodeId, Vec<TaskId>>,
        options: LogOptions,
    ) -> (String, mpsc::Receiver<LogNews>) {
        let nodes: Vec<NodeId> = tasks.keys().copied().collect();
        let (id, news) = self.logs.subscribe(tasks, options);
        let mut absent = Vec::new();
        {
            let sessions = self.lock();
            for node in nodes {
                let told = sessions.open.get(&node).map(|session| {
                    let owed = self.logs.subscriptions_of(node);
                    let mut this = owed.iter().filter(
                        |event| matches!(event, SessionEvent::Logs(subscription) if subscription.id == id),
                    );
                    this.try_for_each(|event| session.send(event))
                });
                if !matches!(told, Some(Ok(()))) {
                    absent.push(node);
                }
            }
        }
        let logs = self.logs.clone();
        let subscription = id.clone();
        // The reader may not read before this returns, so it must not be waited for.
        tokio::spawn(async move {
            for node in absent {
                logs.give_up(&subscription, node, format!("node {node} is not available")).await;
            }
        });
        (id, news)
    }

    /// Ends a subscription: nodes that still send are told to stop.
    pub(crate) fn end_logs(&self, id: &str) {
        let sessions = self.lock();
        for node in self.logs.end(id) {
            if let Some(session) = sessions.open.get(&node) {
                // A session that cannot be told is closed by the next look at it.
                let _ = session.send(&SessionEvent::EndLogs(id.to_owned()));
            }
        }
    }

    /// After how long of silence a node counts as gone.
    fn period(&self) -> Duration {
        let period = self.store.snapshot().cluster().map(|cluster| cluster.spec.heartbeat);
        period.filter(|period| !period.is_zero()).unwrap_or(Duration::from_secs(5))
    }

    /// Marks nodes that the leader before has heard of as unknown, until they come or do not.
    async fn take_over(&self) {
        let snapshot = self.store.snapshot();
        let mut changes = Vec::new();
        for node in snapshot.nodes() {
            let is_here = self.lock().open.contains_key(&node.id);
            if is_here || node.status.state == NodeState::Down || node.description.is_none() {
                continue;
            }
            let wait = FIND_LEADER.max(self.period() * 3);
            self.lock().awaited.insert(node.id, Instant::now() + wait);
            changes.push(self.node_change(node.id, NodeState::Unknown, LEADER_CHANGED));
        }
        if let Err(error) = self.batch.commit(changes).await {
            tracing::warn!(%error, "nodes could not be marked as unknown");
        }
    }

    fn node_change(&self, node: NodeId, state: NodeState, message: &str) -> Change {
        let address =
            self.store.snapshot().node(node).map(|node| node.status.address.clone()).unwrap_or_default();
        let status = NodeStatus { state, message: message.to_owned(), address, since: None };
        Change::ReportNode { node, status, description: None, at: self.clock.now() }
    }

    /// Writes to sessions whatever changes for them.
    async fn tell(&self) {
        let mut changed = self.store.changed();
        let mut told = self.store.snapshot();
        loop {
            if changed.changed().await.is_err() {
                return;
            }
            // What is waited for are further changes, which may not come.
            tokio::time::sleep(GATHER).await;
            changed.mark_unchanged();
            let now = self.store.snapshot();
            let concerned = concern(&told, &now);
            let peers = self.managers.managers();
            let mut sessions = self.lock();
            sessions.tables.advance(&now);
            let networks = sessions.tables.take_changed();
            match concerned {
                Some(Concern { mut nodes, reported }) => {
                    sessions.take_in(&reported, &now);
                    nodes.extend(sessions.in_any(&networks));
                    for node in nodes {
                        sessions.tell(node, &now, &peers);
                    }
                }
                None => sessions.tell_all(&now, &peers),
            }
            let free = sessions.begin_drains(&told, &now);
            sessions.tell_of_tasks(&free, &now, &peers);
            drop(sessions);
            told = now;
        }
    }

    /// Looks for nodes that have fallen silent, and for managers that come and go.
    async fn watch(&self) {
        let mut looked = Instant::now();
        loop {
            // Silence is the absence of anything that could be waited for.
            tokio::time::sleep(WATCH).await;
            let now = Instant::now();
            // Whoever was not run himself cannot say that others were silent.
            let held_up = now.duration_since(looked).saturating_sub(2 * WATCH);
            looked = now;
            let peers = self.managers.managers();
            let silent = {
                let mut sessions = self.lock();
                sessions.close_broken();
                if !held_up.is_zero() {
                    sessions.forgive(held_up);
                }
                if sessions.managers != peers {
                    sessions.managers.clone_from(&peers);
                    let snapshot = self.store.snapshot();
                    sessions.tell_all(&snapshot, &peers);
                }
                let overdue = sessions.drains.take_overdue(now);
                if !overdue.is_empty() {
                    tracing::info!(
                        tasks = overdue.len(),
                        "tasks are stopped although not every node has taken them out of service"
                    );
                    sessions.tell_of_tasks(&overdue, &self.store.snapshot(), &peers);
                }
                sessions.take_silent(now)
            };
            if silent.is_empty() {
                continue;
            }
            let changes = silent
                .into_iter()
                .inspect(|node| tracing::info!(node.id = %node, "node is down: it has fallen silent"))
                .map(|node| self.node_change(node, NodeState::Down, HEARTBEAT_FAILURE))
                .collect();
            if let Err(error) = self.batch.commit(changes).await {
                tracing::warn!(%error, "nodes could not be marked as down");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    /// Nodes that were told of one of these networks.
    fn in_any(&self, networks: &BTreeSet<NetworkId>) -> Vec<NodeId> {
        let open = self.open.iter().filter(|(_, session)| session.knows_any(networks));
        open.map(|(node, _)| *node).collect()
    }

    /// Writes to one session; one that cannot follow is closed, and its node opens another.
    fn tell(&mut self, node: NodeId, snapshot: &Snapshot, peers: &[ManagerPeer]) {
        let Some(session) = self.open.get_mut(&node) else { return };
        if session.tell(snapshot, &self.tables, &self.drains, peers).is_err() {
            tracing::info!(node.id = %node, "session is closed: the node is gone, too slow or removed");
            self.close(node);
        }
    }

    /// Lets sessions know of tasks of which nothing is new but what their nodes have reported.
    fn take_in(&mut self, reported: &[TaskId], snapshot: &Snapshot) {
        for task in reported.iter().filter_map(|task| snapshot.task(*task)) {
            if let Some(session) = task.node.and_then(|node| self.open.get_mut(&node)) {
                session.take_in(task);
            }
        }
    }

    fn tell_all(&mut self, snapshot: &Snapshot, peers: &[ManagerPeer]) {
        let nodes: Vec<NodeId> = self.open.keys().copied().collect();
        for node in nodes {
            self.tell(node, snapshot, peers);
        }
    }

    /// Begins to wait for the nodes that may lead clients to tasks that shall stop since `before`. Answers the tasks for which
    /// nobody has to be waited for.
    fn begin_drains(&mut self, before: &Snapshot, now: &Snapshot) -> Vec<TaskId> {
        self.drains.retain(|task| now.task(task).is_some_and(|task| is_draining(task)));
        let changed: Vec<TaskId> = match now.changed_since(before.index()) {
            Some(keys) => {
                keys.filter_map(|key| if let Key::Task(id) = key { Some(*id) } else { None }).collect()
            }
            None => now.tasks().map(|task| task.id).collect(),
        };
        let mut free = Vec::new();
        for task in changed.into_iter().filter_map(|id| now.task(id)).filter(|task| is_draining(task)) {
            let networks: BTreeSet<NetworkId> =
                task.networks.iter().map(|attachment| attachment.network.clone()).collect();
            let concerned = self.open.iter().filter(|(_, session)| session.knows_any(&networks));
            let nodes = concerned.filter_map(|(node, session)| Some((*node, session.awaited()?))).collect();
            if self.drains.begin(task.id, nodes, Instant::now()) {
                free.push(task.id);
            }
        }
        free
    }

    /// Writes to the sessions of these tasks' nodes.
    fn tell_of_tasks(&mut self, tasks: &[TaskId], snapshot: &Snapshot, peers: &[ManagerPeer]) {
        let nodes: BTreeSet<NodeId> = tasks.iter().filter_map(|task| snapshot.task(*task)?.node).collect();
        for node in nodes {
            self.tell(node, snapshot, peers);
        }
    }

    /// Closes a session. Its node has as long to come back as it would have had to speak.
    fn close(&mut self, node: NodeId) {
        if let Some(session) = self.open.remove(&node) {
            self.awaited.insert(node, session.silent_at);
        }
    }

    /// Closes sessions whose nodes read no more, although they may still speak.
    fn close_broken(&mut self) {
        let broken: Vec<NodeId> =
            self.open.iter().filter(|(_, session)| session.is_broken()).map(|(node, _)| *node).collect();
        for node in broken {
            self.close(node);
        }
    }

    fn session(&mut self, node: NodeId, id: &SessionId) -> Option<&mut Session> {
        self.open.get_mut(&node).filter(|session| session.id == *id)
    }

    /// Gives everybody so much more time.
    fn forgive(&mut self, held_up: Duration) {
        for session in self.open.values_mut() {
            session.silent_at += held_up;
        }
        for until in self.awaited.values_mut() {
            *until += held_up;
        }
    }

    /// Nodes that are down now. Their sessions are closed.
    fn take_silent(&mut self, now: Instant) -> Vec<NodeId> {
        let mut silent: Vec<NodeId> =
            self.open.iter().filter(|(_, session)| session.silent_at <= now).map(|(node, _)| *node).collect();
        silent.extend(self.awaited.iter().filter(|(_, until)| **until <= now).map(|(node, _)| *node));
        for node in &silent {
            self.open.remove(node);
            self.awaited.remove(node);
        }
        self.registrations.retain(|_, times| {
            times.retain(|time| now.duration_since(*time) < REGISTRATION_WINDOW);
            !times.is_empty()
        });
        silent
    }
}

//! The worker's owner task: takes in what managers say, writes it down, and hands it to the tasks' actors.
//!
//! Start reading at [`Owner::run`]. Inputs: events of the session, and the wish to leave. Outputs: wishes for actors. Owner: the
//! [`Worker`](super::Worker) handle; it ends when that is stopped, and the containers go on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use shoal_types::TaskId;
use shoal_types::cluster::task::Task;
use shoal_types::protocol::{AssignmentMessage, LogSubscription, SessionEvent};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::assignments::Assigned;
use super::container::{LABEL_NODE_ID, LABEL_TASK_ID};
use super::controller::{Host, remove_container};
use super::logs::LogPublisher;
use super::overlays::{OverlayNews, Overlays, Way};
use super::record::{TaskRecord, TaskStateRecord};
use super::session::{Delivery, Verdict};
use super::task::{Actor, Fate, Surroundings, Wish};
use crate::api::LabelFilter;
use crate::api::containers::{ContainerFilter, ListQuery};
use crate::error::{ErrorChain, NodeError};
use crate::store::{Batch, StoreError};

/// The owner of all tasks of this node.
pub(super) struct Owner {
    host: Arc<Host>,
    around: Surroundings,
    assigned: Assigned,
    actors: HashMap<TaskId, Seat>,
    logs: LogPublisher,
    overlays: Arc<dyn Overlays>,
    way: watch::Receiver<Way>,
}

#[derive(Debug)]
struct Seat {
    wish: watch::Sender<Wish>,
    actor: JoinHandle<()>,
}

/// A wish to give up every task; answered when they are gone.
pub(super) type Leave = oneshot::Sender<()>;

impl Owner {
    /// Takes up the tasks that the daemon before had.
    pub(super) async fn restore(
        host: Arc<Host>,
        around: Surroundings,
        overlays: Arc<dyn Overlays>,
        way: watch::Receiver<Way>,
    ) -> Result<Self, NodeError> {
        let (tasks, mut states) = load(&around).await?;
        let mut owner = Self {
            host,
            around,
            assigned: Assigned::restored(tasks),
            actors: HashMap::new(),
            logs: LogPublisher::default(),
            overlays,
            way,
        };
        let ids: Vec<TaskId> = owner.assigned.tasks().map(|task| task.id).collect();
        for id in &ids {
            owner.seat(*id, states.remove(id));
        }
        owner.remove_orphans().await;
        tracing::info!(tasks = ids.len(), "worker has taken up its tasks");
        Ok(owner)
    }

    /// Serves until nobody holds the worker any more.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::Receiver<Delivery>,
        mut leaves: mpsc::Receiver<Leave>,
    ) {
        loop {
            tokio::select! {
                // Cancel-safe: a message that was not received stays in its queue.
                event = events.recv() => {
                    let Some((event, answer)) = event else { return };
                    let verdict = self.take(event).await;
                    // Whoever asked may have lost its session meanwhile.
                    let _ = answer.send(verdict);
                }
                Some(done) = leaves.recv() => {
                    self.give_up_everything().await;
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    async fn take(&mut self, event: SessionEvent) -> Verdict {
        match event {
            SessionEvent::Session(message) => {
                if message.renew {
                    self.overlays.renew_keys();
                }
                Verdict::GoOn
            }
            SessionEvent::Assignments(message) => self.assign(message).await,
            SessionEvent::Logs(wish) => {
                self.publish_logs(wish);
                Verdict::GoOn
            }
            SessionEvent::EndLogs(id) => {
                self.logs.end(&id);
                Verdict::GoOn
            }
        }
    }

    /// Writes down what is wanted, then lets the actors act.
    async fn assign(&mut self, message: AssignmentMessage) -> Verdict {
        if message.applies_to.is_none() {
            // A new session: subscriptions of the one before have nobody to talk to.
            self.logs.clear();
        }
        let news = OverlayNews::of(&message);
        let Ok(difference) = self.assigned.apply(message) else { return Verdict::Reopen };
        let tasks: Vec<Arc<Task>> =
            difference.updated.iter().filter_map(|id| self.assigned.task(*id).cloned()).collect();
        if let Err(error) = self.write_down(&tasks).await {
            // What is not written down is not begun; a new session tells it again.
            tracing::error!(error = %ErrorChain(&error), "assignments cannot be written down");
            return Verdict::Reopen;
        }
        // Before tasks are touched: who is about to be stopped must not be found any more, and who is started finds others.
        if !news.is_empty() {
            self.overlays.take(news).await;
        }
        for id in difference.removed {
            self.unseat(id);
        }
        for task in tasks {
            self.seat(task.id, None);
        }
        self.actors.retain(|_, seat| !seat.actor.is_finished());
        Verdict::GoOn
    }

    async fn write_down(&self, tasks: &[Arc<Task>]) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for task in tasks {
            batch = batch.put(task.id.to_string(), &TaskRecord { task: task.as_ref().clone() })?;
        }
        self.around.store.commit(batch).await
    }

    /// Gives a task an actor, or the actor it has a new wish.
    fn seat(&mut self, id: TaskId, known: Option<TaskStateRecord>) {
        let Some(task) = self.assigned.task(id).cloned() else { return };
        let wish = Wish { task, dependencies: self.assigned.dependencies(), fate: Fate::Keep };
        if let Some(seat) = self.actors.get(&id).filter(|seat| !seat.actor.is_finished()) {
            seat.wish.send_replace(wish);
            return;
        }
        let (sender, receiver) = watch::channel(wish);
        let actor = tokio::spawn(Actor::new(self.around.clone(), receiver, known).run());
        self.actors.insert(id, Seat { wish: sender, actor });
    }

    fn unseat(&mut self, id: TaskId) {
        if let Some(seat) = self.actors.get(&id) {
            seat.wish.send_modify(|wish| wish.fate = Fate::Remove);
        }
    }

    fn publish_logs(&mut self, wish: LogSubscription) {
        let Some(reports) = self.way.borrow().clone() else { return };
        let tasks = wish.tasks.iter().filter_map(|id| self.assigned.task(*id).cloned()).collect();
        self.logs.subscribe(&self.host, reports, wish, tasks);
    }

    /// Stops and removes every task, and whatever else of this node's tasks is found.
    async fn give_up_everything(&mut self) {
        self.logs.clear();
        for seat in self.actors.values() {
            seat.wish.send_modify(|wish| wish.fate = Fate::Remove);
        }
        for (id, seat) in self.actors.drain() {
            if let Err(error) = seat.actor.await {
                tracing::error!(task.id = %id, %error, "actor of a task has died");
            }
        }
        self.assigned = Assigned::default();
        self.remove_orphans().await;
        self.overlays.leave().await;
    }

    /// Removes containers and files that belong to no task of this node. They are what a crash between two steps leaves.
    async fn remove_orphans(&self) {
        let required = vec![(LABEL_NODE_ID.to_owned(), Some(self.host.facts.id.to_string()))];
        let labels = LabelFilter { required, excluded: Vec::new() };
        let filter = ContainerFilter { labels, ..ContainerFilter::default() };
        let query = ListQuery { all: true, filter, ..ListQuery::default() };
        let listed = self.host.ports.views.list(query).await.unwrap_or_else(|error| {
            tracing::error!(error = error.message(), "containers of tasks cannot be listed");
            Vec::new()
        });
        for container in listed {
            let task = container.view.spec.labels.get(LABEL_TASK_ID).and_then(|id| id.parse().ok());
            if task.is_some_and(|task| self.assigned.task(task).is_some()) {
                continue;
            }
            tracing::info!(container.id = %container.view.id, "container of a forgotten task is removed");
            if let Err(error) = remove_container(&self.host.ports, container.view.id).await {
                tracing::warn!(container.id = %container.view.id, error = error.message(), "it cannot be removed");
            }
        }
        let root = self.host.files.directory.clone();
        let known: Vec<String> = self.assigned.tasks().map(|task| task.id.to_string()).collect();
        let cleared = tokio::task::spawn_blocking(move || clear_orphaned_files(&root, &known)).await;
        if let Ok(Err(error)) = cleared {
            tracing::warn!(%error, "files of forgotten tasks cannot be removed");
        }
    }
}

/// Takes away the files of tasks that are not known. Blocks.
pub(super) fn clear_orphaned_files(root: &std::path::Path, known: &[String]) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !known.iter().any(|known| entry.file_name().to_str() == Some(known)) {
            super::files::clear(&entry.path())?;
        }
    }
    Ok(())
}

type Restored = (Vec<Task>, BTreeMap<TaskId, TaskStateRecord>);

async fn load(around: &Surroundings) -> Result<Restored, NodeError> {
    let store = around.store.clone();
    let loaded = tokio::task::spawn_blocking(move || {
        let tasks = store.load::<TaskRecord>()?.into_iter().map(|(_, record)| record.task);
        let states = store.load::<TaskStateRecord>()?;
        let states = states.into_iter().filter_map(|(key, state)| Some((key.parse().ok()?, state)));
        Ok::<Restored, StoreError>((tasks.collect(), states.collect()))
    });
    Ok(loaded.await.map_err(|error| NodeError::failed("read the tasks of this node", error))??)
}

//! One task: its actor.
//!
//! Start reading at [`Actor::run`]. Inputs: what is wanted of the task ([`Wish`]) and whether there is a session. Outputs: states, durable
//! before they are reported. Owner: the worker, which ends it by dropping the wish's sender (the daemon ends, the container goes on) or
//! by wishing for its removal. What comes next is decided in `step.rs`, what an end without managers leads to in `alone.rs`;
//! `controller.rs` acts.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shoal_types::TaskId;
use shoal_types::cluster::task::{Task, TaskStatus};
use shoal_types::cluster::task_state::TaskState;
use tokio::sync::watch;

use super::alone::{self, Answer, End};
use super::assignments::Dependencies;
use super::connection::Connection;
use super::controller::{Controller, Sighting, TaskError, stop_limit};
use super::record::{TaskRecord, TaskStateRecord};
use super::reporter::Reporter;
use super::step::{self, Step};
use crate::error::ErrorChain;
use crate::store::{Batch, Store};

/// How long to wait before a step that failed for the moment is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is wanted of a task.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// The task, with the state that is desired.
    pub(super) task: Arc<Task>,
    /// What it refers to.
    pub(super) dependencies: Arc<Dependencies>,
    /// Whether it is to be forgotten.
    pub(super) fate: Fate,
}

/// Whether a task is to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is not.
    Keep,
    /// It is: stopped if it runs, then removed with its container and its records.
    Remove,
}

/// What actors share.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) controller: Controller,
    pub(super) store: Store,
    pub(super) reporter: Reporter,
    pub(super) connection: watch::Receiver<Connection>,
}

/// The owner of one task.
#[derive(Debug)]
pub(super) struct Actor {
    id: TaskId,
    around: Surroundings,
    wish: watch::Receiver<Wish>,
    state: TaskStateRecord,
}

/// What ended a step.
enum Turn {
    Done(Result<Option<Sighting>, TaskError>),
    /// Something else is wanted now.
    Superseded,
    /// The daemon ends.
    Closed,
}

impl Actor {
    /// The owner of a task that has come as far as `known` says, or as managers know if the node does not.
    pub(super) fn new(
        around: Surroundings,
        wish: watch::Receiver<Wish>,
        known: Option<TaskStateRecord>,
    ) -> Self {
        let task = Arc::clone(&wish.borrow().task);
        let state =
            known.unwrap_or_else(|| TaskStateRecord { status: task.status.clone(), restarts: Vec::new() });
        Self { id: task.id, around, wish, state }
    }

    /// Brings the task to what is wanted, until it is forgotten or the daemon ends.
    pub(super) async fn run(mut self) {
        if self.state.status.state >= TaskState::Accepted {
            self.around.reporter.tell(self.id, self.state.status.clone());
        }
        loop {
            let wish = self.wish.borrow_and_update().clone();
            if wish.fate == Fate::Remove {
                return self.remove(&wish.task).await;
            }
            let next = step::next(self.state.status.state, wish.task.desired);
            match self.turn(next, &wish).await {
                Turn::Closed => return,
                Turn::Superseded => {}
                Turn::Done(outcome) => {
                    if self.settle(next, &wish, outcome).await.is_closed() {
                        return;
                    }
                }
            }
        }
    }

    /// Does one step, unless something else is wanted meanwhile. A step that is given up goes on in the engine where it must
    /// not be left half done; the next step finds what it has made.
    async fn turn(&mut self, next: Step, wish: &Wish) -> Turn {
        let before = match next {
            Step::Prepare => Some((TaskState::Preparing, "preparing")),
            Step::Start => Some((TaskState::Starting, "starting")),
            _ => None,
        };
        if let Some((state, message)) = before {
            self.advance(state, message).await;
        }
        let observed = self.state.status.state;
        let controller = self.around.controller.clone();
        let act = async {
            let task = &wish.task;
            match next {
                Step::Accept => Ok(None),
                Step::Prepare => controller.prepare(task, &wish.dependencies).await.map(Some),
                Step::Start => controller.start(task).await.map(Some),
                Step::Wait => controller.wait(task).await.map(Some),
                Step::ShutDown => {
                    match tokio::time::timeout(stop_limit(task), controller.shut_down(task)).await {
                        Ok(outcome) => outcome,
                        Err(_) => {
                            Err(TaskError::Node(crate::NodeError::unavailable("the container does not stop")))
                        }
                    }
                }
                Step::Rest => std::future::pending().await,
            }
        };
        tokio::select! {
            // What is wanted now comes first, so that a task which is to stop is not started.
            biased;
            superseded = superseded(&mut self.wish, next, observed) => superseded,
            outcome = act => Turn::Done(outcome),
        }
    }

    /// Notes what a step has led to.
    async fn settle(
        &mut self,
        step: Step,
        wish: &Wish,
        outcome: Result<Option<Sighting>, TaskError>,
    ) -> Settled {
        let outcome = match outcome {
            Ok(sighting) => {
                if let Some(sighting) = sighting {
                    self.see(sighting);
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        if step == Step::Wait
            && let Some(settled) = self.restart_alone(wish, &outcome).await
        {
            return settled;
        }
        match (step, outcome) {
            (Step::Accept, Ok(())) => self.advance(TaskState::Accepted, "accepted").await,
            (Step::Prepare, Ok(())) => self.advance(TaskState::Ready, "prepared").await,
            (Step::Start, Ok(())) => self.advance(TaskState::Running, "started").await,
            (Step::Wait, Ok(())) => self.advance(TaskState::Complete, "finished").await,
            (Step::ShutDown, Ok(())) => self.advance(TaskState::Shutdown, "shutdown").await,
            (Step::Rest, _) => {}
            // What tasks refer to comes with the first message of a manager; until then it is only not known.
            (Step::Prepare, Err(TaskError::Files(_) | TaskError::Spec(_)))
                if !wish.dependencies.are_known =>
            {
                return self.changed().await;
            }
            (_, Err(error)) if error.is_temporary() || step == Step::ShutDown => {
                tracing::warn!(task.id = %self.id, error = %error, "step of a task failed and is tried again");
                return self.pause(RETRY).await;
            }
            (_, Err(error)) => self.fail(&error).await,
        }
        Settled::GoOn
    }

    /// Without managers, an end leads to another start in place if the service's rule says so. `None` when it is an ordinary
    /// end: there is a session, or the rule has had enough.
    async fn restart_alone(&mut self, wish: &Wish, outcome: &Result<(), TaskError>) -> Option<Settled> {
        let code = match outcome {
            Ok(()) if wish.task.desired == TaskState::Complete => return None,
            Ok(()) => 0,
            Err(error) => error.exit_code()?,
        };
        let now = Timestamp::now();
        let rule = &wish.task.template.restart;
        let end = End { code, restarts: &self.state.restarts, now, alone_for: Duration::ZERO };
        if alone::answer(rule, end) == Answer::Conclude || self.is_taken(outcome).await {
            return None;
        }
        let alone_for = self.around.connection.borrow().alone_for()?;
        let end = End { code, restarts: &self.state.restarts, now, alone_for };
        let Answer::RestartAfter(delay) = alone::answer(rule, end) else {
            return None;
        };
        tracing::info!(task.id = %self.id, code, delay = ?delay, "task has ended while there are no managers");
        let mut connection = self.around.connection.clone();
        tokio::select! {
            // The delay that the service's restart policy asks for.
            () = tokio::time::sleep(delay) => {}
            // Managers are back: they decide what the end leads to.
            _ = connection.wait_for(|connection| connection.alone_for().is_none()) => return None,
            // Its container has ended, so whatever is wanted now starts from there.
            changed = self.wish.changed() => return Some(Settled::of(changed.is_ok())),
        }
        self.state.restarts.push(now);
        self.persist().await;
        let again = self.around.controller.start_again(&wish.task).await;
        match again {
            Ok(sighting) => {
                tracing::info!(task.id = %self.id, "task is started again in place");
                self.see(sighting);
                self.note("started").await;
            }
            // The next round finds it ended, and the rule counts the attempt.
            Err(error) => tracing::warn!(task.id = %self.id, %error, "task cannot be started again in place"),
        }
        Some(Settled::GoOn)
    }

    /// Whether a leader has taken the end of the task, so that it is an ordinary one. A session that seems open may lead nowhere;
    /// until the leader has confirmed, the end is not final, and what was said of it is taken back when the session turns out lost.
    async fn is_taken(&mut self, outcome: &Result<(), TaskError>) -> bool {
        let mut connection = self.around.connection.clone();
        if connection.borrow_and_update().alone_for().is_some() {
            return false;
        }
        let mut ended = self.state.status.clone();
        ended.at = Timestamp::now();
        match outcome {
            Ok(()) => {
                ended.state = TaskState::Complete;
                "finished".clone_into(&mut ended.message);
            }
            Err(error) => describe_failure(&mut ended, error),
        }
        let state = ended.state;
        self.around.reporter.tell(self.id, ended);
        let taken = tokio::select! {
            () = self.around.reporter.until_told(self.id, state) => true,
            // What is wanted now is not to run: there is nothing to start again.
            _ = self.wish.changed() => true,
            lost = connection.wait_for(|connection| connection.alone_for().is_some()) => lost.is_err(),
        };
        if !taken {
            self.around.reporter.tell(self.id, self.state.status.clone());
        }
        taken
    }

    /// Stops, removes and forgets the task; goes on trying, because nobody else will.
    async fn remove(mut self, task: &Task) {
        loop {
            let stopped = async {
                if !self.state.status.state.is_terminal() {
                    self.around.controller.shut_down(task).await?;
                }
                self.around.controller.remove(task).await
            };
            let Err(error) = stopped.await else { break };
            tracing::warn!(task.id = %self.id, %error, "task cannot be removed yet");
            if self.pause(RETRY).await.is_closed() {
                return;
            }
        }
        let key = self.id.to_string();
        let gone = Batch::new().delete::<TaskRecord>(key.clone()).delete::<TaskStateRecord>(key);
        if let Err(error) = self.around.store.commit(gone).await {
            tracing::error!(task.id = %self.id, error = %ErrorChain(&error), "record of a task cannot be removed");
        }
        self.around.reporter.forget(self.id);
    }

    fn see(&mut self, sighting: Sighting) {
        self.state.status.container = Some(sighting.container);
        self.state.status.host_ports = sighting.host_ports;
    }

    async fn fail(&mut self, error: &TaskError) {
        let status = &mut self.state.status;
        describe_failure(status, error);
        tracing::info!(task.id = %self.id, state = %status.state, error = status.error, "task has failed");
        self.state.status.at = Timestamp::now();
        self.persist().await;
        self.around.reporter.tell(self.id, self.state.status.clone());
    }

    /// Comes to a later state; never back.
    async fn advance(&mut self, state: TaskState, message: &str) {
        if state <= self.state.status.state {
            return;
        }
        self.state.status.state = state;
        self.state.status.error.clear();
        self.note(message).await;
    }

    /// Notes and reports what was done. States that a daemon finds again by looking need no place on the disk.
    async fn note(&mut self, message: &str) {
        let status = &mut self.state.status;
        message.clone_into(&mut status.message);
        status.at = Timestamp::now();
        if status.state == TaskState::Accepted || status.state >= TaskState::Running {
            self.persist().await;
        }
        self.around.reporter.tell(self.id, self.state.status.clone());
    }

    /// A state that cannot be made durable is reported all the same: managers must learn of it, and the database says loudly
    /// that it is broken.
    async fn persist(&self) {
        let written = match Batch::new().put(self.id.to_string(), &self.state) {
            Ok(batch) => self.around.store.commit(batch).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::error!(task.id = %self.id, error = %ErrorChain(&error), "state of a task is not kept");
        }
    }

    async fn pause(&mut self, time: Duration) -> Settled {
        tokio::select! {
            // Waiting is what the caller wants.
            () = tokio::time::sleep(time) => Settled::GoOn,
            // Cancel-safe: the next round looks at the wish anyway.
            changed = self.wish.changed() => Settled::of(changed.is_ok()),
        }
    }

    async fn changed(&mut self) -> Settled {
        Settled::of(self.wish.changed().await.is_ok())
    }
}

/// A status with what went wrong.
fn describe_failure(status: &mut TaskStatus, error: &TaskError) {
    if let (Some(code), Some(container)) = (error.exit_code(), &mut status.container) {
        container.exit_code = code;
        container.pid = 0;
    }
    status.error = error.to_string();
    status.state = step::failed(status.state);
}

/// Whether an actor goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    GoOn,
    Closed,
}

impl Settled {
    fn of(is_open: bool) -> Self {
        if is_open { Self::GoOn } else { Self::Closed }
    }

    fn is_closed(self) -> bool {
        self == Self::Closed
    }
}

/// Resolves when the step under way is not what is wanted any more.
async fn superseded(wish: &mut watch::Receiver<Wish>, under_way: Step, observed: TaskState) -> Turn {
    loop {
        {
            let now = wish.borrow_and_update();
            let must_go = now.fate == Fate::Remove && under_way != Step::ShutDown;
            let rests = under_way == Step::Rest && step::next(observed, now.task.desired) != Step::Rest;
            if must_go || rests || step::gives_way(under_way, observed, now.task.desired) {
                return Turn::Superseded;
            }
        }
        if wish.changed().await.is_err() {
            return Turn::Closed;
        }
    }
}

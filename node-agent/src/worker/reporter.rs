//! Reports observed states to whoever leads.
//!
//! Start reading at [`Reporter::run`]. Only the newest state of a task is of interest. Changes that come while a report is under way
//! share the next one, so that a node that starts a hundred tasks sends few messages, and a single change waits for nothing. A new
//! session is told everything, because its leader may know nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_types::TaskId;
use shoal_types::cluster::task::TaskStatus;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::protocol::StatusReport;
use tokio::sync::{Notify, watch};

use super::dispatcher::Reports;
use super::overlays::Way;

/// Most tasks in one report, swarm's limit of a batch.
const MAX_REPORT: usize = 10_000;
/// How long a report may take.
const REPORT_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait after a report that failed although the session lives.
const RETRY: Duration = Duration::from_millis(500);

/// What is known and what of it is not yet told. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Reporter {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    wake: Notify,
    /// Rises whenever a leader has taken a report.
    taken: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    latest: BTreeMap<TaskId, TaskStatus>,
    untold: BTreeSet<TaskId>,
    /// What leaders have taken.
    told: BTreeMap<TaskId, TaskState>,
}

impl Reporter {
    /// Takes a state in, to be told as soon as somebody listens.
    pub(super) fn tell(&self, task: TaskId, status: TaskStatus) {
        let mut known = self.known();
        known.latest.insert(task, status);
        known.untold.insert(task);
        drop(known);
        self.shared.wake.notify_one();
    }

    /// Waits until a leader has taken that the task has come to this state. Without a session that is for ever.
    pub(super) async fn until_told(&self, task: TaskId, state: TaskState) {
        let mut taken = self.shared.taken.subscribe();
        // Fails never: this holds the sender.
        let _ = taken.wait_for(|_| self.known().told.get(&task) == Some(&state)).await;
    }

    /// Forgets a task that managers have forgotten.
    pub(super) fn forget(&self, task: TaskId) {
        let mut known = self.known();
        known.latest.remove(&task);
        known.untold.remove(&task);
        known.told.remove(&task);
    }

    /// Reports until the sender of sessions is gone.
    pub(super) async fn run(self, mut way: watch::Receiver<Way>) {
        loop {
            let Some(reports) = way.borrow_and_update().clone() else {
                if way.changed().await.is_err() {
                    return;
                }
                continue;
            };
            self.doubt_everything();
            tokio::select! {
                // Dropping it loses nothing: what was not confirmed is told to the next session.
                () = self.serve(reports.as_ref()) => {}
                changed = way.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }

    async fn serve(&self, reports: &dyn Reports) {
        loop {
            let batch = self.take();
            if batch.is_empty() {
                self.shared.wake.notified().await;
                continue;
            }
            let report = StatusReport { tasks: batch };
            let states: Vec<(TaskId, TaskState)> =
                report.tasks.iter().map(|(task, status)| (*task, status.state)).collect();
            let tasks: Vec<TaskId> = states.iter().map(|(task, _)| *task).collect();
            let failure = match tokio::time::timeout(REPORT_LIMIT, reports.report(report)).await {
                Ok(Ok(())) => {
                    self.note_taken(states);
                    continue;
                }
                Ok(Err(error)) => error.message,
                Err(_) => "no answer in time".to_owned(),
            };
            tracing::debug!(error = failure, tasks = tasks.len(), "states of tasks are not reported yet");
            self.give_back(tasks);
            // Managers that do not answer do not say when they will.
            tokio::time::sleep(RETRY).await;
        }
    }

    fn take(&self) -> Vec<(TaskId, TaskStatus)> {
        let mut known = self.known();
        let tasks: Vec<TaskId> = known.untold.iter().copied().take(MAX_REPORT).collect();
        for task in &tasks {
            known.untold.remove(task);
        }
        tasks.into_iter().filter_map(|task| Some((task, known.latest.get(&task)?.clone()))).collect()
    }

    fn note_taken(&self, states: Vec<(TaskId, TaskState)>) {
        let mut known = self.known();
        for (task, state) in states {
            // One that was forgotten meanwhile stays so.
            if known.latest.contains_key(&task) {
                known.told.insert(task, state);
            }
        }
        drop(known);
        self.shared.taken.send_modify(|count| *count += 1);
    }

    fn give_back(&self, tasks: Vec<TaskId>) {
        let mut known = self.known();
        for task in tasks {
            if known.latest.contains_key(&task) {
                known.untold.insert(task);
            }
        }
    }

    fn doubt_everything(&self) {
        let mut known = self.known();
        known.untold = known.latest.keys().copied().collect();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use shoal_types::ErrorKind;
    use shoal_types::cluster::overlay::OverlayNetwork;
    use shoal_types::protocol::{AttachReply, AttachRequest, DetachRequest, LogReport};
    use tokio::sync::mpsc;

    use super::*;
    use crate::worker::dispatcher::DispatchError;
    use crate::worker::testing::a_task;

    /// Hands reports on; refuses so many first.
    struct Ear {
        heard: mpsc::UnboundedSender<StatusReport>,
        refusals: Mutex<u32>,
    }

    #[async_trait]
    impl Reports for Ear {
        async fn heartbeat(&self) -> Result<Duration, DispatchError> {
            Ok(Duration::from_secs(5))
        }

        async fn report(&self, report: StatusReport) -> Result<(), DispatchError> {
            let mut refusals = self.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(DispatchError::new(ErrorKind::Unavailable, "not now"));
            }
            self.heard.send(report).unwrap();
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

    fn ear(refusals: u32) -> (Way, mpsc::UnboundedReceiver<StatusReport>) {
        let (heard, hearing) = mpsc::unbounded_channel();
        (Some(Arc::new(Ear { heard, refusals: Mutex::new(refusals) })), hearing)
    }

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus { state, ..a_task("web", 1).status }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_report_is_told_again_with_what_is_newest_then() {
        let reporter = Reporter::default();
        let task = TaskId::random();
        reporter.tell(task, status(TaskState::Accepted));
        let (way, mut hearing) = ear(1);
        let (_sender, receiver) = watch::channel(way);
        let running = tokio::spawn(reporter.clone().run(receiver));
        // The clock stands still in this test; this moves it.
        tokio::time::sleep(RETRY / 2).await;
        reporter.tell(task, status(TaskState::Running));
        let heard = hearing.recv().await.unwrap();
        assert_eq!(heard.tasks, [(task, status(TaskState::Running))]);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_session_is_told_everything_but_what_is_forgotten() {
        let reporter = Reporter::default();
        let (one, two) = (TaskId::random(), TaskId::random());
        let (way, mut hearing) = ear(0);
        let (sender, receiver) = watch::channel(None);
        let running = tokio::spawn(reporter.clone().run(receiver));
        reporter.tell(one, status(TaskState::Running));
        reporter.tell(two, status(TaskState::Failed));
        sender.send_replace(way);
        assert_eq!(hearing.recv().await.unwrap().tasks.len(), 2);
        reporter.forget(two);
        sender.send_replace(None);
        let (way, mut hearing) = ear(0);
        sender.send_replace(way);
        assert_eq!(hearing.recv().await.unwrap().tasks, [(one, status(TaskState::Running))]);
        drop(sender);
        running.await.unwrap();
    }
}

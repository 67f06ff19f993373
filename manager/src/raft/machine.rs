//! Raft's state machine: the store, in memory as a [`Snapshot`] and on disk object by object.
//!
//! Start reading at [`Machine::apply`]. What is applied is seen at once; the disk follows in order, and after a crash the log is
//! applied again from where the disk was. A RaftSnapshot is a view of memory: taking one costs nothing, and because the disk
//! holds every object anyway, none is ever stored.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::{RaftStateMachine, Snapshot as RaftSnapshot};
use openraft::{EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use super::disk::{Disk, DiskError, Flush, Step, encode};
use super::log::failure;
use super::types::{Entry, LogId, Membership, Outcome, SnapshotMeta, StateView, StorageError, TypeConfig};
use crate::store::{Change, Snapshot};

const APPLIED: &str = "applied";

/// Where the store stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// The objects.
    pub(crate) view: Arc<Snapshot>,
    /// The last entry that was applied.
    pub(crate) applied: Option<LogId>,
    /// The members as of that entry.
    pub(crate) membership: Membership,
}

/// The newest state, for everybody who reads. Changed by the [`Machine`] only.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    state: Arc<Mutex<State>>,
    index: watch::Sender<u64>,
}

impl Shown {
    /// The newest view.
    pub(crate) fn view(&self) -> Arc<Snapshot> {
        Arc::clone(&self.lock().view)
    }

    /// The newest state.
    pub(crate) fn state(&self) -> State {
        self.lock().clone()
    }

    /// Rises with each entry.
    pub(crate) fn index(&self) -> watch::Receiver<u64> {
        self.index.subscribe()
    }

    fn show(&self, state: State) {
        let index = state.view.index();
        *self.lock() = state;
        self.index.send_replace(index);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state machine of one member.
#[derive(Debug)]
pub(crate) struct Machine {
    disk: Disk,
    shown: Shown,
    /// The RaftSnapshot that was taken last.
    taken: Arc<Mutex<Option<(SnapshotMeta, StateView)>>>,
}

impl Machine {
    /// The state machine in `disk`. Blocks.
    pub(crate) fn open(disk: Disk) -> Result<Self, DiskError> {
        let (applied, membership): (Option<LogId>, Membership) = disk.about(APPLIED)?.unwrap_or_default();
        let index = applied.map_or(0, |log_id| log_id.index);
        let view = Arc::new(disk.objects(index)?);
        let state = State { view, applied, membership };
        let shown = Shown { state: Arc::new(Mutex::new(state)), index: watch::Sender::new(index) };
        Ok(Self { disk, shown, taken: Arc::default() })
    }

    /// The newest state.
    pub(crate) fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// Steps that leave these members as of what is applied.
    pub(crate) fn membership_steps(
        applied: Option<LogId>,
        membership: &Membership,
    ) -> Result<Vec<Step>, DiskError> {
        Ok(vec![Step::About(APPLIED, encode(&(applied, membership))?)])
    }

    /// Applies entries, shows the result and submits it to the disk.
    pub(crate) fn apply_entries(
        &self,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Vec<Outcome>, DiskError> {
        let mut state = self.shown.state();
        let mut view = Snapshot::clone(&state.view);
        let (mut outcomes, mut touched) = (Vec::new(), BTreeSet::new());
        for entry in entries {
            let index = entry.log_id.index;
            let mut outcome = Outcome::default();
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(proposal) => match view.apply(index, proposal.changes()) {
                    Ok(()) => touched.extend(proposal.changes().iter().map(Change::key)),
                    Err(conflict) => outcome.conflict = Some(conflict),
                },
                EntryPayload::Membership(membership) => {
                    state.membership = Membership::new(Some(entry.log_id), membership);
                }
            }
            if view.index() < index {
                // An empty list moves the index on and cannot conflict.
                let _ = view.apply(index, &[]);
            }
            state.applied = Some(entry.log_id);
            outcomes.push(outcome);
        }
        let objects = touched.into_iter().map(|key| (key.to_string(), view.get(&key))).collect();
        let mut steps = Self::membership_steps(state.applied, &state.membership)?;
        steps.push(Step::Objects(objects));
        state.view = Arc::new(view);
        self.shown.show(state);
        // A failure ends the writer, and with it the next append; the log still has what was not written here.
        self.disk.submit(steps, Flush::Later, |_| {})?;
        Ok(outcomes)
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        let state = self.shown.state();
        Ok((state.applied, state.membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.apply_entries(entries)
            .map_err(|source| failure(ErrorSubject::StateMachine, ErrorVerb::Write, &source))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { shown: self.shown.clone(), taken: Arc::clone(&self.taken) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<StateView>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<StateView>,
    ) -> Result<(), StorageError> {
        let failed = |source: DiskError| failure(ErrorSubject::Snapshot(None), ErrorVerb::Write, &source);
        let mut steps = Self::membership_steps(meta.last_log_id, &meta.last_membership).map_err(failed)?;
        steps.push(Step::ReplaceObjects(Arc::clone(&snapshot.0)));
        self.disk.write(steps, Flush::Now).await.map_err(failed)?;
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((meta.clone(), (*snapshot).clone()));
        self.shown.show(State {
            view: snapshot.0,
            applied: meta.last_log_id,
            membership: meta.last_membership.clone(),
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<RaftSnapshot<TypeConfig>>, StorageError> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(taken.map(|(meta, view)| RaftSnapshot { meta, snapshot: Box::new(view) }))
    }
}

/// Takes RaftSnapshots.
#[derive(Debug)]
pub(crate) struct Builder {
    shown: Shown,
    taken: Arc<Mutex<Option<(SnapshotMeta, StateView)>>>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<RaftSnapshot<TypeConfig>, StorageError> {
        let State { view, applied, membership } = self.shown.state();
        let snapshot_id = applied.map_or_else(|| "empty".to_owned(), |log_id| log_id.to_string());
        let meta = SnapshotMeta { last_log_id: applied, last_membership: membership, snapshot_id };
        let view = StateView(view);
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some((meta.clone(), view.clone()));
        Ok(RaftSnapshot { meta, snapshot: Box::new(view) })
    }
}

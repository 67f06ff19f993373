//! Members that begin alone with what is there: a manager that has lost all others, and one that is made from a backup.
//!
//! Start reading at [`Group::make_alone`] and [`Group::restore`]. Both write a database that nobody has open.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};

use super::disk::{Flush, Step};
use super::log::LogStore;
use super::machine::Machine;
use super::types::{LogId, Member, MemberId, Membership, StorageError, Vote};
use super::{Group, StoreKeys, open_stores};
use crate::error::ClusterError;
use crate::store::Snapshot;

/// The term in which everything happened that a backup holds.
const TERM_OF_BACKUP: u64 = 1;

impl Group {
    /// Forgets every other member in the database in `directory`: what is in its log is applied, and it is the only member then.
    /// Repeatable.
    pub(crate) async fn make_alone(
        directory: PathBuf,
        keys: StoreKeys,
        me: Member,
    ) -> Result<(), ClusterError> {
        let (disk, mut log, machine, id) = open_stores(directory, keys).await?;
        let storage = |source: StorageError| ClusterError::local("the manager's database", source);
        let applied = machine.shown().state().applied;
        let first = applied.or_else(|| log.purged()).map_or(0, |log_id| log_id.index.saturating_add(1));
        let rest = log.try_get_log_entries(first..).await.map_err(storage)?;
        let vote = log.read_vote().await.map_err(storage)?.unwrap_or_default();
        machine.apply_entries(rest)?;
        let state = machine.shown().state();
        let membership = only_member(state.applied, id, me);
        let vote = Vote::new(vote.leader_id.term, id);
        let mut steps = Machine::membership_steps(state.applied, &membership)?;
        steps.extend(LogStore::reset_steps(state.applied, vote)?);
        disk.write(steps, Flush::Now).await?;
        disk.close().await?;
        Ok(())
    }

    /// Makes the database in `directory`, which holds none, of a view of the store.
    pub(crate) async fn restore(
        directory: PathBuf,
        keys: StoreKeys,
        me: Member,
        view: Arc<Snapshot>,
    ) -> Result<(), ClusterError> {
        let (disk, _, _, id) = open_stores(directory, keys).await?;
        let leader = openraft::CommittedLeaderId::new(TERM_OF_BACKUP, id);
        let applied = Some(LogId::new(leader, view.index()));
        let mut steps = Machine::membership_steps(applied, &only_member(applied, id, me))?;
        steps.extend(LogStore::reset_steps(applied, Vote::new(TERM_OF_BACKUP, id))?);
        steps.push(Step::ReplaceObjects(view));
        disk.write(steps, Flush::Now).await?;
        disk.close().await?;
        Ok(())
    }
}

fn only_member(at: Option<LogId>, id: MemberId, me: Member) -> Membership {
    Membership::new(at, openraft::Membership::new(vec![[id].into()], BTreeMap::from([(id, me)])))
}

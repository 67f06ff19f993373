//! Raft's log and vote on disk.
//!
//! Start reading at [`LogStore`]. Entries that were appended last are also in memory: raft may read them before they are on the
//! disk, and followers are sent them without reading them back. Blocking reads of older ones happen off the runtime's threads.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::{LogFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, OptionalSend, RaftLogId as _};

use super::disk::{Disk, DiskError, Flush, Step, encode};
use super::lengths::Lengths;
use super::types::{Entry, LogId, MemberId, StorageError, TypeConfig, Vote};

const VOTE: &str = "vote";
const PURGED: &str = "purged";
/// How many bytes of flushed entries stay in memory, by the length of their text. They are there taken apart as well.
const TAIL_BYTES: usize = 2 << 20;
/// About how many bytes of entries travel in one message; one larger entry travels alone.
const MESSAGE_BYTES: usize = 2 << 20;

/// The log of one member.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    disk: Disk,
    me: MemberId,
    tail: Arc<Mutex<Tail>>,
}

/// The newest entries, without gaps up to the last.
#[derive(Debug, Default)]
struct Tail {
    entries: BTreeMap<u64, (Entry, usize)>,
    bytes: usize,
    /// Entries from this index on are not yet on the disk.
    unflushed: u64,
    /// The last entry that was removed from the log's beginning.
    purged: Option<LogId>,
    /// Of all entries, whether or not they are in memory.
    lengths: Lengths,
}

impl Tail {
    fn push(&mut self, index: u64, entry: Entry, size: usize) {
        self.lengths.push(index, size);
        if let Some((_, replaced)) = self.entries.insert(index, (entry, size)) {
            self.bytes -= replaced;
        }
        self.bytes += size;
    }

    /// Lets go of the oldest entries that are on the disk while there are too many.
    fn shrink(&mut self) {
        while self.bytes > TAIL_BYTES
            && let Some((&index, &(_, size))) = self.entries.first_key_value()
            && index < self.unflushed
        {
            self.entries.remove(&index);
            self.bytes -= size;
        }
    }

    fn truncate(&mut self, from: u64) {
        let removed = self.entries.split_off(&from);
        self.bytes -= removed.values().map(|(_, size)| size).sum::<usize>();
        self.lengths.truncate(from);
    }

    fn purge(&mut self, up_to: u64) {
        let kept = self.entries.split_off(&up_to.saturating_add(1));
        self.bytes = kept.values().map(|(_, size)| size).sum();
        self.entries = kept;
        self.lengths.purge(up_to);
    }

    /// The entries of a range, if all that exist are here.
    fn range(&self, start: u64, end: u64, max_bytes: usize) -> Option<Vec<Entry>> {
        let (&first, _) = self.entries.first_key_value()?;
        if start < first {
            return None;
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        for (_, (entry, size)) in self.entries.range(start..end.max(start)) {
            taken.push(entry.clone());
            bytes += size;
            if bytes >= max_bytes {
                break;
            }
        }
        Some(taken)
    }
}

impl LogStore {
    /// The log of member `me` in `disk`. Blocks.
    pub(crate) fn open(disk: Disk, me: MemberId) -> Result<Self, DiskError> {
        // `None` is stored as such when a log was begun anew before its first entry.
        let purged = disk.about::<Option<LogId>>(PURGED)?.flatten();
        let mut lengths = Lengths::default();
        for (index, bytes) in disk.entry_lengths()? {
            lengths.push(index, bytes);
        }
        Ok(Self { disk, me, tail: Arc::new(Mutex::new(Tail { purged, lengths, ..Tail::default() })) })
    }

    /// How long the log is, entry by entry; `read` must be brief.
    pub(super) fn lengths<T>(&self, read: impl FnOnce(&Lengths) -> T) -> T {
        read(&self.tail().lengths)
    }

    /// The id of the last entry that was removed from the log's beginning.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.tail().purged
    }

    /// The id of the newest entry.
    pub(crate) async fn last(&self) -> Result<Option<LogId>, DiskError> {
        let (newest, purged) = {
            let tail = self.tail();
            (tail.entries.last_key_value().map(|(_, (entry, _))| *entry.get_log_id()), tail.purged)
        };
        if newest.is_some() {
            return Ok(newest);
        }
        let disk = self.disk.clone();
        let last = tokio::task::spawn_blocking(move || disk.last_entry::<Entry>());
        let last = last.await.map_err(DiskError::new)??;
        Ok(last.map(|entry| *entry.get_log_id()).or(purged))
    }

    /// Steps that leave a log that begins after `log_id` and is empty, and a vote.
    pub(crate) fn reset_steps(log_id: Option<LogId>, vote: Vote) -> Result<Vec<Step>, DiskError> {
        Ok(vec![Step::Truncate(0), Step::About(PURGED, encode(&log_id)?), Step::About(VOTE, encode(&vote)?)])
    }

    fn tail(&self) -> std::sync::MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, start: u64, end: u64, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        if let Some(entries) = self.tail().range(start, end, max_bytes) {
            return Ok(entries);
        }
        let disk = self.disk.clone();
        tokio::task::spawn_blocking(move || disk.entries(start, end, max_bytes))
            .await
            .map_err(|source| failure(ErrorSubject::Logs, ErrorVerb::Read, &source))?
            .map_err(|source| failure(ErrorSubject::Logs, ErrorVerb::Read, &source))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, MESSAGE_BYTES).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let last_log_id =
            self.last().await.map_err(|source| failure(ErrorSubject::Logs, ErrorVerb::Read, &source))?;
        Ok(LogState { last_purged_log_id: self.purged(), last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let failed = |source: DiskError| failure(ErrorSubject::Vote, ErrorVerb::Write, &source);
        let steps = vec![Step::About(VOTE, encode(vote).map_err(failed)?)];
        self.disk.write(steps, Flush::Now).await.map_err(failed)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote: Option<Vote> =
            self.disk.about(VOTE).map_err(|source| failure(ErrorSubject::Vote, ErrorVerb::Read, &source))?;
        Ok(vote.map(|vote| without_leading(vote, self.me)))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let failed = |source: DiskError| failure(ErrorSubject::Logs, ErrorVerb::Write, &source);
        let mut records = Vec::new();
        {
            let mut tail = self.tail();
            for entry in entries {
                let (index, plain) = (entry.get_log_id().index, encode(&entry).map_err(failed)?);
                tail.push(index, entry, plain.len());
                records.push((index, plain));
            }
        }
        let flushed = records.last().map_or(0, |(index, _)| index.saturating_add(1));
        let tail = Arc::clone(&self.tail);
        let done = move |result: Result<(), DiskError>| {
            if result.is_ok() {
                let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                tail.unflushed = flushed;
                tail.shrink();
            }
            callback.log_io_completed(result.map_err(std::io::Error::other));
        };
        self.disk.submit(vec![Step::Append(records)], Flush::Now, done).map_err(failed)
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.tail().truncate(log_id.index);
        self.disk
            .write(vec![Step::Truncate(log_id.index)], Flush::Now)
            .await
            .map_err(|source| failure(ErrorSubject::Logs, ErrorVerb::Delete, &source))
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let failed = |source: DiskError| failure(ErrorSubject::Logs, ErrorVerb::Delete, &source);
        let steps =
            vec![Step::About(PURGED, encode(&Some(log_id)).map_err(failed)?), Step::Purge(log_id.index)];
        self.disk.write(steps, Flush::Now).await.map_err(failed)?;
        let mut tail = self.tail();
        tail.purged = Some(log_id);
        tail.purge(log_id.index);
        Ok(())
    }
}

/// A member's vote as it begins with it. One that led would lead on in its old term, and if that had ended because it cannot write, it
/// would do so each time that it begins, hold the others' loyalty and acknowledge nothing. As a candidate of that term, which it was
/// once, it has forgotten nothing that it promised, and leads only when it is elected anew.
fn without_leading(vote: Vote, me: MemberId) -> Vote {
    if vote.leader_id.voted_for() == Some(me) { Vote::new(vote.leader_id.term, me) } else { vote }
}

/// A failure in openraft's terms; the member stops after it.
pub(super) fn failure(
    subject: ErrorSubject<MemberId>,
    verb: ErrorVerb,
    source: &(impl std::error::Error + 'static),
) -> StorageError {
    StorageError::from_io_error(subject, verb, std::io::Error::other(source.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_begins_as_a_candidate_of_the_term_in_which_it_led() {
        for (vote, expected) in [
            (Vote::new_committed(3, 7), Vote::new(3, 7)),
            (Vote::new(3, 7), Vote::new(3, 7)),
            (Vote::new_committed(3, 8), Vote::new_committed(3, 8)),
            (Vote::default(), Vote::default()),
        ] {
            assert_eq!(without_leading(vote, 7), expected, "{vote}");
        }
    }
}

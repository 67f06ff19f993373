//! How long the log may become, by the cluster's settings as they are now.
//!
//! Start reading at [`due`], which is pure, and [`run`]. openraft takes its own settings at its start only, so its policy is off and it is told when to
//! take a RaftSnapshot and what to forget. A RaftSnapshot is a view of memory and costs nothing (`machine.rs`); what a short
//! interval costs is that members that lag are sent everything. The settings count entries, as swarm's do; because an entry may be a megabyte,
//! the log is bounded by bytes as well.

use std::sync::Arc;

use shoal_types::cluster::settings::RaftSettings;

use super::Group;
use super::lengths::Lengths;
use crate::store::Store as _;

/// Entries that are forgotten together at least.
const BATCH: u64 = 64;
/// Or so many bytes.
const BATCH_BYTES: u64 = 1 << 20;
/// Bytes of entries after which a member keeps no more than the store and the last few entries, however few these are.
const MOST_BYTES: u64 = 32 << 20;
/// Bytes of entries that are kept at most for members that lag.
const KEPT_BYTES: u64 = 8 << 20;

/// What shall be done about the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// A RaftSnapshot.
    RaftSnapshot,
    /// Entries up to this index are forgotten.
    Purge(u64),
}

/// How far the log has come: indexes of the last entry that was applied, is in a RaftSnapshot, and was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    applied: u64,
    in_snapshot: Option<u64>,
    purged: u64,
}

fn due(progress: Progress, settings: &RaftSettings, lengths: &Lengths) -> Option<Due> {
    let covered = progress.in_snapshot.unwrap_or(progress.purged);
    let n_new = progress.applied.saturating_sub(covered);
    if n_new >= settings.snapshot_interval.max(1) || (n_new > 0 && lengths.after(covered) >= MOST_BYTES) {
        return Some(Due::RaftSnapshot);
    }
    let in_snapshot = progress.in_snapshot?;
    let by_entries = in_snapshot.saturating_sub(settings.entries_for_slow_followers);
    let may_go = by_entries.max(lengths.leaving(KEPT_BYTES).min(in_snapshot));
    let freed = lengths.after(progress.purged).saturating_sub(lengths.after(may_go));
    let is_worth_it =
        may_go >= progress.purged.saturating_add(BATCH) || (may_go > progress.purged && freed >= BATCH_BYTES);
    is_worth_it.then_some(Due::Purge(may_go))
}

/// Keeps the log as long as it shall be, until the group is stopped.
pub(super) async fn run(group: Arc<Group>) {
    let mut changed = group.changed();
    // What was asked for last, which raft may not have done yet.
    let mut asked = None;
    loop {
        changed.mark_unchanged();
        let metrics = group.metrics();
        let index = |id: Option<super::types::LogId>| id.map(|id| id.index);
        let progress = Progress {
            applied: index(metrics.last_applied).unwrap_or(0),
            in_snapshot: index(metrics.snapshot),
            purged: index(metrics.purged).unwrap_or(0),
        };
        let settings = group.snapshot().cluster().map(|cluster| cluster.spec.raft).unwrap_or_default();
        let due = group.log.lengths(|lengths| due(progress, &settings, lengths));
        let due = due.filter(|due| asked != Some((*due, progress)));
        let told = match due {
            Some(Due::RaftSnapshot) => group.raft.trigger().snapshot().await,
            Some(Due::Purge(up_to)) => group.raft.trigger().purge_log(up_to).await,
            None => Ok(()),
        };
        if told.is_err() {
            // Raft has ended.
            return;
        }
        asked = due.map(|due| (due, progress)).or(asked);
        // Both may be dropped: everything is read anew.
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = group.stop.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_shortened_by_the_settings() {
        let settings = RaftSettings {
            snapshot_interval: 1000,
            entries_for_slow_followers: 100,
            ..RaftSettings::default()
        };
        let at = |applied, in_snapshot, purged| Progress { applied, in_snapshot, purged };
        for (progress, expected) in [
            (at(999, None, 0), None),
            (at(1000, None, 0), Some(Due::RaftSnapshot)),
            (at(1000, Some(1000), 0), Some(Due::Purge(900))),
            (at(1999, Some(1000), 900), None),
            (at(2000, Some(1000), 900), Some(Due::RaftSnapshot)),
            (at(2000, Some(2000), 900), Some(Due::Purge(1900))),
            // After a start nothing is in a RaftSnapshot, but what was forgotten once was.
            (at(1950, None, 1900), None),
            (at(2900, None, 1900), Some(Due::RaftSnapshot)),
            // A little is not worth a write.
            (at(1000, Some(1000), 890), None),
        ] {
            assert_eq!(due(progress, &settings, &Lengths::default()), expected, "{progress:?}");
        }
        let nonsense = RaftSettings { snapshot_interval: 0, ..settings };
        assert_eq!(
            due(at(1, Some(1), 0), &nonsense, &Lengths::default()),
            None,
            "nothing new, nothing to do"
        );
    }

    #[test]
    fn a_log_of_few_large_entries_is_shortened_too() {
        let settings = RaftSettings::default();
        let mut lengths = Lengths::default();
        let at = |applied, in_snapshot, purged| Progress { applied, in_snapshot, purged };
        (1..=31).for_each(|index| lengths.push(index, 1 << 20));
        assert_eq!(due(at(31, None, 0), &settings, &lengths), None);
        lengths.push(32, 1 << 20);
        assert_eq!(due(at(32, None, 0), &settings, &lengths), Some(Due::RaftSnapshot));
        assert_eq!(due(at(0, None, 0), &settings, &lengths), None, "nothing is applied yet");
        assert_eq!(due(at(32, Some(32), 0), &settings, &lengths), Some(Due::Purge(24)));
        assert_eq!(
            due(at(32, Some(20), 0), &settings, &lengths),
            Some(Due::Purge(20)),
            "no more than is covered"
        );
        lengths.purge(24);
        assert_eq!(due(at(32, Some(32), 24), &settings, &lengths), None);
    }
}

//! How long the log may become, by the cluster's settings as they are now.
//!
//! Start reading at [`due`], which is pure, and [`run`]. openraft takes its own settings at its start only, so its policy is off and it is told when to
//! take a RaftSnapshot and what to forget. A RaftSnapshot is a view of memory and costs nothing (`machine.rs`); what a short
//! interval costs is that members that lag are sent everything.

use std::sync::Arc;

use shoal_types::cluster::settings::RaftSettings;

use super::Group;
use crate::store::Store as _;

/// Entries that are forgotten together at least.
const BATCH: u64 = 64;

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

fn due(progress: Progress, settings: &RaftSettings) -> Option<Due> {
    let covered = progress.in_snapshot.unwrap_or(progress.purged);
    if progress.applied.saturating_sub(covered) >= settings.snapshot_interval.max(1) {
        return Some(Due::RaftSnapshot);
    }
    let may_go = progress.in_snapshot?.saturating_sub(settings.entries_for_slow_followers);
    (may_go >= progress.purged.saturating_add(BATCH)).then_some(Due::Purge(may_go))
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
        let due = due(progress, &settings).filter(|due| asked != Some((*due, progress)));
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
            assert_eq!(due(progress, &settings), expected, "{progress:?}");
        }
        let nonsense = RaftSettings { snapshot_interval: 0, ..settings };
        assert_eq!(due(at(1, Some(1), 0), &nonsense), None, "nothing new, nothing to do");
    }
}

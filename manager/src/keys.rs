//! A manager's own keys follow the cluster: locked while the cluster is autolocked, and only then.
//!
//! Start reading at [`follow`].

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::ca::Lock;
use crate::desk::Desk;
use crate::store::Store as _;

/// Locks, unlocks or locks anew the keys on this manager's disk whenever the store says so, until `stop`.
pub(crate) async fn follow(desk: Arc<Desk>, stop: CancellationToken) {
    let mut changed = desk.group.changed();
    loop {
        changed.mark_unchanged();
        let snapshot = desk.group.snapshot();
        if let Some(authority) = snapshot.authority() {
            let lock = match authority.unlock_key.as_deref().map(str::parse) {
                None => Some(Lock::Open),
                Some(Ok(key)) => Some(Lock::With(key)),
                Some(Err(error)) => {
                    tracing::error!(%error, "the cluster's unlock key cannot be read, this manager's lock stays");
                    None
                }
            };
            if let Some(lock) = lock
                && let Err(error) = desk.credentials.set_lock(lock).await
            {
                tracing::error!(%error, "this manager's keys could not be locked or unlocked");
            }
        }
        // Both may be dropped: the store is read anew.
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

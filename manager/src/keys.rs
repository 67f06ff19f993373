//! A manager's own keys follow the cluster: locked while the cluster is autolocked, and only then; and certified, always.
//!
//! Start reading at [`follow`] and [`renew_when_expired`].

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::ca::authority::generate_request;
use crate::ca::registrar::RenewRequest;
use crate::ca::{Issued, Lock};
use crate::clock::{LOOK_EVERY, until};
use crate::desk::Desk;
use crate::error::ClusterError;
use crate::store::Store as _;

/// How often an expired certificate is tried to be renewed; a manager that was away first learns what the others have decided.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Certificates end with a second, and clocks show fractions.
const SHORTEST: Duration = Duration::from_millis(100);

/// Renews this manager's certificate whenever it has expired, until `stop`. Nobody need be asked: managers have the authority's key
/// in their store, and with all of them expired nobody could be. Before that, renewal is the worker's as on every node.
pub(crate) async fn renew_when_expired(desk: Arc<Desk>, stop: CancellationToken) {
    loop {
        if desk.credentials.is_expired()
            && let Err(error) = renew_own(&desk).await
        {
            tracing::warn!(%error, "this manager's expired certificate could not be renewed yet");
        }
        let wait = match desk.credentials.is_expired() {
            true => RENEW_EVERY,
            false => until(Timestamp::now(), desk.credentials.not_after()).min(LOOK_EVERY),
        };
        // Both may be dropped.
        tokio::select! {
            // When a certificate ends is a time.
            () = tokio::time::sleep(wait.max(SHORTEST)) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn renew_own(desk: &Desk) -> Result<(), ClusterError> {
    let (key, request) = generate_request()?;
    let certified = desk.registrar.renew(desk.credentials.node_id(), &RenewRequest { request }).await?;
    let issued = Issued { certificate: certified.certificate, key, trust_root: certified.trust_root };
    desk.credentials.replace(issued).await?;
    tracing::info!(node.id = %desk.credentials.node_id(), "this manager's expired certificate is renewed");
    Ok(())
}

/// Locks or unlocks. With a new lock comes a new key for the store: who has an old copy of the locked key and the lock before
/// shall read nothing that is written from now on.
async fn apply(desk: &Desk, lock: Lock) -> Result<(), ClusterError> {
    let is_locked = lock != Lock::Open;
    let mut keys = desk.credentials.store_keys().await?;
    let is_new_lock = desk.credentials.set_lock(lock).await? && is_locked;
    if is_new_lock && keys.former.is_none() {
        keys = desk.credentials.draw_store_key().await?;
    }
    // Also when the daemon before has ended in between.
    if keys.former.is_some() {
        desk.group.change_key(keys.current).await?;
        desk.credentials.forget_former_store_key().await?;
        tracing::info!("this manager's store is sealed with another key");
    }
    Ok(())
}

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
                && let Err(error) = apply(&desk, lock).await
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

//! The cluster's own settings: shown and changed on the leader.
//!
//! Start reading at [`changed`], which is pure. Tokens and the unlock key are made anew here; that managers then lock their
//! keys is theirs to see in the store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use shoal_types::ErrorKind;
use shoal_types::cluster::settings::{Cluster, ClusterSpec, JoinTokens};

use crate::api::membership::Rotation;
use crate::backup;
use crate::ca::certificate::AuthorityCertificate;
use crate::ca::external::ExternalSigner;
use crate::ca::founding::new_token;
use crate::ca::succession::{Prepared, wanted};
use crate::ca::tokens::UnlockKey;
use crate::clock::Clock;
use crate::error::ClusterError;
use crate::forward::Settings;
use crate::store::{Change, Snapshot, Store};

/// Shortest life of certificates.
const MIN_CERTIFICATE_LIFE: Duration = Duration::from_secs(3600);

/// Shows and changes settings on the leader.
pub(crate) struct LeaderSettings {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) external: ExternalSigner,
}

#[async_trait]
impl Settings for LeaderSettings {
    async fn inspect(&self) -> Result<(Cluster, JoinTokens), ClusterError> {
        let snapshot = self.store.snapshot();
        let (cluster, authority) =
            snapshot.cluster().zip(snapshot.authority()).ok_or(ClusterError::NoLeader)?;
        Ok((Cluster::clone(cluster), authority.tokens.clone()))
    }

    async fn update(&self, version: u64, spec: ClusterSpec, rotation: Rotation) -> Result<(), ClusterError> {
        let (snapshot, now) = (self.store.snapshot(), self.clock.now());
        check(&spec)?;
        let (cluster, authority) =
            snapshot.cluster().zip(snapshot.authority()).ok_or(ClusterError::NoLeader)?;
        let succession = wanted(authority, &cluster.spec, &spec, rotation.signing.as_ref(), now)?;
        let prepared = succession.prepare(authority, &spec, &self.external).await?;
        let changes = changed(&snapshot, version, spec, &rotation, prepared, now)?;
        self.store.commit(changes).await?;
        Ok(())
    }

    async fn unlock_key(&self) -> Result<String, ClusterError> {
        let snapshot = self.store.snapshot();
        let authority = snapshot.authority().ok_or(ClusterError::NoLeader)?;
        Ok(authority.unlock_key.clone().unwrap_or_default())
    }

    async fn backup(&self) -> Result<String, ClusterError> {
        backup::write(&self.store.snapshot(), self.clock.now())
    }
}

/// What a change of settings changes. Pure but for the secrets that it draws.
fn changed(
    snapshot: &Snapshot,
    version: u64,
    spec: ClusterSpec,
    rotation: &Rotation,
    succession: Prepared,
    now: Timestamp,
) -> Result<Vec<Change>, ClusterError> {
    let (cluster, authority) = snapshot.cluster().zip(snapshot.authority()).ok_or(ClusterError::NoLeader)?;
    let mut authority = (**authority).clone();
    let before = authority.clone();
    if rotation.worker_token {
        authority.tokens.worker = new_token(&authority.certificate);
    }
    if rotation.manager_token {
        authority.tokens.manager = new_token(&authority.certificate);
    }
    if !spec.autolock {
        authority.unlock_key = None;
    } else if authority.unlock_key.is_none() || rotation.unlock_key {
        authority.unlock_key = Some(UnlockKey::random().to_string());
    }
    let mut cluster = (**cluster).clone();
    match succession {
        Prepared::Unchanged => {}
        Prepared::Stay(key) => {
            authority.key = key;
            authority.successor = None;
        }
        Prepared::Successor(successor) => authority.successor = Some(successor),
    }
    let signs_now = authority.successor.as_ref().map_or(&authority.certificate, |next| &next.certificate);
    let signs_now = AuthorityCertificate::parse(signs_now)?;
    cluster.issuer_subject = signs_now.subject;
    cluster.issuer_public_key = signs_now.public_key;
    cluster.is_rotating = authority.successor.is_some();
    cluster.meta.version = version;
    cluster.meta.updated = now;
    cluster.spec = spec;
    let mut changes = vec![Change::Update(cluster.into())];
    if authority != before {
        authority.meta.updated = now;
        changes.push(Change::Update(authority.into()));
    }
    Ok(changes)
}

fn check(spec: &ClusterSpec) -> Result<(), ClusterError> {
    let wrong = |text: &str| {
        let message = format!("rpc error: code = InvalidArgument desc = {text}");
        Err(ClusterError::refused(ErrorKind::InvalidArgument, message))
    };
    if spec.name != "default" {
        return wrong("swarm spec must be named \"default\"");
    }
    if spec.raft.election_tick <= spec.raft.heartbeat_tick {
        return wrong("the election tick must be greater than the heartbeat tick");
    }
    if spec.certificate_life < MIN_CERTIFICATE_LIFE {
        return wrong("minimum certificate expiry time is: 1h0m0s");
    }
    if spec.external_authorities.iter().any(|outside| !outside.url.starts_with("https://")) {
        return wrong("the address of an external CA must begin with https://");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::founding::{Founding, found};
    use crate::store::{Conflict, MemoryStore};
    use shoal_types::cluster::node::Availability;

    fn store() -> Arc<MemoryStore> {
        let founding = Founding {
            spec: ClusterSpec::default(),
            address_pools: Vec::new(),
            subnet_size: 24,
            data_path_port: 4789,
            availability: Availability::Active,
            signing: None,
        };
        let store = Arc::new(MemoryStore::default());
        let objects = found(founding, Timestamp::now()).unwrap().objects;
        store.commit_now(&objects.into_iter().map(Change::Create).collect::<Vec<_>>()).unwrap();
        store
    }

    fn settings(store: &Arc<MemoryStore>) -> LeaderSettings {
        LeaderSettings {
            store: Arc::clone(store) as Arc<dyn Store>,
            clock: Arc::new(crate::clock::SystemClock),
            external: ExternalSigner::default(),
        }
    }

    #[tokio::test]
    async fn rotation_changes_the_tokens_that_it_names_and_no_other() {
        let store = store();
        let settings = settings(&store);
        let (cluster, before) = settings.inspect().await.unwrap();
        let rotation = Rotation { worker_token: true, ..Rotation::default() };
        settings.update(cluster.meta.version, cluster.spec, rotation).await.unwrap();
        let (_, after) = settings.inspect().await.unwrap();
        assert_ne!(after.worker, before.worker);
        assert_eq!(after.worker[..59], before.worker[..59], "the digest is the authority's");
        assert_eq!(after.manager, before.manager);
    }

    #[tokio::test]
    async fn autolock_makes_a_key_that_stays_until_it_is_rotated_or_switched_off() {
        let store = store();
        let settings = settings(&store);
        assert_eq!(settings.unlock_key().await.unwrap(), "");
        let (mut cluster, _) = settings.inspect().await.unwrap();
        let mut seen = vec![String::new()];
        for (autolock, unlock_key, is_new) in
            [(true, false, true), (true, false, false), (true, true, true), (false, false, true)]
        {
            cluster.spec.autolock = autolock;
            let rotation = Rotation { unlock_key, ..Rotation::default() };
            settings.update(cluster.meta.version, cluster.spec.clone(), rotation).await.unwrap();
            let key = settings.unlock_key().await.unwrap();
            assert_eq!(key != seen[seen.len() - 1], is_new, "{seen:?} {key}");
            seen.push(key);
            cluster = settings.inspect().await.unwrap().0;
        }
        assert_eq!(seen[seen.len() - 1], "");
    }

    #[tokio::test]
    async fn an_update_of_an_old_version_is_out_of_sequence() {
        let store = store();
        let settings = settings(&store);
        let (cluster, _) = settings.inspect().await.unwrap();
        let version = cluster.meta.version;
        settings.update(version, cluster.spec.clone(), Rotation::default()).await.unwrap();
        let refused = settings.update(version, cluster.spec, Rotation::default()).await.unwrap_err();
        assert!(matches!(refused, ClusterError::Conflict(Conflict::OutOfSequence(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn settings_that_make_no_sense_are_refused() {
        let store = store();
        let settings = settings(&store);
        let (cluster, _) = settings.inspect().await.unwrap();
        let named = ClusterSpec { name: "other".to_owned(), ..cluster.spec.clone() };
        let short = ClusterSpec { certificate_life: Duration::from_secs(60), ..cluster.spec };
        for spec in [named, short] {
            let refused = settings.update(cluster.meta.version, spec, Rotation::default()).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        }
    }
}

//! What makes a machine a node: its key and certificate, and the authority it trusts.
//!
//! Start reading at [`Credentials`]. Everything lives in one file, `certificates/node.json`, that is replaced by a rename, so that a key
//! and its certificate never part:
//!
//! ```text
//! { "version": 1, "trust_root": PEM, "certificate": PEM,
//!   "secrets": { "open": {"node_key": PEM, "store_key": base64} } | { "locked": base64 } }
//! ```
//!
//! A manager's secrets are sealed with the unlock key while the cluster is autolocked. The store's key is here too, so that
//! locking, unlocking and changing the unlock key is one rename.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::node::{NodeRole, TlsInfo};
use shoal_types::{ClusterId, NodeId};
use tokio::sync::watch;

use super::certificate::{NodeCertificate, issuer};
use super::tokens::UnlockKey;
use crate::clock::{after, until};
use crate::error::ClusterError;
use crate::rpc::tls::{self, TlsConfigs};
use crate::seal::{KEY_LEN, Key, Sealer, StoreKeys};

const FILE: &str = "node.json";
const VERSION: u32 = 1;
const SEALED_NAME: &[u8] = b"node secrets";

/// A node's key, certificate and trust root. Renewal puts others in place while connections go on.
///
/// Held by the manager, the worker's client and the membership of one machine, which share one; a change is on disk before
/// anybody sees it.
#[derive(Debug)]
pub struct Credentials {
    directory: PathBuf,
    state: RwLock<Arc<State>>,
    /// Serialises changes, which write to disk; readers take `state` only.
    changing: tokio::sync::Mutex<()>,
    generation: watch::Sender<u64>,
}

/// What an authority has issued.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    /// The certificate, PEM; certificates between it and the trust root may follow.
    pub(crate) certificate: String,
    /// The key that it certifies, PEM.
    pub(crate) key: String,
    /// Certificates to trust, PEM.
    pub(crate) trust_root: String,
}

/// Whether secrets on disk are sealed with a key that the administrator keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lock {
    /// They are not.
    Open,
    /// They are, with this.
    With(UnlockKey),
}

#[derive(Debug, Clone)]
struct State {
    subject: NodeCertificate,
    certificate: String,
    trust_root: String,
    secrets: Secrets,
    lock: Lock,
    tls: TlsConfigs,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    trust_root: String,
    certificate: String,
    secrets: StoredSecrets,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredSecrets {
    Open(Secrets),
    Locked(String),
}

#[derive(Clone, Serialize, Deserialize)]
struct Secrets {
    node_key: String,
    store_key: Option<String>,
    /// The one before, while the store is being sealed with the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former_store_key: Option<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl Credentials {
    /// Reads what `directory` (`<data-root>/swarm/certificates`) holds; `None` if this machine is no node.
    ///
    /// `unlock_key` opens a locked key; without it a locked one is [`ClusterError::Locked`], with a wrong one
    /// [`ClusterError::WrongUnlockKey`].
    pub fn load(directory: &Path, unlock_key: Option<&str>) -> Result<Option<Arc<Self>>, ClusterError> {
        let path = directory.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ClusterError::local(format!("reading {}", path.display()), source)),
        };
        let failed = |source: &dyn std::fmt::Display| {
            ClusterError::local(format!("reading {}", path.display()), source)
        };
        let stored: Stored = serde_json::from_slice(&text).map_err(|source| failed(&source))?;
        if stored.version != VERSION {
            return Err(failed(&format!("it is of version {}, this is {VERSION}", stored.version)));
        }
        let (secrets, lock) = match stored.secrets {
            StoredSecrets::Open(secrets) => (secrets, Lock::Open),
            StoredSecrets::Locked(sealed) => {
                let key: UnlockKey = unlock_key.ok_or(ClusterError::Locked)?.parse()?;
                let sealed = STANDARD.decode(sealed).map_err(|source| failed(&source))?;
                let plain = Sealer::new(key.0.clone())
                    .open(SEALED_NAME, &sealed)
                    .map_err(|_| ClusterError::WrongUnlockKey)?;
                (serde_json::from_slice(&plain).map_err(|source| failed(&source))?, Lock::With(key))
            }
        };
        let state = State::new(stored.certificate, stored.trust_root, secrets, lock)?;
        Ok(Some(Arc::new(Self::with_state(directory.to_owned(), state))))
    }

    /// Whether the secrets in `directory` are locked; `false` if there are none.
    pub fn is_locked(directory: &Path) -> bool {
        matches!(Self::load(directory, None), Err(ClusterError::Locked))
    }

    /// Stores what an authority has issued to a machine that was no node.
    pub(crate) fn create(directory: &Path, issued: Issued) -> Result<Arc<Self>, ClusterError> {
        let secrets = Secrets { node_key: issued.key, store_key: None, former_store_key: None };
        let state = State::new(issued.certificate, issued.trust_root, secrets, Lock::Open)?;
        state.save(directory)?;
        Ok(Arc::new(Self::with_state(directory.to_owned(), state)))
    }

    /// The node's id, the common name of its certificate.
    pub fn node_id(&self) -> NodeId {
        self.state().subject.node
    }

    /// The cluster's id, the organisation in its certificate.
    pub fn cluster_id(&self) -> ClusterId {
        self.state().subject.cluster
    }

    /// The role for which the present certificate was issued.
    pub fn role(&self) -> NodeRole {
        self.state().subject.role
    }

    /// Certificates that this node trusts, PEM.
    pub fn trust_root(&self) -> String {
        self.state().trust_root.clone()
    }

    /// The node's certificate, PEM.
    pub fn certificate(&self) -> String {
        self.state().certificate.clone()
    }

    /// Until when the present certificate holds.
    pub fn not_after(&self) -> Timestamp {
        self.state().subject.not_after
    }

    /// Whether the present certificate holds no more.
    pub fn is_expired(&self) -> bool {
        Timestamp::now() > self.not_after()
    }

    /// When the certificate shall be renewed: at a random point between half and four fifths of its life, so that nodes that
    /// joined together do not renew together. Drawn anew by each call.
    pub fn renewal_due(&self) -> Timestamp {
        let subject = self.state().subject;
        let life = until(subject.not_before, subject.not_after);
        after(subject.not_before, life * rand::rng().random_range(50..=80) / 100)
    }

    /// Rises with each change; connections made before go on.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Puts a new certificate in place.
    pub(crate) async fn replace(&self, issued: Issued) -> Result<(), ClusterError> {
        self.change(|state| {
            let secrets = Secrets { node_key: issued.key, ..state.secrets.clone() };
            State::new(issued.certificate, issued.trust_root, secrets, state.lock.clone())
        })
        .await
    }

    /// Trusts these certificates from now on; PEM.
    pub(crate) async fn trust(&self, trust_root: String) -> Result<(), ClusterError> {
        if self.state().trust_root == trust_root {
            return Ok(());
        }
        self.change(|state| {
            State::new(state.certificate.clone(), trust_root, state.secrets.clone(), state.lock.clone())
        })
        .await
    }

    /// Locks, unlocks or locks with another key what is on disk; says whether that is a change.
    pub(crate) async fn set_lock(&self, lock: Lock) -> Result<bool, ClusterError> {
        if self.state().lock == lock {
            return Ok(false);
        }
        self.change(|state| Ok(State { lock, ..state.clone() })).await?;
        Ok(true)
    }

    /// The keys of the manager's store; makes one at the first call.
    pub(crate) async fn store_keys(&self) -> Result<StoreKeys, ClusterError> {
        if self.state().secrets.store_key.is_none() {
            let drawn = STANDARD.encode(Key::random().0);
            self.change(|state| {
                let mut state = state.clone();
                state.secrets.store_key.get_or_insert(drawn);
                Ok(state)
            })
            .await?;
        }
        let secrets = self.state().secrets.clone();
        let current = secrets.store_key.ok_or_else(not_a_key)?;
        Ok(StoreKeys {
            current: decode_key(&current)?,
            former: secrets.former_store_key.as_deref().map(decode_key).transpose()?,
        })
    }

    /// Draws another key for the manager's store. Both are kept until [`Self::forget_former_store_key`]; the exchange before must be over.
    pub(crate) async fn draw_store_key(&self) -> Result<StoreKeys, ClusterError> {
        let drawn = STANDARD.encode(Key::random().0);
        self.change(|state| {
            let mut state = state.clone();
            state.secrets.former_store_key = state.secrets.store_key.replace(drawn);
            Ok(state)
        })
        .await?;
        self.store_keys().await
    }

    /// Nothing in the store is sealed with the former key any more.
    pub(crate) async fn forget_former_store_key(&self) -> Result<(), ClusterError> {
        self.change(|state| {
            let mut state = state.clone();
            state.secrets.former_store_key = None;
            Ok(state)
        })
        .await
    }

    /// The node's key, PEM.
    pub(crate) fn node_key(&self) -> String {
        self.state().secrets.node_key.clone()
    }

    /// TLS with the present certificate.
    pub(crate) fn tls(&self) -> TlsConfigs {
        self.state().tls.clone()
    }

    /// TLS towards an authority outside the cluster, with the present certificate.
    pub(crate) fn outside_client(&self, trust_root: &str) -> Result<Arc<rustls::ClientConfig>, ClusterError> {
        let state = self.state();
        tls::outside_client_of(&state.certificate, &state.secrets.node_key, trust_root)
    }

    /// Whom this node trusts, and who has issued its certificate.
    pub(crate) fn tls_info(&self) -> Result<TlsInfo, ClusterError> {
        let state = self.state();
        let issuer = issuer(&state.certificate, &state.trust_root)?;
        Ok(TlsInfo {
            trust_root: state.trust_root.clone(),
            issuer_subject: issuer.subject,
            issuer_public_key: issuer.public_key,
        })
    }

    fn with_state(directory: PathBuf, state: State) -> Self {
        Self {
            directory,
            state: RwLock::new(Arc::new(state)),
            changing: tokio::sync::Mutex::default(),
            generation: watch::Sender::new(0),
        }
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn change(
        &self,
        edit: impl FnOnce(&State) -> Result<State, ClusterError>,
    ) -> Result<(), ClusterError> {
        let _changing = self.changing.lock().await;
        let next = Arc::new(edit(&self.state())?);
        let (directory, saved) = (self.directory.clone(), Arc::clone(&next));
        tokio::task::spawn_blocking(move || saved.save(&directory))
            .await
            .map_err(|source| ClusterError::local("storing the node's certificate", source))??;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = next;
        self.generation.send_modify(|generation| *generation += 1);
        Ok(())
    }
}

impl State {
    fn new(
        certificate: String,
        trust_root: String,
        secrets: Secrets,
        lock: Lock,
    ) -> Result<Self, ClusterError> {
        let subject = NodeCertificate::parse_pem(&certificate)?;
        let tls = TlsConfigs::new(&certificate, &secrets.node_key, &trust_root)?;
        Ok(Self { subject, certificate, trust_root, secrets, lock, tls })
    }

    fn save(&self, directory: &Path) -> Result<(), ClusterError> {
        let encode =
            |source: serde_json::Error| ClusterError::local("encoding the node's certificate", source);
        let secrets = match &self.lock {
            Lock::Open => StoredSecrets::Open(self.secrets.clone()),
            Lock::With(key) => {
                let plain = serde_json::to_vec(&self.secrets).map_err(encode)?;
                let sealed = Sealer::new(key.0.clone())
                    .seal(SEALED_NAME, &plain)
                    .map_err(|source| ClusterError::local("sealing the node's secrets", source))?;
                StoredSecrets::Locked(STANDARD.encode(sealed))
            }
        };
        let stored = Stored {
            version: VERSION,
            trust_root: self.trust_root.clone(),
            certificate: self.certificate.clone(),
            secrets,
        };
        let text = serde_json::to_vec_pretty(&stored).map_err(encode)?;
        replace_file(directory, FILE, &text).map_err(|source| {
            ClusterError::local(format!("writing {}", directory.join(FILE).display()), source)
        })
    }
}

fn decode_key(text: &str) -> Result<Key, ClusterError> {
    let bytes: Option<[u8; KEY_LEN]> = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.map(Key).ok_or_else(not_a_key)
}

fn not_a_key() -> ClusterError {
    ClusterError::local("reading the store's key", "it is not of 32 bytes")
}

/// Writes a file that only root reads, so that after a crash either the old or the new content is there.
pub(crate) fn replace_file(directory: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let temporary = directory.join(format!(".{name}.new"));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, directory.join(name))?;
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::authority::{Authority, Subject, generate_request};
    use super::*;

    fn issued(role: NodeRole) -> Issued {
        let (trust_root, key) = Authority::generate().unwrap();
        let authority = Authority::from_pem(&trust_root, &key).unwrap();
        let (key, request) = generate_request().unwrap();
        let subject = Subject { node: NodeId::random(), role, cluster: ClusterId::random() };
        let certificate = authority.issue(&request, subject, Duration::from_secs(7200)).unwrap();
        Issued { certificate, key, trust_root }
    }

    #[tokio::test]
    async fn credentials_are_found_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Credentials::load(dir.path(), None).unwrap().is_none());
        let made = Credentials::create(dir.path(), issued(NodeRole::Manager)).unwrap();
        let key = made.store_keys().await.unwrap();
        let found = Credentials::load(dir.path(), None).unwrap().unwrap();
        assert_eq!((found.node_id(), found.role()), (made.node_id(), NodeRole::Manager));
        assert_eq!(found.store_keys().await.unwrap(), key);
        assert!(!found.is_expired());
    }

    #[tokio::test]
    async fn a_locked_manager_opens_with_its_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let made = Credentials::create(dir.path(), issued(NodeRole::Manager)).unwrap();
        let key = UnlockKey::random();
        made.set_lock(Lock::With(key.clone())).await.unwrap();
        assert!(Credentials::is_locked(dir.path()));
        let wrong = UnlockKey::random().to_string();
        assert!(matches!(Credentials::load(dir.path(), Some(&wrong)), Err(ClusterError::WrongUnlockKey)));
        assert!(matches!(Credentials::load(dir.path(), Some("x")), Err(ClusterError::MalformedUnlockKey)));
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(!text.contains("PRIVATE KEY"), "{text}");
        let opened = Credentials::load(dir.path(), Some(&key.to_string())).unwrap().unwrap();
        opened.set_lock(Lock::Open).await.unwrap();
        assert!(Credentials::load(dir.path(), None).unwrap().is_some());
    }

    #[tokio::test]
    async fn renewal_replaces_key_and_certificate_together_and_keeps_the_stores_key() {
        let dir = tempfile::tempdir().unwrap();
        let made = Credentials::create(dir.path(), issued(NodeRole::Worker)).unwrap();
        let store_key = made.store_keys().await.unwrap();
        let mut generation = made.generation();
        made.replace(issued(NodeRole::Manager)).await.unwrap();
        assert!(generation.has_changed().unwrap());
        generation.mark_unchanged();
        let found = Credentials::load(dir.path(), None).unwrap().unwrap();
        assert_eq!((found.role(), found.node_key()), (NodeRole::Manager, made.node_key()));
        assert_eq!(found.store_keys().await.unwrap(), store_key);
    }

    #[test]
    fn renewal_is_due_between_half_and_four_fifths_of_the_life() {
        let dir = tempfile::tempdir().unwrap();
        let made = Credentials::create(dir.path(), issued(NodeRole::Worker)).unwrap();
        let end = made.not_after().as_second();
        // Three hours in all.
        let (from, to) = (end - 3 * 1800, end - 3 * 720);
        let draws: Vec<i64> = (0..200).map(|_| made.renewal_due().as_second()).collect();
        assert!(draws.iter().all(|due| (from..=to).contains(due)), "{draws:?}");
        assert!(draws.iter().max() > draws.iter().min());
    }
}

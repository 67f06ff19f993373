//! The whole cluster in one file, and a cluster from such a file.
//!
//! Start reading at [`write()`] and [`restore`]. The file is text: a line that says what it is, and the content in JSON, sealed with the unlock key while the
//! cluster is autolocked. It is taken from a running leader as of one moment and holds every object, the authority's key and the
//! tokens among them: whoever has it has the cluster. It holds nothing of a manager: whoever restores becomes a node of
//! its own, at an address of its own, and several may do so without being taken for one another.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::node::{Availability, NodeRole};
use shoal_types::{ClusterId, ErrorKind, NodeId};

use crate::ca::authority::{Authority, Subject, generate_request};
use crate::ca::founding::first_meta;
use crate::ca::registrar::new_node;
use crate::ca::tokens::UnlockKey;
use crate::ca::{Credentials, Issued, Lock};
use crate::error::ClusterError;
use crate::node::ManagerConfig;
use crate::raft::{Group, Member};
use crate::seal::Sealer;
use crate::store::{Change, Object, Snapshot};

/// The first line of every backup.
const MAGIC: &str = "shoal swarm backup 1";
const SEALED_NAME: &[u8] = b"swarm backup";

/// What is in the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Envelope {
    Open(Content),
    /// Base64, sealed with the unlock key.
    Sealed(String),
}

/// The cluster as of one moment.
#[derive(Serialize, Deserialize)]
struct Content {
    taken: Timestamp,
    cluster: ClusterId,
    index: u64,
    objects: Vec<Object>,
}

/// A node that was made from a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// When the backup was taken.
    pub taken: Timestamp,
}

/// The text of a backup.
pub(crate) fn write(snapshot: &Snapshot, now: Timestamp) -> Result<String, ClusterError> {
    let (cluster, authority) = snapshot.cluster().zip(snapshot.authority()).ok_or(ClusterError::NoLeader)?;
    let content = Content {
        taken: now,
        cluster: cluster.id,
        index: snapshot.index(),
        objects: snapshot.objects().collect(),
    };
    let failed = |source: &dyn std::fmt::Display| ClusterError::local("writing a backup", source);
    let envelope = match &authority.unlock_key {
        None => Envelope::Open(content),
        Some(key) => {
            let key: UnlockKey = key.parse()?;
            let plain = serde_json::to_vec(&content).map_err(|source| failed(&source))?;
            let sealed = Sealer::new(key.0).seal(SEALED_NAME, &plain).map_err(|source| failed(&source))?;
            Envelope::Sealed(STANDARD.encode(sealed))
        }
    };
    let body = serde_json::to_string(&envelope).map_err(|source| failed(&source))?;
    Ok(format!("{MAGIC}\n{body}\n"))
}

fn read(text: &str, unlock_key: Option<&str>) -> Result<Content, ClusterError> {
    let body = text
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.strip_prefix('\n'))
        .ok_or_else(|| refused("the file is no backup of this version"))?;
    let broken = |_| refused("the backup is damaged");
    match serde_json::from_str(body).map_err(broken)? {
        Envelope::Open(content) => Ok(content),
        Envelope::Sealed(sealed) => {
            let key: UnlockKey = unlock_key.ok_or(ClusterError::Locked)?.parse()?;
            let sealed = STANDARD.decode(sealed).map_err(|_| refused("the backup is damaged"))?;
            let plain =
                Sealer::new(key.0).open(SEALED_NAME, &sealed).map_err(|_| ClusterError::WrongUnlockKey)?;
            serde_json::from_slice(&plain).map_err(broken)
        }
    }
}

/// Makes a manager of a machine that is no node, from a backup: alone in its group, with all objects, the same authority and tokens. It serves when
/// it is started ([`crate::node::ManagerNode::start`]). Nodes that the backup knows stay known and count as gone until they come;
/// those that manage no more are to be removed.
///
/// After a failure the directory is to be cleared before another attempt.
pub async fn restore(
    text: &str,
    unlock_key: Option<&str>,
    config: &ManagerConfig,
) -> Result<Restored, ClusterError> {
    refuse_occupied(&config.directory)?;
    let content = read(text, unlock_key)?;
    let mut view = Snapshot::from_objects(content.index, content.objects);
    let (cluster, authority) =
        view.cluster().zip(view.authority()).ok_or_else(|| refused("the backup is damaged"))?;
    if authority.key.is_empty() {
        return Err(refused(
            "the cluster's certificates come from an authority outside, which has to be asked by a manager that runs: restore \
             by a copy of a manager's directory and \"docker swarm init --force-new-cluster\"",
        ));
    }
    let node = NodeId::random();
    let (key, request) = generate_request()?;
    let subject = Subject { node, role: NodeRole::Manager, cluster: cluster.id };
    let signer = Authority::from_pem(&authority.certificate, &authority.key)?;
    let life: Duration = cluster.spec.certificate_life;
    let issued = Issued {
        certificate: signer.issue(&request, subject, life)?,
        key,
        trust_root: authority.certificate.clone(),
    };
    let lock = match authority.unlock_key.as_deref() {
        Some(key) => Lock::With(key.parse()?),
        None => Lock::Open,
    };
    let restored = Restored { node, cluster: cluster.id, taken: content.taken };
    let own = new_node(node, NodeRole::Manager, Availability::Active, first_meta(Timestamp::now()));
    let index = view.index().saturating_add(1);
    view.apply(index, &[Change::Create(own.into())])?;
    let credentials = Credentials::create(&config.certificates(), issued)?;
    credentials.set_lock(lock).await?;
    let me = Member { node, address: config.advertise };
    Group::restore(config.store(), credentials.store_keys().await?, me, Arc::new(view)).await?;
    Ok(restored)
}

/// A machine that is a node must not be made another by mistake.
fn refuse_occupied(directory: &Path) -> Result<(), ClusterError> {
    let is_empty = std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none());
    if is_empty { Ok(()) } else { Err(refused(format!("{} is not empty", directory.display()))) }
}

fn refused(message: impl Into<String>) -> ClusterError {
    ClusterError::refused(ErrorKind::InvalidArgument, message)
}

//! The replicated store over raft: one member of the managers' group.
//!
//! Start reading at [`Group`]. [`disk`] is the database, [`log`] and [`machine`] what raft keeps in it, [`network`] its messages, [`appends`] those that take long, [`elections`] who stands
//! for election and when, [`members`] who belongs, [`compaction`] how long the log becomes, [`alone`] who begins with what is there. openraft is used through its stable 0.9 and no type of it leaves this module; what that release
//! lacks is made here: asking around before an election (instead of pre-vote), stepping back without a quorum, handing
//! leadership over.

mod alone;
mod appends;
mod compaction;
mod disk;
mod elections;
mod lengths;
mod log;
mod machine;
mod members;
mod network;
mod serve;
mod types;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{Config, RaftMetrics, ServerState, SnapshotPolicy};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::ClusterError;
use crate::rpc::client::RpcClient;
use crate::seal::{Key, StoreKeys};
use crate::store::{Change, Snapshot, Store};
use disk::{Disk, DiskError, Flush, Step, encode};
use log::LogStore;
use machine::{Machine, Shown};
pub(crate) use members::{MemberStatus, check_removal};
use network::Peers;
pub(crate) use serve::JoinGroup;
pub(crate) use types::{Member, MemberId};
use types::{Proposal, Raft};

const MEMBER: &str = "member";
/// How often the leader says that it is there, and how long a message to a member may take. openraft looks at it in steps of
/// one and a half times this.
const HEARTBEAT: Duration = Duration::from_millis(250);
/// How long after the last word of a leader openraft grants no vote.
const LEASE: Duration = Duration::from_millis(500);
/// A leader that a majority has not answered for that long takes itself for none.
const QUORUM_LIMIT: Duration = Duration::from_secs(2);
/// A leader whose disk has not answered for that long leaves leading to others: it could acknowledge nothing.
const DISK_LIMIT: Duration = Duration::from_secs(3);
/// How long a proposal may take before its outcome counts as unknown.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// A member that is so many entries behind is sent everything instead.
const LAG: u64 = 10_000;
/// How long a confirmation of leadership may take.
const BARRIER_LIMIT: Duration = Duration::from_secs(2);

/// Who leads, as far as this member can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// This member, in this term, and a majority follows.
    Here(u64),
    /// Another, which listens there.
    At(SocketAddr),
    /// Nobody.
    Nowhere,
}

/// One member of the managers' group. Its tasks end with [`Self::shut_down`].
pub(crate) struct Group {
    raft: Raft,
    id: MemberId,
    me: Member,
    disk: Disk,
    log: LogStore,
    shown: Shown,
    peers: Peers,
    client: Arc<RpcClient>,
    /// When a leader was heard of last.
    heard: Mutex<Instant>,
    leadership: watch::Sender<Leadership>,
    removed: watch::Sender<bool>,
    /// Set while leadership is handed over: nothing is proposed any more.
    is_handing_over: AtomicBool,
    /// One change of membership at a time.
    changing_members: tokio::sync::Mutex<()>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("id", &self.id).field("me", &self.me).finish_non_exhaustive()
    }
}

/// What a member is opened with.
#[derive(Debug, Clone)]
pub(crate) struct GroupConfig {
    /// The database's directory.
    pub(crate) directory: PathBuf,
    /// The database's keys.
    pub(crate) keys: StoreKeys,
    /// Who this member is.
    pub(crate) me: Member,
}

impl Group {
    /// Opens the member in a directory, or makes one that belongs to no group yet.
    pub(crate) async fn open(config: GroupConfig, client: Arc<RpcClient>) -> Result<Arc<Self>, ClusterError> {
        let GroupConfig { directory, keys, me } = config;
        let (disk, log, machine, id) = open_stores(directory, keys).await?;
        let shown = machine.shown();
        let peers = Peers::new(Arc::clone(&client));
        let raft_config = raft_config()?;
        let raft = Raft::new(id, raft_config, peers.clone(), log.clone(), machine)
            .await
            .map_err(|source| ClusterError::local("starting raft", source))?;
        let group = Arc::new(Self {
            raft,
            id,
            me,
            disk,
            log,
            shown,
            peers,
            client,
            heard: Mutex::new(Instant::now()),
            leadership: watch::Sender::new(Leadership::Nowhere),
            removed: watch::Sender::new(false),
            is_handing_over: AtomicBool::new(false),
            changing_members: tokio::sync::Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        group.tasks.spawn(elections::run(Arc::clone(&group)));
        group.tasks.spawn(watch_leadership(Arc::clone(&group)));
        group.tasks.spawn(compaction::run(Arc::clone(&group)));
        Ok(group)
    }

    /// Whether this member was ever taken into a group.
    pub(crate) async fn is_begun(&self) -> Result<bool, ClusterError> {
        let is_begun = self.raft.is_initialized().await.map_err(stopped)?;
        if is_begun {
            // What raft shows follows shortly after it has started.
            let mut metrics = self.raft.metrics();
            let shown = metrics.wait_for(|metrics| metrics.membership_config.nodes().next().is_some());
            let _ = tokio::time::timeout(QUORUM_LIMIT, shown).await;
        }
        Ok(is_begun)
    }

    /// Makes this member the first of a new group and commits the first objects.
    pub(crate) async fn begin(&self, first: Vec<Change>) -> Result<(), ClusterError> {
        let members = std::collections::BTreeMap::from([(self.id, self.me.clone())]);
        self.raft
            .initialize(members)
            .await
            .map_err(|source| ClusterError::local("beginning the managers' group", source))?;
        self.wait_for(Duration::from_secs(10), |leadership| matches!(leadership, Leadership::Here(_)))
            .await?;
        self.commit(first).await?;
        Ok(())
    }

    /// Who leads.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Becomes true when this member was removed from the group.
    pub(crate) fn removed(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
    }

    /// Waits until raft cannot go on; why.
    pub(crate) async fn failure(&self) -> String {
        let mut metrics = self.raft.metrics();
        let failed = metrics.wait_for(|metrics| metrics.running_state.is_err()).await;
        failed.map_or_else(
            |_| "raft has ended".to_owned(),
            |metrics| metrics.running_state.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        )
    }

    /// Waits until leadership is as wished; [`ClusterError::NoLeader`] after `limit`.
    pub(crate) async fn wait_for(
        &self,
        limit: Duration,
        wished: impl FnMut(&Leadership) -> bool,
    ) -> Result<Leadership, ClusterError> {
        let mut leadership = self.leadership();
        let found = tokio::time::timeout(limit, leadership.wait_for(wished)).await;
        found.ok().and_then(Result::ok).map(|found| *found).ok_or(ClusterError::NoLeader)
    }

    /// Seals the database with another key.
    pub(crate) async fn change_key(&self, key: Key) -> Result<(), ClusterError> {
        Ok(self.disk.change_key(key).await?)
    }

    /// Confirms that this member leads and has applied everything that was acknowledged before: what is read afterwards is
    /// not older than the call.
    pub(crate) async fn read_barrier(&self) -> Result<(), ClusterError> {
        self.check_leading()?;
        match tokio::time::timeout(BARRIER_LIMIT, self.raft.ensure_linearizable()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(_))) => Err(self.not_leading()),
            Ok(Err(RaftError::Fatal(source))) => Err(stopped(source)),
            Err(_) => Err(ClusterError::NoLeader),
        }
    }

    /// Hands leadership over if this member has it, ends its tasks and closes the database. Repeatable.
    pub(crate) async fn shut_down(&self) {
        if matches!(*self.leadership.borrow(), Leadership::Here(_))
            && let Err(error) = self.hand_over().await
        {
            tracing::warn!(%error, "leadership could not be handed over");
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "raft has ended with a failure");
        }
        self.leadership.send_replace(Leadership::Nowhere);
        // Objects are written without a flush of their own; this takes them along, so that less is applied again.
        if let Err(error) = self.disk.close().await {
            tracing::warn!(%error, "the manager's store was not flushed at its end");
        }
    }

    fn check_leading(&self) -> Result<(), ClusterError> {
        let is_leading = matches!(*self.leadership.borrow(), Leadership::Here(_));
        if is_leading && !self.is_handing_over.load(Ordering::Acquire) {
            Ok(())
        } else {
            Err(self.not_leading())
        }
    }

    fn not_leading(&self) -> ClusterError {
        match *self.leadership.borrow() {
            Leadership::At(address) => ClusterError::NotLeader(Some(address)),
            Leadership::Here(_) => ClusterError::NotLeader(None),
            Leadership::Nowhere => ClusterError::NoLeader,
        }
    }

    /// Whether this member's disk does not answer.
    fn is_stuck(&self) -> bool {
        self.disk.stalled() > DISK_LIMIT
    }

    /// Notes that a leader was heard of.
    fn note_leader(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// For how long no leader was heard of.
    fn silence(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn metrics(&self) -> RaftMetrics<MemberId, Member> {
        self.raft.metrics().borrow().clone()
    }

    /// Whether a majority of voters has answered this leader of late.
    fn has_quorum(&self, metrics: &RaftMetrics<MemberId, Member>) -> bool {
        let membership = metrics.membership_config.membership();
        membership.get_joint_config().iter().all(|voters| {
            let answering = voters.iter().filter(|&&id| {
                id == self.id || self.peers.silence(id).is_some_and(|silence| silence < QUORUM_LIMIT)
            });
            answering.count() * 2 > voters.len()
        })
    }
}

#[async_trait]
impl Store for Group {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.shown.view()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.shown.index()
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<u64, ClusterError> {
        self.check_leading()?;
        let write = self.raft.client_write(Proposal::from(changes));
        let written = tokio::time::timeout(COMMIT_LIMIT, write).await.map_err(|_| ClusterError::Deadline)?;
        match written {
            Ok(response) => match response.data.conflict {
                None => Ok(response.log_id.index),
                Some(conflict) => Err(conflict.into()),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(ClusterError::NotLeader(forward.leader_node.map(|member| member.address)))
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(source))) => {
                Err(ClusterError::local("committing a change", source))
            }
            Err(RaftError::Fatal(source)) => Err(stopped(source)),
        }
    }
}

/// Keeps [`Group::leadership`] true, and gives a new leader time before it must have been answered.
async fn watch_leadership(group: Arc<Group>) {
    let mut metrics = group.raft.metrics();
    let mut led_since: Option<(u64, Instant)> = None;
    loop {
        let seen = metrics.borrow_and_update().clone();
        let leadership = if seen.running_state.is_err() {
            Leadership::Nowhere
        } else if seen.state == ServerState::Leader {
            let since = match led_since {
                Some((term, since)) if term == seen.current_term => since,
                _ => led_since.insert((seen.current_term, Instant::now())).1,
            };
            if !group.is_stuck() && (group.has_quorum(&seen) || since.elapsed() < QUORUM_LIMIT) {
                Leadership::Here(seen.current_term)
            } else {
                Leadership::Nowhere
            }
        } else {
            let address = seen.current_leader.filter(|&id| id != group.id).and_then(|id| {
                seen.membership_config.membership().get_node(&id).map(|member| member.address)
            });
            match address {
                Some(address) if group.silence() < QUORUM_LIMIT => Leadership::At(address),
                _ => Leadership::Nowhere,
            }
        };
        group.leadership.send_if_modified(|now| {
            let is_other = *now != leadership;
            *now = leadership;
            is_other
        });
        // All may be dropped: the state is read anew each time.
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            // What members have answered is looked at anew when nothing else changes.
            () = tokio::time::sleep(HEARTBEAT) => {}
            () = group.stop.cancelled() => return,
        }
    }
}

/// Whether `directory` holds a member's database.
pub(crate) fn exists(directory: &Path) -> bool {
    directory.join(disk::FILE).exists()
}

/// Opens what raft keeps. A member whose store cannot be written does not begin: it could only disturb the others.
async fn open_stores(
    directory: PathBuf,
    keys: StoreKeys,
) -> Result<(Disk, LogStore, Machine, MemberId), ClusterError> {
    let failed = |source| ClusterError::local("opening the manager's database", source);
    let opened = tokio::task::spawn_blocking(move || {
        let disk = Disk::open(&directory, keys)?;
        let id = disk.about::<MemberId>(MEMBER)?;
        Ok::<_, DiskError>((disk, id))
    });
    let (disk, id) = opened.await.map_err(failed)??;
    disk.probe().await?;
    let id = match id {
        Some(id) => id,
        None => {
            let drawn: MemberId = rand::random();
            disk.write(vec![Step::About(MEMBER, encode(&drawn)?)], Flush::Now).await?;
            drawn
        }
    };
    let opened = tokio::task::spawn_blocking(move || {
        Ok::<_, DiskError>((disk.clone(), LogStore::open(disk.clone(), id)?, Machine::open(disk)?))
    });
    let (disk, log, machine) = opened.await.map_err(failed)??;
    Ok((disk, log, machine, id))
}

fn raft_config() -> Result<Arc<Config>, ClusterError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "shoal".to_owned(),
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min: millis(LEASE) - 100,
        election_timeout_max: millis(LEASE),
        // Elections are this module's.
        enable_elect: false,
        max_payload_entries: 256,
        replication_lag_threshold: LAG,
        // When to take one, and what to forget then, follows settings that may change (`compaction.rs`).
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        purge_batch_size: 64,
        install_snapshot_timeout: 60_000,
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|source| ClusterError::local("configuring raft", source))
}

fn stopped(source: impl ToString) -> ClusterError {
    ClusterError::local("this manager's raft has stopped", source)
}

//! A manager of the cluster: its life from the first start to the last.
//!
//! Start reading at [`ManagerNode`]. A manager is begun by [`ManagerNode::init`] (a new cluster), [`ManagerNode::join`] (a
//! node that was enrolled with the managers' token, or promoted) or [`ManagerNode::start`] (from disk), and ended by
//! [`ManagerNode::stop`]. It serves other nodes on its own listener and yields the ports that the front end uses; it knows
//! nothing of the worker that runs on the same machine, which comes by network like every other.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use shoal_types::cluster::node::Availability;
use shoal_types::cluster::settings::{Cluster, ClusterSpec, JoinTokens};
use shoal_types::protocol::ManagerPeer;
use shoal_types::{ErrorKind, NodeId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::api::membership::{Membership, Rotation, SigningAuthority};
use crate::ca::Credentials;
use crate::ca::external::ExternalSigner;
use crate::ca::founding::{Founding, found};
use crate::ca::registrar::Registrar;
use crate::clock::SystemClock;
use crate::control::first_networks;
use crate::desk::{Desk, OpenDesk};
use crate::error::ClusterError;
use crate::forward::{Forwarder, Settings as _};
use crate::log_reader::LogReader;
use crate::raft::{self, Group, GroupConfig, JoinGroup, Leadership, Member, MemberStatus};
use crate::rpc::client::{CallAs, RpcClient};
use crate::rpc::paths;
use crate::rpc::server::Listener;
use crate::store::{Change, Store};
use crate::{keys, leader};

/// How long joining the managers' group may take; a large store has to be received.
const JOIN_LIMIT: Duration = Duration::from_secs(150);
/// How long a new leader's parts may take to be there.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(250);

/// Where a manager lives.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// `<data-root>/swarm`: certificates in `certificates/`, the store in `manager/`.
    pub directory: PathBuf,
    /// Where to listen for other nodes.
    pub listen: SocketAddr,
    /// Where other nodes reach this one; port 0 takes the listener's.
    pub advertise: SocketAddr,
}

/// What a new cluster shall be.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// Settings.
    pub spec: ClusterSpec,
    /// Pools for networks of the cluster.
    pub address_pools: Vec<IpNet>,
    /// Prefix length of each piece.
    pub subnet_size: u8,
    /// UDP port of the overlay's data path.
    pub data_path_port: u16,
    /// Whether the first node takes tasks.
    pub availability: Availability,
    /// The authority, if the administrator brings one. One without a key is outside: the cluster begins with an authority of
    /// its own and is handed over at once, as by a later change of settings.
    pub signing: Option<SigningAuthority>,
}

/// What has become of a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManagerFate {
    /// It serves.
    Serving,
    /// It was removed from the managers' group (demoted, or forgotten); whoever holds it stops it and clears its store.
    Removed,
    /// It cannot go on; why.
    Failed(String),
}

/// A running manager.
#[derive(Debug)]
pub struct ManagerNode {
    credentials: Arc<Credentials>,
    address: SocketAddr,
    desk: Arc<Desk>,
    client: Arc<RpcClient>,
    listener: Listener,
    fate: watch::Receiver<ManagerFate>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl ManagerConfig {
    /// Where the node's certificate is.
    pub fn certificates(&self) -> PathBuf {
        self.directory.join("certificates")
    }

    /// Where the manager's store is; to be cleared when the node is no manager any more.
    pub fn store(&self) -> PathBuf {
        self.directory.join("manager")
    }
}

impl ManagerNode {
    /// Begins a cluster: makes its authority, this node's certificate and the first objects. Returns when this node leads.
    /// The directory must hold neither certificate nor store; after a failure the caller clears it.
    pub async fn init(config: ManagerConfig, cluster: NewCluster) -> Result<Arc<Self>, ClusterError> {
        let now = Timestamp::now();
        let outside = cluster.signing.clone().filter(|signing| signing.key.is_empty());
        let founded = found(
            Founding {
                spec: cluster.spec,
                address_pools: cluster.address_pools,
                subnet_size: cluster.subnet_size,
                data_path_port: cluster.data_path_port,
                availability: cluster.availability,
                signing: cluster.signing,
            },
            now,
        )?;
        let credentials = Credentials::create(&config.certificates(), founded.issued)?;
        credentials.set_lock(founded.lock).await?;
        let manager = Self::open(&config, credentials).await?;
        let networks = first_networks(now).into_iter().map(|network| Change::Create(network.into()));
        let first = founded.objects.into_iter().map(Change::Create).chain(networks).collect();
        if let Err(error) = manager.desk.group.begin(first).await {
            manager.stop().await;
            return Err(error);
        }
        if let Err(error) = manager.wait_until_ready().await {
            manager.stop().await;
            return Err(error);
        }
        if let Some(outside) = outside
            && let Err(error) = manager.hand_authority_over(outside).await
        {
            manager.stop().await;
            return Err(error);
        }
        Ok(manager)
    }

    /// Joins the managers' group through one of `remotes`, with a certificate for that role. Returns when this node votes.
    /// What the directory holds of an earlier life as a manager is cleared.
    pub async fn join(
        config: ManagerConfig,
        credentials: Arc<Credentials>,
        remotes: Vec<SocketAddr>,
    ) -> Result<Arc<Self>, ClusterError> {
        clear(&config.store()).await?;
        let manager = Self::open(&config, credentials).await?;
        match tokio::time::timeout(JOIN_LIMIT, manager.announce(remotes)).await {
            Ok(Ok(())) => Ok(manager),
            Ok(Err(error)) => {
                manager.stop().await;
                Err(error)
            }
            Err(_) => {
                manager.stop().await;
                Err(ClusterError::Deadline)
            }
        }
    }

    /// Goes on with the store on disk. Returns when it serves, whether or not there is a leader yet.
    ///
    /// [`ClusterError::NotBegun`] if there is no store that belongs to a group: the node died while it began or joined, and
    /// the caller does that again.
    pub async fn start(
        config: ManagerConfig,
        credentials: Arc<Credentials>,
    ) -> Result<Arc<Self>, ClusterError> {
        if !raft::exists(&config.store()) {
            return Err(ClusterError::NotBegun);
        }
        let manager = Self::open(&config, credentials).await?;
        let is_begun = manager.desk.group.is_begun().await;
        if !matches!(is_begun, Ok(true)) {
            // What is left open would keep the address from the next attempt.
            manager.stop().await;
            return Err(is_begun.err().unwrap_or(ClusterError::NotBegun));
        }
        manager.keep_address_known();
        Ok(manager)
    }

    /// Goes on alone with the store on disk: every other manager is forgotten, objects, authority and tokens stay. Repeatable.
    /// Returns when this node leads.
    pub async fn force_new_cluster(
        config: ManagerConfig,
        credentials: Arc<Credentials>,
    ) -> Result<Arc<Self>, ClusterError> {
        if !raft::exists(&config.store()) {
            return Err(ClusterError::NotBegun);
        }
        let keys = credentials.store_keys().await?;
        let me = Member { node: credentials.node_id(), address: config.advertise };
        Group::make_alone(config.store(), keys, me).await?;
        let manager = Self::open(&config, credentials).await?;
        if let Err(error) = manager.wait_until_ready().await {
            manager.stop().await;
            return Err(error);
        }
        manager.keep_address_known();
        Ok(manager)
    }

    /// Hands leadership over if it has it, stops serving and closes the store. The node stays a member. Repeatable.
    pub async fn stop(&self) {
        let is_leading = matches!(*self.desk.group.leadership().borrow(), Leadership::Here(_));
        if is_leading && let Err(error) = self.desk.group.hand_over().await {
            tracing::warn!(%error, "leadership could not be handed over");
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.listener.stop().await;
        self.desk.group.shut_down().await;
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.credentials.node_id()
    }

    /// This node's certificate and key.
    pub fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials)
    }

    /// What becomes of it.
    pub fn fate(&self) -> watch::Receiver<ManagerFate> {
        self.fate.clone()
    }

    /// The ports for the front end: answered here while this node leads, by the leader otherwise. `membership` is the
    /// caller's, because joining and leaving concern the worker too.
    pub fn ports(&self, membership: Arc<dyn Membership>) -> api::Cluster {
        let forwarder = &self.desk.forwarder;
        let reader = Arc::new(LogReader::new(Arc::clone(&self.desk), Arc::clone(&self.client)));
        api::Cluster {
            membership,
            services: forwarder.clone(),
            tasks: forwarder.clone(),
            nodes: forwarder.clone(),
            networks: forwarder.clone(),
            logs: reader.clone(),
            events: reader,
            secrets: forwarder.clone(),
            configs: forwarder.clone(),
        }
    }

    /// All managers, as far as this one knows.
    pub fn managers(&self) -> Vec<ManagerPeer> {
        let peer =
            |status: MemberStatus| ManagerPeer { node: status.member.node, address: status.member.address };
        self.desk.group.members().into_iter().map(peer).collect()
    }

    /// Where it listens, as others reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The cluster and what lets machines join it.
    pub async fn inspect(&self) -> Result<(Cluster, JoinTokens), ClusterError> {
        self.desk.forwarder.inspect().await
    }

    /// Changes settings, if `version` is the newest, and makes anew what `rotation` says.
    pub async fn update(
        &self,
        version: u64,
        spec: ClusterSpec,
        rotation: Rotation,
    ) -> Result<(), ClusterError> {
        self.desk.forwarder.update(version, spec, rotation).await
    }

    /// The key that opens managers' keys; empty when they are not locked.
    pub async fn unlock_key(&self) -> Result<String, ClusterError> {
        self.desk.forwarder.unlock_key().await
    }

    /// The whole cluster as text, for [`crate::backup::restore`]: as of now, and not older than the call.
    pub async fn backup(&self) -> Result<String, ClusterError> {
        self.desk.forwarder.backup().await
    }

    /// Why leaving would hurt the cluster; `Ok` if it would not. To be asked before a leave without force.
    pub fn check_leave(&self) -> Result<(), ClusterError> {
        let leadership = *self.desk.group.leadership().borrow();
        Err(ClusterError::refused(
            ErrorKind::Unavailable,
            leave_warning(&self.desk.group.members(), leadership),
        ))
    }

    async fn open(config: &ManagerConfig, credentials: Arc<Credentials>) -> Result<Arc<Self>, ClusterError> {
        let (listener, socket) = Listener::bind(config.listen).await?;
        let mut address = config.advertise;
        if address.port() == 0 {
            address.set_port(listener.address().port());
        }
        let client = Arc::new(RpcClient::new(CallAs::Node(Arc::clone(&credentials))));
        let group_config = GroupConfig {
            directory: config.store(),
            keys: credentials.store_keys().await?,
            me: Member { node: credentials.node_id(), address },
        };
        let group = Group::open(group_config, Arc::clone(&client)).await?;
        let store: Arc<dyn Store> = Arc::clone(&group) as Arc<dyn Store>;
        let node = credentials.node_id();
        let desk = Arc::new(Desk {
            credentials: Arc::clone(&credentials),
            registrar: Registrar::new(
                store,
                Arc::new(SystemClock),
                ExternalSigner::new(Arc::clone(&credentials)),
            ),
            forwarder: Arc::new(Forwarder::new(Arc::clone(&group), Arc::clone(&client), node)),
            group,
            dispatcher: std::sync::Mutex::default(),
        });
        listener.serve(socket, Arc::clone(&credentials), Arc::new(OpenDesk(Arc::clone(&desk))));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (fated, fate) = watch::channel(ManagerFate::Serving);
        tasks.spawn(leader::follow(Arc::clone(&desk), node, stop.clone()));
        tasks.spawn(keys::follow(Arc::clone(&desk), stop.clone()));
        tasks.spawn(keys::renew_when_expired(Arc::clone(&desk), stop.clone()));
        tasks.spawn(follow_fate(Arc::clone(&desk.group), fated, stop.clone()));
        Ok(Arc::new(Self { credentials, address, desk, client, listener, fate, stop, tasks }))
    }

    /// Begins to hand over from the authority with which the cluster began to one outside, which has its own key.
    async fn hand_authority_over(&self, outside: SigningAuthority) -> Result<(), ClusterError> {
        let (cluster, _) = self.inspect().await?;
        let rotation = Rotation { signing: Some(outside), ..Rotation::default() };
        self.update(cluster.meta.version, cluster.spec, rotation).await
    }

    /// Waits until this node leads and its parts are there.
    async fn wait_until_ready(&self) -> Result<(), ClusterError> {
        self.desk.group.wait_for(READY_LIMIT, |now| matches!(now, Leadership::Here(_))).await?;
        self.desk.forwarder.inspect().await.map(|_| ())
    }

    /// Tells the leader, through any of `remotes`, that this member is there and where; returns when this node votes.
    async fn announce(&self, remotes: Vec<SocketAddr>) -> Result<(), ClusterError> {
        announce(&self.desk.group, &self.client, self.address, remotes).await
    }

    /// Lets the others know when this manager listens elsewhere than before.
    fn keep_address_known(&self) {
        let (group, client, address) = (Arc::clone(&self.desk.group), Arc::clone(&self.client), self.address);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let id = group.id();
            let is_known = |members: &[MemberStatus]| {
                members.iter().any(|status| status.id == id && status.member.address == address)
            };
            let members = group.members();
            if is_known(&members) {
                return;
            }
            let others = members.into_iter().filter(|status| status.id != id);
            let remotes = others.map(|status| status.member.address).chain([address]).collect();
            // May be dropped: it is begun anew at the next start.
            tokio::select! {
                announced = announce(&group, &client, address, remotes) => {
                    if let Err(error) = announced {
                        tracing::warn!(%error, "the new address could not be made known");
                    }
                }
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Asks for membership until it is granted. Refusals that will stay are final.
async fn announce(
    group: &Group,
    client: &RpcClient,
    address: SocketAddr,
    remotes: Vec<SocketAddr>,
) -> Result<(), ClusterError> {
    let question = JoinGroup { id: group.id(), address };
    let mut ask = remotes.clone();
    let mut rest = remotes.iter().cycle();
    loop {
        let Some(to) = ask.pop().or_else(|| rest.next().copied()) else {
            return Err(ClusterError::Unreachable("no manager is known".to_owned()));
        };
        match client.call::<_, ()>(to, paths::RAFT_JOIN, &question, JOIN_LIMIT).await {
            Ok(()) => break,
            Err(ClusterError::NotLeader(Some(leader))) => ask.push(leader),
            Err(error)
                if error.kind() == ErrorKind::InvalidArgument || error.kind() == ErrorKind::Forbidden =>
            {
                return Err(error);
            }
            Err(error) => {
                tracing::info!(%error, "the managers' group does not take this member yet");
                // The managers do not tell when they would take this member.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    group.until_voting().await
}

async fn follow_fate(group: Arc<Group>, fate: watch::Sender<ManagerFate>, stop: CancellationToken) {
    let mut removed = group.removed();
    // All may be dropped: each only waits for something that stays as it is once it has happened.
    tokio::select! {
        seen = removed.wait_for(|removed| *removed) => {
            if seen.is_ok() {
                fate.send_replace(ManagerFate::Removed);
            }
        }
        reason = group.failure() => {
            tracing::error!(reason, "this manager cannot go on");
            fate.send_replace(ManagerFate::Failed(reason));
        }
        () = stop.cancelled() => {}
    }
}

/// Removes what a directory holds.
async fn clear(directory: &Path) -> Result<(), ClusterError> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(ClusterError::local(format!("clearing {}", directory.display()), source))
        }
        _ => Ok(()),
    }
}

/// What a manager that wants to leave without force is told, in the words of swarm. Pure.
fn leave_warning(members: &[MemberStatus], leadership: Leadership) -> String {
    let mut text =
        "You are attempting to leave the swarm on a node that is participating as a manager. ".to_owned();
    let voters: Vec<_> = members.iter().filter(|member| member.is_voter).collect();
    let reachable = voters.iter().filter(|member| member.status.reachable).count();
    let unreachable = voters.len() - reachable;
    if leadership == Leadership::Nowhere {
        text.push_str("Doing so may lose the consensus of your cluster. ");
    } else if voters.len() <= 1 {
        text.push_str(
            "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. ",
        );
        return text;
    } else if reachable <= unreachable + 2 {
        text.push_str(&format!(
            "Removing this node leaves {} managers out of {}. Without a Raft quorum your swarm will be inaccessible. ",
            reachable - 1,
            voters.len()
        ));
    }
    text.push_str(
        "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use \
         `--force` to suppress this message.",
    );
    text
}

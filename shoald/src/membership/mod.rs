//! Whether this machine belongs to a cluster, and what it does there: begins and ends manager and worker.
//!
//! Start reading at [`SwarmMembership`], the port for the front end; [`owner`] holds what runs and is the only one to change it.
//! `address.rs` finds out where this node is (pure), `record.rs` keeps that, `dispatcher.rs` leads the worker to the managers, `switch.rs`
//! the front end to this machine's manager, `events.rs` tells what happens there, `restore.rs` makes a
//! manager of a backup. It is here and not in one of the two crates because
//! both begin and end together.
//!
//! ```text
//! <data-root>/swarm/
//! ├── certificates/node.json   who this machine is (manager::ca)
//! ├── manager/                 the replicated store, of managers only (manager::raft)
//! └── membership.json          addresses and known managers (record.rs)
//! ```

mod address;
mod dispatcher;
mod events;
mod member;
mod owner;
mod record;
pub(crate) mod restore;
mod switch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manager::ClusterError;
use manager::api::Cluster;
use manager::api::membership::{
    InitRequest, JoinRequest, LeaveForce, Membership, Rotation, Standing, Surroundings,
};
use manager::node::ManagerNode;
use node_agent::api::Node;
use node_agent::events::EventLog;
use node_agent::store::Store;
use node_agent::worker::{DescribeRequest, Overlays, TaskFiles};
use shoal_types::cluster::service::GenericResource;
use shoal_types::cluster::settings::{Cluster as ClusterObject, ClusterSpec, JoinTokens};
use shoal_types::{ErrorKind, NodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use owner::{Owner, Wish};
use switch::{Switch, refusal};

/// How long a client waits for a cluster to be begun or joined, and a starting daemon for its manager.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the swarm part may take to end with the daemon: long enough to hand leadership over.
const STOP_LIMIT: Duration = Duration::from_secs(8);
/// Requests that may wait for the owner. Clients send one at a time; more than this is a mistake.
const N_WAITING: usize = 16;

const JOIN_GOES_ON: &str = "Timeout was reached before node joined. The attempt to join the swarm will continue in the \
     background. Use the \"docker info\" command to see the current swarm status of your node.";

/// What the swarm part is made of.
pub(crate) struct MembershipParts {
    /// The node's ports.
    pub(crate) node: Node,
    /// The node's database.
    pub(crate) store: Store,
    /// Where things are, and what the administrator has said.
    pub(crate) settings: MembershipSettings,
}

/// Settings of the swarm part.
#[derive(Debug, Clone)]
pub(crate) struct MembershipSettings {
    /// `<data-root>/swarm`.
    pub(crate) directory: PathBuf,
    /// Where and whose secrets and configs of tasks are.
    pub(crate) files: TaskFiles,
    /// What to advertise unless a request says otherwise; empty to find out.
    pub(crate) default_advertise: String,
    /// Named resources of this node.
    pub(crate) generic: Vec<(String, GenericResource)>,
    /// Version of the engine.
    pub(crate) engine_version: String,
    /// Networks that span nodes.
    pub(crate) overlays: Arc<dyn Overlays>,
    /// What writes down what a task's container was asked to be.
    pub(crate) describe: DescribeRequest,
}

/// What everybody may see of the membership.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    /// What this machine is in a cluster.
    standing: Standing,
    /// Where it and the managers are.
    surroundings: Surroundings,
    /// The manager on this machine.
    manager: Option<Arc<ManagerNode>>,
    /// Its ports.
    cluster: Option<Cluster>,
}

/// The handle. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SwarmMembership {
    wishes: mpsc::Sender<Wish>,
    published: watch::Receiver<Published>,
    owner: Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
}

impl SwarmMembership {
    /// Takes up what this machine was when the daemon before ended. Waits for its manager, but not for other nodes.
    pub(crate) async fn open(parts: MembershipParts) -> Self {
        let (wishes, incoming) = mpsc::channel(N_WAITING);
        let (publish, published) = watch::channel(Published::default());
        let membership = Self { wishes, published, owner: Arc::default() };
        let owner = Owner::new(parts, publish, membership.clone());
        let (begun, has_begun) = oneshot::channel();
        let running = tokio::spawn(owner.run(incoming, begun));
        if let Ok(mut owner) = membership.owner.lock() {
            *owner = Some(running);
        }
        if tokio::time::timeout(PATIENCE, has_begun).await.is_err() {
            tracing::warn!("the swarm part is not ready yet; serving without it");
        }
        membership
    }

    /// The cluster's ports for the front end.
    pub(crate) fn cluster(&self) -> Cluster {
        Switch { published: self.published.clone() }.bundle(Arc::new(self.clone()))
    }

    /// Writes what happens to objects of the cluster into the node's events for as long as the membership lives. A keeper of
    /// the daemon runs it; it may be dropped at any time.
    pub(crate) async fn relay_events(&self, log: EventLog) {
        events::relay(self.published.clone(), log).await;
    }

    /// Ends manager and worker; tasks go on. The next daemon takes everything up.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        let ending = async {
            if self.wishes.send(Wish::Stop(done)).await.is_ok() {
                // Without an answer the owner has died, and there is nothing to wait for.
                let _ = stopped.await;
            }
        };
        if tokio::time::timeout(STOP_LIMIT, ending).await.is_err() {
            tracing::warn!("the swarm part has not ended in time and is cut off");
        }
        let owner = self.owner.lock().ok().and_then(|mut owner| owner.take());
        if let Some(owner) = owner {
            owner.abort();
        }
    }

    async fn ask<T>(
        &self,
        wish: impl FnOnce(oneshot::Sender<Result<T, ClusterError>>) -> Wish,
        late: &str,
    ) -> Result<T, ClusterError> {
        let (reply, outcome) = oneshot::channel();
        self.wishes.try_send(wish(reply)).map_err(|_| unavailable("the swarm part is busy or ending"))?;
        match tokio::time::timeout(PATIENCE, outcome).await {
            Ok(outcome) => outcome.unwrap_or_else(|_| Err(unavailable("the attempt was given up"))),
            Err(_) => Err(unavailable(late)),
        }
    }

    fn manager(&self) -> Result<Arc<ManagerNode>, ClusterError> {
        let published = self.published.borrow();
        published.manager.clone().ok_or_else(|| refusal(&published.standing))
    }
}

fn unavailable(message: &str) -> ClusterError {
    ClusterError::Refused { kind: ErrorKind::Unavailable, message: message.to_owned() }
}

#[async_trait]
impl Membership for SwarmMembership {
    fn standing(&self) -> Standing {
        self.published.borrow().standing.clone()
    }

    fn surroundings(&self) -> Surroundings {
        let published = self.published.borrow();
        let mut surroundings = published.surroundings.clone();
        if let Some(manager) = &published.manager {
            surroundings.managers = manager.managers();
        }
        surroundings
    }

    async fn init(&self, request: InitRequest) -> Result<NodeId, ClusterError> {
        self.ask(|reply| Wish::Init(Box::new(request), reply), "context deadline exceeded").await
    }

    async fn join(&self, request: JoinRequest) -> Result<(), ClusterError> {
        self.ask(|reply| Wish::Join(Box::new(request), reply), JOIN_GOES_ON).await
    }

    async fn leave(&self, force: LeaveForce) -> Result<(), ClusterError> {
        self.ask(|reply| Wish::Leave(force, reply), "context deadline exceeded").await
    }

    async fn unlock(&self, key: &str) -> Result<(), ClusterError> {
        let key = key.to_owned();
        self.ask(|reply| Wish::Unlock(key, reply), "context deadline exceeded").await
    }

    async fn unlock_key(&self) -> Result<String, ClusterError> {
        self.manager()?.unlock_key().await
    }

    async fn backup(&self) -> Result<String, ClusterError> {
        self.manager()?.backup().await
    }

    async fn inspect(&self) -> Result<(ClusterObject, JoinTokens), ClusterError> {
        self.manager()?.inspect().await
    }

    async fn update(&self, version: u64, spec: ClusterSpec, rotate: Rotation) -> Result<(), ClusterError> {
        self.manager()?.update(version, spec, rotate).await
    }
}

//! The owner of the membership: the one task that changes what this machine is in a cluster.
//!
//! Start reading at [`Owner::run`]. Inputs: wishes of clients, what the leader says through the worker's session, what becomes of the
//! manager, and the outcome of work that takes long ([`Outcome`]), which runs beside so that a client can always leave. Output: what is
//! published. A client that goes away changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use manager::ClusterError;
use manager::api::membership::{InitRequest, JoinRequest, LeaveForce, Standing, Surroundings};
use manager::ca::Credentials;
use manager::node::{ManagerConfig, ManagerFate, ManagerNode, NewCluster};
use manager::worker_client::{Enrolment, WorkerClient, enrol};
use node_agent::api::networks::NetworkFilter;
use shoal_types::cluster::node::NodeRole;
use shoal_types::{ErrorKind, NodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::address::{self, Addresses, Advertising, System, Wanted};
use super::member::{Member, manager_config};
use super::record::Record;
use super::{MembershipParts, Published, SwarmMembership, unavailable};

/// Pools from which networks of the cluster are cut unless the administrator says otherwise.
const DEFAULT_POOL: &str = "10.0.0.0/8";
const DEFAULT_SUBNET_SIZE: u8 = 24;
const DEFAULT_DATA_PATH_PORT: u16 = 4789;
/// How long to wait before an attempt to join or to start a manager is repeated: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How long saying goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

const ALREADY_A_MEMBER: &str = "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and \
     join another one.";
const NO_REMOTE: &str = "at least 1 RemoteAddr is required to join";
const LOCKED_LEAVE: &str =
    "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.";

type Reply<T> = oneshot::Sender<Result<T, ClusterError>>;

/// What clients wish.
pub(super) enum Wish {
    Init(Box<InitRequest>, Reply<NodeId>),
    Join(Box<JoinRequest>, Reply<()>),
    Leave(LeaveForce, Reply<()>),
    Unlock(String, Reply<()>),
    Stop(oneshot::Sender<()>),
}

/// What long work has led to.
enum Outcome {
    /// A cluster was begun.
    Begun(Record, Result<Arc<ManagerNode>, ClusterError>),
    /// The cluster that was asked has let this machine in.
    Enrolled(Record, Result<Arc<Credentials>, ClusterError>),
    /// This node's manager runs, or cannot.
    Managing(Result<Arc<ManagerNode>, ClusterError>),
    /// This node holds a certificate for the role that the cluster wants.
    Renewed(Result<(), ClusterError>),
}

/// Who waits for this machine to be a node.
enum Waiting {
    Init(Reply<NodeId>),
    Join(Reply<()>),
}

impl Waiting {
    fn answer(self, outcome: Result<NodeId, ClusterError>) {
        // Whoever has gone does not need the answer.
        match self {
            Self::Init(reply) => drop(reply.send(outcome)),
            Self::Join(reply) => drop(reply.send(outcome.map(|_| ()))),
        }
    }
}

/// The owner.
pub(super) struct Owner {
    parts: MembershipParts,
    publish: watch::Sender<Published>,
    /// The handle that managers' ports carry back to the front end.
    handle: SwarmMembership,
    member: Option<Member>,
    is_locked: bool,
    work: Option<JoinHandle<Outcome>>,
    /// Whether that work is to start the manager, which a change of role ends.
    is_starting_manager: bool,
    waiting: Option<Waiting>,
    failures: u32,
}

/// What happens next to the owner.
enum Event {
    Wish(Wish),
    Worked(Outcome),
    Session,
    Fate(ManagerFate),
    Gone,
}

impl Owner {
    pub(super) fn new(
        parts: MembershipParts,
        publish: watch::Sender<Published>,
        handle: SwarmMembership,
    ) -> Self {
        Self {
            parts,
            publish,
            handle,
            member: None,
            is_locked: false,
            work: None,
            is_starting_manager: false,
            waiting: None,
            failures: 0,
        }
    }

    /// Takes up what this machine was, says when it has begun, and serves until the daemon ends.
    pub(super) async fn run(mut self, mut wishes: mpsc::Receiver<Wish>, begun: oneshot::Sender<()>) {
        self.resume(None).await;
        let mut begun = Some(begun);
        loop {
            self.publish();
            if self.work.is_none()
                && let Some(begun) = begun.take()
            {
                // The daemon may have given up waiting.
                let _ = begun.send(());
            }
            match self.next(&mut wishes).await {
                Event::Wish(Wish::Stop(done)) => {
                    self.stop().await;
                    let _ = done.send(());
                    return;
                }
                Event::Wish(wish) => self.grant(wish).await,
                Event::Worked(outcome) => {
                    self.work = None;
                    self.take(outcome).await;
                }
                Event::Session => self.heed_session(),
                Event::Fate(fate) => self.heed_fate(fate).await,
                Event::Gone => return,
            }
        }
    }

    async fn next(&mut self, wishes: &mut mpsc::Receiver<Wish>) -> Event {
        let work = async {
            match &mut self.work {
                Some(work) => work.await,
                None => std::future::pending().await,
            }
        };
        let (session, fate) = match &mut self.member {
            Some(member) => {
                let fate = member.manager.as_ref().map(|manager| manager.fate());
                (Some(&mut member.connection), fate)
            }
            None => (None, None),
        };
        tokio::select! {
            // All may be dropped: queue, handle and channels keep what has not been taken.
            wish = wishes.recv() => wish.map_or(Event::Gone, Event::Wish),
            worked = work => match worked {
                Ok(outcome) => Event::Worked(outcome),
                Err(error) => {
                    tracing::error!(%error, "work of the swarm part has died");
                    Event::Worked(Outcome::Managing(Err(unavailable("work of the swarm part has died"))))
                }
            },
            () = changed(session) => Event::Session,
            fate = fated(fate) => Event::Fate(fate),
        }
    }

    fn publish(&self) {
        let published = match &self.member {
            Some(member) => {
                let cluster =
                    member.manager.as_ref().map(|manager| manager.ports(Arc::new(self.handle.clone())));
                Published {
                    standing: member.standing(),
                    surroundings: member.surroundings(),
                    manager: member.manager.clone(),
                    cluster,
                }
            }
            None => Published {
                standing: match (self.is_locked, &self.work) {
                    (true, _) => Standing::Locked,
                    (false, Some(_)) => Standing::Pending,
                    (false, None) => Standing::Inactive,
                },
                surroundings: Surroundings::default(),
                manager: None,
                cluster: None,
            },
        };
        self.publish.send_replace(published);
    }

    async fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Init(request, reply) => {
                if let Err(error) = self.begin_init(*request).await {
                    let _ = reply.send(Err(error));
                } else {
                    self.waiting = Some(Waiting::Init(reply));
                }
            }
            Wish::Join(request, reply) => {
                if let Err(error) = self.begin_join(*request).await {
                    let _ = reply.send(Err(error));
                } else {
                    self.waiting = Some(Waiting::Join(reply));
                }
            }
            Wish::Leave(force, reply) => {
                let left = self.leave(force).await;
                let _ = reply.send(left);
            }
            Wish::Unlock(key, reply) => {
                let outcome = self.unlock(&key).await;
                let _ = reply.send(outcome);
            }
            // Taken by `run`.
            Wish::Stop(_) => {}
        }
    }

    async fn begin_init(&mut self, request: InitRequest) -> Result<(), ClusterError> {
        if request.force_new_cluster && self.member.is_some() {
            return self.begin_anew(&request).await;
        }
        self.refuse_members()?;
        let wanted =
            Wanted { listen: &request.listen, advertise: &request.advertise, data_path: &request.data_path };
        let found = self.resolve(wanted, Advertising::Required).await?;
        let advertise = found.advertise.ok_or_else(|| unavailable("no address to advertise"))?;
        let record = Record::new(found.listen, advertise, found.data_path);
        let pools = match request.address_pools.is_empty() {
            true => DEFAULT_POOL.parse().into_iter().collect(),
            false => request.address_pools,
        };
        let or = |given: u16, default| if given == 0 { default } else { given };
        let cluster = NewCluster {
            spec: request.spec,
            address_pools: pools,
            subnet_size: if request.subnet_size == 0 { DEFAULT_SUBNET_SIZE } else { request.subnet_size },
            data_path_port: or(request.data_path_port, DEFAULT_DATA_PATH_PORT),
            availability: request.availability,
            signing: request.signing,
        };
        self.wipe().await;
        let config = manager_config(&self.parts.settings, &record);
        self.work(async move {
            let begun = ManagerNode::init(config, cluster).await;
            Outcome::Begun(record, begun)
        });
        Ok(())
    }

    /// Goes on alone with the state of a cluster that has lost its quorum.
    async fn begin_anew(&mut self, request: &InitRequest) -> Result<(), ClusterError> {
        let wanted =
            Wanted { listen: &request.listen, advertise: &request.advertise, data_path: &request.data_path };
        // Without a wish the node keeps the address that it has.
        let found = match request.advertise.is_empty() {
            true => None,
            false => Some(self.resolve(wanted, Advertising::Required).await?),
        };
        let Some(member) = &mut self.member else { return Err(ClusterError::NotAMember) };
        if member.credentials.role() != NodeRole::Manager {
            return Err(ClusterError::Worker);
        }
        if let Some(Addresses { listen, advertise: Some(advertise), .. }) = found {
            member.record.listen = listen;
            member.record.advertise = advertise;
        }
        member.record.managers = vec![member.record.advertise];
        keep(&self.parts.settings.directory, &member.record);
        let (manager, credentials) = (member.manager.take(), Arc::clone(&member.credentials));
        let config = manager_config(&self.parts.settings, &member.record);
        self.work(async move {
            if let Some(manager) = manager {
                manager.stop().await;
            }
            Outcome::Managing(ManagerNode::force_new_cluster(config, credentials).await)
        });
        Ok(())
    }

    async fn begin_join(&mut self, request: JoinRequest) -> Result<(), ClusterError> {
        self.refuse_members()?;
        if request.remotes.is_empty() {
            return Err(ClusterError::Refused {
                kind: ErrorKind::InvalidArgument,
                message: NO_REMOTE.to_owned(),
            });
        }
        let wanted =
            Wanted { listen: &request.listen, advertise: &request.advertise, data_path: &request.data_path };
        let found = self.resolve(wanted, Advertising::Optional).await?;
        self.wipe().await;
        let directory = self.parts.settings.directory.join("certificates");
        self.work(join(directory, request, found));
        Ok(())
    }

    fn refuse_members(&self) -> Result<(), ClusterError> {
        if self.is_locked {
            return Err(ClusterError::Locked);
        }
        if self.member.is_some() || self.work.is_some() {
            return Err(unavailable(ALREADY_A_MEMBER));
        }
        Ok(())
    }

    async fn resolve(&self, wanted: Wanted<'_>, advertising: Advertising) -> Result<Addresses, ClusterError> {
        let networks = self.parts.node.networks.list(NetworkFilter::default()).await;
        let subnets = networks.iter().flatten().flat_map(|network| &network.spec.ipam.pools);
        let system = System {
            interfaces: address::interfaces().map_err(|error| unavailable(&error.to_string()))?,
            own_subnets: subnets.filter_map(|pool| pool.subnet).collect(),
            default_advertise: self.parts.settings.default_advertise.clone(),
        };
        address::resolve(wanted, &system, advertising)
    }

    /// Runs work beside; its outcome is an event.
    fn work(&mut self, work: impl Future<Output = Outcome> + Send + 'static) {
        self.give_up_work();
        self.is_starting_manager = false;
        self.work = Some(tokio::spawn(work));
    }

    fn give_up_work(&mut self) {
        if let Some(work) = self.work.take() {
            work.abort();
        }
    }

    async fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Begun(record, Ok(manager)) => {
                let credentials = manager.credentials();
                self.settle(record, credentials, Some(manager)).await;
            }
            Outcome::Enrolled(record, Ok(credentials)) => self.settle(record, credentials, None).await,
            Outcome::Begun(_, Err(error)) | Outcome::Enrolled(_, Err(error)) => {
                tracing::warn!(%error, "this machine has become no node of a cluster");
                self.wipe().await;
                self.answer(Err(error));
            }
            Outcome::Managing(Ok(manager)) => {
                tracing::info!(node.id = %manager.node_id(), "this node is a manager");
                self.failures = 0;
                if let Some(member) = &mut self.member {
                    member.client.learn_managers(&manager.managers());
                    member.trouble = None;
                    member.manager = Some(manager);
                }
                self.heed_session();
            }
            Outcome::Managing(Err(error)) => {
                tracing::warn!(%error, "the manager of this node does not run");
                self.failures += 1;
                if let Some(member) = &mut self.member {
                    member.trouble = Some(error.to_string());
                }
                if self.waiting.is_some() && is_final(&error) {
                    self.leave_for_good().await;
                    self.answer(Err(error));
                } else {
                    self.start_manager();
                }
            }
            Outcome::Renewed(Ok(())) => self.heed_role().await,
            Outcome::Renewed(Err(error)) => {
                tracing::warn!(%error, "no certificate of the wanted role and authority yet");
                self.failures += 1;
                if let Some(member) = &mut self.member {
                    member.renewed_in = None;
                }
                self.heed_session();
            }
        }
    }

    /// This machine has become a node: keeps that, starts its worker, and its manager if it is to have one.
    async fn settle(
        &mut self,
        record: Record,
        credentials: Arc<Credentials>,
        manager: Option<Arc<ManagerNode>>,
    ) {
        keep(&self.parts.settings.directory, &record);
        let started =
            Member::start(&self.parts.node, &self.parts.store, &self.parts.settings, record, credentials)
                .await;
        match started {
            Ok(mut member) => {
                tracing::info!(node.id = %member.node_id(), "this machine is a node of a cluster");
                member.manager = manager;
                self.member = Some(member);
                self.start_manager();
            }
            Err(error) => {
                tracing::error!(%error, "the worker of this node cannot start");
                if let Some(manager) = manager {
                    manager.stop().await;
                }
                self.answer(Err(error));
            }
        }
    }

    /// Starts the manager of a node that should have one and has none: from disk, else by joining the others.
    fn start_manager(&mut self) {
        let pause = pause_after(self.failures);
        let Some(member) = &self.member else { return };
        if member.manager.is_some() || member.credentials.role() != NodeRole::Manager {
            return;
        }
        let config = manager_config(&self.parts.settings, &member.record);
        let (credentials, remotes) = (Arc::clone(&member.credentials), member.known_managers());
        self.work(async move {
            // The back-off before a manager that has ended is started again.
            tokio::time::sleep(pause).await;
            Outcome::Managing(run_manager(config, credentials, remotes).await)
        });
        self.is_starting_manager = true;
    }

    /// Heeds what the leader says: which managers there are, and which role this node shall have.
    fn heed_session(&mut self) {
        let Some(member) = &mut self.member else { return };
        let Some(message) = member.message() else { return };
        member.is_settled = true;
        let managers: Vec<SocketAddr> = message.managers.iter().map(|peer| peer.address).collect();
        if !managers.is_empty() && member.record.managers != managers {
            member.record.managers = managers;
            keep(&self.parts.settings.directory, &member.record);
        }
        let is_complete = member.credentials.role() == NodeRole::Worker || member.manager.is_some();
        let is_other_role = message.role != member.credentials.role();
        let id = member.node_id();
        let is_free = self.work.is_none() || (is_other_role && self.is_starting_manager);
        let must_renew = message.renew && member.renewed_in.as_ref() != Some(&message.id);
        if (must_renew || is_other_role) && is_free {
            member.renewed_in = Some(message.id.clone());
            let client = Arc::clone(&member.client);
            let pause = pause_after(self.failures);
            self.work(renew(client, pause));
        }
        if is_complete {
            self.answer(Ok(id));
        }
    }

    /// The certificate is for the wanted role: starts or ends the manager.
    async fn heed_role(&mut self) {
        let Some(member) = &self.member else { return };
        let role = member.credentials.role();
        let is_wanted = member.message().is_none_or(|message| message.role == role);
        match role {
            NodeRole::Manager => self.start_manager(),
            NodeRole::Worker => self.end_manager().await,
        }
        if is_wanted {
            self.failures = 0;
        } else {
            // The manager that issued was behind; it is asked again after a while.
            self.failures += 1;
            self.heed_session();
        }
    }

    async fn end_manager(&mut self) {
        let Some(manager) = self.member.as_mut().and_then(|member| member.manager.take()) else { return };
        // Nobody shall be led to it any more while it ends.
        self.publish();
        manager.stop().await;
        tracing::info!("this node is no manager any more");
        let store = self.parts.settings.directory.join("manager");
        if let Err(error) = remove(&store).await {
            tracing::warn!(%error, "the manager's store cannot be removed");
        }
    }

    async fn heed_fate(&mut self, fate: ManagerFate) {
        match fate {
            ManagerFate::Serving => {}
            // The role follows with the next word of the leader.
            ManagerFate::Removed => self.end_manager().await,
            ManagerFate::Failed(reason) => {
                tracing::error!(reason, "the manager of this node has failed and is started again");
                self.failures += 1;
                if let Some(manager) = self.member.as_mut().and_then(|member| member.manager.take()) {
                    manager.stop().await;
                }
                self.start_manager();
            }
        }
    }

    fn answer(&mut self, outcome: Result<NodeId, ClusterError>) {
        if let Some(waiting) = self.waiting.take() {
            waiting.answer(outcome);
        }
    }

    async fn unlock(&mut self, key: &str) -> Result<(), ClusterError> {
        if !self.is_locked {
            return Err(match self.member {
                Some(_) => ClusterError::NotLocked,
                None => ClusterError::NotAMember,
            });
        }
        let directory = self.parts.settings.directory.join("certificates");
        Credentials::load(&directory, Some(key))?;
        self.is_locked = false;
        self.resume(Some(key)).await;
        Ok(())
    }

    /// Takes up what the disk says that this machine is.
    async fn resume(&mut self, key: Option<&str>) {
        let settings = self.parts.settings.clone();
        let credentials = match Credentials::load(&settings.directory.join("certificates"), key) {
            Ok(Some(credentials)) => credentials,
            Ok(None) => return self.wipe().await,
            Err(ClusterError::Locked) => {
                self.is_locked = true;
                return;
            }
            Err(error) => {
                tracing::error!(%error, "this node's certificate cannot be used");
                return;
            }
        };
        let record = match Record::load(&settings.directory) {
            Ok(Some(record)) => record,
            outcome => {
                tracing::error!(
                    ?outcome,
                    "this node's addresses are lost; it cannot take part in its cluster"
                );
                return;
            }
        };
        self.settle(record, credentials, None).await;
        if let Some(member) = &mut self.member {
            member.is_settled = true;
        }
    }

    async fn leave(&mut self, force: LeaveForce) -> Result<(), ClusterError> {
        if self.is_locked && force == LeaveForce::No {
            return Err(unavailable(LOCKED_LEAVE));
        }
        if !self.is_locked && self.member.is_none() && self.work.is_none() {
            return Err(ClusterError::NothingToLeave);
        }
        if let Some(manager) = self.member.as_ref().and_then(|member| member.manager.as_ref())
            && force == LeaveForce::No
        {
            manager.check_leave()?;
        }
        self.leave_for_good().await;
        self.answer(Err(unavailable("this node has left the swarm")));
        Ok(())
    }

    /// Takes away everything that makes this machine a node.
    async fn leave_for_good(&mut self) {
        self.give_up_work();
        self.failures = 0;
        if let Some(member) = self.member.take() {
            // Nothing shall be asked of it while it ends.
            self.publish();
            let Member { worker, client, manager, .. } = member;
            worker.leave().await;
            let goodbye = tokio::time::timeout(GOODBYE_LIMIT, client.say_goodbye()).await;
            if !matches!(goodbye, Ok(Ok(()))) {
                tracing::debug!("managers could not be told that this node leaves");
            }
            drop(client);
            if let Some(manager) = manager {
                manager.stop().await;
            }
        }
        self.is_locked = false;
        self.wipe().await;
        tracing::info!("this machine is no node of a cluster any more");
    }

    /// Takes away what the disk says of a membership.
    async fn wipe(&self) {
        if let Err(error) = remove(&self.parts.settings.directory).await {
            tracing::warn!(%error, "the swarm directory cannot be removed");
        }
    }

    async fn stop(&mut self) {
        self.give_up_work();
        if let Some(member) = self.member.take() {
            let Member { worker, client, manager, .. } = member;
            worker.stop().await;
            // A manager waits for its clients when it ends, and this is one of them.
            drop(client);
            if let Some(manager) = manager {
                manager.stop().await;
            }
        }
    }
}

async fn changed(session: Option<&mut watch::Receiver<node_agent::worker::Connection>>) {
    match session {
        Some(session) => {
            if session.changed().await.is_err() {
                // The worker ends; whoever ends it says so.
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

async fn fated(fate: Option<watch::Receiver<ManagerFate>>) -> ManagerFate {
    let Some(mut fate) = fate else { return std::future::pending().await };
    let decided = fate.wait_for(|fate| *fate != ManagerFate::Serving).await.map(|fate| fate.clone());
    match decided {
        Ok(fate) => fate,
        Err(_) => std::future::pending().await,
    }
}

/// Lets this machine into a cluster, trying for as long as no manager has refused.
async fn join(directory: std::path::PathBuf, request: JoinRequest, found: Addresses) -> Outcome {
    let mut failures = 0;
    loop {
        let (remotes, advertise) = find(&request.remotes, &found).await;
        let mut record = Record::new(found.listen, advertise, found.data_path);
        record.managers.clone_from(&remotes);
        let enrolment = Enrolment {
            directory: directory.clone(),
            remotes,
            token: request.token.clone(),
            availability: request.availability,
        };
        let outcome = enrol(enrolment).await;
        match outcome {
            Err(error) if !is_final(&error) => {
                tracing::info!(%error, "no manager lets this machine in yet");
                failures += 1;
                // A cluster without a leader does not say when it has one.
                tokio::time::sleep(pause_after(failures)).await;
            }
            outcome => return Outcome::Enrolled(record, outcome),
        }
    }
}

/// Where the managers are, and where this machine is if it has to look at the way to them.
async fn find(remotes: &[String], found: &Addresses) -> (Vec<SocketAddr>, SocketAddr) {
    let mut addresses = Vec::new();
    for remote in remotes {
        match tokio::net::lookup_host(address::remote(remote)).await {
            Ok(found) => addresses.extend(found),
            Err(error) => tracing::info!(remote, %error, "manager has no address"),
        }
    }
    let advertise = match (found.advertise, addresses.first()) {
        (Some(advertise), _) => advertise,
        (None, Some(remote)) => SocketAddr::new(source_towards(*remote).await, found.listen.port()),
        (None, None) => found.listen,
    };
    (addresses, advertise)
}

/// The address from which packets to a remote leave. Nothing is sent.
async fn source_towards(remote: SocketAddr) -> IpAddr {
    let unspecified: IpAddr = match remote {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let looked = async {
        let socket = tokio::net::UdpSocket::bind((unspecified, 0)).await?;
        socket.connect(remote).await?;
        socket.local_addr()
    };
    looked.await.map_or(unspecified, |source| source.ip())
}

async fn renew(client: Arc<WorkerClient>, pause: Duration) -> Outcome {
    // Until the certificate is old enough to be renewed.
    tokio::time::sleep(pause).await;
    Outcome::Renewed(client.renew().await)
}

async fn run_manager(
    config: ManagerConfig,
    credentials: Arc<Credentials>,
    remotes: Vec<SocketAddr>,
) -> Result<Arc<ManagerNode>, ClusterError> {
    match ManagerNode::start(config.clone(), Arc::clone(&credentials)).await {
        Err(ClusterError::NotBegun) => {
            let others = remotes.into_iter().filter(|remote| *remote != config.advertise).collect();
            ManagerNode::join(config, credentials, others).await
        }
        started => started,
    }
}

/// Whether the same attempt can never succeed.
fn is_final(error: &ClusterError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidArgument
            | ErrorKind::Forbidden
            | ErrorKind::Unauthorized
            | ErrorKind::NotImplemented
    )
}

fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        failures => PAUSES.0.saturating_mul(1 << failures.min(10)).min(PAUSES.1),
    }
}

fn keep(directory: &std::path::Path, record: &Record) {
    if let Err(error) = record.store(directory) {
        tracing::error!(%error, "this node's addresses cannot be kept");
    }
}

async fn remove(directory: &std::path::Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        assert_eq!(pause_after(0), Duration::ZERO);
        assert_eq!(pause_after(1), Duration::from_millis(200));
        assert_eq!(pause_after(40), PAUSES.1);
    }

    #[test]
    fn refusals_end_an_attempt_and_silence_does_not() {
        assert!(is_final(&ClusterError::WrongJoinToken));
        assert!(is_final(&ClusterError::InvalidJoinToken));
        assert!(!is_final(&ClusterError::NoLeader));
        assert!(!is_final(&ClusterError::Unreachable("x".to_owned())));
    }
}

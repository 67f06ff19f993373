//! Requests of the front end: answered here while this manager leads, by the leader otherwise.
//!
//! Start reading at [`Forwarder`], which implements the ports of [`crate::api`], and at the list in `ports!` below it: each method of a port is one
//! [`Request`] that travels as JSON. A request that no leader has begun to work on is repeated with the next one for a few
//! seconds, so that clients do not notice an election; one whose outcome is unknown is repeated only if it reads.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::node::{Node, NodeSpec};
use shoal_types::cluster::secret::{Config, ConfigSpec, Secret, SecretSpec};
use shoal_types::cluster::service::{RegistryCredentials, Service, ServiceSpec};
use shoal_types::cluster::settings::{Cluster, ClusterSpec, JoinTokens};
use shoal_types::cluster::task::Task;
use shoal_types::network::NetworkSpec;
use shoal_types::{ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId};

use crate::api::ObjectFilter;
use crate::api::membership::Rotation;
use crate::api::networks::Networks;
use crate::api::nodes::{NodeFilter, Nodes, RemoveForce};
use crate::api::secrets::{Configs, Secrets};
use crate::api::services::{ServiceFilter, ServiceUpdate, Services, TaskCounts};
use crate::api::tasks::{TaskFilter, Tasks};
use crate::error::ClusterError;
use crate::raft::{Group, Leadership};
use crate::rpc::client::RpcClient;
use crate::rpc::paths;
use crate::rpc::server::Reply;

/// How long a request waits for a leader before it fails.
const LEADER_LIMIT: Duration = Duration::from_secs(8);
/// How long the leader may work on a request. Clients of the API wait for 20 seconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(50);

/// The cluster's own settings, as a port of the leader.
#[async_trait]
pub(crate) trait Settings: Send + Sync {
    /// The cluster and what lets machines join it.
    async fn inspect(&self) -> Result<(Cluster, JoinTokens), ClusterError>;

    /// Changes settings, if `version` is the newest.
    async fn update(&self, version: u64, spec: ClusterSpec, rotation: Rotation) -> Result<(), ClusterError>;

    /// The key that opens managers' keys; empty without autolock.
    async fn unlock_key(&self) -> Result<String, ClusterError>;

    /// The whole cluster as text.
    async fn backup(&self) -> Result<String, ClusterError>;
}

/// What answers on the leader.
#[derive(Clone)]
pub(crate) struct LeaderPorts {
    pub(crate) services: Arc<dyn Services>,
    pub(crate) tasks: Arc<dyn Tasks>,
    pub(crate) nodes: Arc<dyn Nodes>,
    pub(crate) networks: Arc<dyn Networks>,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) configs: Arc<dyn Configs>,
    pub(crate) settings: Arc<dyn Settings>,
}

/// The ports of one manager. Whoever leads fills in [`LeaderPorts`] and takes them away again.
pub(crate) struct Forwarder {
    group: Arc<Group>,
    client: Arc<RpcClient>,
    node: NodeId,
    local: Mutex<Option<LeaderPorts>>,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Who answers.
enum Route {
    Here(LeaderPorts),
    There(SocketAddr),
}

/// Whether a request may be repeated when its outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Writes,
}

impl Forwarder {
    /// Nothing is answered here yet.
    pub(crate) fn new(group: Arc<Group>, client: Arc<RpcClient>, node: NodeId) -> Self {
        Self { group, client, node, local: Mutex::default() }
    }

    /// Answers here from now on, or no longer.
    pub(crate) fn set_local(&self, local: Option<LeaderPorts>) {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = local;
    }

    /// Answers another manager's request if this one leads.
    pub(crate) async fn serve(&self, request: Request) -> Result<Reply, ClusterError> {
        if request.effect() == Effect::Reads {
            self.group.read_barrier().await?;
        }
        let local = self.local().ok_or(ClusterError::NotLeader(None))?;
        execute(&local, request).await
    }

    /// The service of that name, as the leader finds it.
    pub(crate) async fn services_inspect(&self, name: &str) -> Result<ServiceId, ClusterError> {
        Services::inspect(self, name).await.map(|service| service.id)
    }

    /// The task of that name, as the leader finds it.
    pub(crate) async fn tasks_inspect(&self, name: &str) -> Result<TaskId, ClusterError> {
        Tasks::inspect(self, name).await.map(|task| task.id)
    }

    fn local(&self) -> Option<LeaderPorts> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn route(&self, effect: Effect) -> Result<Route, ClusterError> {
        match *self.group.leadership().borrow() {
            Leadership::Here(_) => {}
            Leadership::At(leader) => return Ok(Route::There(leader)),
            Leadership::Nowhere => return Err(ClusterError::NoLeader),
        }
        if effect == Effect::Reads {
            self.group.read_barrier().await?;
        }
        self.local().map(Route::Here).ok_or(ClusterError::NotLeader(None))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        leader: SocketAddr,
        request: &Request,
    ) -> Result<T, ClusterError> {
        self.client.call(leader, paths::CONTROL, request, REQUEST_LIMIT).await
    }

    /// Whether to try again after a failure; waits a little if so.
    async fn may_repeat(&self, effect: Effect, error: &ClusterError, begun: Instant) -> bool {
        let is_harmless = match error {
            ClusterError::NotLeader(_) | ClusterError::NoLeader => true,
            ClusterError::Unreachable(_) => effect == Effect::Reads,
            _ => false,
        };
        let is_worth_it = is_harmless && begun.elapsed() < LEADER_LIMIT;
        if is_worth_it {
            // An election tells nobody when it will have ended.
            tokio::time::sleep(PAUSE).await;
        }
        is_worth_it
    }
}

/// What clients see of a failure to find a leader.
fn shown(error: ClusterError) -> ClusterError {
    match error {
        ClusterError::NotLeader(_) => ClusterError::NoLeader,
        ClusterError::Unreachable(_) => ClusterError::Deadline,
        other => other,
    }
}

/// Declares the requests of all ports and forwards them. A method is written
/// `Variant: reads|writes method [name?] (argument: Type, ..) -> Reply`, where `[name]` is a first argument `name: &str`.
macro_rules! ports {
    ($($port:ident in $field:ident {
        $($variant:ident: $effect:ident $method:ident [$($name:ident)?] ($($argument:ident: $type:ty),*) -> $reply:ty;)*
    })*) => {
        /// A request of the front end on its way to the leader.
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[expect(clippy::large_enum_variant, reason = "it lives as long as one call and is never collected")]
        pub(crate) enum Request {
            $($(
                #[doc = concat!("`", stringify!($port), "::", stringify!($method), "`.")]
                $variant { $($name: String,)? $($argument: $type,)* },
            )*)*
        }

        impl Request {
            fn effect(&self) -> Effect {
                match self { $($(Self::$variant { .. } => ports!(@effect $effect),)*)* }
            }
        }

        $(
            #[async_trait]
            impl $port for Forwarder {
                $(async fn $method(&self, $($name: &str,)? $($argument: $type,)*) -> Result<$reply, ClusterError> {
                    let effect = ports!(@effect $effect);
                    let begun = Instant::now();
                    $(let $name = ports!(@own $field self $name);)?
                    loop {
                        let answer = match self.route(effect).await {
                            Ok(Route::Here(local)) => {
                                local.$field.$method($(&$name,)? $($argument.clone(),)*).await
                            }
                            Ok(Route::There(leader)) => {
                                let request =
                                    Request::$variant { $($name: $name.clone(),)? $($argument: $argument.clone(),)* };
                                self.ask(leader, &request).await
                            }
                            Err(error) => Err(error),
                        };
                        match answer {
                            Err(error) if self.may_repeat(effect, &error, begun).await => {}
                            answer => return answer.map_err(shown),
                        }
                    }
                })*
            }
        )*

        async fn execute(local: &LeaderPorts, request: Request) -> Result<Reply, ClusterError> {
            match request {
                $($(Request::$variant { $($name,)? $($argument,)* } => {
                    Reply::json(&local.$field.$method($(&$name,)? $($argument,)*).await?)
                })*)*
            }
        }
    };
    (@effect reads) => { Effect::Reads };
    (@effect writes) => { Effect::Writes };
    // `self` is the node that is asked, which the leader cannot know.
    (@own nodes $forwarder:ident $name:ident) => {
        if $name == "self" { $forwarder.node.to_string() } else { $name.to_owned() }
    };
    (@own $field:ident $forwarder:ident $name:ident) => { $name.to_owned() };
}

ports! {
    Services in services {
        ServiceCreate: writes create [] (spec: ServiceSpec, credentials: Option<RegistryCredentials>) -> ServiceId;
        ServiceList: reads list [] (filter: ServiceFilter) -> Vec<(Service, TaskCounts)>;
        ServiceInspect: reads inspect [name] () -> Service;
        ServiceUpdate: writes update [name] (update: ServiceUpdate) -> Vec<String>;
        ServiceRemove: writes remove [name] () -> ();
    }
    Tasks in tasks {
        TaskList: reads list [] (filter: TaskFilter) -> Vec<Task>;
        TaskInspect: reads inspect [name] () -> Task;
    }
    Nodes in nodes {
        NodeList: reads list [] (filter: NodeFilter) -> Vec<Node>;
        NodeInspect: reads inspect [name] () -> Node;
        NodeUpdate: writes update [name] (version: u64, spec: NodeSpec) -> ();
        NodeRemove: writes remove [name] (force: RemoveForce) -> ();
    }
    Networks in networks {
        NetworkCreate: writes create [] (spec: NetworkSpec) -> NetworkId;
        NetworkList: reads list [] () -> Vec<ClusterNetwork>;
        NetworkInspect: reads inspect [name] () -> ClusterNetwork;
        NetworkRemove: writes remove [name] () -> ();
    }
    Secrets in secrets {
        SecretCreate: writes create [] (spec: SecretSpec) -> SecretId;
        SecretList: reads list [] (filter: ObjectFilter) -> Vec<Secret>;
        SecretInspect: reads inspect [name] () -> Secret;
        SecretUpdate: writes update [name] (version: u64, spec: SecretSpec) -> ();
        SecretRemove: writes remove [name] () -> ();
    }
    Configs in configs {
        ConfigCreate: writes create [] (spec: ConfigSpec) -> ConfigId;
        ConfigList: reads list [] (filter: ObjectFilter) -> Vec<Config>;
        ConfigInspect: reads inspect [name] () -> Config;
        ConfigUpdate: writes update [name] (version: u64, spec: ConfigSpec) -> ();
        ConfigRemove: writes remove [name] () -> ();
    }
    Settings in settings {
        ClusterInspect: reads inspect [] () -> (Cluster, JoinTokens);
        ClusterUpdate: writes update [] (version: u64, spec: ClusterSpec, rotation: Rotation) -> ();
        UnlockKey: reads unlock_key [] () -> String;
        Backup: reads backup [] () -> String;
    }
}

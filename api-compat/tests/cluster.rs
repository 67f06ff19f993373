//! A cluster that answers every port from a few fixed objects and keeps a list of what it was asked.
//!
//! Start reading at [`FakeCluster`]. It checks nothing: what managers would refuse is tested with the managers.
#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use manager::ClusterError;
use manager::api::events::{ClusterAction, ClusterEvent, ClusterEventKind, Events};
use manager::api::logs::{LineStream, Logs, LogsOf};
use manager::api::membership::*;
use manager::api::networks::Networks;
use manager::api::nodes::*;
use manager::api::secrets::{Configs, Secrets};
use manager::api::services::*;
use manager::api::tasks::{TaskFilter, Tasks};
use manager::api::{Cluster, ObjectFilter};
use shoal_types::cluster::Meta;
use shoal_types::cluster::network::{AllocatedPool, ClusterNetwork, NetworkAllocation};
use shoal_types::cluster::node::*;
use shoal_types::cluster::secret::*;
use shoal_types::cluster::service::*;
use shoal_types::cluster::settings::{Cluster as Whole, ClusterSpec, JoinTokens};
use shoal_types::cluster::task::*;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::network::{NetworkScope, NetworkSpec};
use shoal_types::protocol::{LogLine, LogOptions, LogStream, ManagerPeer};
use shoal_types::{ClusterId, ConfigId, ErrorKind, NetworkId, NodeId, Platform, SecretId, ServiceId, TaskId};

/// When everything happened.
pub(crate) fn time() -> Timestamp {
    "2026-11-21T08:44:01Z".parse().unwrap()
}

fn meta(version: u64) -> Meta {
    Meta { version, created: time(), updated: time() }
}

/// A cluster made of fixed objects, with this machine as its only manager.
#[derive(Debug, Default)]
pub(crate) struct FakeCluster {
    calls: Mutex<Vec<String>>,
    changes: Mutex<Vec<String>>,
    failure: Mutex<Option<ClusterError>>,
    standing: Mutex<Option<Standing>>,
    service: Mutex<Option<ServiceSpec>>,
}

impl FakeCluster {
    /// The ports.
    pub(crate) fn ports(self: &Arc<Self>) -> Cluster {
        Cluster {
            membership: self.clone(),
            services: self.clone(),
            tasks: self.clone(),
            nodes: self.clone(),
            networks: self.clone(),
            logs: self.clone(),
            events: self.clone(),
            secrets: self.clone(),
            configs: self.clone(),
        }
    }

    /// What was asked, oldest first.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// What has been changed since this was last asked, oldest first; whatever failed is not among it.
    pub(crate) fn take_changes(&self) -> Vec<String> {
        std::mem::take(&mut *self.changes.lock().unwrap())
    }

    /// Lets the next call fail.
    pub(crate) fn fail_next(&self, error: ClusterError) {
        *self.failure.lock().unwrap() = Some(error);
    }

    /// Changes what this machine is in the cluster.
    pub(crate) fn stand(&self, standing: Standing) {
        *self.standing.lock().unwrap() = Some(standing);
    }

    /// The spec of the service as it is now.
    pub(crate) fn spec(&self) -> ServiceSpec {
        self.service.lock().unwrap().clone().unwrap_or_else(web)
    }

    fn note(&self, call: impl Into<String>) -> Result<(), ClusterError> {
        self.calls.lock().unwrap().push(call.into());
        match self.failure.lock().unwrap().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Notes a call that changes something.
    fn change(&self, call: impl Into<String>) -> Result<(), ClusterError> {
        let call = call.into();
        self.note(call.clone())?;
        self.changes.lock().unwrap().push(call);
        Ok(())
    }

    fn service(&self) -> Service {
        service(self.spec())
    }
}

/// The service with this spec.
fn service(spec: ServiceSpec) -> Service {
    let mut service = Service::new(ServiceId::from_u128(2), spec, time());
    service.meta = meta(21);
    service.endpoint.virtual_ips = vec![(NetworkId::new("net"), "10.0.1.2/24".parse().unwrap())];
    service
}

/// The service that there is at first.
fn web() -> ServiceSpec {
    let container = ServiceContainer { image: "nginx".into(), ..ServiceContainer::default() };
    ServiceSpec {
        name: "web".into(),
        template: TaskTemplate { container, ..TaskTemplate::default() },
        ..ServiceSpec::default()
    }
}

fn missing(what: &str, name: &str) -> ClusterError {
    ClusterError::Refused { kind: ErrorKind::NotFound, message: format!("{what} {name} not found") }
}

/// The error of an update that has seen an older version.
pub(crate) fn out_of_sequence() -> ClusterError {
    let message = "rpc error: code = Unknown desc = update out of sequence".to_owned();
    ClusterError::Refused { kind: ErrorKind::Internal, message }
}

pub(crate) fn node_id() -> NodeId {
    NodeId::from_u128(1)
}

fn node() -> Node {
    Node {
        id: node_id(),
        meta: meta(9),
        spec: NodeSpec {
            name: String::new(),
            labels: BTreeMap::new(),
            role: NodeRole::Manager,
            availability: Availability::Active,
        },
        description: Some(NodeDescription {
            hostname: "host".into(),
            platform: Platform::new("linux", "amd64", ""),
            nano_cpus: 2_000_000_000,
            memory: 1 << 30,
            generic: Vec::new(),
            engine_version: "1.2.3".into(),
            engine_labels: BTreeMap::new(),
            plugins: vec![("Network".into(), "bridge".into())],
            tls: TlsInfo::default(),
            data_path: None,
            data_path_keys: Vec::new(),
        }),
        status: NodeStatus {
            state: NodeState::Ready,
            message: String::new(),
            address: "192.0.2.1".into(),
            since: None,
        },
        role: NodeRole::Manager,
        manager: Some(ManagerStatus {
            leader: true,
            reachable: true,
            address: "192.0.2.1:2377".parse().unwrap(),
        }),
        attachments: Vec::new(),
    }
}

fn attachment(network: &str) -> TaskAttachment {
    TaskAttachment {
        network: NetworkId::new(network),
        addresses: vec!["10.0.1.9/24".parse().unwrap()],
        aliases: Vec::new(),
        driver_options: BTreeMap::new(),
    }
}

fn task() -> Task {
    let service = service(web());
    let template = Arc::new(web().template);
    Task {
        meta: meta(30),
        node: Some(node_id()),
        status: TaskStatus::new(TaskState::Running, time(), "started"),
        networks: vec![attachment("net"), attachment("host"), attachment("gone")],
        ..Task::new(TaskId::from_u128(3), &service, TaskPlace::Slot(1), template, time())
    }
}

fn network() -> ClusterNetwork {
    let pool = AllocatedPool {
        subnet: "10.0.1.0/24".parse().unwrap(),
        range: None,
        gateway: "10.0.1.1".parse().unwrap(),
        vni: 4097,
    };
    ClusterNetwork {
        id: NetworkId::new("net"),
        meta: meta(11),
        spec: NetworkSpec {
            name: "front".into(),
            driver: "overlay".into(),
            attachable: true,
            scope: NetworkScope::Swarm,
            labels: BTreeMap::from([("tier".into(), "front".into())]),
            ..NetworkSpec::default()
        },
        allocation: Some(NetworkAllocation { pools: vec![pool] }),
        error: String::new(),
    }
}

#[async_trait]
impl Membership for FakeCluster {
    fn standing(&self) -> Standing {
        self.standing.lock().unwrap().clone().unwrap_or_else(|| Standing::Manager(node_id()))
    }

    fn surroundings(&self) -> Surroundings {
        let peer = ManagerPeer { node: node_id(), address: "192.0.2.1:2377".parse().unwrap() };
        Surroundings { address: "192.0.2.1".into(), managers: vec![peer] }
    }

    async fn init(&self, request: InitRequest) -> Result<NodeId, ClusterError> {
        self.change(format!("init {request:?}"))?;
        Ok(node_id())
    }

    async fn join(&self, request: JoinRequest) -> Result<(), ClusterError> {
        self.change(format!("join {request:?}"))
    }

    async fn leave(&self, force: LeaveForce) -> Result<(), ClusterError> {
        self.change(format!("leave {force:?}"))
    }

    async fn unlock(&self, key: &str) -> Result<(), ClusterError> {
        self.change(format!("unlock {key}"))
    }

    async fn unlock_key(&self) -> Result<String, ClusterError> {
        self.note("unlock key")?;
        Ok("SWMKEY-1-x".into())
    }

    async fn backup(&self) -> Result<String, ClusterError> {
        self.note("backup")?;
        Ok("shoal swarm backup 1\n{}\n".into())
    }

    async fn inspect(&self) -> Result<(Whole, JoinTokens), ClusterError> {
        self.note("inspect")?;
        let cluster = Whole {
            id: ClusterId::from_u128(9),
            meta: meta(10),
            spec: ClusterSpec::default(),
            trust_root: "PEM".into(),
            issuer_subject: vec![1],
            issuer_public_key: vec![2],
            is_rotating: false,
            address_pools: vec!["10.0.0.0/8".parse().unwrap()],
            subnet_size: 24,
            data_path_port: 4789,
        };
        Ok((cluster, JoinTokens { worker: "w".into(), manager: "m".into() }))
    }

    async fn update(&self, version: u64, spec: ClusterSpec, rotation: Rotation) -> Result<(), ClusterError> {
        self.change(format!("update cluster {version} history={} {rotation:?}", spec.task_history))
    }
}

#[async_trait]
impl Services for FakeCluster {
    async fn create(
        &self,
        spec: ServiceSpec,
        credentials: Option<RegistryCredentials>,
    ) -> Result<ServiceId, ClusterError> {
        let credentials = credentials.map(|header| String::from_utf8(header.0).unwrap());
        self.change(format!("create service {} {credentials:?}", spec.name))?;
        *self.service.lock().unwrap() = Some(spec);
        Ok(ServiceId::from_u128(2))
    }

    async fn list(&self, filter: ServiceFilter) -> Result<Vec<(Service, TaskCounts)>, ClusterError> {
        self.note(format!("services {filter:?}"))?;
        Ok(vec![(self.service(), TaskCounts { running: 1, desired: 2, completed: 0 })])
    }

    async fn inspect(&self, name: &str) -> Result<Service, ClusterError> {
        if name == "web" { Ok(self.service()) } else { Err(missing("service", name)) }
    }

    async fn update(&self, name: &str, update: ServiceUpdate) -> Result<Vec<String>, ClusterError> {
        let target = match &update.target {
            UpdateTarget::Spec(_) => "spec",
            UpdateTarget::Previous => "previous",
        };
        let credentials = update.credentials.map(|header| String::from_utf8(header.0).unwrap());
        self.change(format!(
            "update service {name} {} {target} {credentials:?} {:?}",
            update.version, update.credentials_of
        ))?;
        if let UpdateTarget::Spec(spec) = update.target {
            *self.service.lock().unwrap() = Some(*spec);
        }
        Ok(Vec::new())
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        self.change(format!("rm service {name}"))
    }
}

#[async_trait]
impl Tasks for FakeCluster {
    async fn list(&self, filter: TaskFilter) -> Result<Vec<Task>, ClusterError> {
        self.note(format!("tasks {filter:?}"))?;
        Ok(vec![task()])
    }

    async fn inspect(&self, name: &str) -> Result<Task, ClusterError> {
        if name == "t" { Ok(task()) } else { Err(missing("task", name)) }
    }
}

#[async_trait]
impl Nodes for FakeCluster {
    async fn list(&self, filter: NodeFilter) -> Result<Vec<Node>, ClusterError> {
        self.note(format!("nodes {filter:?}"))?;
        Ok(vec![node()])
    }

    async fn inspect(&self, name: &str) -> Result<Node, ClusterError> {
        if name == "self" { Ok(node()) } else { Err(missing("node", name)) }
    }

    async fn update(&self, name: &str, version: u64, spec: NodeSpec) -> Result<(), ClusterError> {
        self.change(format!("update node {name} {version} {:?} {:?}", spec.role, spec.availability))
    }

    async fn remove(&self, name: &str, force: RemoveForce) -> Result<(), ClusterError> {
        self.change(format!("rm node {name} {force:?}"))
    }
}

#[async_trait]
impl Networks for FakeCluster {
    async fn create(&self, spec: NetworkSpec) -> Result<NetworkId, ClusterError> {
        self.change(format!("create network {} {}", spec.name, spec.driver))?;
        Ok(NetworkId::new("net"))
    }

    async fn list(&self) -> Result<Vec<ClusterNetwork>, ClusterError> {
        self.note("networks")?;
        Ok(vec![network()])
    }

    async fn inspect(&self, name: &str) -> Result<ClusterNetwork, ClusterError> {
        self.note(format!("network {name}"))?;
        match name {
            "front" | "net" => Ok(network()),
            // Every node has it by itself, so no list has it.
            "host" => {
                let spec = NetworkSpec { name: "host".into(), driver: "host".into(), ..network().spec };
                Ok(ClusterNetwork { id: NetworkId::new("host"), spec, allocation: None, ..network() })
            }
            _ => Err(missing("network", name)),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        self.change(format!("rm network {name}"))
    }
}

#[async_trait]
impl Logs for FakeCluster {
    async fn read(&self, of: LogsOf, options: LogOptions) -> Result<LineStream, ClusterError> {
        self.note(format!("logs {of:?} {options:?}"))?;
        let line = |stream, text: &str| LogLine {
            task: TaskId::from_u128(3),
            service: ServiceId::from_u128(2),
            node: node_id(),
            stream,
            at: time(),
            attributes: vec![("zone".into(), "a".into())],
            data: text.as_bytes().to_vec(),
        };
        let gap = ClusterError::Refused { kind: ErrorKind::Unavailable, message: "warning: gap".into() };
        Ok(stream::iter([
            Ok(line(LogStream::Stdout, "out\n")),
            Ok(line(LogStream::Stderr, "err\n")),
            Err(gap),
        ])
        .boxed())
    }
}

#[async_trait]
impl Events for FakeCluster {
    async fn subscribe(&self) -> Result<BoxStream<'static, ClusterEvent>, ClusterError> {
        self.note("events")?;
        let event = ClusterEvent {
            kind: ClusterEventKind::Service,
            action: ClusterAction::Update,
            id: ServiceId::from_u128(2).to_string(),
            attributes: BTreeMap::from([("name".into(), "web".into()), ("replicas.new".into(), "2".into())]),
            time: time(),
        };
        Ok(stream::iter([event]).boxed())
    }
}

#[async_trait]
impl Secrets for FakeCluster {
    async fn create(&self, spec: SecretSpec) -> Result<SecretId, ClusterError> {
        self.change(format!("create secret {} {:?}", spec.name, spec.data))?;
        Ok(SecretId::from_u128(4))
    }

    async fn list(&self, filter: ObjectFilter) -> Result<Vec<Secret>, ClusterError> {
        self.note(format!("secrets {filter:?}"))?;
        Ok(vec![Secrets::inspect(self, "key").await?])
    }

    async fn inspect(&self, name: &str) -> Result<Secret, ClusterError> {
        if name != "key" {
            return Err(missing("secret", name));
        }
        let spec = SecretSpec { name: "key".into(), data: b"hidden".to_vec(), ..SecretSpec::default() };
        Ok(Secret { id: SecretId::from_u128(4), meta: meta(12), spec })
    }

    async fn update(&self, name: &str, version: u64, spec: SecretSpec) -> Result<(), ClusterError> {
        self.change(format!("update secret {name} {version} {:?}", spec.labels))
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        self.change(format!("rm secret {name}"))
    }
}

#[async_trait]
impl Configs for FakeCluster {
    async fn create(&self, spec: ConfigSpec) -> Result<ConfigId, ClusterError> {
        self.change(format!("create config {} {:?}", spec.name, spec.data))?;
        Ok(ConfigId::from_u128(5))
    }

    async fn list(&self, filter: ObjectFilter) -> Result<Vec<Config>, ClusterError> {
        self.note(format!("configs {filter:?}"))?;
        Ok(vec![Configs::inspect(self, "conf").await?])
    }

    async fn inspect(&self, name: &str) -> Result<Config, ClusterError> {
        if name != "conf" {
            return Err(missing("config", name));
        }
        let spec = ConfigSpec { name: "conf".into(), data: b"shown".to_vec(), ..ConfigSpec::default() };
        Ok(Config { id: ConfigId::from_u128(5), meta: meta(13), spec })
    }

    async fn update(&self, name: &str, version: u64, spec: ConfigSpec) -> Result<(), ClusterError> {
        self.change(format!("update config {name} {version} {:?}", spec.labels))
    }

    async fn remove(&self, name: &str) -> Result<(), ClusterError> {
        self.change(format!("rm config {name}"))
    }
}

//! Objects for tests: a node that is ready, a service of some replicas, a task in some state.
//!
//! Start reading at [`node`], [`service`] and [`task`]. Ids are small numbers, times seconds after [`EPOCH`].

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use shoal_types::cluster::Meta;
use shoal_types::cluster::network::{AllocatedPool, ClusterNetwork, NetworkAllocation};
use shoal_types::cluster::node::{
    Availability, Node, NodeDescription, NodeRole, NodeSpec, NodeState, NodeStatus, TlsInfo,
};
use shoal_types::cluster::service::{Service, ServiceMode, ServiceSpec};
use shoal_types::cluster::settings::{Cluster, ClusterSpec};
use shoal_types::cluster::task::{Task, TaskPlace, TaskStatus};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::network::{NetworkScope, NetworkSpec};
use shoal_types::{ClusterId, NetworkId, NodeId, Platform, ServiceId, TaskId};

/// Second 0 of every test.
pub(crate) const EPOCH: Timestamp = Timestamp::UNIX_EPOCH;

/// So many seconds after [`EPOCH`].
pub(crate) fn at(seconds: i64) -> Timestamp {
    EPOCH + SignedDuration::from_secs(seconds)
}

pub(crate) fn meta() -> Meta {
    Meta { version: 0, created: EPOCH, updated: EPOCH }
}

pub(crate) fn cluster() -> Cluster {
    Cluster {
        id: ClusterId::from_u128(1),
        meta: meta(),
        spec: ClusterSpec::default(),
        trust_root: String::new(),
        issuer_subject: Vec::new(),
        issuer_public_key: Vec::new(),
        is_rotating: false,
        address_pools: vec!["10.0.0.0/8".parse().unwrap()],
        subnet_size: 24,
        data_path_port: 4789,
    }
}

/// A node that is ready and active, with 4 processors and 8 GiB.
pub(crate) fn node(number: u128) -> Node {
    Node {
        id: NodeId::from_u128(number),
        meta: meta(),
        spec: NodeSpec {
            name: String::new(),
            labels: BTreeMap::new(),
            role: NodeRole::Worker,
            availability: Availability::Active,
        },
        description: Some(NodeDescription {
            hostname: format!("host{number}"),
            platform: Platform::new("linux", "amd64", ""),
            nano_cpus: 4_000_000_000,
            memory: 8 << 30,
            generic: Vec::new(),
            engine_version: "1".to_owned(),
            engine_labels: BTreeMap::new(),
            plugins: Vec::new(),
            tls: TlsInfo::default(),
            data_path: None,
            data_path_keys: Vec::new(),
        }),
        status: NodeStatus {
            state: NodeState::Ready,
            message: String::new(),
            address: format!("192.0.2.{number}"),
            since: Some(EPOCH),
        },
        role: NodeRole::Worker,
        manager: None,
        attachments: Vec::new(),
    }
}

/// A network that spans nodes, with the subnet `10.0.<third>.0/24`.
pub(crate) fn network(id: &str, name: &str, third: u8) -> ClusterNetwork {
    let pool = AllocatedPool {
        subnet: format!("10.0.{third}.0/24").parse().unwrap(),
        range: None,
        gateway: format!("10.0.{third}.1").parse().unwrap(),
        vni: 4096 + u32::from(third),
    };
    ClusterNetwork {
        id: NetworkId::new(id),
        meta: meta(),
        spec: NetworkSpec {
            name: name.to_owned(),
            driver: "overlay".to_owned(),
            scope: NetworkScope::Swarm,
            ..NetworkSpec::default()
        },
        allocation: Some(NetworkAllocation { pools: vec![pool] }),
        error: String::new(),
    }
}

/// A service called `service<number>` of `replicas`.
pub(crate) fn service(number: u128, replicas: u64) -> Service {
    let mut spec = ServiceSpec { name: format!("service{number}"), ..ServiceSpec::default() };
    spec.mode = ServiceMode::Replicated { replicas };
    spec.template.container.image = "busybox".to_owned();
    Service::new(ServiceId::from_u128(number), spec, EPOCH)
}

/// A task of `service` in slot `slot` that is in `state` and shall run.
pub(crate) fn task(number: u128, service: &Service, slot: u64, state: TaskState) -> Task {
    let template = Arc::new(service.spec.template.clone());
    let made = Task::new(TaskId::from_u128(number), service, TaskPlace::Slot(slot), template, EPOCH);
    Task { status: status(state, EPOCH), ..made }
}

pub(crate) fn status(state: TaskState, at: Timestamp) -> TaskStatus {
    TaskStatus::new(state, at, state.to_string())
}

//! Tasks, and networks of the cluster as tasks show them.
//!
//! Start reading at [`shown`].

use std::collections::BTreeMap;

use shoal_types::NetworkId;
use shoal_types::cluster::network::ClusterNetwork as StoredNetwork;
use shoal_types::cluster::task::{Task as Stored, TaskAttachment, TaskPlace, TaskStatus as Observed};

use super::cluster::version;
use super::node::shown_generic;
use super::service::shown_port;
use super::task_spec::{self, Defaults};
use crate::model::Texts;
use crate::model::cluster::{Driver, ObjectVersion};
use crate::model::network::ConfigReference;
use crate::model::task::{
    ClusterNetwork, ClusterNetworkSpec, ClusterSubnet, ContainerStatus, IpamOptions, NetworkAttachment,
    PortStatus, Task, TaskStatus,
};

/// The option by which swarm tells the VXLAN identifiers of an overlay's subnets.
const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// A task as Docker shows it. `networks` are those of the cluster; one that is gone is shown by its id alone.
pub(crate) fn shown(task: &Stored, networks: &BTreeMap<NetworkId, StoredNetwork>) -> Task {
    Task {
        id: task.id.to_string(),
        version: version(&task.meta),
        created_at: task.meta.created.into(),
        updated_at: task.meta.updated.into(),
        name: String::new(),
        labels: Texts::new(),
        spec: task_spec::shown(&task.template, Defaults::Omitted),
        service_id: task.service.to_string(),
        slot: match task.place {
            TaskPlace::Slot(slot) => slot,
            TaskPlace::Node(_) => 0,
        },
        node_id: task.node.map(|node| node.to_string()).unwrap_or_default(),
        status: status(&task.status),
        desired_state: task.desired.to_string(),
        networks_attachments: task.networks.iter().map(|place| attachment(place, networks)).collect(),
        generic_resources: shown_generic(&task.generic),
        job_iteration: task.job_iteration.map(|index| ObjectVersion { index }),
    }
}

fn status(status: &Observed) -> TaskStatus {
    TaskStatus {
        timestamp: status.at.into(),
        state: status.state.to_string(),
        message: status.message.clone(),
        err: status.error.clone(),
        container_status: status.container.map(|container| ContainerStatus {
            container_id: container.id.to_string(),
            pid: container.pid,
            exit_code: container.exit_code,
        }),
        port_status: PortStatus { ports: status.host_ports.iter().map(shown_port).collect() },
    }
}

fn attachment(place: &TaskAttachment, networks: &BTreeMap<NetworkId, StoredNetwork>) -> NetworkAttachment {
    let network = networks.get(&place.network).map(shown_network);
    let unknown = || ClusterNetwork { id: place.network.as_str().to_owned(), ..ClusterNetwork::default() };
    NetworkAttachment {
        network: network.unwrap_or_else(unknown),
        addresses: place.addresses.iter().map(ToString::to_string).collect(),
    }
}

/// A network of the cluster as tasks show it.
fn shown_network(network: &StoredNetwork) -> ClusterNetwork {
    let spec = &network.spec;
    let driver = if spec.driver.is_empty() { "overlay" } else { &spec.driver };
    ClusterNetwork {
        id: network.id.as_str().to_owned(),
        version: version(&network.meta),
        created_at: network.meta.created.into(),
        updated_at: network.meta.updated.into(),
        spec: ClusterNetworkSpec {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            driver_configuration: Driver { name: driver.to_owned(), options: spec.options.clone() },
            ipv6_enabled: spec.ipv6.unwrap_or(false),
            internal: spec.internal,
            attachable: spec.attachable,
            ingress: spec.ingress,
            ipam_options: (!spec.ipam.pools.is_empty()).then(|| wanted_subnets(network)),
            config_from: (!spec.config_from.is_empty())
                .then(|| ConfigReference { network: spec.config_from.clone() }),
            scope: "swarm".to_owned(),
        },
        driver_state: Driver { name: driver.to_owned(), options: driver_options(network) },
        ipam_options: network.allocation.as_ref().map(|_| given_subnets(network)),
    }
}

fn ipam_driver(network: &StoredNetwork) -> Driver {
    let driver = &network.spec.ipam.driver;
    Driver {
        name: if driver.is_empty() { "default".to_owned() } else { driver.clone() },
        options: network.spec.ipam.options.clone().unwrap_or_default(),
    }
}

fn wanted_subnets(network: &StoredNetwork) -> IpamOptions {
    let text = |net: Option<ipnet::IpNet>| net.map(|net| net.to_string()).unwrap_or_default();
    let pools = network.spec.ipam.pools.iter().map(|pool| ClusterSubnet {
        subnet: text(pool.subnet),
        range: text(pool.range),
        gateway: pool.gateway.map(|address| address.to_string()).unwrap_or_default(),
    });
    IpamOptions { driver: ipam_driver(network), configs: pools.collect() }
}

fn given_subnets(network: &StoredNetwork) -> IpamOptions {
    let pools = network.allocation.iter().flat_map(|given| &given.pools).map(|pool| ClusterSubnet {
        subnet: pool.subnet.to_string(),
        range: pool.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: pool.gateway.to_string(),
    });
    IpamOptions { driver: ipam_driver(network), configs: pools.collect() }
}

/// Options of a network's driver, with the identifiers that its subnets were given.
pub(super) fn driver_options(network: &StoredNetwork) -> Texts {
    let mut options = network.spec.options.clone();
    let given = network.allocation.iter().flat_map(|given| &given.pools);
    let vnis: Vec<String> = given.filter(|pool| pool.vni != 0).map(|pool| pool.vni.to_string()).collect();
    if !vnis.is_empty() {
        options.insert(VNI_OPTION.to_owned(), vnis.join(","));
    }
    options
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use shoal_types::cluster::Meta;
    use shoal_types::cluster::network::{AllocatedPool, NetworkAllocation};
    use shoal_types::cluster::service::{
        EndpointSpec, GenericResource, PublishMode, PublishedServicePort, TaskTemplate,
    };
    use shoal_types::cluster::task::TaskContainer;
    use shoal_types::cluster::task_state::TaskState;
    use shoal_types::container::networking::Protocol;
    use shoal_types::network::{NetworkScope, NetworkSpec};
    use shoal_types::{ContainerId, NodeId, ServiceId, TaskId};

    use super::*;

    fn meta() -> Meta {
        let at = "2026-11-21T08:44:01Z".parse().unwrap();
        Meta { version: 8, created: at, updated: at }
    }

    fn network() -> StoredNetwork {
        let pool = AllocatedPool {
            subnet: "10.0.1.0/24".parse().unwrap(),
            range: None,
            gateway: "10.0.1.1".parse().unwrap(),
            vni: 4097,
        };
        StoredNetwork {
            id: NetworkId::new("net"),
            meta: meta(),
            spec: NetworkSpec {
                name: "front".into(),
                driver: "overlay".into(),
                attachable: true,
                scope: NetworkScope::Swarm,
                ..NetworkSpec::default()
            },
            allocation: Some(NetworkAllocation { pools: vec![pool] }),
            error: String::new(),
        }
    }

    fn task(place: TaskPlace) -> Stored {
        let attachment = TaskAttachment {
            network: NetworkId::new("net"),
            addresses: vec!["10.0.1.9/24".parse().unwrap()],
            aliases: Vec::new(),
            driver_options: BTreeMap::new(),
        };
        Stored {
            id: TaskId::from_u128(1),
            meta: meta(),
            service: ServiceId::from_u128(2),
            place,
            service_name: "web".into(),
            template: Arc::new(TaskTemplate::default()),
            usual_logging: None,
            endpoint: EndpointSpec::default(),
            node: Some(NodeId::from_u128(3)),
            desired: TaskState::Running,
            status: Observed {
                state: TaskState::Failed,
                at: meta().created,
                message: "started".into(),
                error: "task: non-zero exit (1)".into(),
                container: Some(TaskContainer { id: ContainerId::from_bytes([7; 32]), pid: 9, exit_code: 1 }),
                host_ports: vec![PublishedServicePort {
                    name: String::new(),
                    protocol: Protocol::Tcp,
                    target: 80,
                    published: 8080,
                    mode: PublishMode::Host,
                }],
            },
            networks: vec![attachment],
            generic: vec![("SSD".into(), GenericResource::Discrete(1))],
            not_before: None,
            started: None,
            ended: None,
            labels: BTreeMap::from([("of".into(), "service".into())]),
            job_iteration: Some(0),
            spec_version: 1,
        }
    }

    #[test]
    fn tasks_are_shown_as_swarm_shows_them() {
        let networks = BTreeMap::from([(NetworkId::new("net"), network())]);
        let mut shown = serde_json::to_value(shown(&task(TaskPlace::Slot(4)), &networks)).unwrap();
        let attachment = shown["NetworksAttachments"].take();
        shown.as_object_mut().unwrap().retain(|key, _| key != "NetworksAttachments" && key != "Spec");
        let time = "2026-11-21T08:44:01Z";
        assert_eq!(
            shown,
            json!({
                "ID": "0000000000000000000000001", "Version": {"Index": 8}, "CreatedAt": time, "UpdatedAt": time,
                "Labels": {}, "ServiceID": "0000000000000000000000002", "Slot": 4,
                "NodeID": "0000000000000000000000003",
                "Status": {
                    "Timestamp": time, "State": "failed", "Message": "started", "Err": "task: non-zero exit (1)",
                    "ContainerStatus": {"ContainerID": "07".repeat(32), "PID": 9, "ExitCode": 1},
                    "PortStatus": {"Ports": [{"Protocol": "tcp", "TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}]},
                },
                "DesiredState": "running",
                "GenericResources": [{"DiscreteResourceSpec": {"Kind": "SSD", "Value": 1}}],
                "JobIteration": {},
            })
        );
        assert_eq!(attachment[0]["Addresses"], json!(["10.0.1.9/24"]));
        let network = &attachment[0]["Network"];
        assert_eq!((&network["ID"], &network["Spec"]["Name"]), (&json!("net"), &json!("front")));
        assert_eq!(network["DriverState"], json!({"Name": "overlay", "Options": {VNI_OPTION: "4097"}}));
        assert_eq!(
            network["IPAMOptions"],
            json!({"Driver": {"Name": "default"}, "Configs": [{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"}]})
        );
    }

    #[test]
    fn a_global_task_has_no_slot_and_an_unknown_network_its_id() {
        let shown = shown(&task(TaskPlace::Node(NodeId::from_u128(3))), &BTreeMap::new());
        let shown = serde_json::to_value(shown).unwrap();
        assert_eq!(shown.get("Slot"), None);
        assert_eq!(shown["NetworksAttachments"][0]["Network"]["ID"], json!("net"));
    }
}

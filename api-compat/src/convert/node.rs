//! Nodes, and the resources that they have and that tasks ask for.
//!
//! Start reading at [`shown`] and [`spec`].

use shoal_types::Platform as NodePlatform;
use shoal_types::cluster::node::{
    Availability, ManagerStatus as Managing, Node as Observed, NodeDescription as Described, NodeRole,
    NodeSpec as Wanted, NodeState,
};
use shoal_types::cluster::service::GenericResource as Generic;

use super::cluster::{named_availability, shown_trust, version};
use crate::error::ApiError;
use crate::model::node::{
    DiscreteResource, EngineDescription, GenericResource, ManagerStatus, NamedResource, Node,
    NodeDescription, NodeSpec, NodeStatus, Platform, PluginDescription, ResourceObject,
};

/// A node as Docker shows it.
pub(crate) fn shown(node: &Observed) -> Node {
    Node {
        id: node.id.to_string(),
        version: version(&node.meta),
        created_at: node.meta.created.into(),
        updated_at: node.meta.updated.into(),
        spec: NodeSpec {
            name: node.spec.name.clone(),
            labels: node.spec.labels.clone(),
            role: role(node.spec.role).to_owned(),
            availability: availability(node.spec.availability).to_owned(),
        },
        description: node.description.as_ref().map(description).unwrap_or_default(),
        status: NodeStatus {
            state: state(node.status.state).to_owned(),
            message: node.status.message.clone(),
            addr: node.status.address.clone(),
        },
        manager_status: node.manager.as_ref().map(manager_status),
    }
}

fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Worker => "worker",
        NodeRole::Manager => "manager",
    }
}

fn availability(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Unknown => "unknown",
        NodeState::Down => "down",
        NodeState::Ready => "ready",
        NodeState::Disconnected => "disconnected",
    }
}

fn manager_status(status: &Managing) -> ManagerStatus {
    ManagerStatus {
        leader: status.leader,
        reachability: if status.reachable { "reachable" } else { "unreachable" }.to_owned(),
        addr: status.address.to_string(),
    }
}

fn description(described: &Described) -> NodeDescription {
    let plugin =
        |(kind, name): &(String, String)| PluginDescription { r#type: kind.clone(), name: name.clone() };
    NodeDescription {
        hostname: described.hostname.clone(),
        platform: Platform {
            architecture: machine_name(&described.platform).to_owned(),
            os: described.platform.os.clone(),
        },
        resources: ResourceObject {
            nano_cpus: described.nano_cpus,
            memory_bytes: described.memory,
            generic_resources: shown_generic(&described.generic),
        },
        engine: EngineDescription {
            engine_version: described.engine_version.clone(),
            labels: described.engine_labels.clone(),
            plugins: described.plugins.iter().map(plugin).collect(),
        },
        tls_info: shown_trust(&described.tls),
    }
}

/// The name that a machine has for its own architecture (uname(2)), which is what Docker shows of nodes.
fn machine_name(platform: &NodePlatform) -> &str {
    match (platform.architecture.as_str(), platform.variant.as_str()) {
        ("amd64", _) => "x86_64",
        ("arm64", _) => "aarch64",
        ("386", _) => "i686",
        ("arm", "v6") => "armv6l",
        ("arm", _) => "armv7l",
        (other, _) => other,
    }
}

/// Named resources as Docker shows them.
pub(super) fn shown_generic(resources: &[(String, Generic)]) -> Vec<GenericResource> {
    let shown = |(kind, resource): &(String, Generic)| match resource {
        Generic::Named(value) => GenericResource {
            named_resource_spec: Some(NamedResource { kind: kind.clone(), value: value.clone() }),
            discrete_resource_spec: None,
        },
        Generic::Discrete(count) => GenericResource {
            named_resource_spec: None,
            discrete_resource_spec: Some(DiscreteResource {
                kind: kind.clone(),
                value: i64::try_from(*count).unwrap_or(i64::MAX),
            }),
        },
    };
    resources.iter().map(shown).collect()
}

/// The named resources that a request asks for.
pub(super) fn generic(asked: Vec<GenericResource>) -> Result<Vec<(String, Generic)>, ApiError> {
    let read =
        |resource: GenericResource| match (resource.named_resource_spec, resource.discrete_resource_spec) {
            (Some(named), None) => Ok((named.kind, Generic::Named(named.value))),
            (None, Some(discrete)) => match u64::try_from(discrete.value) {
                Ok(count) => Ok((discrete.kind, Generic::Discrete(count))),
                Err(_) => {
                    Err(ApiError::invalid(format!("invalid GenericResource: {} is negative", discrete.kind)))
                }
            },
            _ => Err(ApiError::invalid(
                "a GenericResource must be either a NamedResourceSpec or a DiscreteResourceSpec",
            )),
        };
    asked.into_iter().map(read).collect()
}

/// What a request wants of a node.
pub(crate) fn spec(asked: NodeSpec) -> Result<Wanted, ApiError> {
    Ok(Wanted {
        name: asked.name,
        labels: asked.labels,
        role: named_role(&asked.role)
            .ok_or_else(|| ApiError::invalid(format!("invalid Role: {:?}", asked.role)))?,
        availability: named_availability(&asked.availability)?,
    })
}

/// Reads a role.
pub(crate) fn named_role(written: &str) -> Option<NodeRole> {
    match written.to_ascii_lowercase().as_str() {
        "worker" => Some(NodeRole::Worker),
        "manager" => Some(NodeRole::Manager),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use shoal_types::NodeId;
    use shoal_types::cluster::Meta;
    use shoal_types::cluster::node::{NodeStatus as ObservedStatus, TlsInfo};

    use super::*;

    fn node() -> Observed {
        let at = "2026-11-21T08:44:01Z".parse().unwrap();
        Observed {
            id: NodeId::from_u128(1),
            meta: Meta { version: 9, created: at, updated: at },
            spec: Wanted {
                name: String::new(),
                labels: BTreeMap::from([("a".into(), "b".into())]),
                role: NodeRole::Manager,
                availability: Availability::Drain,
            },
            description: Some(Described {
                hostname: "h".into(),
                platform: NodePlatform::new("linux", "amd64", ""),
                nano_cpus: 2_000_000_000,
                memory: 1 << 30,
                generic: vec![
                    ("SSD".into(), Generic::Discrete(3)),
                    ("GPU".into(), Generic::Named("UUID1".into())),
                ],
                engine_version: "1.2.3".into(),
                engine_labels: BTreeMap::from([("c".into(), "d".into())]),
                plugins: vec![("Network".into(), "bridge".into())],
                tls: TlsInfo { trust_root: "PEM".into(), ..TlsInfo::default() },
                data_path: None,
                data_path_keys: Vec::new(),
            }),
            status: ObservedStatus {
                state: NodeState::Ready,
                message: String::new(),
                address: "192.0.2.1".into(),
                since: None,
            },
            role: NodeRole::Manager,
            manager: Some(Managing {
                leader: true,
                reachable: true,
                address: "192.0.2.1:2377".parse().unwrap(),
            }),
            attachments: Vec::new(),
        }
    }

    #[test]
    fn nodes_are_shown_as_swarm_shows_them() {
        assert_eq!(
            serde_json::to_value(shown(&node())).unwrap(),
            json!({
                "ID": "0000000000000000000000001", "Version": {"Index": 9},
                "CreatedAt": "2026-11-21T08:44:01Z", "UpdatedAt": "2026-11-21T08:44:01Z",
                "Spec": {"Labels": {"a": "b"}, "Role": "manager", "Availability": "drain"},
                "Description": {
                    "Hostname": "h",
                    "Platform": {"Architecture": "x86_64", "OS": "linux"},
                    "Resources": {
                        "NanoCPUs": 2_000_000_000_i64, "MemoryBytes": 1_073_741_824,
                        "GenericResources": [
                            {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 3}},
                            {"NamedResourceSpec": {"Kind": "GPU", "Value": "UUID1"}},
                        ],
                    },
                    "Engine": {"EngineVersion": "1.2.3", "Labels": {"c": "d"},
                               "Plugins": [{"Type": "Network", "Name": "bridge"}]},
                    "TLSInfo": {"TrustRoot": "PEM"},
                },
                "Status": {"State": "ready", "Addr": "192.0.2.1"},
                "ManagerStatus": {"Leader": true, "Reachability": "reachable", "Addr": "192.0.2.1:2377"},
            })
        );
    }

    #[test]
    fn a_node_that_never_came_has_an_empty_description_and_no_part() {
        let shown = shown(&Observed { description: None, manager: None, ..node() });
        let shown = serde_json::to_value(shown).unwrap();
        assert_eq!(
            shown["Description"],
            json!({"Platform": {}, "Resources": {}, "Engine": {}, "TLSInfo": {}})
        );
        assert_eq!(shown.get("ManagerStatus"), None);
    }

    #[test]
    fn wishes_for_nodes_are_kept_or_refused_in_dockers_words() {
        let read = |role: &str, availability: &str| {
            spec(NodeSpec { role: role.into(), availability: availability.into(), ..NodeSpec::default() })
        };
        assert_eq!(spec(shown(&node()).spec), Ok(node().spec));
        assert_eq!(read("WORKER", "Active").map(|spec| spec.role), Ok(NodeRole::Worker));
        assert_eq!(read("king", "active").unwrap_err().message(), "invalid Role: \"king\"");
        assert_eq!(read("worker", "").unwrap_err().message(), "invalid Availability: \"\"");
    }

    #[test]
    fn named_resources_go_both_ways() {
        let resources = node().description.unwrap().generic;
        assert_eq!(generic(shown_generic(&resources)), Ok(resources));
        assert!(generic(vec![GenericResource::default()]).is_err());
        let negative = DiscreteResource { kind: "k".into(), value: -1 };
        let negative = GenericResource { named_resource_spec: None, discrete_resource_spec: Some(negative) };
        assert!(generic(vec![negative]).is_err());
    }
}

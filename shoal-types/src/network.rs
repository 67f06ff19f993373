//! Networks: what is asked for and what exists.
//!
//! Start reading at [`NetworkSpec`]. Drivers and address management are mechanisms of overlay-net; records, names and
//! who may be removed when are `node-agent/src/networks`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::NetworkId;

/// What somebody asked a network to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    /// Name, unique on this node.
    pub name: String,
    /// Name of the driver, such as `bridge`.
    pub driver: String,
    /// The driver's options, names as Docker has them.
    pub options: BTreeMap<String, String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Address management.
    pub ipam: IpamSpec,
    /// Whether endpoints get IPv4 addresses.
    pub ipv4: Option<bool>,
    /// Whether endpoints get IPv6 addresses.
    pub ipv6: Option<bool>,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// Whether plain containers may join a cluster network.
    pub attachable: bool,
    /// Whether it is the cluster's ingress.
    pub ingress: bool,
    /// Whether it only lends its configuration to others.
    pub config_only: bool,
    /// The network whose configuration it takes; empty for none.
    pub config_from: String,
    /// Where it exists.
    pub scope: NetworkScope,
}

/// Where a network exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkScope {
    /// On this node.
    #[default]
    Local,
    /// On every node that needs it.
    Swarm,
}

/// Address management of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamSpec {
    /// Name of the driver; empty is `default`.
    pub driver: String,
    /// The driver's options; `None` when none were sent, which inspect shows as null.
    pub options: Option<BTreeMap<String, String>>,
    /// Subnets. Empty lets the engine choose.
    pub pools: Vec<PoolSpec>,
}

/// One subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// The subnet; `None` lets the engine choose.
    pub subnet: Option<IpNet>,
    /// The part of it from which addresses are given out.
    pub range: Option<IpNet>,
    /// The gateway's address; `None` takes the first.
    pub gateway: Option<IpAddr>,
    /// Addresses that are in use elsewhere, by name.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// A network that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// What was asked for, defaults filled in: pools have subnets and gateways.
    pub spec: NetworkSpec,
    /// When it was made.
    pub created: Timestamp,
}

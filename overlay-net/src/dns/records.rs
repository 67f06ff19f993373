//! Which names and addresses the containers of each network have. PURE.
//!
//! Start reading at [`Zones::addresses`]. Names are compared without regard to case; a network's names are seen by the
//! sandboxes joined to it and by no others. What a query is answered with is `answer.rs`'s business.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

use shoal_types::{EndpointId, NetworkId};

use crate::netd::protocol::{NetworkNames, Record};
use crate::overlay::spec::{NameChange, NameEntry};

/// Docker's lifetime of answers.
pub(super) const CONTAINER_TTL: u32 = 600;
/// Tasks come and go by themselves: who remembers answers must ask again soon.
const CLUSTER_TTL: u32 = 10;

/// The names of every network.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    zones: HashMap<NetworkId, Zone>,
    holders: HashMap<Owner, Rc<Holder>>,
}

/// Several holders may have the same name or address; all of them count, and when one goes the others stay.
#[derive(Debug, Default)]
struct Zone {
    by_name: HashMap<String, Vec<Rc<Holder>>>,
    by_address: HashMap<IpAddr, Vec<Rc<Holder>>>,
    /// What stands behind the dot, when the cluster gave this network names.
    cluster: Option<String>,
}

/// Whose names they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Owner {
    /// A container of this node.
    Endpoint(EndpointId),
    /// A task or a service, as the cluster knows it.
    Cluster(NetworkId, String),
}

/// Somebody with names.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    owner: Owner,
    network: NetworkId,
    network_name: String,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nobody has it.
    Nothing,
    /// Somebody has it, but no address of the family that was asked for.
    OtherFamily,
    /// These addresses, in the order of their appearance, and for how many seconds they may be remembered.
    Addresses(Vec<IpAddr>, u32),
}

/// Address family that a query asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    V4,
    V6,
    /// Whether the name exists at all.
    Existence,
}

impl Zones {
    /// Sets the names of an endpoint, replacing former ones.
    pub(crate) fn set(&mut self, record: Record) {
        self.insert(Holder::from(record));
    }

    /// Forgets an endpoint.
    pub(crate) fn remove(&mut self, endpoint: &EndpointId) {
        self.forget(&Owner::Endpoint(*endpoint));
    }

    /// Makes the names that the cluster gave a network exactly these; what stays is not disturbed.
    pub(crate) fn set_network(&mut self, names: NetworkNames) {
        let NetworkNames { network, name, entries } = names;
        for owner in self.cluster_owners(&network) {
            if !entries.iter().any(|entry| entry.owner == owner) {
                self.forget(&Owner::Cluster(network.clone(), owner));
            }
        }
        self.zones.entry(network.clone()).or_default().cluster = Some(name.clone());
        for entry in entries {
            self.insert(Holder::of_cluster(&network, &name, entry));
        }
    }

    /// Changes single names that the cluster gave a network.
    pub(crate) fn change_network(&mut self, network: &NetworkId, changes: Vec<NameChange>) {
        let zone = self.zones.entry(network.clone()).or_default();
        let name = zone.cluster.get_or_insert_default().clone();
        for change in changes {
            match change {
                NameChange::Set(entry) => self.insert(Holder::of_cluster(network, &name, entry)),
                NameChange::Remove(owner) => self.forget(&Owner::Cluster(network.clone(), owner)),
            }
        }
    }

    /// Forgets every name that the cluster gave a network.
    pub(crate) fn remove_network(&mut self, network: &NetworkId) {
        for owner in self.cluster_owners(network) {
            self.forget(&Owner::Cluster(network.clone(), owner));
        }
        if let Some(zone) = self.zones.get_mut(network) {
            zone.cluster = None;
        }
        self.drop_empty(network);
    }

    /// The networks that the cluster gave names.
    pub(crate) fn cluster_networks(&self) -> Vec<NetworkId> {
        let given = self.zones.iter().filter(|(_, zone)| zone.cluster.is_some());
        given.map(|(network, _)| network.clone()).collect()
    }

    /// The endpoints that are known.
    pub(crate) fn endpoints(&self) -> Vec<EndpointId> {
        let endpoint = |owner: &Owner| match owner {
            Owner::Endpoint(endpoint) => Some(*endpoint),
            Owner::Cluster(..) => None,
        };
        self.holders.keys().filter_map(endpoint).collect()
    }

    fn cluster_owners(&self, network: &NetworkId) -> Vec<String> {
        let owner = |owner: &Owner| match owner {
            Owner::Cluster(of, name) if of == network => Some(name.clone()),
            Owner::Cluster(..) | Owner::Endpoint(_) => None,
        };
        self.holders.keys().filter_map(owner).collect()
    }

    fn insert(&mut self, holder: Holder) {
        if self.holders.get(&holder.owner).is_some_and(|known| **known == holder) {
            return;
        }
        self.forget(&holder.owner);
        let holder = Rc::new(holder);
        let zone = self.zones.entry(holder.network.clone()).or_default();
        for name in all_names(&holder) {
            zone.by_name.entry(name).or_default().push(Rc::clone(&holder));
        }
        for &address in &holder.addresses {
            zone.by_address.entry(address).or_default().push(Rc::clone(&holder));
        }
        self.holders.insert(holder.owner.clone(), holder);
    }

    fn forget(&mut self, owner: &Owner) {
        let Some(holder) = self.holders.remove(owner) else { return };
        let Some(zone) = self.zones.get_mut(&holder.network) else { return };
        for name in all_names(&holder) {
            if let Some(holders) = zone.by_name.get_mut(&name) {
                holders.retain(|other| other.owner != *owner);
                if holders.is_empty() {
                    zone.by_name.remove(&name);
                }
            }
        }
        for address in &holder.addresses {
            if let Some(holders) = zone.by_address.get_mut(address) {
                holders.retain(|other| other.owner != *owner);
                if holders.is_empty() {
                    zone.by_address.remove(address);
                }
            }
        }
        self.drop_empty(&holder.network);
    }

    fn drop_empty(&mut self, network: &NetworkId) {
        let empty =
            |zone: &Zone| zone.by_name.is_empty() && zone.by_address.is_empty() && zone.cluster.is_none();
        if self.zones.get(network).is_some_and(empty) {
            self.zones.remove(network);
        }
    }

    /// The addresses of a lower-case name, from the first of the networks that has one of the right family.
    pub(crate) fn addresses(&self, networks: &[NetworkId], name: &str, asked: Asked) -> Found {
        let mut known = false;
        for zone in networks.iter().filter_map(|network| self.zones.get(network)) {
            let Some(holders) = zone.by_name.get(name) else { continue };
            known = true;
            let all = holders.iter().flat_map(|holder| &holder.addresses).copied();
            let mut wanted: Vec<IpAddr> = match asked {
                Asked::V4 => all.filter(IpAddr::is_ipv4).collect(),
                Asked::V6 => all.filter(IpAddr::is_ipv6).collect(),
                Asked::Existence => Vec::new(),
            };
            // A task of this node is known from its container and from the cluster.
            let mut seen = HashSet::new();
            wanted.retain(|address| seen.insert(*address));
            if !wanted.is_empty() {
                let of_cluster = holders.iter().any(|holder| matches!(holder.owner, Owner::Cluster(..)));
                return Found::Addresses(wanted, if of_cluster { CLUSTER_TTL } else { CONTAINER_TTL });
            }
        }
        if known { Found::OtherFamily } else { Found::Nothing }
    }

    /// The name of an address, as `container.network`. Of several holders that is the first of their order, not of their
    /// appearance, for names of tasks are set anew whenever one of them comes or goes.
    pub(crate) fn name(&self, networks: &[NetworkId], address: IpAddr) -> Option<String> {
        let zones = networks.iter().filter_map(|network| self.zones.get(network));
        let named = |zone: &Zone| {
            let holders = zone.by_address.get(&address)?.iter().filter(|holder| !holder.names.is_empty());
            holders.min_by(|one, other| one.owner.cmp(&other.owner)).cloned()
        };
        let holder = zones.filter_map(named).next()?;
        Some(format!("{}.{}", holder.names.first()?, holder.network_name))
    }
}

impl From<Record> for Holder {
    fn from(record: Record) -> Self {
        let Record { endpoint, network, network_name, names, addresses } = record;
        Self { owner: Owner::Endpoint(endpoint), network, network_name, names, addresses }
    }
}

impl Holder {
    fn of_cluster(network: &NetworkId, network_name: &str, entry: NameEntry) -> Self {
        let NameEntry { owner, names, addresses } = entry;
        Self {
            owner: Owner::Cluster(network.clone(), owner),
            network: network.clone(),
            network_name: network_name.to_owned(),
            names,
            addresses,
        }
    }
}

/// Each name, and each name with the network's behind it, once.
fn all_names(holder: &Holder) -> Vec<String> {
    let mut names: Vec<String> = holder
        .names
        .iter()
        .flat_map(|name| [name.clone(), format!("{name}.{}", holder.network_name)])
        .map(|name| name.to_ascii_lowercase())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

//! Which names and addresses the containers of each network have. PURE.
//!
//! Start reading at [`Zones::addresses`]. Names are compared without regard to case; a network's names are seen by the
//! sandboxes joined to it and by no others. What a query is answered with is `answer.rs`'s business.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use shoal_types::{EndpointId, NetworkId};

use crate::netd::protocol::Record;

/// The names of every network.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    zones: HashMap<NetworkId, Zone>,
    records: HashMap<EndpointId, Rc<Record>>,
}

#[derive(Debug, Default)]
struct Zone {
    by_name: HashMap<String, Vec<Rc<Record>>>,
    by_address: HashMap<IpAddr, Rc<Record>>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nobody has it.
    Nothing,
    /// Somebody has it, but no address of the family that was asked for.
    OtherFamily,
    /// These addresses, in the order of their appearance.
    Addresses(Vec<IpAddr>),
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
        self.remove(&record.endpoint);
        let record = Rc::new(record);
        let zone = self.zones.entry(record.network.clone()).or_default();
        for name in all_names(&record) {
            zone.by_name.entry(name).or_default().push(Rc::clone(&record));
        }
        for &address in &record.addresses {
            zone.by_address.insert(address, Rc::clone(&record));
        }
        self.records.insert(record.endpoint, record);
    }

    /// Forgets an endpoint.
    pub(crate) fn remove(&mut self, endpoint: &EndpointId) {
        let Some(record) = self.records.remove(endpoint) else { return };
        let Some(zone) = self.zones.get_mut(&record.network) else { return };
        for name in all_names(&record) {
            if let Some(holders) = zone.by_name.get_mut(&name) {
                holders.retain(|holder| holder.endpoint != *endpoint);
                if holders.is_empty() {
                    zone.by_name.remove(&name);
                }
            }
        }
        zone.by_address.retain(|_, holder| holder.endpoint != *endpoint);
        if zone.by_name.is_empty() {
            self.zones.remove(&record.network);
        }
    }

    /// Whether this very record is known.
    pub(crate) fn has(&self, record: &Record) -> bool {
        self.records.get(&record.endpoint).is_some_and(|known| **known == *record)
    }

    /// The endpoints that are known.
    pub(crate) fn endpoints(&self) -> Vec<EndpointId> {
        self.records.keys().copied().collect()
    }

    /// Whether nothing is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The addresses of a lower-case name, from the first of the networks that has one of the right family.
    pub(crate) fn addresses(&self, networks: &[NetworkId], name: &str, asked: Asked) -> Found {
        let mut known = false;
        for zone in networks.iter().filter_map(|network| self.zones.get(network)) {
            let Some(holders) = zone.by_name.get(name) else { continue };
            known = true;
            let all = holders.iter().flat_map(|holder| &holder.addresses).copied();
            let wanted: Vec<IpAddr> = match asked {
                Asked::V4 => all.filter(IpAddr::is_ipv4).collect(),
                Asked::V6 => all.filter(IpAddr::is_ipv6).collect(),
                Asked::Existence => Vec::new(),
            };
            if !wanted.is_empty() {
                return Found::Addresses(wanted);
            }
        }
        if known { Found::OtherFamily } else { Found::Nothing }
    }

    /// The name of an address, as `container.network`.
    pub(crate) fn name(&self, networks: &[NetworkId], address: IpAddr) -> Option<String> {
        let zones = networks.iter().filter_map(|network| self.zones.get(network));
        let record = zones.filter_map(|zone| zone.by_address.get(&address)).next()?;
        Some(format!("{}.{}", record.names.first()?, record.network_name))
    }
}

/// Each name, and each name with the network's behind it, once.
fn all_names(record: &Record) -> Vec<String> {
    let mut names: Vec<String> = record
        .names
        .iter()
        .flat_map(|name| [name.clone(), format!("{name}.{}", record.network_name)])
        .map(|name| name.to_ascii_lowercase())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

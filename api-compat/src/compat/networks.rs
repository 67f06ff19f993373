//! Networks as older versions send and see them.
//!
//! Start reading at [`shown`].

use std::collections::BTreeMap;

use crate::model::network::{Network, NetworkConnect, NetworkCreate};
use crate::version::ApiVersion;

/// Drops from a request what its version did not know.
pub(crate) fn create(create: &mut NetworkCreate, version: ApiVersion) {
    if version.is_below(47) {
        create.enable_ipv4 = None;
    }
}

/// Drops from a wish to connect what its version did not know.
pub(crate) fn connect(connect: &mut NetworkConnect, version: ApiVersion) {
    let Some(settings) = &mut connect.endpoint_config else { return };
    if version.is_below(48) {
        settings.gw_priority = None;
    }
    if version.is_below(54) {
        settings.mac_address.clear();
    }
}

/// Whether a network is told alone or in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Alone,
    InList,
}

/// Turns a network back.
pub(crate) fn shown(network: &mut Network, version: ApiVersion, told: Told) {
    if version.is_below(47) {
        network.enable_ipv4 = None;
    }
    if version.is_below(52) {
        network.status = None;
        network.containers.get_or_insert_with(BTreeMap::new);
    } else if told == Told::InList {
        network.containers = None;
    }
}

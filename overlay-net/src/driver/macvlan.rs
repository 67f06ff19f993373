//! Macvlan networks: each endpoint is a sub-interface of a parent interface of the node.
//!
//! Start reading at [`setup`] and [`join`]. A parent written `eth0.50` is a VLAN that is created when missing; a
//! network without a parent gets a dummy one. Links that were there before are used and never removed. Nothing here
//! touches the firewall: packets do not pass the node's IP layer.

use std::os::fd::BorrowedFd;

use super::{link_index, route_socket};
use crate::error::{NetError, Result};
use crate::netlink::codec::Batch;
use crate::netlink::link::{GROUP, Macvlan};
use crate::netlink::{Socket, existing_is_fine, link};
use crate::spec::{Endpoint, IfName, MacvlanSpec, NetworkSpec};

/// Makes sure that the parent exists.
pub(super) fn setup(network: &NetworkSpec, spec: &MacvlanSpec) -> Result<()> {
    let parent = parent_name(network, spec)?;
    let failed = || NetError::kernel(format!("create parent interface {parent}"));
    let mut socket = route_socket()?;
    if link::find(&mut socket, &parent).map_err(failed())?.is_some() {
        return Ok(());
    }
    let mut batch = Batch::default();
    match &spec.parent {
        None => link::add_dummy(&mut batch, &parent),
        Some(given) => {
            let (base, vlan) =
                vlan_of(given).ok_or_else(|| failed()(std::io::Error::from_raw_os_error(libc::ENODEV)))?;
            let index = link_index(&mut socket, &base)?;
            link::add_vlan(&mut batch, &parent, index, vlan);
        }
    }
    existing_is_fine(socket.run_all(&batch)).map_err(failed())
}

/// Removes the parent if we made it.
pub(super) fn teardown(network: &NetworkSpec, spec: &MacvlanSpec) -> Result<()> {
    let parent = parent_name(network, spec)?;
    let failed = || NetError::kernel(format!("delete parent interface {parent}"));
    let mut socket = route_socket()?;
    match link::find(&mut socket, &parent).map_err(failed())? {
        Some(found) if found.group == GROUP => link::delete(&mut socket, &parent).map_err(failed()),
        _ => Ok(()),
    }
}

/// Looks at the parent; on a thread of the node's namespace.
pub(super) fn prepare(host: &mut Socket, network: &NetworkSpec, spec: &MacvlanSpec) -> Result<u32> {
    link_index(host, &parent_name(network, spec)?)
}

/// Creates the sub-interface in the container's namespace.
pub(super) fn join(
    host: &mut Socket,
    spec: &MacvlanSpec,
    parent: u32,
    endpoint: &Endpoint,
    netns: BorrowedFd<'_>,
) -> Result<()> {
    let macvlan = Macvlan {
        name: &endpoint.ifname,
        mac: Some(endpoint.mac),
        parent,
        mode: spec.mode,
        netns,
        mtu: spec.mtu,
    };
    let mut batch = Batch::default();
    link::add_macvlan(&mut batch, &macvlan);
    host.run_all(&batch).map_err(NetError::kernel(format!("create macvlan interface {}", endpoint.ifname)))
}

/// The parent's name: as given, or `dm-` and the first twelve characters of the network's id.
fn parent_name(network: &NetworkSpec, spec: &MacvlanSpec) -> Result<IfName> {
    parent_label(network, spec).parse()
}

/// The parent's name as text, for comparing with the links that exist.
pub(crate) fn parent_label(network: &NetworkSpec, spec: &MacvlanSpec) -> String {
    spec.parent.as_ref().map_or_else(|| format!("dm-{}", network.id.short()), ToString::to_string)
}

/// Splits `eth0.50` into the link and the VLAN id.
fn vlan_of(name: &IfName) -> Option<(IfName, u16)> {
    let (base, id) = name.as_str().rsplit_once('.')?;
    let id = id.parse().ok().filter(|id| (1..4095).contains(id))?;
    Some((base.parse().ok()?, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_parents_are_split() {
        let split = |name: &str| vlan_of(&name.parse().unwrap()).map(|(base, id)| (base.to_string(), id));
        assert_eq!(split("eth0.50"), Some(("eth0".to_owned(), 50)));
        assert_eq!(split("eth0"), None);
        assert_eq!(split("eth0.0"), None);
        assert_eq!(split("eth0.4095"), None);
        assert_eq!(split("eth0.x"), None);
    }
}

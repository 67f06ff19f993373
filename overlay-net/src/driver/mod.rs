//! What differs between kinds of networks: how a network is set up and torn down, how an endpoint joins and leaves.
//!
//! Start reading at [`setup`]; the bridge driver is the model for the others. Rules of the firewall, published ports,
//! names and default routes are not a driver's business. Overlay networks are in `overlay/segment.rs`.

pub mod bridge;
pub(crate) mod macvlan;

use std::os::fd::BorrowedFd;

use crate::error::{NetError, Result};
use crate::netlink::{Protocol, Socket};
use crate::overlay::Overlays;
use crate::overlay::segment::Segment;
use crate::spec::{BridgeSpec, DriverSpec, Endpoint, IfName, MacvlanSpec, NetworkSpec};

/// Creates what the network needs in the node's namespace, or completes it.
pub(crate) fn setup(network: &NetworkSpec, loopback: LoopbackPublishing, overlays: &Overlays) -> Result<()> {
    match &network.driver {
        DriverSpec::Bridge(bridge) => bridge::setup(bridge, loopback),
        DriverSpec::Macvlan(macvlan) => macvlan::setup(network, macvlan),
        DriverSpec::Overlay(overlay) => overlays.open(&network.id, overlay).map(|_| ()),
        DriverSpec::Host | DriverSpec::None => Ok(()),
    }
}

/// Removes what [`setup`] made; fine when it is gone.
pub(crate) fn teardown(network: &NetworkSpec, overlays: &Overlays) -> Result<()> {
    match &network.driver {
        DriverSpec::Bridge(bridge) => bridge::teardown(bridge),
        DriverSpec::Macvlan(macvlan) => macvlan::teardown(network, macvlan),
        DriverSpec::Overlay(_) => overlays.remove(&network.id).into_iter().next().map_or(Ok(()), Err),
        DriverSpec::Host | DriverSpec::None => Ok(()),
    }
}

/// Whether 127.0.0.1 of the node is translated to containers, which needs `route_localnet` on bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoopbackPublishing {
    /// By the firewall.
    Translated,
    /// Not by the kernel.
    Off,
}

/// What joining needs to know of the node's namespace, read before the calling thread leaves it.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    driver: PreparedDriver<'a>,
}

#[derive(Debug)]
enum PreparedDriver<'a> {
    Bridge(&'a BridgeSpec, bridge::Port),
    Macvlan(&'a MacvlanSpec, u32),
    Overlay(Segment),
}

/// Looks at what an endpoint will join; on a thread of the node's namespace.
pub(crate) fn prepare<'a>(
    host: &mut Socket,
    network: &'a NetworkSpec,
    overlays: &Overlays,
) -> Result<Prepared<'a>> {
    let driver = match &network.driver {
        DriverSpec::Bridge(spec) => PreparedDriver::Bridge(spec, bridge::prepare(host, spec)?),
        DriverSpec::Macvlan(spec) => PreparedDriver::Macvlan(spec, macvlan::prepare(host, network, spec)?),
        DriverSpec::Overlay(spec) => PreparedDriver::Overlay(overlays.open(&network.id, spec)?),
        DriverSpec::Host | DriverSpec::None => {
            return Err(NetError::NotSupported("joining a network without interfaces"));
        }
    };
    Ok(Prepared { driver })
}

/// Makes the endpoint's interface, down and without addresses, in the namespace that `netns` refers to.
///
/// `host` is a socket of the node's namespace; the calling thread may be in any.
pub(crate) fn join(
    host: &mut Socket,
    prepared: &mut Prepared<'_>,
    endpoint: &Endpoint,
    netns: BorrowedFd<'_>,
) -> Result<()> {
    match &mut prepared.driver {
        PreparedDriver::Bridge(spec, port) => bridge::join(host, spec, port, endpoint, netns),
        PreparedDriver::Macvlan(spec, parent) => macvlan::join(host, spec, *parent, endpoint, netns),
        PreparedDriver::Overlay(segment) => segment.join(endpoint, netns),
    }
}

/// Removes an endpoint's interface by its end in the node's namespace; answers whether there is such an end.
pub(crate) fn leave(host: &mut Socket, endpoint: &Endpoint) -> Result<Left> {
    let Some(name) = &endpoint.host_ifname else { return Ok(Left::FromInsideOnly) };
    crate::netlink::link::delete(host, name).map_err(NetError::kernel(format!("delete link {name}")))?;
    Ok(Left::Done)
}

/// Whether an endpoint's interface could be removed from the node's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// It is gone.
    Done,
    /// It has no end outside the container's namespace.
    FromInsideOnly,
}

/// Opens an rtnetlink socket in the namespace of the calling thread.
pub(crate) fn route_socket() -> Result<Socket> {
    Socket::open(Protocol::Route).map_err(NetError::kernel("open rtnetlink socket"))
}

/// Looks a link up that must exist.
pub(crate) fn link_index(socket: &mut Socket, name: &IfName) -> Result<u32> {
    let what = || NetError::kernel(format!("look up link {name}"));
    match crate::netlink::link::find(socket, name).map_err(what())? {
        Some(link) => Ok(link.index),
        None => Err(what()(std::io::Error::from_raw_os_error(libc::ENODEV))),
    }
}

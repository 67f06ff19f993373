//! A container's network namespace, brought to what a spec says.
//!
//! Start reading at [`Plan::new`] (PURE: which endpoints stay, join and leave, which names, addresses and gateways they
//! have) and [`apply`] (creates the namespace or enters it, and does it). Ports, rules and names are `host.rs`'s
//! business, because they live outside the namespace.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use ipnet::IpNet;

use crate::driver::{self, Left, Prepared};
use crate::endpoint::{assign_names, choose_gateway, configure, endpoint_sysctls, segment_routes};
use crate::error::{NetError, Result};
use crate::firewall::Family;
use crate::lb;
use crate::netlink::codec::Batch;
use crate::netlink::{INET, INET6, Protocol, Socket, link, missing_is_fine, route};
use crate::netns::Netns;
use crate::overlay::Overlays;
use crate::overlay::spec::OverlayRole;
use crate::spec::{DriverSpec, Endpoint, IfName, MacAddr, Sandbox, SandboxSpec};
use crate::sysctl;

/// Index of the loopback interface in every namespace.
const LOOPBACK: u32 = 1;

/// What has to change, and what there will be.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    spec: &'a SandboxSpec,
    /// One for each endpoint of the spec, in its order.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Indexes of those that are new.
    pub(crate) joining: Vec<usize>,
    /// Those that are no longer wanted.
    pub(crate) leaving: Vec<Endpoint>,
    /// Index of the endpoint with the default route, and its next hop, for IPv4 and IPv6.
    pub(crate) gateways: [Option<(usize, IpAddr)>; 2],
    gateways_before: [Option<IpAddr>; 2],
}

impl<'a> Plan<'a> {
    /// Compares a spec with what an earlier call made of it.
    pub(crate) fn new(spec: &'a SandboxSpec, previous: Option<&Sandbox>) -> Result<Self> {
        let before = previous.map(|sandbox| sandbox.endpoints.as_slice()).unwrap_or_default();
        let names = assign_names(&spec.endpoints, before)?;
        let gateways =
            [choose_gateway(&spec.endpoints, Family::V4), choose_gateway(&spec.endpoints, Family::V6)];
        let mut endpoints = Vec::with_capacity(spec.endpoints.len());
        let mut joining = Vec::new();
        for (index, (wanted, ifname)) in spec.endpoints.iter().zip(names).enumerate() {
            let hop = |slot: usize| gateways[slot].filter(|(chosen, _)| *chosen == index).map(|(_, hop)| hop);
            let kept = before.iter().find(|endpoint| endpoint.id == wanted.id);
            if kept.is_none() {
                joining.push(index);
            }
            endpoints.push(Endpoint {
                id: wanted.id,
                network: wanted.network.id.clone(),
                ifname,
                host_ifname: match wanted.network.driver {
                    DriverSpec::Bridge(_) => Some(driver::bridge::host_interface(&wanted.id)?),
                    DriverSpec::Macvlan(_) | DriverSpec::Overlay(_) | DriverSpec::Host | DriverSpec::None => {
                        None
                    }
                },
                mac: kept
                    .map(|endpoint| endpoint.mac)
                    .or(wanted.mac)
                    .unwrap_or_else(|| MacAddr::for_addresses(&wanted.addresses)),
                addresses: kept
                    .map_or_else(|| wanted.addresses.clone(), |endpoint| endpoint.addresses.clone()),
                gateway_v4: hop(0).and_then(|hop| if let IpAddr::V4(v4) = hop { Some(v4) } else { None }),
                gateway_v6: hop(1).and_then(|hop| if let IpAddr::V6(v6) = hop { Some(v6) } else { None }),
                links: wanted.links.clone(),
            });
        }
        let stays = |endpoint: &&Endpoint| spec.endpoints.iter().any(|wanted| wanted.id == endpoint.id);
        let leaving = before.iter().filter(|endpoint| !stays(endpoint)).cloned().collect();
        let gateways_before = [
            before.iter().find_map(|endpoint| endpoint.gateway_v4).map(IpAddr::V4),
            before.iter().find_map(|endpoint| endpoint.gateway_v6).map(IpAddr::V6),
        ];
        Ok(Self { spec, endpoints, joining, leaving, gateways, gateways_before })
    }

    /// The address of the endpoint with the default route of that family, as target of published ports.
    pub(crate) fn gateway_endpoint(&self, family: Family) -> Option<(usize, IpAddr)> {
        let slot = usize::from(family == Family::V6);
        let (index, _) = self.gateways[slot]?;
        let address =
            self.endpoints[index].addresses.iter().map(IpNet::addr).find(|a| Family::of(*a) == family)?;
        Some((index, address))
    }
}

/// Makes the namespace what the plan says.
///
/// A new one is pinned only when everything worked, and vanishes otherwise. In one that was there, interfaces made by a
/// failed call are removed again.
pub(crate) fn apply(plan: &Plan<'_>, path: &Path, namespace: Namespace, overlays: &Overlays) -> Result<()> {
    let mut host = driver::route_socket()?;
    let mut prepared = plan
        .joining
        .iter()
        .map(|&index| Ok((index, driver::prepare(&mut host, &plan.spec.endpoints[index].network, overlays)?)))
        .collect::<Result<Vec<_>>>()?;
    let create = |fd: BorrowedFd<'_>| {
        let mut inside = inside_socket()?;
        initialise(&mut inside, &plan.spec.sysctls)?;
        join_all(plan, &mut prepared, &mut host, &mut inside, fd)?;
        set_gateways(plan, &mut inside)
    };
    match namespace {
        Namespace::New => Netns::create(path, create).map(|_| ()),
        Namespace::Made(made) => Netns::adopt(path, made, create).map(|_| ()),
        Namespace::Existing if plan.joining.is_empty() && plan.leaving.is_empty() => Ok(()),
        Namespace::Existing => {
            let netns = Netns::open(path)?;
            let outcome = netns
                .run(|| {
                    let mut inside = inside_socket()?;
                    join_all(plan, &mut prepared, &mut host, &mut inside, netns.as_fd())?;
                    set_gateways(plan, &mut inside)
                })
                .and_then(std::convert::identity);
            if outcome.is_err() {
                let joined: Vec<&Endpoint> =
                    plan.joining.iter().map(|&index| &plan.endpoints[index]).collect();
                log_all(remove_interfaces(path, &joined));
            }
            outcome
        }
    }
}

/// Takes an application back in a namespace that was there before: interfaces go, the former gateways return.
pub(crate) fn revert(plan: &Plan<'_>, path: &Path, previous: &Sandbox) -> Vec<NetError> {
    let joined: Vec<&Endpoint> = plan.joining.iter().map(|&index| &plan.endpoints[index]).collect();
    let mut errors = remove_interfaces(path, &joined);
    let restored = Netns::open(path).and_then(|netns| {
        netns
            .run(|| {
                let mut inside = inside_socket()?;
                let mut batch = Batch::default();
                for endpoint in &previous.endpoints {
                    let hops = [endpoint.gateway_v4.map(IpAddr::V4), endpoint.gateway_v6.map(IpAddr::V6)];
                    for hop in hops.into_iter().flatten() {
                        let link = driver::link_index(&mut inside, &endpoint.ifname)?;
                        route::set_default(&mut batch, link, hop);
                    }
                }
                inside.run_all(&batch).map_err(NetError::kernel("set default routes"))
            })
            .and_then(std::convert::identity)
    });
    errors.extend(restored.err());
    errors
}

/// Removes interfaces of endpoints, each from outside where it has an end there.
pub(crate) fn remove_interfaces(path: &Path, endpoints: &[&Endpoint]) -> Vec<NetError> {
    if endpoints.is_empty() {
        return Vec::new();
    }
    let mut host = match driver::route_socket() {
        Ok(host) => host,
        Err(error) => return vec![error],
    };
    endpoints.iter().filter_map(|endpoint| remove_interface(&mut host, path, endpoint).err()).collect()
}

/// Cuts endpoints off at once; their interfaces vanish with the namespace, which the kernel takes apart in its own time.
///
/// Deleting them here would wait for the kernel's clean-up, ten times as long as everything else. [`sweep`] deletes those
/// whose namespace lives on. An interface without an end outside is set down inside: one of a macvlan network that is up
/// holds its hardware address at the parent, and the container that is started next may have the same.
pub(crate) fn cut_off(path: &Path, endpoints: &[Endpoint]) -> Vec<NetError> {
    let outside: Vec<&IfName> =
        endpoints.iter().filter_map(|endpoint| endpoint.host_ifname.as_ref()).collect();
    let inside = endpoints.iter().filter(|endpoint| endpoint.host_ifname.is_none());
    let inside: Vec<&IfName> = inside.map(|endpoint| &endpoint.ifname).collect();
    let mut errors: Vec<NetError> = retire(&outside).err().into_iter().collect();
    if !inside.is_empty() && path.exists() {
        let retired = Netns::open(path).and_then(|netns| netns.run(|| retire(&inside)));
        errors.extend(retired.and_then(std::convert::identity).err());
    }
    errors
}

/// Sets interfaces of the calling thread's namespace down for good.
fn retire(names: &[&IfName]) -> Result<()> {
    let mut batch = Batch::default();
    names.iter().for_each(|name| link::retire(&mut batch, name));
    let failed = || NetError::kernel("set interfaces of a container down");
    let outcomes = driver::route_socket()?.run(&batch).map_err(failed())?;
    outcomes.into_iter().try_for_each(missing_is_fine).map_err(failed())
}

/// Deletes interfaces that were cut off and did not vanish.
///
/// A namespace outlives its last process as long as a TCP connection in it has something left to send, minutes when the
/// other side does not take it (tcp(7), `tcp_orphan_retries`).
pub(crate) fn sweep() -> Result<()> {
    link::delete_departed(&mut driver::route_socket()?)
        .map_err(NetError::kernel("delete interfaces of removed containers"))
}

fn remove_interface(host: &mut Socket, path: &Path, endpoint: &Endpoint) -> Result<()> {
    if driver::leave(host, endpoint)? == Left::Done {
        return Ok(());
    }
    Netns::open(path)?
        .run(|| {
            let failed = NetError::kernel(format!("delete interface {}", endpoint.ifname));
            link::delete(&mut inside_socket()?, &endpoint.ifname).map_err(failed)
        })
        .and_then(std::convert::identity)
}

fn log_all(errors: Vec<NetError>) {
    for error in errors {
        tracing::warn!(%error, "could not take back a part of a failed connection");
    }
}

/// Whether the namespace has to be made.
#[derive(Debug)]
pub(crate) enum Namespace {
    /// It has.
    New,
    /// It has been made for this call and is pinned nowhere yet.
    Made(OwnedFd),
    /// A former call made it.
    Existing,
}

/// Settings that every container's namespace starts with, and those of the spec.
fn initialise(inside: &mut Socket, sysctls: &[(String, String)]) -> Result<()> {
    // IPv6 is on for the loopback interface and for interfaces that get an IPv6 address, and for no other.
    sysctl::write_if_present("net.ipv6.conf.default.disable_ipv6", "1")?;
    let mut batch = Batch::default();
    link::set_up(&mut batch, LOOPBACK);
    inside.run_all(&batch).map_err(NetError::kernel("set loopback interface up"))?;
    sysctls.iter().try_for_each(|(key, value)| sysctl::write(key, value))
}

fn join_all(
    plan: &Plan<'_>,
    prepared: &mut [(usize, Prepared<'_>)],
    host: &mut Socket,
    inside: &mut Socket,
    netns: BorrowedFd<'_>,
) -> Result<()> {
    for (index, prepared) in prepared {
        let endpoint = &plan.endpoints[*index];
        let spec = &plan.spec.endpoints[*index];
        let sysctls = endpoint_sysctls(spec, &endpoint.ifname)?;
        driver::join(host, prepared, endpoint, netns)?;
        configure(inside, endpoint, &sysctls, &segment_routes(spec))?;
        if let DriverSpec::Overlay(overlay) = &spec.network.driver
            && overlay.role == OverlayRole::Ingress
        {
            let index = driver::link_index(inside, &endpoint.ifname)?;
            lb::install_return_path(inside, index, endpoint, overlay)?;
        }
    }
    Ok(())
}

/// Points the default routes at the chosen endpoints when that changed.
fn set_gateways(plan: &Plan<'_>, inside: &mut Socket) -> Result<()> {
    let mut batch = Batch::default();
    for (slot, family) in [INET, INET6].into_iter().enumerate() {
        match plan.gateways[slot] {
            Some((_, hop)) if plan.gateways_before[slot] == Some(hop) => {}
            Some((index, hop)) => {
                let link = driver::link_index(inside, &plan.endpoints[index].ifname)?;
                route::set_default(&mut batch, link, hop);
            }
            None if plan.gateways_before[slot].is_some() => route::remove_default(&mut batch, family),
            None => {}
        }
    }
    let failed = || NetError::kernel("set default routes");
    let outcome = inside
        .run(&batch)
        .map_err(failed())
        .and_then(|outcomes| outcomes.into_iter().try_for_each(missing_is_fine).map_err(failed()));
    match outcome {
        // A network is left all the same: another one that cannot take over the default route is its owner's doing.
        Err(error) if plan.joining.is_empty() && !plan.leaving.is_empty() => {
            tracing::warn!(error = %error, "a container has no default route after it left a network");
            Ok(())
        }
        outcome => outcome,
    }
}

fn inside_socket() -> Result<Socket> {
    Socket::open(Protocol::Route)
        .map_err(NetError::kernel("open rtnetlink socket in the container's namespace"))
}

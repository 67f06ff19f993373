//! Brings a node to the desired state after a start of the daemon, whatever was left behind.
//!
//! Start reading at [`run`]. It uses the same functions as normal operation and adds the removal of leftovers: pinned
//! namespaces, interfaces, rules, held ports and names that no record wants.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::PoisonError;

use super::{Desired, ForwardPolicy, RestoreReport, Shared, outside};
use crate::driver;
use crate::error::{NetError, Result};
use crate::firewall::rules::{link_elements, network_elements, port_elements};
use crate::firewall::{Element, Family};
use crate::netd::protocol::{HeldPort, PortKey, State};
use crate::netlink::link::{self, GROUP};
use crate::netns::{self, Netns};
use crate::spec::{DriverSpec, IfName, Sandbox, SandboxSpec};

/// Makes everything what `desired` says.
pub(super) fn run(shared: &Shared, desired: &Desired) -> RestoreReport {
    let mut report = RestoreReport::default();
    if shared.config.forward_policy == ForwardPolicy::Drop && shared.forwarding_note().exists() {
        shared.firewall.expect_drop();
    }
    for network in &desired.networks {
        report.errors.extend(shared.setup_network(network).err());
    }
    let present = |(_, sandbox): &&(SandboxSpec, Sandbox)| {
        sandbox.netns.as_ref().is_none_or(|path| Netns::open(path).is_ok())
    };
    let (alive, lost): (Vec<_>, Vec<_>) = desired.sandboxes.iter().partition(present);
    report.lost = lost.iter().map(|(_, sandbox)| sandbox.id).collect();
    report.errors.extend(sync_firewall(shared, desired, &alive).err());
    report.errors.extend(sync_netd(shared, &alive).err());
    remove_leftover_namespaces(shared, &alive, &mut report);
    if let Err(error) = remove_leftover_links(desired, &alive, &mut report) {
        report.errors.push(error);
    }
    report
}

fn sync_firewall(shared: &Shared, desired: &Desired, alive: &[&(SandboxSpec, Sandbox)]) -> Result<()> {
    let elements = Family::ALL.map(|family| {
        let networks = desired.networks.iter().flat_map(|network| network_elements(network, family));
        let ports = alive.iter().flat_map(|(_, sandbox)| port_elements(&sandbox.published, family));
        let links = alive
            .iter()
            .flat_map(|(_, sandbox)| sandbox.endpoints.iter().flat_map(|e| link_elements(e, family)));
        networks.chain(ports).chain(links).collect::<BTreeSet<Element>>()
    });
    for (family, synced) in shared.firewall.sync(elements)? {
        tracing::debug!(?family, ?synced, "firewall brought to the desired state");
    }
    Ok(())
}

fn sync_netd(shared: &Shared, alive: &[&(SandboxSpec, Sandbox)]) -> Result<()> {
    let mut state = State::default();
    {
        let mut registry = shared.ports.lock().unwrap_or_else(PoisonError::into_inner);
        registry.clear();
        for (_, sandbox) in alive {
            sandbox.published.iter().for_each(|port| registry.take(sandbox.id, port));
        }
    }
    for (spec, sandbox) in alive {
        state.resolvers.extend(outside::resolver(shared, spec));
        state.records.extend(outside::records(spec, &sandbox.endpoints));
        state.holds.extend(sandbox.published.iter().filter_map(|port| {
            let key = PortKey { protocol: port.protocol, address: port.host? };
            Some(HeldPort { key, target: outside::proxy_target(shared, port.target) })
        }));
    }
    shared.netd.sync(state)
}

fn remove_leftover_namespaces(
    shared: &Shared,
    alive: &[&(SandboxSpec, Sandbox)],
    report: &mut RestoreReport,
) {
    let wanted: BTreeSet<&PathBuf> = alive.iter().filter_map(|(_, sandbox)| sandbox.netns.as_ref()).collect();
    let pinned = match netns::list(&shared.config.netns_dir) {
        Ok(pinned) => pinned,
        Err(error) => return report.errors.push(error),
    };
    for path in pinned.into_iter().filter(|path| !wanted.contains(path)) {
        match netns::remove(&path) {
            Ok(()) => report.removed.push(format!("network namespace {}", path.display())),
            Err(error) => report.errors.push(error),
        }
    }
}

fn remove_leftover_links(
    desired: &Desired,
    alive: &[&(SandboxSpec, Sandbox)],
    report: &mut RestoreReport,
) -> Result<()> {
    let bridges = desired.networks.iter().filter_map(|network| match &network.driver {
        DriverSpec::Bridge(bridge) => Some(bridge.bridge.to_string()),
        DriverSpec::Macvlan(macvlan) => Some(driver::macvlan::parent_label(network, macvlan)),
        DriverSpec::Overlay(_) | DriverSpec::Host | DriverSpec::None => None,
    });
    let ends = alive
        .iter()
        .flat_map(|(_, sandbox)| &sandbox.endpoints)
        .filter_map(|endpoint| endpoint.host_ifname.as_ref().map(ToString::to_string));
    let wanted: BTreeSet<String> = bridges.chain(ends).collect();
    let mut socket = driver::route_socket()?;
    link::delete_departed(&mut socket)
        .map_err(NetError::kernel("delete interfaces of removed containers"))?;
    let links = link::list(&mut socket).map_err(NetError::kernel("list links"))?;
    for leftover in links.into_iter().filter(|link| link.group == GROUP && !wanted.contains(&link.name)) {
        let name: IfName = leftover.name.parse()?;
        link::delete(&mut socket, &name).map_err(NetError::kernel(format!("delete leftover link {name}")))?;
        report.removed.push(format!("{} {name}", leftover.kind));
    }
    Ok(())
}

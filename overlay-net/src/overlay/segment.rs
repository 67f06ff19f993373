//! One overlay network's namespace on this node: a bridge, a tunnel for each subnet, and their tables.
//!
//! Start reading at [`Segment::ensure`]. The namespace is pinned under the network's id; what is in it is found, not
//! remembered, so that a daemon that was killed goes on where it was. Tunnels are made from the node's namespace, which
//! is their underlay, and live in the network's.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use shoal_types::NetworkId;

use super::spec::{Encryption, OverlaySpec, OverlaySubnet, Repaired};
use super::tables::{Op, Program, TunnelNumber, difference};
use crate::driver::route_socket;
use crate::error::{NetError, Result};
use crate::netlink::codec::Batch;
use crate::netlink::link::{self, Ipv6, Veth};
use crate::netlink::neigh::{self, Forward};
use crate::netlink::vxlan::{self, Tunnel};
use crate::netlink::{Socket, addr, existing_is_fine, missing_is_fine};
use crate::netns::{self, Netns};
use crate::spec::{Endpoint, IfName, MacAddr};
use crate::sysctl;
use crate::wireguard::{self, Wireguard};

/// Name of the bridge, as swarm has it.
const BRIDGE: &str = "br0";
/// What VXLAN puts around a frame on IPv4: frame, IP, UDP and VXLAN headers (RFC 7348, section 5).
const OVERHEAD_V4: u32 = 14 + 20 + 8 + 8;
/// The same on IPv6.
const OVERHEAD_V6: u32 = 14 + 40 + 8 + 8;
/// What an underlay carries whose link is not known.
const USUAL_MTU: u32 = 1500;
/// The kernel has no IPv6 on links with less (RFC 8200, section 5).
const IPV6_MIN_MTU: u32 = 1280;
/// How long a former tunnel of the same identifier may take to go: its namespace is taken apart in the background.
const GONE_LIMIT: Duration = Duration::from_secs(5);
const GONE_POLL: Duration = Duration::from_millis(10);
/// Operations in one system call; keeps request and answers below the socket's buffers.
const OPS_A_BATCH: usize = 64;

/// An overlay network's namespace, open for work.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Of the network's namespace, whichever thread uses it.
    inside: Socket,
    bridge: u32,
    tunnels: Vec<u32>,
    mtu: u32,
    /// What [`Segment::ensure`] had to do.
    pub(super) repaired: Repaired,
}

impl Segment {
    /// Opens a network's namespace, and makes what is missing or wrong of it, of the bridge and of the tunnels.
    ///
    /// On a thread of the node's namespace. Fails for networks that this node cannot carry.
    pub(crate) fn ensure(
        dir: &Path,
        network: &NetworkId,
        spec: &OverlaySpec,
        wireguard: &Wireguard,
    ) -> Result<Self> {
        let mut underlay = route_socket()?;
        let mtu = mtu(&mut underlay, spec)?;
        if spec.encryption == Encryption::On {
            // From here on the tunnels have a namespace for their underlay that nothing leaves in the clear.
            underlay = wireguard.underlay()?.run(route_socket)??;
        }
        let mut repaired = Repaired::default();
        let netns = open_or_create(dir, network, &mut repaired)?;
        let mut inside = netns.run(route_socket)??;
        let bridge = ensure_bridge(&mut inside, mtu, &mut repaired)?;
        let mut segment = Self { inside, bridge, tunnels: Vec::new(), mtu, repaired };
        segment.ensure_tunnels(&mut underlay, &netns, network, spec)?;
        netns.run(|| bridge_sysctls(spec)).and_then(std::convert::identity)?;
        segment.ensure_gateways(spec)?;
        Ok(segment)
    }

    /// Creates an endpoint's interface in the container's namespace, with its other end on the bridge.
    pub(crate) fn join(&mut self, endpoint: &Endpoint, netns: std::os::fd::BorrowedFd<'_>) -> Result<()> {
        let name = crate::driver::bridge::host_interface(&endpoint.id)?;
        let veth = Veth {
            host: &name,
            peer: &endpoint.ifname,
            peer_mac: endpoint.mac,
            netns,
            master: self.bridge,
            mtu: Some(self.mtu),
            ipv6: if self.mtu < IPV6_MIN_MTU || !has_ipv6() { Ipv6::Absent } else { Ipv6::Present },
        };
        let mut batch = Batch::default();
        link::add_veth(&mut batch, &veth, None);
        let mut outcome = self.inside.run_all(&batch);
        if outcome.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EEXIST)) {
            // The endpoint's former interface: its namespace is still being taken apart, or a crash left it.
            let _ = link::delete(&mut self.inside, &name);
            outcome = self.inside.run_all(&batch);
        }
        outcome.map_err(NetError::kernel(format!("create veth pair {name} in an overlay network")))
    }

    /// Makes the tables hold exactly this.
    pub(super) fn sync(&mut self, wanted: &Program) -> Result<Repaired> {
        let present = self.read()?;
        let ops = difference(&present, wanted);
        self.execute(&ops)?;
        let removed = ops.iter().filter(|op| op.removes()).count();
        Ok(Repaired { added: ops.len() - removed, removed })
    }

    /// Carries operations out; those that take away what is gone are fine.
    pub(super) fn execute(&mut self, ops: &[Op]) -> Result<()> {
        let failed = || NetError::kernel("write the tables of an overlay network");
        for chunk in ops.chunks(OPS_A_BATCH) {
            let mut batch = Batch::default();
            chunk.iter().for_each(|op| self.write(&mut batch, *op));
            let outcomes = self.inside.run(&batch).map_err(failed())?;
            outcomes.into_iter().try_for_each(missing_is_fine).map_err(failed())?;
        }
        Ok(())
    }

    fn write(&self, batch: &mut Batch, op: Op) {
        let index = |tunnel: TunnelNumber| self.tunnels.get(tunnel).copied().unwrap_or_default();
        match op {
            Op::SetNeighbour(tunnel, address, mac) => {
                neigh::set_permanent(batch, index(tunnel), address, mac);
            }
            Op::RemoveNeighbour(tunnel, address) => neigh::remove(batch, index(tunnel), address),
            Op::SetForward(tunnel, mac, vtep) => neigh::set_forward(batch, index(tunnel), mac, vtep),
            Op::RemoveForward(tunnel, mac) => neigh::remove_forward(batch, index(tunnel), mac),
        }
    }

    /// What the kernel has. A forwarding entry of which one half is gone counts as wrong.
    fn read(&mut self) -> Result<Program> {
        let failed = || NetError::kernel("read the tables of an overlay network");
        let numbers: HashMap<u32, TunnelNumber> =
            self.tunnels.iter().enumerate().map(|(number, &index)| (index, number)).collect();
        let mut program = Program::default();
        for (index, address, mac) in neigh::permanent(&mut self.inside).map_err(failed())? {
            if let Some(&tunnel) = numbers.get(&index) {
                program.neighbours.insert((tunnel, address), mac);
            }
        }
        let forwards = neigh::forwards(&mut self.inside).map_err(failed())?;
        let ports: HashSet<(u32, MacAddr)> = forwards
            .iter()
            .filter_map(|forward| match forward {
                Forward::Port(index, mac) => Some((*index, *mac)),
                Forward::Tunnel(..) => None,
            })
            .collect();
        let nowhere = IpAddr::from([0; 4]);
        for forward in &forwards {
            match forward {
                Forward::Tunnel(index, mac, vtep) => {
                    let Some(&tunnel) = numbers.get(index) else { continue };
                    let whole = ports.contains(&(*index, *mac));
                    program.forwards.insert((tunnel, *mac), if whole { *vtep } else { nowhere });
                }
                Forward::Port(index, mac) => {
                    if let Some(&tunnel) = numbers.get(index) {
                        program.forwards.entry((tunnel, *mac)).or_insert(nowhere);
                    }
                }
            }
        }
        Ok(program)
    }

    fn ensure_tunnels(
        &mut self,
        underlay: &mut Socket,
        netns: &Netns,
        network: &NetworkId,
        spec: &OverlaySpec,
    ) -> Result<()> {
        let failed = || NetError::kernel("look at the tunnels of an overlay network");
        let present = vxlan::list(&mut self.inside).map_err(failed())?;
        let wanted: Vec<(IfName, Tunnel)> = spec
            .subnets
            .iter()
            .map(|subnet| Ok((tunnel_name(network, subnet)?, tunnel(spec, subnet))))
            .collect::<Result<_>>()?;
        let is_right = |found: &vxlan::Found| {
            wanted.iter().any(|(name, tunnel)| name.as_str() == found.name && found.tunnel == Some(*tunnel))
        };
        for wrong in present.iter().filter(|found| !is_right(found)) {
            link::delete(&mut self.inside, &wrong.name.parse()?)
                .map_err(NetError::kernel(format!("delete tunnel {}", wrong.name)))?;
            self.repaired.removed += 1;
        }
        for (name, tunnel) in &wanted {
            let found = present.iter().find(|found| found.name == name.as_str() && is_right(found));
            let index = match found {
                Some(found) => found.index,
                None => self.add_tunnel(underlay, netns, name, *tunnel)?,
            };
            let settled = found
                .is_some_and(|found| found.up && found.mtu == self.mtu && found.master == Some(self.bridge));
            if !settled {
                let mut batch = Batch::default();
                vxlan::join_bridge(&mut batch, index, self.bridge, self.mtu);
                self.inside
                    .run_all(&batch)
                    .map_err(NetError::kernel(format!("join tunnel {name} to its bridge")))?;
                self.repaired.added += 1;
            }
            self.tunnels.push(index);
        }
        Ok(())
    }

    /// Creates a tunnel, waiting for a former one of the same identifier to go.
    fn add_tunnel(
        &mut self,
        underlay: &mut Socket,
        netns: &Netns,
        name: &IfName,
        tunnel: Tunnel,
    ) -> Result<u32> {
        let mut batch = Batch::default();
        vxlan::add(&mut batch, name, tunnel, self.mtu, netns.as_fd());
        let deadline = Instant::now() + GONE_LIMIT;
        loop {
            match underlay.run_all(&batch) {
                Ok(()) => break,
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) && Instant::now() < deadline => {
                    if !take_from_others(netns.path(), tunnel)? {
                        // The kernel tells nobody when a namespace without a name is gone at last.
                        thread::sleep(GONE_POLL);
                    }
                }
                Err(error) => return Err(NetError::kernel(format!("create tunnel {name}"))(error)),
            }
        }
        crate::driver::link_index(&mut self.inside, name)
    }

    fn ensure_gateways(&mut self, spec: &OverlaySpec) -> Result<()> {
        let failed = || NetError::kernel("set addresses of an overlay network's bridge");
        let wanted: Vec<IpNet> = spec
            .subnets
            .iter()
            .filter_map(|subnet| IpNet::new(subnet.gateway?, subnet.subnet.prefix_len()).ok())
            .collect();
        let bridge = self.bridge;
        let present = addr::list(&mut self.inside).map_err(failed())?;
        let present: Vec<IpNet> =
            present.into_iter().filter(|(index, _)| *index == bridge).map(|(_, net)| net).collect();
        let mut batch = Batch::default();
        for &surplus in present.iter().filter(|net| !wanted.contains(net) && !addr::is_link_local(net.addr()))
        {
            addr::remove(&mut batch, bridge, surplus);
            self.repaired.removed += 1;
        }
        for &net in wanted.iter().filter(|net| !present.contains(net)) {
            addr::add(&mut batch, bridge, net);
            self.repaired.added += 1;
        }
        self.inside.run(&batch).map_err(failed())?.into_iter().try_for_each(missing_is_fine).map_err(failed())
    }
}

/// Deletes a tunnel of the same identifier in the namespace of another network; answers whether there was one.
///
/// Identifiers are unique in the cluster: a network that still has this one was removed while the daemon was away.
fn take_from_others(own: &Path, tunnel: Tunnel) -> Result<bool> {
    let Some(dir) = own.parent() else { return Ok(false) };
    let mut taken = false;
    for path in netns::list(dir)?.iter().filter(|path| *path != own) {
        let Ok(netns) = Netns::open(path) else { continue };
        taken |= netns.run(|| delete_tunnels(Some(tunnel)))?? > 0;
    }
    Ok(taken)
}

/// Where a network's namespace is pinned.
pub(crate) fn pin(dir: &Path, network: &NetworkId) -> PathBuf {
    dir.join(network.as_str())
}

/// Removes a network's namespace with everything in it; fine when it is gone.
///
/// Tunnels go first, one by one: their identifiers are free when this returns, while the rest of the namespace is
/// taken apart in the kernel's own time.
pub(crate) fn remove(dir: &Path, network: &NetworkId) -> Vec<NetError> {
    let path = pin(dir, network);
    let tunnels = Netns::open(&path)
        .ok()
        .map(|netns| netns.run(|| delete_tunnels(None)).and_then(std::convert::identity));
    let removed = netns::remove(&path);
    tunnels.and_then(Result::err).into_iter().chain(removed.err()).collect()
}

/// The networks that are pinned, or were meant to be.
pub(crate) fn list(dir: &Path) -> Result<Vec<NetworkId>> {
    let paths = netns::list(dir)?;
    let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
    Ok(names.map(NetworkId::new).collect())
}

/// Deletes every tunnel of the namespace of the calling thread, or those of one identifier and port; answers how many.
fn delete_tunnels(which: Option<Tunnel>) -> Result<usize> {
    let failed = || NetError::kernel("delete the tunnels of an overlay network");
    let mut inside = route_socket()?;
    let is_meant = |found: &vxlan::Found| {
        which.is_none_or(|which| {
            found.tunnel.is_some_and(|other| other.vni == which.vni && other.port == which.port)
        })
    };
    let mut found = vxlan::list(&mut inside).map_err(failed())?;
    found.retain(is_meant);
    for tunnel in &found {
        link::delete(&mut inside, &tunnel.name.parse()?).map_err(failed())?;
    }
    Ok(found.len())
}

fn open_or_create(dir: &Path, network: &NetworkId, repaired: &mut Repaired) -> Result<Netns> {
    let path = pin(dir, network);
    match Netns::open(&path) {
        Ok(netns) => Ok(netns),
        Err(NetError::Namespace { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            // A crash may have come between making the file and mounting the namespace on it.
            netns::remove(&path)?;
            repaired.added += 1;
            Netns::create(&path, |_| initialise()).map(|(netns, ())| netns)
        }
        Err(error) => Err(error),
    }
}

/// Settings of a fresh namespace: it routes between the subnets of its network and has no opinion about addresses.
fn initialise() -> Result<()> {
    sysctl::write("net.ipv4.ip_forward", "1")?;
    sysctl::write("net.ipv4.conf.all.rp_filter", "0")?;
    sysctl::write("net.ipv4.conf.default.rp_filter", "0")?;
    sysctl::write("net.ipv4.conf.all.send_redirects", "0")?;
    sysctl::write("net.ipv4.conf.default.send_redirects", "0")?;
    sysctl::write_if_present("net.ipv6.conf.all.forwarding", "1")?;
    sysctl::write_if_present("net.ipv6.conf.default.accept_dad", "0")
}

fn bridge_sysctls(spec: &OverlaySpec) -> Result<()> {
    if spec.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6()) {
        sysctl::ensure(&sysctl::interface_key("net.ipv6.conf", BRIDGE, "disable_ipv6"), "0")?;
    }
    Ok(())
}

fn ensure_bridge(inside: &mut Socket, mtu: u32, repaired: &mut Repaired) -> Result<u32> {
    let failed = || NetError::kernel("create the bridge of an overlay network");
    let name: IfName = BRIDGE.parse()?;
    let found = link::find(inside, &name).map_err(failed())?;
    match found {
        Some(found) if found.kind != "bridge" => {
            return Err(NetError::WrongInterfaceKind { name: BRIDGE.to_owned(), expected: "bridge" });
        }
        Some(found) if found.up && found.mtu == mtu => return Ok(found.index),
        Some(_) | None => {}
    }
    let mut batch = Batch::default();
    link::set_up(&mut batch, 1);
    match found {
        Some(found) => link::set_bridge(&mut batch, found.index, Some(mtu), link::BridgeFilter::Default),
        None => link::add_segment_bridge(&mut batch, &name, mtu),
    }
    existing_is_fine(inside.run_all(&batch)).map_err(failed())?;
    repaired.added += 1;
    crate::driver::link_index(inside, &name)
}

/// The MTU inside: what the underlay carries, without what the tunnel adds.
fn mtu(host: &mut Socket, spec: &OverlaySpec) -> Result<u32> {
    let underlay = match spec.underlay_mtu {
        Some(given) => given,
        None => underlay_mtu(host, spec.vtep)?.unwrap_or(USUAL_MTU),
    };
    let (underlay, overhead) = match spec.encryption {
        Encryption::Off if spec.vtep.is_ipv4() => (underlay, OVERHEAD_V4),
        Encryption::Off => (underlay, OVERHEAD_V6),
        // Addresses inside are IPv6, whatever is outside.
        Encryption::On => (wireguard::payload(underlay, spec.vtep), OVERHEAD_V6),
    };
    Ok(underlay.saturating_sub(overhead))
}

/// The MTU of the link that has an address.
pub(crate) fn underlay_mtu(host: &mut Socket, vtep: IpAddr) -> Result<Option<u32>> {
    let failed = || NetError::kernel("look up the link of the data path");
    let addresses = addr::list(host).map_err(failed())?;
    let Some((index, _)) = addresses.into_iter().find(|(_, net)| net.addr() == vtep) else {
        tracing::warn!(%vtep, "no link of this node has the data path address");
        return Ok(None);
    };
    let links = link::list(host).map_err(failed())?;
    Ok(links.into_iter().find(|link| link.index == index).map(|link| link.mtu))
}

/// `vx-`, the identifier in six hexadecimal digits, `-` and the network's first five, as swarm names them.
fn tunnel_name(network: &NetworkId, subnet: &OverlaySubnet) -> Result<IfName> {
    let id = network.as_str().get(..5).unwrap_or(network.as_str());
    format!("vx-{:06x}-{id}", subnet.vni).parse()
}

fn tunnel(spec: &OverlaySpec, subnet: &OverlaySubnet) -> Tunnel {
    let local = match spec.encryption {
        Encryption::Off => spec.vtep,
        // The kernel takes the address of the device by which a peer is reached: it follows from the key in use.
        Encryption::On => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Tunnel { vni: subnet.vni, local, port: spec.port }
}

/// A machine has IPv6 from boot or never.
fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

//! What encrypts overlay networks between nodes: WireGuard, one key pair and one device for the whole node.
//!
//! Start reading at [`Wireguard::apply`]; `plan.rs` and `key.rs` are the PURE parts, `device.rs` is what a device is,
//! `kernel.rs` and `userspace.rs` the two kinds of it. Why it is so: docs/decisions/2026-11-21-overlay-encryption.md.
//!
//! The devices are alone in a namespace that has no other link, and the tunnels of encrypted networks have that one for
//! their underlay: a frame is encrypted or goes nowhere, whatever is missing, wrong or not yet there. Datagrams leave
//! and arrive in the node's namespace. Without an encrypted network there is no namespace, device, process or timer.

mod device;
mod kernel;
mod key;
mod plan;
mod process;
mod tunnel;
mod userspace;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use self::device::{Device, Workshop};
use self::key::Keyring;
pub use self::key::{PublicKey, Slot, TunnelKey};
pub use self::plan::TunnelPeer;
pub(crate) use self::process::{MODE, main};
use self::userspace::Process;
use crate::driver::route_socket;
use crate::error::{NetError, Result};
use crate::host::SpawnNetd;
use crate::netlink::codec::Batch;
use crate::netlink::{INET6, Socket, missing_is_fine, route};
use crate::netns::{self, Netns};
use crate::overlay::segment::underlay_mtu;
use crate::sysctl;

/// How far the first of the two UDP ports of the encrypted data path is from that of the plain one.
pub const PORT_DISTANCE: u16 = 4;
/// What a WireGuard message puts around a packet on IPv4: IP, UDP, message header, authentication tag.
const OVERHEAD_V4: u32 = 20 + 8 + 16 + 16;
/// The same on IPv6.
const OVERHEAD_V6: u32 = 40 + 8 + 16 + 16;
/// Packets are filled up to a multiple of this (WireGuard paper, section 5.4.6).
const PADDING: u32 = 16;
/// What an underlay carries whose link is not known.
const USUAL_MTU: u32 = 1500;

/// The encrypted data path as this node shall have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardSpec {
    /// Address of this node that datagrams are for (its data path address).
    pub vtep: IpAddr,
    /// The first of the two UDP ports, the same on every node: that of the plain data path and [`PORT_DISTANCE`].
    pub port: u16,
    /// Every other node that is in an encrypted network with this one.
    pub peers: Vec<TunnelPeer>,
}

/// How far a newer key of this node has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changeover {
    /// Peers that have not answered to the newest key yet; none when there is only one.
    pub waiting: usize,
}

/// The encrypted data path of this node.
///
/// Owner of keys and devices: whoever changes them holds the lock.
pub(crate) struct Wireguard {
    dir: PathBuf,
    spawn: SpawnNetd,
    state: Mutex<State>,
    /// Other processes than before.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    keyring: Option<Keyring>,
    told: Option<WireguardSpec>,
    /// Of devices that are not the kernel's.
    processes: Vec<Process>,
}

impl Wireguard {
    /// What is below that directory. Nothing is made before it is needed.
    pub(crate) fn new(dir: PathBuf, spawn: SpawnNetd) -> Self {
        Self { dir, spawn, state: Mutex::default(), changed: Notify::new() }
    }

    /// This node's public keys, newest first. Makes the first pair when there is none.
    pub(crate) fn keys(&self) -> Result<Vec<TunnelKey>> {
        let mut state = self.lock();
        Ok(self.keyring(&mut state)?.keys().iter().map(key::OwnKey::told).collect())
    }

    /// Since when the newest key is there.
    pub(crate) fn age(&self) -> Result<Duration> {
        let mut state = self.lock();
        Ok(self.keyring(&mut state)?.age(SystemTime::now()))
    }

    /// Makes a newer key pair, unless one is about to take over already. Both are answered from the next
    /// [`Wireguard::apply`] on.
    pub(crate) fn rotate(&self) -> Result<()> {
        self.change_keyring(|ring| if ring.is_changing() { Ok(()) } else { ring.add(SystemTime::now()) })
    }

    /// Forgets the older key pair.
    pub(crate) fn retire(&self) -> Result<()> {
        self.change_keyring(|ring| {
            ring.retire();
            Ok(())
        })
    }

    /// Where frames for a data path address go inside the tunnels; nowhere for nodes whose keys are not known.
    pub(crate) fn ends(&self) -> BTreeMap<IpAddr, Ipv6Addr> {
        let state = self.lock();
        state.told.as_ref().map(|told| plan::ends(&told.peers, told.port)).unwrap_or_default()
    }

    /// The namespace that tunnels of encrypted networks have for their underlay; made when it is missing.
    pub(crate) fn underlay(&self) -> Result<Netns> {
        let path = self.pin();
        match Netns::open(&path) {
            Ok(netns) => Ok(netns),
            Err(NetError::Namespace { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if !Path::new("/proc/sys/net/ipv6").exists() {
                    return Err(NetError::NotSupported(NO_IPV6));
                }
                fs::create_dir_all(&self.dir)
                    .map_err(NetError::kernel("create the directory of WireGuard"))?;
                // A crash may have come between making the file and mounting the namespace on it.
                netns::remove(&path)?;
                Netns::create(&path, |_| initialise()).map(|(netns, ())| netns)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes devices, peers and routes exactly what is given, whatever was there before. Sessions that are open go on.
    pub(crate) fn apply(&self, spec: &WireguardSpec) -> Result<Changeover> {
        let mut state = self.lock();
        let ring = self.keyring(&mut state)?.clone();
        let before = state.told.replace(spec.clone());
        let before = before.map(|told| plan::wanted(&told.peers, told.port)).unwrap_or_default();
        let wanted = plan::wanted(&spec.peers, spec.port);
        let netns = self.underlay()?;
        let mut host = route_socket()?;
        let mtu = payload(underlay_mtu(&mut host, spec.vtep)?.unwrap_or(USUAL_MTU), spec.vtep);
        let mut inside = netns.run(route_socket)??;
        let mut workshop = Workshop {
            dir: &self.dir,
            spawn: &self.spawn,
            host: &mut host,
            inside: &mut inside,
            netns: &netns,
            first_port: spec.port,
            mtu,
        };
        workshop.remove_all_but(ring.keys())?;
        let mut devices = Vec::new();
        for key in ring.keys() {
            devices.push(workshop.ensure(key)?);
        }
        state.processes = devices.iter().filter_map(Device::process).collect();
        self.changed.notify_waiters();
        let met = renew_peers(&mut devices, &wanted, &before)?;
        let links: Vec<u32> = devices.iter().map(Device::index).collect();
        renew_routes(&mut inside, wanted.keys(), &met, &links)?;
        let newest = met.first().filter(|_| ring.is_changing());
        Ok(Changeover { waiting: newest.map_or(0, |met| wanted.len() - met.len()) })
    }

    /// Removes devices, processes and namespace; fine when there is nothing. The keys stay.
    pub(crate) fn remove(&self) -> Vec<NetError> {
        let mut state = self.lock();
        state.told = None;
        state.processes.clear();
        self.changed.notify_waiters();
        let mut errors = device::stop_processes(&self.dir);
        errors.extend(netns::remove(&self.pin()).err());
        errors
    }

    /// Forgets the keys and everything that is left of the directory.
    pub(crate) fn forget(&self) -> Vec<NetError> {
        let mut state = self.lock();
        *state = State::default();
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                vec![NetError::kernel("remove the directory of WireGuard")(error)]
            }
            _ => Vec::new(),
        }
    }

    /// Resolves when a process that encrypts has ended. Those of the kernel's devices are none.
    pub(crate) async fn closed(&self) {
        loop {
            let changed = self.changed.notified();
            let processes = self.lock().processes.clone();
            let ended = |number: usize| {
                let process = processes.get(number).cloned();
                async move {
                    match process {
                        Some(process) => process.ended().await,
                        None => std::future::pending().await,
                    }
                }
            };
            tokio::select! {
                // Nothing is lost when one of them is dropped: the next turn looks at all.
                () = ended(0) => return,
                () = ended(1) => return,
                () = changed => {}
            }
        }
    }

    fn change_keyring(&self, change: impl FnOnce(&mut Keyring) -> io::Result<()>) -> Result<()> {
        let mut state = self.lock();
        let mut ring = self.keyring(&mut state)?.clone();
        let failed = || NetError::kernel("keep the keys of WireGuard");
        change(&mut ring).map_err(failed())?;
        // Written before it is used: a key that others are told of must be found again.
        ring.save(&self.ring_path()).map_err(failed())?;
        state.keyring = Some(ring);
        Ok(())
    }

    fn keyring<'a>(&self, state: &'a mut State) -> Result<&'a Keyring> {
        let ring = match state.keyring.take() {
            Some(ring) => ring,
            None => {
                Keyring::open(&self.ring_path()).map_err(NetError::kernel("open the keys of WireGuard"))?
            }
        };
        Ok(state.keyring.insert(ring))
    }

    fn ring_path(&self) -> PathBuf {
        self.dir.join("keys")
    }

    fn pin(&self) -> PathBuf {
        self.dir.join("netns")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Wireguard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wireguard").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Why nodes without IPv6 refuse encrypted networks.
const NO_IPV6: &str = "an overlay network with encryption on a machine whose kernel has no IPv6";

/// What is left of an underlay's packets for those inside the tunnel. A multiple of the padding, so that no packet grows
/// beyond the underlay's.
pub(crate) fn payload(underlay: u32, vtep: IpAddr) -> u32 {
    let overhead = if vtep.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    underlay.saturating_sub(overhead) / PADDING * PADDING
}

/// Settings of the fresh namespace: a machine may have turned IPv6 off for links to come.
fn initialise() -> Result<()> {
    sysctl::write("net.ipv6.conf.all.disable_ipv6", "0")?;
    sysctl::write("net.ipv6.conf.default.disable_ipv6", "0")?;
    sysctl::write("net.ipv6.conf.default.accept_dad", "0")?;
    sysctl::write("net.ipv6.conf.default.accept_ra", "0")
}

/// Gives every device the peers that are wanted; answers those that each has met.
fn renew_peers(
    devices: &mut [Device],
    wanted: &BTreeMap<PublicKey, SocketAddr>,
    before: &BTreeMap<PublicKey, SocketAddr>,
) -> Result<Vec<BTreeSet<PublicKey>>> {
    let mut all = Vec::new();
    for device in devices {
        let present = device.peers();
        let changes = plan::changes(present, wanted, before);
        let met = present.iter().filter(|peer| peer.is_met && wanted.contains_key(&peer.public));
        all.push(met.map(|peer| peer.public).collect());
        if !changes.is_empty() {
            device.change(&changes)?;
        }
    }
    Ok(all)
}

/// Leads every peer's address to the device by which it is reached. There is no other route, and no way but these.
fn renew_routes<'a>(
    inside: &mut Socket,
    wanted: impl Iterator<Item = &'a PublicKey>,
    met: &[BTreeSet<PublicKey>],
    links: &[u32],
) -> Result<()> {
    let failed = || NetError::kernel("set the routes of WireGuard");
    let mut present: BTreeMap<IpAddr, u32> =
        route::on_links(inside, INET6).map_err(failed())?.into_iter().collect();
    let mut batch = Batch::default();
    for public in wanted {
        let address = IpAddr::V6(public.address());
        let Some(&link) = links.get(plan::way_to(public, met)) else { continue };
        if present.remove(&address) != Some(link) {
            route::add_on_link(&mut batch, link, address);
        }
    }
    present.keys().for_each(|&surplus| route::remove_to(&mut batch, surplus));
    inside.run(&batch).map_err(failed())?.into_iter().try_for_each(missing_is_fine).map_err(failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_inside_never_grow_beyond_the_underlay() {
        let (v4, v6) = ([192, 0, 2, 1].into(), [0u8; 16].into());
        assert_eq!(payload(1500, v4), 1440);
        assert_eq!(payload(1500, v6), 1408);
        assert_eq!(payload(9000, v4), 8928);
        assert_eq!(payload(50, v4), 0);
    }
}

//! The handle on this node's networking that the engine holds.
//!
//! Start reading at [`Host`]. Its operations are synchronous and take a few milliseconds in the kernel: call them on a
//! blocking thread (`spawn_blocking`) whose network namespace is the node's. What it keeps in memory (which host ports
//! are taken, what netd was told) is rebuilt by [`Host::restore`] from the engine's records.

mod outside;
mod overlay;
mod restore;
mod wireguard;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use shoal_types::SandboxId;

use crate::dns::files::ResolvConf;
use crate::driver::{self, LoopbackPublishing};
use crate::error::{NetError, Result};
use crate::firewall::rules::network_elements;
use crate::firewall::{Family, Firewall};
use crate::forwarding;
use crate::lb::Balancer;
use crate::netd;
use crate::netlink::{addr, link, route};
use crate::netns;
use crate::overlay::Overlays;
use crate::portmap::Registry;
use crate::sandbox::{self, Namespace, Plan};
use crate::spec::{DriverSpec, Endpoint, NetworkSpec, Reach, Sandbox, SandboxMode, SandboxSpec};
use crate::wireguard::Wireguard;

/// How this node wants its networking, from the daemon's flags.
#[derive(Clone)]
pub struct Config {
    /// Directory of the containers' pinned namespaces, as `/run/shoal/netns`; those of overlay networks are in the
    /// directory `overlay` beside it, and what encrypts them in `wireguard`.
    pub netns_dir: PathBuf,
    /// Unix socket of netd, as `/run/shoal/netd.sock`.
    pub netd_socket: PathBuf,
    /// Starts netd as a process that outlives the daemon, with the socket path as its argument.
    pub spawn_netd: SpawnNetd,
    /// Makes namespaces for [`SandboxMode::Remapped`].
    pub make_remapped: MakeNamespace,
    /// Whether IPv4 rules are written (`--iptables`).
    pub firewall_v4: Management,
    /// Whether IPv6 rules are written (`--ip6tables`).
    pub firewall_v6: Management,
    /// Whether the kernel's forwarding switches are turned on when a network needs them (`--ip-forward`).
    pub forwarding: Management,
    /// What happens to foreign forwarded packets when this node turned forwarding on (`--ip-forward-no-drop`).
    pub forward_policy: ForwardPolicy,
    /// Packets that may enter every network that is not internal, published port or not (`--bridge-accept-fwmark`).
    pub accepted_mark: Option<PacketMark>,
    /// Whether paths that the kernel cannot translate are proxied (`--userland-proxy`).
    pub proxy: Management,
}

/// Starts `shoald netd <args>` detached from the caller; the only process that this crate needs.
pub type SpawnNetd = Arc<dyn Fn(&[std::ffi::OsString]) -> io::Result<()> + Send + Sync>;

/// Makes a network namespace in a new user namespace, or in that of the process with this id, and opens it. Called on
/// blocking threads.
pub type MakeNamespace = Arc<dyn Fn(Option<u32>) -> io::Result<OwnedFd> + Send + Sync>;

/// Whether Shoal takes care of something, or leaves it to the administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Management {
    /// Shoal does it.
    Managed,
    /// The administrator does it, or wants it not done.
    LeftAlone,
}

/// What happens to forwarded packets that belong to no network of ours, once Shoal has turned forwarding on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardPolicy {
    /// They are dropped, as dockerd does: a machine must not become a router by installing an engine.
    Drop,
    /// They pass.
    Accept,
}

/// Which packets are meant: those whose mark, the number that firewalls write on a packet inside the kernel, has this value in
/// the bits of the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketMark {
    /// What the bits have to be.
    pub value: u32,
    /// Which bits are looked at.
    pub mask: u32,
}

/// Everything that shall exist on this node; given once, at boot.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// Every network of this node.
    pub networks: Vec<Arc<NetworkSpec>>,
    /// Every running sandbox: what was asked for and what was recorded of it.
    pub sandboxes: Vec<(SandboxSpec, Sandbox)>,
}

/// What [`Host::restore`] found and did.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Sandboxes whose namespace is gone: their containers cannot be adopted.
    pub lost: Vec<SandboxId>,
    /// Leftovers that belonged to no record and were removed, in words for the log.
    pub removed: Vec<String>,
    /// What could not be repaired or removed.
    pub errors: Vec<NetError>,
}

/// This node's networking.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    firewall: Firewall,
    ports: Mutex<Registry>,
    netd: netd::Client,
    overlays: Overlays,
    balancer: Balancer,
}

/// The addresses of an interface of the node; `None` when there is no such interface. Blocks for a moment.
pub fn interface_addresses(name: &str) -> Result<Option<Vec<IpNet>>> {
    let mut socket = driver::route_socket()?;
    let failed = || NetError::kernel(format!("look at interface {name}"));
    let Some(found) = link::find(&mut socket, &name.parse()?).map_err(failed())? else { return Ok(None) };
    let all = addr::list(&mut socket).map_err(failed())?;
    Ok(Some(all.into_iter().filter(|(index, _)| *index == found.index).map(|(_, net)| net).collect()))
}

impl Host {
    /// Takes hold of the namespace of the calling thread as the node's.
    ///
    /// Makes the directories of `config` and touches nothing else; call [`Host::restore`] next.
    pub fn open(config: Config) -> Result<Self> {
        let overlays = config.netns_dir.with_file_name("overlay");
        let directories = [Some(config.netns_dir.as_path()), Some(&overlays), config.netd_socket.parent()];
        for path in directories.into_iter().flatten() {
            std::fs::create_dir_all(path)
                .map_err(|source| NetError::Namespace { path: path.to_owned(), source })?;
        }
        let firewall = Firewall::new(&config);
        let netd = netd::Client::new(config.netd_socket.clone(), Arc::clone(&config.spawn_netd));
        let wireguard = config.netns_dir.with_file_name("wireguard");
        let wireguard = Wireguard::new(wireguard, Arc::clone(&config.spawn_netd));
        let overlays = Overlays::new(overlays, wireguard);
        let balancer = Balancer::default();
        let ports = Mutex::default();
        Ok(Self { shared: Arc::new(Shared { config, firewall, ports, netd, overlays, balancer }) })
    }

    /// Brings the kernel, the firewall and netd to exactly `desired`, from whatever a crash or a reboot left.
    ///
    /// Removes what carries our marks and is not desired. Never stops at the first error. Established connections
    /// survive.
    pub fn restore(&self, desired: &Desired) -> RestoreReport {
        restore::run(&self.shared, desired)
    }

    /// Creates what a network needs on this node (its bridge and rules), or completes it.
    pub fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        self.shared.setup_network(network)?;
        for family in Family::ALL {
            self.shared.firewall.add(family, network_elements(network, family))?;
        }
        Ok(())
    }

    /// Removes what [`Host::ensure_network`] made; succeeds when there is nothing.
    ///
    /// The caller has made sure that no endpoint is left.
    pub fn remove_network(&self, network: &NetworkSpec) -> Vec<NetError> {
        let rules =
            Family::ALL.map(|family| self.shared.firewall.remove(family, &network_elements(network, family)));
        rules
            .into_iter()
            .chain([driver::teardown(network, &self.shared.overlays)])
            .filter_map(Result::err)
            .collect()
    }

    /// Makes the container's network what `spec` says: creates it, or connects and disconnects endpoints.
    ///
    /// `previous` is what an earlier call answered for the same sandbox; addresses, interface names and published
    /// ports of endpoints that stay are kept. On failure everything that this call made is undone, `previous` is still
    /// what is there, and the error is the cause.
    pub fn ensure_sandbox(&self, spec: &SandboxSpec, previous: Option<&Sandbox>) -> Result<Sandbox> {
        if spec.mode == SandboxMode::Host {
            return Ok(Sandbox { id: spec.id, netns: None, endpoints: Vec::new(), published: Vec::new() });
        }
        let path = self.shared.netns_path(&spec.id);
        let plan = Plan::new(spec, previous)?;
        let namespace = match (previous, spec.mode) {
            (Some(_), _) => Namespace::Existing,
            (None, SandboxMode::Remapped(peer)) => {
                let made = (self.shared.config.make_remapped)(peer);
                Namespace::Made(made.map_err(|source| NetError::Namespace { path: path.clone(), source })?)
            }
            (None, SandboxMode::Private | SandboxMode::Host) => Namespace::New,
        };
        if previous.is_none() {
            // A former namespace of this id may have been lost without our doing.
            self.shared.balancer.forget(&spec.id);
        }
        sandbox::apply(&plan, &path, namespace, &self.shared.overlays)?;
        match outside::connect(&self.shared, spec, &plan, previous) {
            Ok(published) => {
                let leaving: Vec<&Endpoint> = plan.leaving.iter().collect();
                for error in sandbox::remove_interfaces(&path, &leaving) {
                    tracing::warn!(sandbox.id = %spec.id, %error, "could not remove the interface of an endpoint");
                }
                Ok(Sandbox { id: spec.id, netns: Some(path), endpoints: plan.endpoints, published })
            }
            Err(cause) => {
                let errors = match previous {
                    Some(previous) => sandbox::revert(&plan, &path, previous),
                    None => netns::remove(&path).err().into_iter().collect(),
                };
                for error in errors {
                    tracing::warn!(sandbox.id = %spec.id, %error, "could not take back a part of a failed set-up");
                }
                Err(cause)
            }
        }
    }

    /// Removes a container's network: ports, rules, names, interfaces, namespace. Never stops at the first error.
    ///
    /// When it returns nothing reaches the container any more; the kernel frees the namespace and its interfaces soon
    /// after the last process in it has ended. Call [`Host::sweep`] a moment later: connections with unsent data may keep
    /// them for minutes.
    pub fn remove_sandbox(&self, sandbox: &Sandbox) -> Vec<NetError> {
        let mut errors = outside::disconnect(&self.shared, sandbox);
        self.shared.balancer.forget(&sandbox.id);
        if let Some(path) = &sandbox.netns {
            errors.extend(sandbox::cut_off(path, &sandbox.endpoints));
            errors.extend(netns::remove(path).err());
        }
        errors
    }

    /// Deletes the interfaces of removed sandboxes that the kernel has not freed by itself.
    pub fn sweep(&self) -> Result<()> {
        sandbox::sweep()
    }

    /// Where the namespace of a sandbox is pinned, or will be.
    pub fn netns_path(&self, sandbox: &SandboxId) -> PathBuf {
        self.shared.netns_path(sandbox)
    }

    /// The ranges that a new subnet must keep away from: routes and addresses of the host, and its name servers.
    pub fn occupied(&self) -> Result<Vec<IpNet>> {
        let mut socket = driver::route_socket()?;
        let mut nets = route::destinations(&mut socket).map_err(NetError::kernel("list routes"))?;
        let addresses = addr::list(&mut socket).map_err(NetError::kernel("list addresses"))?;
        nets.extend(addresses.into_iter().map(|(_, net)| net.trunc()));
        let conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        nets.extend(ResolvConf::parse(&conf).servers.into_iter().map(IpNet::from));
        Ok(nets)
    }

    /// Tables of others that drop forwarded packets unless a rule of theirs says otherwise, for a warning at boot.
    pub fn foreign_drops(&self) -> Result<Vec<String>> {
        self.shared.firewall.foreign_drops()
    }

    /// Resolves when netd is needed and has died; the engine then calls [`Host::repair_netd`].
    pub async fn netd_closed(&self) {
        self.shared.netd.closed().await;
    }

    /// Starts netd again and tells it everything.
    pub fn repair_netd(&self) -> Result<()> {
        self.shared.netd.repair()
    }

    /// Hangs up on netd, which ends if it has nothing to do; for the daemon's orderly end.
    pub fn leave_netd(&self) {
        self.shared.netd.leave();
    }

    /// Removes our nftables tables; for the uninstall command, when no container runs.
    pub fn remove_firewall(&self) -> Result<()> {
        self.shared.firewall.remove_tables()
    }
}

impl Shared {
    fn netns_path(&self, sandbox: &SandboxId) -> PathBuf {
        self.config.netns_dir.join(sandbox.short())
    }

    /// The driver's part of a network, and the node's forwarding switches.
    fn setup_network(&self, network: &NetworkSpec) -> Result<()> {
        let loopback = if self.firewall.manages(Family::V4) {
            LoopbackPublishing::Translated
        } else {
            LoopbackPublishing::Off
        };
        driver::setup(network, loopback, &self.overlays)?;
        self.enable_forwarding(network)
    }

    fn enable_forwarding(&self, network: &NetworkSpec) -> Result<()> {
        let DriverSpec::Bridge(bridge) = &network.driver else { return Ok(()) };
        if self.config.forwarding == Management::LeftAlone || bridge.reach == Reach::Internal {
            return Ok(());
        }
        for family in Family::ALL {
            let used = bridge.subnets.iter().any(|subnet| Family::of(subnet.subnet.addr()) == family);
            if used && forwarding::is_off(family) {
                self.drop_foreign_packets()?;
                forwarding::enable(family)?;
            }
        }
        Ok(())
    }

    /// Closes the door before forwarding opens it, and notes that it was us who opened it: the note is as short-lived
    /// as the kernel's own memory of it, so that after a restart of the daemon the door is still closed.
    fn drop_foreign_packets(&self) -> Result<()> {
        let note = self.forwarding_note();
        std::fs::write(&note, "").map_err(NetError::kernel(format!("write {}", note.display())))?;
        match self.config.forward_policy {
            ForwardPolicy::Drop => self.firewall.drop_foreign(),
            ForwardPolicy::Accept => Ok(()),
        }
    }

    /// Exists when this node was no router before Shoal made it forward packets.
    fn forwarding_note(&self) -> PathBuf {
        self.config.netd_socket.with_file_name("forwarding-enabled")
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("netns_dir", &self.netns_dir)
            .field("netd_socket", &self.netd_socket)
            .field("firewall_v4", &self.firewall_v4)
            .field("firewall_v6", &self.firewall_v6)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("netns_dir", &self.shared.config.netns_dir).finish_non_exhaustive()
    }
}

//! The handle on this node's networking that the engine holds.
//!
//! Start reading at [`Host`]. Its operations are synchronous and take a few milliseconds in the kernel: call them on a
//! blocking thread (`spawn_blocking`) whose network namespace is the node's. What it keeps in memory (which host ports
//! are taken, what netd was told) is rebuilt by [`Host::restore`] from the engine's records.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use shoal_types::SandboxId;

use crate::error::{NetError, Result};
use crate::spec::{NetworkSpec, Sandbox, SandboxSpec};

/// How this node wants its networking, from the daemon's flags.
#[derive(Clone)]
pub struct Config {
    /// Directory of the pinned namespaces, as `/run/shoal/netns`.
    pub netns_dir: PathBuf,
    /// Unix socket of netd, as `/run/shoal/netd.sock`.
    pub netd_socket: PathBuf,
    /// Starts netd as a process that outlives the daemon, with the socket path as its argument.
    pub spawn_netd: SpawnNetd,
    /// Whether IPv4 rules are written (`--iptables`).
    pub firewall_v4: Management,
    /// Whether IPv6 rules are written (`--ip6tables`).
    pub firewall_v6: Management,
    /// Whether the kernel's forwarding switches are turned on when a network needs them (`--ip-forward`).
    pub forwarding: Management,
    /// What happens to foreign forwarded packets when this node turned forwarding on (`--ip-forward-no-drop`).
    pub forward_policy: ForwardPolicy,
    /// Whether paths that the kernel cannot translate are proxied (`--userland-proxy`).
    pub proxy: Management,
}

/// Starts `shoald netd <args>` detached from the caller; the only process that this crate needs.
pub type SpawnNetd = Arc<dyn Fn(&[std::ffi::OsString]) -> io::Result<()> + Send + Sync>;

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
    config: Arc<Config>,
}

impl Host {
    /// Takes hold of the namespace of the calling thread as the node's.
    ///
    /// Touches nothing but the directories of `config`; call [`Host::restore`] next.
    pub fn open(config: Config) -> Result<Self> {
        Ok(Self { config: Arc::new(config) })
    }

    /// Brings the kernel, the firewall and netd to exactly `desired`, from whatever a crash or a reboot left.
    ///
    /// Removes what carries our marks and is not desired. Never stops at the first error. Established connections
    /// survive.
    pub fn restore(&self, desired: &Desired) -> RestoreReport {
        let _ = desired;
        RestoreReport { errors: vec![self.missing()], ..RestoreReport::default() }
    }

    /// Creates what a network needs on this node (its bridge and rules), or completes it.
    pub fn ensure_network(&self, network: &NetworkSpec) -> Result<()> {
        let _ = network;
        Err(self.missing())
    }

    /// Removes what [`Host::ensure_network`] made; succeeds when there is nothing.
    ///
    /// The caller has made sure that no endpoint is left.
    pub fn remove_network(&self, network: &NetworkSpec) -> Vec<NetError> {
        let _ = network;
        vec![self.missing()]
    }

    /// Makes the container's network what `spec` says: creates it, or connects and disconnects endpoints.
    ///
    /// `previous` is what an earlier call answered for the same sandbox; addresses, interface names and published
    /// ports of endpoints that stay are kept. On failure everything that this call made is undone, `previous` is still
    /// what is there, and the error is the cause.
    pub fn ensure_sandbox(&self, spec: &SandboxSpec, previous: Option<&Sandbox>) -> Result<Sandbox> {
        let _ = (spec, previous);
        Err(self.missing())
    }

    /// Removes a container's network: ports, rules, names, interfaces, namespace. Never stops at the first error.
    pub fn remove_sandbox(&self, sandbox: &Sandbox) -> Vec<NetError> {
        let _ = sandbox;
        vec![self.missing()]
    }

    /// The ranges that a new subnet must keep away from: routes of the host and its name servers.
    pub fn occupied(&self) -> Result<Vec<IpNet>> {
        Err(self.missing())
    }

    /// Resolves when netd has died; the engine then calls [`Host::repair_netd`].
    pub async fn netd_closed(&self) {
        std::future::pending::<()>().await;
    }

    /// Starts netd again and tells it everything.
    pub fn repair_netd(&self) -> Result<()> {
        Err(self.missing())
    }

    fn missing(&self) -> NetError {
        let _ = &self.config;
        NetError::NotSupported("networking")
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
        f.debug_struct("Host").field("netns_dir", &self.config.netns_dir).finish_non_exhaustive()
    }
}

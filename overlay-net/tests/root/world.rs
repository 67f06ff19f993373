//! A node, a neighbour, and containers, all in namespaces of one test.

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::thread;

use ipnet::IpNet;
use overlay_net::host::{ForwardPolicy, Management};
use overlay_net::netns::{self, Netns};
use overlay_net::{
    BridgeSpec, Config, DriverSpec, EndpointSpec, GatewayMode, Host, HostPorts, Icc, Masquerade, NetworkSpec,
    Protocol, PublishSpec, Reach, ResolverSpec, Sandbox, SandboxMode, SandboxSpec, SubnetSpec,
};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;
use shoal_types::{EndpointId, NetworkId, SandboxId};

/// Address of the node on its LAN.
pub(crate) const NODE: &str = "192.0.2.1";
pub(crate) const NODE_V6: &str = "2001:db8:1::1";

/// Everything one test has.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) dir: tempfile::TempDir,
    /// The neighbour's namespace, with a route to every container network through the node.
    pub(crate) neighbour: Netns,
    pub(crate) netd: Arc<Mutex<Vec<Child>>>,
    config: Config,
}

/// Runs a test body in a world of its own, with the usual configuration.
pub(crate) fn in_world(body: impl FnOnce(&World) + Send) {
    in_configured_world(|_| {}, body);
}

/// Runs a test body in a world of its own.
pub(crate) fn in_configured_world(
    configure: impl FnOnce(&mut Config) + Send,
    body: impl FnOnce(&World) + Send,
) {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: kernel tests need root");
        return;
    }
    on_own_machine(|| {
        let world = World::new(configure);
        body(&world);
    });
}

/// Runs something on a thread that has the network and the mounts of a machine of its own.
pub(crate) fn on_own_machine(body: impl FnOnce() + Send) {
    static PANICS: Once = Once::new();
    PANICS.call_once(|| {
        // Libtest shows the output of its own threads only; ours must not be lost.
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| shown(info)));
    });
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("node".to_owned()).spawn_scoped(scope, || {
            leave_the_machine();
            body();
        });
        if let Err(panic) = worker.unwrap().join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// New network and mount namespaces for this thread and all threads and processes that it starts.
fn leave_the_machine() {
    #[expect(deprecated, reason = "the replacement is unsafe for flags that are not used here")]
    rustix::thread::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    // /sys shows the devices of the namespace it was mounted in; nothing here reads it, `ip` does not need it.
    ip("link set lo up");
}

impl World {
    fn new(configure: impl FnOnce(&mut Config)) -> Self {
        // In memory, as /run is.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let netd: Arc<Mutex<Vec<Child>>> = Arc::default();
        let mut config = configuration(dir.path(), &netd);
        configure(&mut config);
        let host = Host::open(config.clone()).unwrap();
        let report = host.restore(&overlay_net::Desired::default());
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        let neighbour = make_neighbour(dir.path());
        Self { host, dir, neighbour, netd, config }
    }

    /// A second handle, as a restarted daemon would have.
    pub(crate) fn restarted(&self) -> Host {
        Host::open(self.config.clone()).unwrap()
    }

    /// Kills netd and waits for its end.
    pub(crate) fn kill_netd(&self) {
        for child in &mut *self.netd.lock().unwrap() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Makes a network and its bridge.
    pub(crate) fn network(
        &self,
        name: &str,
        subnets: &[&str],
        change: impl FnOnce(&mut BridgeSpec),
    ) -> Arc<NetworkSpec> {
        let network = bridge_network(name, subnets, change);
        self.host.ensure_network(&network).unwrap();
        network
    }

    /// Starts a container that is joined to these networks with these addresses.
    pub(crate) fn container(&self, joins: &[(&Arc<NetworkSpec>, &[&str])]) -> Container {
        self.container_with(joins, |_| {})
    }

    /// Starts a container after a change to its spec.
    pub(crate) fn container_with(
        &self,
        joins: &[(&Arc<NetworkSpec>, &[&str])],
        change: impl FnOnce(&mut SandboxSpec),
    ) -> Container {
        let mut spec = sandbox_spec();
        spec.endpoints = joins.iter().map(|(network, addresses)| endpoint(network, addresses)).collect();
        change(&mut spec);
        let sandbox = self.host.ensure_sandbox(&spec, None).unwrap();
        Container { spec, sandbox }
    }
}

/// The usual configuration of a node that has everything in one directory; children are for whoever cleans up.
pub(crate) fn configuration(dir: &Path, netd: &Arc<Mutex<Vec<Child>>>) -> Config {
    let children = Arc::clone(netd);
    let spawn = move |args: &[OsString]| {
        let child = command(env!("CARGO_BIN_EXE_overlay-netd"))
            .args(args)
            .args(["--idle-ms", "50"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        children.lock().unwrap().push(child);
        Ok::<(), io::Error>(())
    };
    Config {
        netns_dir: dir.join("netns"),
        netd_socket: dir.join("netd.sock"),
        spawn_netd: Arc::new(spawn),
        make_remapped: Arc::new(|_| Err(io::ErrorKind::Unsupported.into())),
        firewall_v4: Management::Managed,
        firewall_v6: Management::Managed,
        forwarding: Management::Managed,
        forward_policy: ForwardPolicy::Drop,
        accepted_mark: None,
        proxy: Management::Managed,
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill_netd();
        // A pin is busy until it is unmounted, and the directory could not be removed.
        let pins = netns::list(&self.config.netns_dir).unwrap_or_default();
        for pin in pins.into_iter().chain([self.neighbour.path().to_owned()]) {
            let _ = netns::remove(&pin);
        }
    }
}

/// A container that plays its part through its namespace only.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) spec: SandboxSpec,
    pub(crate) sandbox: Sandbox,
}

impl Container {
    pub(crate) fn netns(&self) -> Netns {
        Netns::open(self.sandbox.netns.as_ref().unwrap()).unwrap()
    }

    /// Applies the spec as it is now.
    pub(crate) fn update(&mut self, world: &World) -> overlay_net::Result<()> {
        self.sandbox = world.host.ensure_sandbox(&self.spec, Some(&self.sandbox))?;
        Ok(())
    }
}

pub(crate) fn bridge_network(
    name: &str,
    subnets: &[&str],
    change: impl FnOnce(&mut BridgeSpec),
) -> Arc<NetworkSpec> {
    let id = NetworkId::random_local();
    let subnets = subnets.iter().map(|subnet| {
        let subnet: IpNet = subnet.parse().unwrap();
        SubnetSpec { subnet, gateway: subnet.hosts().next(), next_hop: None }
    });
    let mut bridge = BridgeSpec {
        bridge: overlay_net::driver::bridge::default_bridge_name(&id).unwrap(),
        subnets: subnets.collect(),
        reach: Reach::External,
        gateway_mode_v4: GatewayMode::Nat,
        gateway_mode_v6: GatewayMode::Nat,
        icc: Icc::Allowed,
        masquerade: Masquerade::On,
        host_ipv4: None,
        host_ipv6: None,
        default_binding: Vec::new(),
        mtu: None,
        container_iface_prefix: "eth".to_owned(),
        inhibit_ipv4: false,
        trusted_host_interfaces: Vec::new(),
    };
    change(&mut bridge);
    // ::/64's first host is the subnet itself; a bridge wants ::1.
    for subnet in &mut bridge.subnets {
        if let (IpNet::V6(v6), Some(_)) = (subnet.subnet, subnet.gateway) {
            let first = u128::from(v6.network()) + 1;
            subnet.gateway = Some(IpAddr::V6(first.into()));
        }
    }
    Arc::new(NetworkSpec { id, name: name.to_owned(), driver: DriverSpec::Bridge(bridge) })
}

pub(crate) fn sandbox_spec() -> SandboxSpec {
    SandboxSpec {
        id: SandboxId::random(),
        mode: SandboxMode::Private,
        endpoints: Vec::new(),
        publish: Vec::new(),
        sysctls: Vec::new(),
        resolver: None,
    }
}

pub(crate) fn endpoint(network: &Arc<NetworkSpec>, addresses: &[&str]) -> EndpointSpec {
    EndpointSpec {
        id: EndpointId::random(),
        network: Arc::clone(network),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        mac: None,
        ifname: None,
        gateway_priority: 0,
        sysctls: Vec::new(),
        names: Vec::new(),
        links: Vec::new(),
    }
}

/// An endpoint that answers to names.
pub(crate) fn named(mut endpoint: EndpointSpec, names: &[&str]) -> EndpointSpec {
    endpoint.names = names.iter().map(|&name| name.to_owned()).collect();
    endpoint
}

pub(crate) fn embedded() -> Option<ResolverSpec> {
    Some(ResolverSpec::default())
}

pub(crate) fn publish(container_port: u16, host_port: u16) -> PublishSpec {
    PublishSpec {
        container_port,
        protocol: Protocol::Tcp,
        host_ip: None,
        host_ports: HostPorts::Range(host_port, host_port),
    }
}

pub(crate) fn bridge_of(network: &NetworkSpec) -> String {
    match &network.driver {
        DriverSpec::Bridge(bridge) => bridge.bridge.to_string(),
        other => panic!("not a bridge: {other:?}"),
    }
}

/// Runs `ip` in the namespace of the calling thread.
pub(crate) fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

/// Runs a program of the machine in the namespace of the calling thread; its arguments are split at spaces.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = command(program).args(arguments.split_whitespace()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "tests look at the kernel with the tools that people use")]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

fn make_neighbour(dir: &Path) -> Netns {
    let path: PathBuf = dir.join("neighbour");
    let (netns, ()) = Netns::create(&path, |_| Ok(())).unwrap();
    ip(&format!("link add eth0 type veth peer name eth0 netns {}", netns_name(&netns, dir)));
    ip(&format!("addr add {NODE}/24 dev eth0"));
    ip(&format!("addr add {NODE_V6}/64 dev eth0 nodad"));
    ip("link set eth0 up");
    netns
        .run(|| {
            ip("link set lo up");
            ip("addr add 192.0.2.9/24 dev eth0");
            ip("addr add 2001:db8:1::9/64 dev eth0 nodad");
            ip("link set eth0 up");
            // An attacker on the LAN who knows the container networks.
            ip(&format!("route add 172.16.0.0/12 via {NODE}"));
            ip(&format!("-6 route add fd00::/8 via {NODE_V6}"));
        })
        .unwrap();
    netns
}

/// `ip` takes a name below /run/netns or a process; a process of the namespace would have to be kept alive.
fn netns_name(netns: &Netns, _dir: &Path) -> String {
    netns.path().to_str().unwrap().to_owned()
}

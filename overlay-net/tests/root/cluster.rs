//! Several nodes on one LAN, all in namespaces of one test, and the tables that managers would give them.

use std::net::IpAddr;
use std::process::Child;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use overlay_net::netns::{self, Netns};
use overlay_net::{
    Desired, DriverSpec, Encryption, Host, MacAddr, NetworkSpec, OverlayRole, OverlaySpec, OverlaySubnet,
    OverlayTables, Peer, Reach, Sandbox, SandboxSpec,
};
use shoal_types::NetworkId;

use super::world::{Container, configuration, endpoint, ip, on_own_machine, sandbox_spec};

/// Everything one test has. The thread's own namespace is the LAN.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// Somebody on the LAN who is no node: 192.0.2.99.
    pub(crate) outsider: Netns,
    dir: tempfile::TempDir,
}

/// One node of the cluster.
pub(crate) struct Node {
    pub(crate) netns: Netns,
    pub(crate) address: IpAddr,
    pub(crate) address_v6: IpAddr,
    pub(crate) host: Host,
    pub(crate) dir: std::path::PathBuf,
    netd: Arc<Mutex<Vec<Child>>>,
}

/// Runs a test body with so many nodes.
pub(crate) fn in_cluster(size: u8, body: impl FnOnce(&mut Cluster) + Send) {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: kernel tests need root");
        return;
    }
    on_own_machine(|| {
        let mut cluster = Cluster::new(size);
        body(&mut cluster);
    });
}

impl Cluster {
    fn new(size: u8) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        ip("link add lan type bridge");
        ip("link set lan up");
        let outsider = on_lan(&dir.path().join("outsider"), 99);
        let nodes = (1..=size).map(|number| Node::new(dir.path().join(format!("node{number}")), number));
        Self { nodes: nodes.collect(), outsider, dir }
    }

    /// Where everything of this test is.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Gives every node a network with the addresses of these containers in its tables.
    pub(crate) fn apply(&self, network: &Overlay, peers: &[Peer]) {
        let tables = OverlayTables { peers: peers.to_vec() };
        for node in &self.nodes {
            node.run(|| node.host.apply_overlay(&network.id, &network.on(node), &tables).unwrap());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = netns::remove(self.outsider.path());
        for node in &self.nodes {
            node.kill_netd();
            for pins in ["netns", "overlay", "wireguard"] {
                for pin in netns::list(&node.dir.join(pins)).unwrap_or_default() {
                    let _ = netns::remove(&pin);
                }
            }
            let _ = netns::remove(node.netns.path());
        }
    }
}

impl Node {
    fn new(dir: std::path::PathBuf, number: u8) -> Self {
        std::fs::create_dir(&dir).unwrap();
        let netns = on_lan(&dir.join("machine"), number);
        let netd = Arc::default();
        let config = configuration(&dir, &netd);
        let host = netns
            .run(|| {
                let host = Host::open(config).unwrap();
                let report = host.restore(&Desired::default());
                assert!(report.errors.is_empty(), "{:?}", report.errors);
                host
            })
            .unwrap();
        let address = format!("192.0.2.{number}").parse().unwrap();
        let address_v6 = format!("2001:db8:1::{number}").parse().unwrap();
        Self { netns, address, address_v6, host, dir, netd }
    }

    /// Does something as this node.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.netns.run(work).unwrap()
    }

    /// A second handle, as a restarted daemon would have.
    pub(crate) fn restart(&mut self) {
        let config = configuration(&self.dir, &self.netd);
        self.host = self.run(|| Host::open(config).unwrap());
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
        let sandbox = self.run(|| self.host.ensure_sandbox(&spec, None).unwrap());
        Container { spec, sandbox }
    }

    /// Stops a container.
    pub(crate) fn remove(&self, sandbox: &Sandbox) {
        let errors = self.run(|| self.host.remove_sandbox(sandbox));
        assert!(errors.is_empty(), "{errors:?}");
    }

    /// The namespace of an overlay network on this node.
    pub(crate) fn segment(&self, network: &Overlay) -> Netns {
        Netns::open(&self.dir.join("overlay").join(network.id.as_str())).unwrap()
    }

    /// How many processes that outlive a daemon are there.
    pub(crate) fn running(&self) -> usize {
        let mut children = self.netd.lock().unwrap();
        children.iter_mut().filter_map(|child| child.try_wait().unwrap().is_none().then_some(())).count()
    }

    pub(crate) fn kill_netd(&self) {
        for child in &mut *self.netd.lock().unwrap() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An overlay network as the managers know it.
pub(crate) struct Overlay {
    pub(crate) id: NetworkId,
    pub(crate) subnets: Vec<OverlaySubnet>,
    pub(crate) role: OverlayRole,
    /// Whether tunnels go over the LAN's IPv6.
    pub(crate) outer_v6: bool,
    pub(crate) encryption: Encryption,
}

impl Overlay {
    /// A network with these subnets and identifiers from the first one on.
    pub(crate) fn new(subnets: &[&str], first_vni: u32) -> Self {
        let subnets = subnets.iter().zip(first_vni..).map(|(subnet, vni)| {
            let subnet: IpNet = subnet.parse().unwrap();
            let gateway = match subnet {
                IpNet::V4(v4) => IpAddr::V4((u32::from(v4.network()) + 1).into()),
                IpNet::V6(v6) => IpAddr::V6((u128::from(v6.network()) + 1).into()),
            };
            OverlaySubnet { subnet, gateway: Some(gateway), vni }
        });
        Self {
            id: NetworkId::random_cluster(),
            subnets: subnets.collect(),
            role: OverlayRole::Containers,
            outer_v6: false,
            encryption: Encryption::Off,
        }
    }

    /// What a node makes of it.
    pub(crate) fn on(&self, node: &Node) -> OverlaySpec {
        OverlaySpec {
            subnets: self.subnets.clone(),
            underlay_mtu: None,
            vtep: if self.outer_v6 { node.address_v6 } else { node.address },
            port: overlay_net::overlay::spec::DEFAULT_VXLAN_PORT,
            encryption: self.encryption,
            reach: Reach::Internal,
            role: self.role,
            container_iface_prefix: "eth".to_owned(),
        }
    }

    /// The network for endpoints on a node.
    pub(crate) fn network(&self, node: &Node) -> Arc<NetworkSpec> {
        let driver = DriverSpec::Overlay(self.on(node));
        Arc::new(NetworkSpec { id: self.id.clone(), name: "mesh".to_owned(), driver })
    }

    /// The tables' entries for a container's addresses in this network.
    pub(crate) fn peers(&self, node: &Node, container: &Container) -> Vec<Peer> {
        let endpoints = container.sandbox.endpoints.iter().filter(|endpoint| endpoint.network == self.id);
        let vtep = self.on(node).vtep;
        endpoints
            .flat_map(|endpoint| endpoint.addresses.iter().map(|net| (net.addr(), endpoint.mac)))
            .map(|(address, mac)| Peer { address, mac, vtep })
            .collect()
    }
}

/// One entry of the tables.
pub(crate) fn peer(address: &str, node: &Node) -> Peer {
    let net: IpNet = format!("{address}/32").parse().unwrap();
    Peer { address: net.addr(), mac: MacAddr::for_addresses(&[net]), vtep: node.address }
}

/// A machine on the LAN with the number as its last digits.
fn on_lan(path: &std::path::Path, number: u8) -> Netns {
    let (netns, ()) = Netns::create(path, |_| Ok(())).unwrap();
    ip(&format!("link add port{number} type veth peer name eth0 netns {}", path.display()));
    ip(&format!("link set port{number} master lan up"));
    netns
        .run(|| {
            ip("link set lo up");
            ip(&format!("addr add 192.0.2.{number}/24 dev eth0"));
            ip(&format!("addr add 2001:db8:1::{number}/64 dev eth0 nodad"));
            ip("link set eth0 up");
        })
        .unwrap();
    netns
}

//! Encrypted overlay networks: traffic that nobody on the LAN can read, keys that change, and nothing in the clear when
//! something is missing.
//!
//! Whether the kernel or a process encrypts is the machine's business; every case holds for both.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use overlay_net::wireguard::PORT_DISTANCE;
use overlay_net::{Changeover, Encryption, Peer, PublicKey, TunnelKey, TunnelPeer, WireguardSpec};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt};

use super::cluster::{Cluster, Node, Overlay, in_cluster};
use super::packets::{
    Place, assert_alive, assert_no_tcp, assert_no_udp, bulk, connect, serve_in, tcp, udp, udp_large,
};
use super::world::{Container, ip};

const PORT: u16 = overlay_net::overlay::spec::DEFAULT_VXLAN_PORT + PORT_DISTANCE;
/// What a server says that nobody else shall hear.
const MARKER: &str = "nobody-shall-read-this";
/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that crosses the LAN.
struct Capture {
    socket: OwnedFd,
}

impl Capture {
    /// Listens in the namespace of the calling thread, which is the LAN.
    fn begin() -> Self {
        /// `ETH_P_ALL`
        const EVERYTHING: u16 = 3;
        let protocol = rustix::net::Protocol::from_raw(u32::from(EVERYTHING.to_be()).try_into().unwrap());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(protocol)).unwrap();
        sockopt::set_socket_recv_buffer_size(&socket, 4 << 20).unwrap();
        Self { socket }
    }

    /// The frames until now.
    fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while let Ok((length, _)) = recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
            frames.push(buffer[..length].to_vec());
        }
        frames
    }
}

fn says(frames: &[Vec<u8>], text: &str) -> bool {
    frames.iter().any(|frame| frame.windows(text.len()).any(|window| window == text.as_bytes()))
}

/// Whether there are UDP datagrams to a port; of IPv4 or IPv6 without options.
fn has_port(frames: &[Vec<u8>], port: u16) -> bool {
    let at = |frame: &Vec<u8>, offset: usize| frame.get(offset..offset + 2) == Some(&port.to_be_bytes()[..]);
    frames.iter().any(|frame| match frame.get(12..14) {
        Some([8, 0]) => frame.get(23) == Some(&17) && at(frame, 36),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&17) && at(frame, 56),
        _ => false,
    })
}

fn encrypted(subnets: &[&str], first_vni: u32) -> Overlay {
    Overlay { encryption: Encryption::On, ..Overlay::new(subnets, first_vni) }
}

fn keys(node: &Node) -> Vec<TunnelKey> {
    node.run(|| node.host.tunnel_keys().unwrap())
}

/// What managers tell a node: the keys of all others.
fn spec(cluster: &Cluster, node: &Node, net: &Overlay) -> WireguardSpec {
    let vtep = net.on(node).vtep;
    let peers = cluster.nodes.iter().map(|other| TunnelPeer { vtep: net.on(other).vtep, keys: keys(other) });
    let peers = peers.filter(|peer| peer.vtep != vtep).collect();
    WireguardSpec { vtep, port: PORT, peers }
}

/// Tells a node the keys of all others.
fn tell(cluster: &Cluster, node: &Node, net: &Overlay) -> Changeover {
    let spec = spec(cluster, node, net);
    node.run(|| node.host.apply_wireguard(&spec).unwrap())
}

/// Tells all nodes the keys of all others.
pub(super) fn tell_all(cluster: &Cluster, net: &Overlay) {
    for node in &cluster.nodes {
        tell(cluster, node, net);
    }
}

/// A container on each of the first two nodes, the second of which serves; and their entries.
fn pair(cluster: &Cluster, net: &Overlay) -> (Container, Container, Vec<Peer>) {
    let [one, two, ..] = &cluster.nodes[..] else { panic!("two nodes") };
    let a = one.container(&[(&net.network(one), &["10.0.1.2/24"])]);
    let b = two.container(&[(&net.network(two), &["10.0.1.3/24"])]);
    serve_in(&b, 80, MARKER);
    let peers = [net.peers(one, &a), net.peers(two, &b)].concat();
    cluster.apply(net, &peers);
    (a, b, peers)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        // Packets and processes announce none of these conditions.
        thread::sleep(Duration::from_millis(20));
    }
}

fn reaches(a: &Container) -> bool {
    udp(Place::Inside(&a.netns()), "10.0.1.3:80").is_ok()
}

#[test]
fn traffic_of_an_encrypted_network_cannot_be_read_on_the_lan() {
    for outer_v6 in [false, true] {
        in_cluster(2, |cluster| {
            let net = Overlay { outer_v6, ..encrypted(&["10.0.1.0/24"], 4096) };
            tell_all(cluster, &net);
            let (a, ..) = pair(cluster, &net);
            let a_ns = a.netns();
            let from_a = Place::Inside(&a_ns);
            let capture = Capture::begin();
            assert_eq!(tcp(from_a, "10.0.1.3:80").unwrap(), format!("{MARKER} 10.0.1.2"));
            assert_eq!(udp(from_a, "10.0.1.3:80").unwrap(), format!("{MARKER} 10.0.1.2"));
            let frames = capture.frames();
            assert!(!says(&frames, MARKER), "it was read");
            let ports: Vec<u16> = cluster.nodes.iter().flat_map(keys).map(|key| port_of(&key)).collect();
            assert!(ports.iter().any(|port| has_port(&frames, *port)), "nothing was captured");
            assert!(!has_port(&frames, PORT - PORT_DISTANCE), "a frame left in the clear");
            // The MTU inside is what is left of the underlay's, and packets of that size arrive.
            let mtu = if outer_v6 { "mtu 1338 " } else { "mtu 1370 " };
            assert!(a_ns.run(|| ip("link show eth0")).unwrap().contains(mtu));
            bulk(from_a, "10.0.1.3:80");
            assert!(udp_large(from_a, "10.0.1.3:80").is_ok());
        });
    }
}

fn port_of(key: &TunnelKey) -> u16 {
    overlay_net::wireguard::Slot::of(key.number).port(PORT)
}

#[test]
fn the_same_capture_reads_a_plain_network() {
    in_cluster(2, |cluster| {
        let (a, ..) = pair(cluster, &Overlay::new(&["10.0.1.0/24"], 4096));
        let capture = Capture::begin();
        assert!(reaches(&a));
        let frames = capture.frames();
        assert!(says(&frames, MARKER) && has_port(&frames, PORT - PORT_DISTANCE));
        let unused = cluster.nodes.iter().all(|node| !node.dir.join("wireguard/netns").exists());
        assert!(unused, "plain networks make nothing of it");
    });
}

#[test]
fn keys_change_under_a_stream_that_loses_nothing() {
    in_cluster(2, |cluster| {
        let net = encrypted(&["10.0.1.0/24"], 4096);
        tell_all(cluster, &net);
        let (a, ..) = pair(cluster, &net);
        let mut stream = connect(Place::Inside(&a.netns()), "10.0.1.3:80");
        stream.set_nodelay(true).unwrap();
        let (is_over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut echo = [0; 8];
                while !is_over.load(Ordering::Relaxed) {
                    let round = rounds.fetch_add(1, Ordering::Relaxed);
                    stream.write_all(&round.to_be_bytes()).unwrap();
                    stream.read_exact(&mut echo).unwrap();
                    assert_eq!(u64::from_be_bytes(echo), round);
                }
            });
            for number in [0, 1, 0] {
                rotate(cluster, number, &net);
                let before = rounds.load(Ordering::Relaxed);
                until("the stream goes on", || rounds.load(Ordering::Relaxed) > before + 100);
            }
            is_over.store(true, Ordering::Relaxed);
        });
    });
}

/// One node's key changes, in the steps and the order in which the engine takes them.
fn rotate(cluster: &Cluster, number: usize, net: &Overlay) {
    let node = &cluster.nodes[number];
    let former = keys(node);
    node.run(|| node.host.rotate_tunnel_key().unwrap());
    assert_eq!(keys(node).len(), 2);
    assert_eq!(tell(cluster, node, net).waiting, 1, "nobody knows the newer key");
    tell_all(cluster, net);
    until("the other node answers to the newer key", || tell(cluster, node, net).waiting == 0);
    node.run(|| node.host.retire_tunnel_key().unwrap());
    tell_all(cluster, net);
    let newer = keys(node);
    assert!(newer.len() == 1 && newer != former);
    let links = inside(node, "link show");
    assert_eq!(links.matches(": wg").count(), 1, "{links}");
}

/// What `ip` says in the namespace of a node's devices.
fn inside(node: &Node, arguments: &str) -> String {
    let netns = overlay_net::netns::Netns::open(&node.dir.join("wireguard/netns")).unwrap();
    netns.run(|| ip(arguments)).unwrap()
}

#[test]
fn a_node_with_another_key_gets_and_says_nothing() {
    in_cluster(2, |cluster| {
        let net = encrypted(&["10.0.1.0/24"], 4096);
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        tell(cluster, one, &net);
        // The second node is told another key than the first one has.
        let mut wrong = spec(cluster, two, &net);
        wrong.peers[0].keys[0].public = PublicKey([9; 32]);
        two.run(|| two.host.apply_wireguard(&wrong).unwrap());
        let (a, b, _) = pair(cluster, &net);
        serve_in(&a, 81, "a");
        assert_no_tcp(Place::Inside(&a.netns()), "10.0.1.3:80");
        assert_no_udp(Place::Inside(&b.netns()), "10.0.1.2:81");
        tell(cluster, two, &net);
        until("the right key is answered", || reaches(&a));
    });
}

#[test]
fn nothing_leaves_in_the_clear_when_something_is_missing() {
    in_cluster(2, |cluster| {
        let net = encrypted(&["10.0.1.0/24"], 4096);
        let capture = Capture::begin();
        let (a, ..) = pair(cluster, &net);
        serve_in(&a, 81, MARKER);
        // Nobody has keys yet.
        assert_no_udp(Place::Inside(&a.netns()), "10.0.1.3:80");
        tell_all(cluster, &net);
        until("there is a way now", || reaches(&a));
        for node in &cluster.nodes {
            // An administrator, or a crash of the process that encrypts.
            let number = port_of(&keys(node)[0]) - PORT;
            inside(node, &format!("link delete wg{number}"));
        }
        assert_no_udp(Place::Inside(&a.netns()), "10.0.1.3:80");
        let frames = capture.frames();
        assert!(!says(&frames, MARKER) && !has_port(&frames, PORT - PORT_DISTANCE));
        tell_all(cluster, &net);
        until("it is repaired", || reaches(&a));
        assert!(!says(&capture.frames(), MARKER));
    });
}

#[test]
fn a_restarted_daemon_finds_sessions_and_leaves_nothing_in_the_end() {
    in_cluster(2, |cluster| {
        let net = encrypted(&["10.0.1.0/24"], 4096);
        tell_all(cluster, &net);
        let (a, b, peers) = pair(cluster, &net);
        let mut stream = connect(Place::Inside(&a.netns()), "10.0.1.3:80");
        let links = inside(&cluster.nodes[0], "-o link show");
        let former = keys(&cluster.nodes[0]);
        for node in &mut cluster.nodes {
            node.restart();
        }
        assert_alive(&mut stream);
        tell_all(cluster, &net);
        cluster.apply(&net, &peers);
        assert_alive(&mut stream);
        assert_eq!(keys(&cluster.nodes[0]), former);
        assert_eq!(inside(&cluster.nodes[0], "-o link show"), links, "nothing was made anew");
        drop(stream);
        for (node, container) in cluster.nodes.iter().zip([&a, &b]) {
            node.remove(&container.sandbox);
            node.run(|| {
                assert!(node.host.remove_overlay(&net.id).is_empty());
                assert!(node.host.remove_wireguard().is_empty());
                assert!(node.host.forget_tunnel_keys().is_empty());
            });
            assert!(!node.dir.join("wireguard").exists());
            until("processes end", || node.running() == 0);
        }
    });
}

#[test]
fn private_keys_are_nobodys_but_roots() {
    use std::os::unix::fs::PermissionsExt as _;
    in_cluster(1, |cluster| {
        let node = &cluster.nodes[0];
        keys(node);
        let mode = fs::metadata(node.dir.join("wireguard/keys")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let address: IpAddr = keys(node)[0].public.address().into();
        assert!(address.is_ipv6());
    });
}

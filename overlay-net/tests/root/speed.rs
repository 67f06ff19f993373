//! What overlay networks and virtual services cost, against what the kernel can do by itself in the same run.
//!
//! For a quiet machine and an optimised build of nothing in particular: the packets are the kernel's. Run by hand with
//! `SHOAL_SPEED=1 cargo test -p overlay-net --test main -- --nocapture --test-threads 1 speed_`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use overlay_net::netns::Netns;
use overlay_net::{Affinity, Backend, BackendState, Encryption, VirtualService};
use rustix::net::sockopt;

use super::cluster::{Cluster, Node, Overlay, in_cluster};
use super::encrypted::tell_all;
use super::world::{command, ip, run};

const ROUNDS: usize = 7;
const SENDING: Duration = Duration::from_millis(700);
const ROUND_TRIPS: usize = 2000;
const CONNECTIONS: usize = 1000;

/// Serves in a namespace: what a client sends is thrown away after an `s`, and sent back after an `e`.
fn serve(inside: &Netns) {
    let listener = inside.run(|| TcpListener::bind("0.0.0.0:80").unwrap()).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = vec![0; 256 << 10];
                let mut mode = [0];
                if stream.set_nodelay(true).and_then(|()| stream.read_exact(&mut mode)).is_err() {
                    return;
                }
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if mode == *b"e" && stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Takes connections and drops them, on one thread.
fn accept_only(inside: &Netns) {
    let listener = inside.run(|| TcpListener::bind("0.0.0.0:81").unwrap()).unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
}

fn open(from: &Netns, to: SocketAddr, mode: u8) -> TcpStream {
    let mut stream = from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[mode]).unwrap();
    stream
}

/// Megabytes a second.
fn throughput(from: &Netns, to: SocketAddr) -> f64 {
    let mut stream = open(from, to, b's');
    let chunk = vec![7; 256 << 10];
    let (begin, mut sent) = (Instant::now(), 0u32);
    while begin.elapsed() < SENDING {
        stream.write_all(&chunk).unwrap();
        sent += 1;
    }
    f64::from(sent) / 4.0 / begin.elapsed().as_secs_f64()
}

/// Median of many round trips of one byte, in microseconds.
fn round_trip(from: &Netns, to: SocketAddr) -> f64 {
    let mut stream = open(from, to, b'e');
    let times = (0..ROUND_TRIPS).map(|_| {
        let begin = Instant::now();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        begin.elapsed().as_secs_f64() * 1e6
    });
    median(times.collect())
}

/// Connections a second, one after another. They end by a reset: connections that wait for their end hold their ports, and
/// the kernel would soon spend its time on looking for a free one.
fn connections(from: &Netns, to: SocketAddr) -> f64 {
    let rate = || {
        let begin = Instant::now();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(to).unwrap();
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
        CONNECTIONS as f64 / begin.elapsed().as_secs_f64()
    };
    from.run(rate).unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Somebody on a segment that was made by hand: bridge and tunnel in the node's own namespace.
fn by_hand(cluster: &Cluster, node: &Node, other: &Node, number: u8) -> Netns {
    let path = cluster.dir().join(format!("byhand{number}"));
    let (inside, ()) = Netns::create(&path, |_| Ok(())).unwrap();
    node.run(|| {
        ip("link add hand type bridge");
        ip(&format!(
            "link add handvx mtu 1450 type vxlan id 99 dstport 4790 local {} remote {}",
            node.address, other.address
        ));
        ip("link set handvx master hand up");
        ip(&format!("link add handve mtu 1450 type veth peer name eth0 mtu 1450 netns {}", path.display()));
        ip("link set handve master hand up");
        ip("link set hand up");
    });
    inside
        .run(|| {
            ip(&format!("addr add 10.7.0.{number}/24 dev eth0"));
            ip("link set eth0 up");
        })
        .unwrap();
    inside
}

/// On a machine that does other things as well the figures would say more about those.
fn is_wanted() -> bool {
    let wanted = std::env::var_os("SHOAL_SPEED").is_some();
    if !wanted {
        println!("SKIPPED: measures, for a quiet machine; set SHOAL_SPEED=1");
    }
    wanted
}

#[test]
fn speed_across_nodes_is_that_of_a_tunnel_made_by_hand() {
    if !is_wanted() {
        return;
    }
    in_cluster(2, |cluster| {
        let net = Overlay::new(&["10.0.1.0/24"], 4096);
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        let a = one.container(&[(&net.network(one), &["10.0.1.2/24"])]);
        let b = two.container(&[(&net.network(two), &["10.0.1.3/24"])]);
        cluster.apply(&net, &[net.peers(one, &a), net.peers(two, &b)].concat());
        let (hand_a, hand_b) = (by_hand(cluster, one, two, 2), by_hand(cluster, two, one, 3));
        serve(&b.netns());
        serve(&hand_b);
        let (ours, hand) = (a.netns(), hand_a);
        let to = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut figures = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            figures[0].push(throughput(&hand, to("10.7.0.3:80")));
            figures[1].push(throughput(&ours, to("10.0.1.3:80")));
            figures[2].push(round_trip(&hand, to("10.7.0.3:80")));
            figures[3].push(round_trip(&ours, to("10.0.1.3:80")));
        }
        let [hand_rate, rate, hand_trip, trip] = figures.map(median);
        println!("throughput: by hand {hand_rate:.0} MiB/s, overlay {rate:.0} MiB/s");
        println!("round trip: by hand {hand_trip:.1} us, overlay {trip:.1} us");
        for pin in [hand.path(), hand_b.path()] {
            overlay_net::netns::remove(pin).unwrap();
        }
        assert!(rate > hand_rate * 0.9 && trip < hand_trip * 1.1);
    });
}

/// There is no bound to keep: whether the kernel encrypts or a process is the machine's business.
#[test]
fn speed_of_an_encrypted_network_beside_a_plain_one() {
    if !is_wanted() {
        return;
    }
    in_cluster(2, |cluster| {
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        let plain = Overlay::new(&["10.0.1.0/24"], 4096);
        let secret = Overlay { encryption: Encryption::On, ..Overlay::new(&["10.0.2.0/24"], 4097) };
        tell_all(cluster, &secret);
        let clients = [(&plain, 1), (&secret, 2)].map(|(net, subnet)| {
            let [a, b] = [2, 3].map(|number| format!("10.0.{subnet}.{number}/24"));
            let a = one.container(&[(&net.network(one), &[&a])]);
            let b = two.container(&[(&net.network(two), &[&b])]);
            cluster.apply(net, &[net.peers(one, &a), net.peers(two, &b)].concat());
            serve(&b.netns());
            (a.netns(), SocketAddr::from(([10, 0, subnet, 3], 80)))
        });
        let mut figures = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            for (number, (client, to)) in clients.iter().enumerate() {
                figures[number].push(throughput(client, *to));
                figures[number + 2].push(round_trip(client, *to));
            }
        }
        let [plain_rate, rate, plain_trip, trip] = figures.map(median);
        println!("encrypted by {}:", if one.running() == 0 { "the kernel" } else { "a process" });
        println!("throughput: plain {plain_rate:.0} MiB/s, encrypted {rate:.0} MiB/s");
        println!("round trip: plain {plain_trip:.1} us, encrypted {trip:.1} us");
        assert!(rate > 0.0);
    });
}

#[test]
fn speed_of_connections_through_a_virtual_address_is_that_of_direct_ones() {
    if !is_wanted() {
        return;
    }
    in_cluster(2, |cluster| {
        let net = Overlay::new(&["10.0.1.0/24"], 4096);
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        let a = one.container(&[(&net.network(one), &["10.0.1.2/24"])]);
        let b = two.container(&[(&net.network(two), &["10.0.1.3/24"])]);
        // A server that has just closed a connection from one port dislikes the next one from there with other
        // timestamps, as those to another address have: who connects directly is somebody else.
        let c = one.container(&[(&net.network(one), &["10.0.1.4/24"])]);
        cluster.apply(&net, &[net.peers(one, &a), net.peers(two, &b), net.peers(one, &c)].concat());
        accept_only(&b.netns());
        let service = |vip: String| VirtualService {
            vip: vip.parse().unwrap(),
            backends: vec![Backend { address: "10.0.1.3".parse().unwrap(), state: BackendState::Serving }],
            affinity: Affinity::None,
        };
        let (inside, straight) = (a.netns(), c.netns());
        let to = |text: &str| text.parse::<SocketAddr>().unwrap();
        let several = |count: u16| {
            let others = (1..count).map(|n| service(format!("10.9.{}.{}", n / 250, n % 250 + 1)));
            let all: Vec<VirtualService> = others.chain([service("10.0.1.100".to_owned())]).collect();
            // Both namespaces, so that connections are tracked in both, as they are in every container with names.
            for sandbox in [&a.sandbox.id, &c.sandbox.id] {
                one.run(|| one.host.set_services(sandbox, &all).unwrap());
            }
        };
        // In turns, and each of the two begins half of them: what came before decides as much as what is measured.
        for count in [1, 500] {
            several(count);
            let (mut direct, mut balanced, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for turn in 0..6 * ROUNDS {
                for which in [turn % 2, (turn + 1) % 2] {
                    match which {
                        0 => direct.push(connections(&straight, to("10.0.1.3:81"))),
                        _ => balanced.push(connections(&inside, to("10.0.1.100:81"))),
                    }
                }
                ratios.push(balanced[turn] / direct[turn]);
            }
            let [direct, balanced, ratio] = [direct, balanced, ratios].map(median);
            println!(
                "connections a second, {count} services: {balanced:.0}, direct {direct:.0}, ratio {ratio:.2}"
            );
            assert!(ratio > 0.9);
        }
    });
}

/// Makes a namespace the load balancer that dockerd gives an overlay network on each node: marks by address, IPVS with
/// masquerading by mark, and answers that come back through it.
fn balance_by_ipvs(inside: &Netns, own: &str, vip: &str, backend: &str) {
    let steps = || {
        ip(&format!("addr add {vip}/32 dev eth0"));
        run("iptables", &format!("-t mangle -A PREROUTING -d {vip}/32 -j MARK --set-mark 256"));
        run(
            "iptables",
            &format!("-t nat -A POSTROUTING -m ipvs --ipvs -d 10.0.1.0/24 -j SNAT --to-source {own}"),
        );
        run("sysctl", "-qw net.ipv4.ip_forward=1 net.ipv4.vs.conntrack=1 net.ipv4.vs.conn_reuse_mode=0");
        run("ipvsadm", "-A -f 256 -s rr");
        run("ipvsadm", &format!("-a -f 256 -r {backend} -m"));
    };
    inside.run(steps).unwrap();
}

/// Needs a kernel with IPVS and Debian's ipvsadm.
#[test]
fn speed_of_connections_is_at_least_that_of_the_balancer_that_dockerd_sets_up() {
    if !is_wanted() {
        return;
    }
    if !command("ipvsadm").arg("-l").status().is_ok_and(|status| status.success()) {
        println!("SKIPPED: no ipvsadm, or no IPVS in this kernel");
        return;
    }
    in_cluster(2, |cluster| {
        let net = Overlay::new(&["10.0.1.0/24"], 4096);
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        let server = two.container(&[(&net.network(two), &["10.0.1.3/24"])]);
        let [ours, theirs, balancer] =
            [2, 4, 5].map(|number| one.container(&[(&net.network(one), &[&format!("10.0.1.{number}/24")])]));
        let peers = [&ours, &theirs, &balancer].map(|container| net.peers(one, container)).concat();
        cluster.apply(&net, &[peers, net.peers(two, &server)].concat());
        accept_only(&server.netns());
        let services = [VirtualService {
            vip: "10.0.1.100".parse().unwrap(),
            backends: vec![Backend { address: "10.0.1.3".parse().unwrap(), state: BackendState::Serving }],
            affinity: Affinity::None,
        }];
        one.run(|| one.host.set_services(&ours.sandbox.id, &services).unwrap());
        balance_by_ipvs(&balancer.netns(), "10.0.1.5", "10.0.1.101", "10.0.1.3");
        let paths = [(ours.netns(), "10.0.1.100:81"), (theirs.netns(), "10.0.1.101:81")];
        let mut rates = [const { Vec::new() }; 2];
        for turn in 0..2 * ROUNDS {
            for which in [turn % 2, (turn + 1) % 2] {
                let (inside, to) = &paths[which];
                rates[which].push(connections(inside, to.parse().unwrap()));
            }
        }
        let [ours, theirs] = rates.map(median);
        println!("connections a second: Shoal {ours:.0}, IPVS as dockerd sets it up {theirs:.0}");
        assert!(ours > theirs);
    });
}

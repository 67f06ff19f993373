//! One network of both families over five nodes: every task reaches every other, by small packets and by large ones.
//!
//! Start reading at the case. What tasks say to each other is said by threads of this process that are in the tasks' namespaces, so
//! that nothing but the network is tried, and quickly.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration_cli::condition::within;
use integration_cli::net::Place;
use integration_cli::{Test, cases};
use serde_json::Value;

use super::overlay::resolved_as;
use super::{Cluster, REST};

cases![tasks_on_five_nodes_reach_each_other_by_both_families];

const PORT: u16 = 7000;
/// What goes through a connection: many segments.
const BULK: usize = 512 * 1024;
/// Sizes of datagrams: one packet, and one that the tunnel carries in pieces.
const DATAGRAMS: [usize; 2] = [64, 8000];
/// How often a datagram is sent before it counts as lost.
const ATTEMPTS: usize = 10;

/// A task and where it is reached.
struct Member {
    node: usize,
    container: String,
    place: Place,
    addresses: Vec<IpAddr>,
    _server: Server,
}

/// What listens in a task's namespace, for both protocols and families: it says how much has come by a connection and sends
/// datagrams back.
struct Server {
    place: Place,
    is_over: Arc<AtomicBool>,
}

impl Server {
    fn start(place: Place) -> Self {
        let any = format!("[::]:{PORT}");
        let (listener, socket) = place.enter(move || {
            (TcpListener::bind(&any).expect("a port"), UdpSocket::bind(&any).expect("a port"))
        });
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (stop, stop_too) = (Arc::clone(&is_over), Arc::clone(&is_over));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let mut received = Vec::new();
                // One that breaks off is the client's to complain about.
                if stream.read_to_end(&mut received).is_ok() {
                    let _ = stream.write_all(received.len().to_string().as_bytes());
                }
            }
        });
        std::thread::spawn(move || {
            let mut datagram = vec![0; 65536];
            while !stop_too.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut datagram) {
                    let _ = socket.send_to(&datagram[..length], from);
                }
            }
        });
        Self { place, is_over }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // A socket would keep the namespace alive: whoever waits for connections is given one.
        self.place.enter(|| drop(TcpStream::connect((std::net::Ipv6Addr::LOCALHOST, PORT))));
    }
}

/// Sends so much by a connection; what the other side says of it.
fn send(place: Place, to: SocketAddr) -> std::io::Result<String> {
    place.enter(move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(30))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(&vec![7; BULK])?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// Whether a datagram of that size comes back.
fn comes_back(place: Place, to: SocketAddr, size: usize) -> bool {
    place.enter(move || {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let (sent, mut received) = (vec![9; size], vec![0; 65536]);
        (0..ATTEMPTS).any(|_| {
            socket.send_to(&sent, to).is_ok()
                && socket.recv(&mut received).is_ok_and(|length| received[..length] == sent[..])
        })
    })
}

fn member(cluster: &Cluster, node: usize) -> Member {
    let container = cluster.containers(node).remove(0);
    let inspected = cluster.node(node).docker(&format!("inspect {container}")).ok();
    let inspected = &serde_json::from_str::<Value>(&inspected).expect("JSON")[0];
    let network = &inspected["NetworkSettings"]["Networks"]["net"];
    let address = |field: &str| -> IpAddr {
        network[field]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| panic!("{field}: {network}"))
    };
    let addresses = vec![address("IPAddress"), address("GlobalIPv6Address")];
    assert_eq!(network["GlobalIPv6PrefixLen"], 64, "{network}");
    let pid = inspected["State"]["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a process");
    let place = Place::of_process(pid);
    Member { node, container, place, addresses, _server: Server::start(place) }
}

fn tasks_on_five_nodes_reach_each_other_by_both_families(t: &Test) {
    let cluster = Cluster::formed(t, 3, 2);
    let one = cluster.node(1);
    one.docker("network create -d overlay --ipv6 --subnet 10.66.0.0/24 --subnet fd00:66::/64 net").ok();
    one.docker(
        "service create --detach --no-resolve-image --name web --mode global --network name=net,alias=www busybox park",
    )
    .ok();
    cluster.await_running(1, "web", 5);
    let vips =
        one.docker("service inspect web --format '{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}'").ok();
    let vips: Vec<&str> = vips.split_whitespace().filter_map(|vip| vip.split('/').next()).collect();
    assert!(
        vips.len() == 2 && vips[0].starts_with("10.66.0.") && vips[1].starts_with("fd00:66::"),
        "{vips:?}"
    );
    let members: Vec<Member> = (1..=5).map(|node| member(&cluster, node)).collect();

    for member in &members {
        let (node, container) = (cluster.node(member.node), &member.container);
        let number = member.node;
        for (family, kind) in ["a", "aaaa"].into_iter().enumerate() {
            for name in ["web", "www"] {
                within(REST, &format!("{name} leads to its address ({kind}) on node {number}"), || {
                    (resolved_as(node, container, name, kind) == [vips[family]]).then_some(())
                });
            }
            let all: BTreeSet<String> =
                members.iter().map(|member| member.addresses[family].to_string()).collect();
            within(REST, &format!("tasks.web leads to all tasks ({kind}) on node {number}"), || {
                let found = resolved_as(node, container, "tasks.web", kind);
                (found.into_iter().collect::<BTreeSet<_>>() == all).then_some(())
            });
        }
    }
    for from in &members {
        let others = members.iter().filter(|to| to.node != from.node).flat_map(|to| &to.addresses);
        for address in others.copied().chain(vips.iter().map(|vip| vip.parse().unwrap())) {
            let (to, number) = (SocketAddr::new(address, PORT), from.node);
            let said = send(from.place, to);
            assert!(said.as_ref().is_ok_and(|said| *said == BULK.to_string()), "{number} to {to}: {said:?}");
            for size in DATAGRAMS {
                assert!(comes_back(from.place, to, size), "{size} bytes from {number} to {to}");
            }
        }
    }
    drop(members);
    one.docker("service rm web").ok();
    within(REST, "the network can be removed", || (one.docker("network rm net").code == 0).then_some(()));
    cluster.dissolve();
}

//! The embedded name server, asked from inside containers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use overlay_net::netns::Netns;
use overlay_net::{
    Desired, Forwarding, NameChange, NameEntry, NetError, NetworkSpec, Reach, ResolverSpec, Upstream,
    UpstreamScope,
};

use super::packets::Place;
use super::world::{Container, World, embedded, endpoint, in_world, ip, named};

const SERVER: &str = "127.0.0.11:53";

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_labels(name.split('.').map(str::as_bytes)).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

fn ask_udp(inside: &Netns, message: &Message) -> Message {
    let socket = inside.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    socket.send_to(&message.to_vec().unwrap(), SERVER).unwrap();
    let mut buffer = [0; 4096];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from.to_string(), SERVER, "the answer comes from where the question went");
    Message::from_vec(&buffer[..length]).unwrap()
}

fn ask_tcp(inside: &Netns, message: &Message) -> Message {
    let mut stream = inside.run(|| TcpStream::connect(SERVER).unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let bytes = message.to_vec().unwrap();
    let mut frame = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(bytes);
    stream.write_all(&frame).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).unwrap();
    Message::from_vec(&reply).unwrap()
}

fn in_words(reply: &Message) -> String {
    let data: Vec<String> = reply.answers.iter().map(|answer| answer.data.to_string()).collect();
    format!("{:?} {}", reply.metadata.response_code, data.join(" ")).trim_end().to_owned()
}

/// What a name resolves to inside a container.
fn resolve(container: &Container, name: &str) -> String {
    in_words(&ask_udp(&container.netns(), &query(name, RecordType::A)))
}

fn start(
    world: &World,
    net: &Arc<NetworkSpec>,
    address: &str,
    names: &[&str],
    resolver: ResolverSpec,
) -> Container {
    world.container_with(&[], |spec| {
        spec.endpoints.push(named(endpoint(net, &[address]), names));
        spec.resolver = Some(resolver);
    })
}

/// A name server that answers every A query with its own address and knows one long name.
fn upstream(place: Place<'_>, address: &str, code: ResponseCode) {
    let address: SocketAddr = address.parse().unwrap();
    let (udp, tcp) = place.run(|| (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap()));
    let answer = move |bytes: &[u8], limit: usize| {
        let query = Message::from_vec(bytes).unwrap();
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        reply.metadata.response_code = code;
        let question = query.queries[0].clone();
        let count = if question.name().to_ascii().starts_with("long") { 100 } else { 1 };
        if let (SocketAddr::V4(own), ResponseCode::NoError) = (address, code) {
            let record = Record::from_rdata(question.name().clone(), 60, RData::A(A(*own.ip())));
            reply.add_answers((0..count).map(|_| record.clone()));
        }
        reply.add_query(question);
        let bytes = reply.to_vec().unwrap();
        if bytes.len() > limit { reply.truncate().to_vec().unwrap() } else { bytes }
    };
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&answer(&buffer[..length], 512), client);
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            let reply = answer(&query, 65535);
            stream.write_all(&u16::try_from(reply.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
}

fn from_sandbox(address: &str) -> Upstream {
    Upstream { address: address.parse().unwrap(), scope: UpstreamScope::Sandbox }
}

#[test]
fn names_of_ones_own_networks_are_known_and_no_others() {
    in_world(|world| {
        let one = world.network("one", &["172.20.0.0/16", "fd00:20::/64"], |_| {});
        let two = world.network("two", &["172.21.0.0/16"], |_| {});
        let a = world.container_with(&[], |spec| {
            spec.endpoints.push(named(
                endpoint(&one, &["172.20.0.2/16", "fd00:20::2/64"]),
                &["a", "0123456789ab", "alias"],
            ));
            spec.resolver = embedded();
        });
        let b = start(world, &one, "172.20.0.3/16", &["b"], ResolverSpec::default());
        let c = start(world, &two, "172.21.0.2/16", &["c"], ResolverSpec::default());
        for name in ["a", "A", "0123456789ab", "alias", "a.one"] {
            assert_eq!(resolve(&b, name), "NoError 172.20.0.2", "{name}");
        }
        assert_eq!(in_words(&ask_udp(&b.netns(), &query("a", RecordType::AAAA))), "NoError fd00:20::2");
        assert_eq!(in_words(&ask_udp(&a.netns(), &query("b", RecordType::AAAA))), "NoError");
        assert_eq!(in_words(&ask_tcp(&b.netns(), &query("a", RecordType::A))), "NoError 172.20.0.2");
        assert_eq!(
            in_words(&ask_udp(&b.netns(), &query("2.0.20.172.in-addr.arpa", RecordType::PTR))),
            "NoError a.one."
        );
        assert_eq!(resolve(&b, "c"), "ServFail");
        assert_eq!(resolve(&c, "a"), "ServFail");
        // A container may itself serve names on port 53 of every address.
        let own = b.netns().run(|| UdpSocket::bind("0.0.0.0:53").unwrap()).unwrap();
        assert_eq!(resolve(&b, "a"), "NoError 172.20.0.2");
        drop(own);
        // One that stops is no longer known.
        assert!(world.host.remove_sandbox(&a.sandbox).is_empty());
        assert_eq!(resolve(&b, "a"), "ServFail");
    });
}

#[test]
fn names_follow_connects_renames_and_links() {
    in_world(|world| {
        let one = world.network("one", &["172.20.0.0/16"], |_| {});
        let two = world.network("two", &["172.21.0.0/16"], |_| {});
        let mut a = start(world, &one, "172.20.0.2/16", &["a"], ResolverSpec::default());
        let links = vec![("database".to_owned(), "a".to_owned())];
        let b =
            start(world, &one, "172.20.0.3/16", &["b"], ResolverSpec { links, ..ResolverSpec::default() });
        let c = start(world, &two, "172.21.0.2/16", &["c"], ResolverSpec::default());
        assert_eq!(resolve(&b, "database"), "NoError 172.20.0.2");
        assert_eq!(resolve(&a, "database"), "ServFail");
        a.spec.endpoints.push(named(endpoint(&two, &["172.21.0.9/16"]), &["a", "a-on-two"]));
        a.update(world).unwrap();
        assert_eq!(resolve(&c, "a-on-two"), "NoError 172.21.0.9");
        assert_eq!(resolve(&a, "c"), "NoError 172.21.0.2");
        a.spec.endpoints[0].names = vec!["renamed".to_owned()];
        a.update(world).unwrap();
        assert_eq!(resolve(&b, "renamed"), "NoError 172.20.0.2");
        assert_eq!(resolve(&b, "a"), "ServFail");
        a.spec.endpoints.pop();
        a.update(world).unwrap();
        assert_eq!(resolve(&c, "a-on-two"), "ServFail");
        assert_eq!(resolve(&a, "c"), "ServFail");
    });
}

#[test]
fn foreign_names_are_asked_from_the_container_or_from_the_node() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        upstream(Place::Inside(&world.neighbour), "192.0.2.9:53", ResponseCode::NoError);
        upstream(Place::Node, "127.0.0.53:53", ResponseCode::NoError);
        let upstreams = vec![from_sandbox("192.0.2.9:53")];
        let a = start(
            world,
            &net,
            "172.20.0.2/16",
            &["a"],
            ResolverSpec { upstreams, ..ResolverSpec::default() },
        );
        assert_eq!(resolve(&a, "example.com"), "NoError 192.0.2.9");
        assert_eq!(resolve(&a, "a"), "NoError 172.20.0.2");
        // Long answers: cut over UDP, whole over TCP.
        let cut = ask_udp(&a.netns(), &query("long.example.com", RecordType::A));
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        assert_eq!(ask_tcp(&a.netns(), &query("long.example.com", RecordType::A)).answers.len(), 100);
        let upstreams =
            vec![Upstream { address: "127.0.0.53:53".parse().unwrap(), scope: UpstreamScope::Host }];
        let b = start(
            world,
            &net,
            "172.20.0.3/16",
            &["b"],
            ResolverSpec { upstreams, ..ResolverSpec::default() },
        );
        assert_eq!(resolve(&b, "example.com"), "NoError 127.0.0.53");
        assert_eq!(ask_tcp(&b.netns(), &query("example.com", RecordType::A)).answers.len(), 1);
    });
}

#[test]
fn servers_that_cannot_help_are_passed_over() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        let lan = Place::Inside(&world.neighbour);
        world.neighbour.run(|| ip("addr add 192.0.2.10/24 dev eth0")).unwrap();
        upstream(lan, "192.0.2.9:53", ResponseCode::ServFail);
        upstream(lan, "192.0.2.10:53", ResponseCode::NoError);
        let servers = |list: &[&str]| list.iter().map(|address| from_sandbox(address)).collect::<Vec<_>>();
        let upstreams = servers(&["192.0.2.9:53", "192.0.2.10:53"]);
        let a = start(
            world,
            &net,
            "172.20.0.2/16",
            &["a"],
            ResolverSpec { upstreams, ..ResolverSpec::default() },
        );
        assert_eq!(resolve(&a, "example.com"), "NoError 192.0.2.10");
        let upstreams = servers(&["192.0.2.9:53"]);
        let b = start(
            world,
            &net,
            "172.20.0.3/16",
            &["b"],
            ResolverSpec { upstreams, ..ResolverSpec::default() },
        );
        assert_eq!(resolve(&b, "example.com"), "ServFail");
        // A server that nobody runs refuses at once, one that is not there takes its time; neither blocks the others.
        let upstreams = servers(&["192.0.2.9:5353", "192.0.2.10:53"]);
        let c = start(
            world,
            &net,
            "172.20.0.4/16",
            &["c"],
            ResolverSpec { upstreams, ..ResolverSpec::default() },
        );
        let began = Instant::now();
        assert_eq!(resolve(&c, "example.com"), "NoError 192.0.2.10");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    });
}

#[test]
fn internal_networks_keep_their_questions() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |b| b.reach = Reach::Internal);
        upstream(Place::Inside(&world.neighbour), "192.0.2.9:53", ResponseCode::NoError);
        let upstreams = vec![from_sandbox("192.0.2.9:53")];
        let resolver = ResolverSpec { upstreams, forwarding: Forwarding::Refused, ..ResolverSpec::default() };
        let a = start(world, &net, "172.20.0.2/16", &["a"], resolver);
        assert_eq!(resolve(&a, "example.com"), "ServFail");
        assert_eq!(resolve(&a, "a"), "NoError 172.20.0.2");
    });
}

#[test]
fn long_local_answers_respect_the_clients_size() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        let many: Vec<Container> = (0..40)
            .map(|n| start(world, &net, &format!("172.20.1.{n}/16"), &["many"], ResolverSpec::default()))
            .collect();
        let inside = many[0].netns();
        let mut message = query("many", RecordType::A);
        let short = ask_udp(&inside, &message);
        assert!(short.metadata.truncation && !short.answers.is_empty());
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        message.set_edns(edns);
        let whole = ask_udp(&inside, &message);
        assert!(!whole.metadata.truncation && whole.answers.len() == 40 && whole.edns.is_some());
        // Each answer begins with another container.
        let first = |reply: &Message| reply.answers[0].data.to_string();
        assert_ne!(first(&ask_udp(&inside, &message)), first(&ask_udp(&inside, &message)));
    });
}

#[test]
fn many_questions_are_answered_quickly() {
    const QUERIES: u32 = 5000;
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        let a = start(world, &net, "172.20.0.2/16", &["a"], ResolverSpec::default());
        let bytes = query("a", RecordType::A).to_vec().unwrap();
        let socket = a.netns().run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        socket.connect(SERVER).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 512];
        for in_flight in [1, 32] {
            let began = Instant::now();
            let mut sent = 0;
            let mut received = 0;
            while received < QUERIES {
                while sent < QUERIES && sent - received < in_flight {
                    socket.send(&bytes).unwrap();
                    sent += 1;
                }
                socket.recv(&mut buffer).unwrap();
                received += 1;
            }
            let rate = f64::from(QUERIES) / began.elapsed().as_secs_f64();
            println!("dns with {in_flight} in flight: {rate:.0} queries/s");
            // A machine that does ten other things at once answers a tenth of what it could.
            assert!(rate > 100.0, "{rate}");
        }
    });
}

fn entry(owner: &str, names: &[&str], addresses: &[&str]) -> NameEntry {
    NameEntry {
        owner: owner.to_owned(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

#[test]
fn names_of_the_cluster_mix_and_unmix_by_their_owners() {
    in_world(|world| {
        let net = world.network("mesh", &["172.20.0.0/16"], |_| {});
        let a = start(world, &net, "172.20.0.2/16", &["a"], ResolverSpec::default());
        let entries = vec![
            entry("one", &["web", "front"], &["172.20.1.1"]),
            entry("two", &["api", "front"], &["172.20.1.2"]),
            entry("task", &["web.1.x", "tasks.web"], &["172.20.0.7", "fd00::7"]),
        ];
        world.host.set_names(&net.id, "mesh", entries).unwrap();
        assert_eq!(resolve(&a, "web"), "NoError 172.20.1.1");
        assert_eq!(resolve(&a, "WEB.mesh"), "NoError 172.20.1.1");
        assert_eq!(resolve(&a, "tasks.web"), "NoError 172.20.0.7");
        // Tasks come and go, containers stay.
        let lifetime = |name: &str| ask_udp(&a.netns(), &query(name, RecordType::A)).answers[0].ttl;
        assert_eq!((lifetime("tasks.web"), lifetime("a")), (10, 600));
        let pointer = ask_udp(&a.netns(), &query("7.0.20.172.in-addr.arpa", RecordType::PTR));
        assert_eq!(in_words(&pointer), "NoError web.1.x.mesh.");
        let both = resolve(&a, "front");
        assert!(both.contains("172.20.1.1") && both.contains("172.20.1.2"), "{both}");
        let change = |changes| world.host.change_names(&net.id, changes).unwrap();
        change(vec![NameChange::Remove("one".to_owned())]);
        assert_eq!(resolve(&a, "front"), "NoError 172.20.1.2");
        assert_eq!(resolve(&a, "web"), "ServFail");
        change(vec![NameChange::Set(entry("two", &["api"], &["172.20.1.3"]))]);
        assert_eq!(resolve(&a, "front"), "ServFail");
        assert_eq!(resolve(&a, "api"), "NoError 172.20.1.3");
        // The container's own name is another matter.
        world.host.set_names(&net.id, "mesh", vec![entry("again", &["a"], &["172.20.0.2"])]).unwrap();
        assert_eq!(resolve(&a, "a"), "NoError 172.20.0.2");
        assert_eq!(resolve(&a, "api"), "ServFail");
        change(vec![NameChange::Remove("again".to_owned())]);
        assert_eq!(resolve(&a, "a"), "NoError 172.20.0.2");
    });
}

#[test]
fn names_of_the_cluster_outlive_the_daemon_until_it_is_told_others() {
    in_world(|world| {
        let net = world.network("mesh", &["172.20.0.0/16"], |_| {});
        let a = start(world, &net, "172.20.0.2/16", &["a"], ResolverSpec::default());
        world.host.set_names(&net.id, "mesh", vec![entry("one", &["web"], &["172.20.1.1"])]).unwrap();
        let restarted = world.restarted();
        let desired = Desired {
            networks: vec![Arc::clone(&net)],
            sandboxes: vec![(a.spec.clone(), a.sandbox.clone())],
        };
        let report = restarted.restore(&desired);
        assert!(report.errors.is_empty(), "{report:?}");
        assert_eq!(resolve(&a, "web"), "NoError 172.20.1.1");
        let early = restarted.change_names(&net.id, vec![NameChange::Remove("one".to_owned())]);
        assert!(matches!(early, Err(NetError::TablesUnknown(_))), "{early:?}");
        restarted.set_names(&net.id, "mesh", vec![entry("two", &["api"], &["172.20.1.2"])]).unwrap();
        assert_eq!(resolve(&a, "web"), "ServFail");
        // A netd that died is told them again.
        world.kill_netd();
        restarted.repair_netd().unwrap();
        assert_eq!(resolve(&a, "api"), "NoError 172.20.1.2");
        assert!(restarted.retain_overlays(&[]).errors.is_empty());
        assert_eq!(resolve(&a, "api"), "ServFail");
    });
}

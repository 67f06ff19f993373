//! The routing mesh: published ports on every node, and what tasks see of their clients.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use overlay_net::{
    Affinity, Backend, BackendState, ClientAddress, Desired, EndpointSpec, Icc, IngressPort, IngressSpec,
    NetworkSpec, OverlayRole, Peer, Protocol, Sandbox,
};
use shoal_types::SandboxId;

use super::cluster::{Cluster, Node, Overlay, in_cluster};
use super::packets::{Place, assert_alive, bulk, connect, serve_in, tcp, udp, udp_large};
use super::world::{Container, bridge_network, endpoint, run};

const PUBLISHED: u16 = 8080;
/// The outsider's address, as tasks should see it.
const CLIENT: &str = "192.0.2.99";

/// A node with its part in the mesh.
struct Part {
    gateway_bridge: Arc<NetworkSpec>,
    spec: IngressSpec,
    sandbox: Sandbox,
}

/// A mesh over every node of a cluster.
struct Mesh {
    net: Overlay,
    parts: Vec<Part>,
    peers: Vec<Peer>,
    tasks: Vec<Container>,
}

fn leg(network: &Arc<NetworkSpec>, v4: &str, v6: &str, number: usize) -> EndpointSpec {
    let prefix = if v4.starts_with("10.") { 24 } else { 16 };
    endpoint(network, &[&format!("{v4}.{number}/{prefix}"), &format!("{v6}:{number}/64")])
}

fn port(serving: &[&str], client: ClientAddress) -> IngressPort {
    let backend =
        |address: &&str| Backend { address: address.parse().unwrap(), state: BackendState::Serving };
    IngressPort {
        protocol: Protocol::Tcp,
        published: PUBLISHED,
        target: 80,
        host_ip: None,
        backends: serving.iter().map(backend).collect(),
        affinity: Affinity::None,
        client,
    }
}

impl Mesh {
    /// Of both families.
    fn new(cluster: &Cluster) -> Self {
        let mut net = Overlay::new(&["10.0.0.0/24", "fd00:f::/64"], 4096);
        net.role = OverlayRole::Ingress;
        let mut mesh = Self { net, parts: Vec::new(), peers: Vec::new(), tasks: Vec::new() };
        for (number, node) in cluster.nodes.iter().enumerate() {
            let gateway_bridge =
                bridge_network("docker_gwbridge", &["172.18.0.0/16", "fd00:18::/64"], |bridge| {
                    bridge.bridge = "docker_gwbridge".parse().unwrap();
                    bridge.icc = Icc::Denied;
                });
            node.run(|| node.host.ensure_network(&gateway_bridge).unwrap());
            let spec = IngressSpec {
                sandbox: SandboxId::random(),
                inside: leg(&mesh.net.network(node), "10.0.0", "fd00:f:", 2 + number),
                outside: leg(&gateway_bridge, "172.18.0", "fd00:18:", 2),
                ports: Vec::new(),
            };
            let sandbox = node.run(|| node.host.ensure_ingress(&spec, None).unwrap());
            let part = Part { gateway_bridge, spec, sandbox };
            mesh.peers.extend(mesh.net.peers(node, &part.as_container()));
            mesh.parts.push(part);
        }
        mesh
    }

    /// Starts a task, as the engine does: one leg in the mesh, one on the gateway bridge.
    fn task(&mut self, cluster: &Cluster, node: usize, number: u8) {
        let (part, node) = (&self.parts[node], &cluster.nodes[node]);
        let task = node.container_with(&[], |spec| {
            spec.endpoints = vec![
                leg(&self.net.network(node), "10.0.0", "fd00:f:", number.into()),
                leg(&part.gateway_bridge, "172.18.0", "fd00:18:", number.into()),
            ];
        });
        serve_in(&task, 80, &format!("t{number}"));
        self.peers.extend(self.net.peers(node, &task));
        self.tasks.push(task);
        cluster.apply(&self.net, &self.peers);
    }

    /// Publishes on every node.
    fn publish(&mut self, cluster: &Cluster, ports: &[IngressPort]) {
        for (part, node) in self.parts.iter_mut().zip(&cluster.nodes) {
            part.spec.ports = ports.to_vec();
            part.sandbox = node.run(|| node.host.ensure_ingress(&part.spec, Some(&part.sandbox)).unwrap());
        }
    }
}

impl Part {
    fn as_container(&self) -> Container {
        Container { spec: self.spec.sandbox_spec(), sandbox: self.sandbox.clone() }
    }
}

fn at(node: &Node) -> String {
    format!("{}:{PUBLISHED}", node.address)
}

#[test]
fn a_published_port_answers_on_every_node_and_tasks_see_the_client() {
    in_cluster(3, |cluster| {
        let mut mesh = Mesh::new(cluster);
        mesh.task(cluster, 0, 10);
        mesh.task(cluster, 1, 11);
        let tcp_port = port(&["10.0.0.10", "10.0.0.11"], ClientAddress::Kept);
        let udp_port = IngressPort { protocol: Protocol::Udp, ..tcp_port.clone() };
        mesh.publish(cluster, &[tcp_port, udp_port]);
        let outside = Place::Inside(&cluster.outsider);
        for node in &cluster.nodes {
            let mut seen = BTreeMap::new();
            for _ in 0..24 {
                *seen.entry(tcp(outside, &at(node)).unwrap()).or_insert(0) += 1;
            }
            let expected = [format!("t10 {CLIENT}"), format!("t11 {CLIENT}")];
            assert_eq!(seen.keys().cloned().collect::<Vec<_>>(), expected, "{}", node.address);
            let answer = udp(outside, &at(node)).unwrap();
            assert!(answer.ends_with(CLIENT), "{answer}");
            assert!(udp_large(outside, &at(node)).unwrap().ends_with(CLIENT));
            // Streams both ways, though tunnels carry less than the client's network.
            bulk(outside, &at(node));
        }
    });
}

#[test]
fn published_ports_answer_over_ipv6_with_the_clients_address() {
    in_cluster(2, |cluster| {
        let mut mesh = Mesh::new(cluster);
        mesh.task(cluster, 0, 10);
        mesh.task(cluster, 1, 11);
        let both = ["10.0.0.10", "10.0.0.11", "fd00:f::10", "fd00:f::11"];
        mesh.publish(cluster, &[port(&both, ClientAddress::Kept)]);
        let outside = Place::Inside(&cluster.outsider);
        for node in &cluster.nodes {
            let to = format!("[{}]:{PUBLISHED}", node.address_v6);
            let seen: BTreeSet<String> = (0..24).map(|_| tcp(outside, &to).unwrap()).collect();
            let expected = ["t10 2001:db8:1::99", "t11 2001:db8:1::99"].map(str::to_owned);
            assert_eq!(seen, BTreeSet::from(expected));
            bulk(outside, &to);
        }
    });
}

#[test]
fn nodes_reach_published_ports_at_their_own_addresses_and_at_loopback() {
    in_cluster(2, |cluster| {
        let mut mesh = Mesh::new(cluster);
        mesh.task(cluster, 1, 10);
        mesh.publish(cluster, &[port(&["10.0.0.10"], ClientAddress::Kept)]);
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        for node in [one, two] {
            for to in [at(node), format!("127.0.0.1:{PUBLISHED}")] {
                let answer = tcp(Place::Inside(&node.netns), &to).unwrap();
                assert!(answer.starts_with("t10 "), "{to}: {answer}");
            }
        }
        let across = tcp(Place::Inside(&one.netns), &at(two)).unwrap();
        assert_eq!(across, format!("t10 {}", one.address));
        // A task reaches a published port, too, be it its own.
        assert!(tcp(Place::Inside(&mesh.tasks[0].netns()), &at(one)).unwrap().starts_with("t10 "));
        assert!(tcp(Place::Inside(&mesh.tasks[0].netns()), &at(two)).unwrap().starts_with("t10 "));
    });
}

#[test]
fn a_port_may_show_tasks_the_node_instead_of_the_client() {
    in_cluster(2, |cluster| {
        let mut mesh = Mesh::new(cluster);
        mesh.task(cluster, 1, 10);
        mesh.publish(cluster, &[port(&["10.0.0.10"], ClientAddress::Node)]);
        let outside = Place::Inside(&cluster.outsider);
        assert_eq!(tcp(outside, &at(&cluster.nodes[0])).unwrap(), "t10 10.0.0.2");
        assert_eq!(tcp(outside, &at(&cluster.nodes[1])).unwrap(), "t10 10.0.0.3");
    });
}

#[test]
fn ports_without_a_task_refuse_and_withdrawn_ports_are_free() {
    in_cluster(2, |cluster| {
        let mut mesh = Mesh::new(cluster);
        let node = &cluster.nodes[0];
        let outside = Place::Inside(&cluster.outsider);
        mesh.publish(cluster, &[port(&[], ClientAddress::Kept)]);
        let refused = tcp(outside, &at(node)).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        // Nobody else can have the port meanwhile.
        let taken = node.run(|| std::net::TcpListener::bind(("0.0.0.0", PUBLISHED))).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
        mesh.publish(cluster, &[]);
        node.run(|| std::net::TcpListener::bind(("0.0.0.0", PUBLISHED)).unwrap());
    });
}

#[test]
fn a_port_that_somebody_holds_is_not_published_and_the_mesh_goes_on() {
    in_cluster(1, |cluster| {
        let mut mesh = Mesh::new(cluster);
        mesh.task(cluster, 0, 10);
        mesh.publish(cluster, &[port(&["10.0.0.10"], ClientAddress::Kept)]);
        let node = &cluster.nodes[0];
        let _holder = node.run(|| std::net::TcpListener::bind(("0.0.0.0", 9090)).unwrap());
        let part = &mut mesh.parts[0];
        let second = IngressPort { published: 9090, ..part.spec.ports[0].clone() };
        let wanted = IngressSpec { ports: vec![part.spec.ports[0].clone(), second], ..part.spec.clone() };
        let refused = node.run(|| node.host.ensure_ingress(&wanted, Some(&part.sandbox))).unwrap_err();
        assert!(refused.to_string().contains("9090"), "{refused}");
        let outside = Place::Inside(&cluster.outsider);
        assert_eq!(tcp(outside, &at(node)).unwrap(), format!("t10 {CLIENT}"));
    });
}

#[test]
fn connections_through_the_mesh_survive_a_restart_and_drain() {
    in_cluster(2, |cluster| {
        let mut mesh = Mesh::new(cluster);
        mesh.task(cluster, 1, 10);
        mesh.task(cluster, 0, 11);
        mesh.publish(cluster, &[port(&["10.0.0.10"], ClientAddress::Kept)]);
        let mut open = connect(Place::Inside(&cluster.outsider), &at(&cluster.nodes[0]));
        // A restarted daemon knows its records first and the managers' tables later.
        cluster.nodes[0].restart();
        let node = &cluster.nodes[0];
        let part = &mesh.parts[0];
        let desired = Desired {
            networks: vec![Arc::clone(&part.gateway_bridge)],
            sandboxes: vec![
                (part.spec.sandbox_spec(), part.sandbox.clone()),
                (mesh.tasks[1].spec.clone(), mesh.tasks[1].sandbox.clone()),
            ],
        };
        let report = node.run(|| node.host.restore(&desired));
        assert!(report.errors.is_empty() && report.lost.is_empty(), "{report:?}");
        assert_alive(&mut open);
        let outside = Place::Inside(&cluster.outsider);
        assert_eq!(tcp(outside, &at(node)).unwrap(), format!("t10 {CLIENT}"));
        mesh.publish(cluster, &[port(&["10.0.0.10"], ClientAddress::Kept)]);
        cluster.apply(&mesh.net, &mesh.peers);
        assert_alive(&mut open);
        // The task stops: new connections go elsewhere, this one goes on until it is gone.
        let mut moved = port(&["10.0.0.11"], ClientAddress::Kept);
        let stopping = Backend { address: "10.0.0.10".parse().unwrap(), state: BackendState::Draining };
        moved.backends.push(stopping);
        node.host.change_ingress(&mesh.parts[0].spec.sandbox, std::slice::from_ref(&moved)).unwrap();
        assert_eq!(tcp(outside, &at(node)).unwrap(), format!("t11 {CLIENT}"));
        assert_alive(&mut open);
        moved.backends.pop();
        node.host.change_ingress(&mesh.parts[0].spec.sandbox, &[moved]).unwrap();
        open.write_all(b"anybody?").unwrap();
        let reset = open.read(&mut [0; 8]).unwrap_err();
        assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
        // And an administrator's deletion is put right.
        let sandbox = &mesh.parts[0].spec.sandbox;
        let inside = mesh.parts[0].as_container().netns();
        inside.run(|| run("nft", "flush ruleset")).unwrap();
        assert!(!node.host.repair_services(sandbox).unwrap().is_nothing());
        assert_eq!(tcp(outside, &at(node)).unwrap(), format!("t11 {CLIENT}"));
    });
}

//! Virtual services: balancing inside containers' namespaces.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::time::Instant;

use overlay_net::{Affinity, Backend, BackendState, NetError, ServiceChange, VirtualService};
use shoal_types::SandboxId;

use super::cluster::{Cluster, Overlay, in_cluster};
use super::packets::{Place, assert_alive, connect, serve_in, tcp, udp, udp_on, udp_socket};
use super::world::{Container, run};

const VIP: &str = "10.0.1.100";
const VIP_V6: &str = "fd00:1::100";

fn service(vip: &str, serving: &[&str], draining: &[&str]) -> VirtualService {
    let backends = |addresses: &[&str], state| {
        let backend = |address: &&str| Backend { address: address.parse().unwrap(), state };
        addresses.iter().map(backend).collect::<Vec<_>>()
    };
    VirtualService {
        vip: vip.parse().unwrap(),
        backends: [backends(serving, BackendState::Serving), backends(draining, BackendState::Draining)]
            .concat(),
        affinity: Affinity::None,
    }
}

/// A client on the first node, three servers on the three nodes.
struct Tier {
    client: Container,
    _servers: Vec<Container>,
}

impl Tier {
    fn new(cluster: &Cluster) -> Self {
        let net = Overlay::new(&["10.0.1.0/24", "fd00:1::/64"], 4096);
        let start = |node: usize, number: u8| {
            let addresses = [format!("10.0.1.{number}/24"), format!("fd00:1::{number}/64")];
            let node = &cluster.nodes[node];
            let container =
                node.container(&[(&net.network(node), &addresses.each_ref().map(String::as_str))]);
            (net.peers(node, &container), container)
        };
        let (mut peers, client) = start(0, 2);
        let mut servers = Vec::new();
        for number in 0..3u8 {
            let (more, server) = start(usize::from(number), 10 + number);
            serve_in(&server, 80, &format!("s{number}"));
            peers.extend(more);
            servers.push(server);
        }
        cluster.apply(&net, &peers);
        Self { client, _servers: servers }
    }

    fn sandbox(&self) -> &SandboxId {
        &self.client.sandbox.id
    }

    fn set(&self, cluster: &Cluster, service: VirtualService) {
        let node = &cluster.nodes[0];
        let change = [ServiceChange::Set(service)];
        node.run(|| node.host.change_services(self.sandbox(), &change).unwrap());
    }

    /// Who answered how often, of so many connections.
    fn spread(&self, to: &str, connections: usize) -> BTreeMap<String, usize> {
        let inside = self.client.netns();
        let mut counts = BTreeMap::new();
        for _ in 0..connections {
            let answer = tcp(Place::Inside(&inside), to).unwrap();
            *counts.entry(answer.split(' ').next().unwrap().to_owned()).or_default() += 1;
        }
        counts
    }
}

#[test]
fn a_virtual_address_spreads_connections_over_the_tasks_and_hides_nobody() {
    in_cluster(3, |cluster| {
        let tier = Tier::new(cluster);
        let node = &cluster.nodes[0];
        let services = [
            service(VIP, &["10.0.1.10", "10.0.1.11", "10.0.1.12"], &[]),
            service(VIP_V6, &["fd00:1::10", "fd00:1::11", "fd00:1::12"], &[]),
        ];
        node.run(|| node.host.set_services(tier.sandbox(), &services).unwrap());
        for (vip, client) in [(VIP, "10.0.1.2"), ("[fd00:1::100]", "fd00:1::2")] {
            let counts = tier.spread(&format!("{vip}:80"), 60);
            assert_eq!(counts.len(), 3, "{counts:?}");
            assert!(counts.values().all(|count| *count >= 5), "{counts:?}");
            let answer = tcp(Place::Inside(&tier.client.netns()), &format!("{vip}:80")).unwrap();
            assert!(answer.ends_with(&format!(" {client}")), "{answer}");
            assert!(udp(Place::Inside(&tier.client.netns()), &format!("{vip}:80")).unwrap().starts_with('s'));
        }
    });
}

#[test]
fn a_service_without_a_task_refuses_at_once() {
    in_cluster(3, |cluster| {
        let tier = Tier::new(cluster);
        let node = &cluster.nodes[0];
        let services = [service(VIP, &[], &["10.0.1.10"]), service(VIP_V6, &[], &[])];
        node.run(|| node.host.set_services(tier.sandbox(), &services).unwrap());
        for to in ["10.0.1.100:80", "[fd00:1::100]:80"] {
            let refused = tcp(Place::Inside(&tier.client.netns()), to).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
        }
        tier.set(cluster, service(VIP, &["10.0.1.10"], &[]));
        assert_eq!(tier.spread("10.0.1.100:80", 3), BTreeMap::from([("s0".to_owned(), 3)]));
        let change = [ServiceChange::Remove(VIP.parse().unwrap())];
        node.run(|| node.host.change_services(tier.sandbox(), &change).unwrap());
        assert!(!tables(&tier.client).contains("10.0.1.100"), "{}", tables(&tier.client));
    });
}

#[test]
fn a_draining_task_keeps_its_connections_and_gets_no_others() {
    in_cluster(3, |cluster| {
        let tier = Tier::new(cluster);
        let node = &cluster.nodes[0];
        let inside = tier.client.netns();
        let from = Place::Inside(&inside);
        node.run(|| {
            node.host.set_services(tier.sandbox(), &[service(VIP, &["10.0.1.10"], &[])]).unwrap();
        });
        let mut old = connect(from, "10.0.1.100:80");
        let socket = udp_socket(from, "10.0.1.100:80");
        let patience = std::time::Duration::from_secs(10);
        assert_eq!(udp_on(&socket, "10.0.1.100:80", patience).unwrap(), "s0 10.0.1.2");
        tier.set(cluster, service(VIP, &["10.0.1.11"], &["10.0.1.10"]));
        assert_alive(&mut old);
        assert_eq!(udp_on(&socket, "10.0.1.100:80", patience).unwrap(), "s0 10.0.1.2");
        assert_eq!(tier.spread("10.0.1.100:80", 5), BTreeMap::from([("s1".to_owned(), 5)]));
        assert_alive(&mut old);
        // Gone altogether: datagrams go elsewhere, a stream is reset instead of hanging.
        tier.set(cluster, service(VIP, &["10.0.1.11"], &[]));
        assert_eq!(udp_on(&socket, "10.0.1.100:80", patience).unwrap(), "s1 10.0.1.2");
        old.write_all(b"anybody?").unwrap();
        let reset = old.read(&mut [0; 8]).unwrap_err();
        assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn affinity_leads_a_client_to_one_task() {
    in_cluster(3, |cluster| {
        let tier = Tier::new(cluster);
        let node = &cluster.nodes[0];
        let affine = |vip, serving: &[&str]| VirtualService {
            affinity: Affinity::ClientAddress,
            ..service(vip, serving, &[])
        };
        let services = [
            affine(VIP, &["10.0.1.10", "10.0.1.11", "10.0.1.12"]),
            affine(VIP_V6, &["fd00:1::12", "fd00:1::10", "fd00:1::11"]),
        ];
        node.run(|| node.host.set_services(tier.sandbox(), &services).unwrap());
        for to in ["10.0.1.100:80", "[fd00:1::100]:80"] {
            assert_eq!(tier.spread(to, 12).len(), 1, "{to}");
        }
    });
}

#[test]
fn services_are_repaired_by_difference_and_adopted_after_a_restart() {
    in_cluster(3, |cluster| {
        let tier = Tier::new(cluster);
        let services = [
            service(VIP, &["10.0.1.10", "10.0.1.11"], &[]),
            service("10.0.1.101", &[], &[]),
            service(VIP_V6, &["fd00:1::10"], &[]),
        ];
        let node = &cluster.nodes[0];
        let id = *tier.sandbox();
        let early = node.host.change_services(&id, &[]);
        assert!(matches!(early, Err(NetError::TablesUnknown(_))), "{early:?}");
        node.run(|| node.host.set_services(&id, &services).unwrap());
        assert!(node.host.repair_services(&id).unwrap().is_nothing());
        let written = tables(&tier.client);
        for sabotage in [
            "flush ruleset",
            "delete table ip shoal_services",
            "flush chain ip shoal_services output",
            "delete element ip shoal_services services { 10.0.1.100 }",
            "flush chain ip shoal_services nobody",
            "add rule ip shoal_services output drop",
        ] {
            tier.client.netns().run(|| run("nft", sabotage)).unwrap();
            assert!(!node.host.repair_services(&id).unwrap().is_nothing(), "{sabotage}");
            assert!(node.host.repair_services(&id).unwrap().is_nothing(), "{sabotage}");
            assert_eq!(tables(&tier.client), written, "{sabotage}");
            assert_eq!(tier.spread("10.0.1.100:80", 1).len(), 1, "{sabotage}");
        }
        let inside = tier.client.netns();
        let mut open = connect(Place::Inside(&inside), "10.0.1.100:80");
        cluster.nodes[0].restart();
        let node = &cluster.nodes[0];
        assert!(node.host.set_services(&id, &services).unwrap().is_nothing());
        // An update that came while the daemon was away.
        let services = [service(VIP, &["10.0.1.12"], &["10.0.1.10", "10.0.1.11"])];
        assert!(!node.host.set_services(&id, &services).unwrap().is_nothing());
        assert_eq!(tier.spread("10.0.1.100:80", 3), BTreeMap::from([("s2".to_owned(), 3)]));
        assert_alive(&mut open);
        assert!(!tables(&tier.client).contains("10.0.1.101"));
        assert!(!node.host.set_services(&id, &[]).unwrap().is_nothing());
        assert!(!tables(&tier.client).contains("to-"), "{}", tables(&tier.client));
    });
}

#[test]
fn five_hundred_services_are_one_look_up() {
    in_cluster(3, |cluster| {
        let tier = Tier::new(cluster);
        let node = &cluster.nodes[0];
        let serving = ["10.0.1.10", "10.0.1.11", "10.0.1.12"];
        let many: Vec<VirtualService> = (0..500)
            .map(|number: u16| service(&format!("10.9.{}.{}", number / 250, number % 250 + 1), &serving, &[]))
            .chain([service(VIP, &serving, &[])])
            .collect();
        let id = tier.sandbox();
        let begin = Instant::now();
        node.run(|| node.host.set_services(id, &many).unwrap());
        let whole = begin.elapsed();
        assert_eq!(tier.spread("10.0.1.100:80", 30).len(), 3);
        let begin = Instant::now();
        for turn in 0..20 {
            tier.set(cluster, service("10.9.1.7", &serving[..1 + turn % 2], &[]));
        }
        println!("500 services: whole {whole:?}, one change {:?}", begin.elapsed() / 20);
        assert!(node.host.repair_services(id).unwrap().is_nothing());
        let listing = tables(&tier.client);
        let rules = listing.lines().filter(|line| line.contains("vmap @services")).count();
        assert_eq!(rules, 1, "the way to a service is one look-up");
    });
}

/// The tables as nft lists them, whose order and names follow from what was given.
fn tables(container: &Container) -> String {
    let listing = container.netns().run(|| run("nft", "list ruleset")).unwrap();
    let mut lines: Vec<&str> = listing.lines().map(str::trim).collect();
    lines.sort_unstable();
    lines.join("\n")
}

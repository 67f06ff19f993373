//! Random operations and daemons that come and go: nothing drifts, nothing is left.

use std::collections::BTreeMap;

use overlay_net::{
    Affinity, Backend, BackendState, Desired, OverlayTables, Peer, TableChange, VirtualService, netns,
};

use super::cluster::{Cluster, Node, Overlay, in_cluster};
use super::world::{Container, ip};

const OPERATIONS: usize = 300;
const NETWORKS: usize = 3;

/// A sequence that is the same in every run: what fails once fails again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // Knuth's multiplicative generator; the upper half is random enough.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// What should be: which networks there are, who is in them, and which containers this side has made.
struct Model {
    networks: Vec<Overlay>,
    present: [[bool; NETWORKS]; 2],
    peers: [BTreeMap<std::net::IpAddr, Peer>; NETWORKS],
    containers: [Vec<(usize, Container)>; 2],
    next: [u8; NETWORKS],
}

impl Model {
    fn new() -> Self {
        let network = |number: usize| {
            let first_vni = 4096 + 2 * u32::try_from(number).unwrap();
            Overlay::new(&[&format!("10.0.{number}.0/24"), &format!("fd00:{number}::/64")], first_vni)
        };
        Self {
            networks: (0..NETWORKS).map(network).collect(),
            present: Default::default(),
            peers: Default::default(),
            containers: Default::default(),
            next: [2; NETWORKS],
        }
    }

    fn apply(&mut self, nodes: &[Node], node: usize, network: usize) {
        let tables = OverlayTables { peers: self.peers[network].values().copied().collect() };
        let (net, on) = (&self.networks[network], &nodes[node]);
        on.run(|| on.host.apply_overlay(&net.id, &net.on(on), &tables).unwrap());
        self.present[node][network] = true;
    }

    /// One change of the tables, told to every node that has the network.
    fn tell(&mut self, nodes: &[Node], network: usize, changes: &[TableChange]) {
        for change in changes {
            match change {
                TableChange::Set(peer) => drop(self.peers[network].insert(peer.address, *peer)),
                TableChange::Remove(address) => drop(self.peers[network].remove(address)),
            }
        }
        for (node, on) in nodes.iter().enumerate().filter(|(node, _)| self.present[*node][network]) {
            let told = on.run(|| on.host.change_overlay(&self.networks[network].id, changes));
            assert!(told.is_ok(), "node {node}: {told:?}");
        }
    }

    fn start(&mut self, nodes: &[Node], node: usize, network: usize) {
        self.apply(nodes, node, network);
        let number = self.next[network];
        self.next[network] = if number == 250 { 2 } else { number + 1 };
        let (net, on) = (&self.networks[network], &nodes[node]);
        let addresses = [format!("10.0.{network}.{number}/24"), format!("fd00:{network}::{number}/64")];
        let container = on.container(&[(&net.network(on), &addresses.each_ref().map(String::as_str))]);
        let service = VirtualService {
            vip: format!("10.0.{network}.254").parse().unwrap(),
            backends: vec![Backend {
                address: format!("10.0.{network}.{number}").parse().unwrap(),
                state: BackendState::Serving,
            }],
            affinity: Affinity::None,
        };
        on.run(|| on.host.set_services(&container.sandbox.id, &[service]).unwrap());
        let changes: Vec<_> = net.peers(on, &container).into_iter().map(TableChange::Set).collect();
        self.containers[node].push((network, container));
        self.tell(nodes, network, &changes);
    }

    fn stop(&mut self, nodes: &[Node], node: usize, which: usize) {
        let (network, container) = self.containers[node].swap_remove(which);
        let peers = self.networks[network].peers(&nodes[node], &container);
        let changes: Vec<_> = peers.iter().map(|peer| TableChange::Remove(peer.address)).collect();
        nodes[node].remove(&container.sandbox);
        self.tell(nodes, network, &changes);
    }

    /// A node whose last container of a network has ended drops the network.
    fn drop_network(&mut self, nodes: &[Node], node: usize, network: usize) {
        if !self.containers[node].iter().any(|(of, _)| *of == network) {
            let (net, on) = (&self.networks[network], &nodes[node]);
            let errors = on.run(|| on.host.remove_overlay(&net.id));
            assert!(errors.is_empty(), "{errors:?}");
            self.present[node][network] = false;
        }
    }

    /// The daemon is killed and comes back: records first, then the managers' tables.
    fn restart(&mut self, cluster: &mut Cluster, node: usize) {
        cluster.nodes[node].restart();
        let on = &cluster.nodes[node];
        let sandboxes = self.containers[node].iter();
        let sandboxes = sandboxes.map(|(_, container)| (container.spec.clone(), container.sandbox.clone()));
        let desired = Desired { networks: Vec::new(), sandboxes: sandboxes.collect() };
        let report = on.run(|| on.host.restore(&desired));
        assert!(report.errors.is_empty() && report.lost.is_empty(), "{report:?}");
        assert!(report.removed.is_empty(), "{report:?}");
        for network in 0..NETWORKS {
            if self.present[node][network] {
                let tables = OverlayTables { peers: self.peers[network].values().copied().collect() };
                let net = &self.networks[network];
                let found = on.run(|| on.host.apply_overlay(&net.id, &net.on(on), &tables).unwrap());
                assert!(found.is_nothing(), "the kernel has what the tables say: {found:?}");
            }
        }
    }
}

#[test]
fn random_operations_and_restarts_neither_drift_nor_leak() {
    in_cluster(2, |cluster| {
        let (mut model, mut dice) = (Model::new(), Dice(2026));
        for _ in 0..OPERATIONS {
            let (node, network) = (dice.below(2), dice.below(NETWORKS));
            match dice.below(10) {
                0..4 => model.start(&cluster.nodes, node, network),
                4..8 if !model.containers[node].is_empty() => {
                    let which = dice.below(model.containers[node].len());
                    model.stop(&cluster.nodes, node, which);
                }
                8 => model.restart(cluster, node),
                _ => model.drop_network(&cluster.nodes, node, network),
            }
        }
        for node in 0..2 {
            for network in (0..NETWORKS).filter(|network| model.present[node][*network]) {
                let (on, id) = (&cluster.nodes[node], &model.networks[network].id);
                let drift = on.run(|| on.host.repair_overlay(id).unwrap());
                assert!(drift.is_nothing(), "{drift:?}");
            }
            while !model.containers[node].is_empty() {
                model.stop(&cluster.nodes, node, 0);
            }
            let on = &cluster.nodes[node];
            let report = on.run(|| on.host.retain_overlays(&[]));
            assert!(report.errors.is_empty(), "{report:?}");
            for pins in ["netns", "overlay"] {
                assert_eq!(netns::list(&on.dir.join(pins)).unwrap(), Vec::<std::path::PathBuf>::new());
            }
            let links = on.run(|| ip("-br link show"));
            assert_eq!(links.lines().count(), 2, "{links}");
            model.present[node] = [false; NETWORKS];
        }
    });
}

#[test]
fn ten_thousand_peers_are_taken_over_and_changed_in_time() {
    in_cluster(1, |cluster| {
        let net = Overlay::new(&["10.0.0.0/16"], 4096);
        let on = &cluster.nodes[0];
        let peer = |number: u16| {
            let address = std::net::Ipv4Addr::from(0x0a00_0002 + u32::from(number)).into();
            let mac = overlay_net::MacAddr::for_addresses(&[ipnet::IpNet::new(address, 32).unwrap()]);
            Peer {
                address,
                mac,
                vtep: std::net::Ipv4Addr::new(192, 0, 2, 2 + u8::try_from(number % 99).unwrap()).into(),
            }
        };
        let tables = OverlayTables { peers: (0..10_000).map(peer).collect() };
        let timed = |what: &str, work: &mut dyn FnMut()| {
            let begin = std::time::Instant::now();
            work();
            println!("{what}: {:?}", begin.elapsed());
        };
        let host = on.host.clone();
        on.run(|| {
            timed("10,000 peers at once", &mut || {
                let made = host.apply_overlay(&net.id, &net.on(on), &tables).unwrap();
                assert!(made.added >= 20_000, "{made:?}");
            });
            timed("comparison of 10,000 peers", &mut || {
                assert!(host.repair_overlay(&net.id).unwrap().is_nothing());
            });
            timed("one of 10,000 peers moved", &mut || {
                let moved = Peer { vtep: "192.0.2.250".parse().unwrap(), ..peer(77) };
                host.change_overlay(&net.id, &[TableChange::Set(moved)]).unwrap();
            });
            assert!(host.repair_overlay(&net.id).unwrap().is_nothing());
        });
    });
}

//! Overlay networks: traffic between nodes, tables, repair, leaks.

use overlay_net::{NetError, OverlayTables, Repaired, TableChange};

use super::cluster::{Overlay, in_cluster, peer};
use super::packets::{Place, assert_alive, assert_no_tcp, bulk, connect, serve_in, tcp, udp, udp_large};
use super::world::{ip, run};

#[test]
fn containers_of_one_overlay_network_reach_each_other_across_nodes() {
    in_cluster(3, |cluster| {
        let net = Overlay::new(&["10.0.1.0/24", "fd00:1::/64"], 4096);
        let nodes = &cluster.nodes;
        let start = |node: usize, number: u8| {
            let addresses = [format!("10.0.1.{number}/24"), format!("fd00:1::{number}/64")];
            let addresses = addresses.each_ref().map(String::as_str);
            nodes[node].container(&[(&net.network(&nodes[node]), &addresses)])
        };
        let (a, b, c, d) = (start(0, 2), start(1, 3), start(2, 4), start(0, 5));
        let mut peers = net.peers(&nodes[0], &a);
        peers.extend(net.peers(&nodes[1], &b));
        peers.extend(net.peers(&nodes[2], &c));
        peers.extend(net.peers(&nodes[0], &d));
        cluster.apply(&net, &peers);
        serve_in(&b, 80, "b");
        serve_in(&c, 80, "c");
        serve_in(&d, 80, "d");
        let a_ns = a.netns();
        let from_a = Place::Inside(&a_ns);
        for (server, number) in [("b", 3), ("c", 4), ("d", 5)] {
            assert_eq!(tcp(from_a, &format!("10.0.1.{number}:80")).unwrap(), format!("{server} 10.0.1.2"));
            assert_eq!(
                tcp(from_a, &format!("[fd00:1::{number}]:80")).unwrap(),
                format!("{server} fd00:1::2")
            );
            assert_eq!(udp(from_a, &format!("10.0.1.{number}:80")).unwrap(), format!("{server} 10.0.1.2"));
        }
        // The MTU inside is what is left of the underlay's, and packets of that size arrive.
        assert!(a_ns.run(|| ip("link show eth0")).unwrap().contains("mtu 1450 "));
        for server in ["10.0.1.3:80", "[fd00:1::3]:80", "10.0.1.5:80"] {
            bulk(from_a, server);
            assert!(udp_large(from_a, server).is_ok(), "{server}");
        }
    });
}

#[test]
fn tunnels_may_go_over_ipv6() {
    in_cluster(2, |cluster| {
        let mut net = Overlay::new(&["10.0.1.0/24"], 4096);
        net.outer_v6 = true;
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        let a = one.container(&[(&net.network(one), &["10.0.1.2/24"])]);
        let b = two.container(&[(&net.network(two), &["10.0.1.3/24"])]);
        cluster.apply(&net, &[net.peers(one, &a), net.peers(two, &b)].concat());
        serve_in(&b, 80, "b");
        assert_eq!(tcp(Place::Inside(&a.netns()), "10.0.1.3:80").unwrap(), "b 10.0.1.2");
        assert!(a.netns().run(|| ip("link show eth0")).unwrap().contains("mtu 1430 "));
        bulk(Place::Inside(&a.netns()), "10.0.1.3:80");
        assert!(udp_large(Place::Inside(&a.netns()), "10.0.1.3:80").is_ok());
    });
}

#[test]
fn nothing_is_flooded_to_nodes_that_the_tables_do_not_name() {
    in_cluster(2, |cluster| {
        let net = Overlay::new(&["10.0.1.0/24", "fd00:1::/64"], 4096);
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        let a = one.container(&[(&net.network(one), &["10.0.1.2/24", "fd00:1::2/64"])]);
        let b = two.container(&[(&net.network(two), &["10.0.1.3/24", "fd00:1::3/64"])]);
        serve_in(&b, 80, "b");
        // Only the first node has no entry for the server.
        let tables = OverlayTables { peers: net.peers(one, &a) };
        for node in [one, two] {
            node.run(|| node.host.apply_overlay(&net.id, &net.on(node), &tables).unwrap());
        }
        let frames = || one.segment(&net).run(|| ip("-s -s link show type vxlan")).unwrap();
        assert_no_tcp(Place::Inside(&a.netns()), "10.0.1.3:80");
        assert_no_tcp(Place::Inside(&a.netns()), "[fd00:1::3]:80");
        let nothing_arrived = two.segment(&net).run(|| ip("-s -j link show type vxlan")).unwrap();
        assert!(nothing_arrived.contains("\"rx\":{\"bytes\":0,"), "{nothing_arrived} {}", frames());
        let change = net.peers(two, &b).into_iter().map(TableChange::Set).collect::<Vec<_>>();
        one.run(|| one.host.change_overlay(&net.id, &change).unwrap());
        assert_eq!(tcp(Place::Inside(&a.netns()), "10.0.1.3:80").unwrap(), "b 10.0.1.2");
        assert_eq!(tcp(Place::Inside(&a.netns()), "[fd00:1::3]:80").unwrap(), "b fd00:1::2");
    });
}

#[test]
fn a_task_that_moves_is_found_on_its_new_node() {
    in_cluster(3, |cluster| {
        let net = Overlay::new(&["10.0.1.0/24"], 4096);
        let [one, two, three] = &cluster.nodes[..] else { panic!("three nodes") };
        let a = one.container(&[(&net.network(one), &["10.0.1.2/24"])]);
        let mut place = (two, two.container(&[(&net.network(two), &["10.0.1.3/24"])]));
        let peers = [net.peers(one, &a), net.peers(two, &place.1)].concat();
        cluster.apply(&net, &peers);
        for (turn, next) in [three, one, two, three].into_iter().enumerate() {
            serve_in(&place.1, 80, "task");
            assert_eq!(
                tcp(Place::Inside(&a.netns()), "10.0.1.3:80").unwrap(),
                "task 10.0.1.2",
                "turn {turn}"
            );
            place.0.remove(&place.1.sandbox);
            let moved = next.container(&[(&net.network(next), &["10.0.1.3/24"])]);
            let change: Vec<_> = net.peers(next, &moved).into_iter().map(TableChange::Set).collect();
            for node in &cluster.nodes {
                node.run(|| node.host.change_overlay(&net.id, &change).unwrap());
            }
            place = (next, moved);
        }
    });
}

#[test]
fn subnets_of_one_network_are_routed_and_networks_are_apart() {
    in_cluster(2, |cluster| {
        let net = Overlay::new(&["10.0.1.0/24", "10.0.2.0/24"], 4096);
        let other = Overlay::new(&["10.0.1.0/24"], 5000);
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        let a = one.container(&[(&net.network(one), &["10.0.1.2/24"])]);
        let b = two.container(&[(&net.network(two), &["10.0.2.3/24"])]);
        // The same addresses in another network are somebody else.
        let stranger = two.container(&[(&other.network(two), &["10.0.1.7/24"])]);
        cluster.apply(&net, &[net.peers(one, &a), net.peers(two, &b)].concat());
        cluster.apply(&other, &other.peers(two, &stranger));
        serve_in(&b, 80, "b");
        serve_in(&stranger, 80, "stranger");
        assert_eq!(tcp(Place::Inside(&a.netns()), "10.0.2.3:80").unwrap(), "b 10.0.1.2");
        assert_no_tcp(Place::Inside(&a.netns()), "10.0.1.7:80");
    });
}

#[test]
fn whatever_an_administrator_deletes_is_put_right() {
    in_cluster(2, |cluster| {
        let net = Overlay::new(&["10.0.1.0/24", "fd00:1::/64"], 4096);
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        let a = one.container(&[(&net.network(one), &["10.0.1.2/24", "fd00:1::2/64"])]);
        let b = two.container(&[(&net.network(two), &["10.0.1.3/24", "fd00:1::3/64"])]);
        let peers = [net.peers(one, &a), net.peers(two, &b)].concat();
        cluster.apply(&net, &peers);
        serve_in(&b, 80, "b");
        let repair = || one.run(|| one.host.repair_overlay(&net.id).unwrap());
        assert!(repair().is_nothing());
        let tunnel = format!("vx-001000-{}", &net.id.as_str()[..5]);
        let sabotages: [&(dyn Fn() -> String + Sync); 7] = [
            &|| ip(&format!("link del {tunnel}")),
            &|| ip(&format!("link set {tunnel} down")),
            &|| ip(&format!("link set {tunnel} nomaster")),
            &|| ip(&format!("neigh del 10.0.1.3 dev {tunnel}")),
            &|| run("bridge", &format!("fdb del 02:42:0a:00:01:03 dev {tunnel} self")),
            &|| run("bridge", &format!("fdb del 02:42:0a:00:01:03 dev {tunnel} master")),
            &|| {
                run("bridge", &format!("fdb add 02:42:0a:00:01:99 dev {tunnel} dst 192.0.2.77 self"));
                ip(&format!("neigh add 10.0.1.99 lladdr 02:42:0a:00:01:99 dev {tunnel} nud permanent"))
            },
        ];
        for (number, sabotage) in sabotages.iter().enumerate() {
            one.segment(&net).run(sabotage).unwrap();
            assert!(!repair().is_nothing(), "sabotage {number}");
            assert!(repair().is_nothing(), "sabotage {number}");
            assert_eq!(tcp(Place::Inside(&a.netns()), "10.0.1.3:80").unwrap(), "b 10.0.1.2", "{number}");
            assert_eq!(tcp(Place::Inside(&a.netns()), "[fd00:1::3]:80").unwrap(), "b fd00:1::2", "{number}");
        }
    });
}

#[test]
fn a_restarted_daemon_adopts_a_data_plane_that_never_stopped() {
    in_cluster(2, |cluster| {
        let net = Overlay::new(&["10.0.1.0/24"], 4096);
        let gone = Overlay::new(&["10.0.9.0/24"], 4200);
        let (a, from, b, peers) = {
            let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
            let a = one.container(&[(&net.network(one), &["10.0.1.2/24"])]);
            let b = two.container(&[(&net.network(two), &["10.0.1.3/24"])]);
            let peers = [net.peers(one, &a), net.peers(two, &b)].concat();
            let from = a.netns();
            (a, from, b, peers)
        };
        cluster.apply(&net, &peers);
        cluster.apply(&gone, &[]);
        serve_in(&b, 80, "b");
        let mut open = connect(Place::Inside(&from), "10.0.1.3:80");
        cluster.nodes[0].restart();
        let one = &cluster.nodes[0];
        let desired =
            overlay_net::Desired { networks: Vec::new(), sandboxes: vec![(a.spec.clone(), a.sandbox)] };
        let report = one.run(|| one.host.restore(&desired));
        assert!(report.errors.is_empty() && report.lost.is_empty(), "{report:?}");
        assert_alive(&mut open);
        // Before the managers spoke, nothing is known and nothing is touched.
        let early = one.run(|| one.host.change_overlay(&net.id, &[TableChange::Remove(peers[1].address)]));
        assert!(matches!(early, Err(NetError::TablesUnknown(_))), "{early:?}");
        assert_eq!(one.run(|| one.host.repair_overlay(&net.id).unwrap()), Repaired::default());
        let tables = OverlayTables { peers };
        let adopted = one.run(|| one.host.apply_overlay(&net.id, &net.on(one), &tables).unwrap());
        assert!(adopted.is_nothing(), "{adopted:?}");
        assert_alive(&mut open);
        assert_eq!(one.run(|| one.host.overlays().unwrap().len()), 2);
        let report = one.run(|| one.host.retain_overlays(std::slice::from_ref(&net.id)));
        assert_eq!(report.removed, [format!("overlay network {}", gone.id)], "{report:?}");
        assert_alive(&mut open);
    });
}

#[test]
fn nothing_is_left_of_networks_that_are_removed() {
    in_cluster(2, |cluster| {
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        for turn in 0..5 {
            // The same identifier again at once: the former tunnel must be gone.
            let net = Overlay::new(&["10.0.1.0/24", "fd00:1::/64"], 4096);
            let a = one.container(&[(&net.network(one), &["10.0.1.2/24"])]);
            let remote = peer("10.0.1.3", two);
            cluster.apply(&net, &[net.peers(one, &a), vec![remote]].concat());
            one.remove(&a.sandbox);
            for node in [one, two] {
                let errors = node.run(|| node.host.remove_overlay(&net.id));
                assert!(errors.is_empty(), "turn {turn}: {errors:?}");
                assert!(node.run(|| node.host.overlays().unwrap()).is_empty());
                assert!(node.run(|| node.host.remove_overlay(&net.id)).is_empty());
                // Of the node's own links there are only those it had.
                let links = node.run(|| ip("-br link show"));
                let names: Vec<&str> = links.lines().filter_map(|l| l.split(['@', ' ']).next()).collect();
                assert_eq!(names, ["lo", "eth0"], "{links}");
            }
        }
    });
}

#[test]
fn an_identifier_goes_to_the_network_that_has_it_now() {
    in_cluster(2, |cluster| {
        let former = Overlay::new(&["10.0.9.0/24"], 4096);
        cluster.apply(&former, &[]);
        // While these nodes were away the network was removed and its identifier given to another one.
        let net = Overlay::new(&["10.0.1.0/24"], 4096);
        let [one, two] = &cluster.nodes[..] else { panic!("two nodes") };
        let a = one.container(&[(&net.network(one), &["10.0.1.2/24"])]);
        let b = two.container(&[(&net.network(two), &["10.0.1.3/24"])]);
        cluster.apply(&net, &[net.peers(one, &a), net.peers(two, &b)].concat());
        serve_in(&b, 80, "b");
        assert_eq!(tcp(Place::Inside(&a.netns()), "10.0.1.3:80").unwrap(), "b 10.0.1.2");
        let report = one.run(|| one.host.retain_overlays(std::slice::from_ref(&net.id)));
        assert_eq!(report.removed, [format!("overlay network {}", former.id)], "{report:?}");
        assert_eq!(tcp(Place::Inside(&a.netns()), "10.0.1.3:80").unwrap(), "b 10.0.1.2");
    });
}

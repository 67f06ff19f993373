//! The rules as the kernel has them.

use std::collections::BTreeSet;

use overlay_net::firewall::Family;
use overlay_net::firewall::rules::network_elements;
use overlay_net::{Desired, PacketMark, Reach};

use super::packets::{Place, assert_alive, assert_no_tcp, connect, serve_in, tcp};
use super::world::{NODE, World, in_configured_world, in_world, ip, publish, run};

/// Rules of a chain as `nft` prints them.
fn chain(family: &str, name: &str) -> Vec<String> {
    let listed = run("nft", &format!("list chain {family} shoal {name}"));
    let lines = listed.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.ends_with('{') && *line != "}").map(str::to_owned).collect()
}

#[test]
fn the_tables_read_as_they_are_meant() {
    in_world(|_| {
        assert_eq!(
            chain("ip", "publish"),
            [
                "dnat ip to meta l4proto . ip daddr . th dport map @published",
                "dnat ip to meta l4proto . th dport map @published_any",
            ]
        );
        assert_eq!(
            chain("ip", "martians"),
            [
                "type filter hook prerouting priority raw; policy accept;",
                "iifname != \"lo\" ip daddr 127.0.0.0/8 drop",
                "iifname != \"lo\" ip saddr 127.0.0.0/8 drop",
            ]
        );
        assert_eq!(
            chain("ip", "forward"),
            [
                "type filter hook forward priority filter; policy accept;",
                "ct state established,related accept",
                "iifname . oifname @same goto intra",
                "iifname @internal drop",
                "oifname vmap @into",
                "iifname @bridges accept",
            ]
        );
        assert_eq!(
            chain("ip6", "into_routed"),
            [
                "ct status dnat accept",
                "ip6 daddr . meta l4proto . th dport @open accept",
                "icmpv6 type echo-request accept",
                "drop",
            ]
        );
        assert_eq!(
            chain("ip", "into_nat"),
            [
                "ct status dnat accept",
                "iifname . oifname @trusted ip daddr . meta l4proto . th dport @open accept",
                "drop",
            ]
        );
        assert_eq!(
            chain("ip6", "output"),
            [
                "type nat hook output priority -100; policy accept;",
                "ip6 daddr != ::1 ip6 daddr != fe80::/10 fib daddr type local jump publish",
            ]
        );
        assert_eq!(
            chain("ip", "postrouting"),
            [
                "type nat hook postrouting priority srcnat; policy accept;",
                "ct status dnat oifname @bridges ip saddr @subnets masquerade",
                "ct status dnat oifname @bridges ip saddr 127.0.0.0/8 masquerade",
                "iifname . oifname @same accept",
                "snat to iifname map @snat_to",
                "iifname @masqueraded masquerade",
            ]
        );
    });
}

#[test]
fn the_listing_in_json_holds_every_set_and_element() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16", "fd00:20::/64"], |_| {});
        let web = world.container_with(&[(&net, &["172.20.0.2/16", "fd00:20::2/64"])], |spec| {
            spec.publish.push(publish(80, 8080));
        });
        let listed: serde_json::Value = serde_json::from_str(&run("nft", "-j list ruleset")).unwrap();
        let items = listed["nftables"].as_array().unwrap();
        let sets: BTreeSet<(String, String)> = items
            .iter()
            .flat_map(|item| [item.get("set"), item.get("map")])
            .flatten()
            .map(|set| (set["family"].as_str().unwrap().to_owned(), set["name"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(sets.len(), 26, "{sets:?}");
        for (family, name) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
            // Every element of the pure rule set is in the set of its name.
            for element in network_elements(&net, family) {
                let set = element.set.name();
                let found = items.iter().flat_map(|item| [item.get("set"), item.get("map")]).flatten();
                let mut found = found.filter(|found| found["name"] == set && found["family"] == name);
                assert!(
                    found.next().unwrap()["elem"].as_array().is_some_and(|e| !e.is_empty()),
                    "{name} {set}"
                );
            }
        }
        assert!(run("nft", "list map ip shoal published_any").contains("tcp . 8080 : 172.20.0.2 . 80"));
        assert!(run("nft", "list map ip6 shoal published_any").contains("tcp . 8080 : fd00:20::2 . 80"));
        // What is listed can be loaded again.
        let saved = world.dir.path().join("saved.nft");
        std::fs::write(&saved, run("nft", "list ruleset")).unwrap();
        run("nft", &format!("-c -f {}", saved.display()));
        assert!(world.host.remove_sandbox(&web.sandbox).is_empty());
        assert!(world.host.remove_network(&net).is_empty());
        let left = run("nft", "list ruleset");
        assert!(!left.contains("elements"), "{left}");
    });
}

#[test]
fn other_tables_are_left_alone_and_reported_when_they_drop() {
    in_world(|world| {
        run("nft", "add table inet theirs");
        assert!(world.host.foreign_drops().unwrap().is_empty());
        let file = world.dir.path().join("theirs.nft");
        std::fs::write(
            &file,
            "table inet theirs {\nchain f {\ntype filter hook forward priority 0; policy drop;\n}\n}\n",
        )
        .unwrap();
        run("nft", &format!("-f {}", file.display()));
        assert_eq!(world.host.foreign_drops().unwrap(), ["theirs f"]);
        world.network("net", &["172.20.0.0/16"], |_| {});
        let report = world.host.restore(&Desired::default());
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert!(run("nft", "list tables").contains("table inet theirs"));
        world.host.remove_firewall().unwrap();
        assert!(!run("nft", "list tables").contains("shoal"));
    });
}

fn web(world: &World) -> (Desired, super::world::Container) {
    let net = world.network("net", &["172.20.0.0/16"], |_| {});
    let web =
        world.container_with(&[(&net, &["172.20.0.2/16"])], |spec| spec.publish.push(publish(80, 8080)));
    serve_in(&web, 80, "web");
    let desired = Desired { networks: vec![net], sandboxes: vec![(web.spec.clone(), web.sandbox.clone())] };
    (desired, web)
}

#[test]
fn a_flushed_table_is_written_again_and_flows_survive_it() {
    in_world(|world| {
        let (desired, _web) = web(world);
        let lan = Place::Inside(&world.neighbour);
        let mut open = connect(lan, &format!("{NODE}:8080"));
        let tables = || ["ip", "ip6"].map(|family| run("nft", &format!("list table {family} shoal")));
        let before = tables();
        // By a restart of the daemon, with the table as it was, changed, damaged, or gone.
        let damages: [&[&str]; 5] = [
            &[],
            &["add element ip shoal internal { foreign }"],
            &["delete element ip shoal published_any { tcp . 8080 }"],
            &["flush chain ip shoal forward"],
            &["flush ruleset"],
        ];
        for damage in damages {
            for command in damage {
                run("nft", command);
            }
            let report = world.restarted().restore(&desired);
            assert!(report.errors.is_empty() && report.lost.is_empty(), "{report:?}");
            assert_eq!(tables(), before, "{damage:?}");
            assert_alive(&mut open);
            assert_eq!(tcp(lan, &format!("{NODE}:8080")).unwrap(), "web 192.0.2.9");
        }
        // And by the next change, without a restart.
        run("nft", "flush ruleset");
        world.network("other", &["172.21.0.0/16"], |_| {});
        assert_eq!(tcp(lan, &format!("{NODE}:8080")).unwrap(), "web 192.0.2.9");
        assert_alive(&mut open);
    });
}

#[test]
fn turning_forwarding_on_does_not_make_the_node_a_router() {
    in_world(|world| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let (desired, web) = web(world);
        let forward = || chain("ip", "forward")[0].clone();
        assert!(forward().ends_with("policy drop;"), "{}", forward());
        // The policy outlives the daemon that set it.
        let report = world.restarted().restore(&desired);
        assert!(report.errors.is_empty());
        assert!(forward().ends_with("policy drop;"));
        super::packets::serve_on_neighbour(world, 80);
        assert_eq!(tcp(Place::Inside(&web.netns()), "192.0.2.9:80").unwrap(), "neighbour 192.0.2.1");
        // Somebody else's namespace behind the node gets nowhere.
        let path = world.dir.path().join("foreign");
        let (foreign, ()) = overlay_net::netns::Netns::create(&path, |_| Ok(())).unwrap();
        ip(&format!("link add their type veth peer name eth0 netns {}", path.display()));
        ip("addr add 10.99.0.1/24 dev their");
        ip("link set their up");
        foreign
            .run(|| {
                ip("addr add 10.99.0.2/24 dev eth0");
                ip("link set eth0 up");
                ip("route add default via 10.99.0.1");
            })
            .unwrap();
        world.neighbour.run(|| ip(&format!("route add 10.99.0.0/24 via {NODE}"))).unwrap();
        assert_no_tcp(Place::Inside(&foreign), "192.0.2.9:80");
        overlay_net::netns::remove(&path).unwrap();
    });
}

#[test]
fn packets_with_the_accepted_mark_enter_networks_that_are_not_internal() {
    let accept_two_of_three = |config: &mut overlay_net::Config| {
        config.accepted_mark = Some(PacketMark { value: 2, mask: 3 });
    };
    in_configured_world(accept_two_of_three, |world| {
        assert!(chain("ip", "into_nat").contains(&"meta mark & 0x00000003 == 0x00000002 accept".to_owned()));
        let net = world.network("net", &["172.20.0.0/16", "fd00:20::/64"], |_| {});
        let web = world.container(&[(&net, &["172.20.0.2/16", "fd00:20::2/64"])]);
        let hidden = world.network("hidden", &["172.21.0.0/16"], |bridge| bridge.reach = Reach::Internal);
        let secret = world.container(&[(&hidden, &["172.21.0.2/16"])]);
        serve_in(&web, 80, "web");
        serve_in(&secret, 80, "secret");
        let lan = Place::Inside(&world.neighbour);
        run("nft", "add table inet mine");
        run("nft", "add chain inet mine marks { type filter hook prerouting priority raw ; }");
        run("nft", "add rule inet mine marks iifname eth0 meta mark set 0xd");
        assert_no_tcp(lan, "172.20.0.2:80");
        run("nft", "flush chain inet mine marks");
        run("nft", "add rule inet mine marks iifname eth0 meta mark set 0xe");
        assert_eq!(tcp(lan, "172.20.0.2:80").unwrap(), "web 192.0.2.9");
        assert_eq!(tcp(lan, "[fd00:20::2]:80").unwrap(), "web 2001:db8:1::9");
        assert_no_tcp(lan, "172.21.0.2:80");
    });
}

//! Bridge networks: who reaches whom.

use overlay_net::{GatewayMode, Icc, LinkFlow, Masquerade, Protocol, Reach};

use super::packets::{Place, assert_no_tcp, serve_in, serve_on_neighbour, tcp, udp};
use super::world::{NODE, bridge_of, endpoint, in_world, ip, run};

#[test]
fn containers_of_one_network_reach_each_other_and_the_outside() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16", "fd00:20::/64"], |_| {});
        let a = world.container(&[(&net, &["172.20.0.2/16", "fd00:20::2/64"])]);
        let b = world.container(&[(&net, &["172.20.0.3/16", "fd00:20::3/64"])]);
        serve_in(&b, 80, "b");
        serve_on_neighbour(world, 80);
        let a_ns = a.netns();
        let from_a = Place::Inside(&a_ns);
        assert_eq!(tcp(from_a, "172.20.0.3:80").unwrap(), "b 172.20.0.2");
        assert_eq!(tcp(from_a, "[fd00:20::3]:80").unwrap(), "b fd00:20::2");
        assert_eq!(udp(from_a, "172.20.0.3:80").unwrap(), "b 172.20.0.2");
        // Outgoing connections take the node's address.
        assert_eq!(tcp(from_a, "192.0.2.9:80").unwrap(), "neighbour 192.0.2.1");
        assert_eq!(tcp(from_a, "[2001:db8:1::9]:80").unwrap(), "neighbour 2001:db8:1::1");
        // The node itself reaches containers.
        assert_eq!(tcp(Place::Node, "172.20.0.3:80").unwrap(), "b 172.20.0.1");
        assert_eq!(tcp(Place::Node, "[fd00:20::3]:80").unwrap(), "b fd00:20::1");
        // Nobody from the LAN enters by the container's address.
        assert_no_tcp(Place::Inside(&world.neighbour), "172.20.0.3:80");
        assert_no_tcp(Place::Inside(&world.neighbour), "[fd00:20::3]:80");
    });
}

#[test]
fn networks_are_isolated_from_each_other() {
    in_world(|world| {
        let one = world.network("one", &["172.20.0.0/16", "fd00:20::/64"], |_| {});
        let two = world.network("two", &["172.21.0.0/16", "fd00:21::/64"], |_| {});
        let a = world.container(&[(&one, &["172.20.0.2/16", "fd00:20::2/64"])]);
        let b = world.container(&[(&two, &["172.21.0.2/16", "fd00:21::2/64"])]);
        serve_in(&b, 80, "b");
        assert_no_tcp(Place::Inside(&a.netns()), "172.21.0.2:80");
        assert_no_tcp(Place::Inside(&a.netns()), "[fd00:21::2]:80");
        let both = world.container(&[(&one, &["172.20.0.9/16"]), (&two, &["172.21.0.9/16"])]);
        assert_eq!(tcp(Place::Inside(&both.netns()), "172.21.0.2:80").unwrap(), "b 172.21.0.9");
    });
}

#[test]
fn internal_networks_lead_nowhere() {
    in_world(|world| {
        let inside = world.network("inside", &["172.20.0.0/16"], |b| b.reach = Reach::Internal);
        let open = world.network("open", &["172.21.0.0/16"], |_| {});
        let a = world.container(&[(&inside, &["172.20.0.2/16"])]);
        let b = world.container(&[(&inside, &["172.20.0.3/16"])]);
        let c = world.container(&[(&open, &["172.21.0.2/16"])]);
        serve_in(&b, 80, "b");
        serve_in(&c, 80, "c");
        serve_on_neighbour(world, 80);
        let a_ns = a.netns();
        assert_eq!(tcp(Place::Inside(&a_ns), "172.20.0.3:80").unwrap(), "b 172.20.0.2");
        a_ns.run(|| assert!(!ip("route").contains("default"))).unwrap();
        // Even a container that gives itself a default route stays inside.
        a_ns.run(|| ip("route add default via 172.20.0.1")).unwrap();
        assert_no_tcp(Place::Inside(&a_ns), "192.0.2.9:80");
        assert_no_tcp(Place::Inside(&a_ns), "172.21.0.2:80");
        c.netns().run(|| ip("route replace 172.20.0.0/16 via 172.21.0.1")).unwrap();
        assert_no_tcp(Place::Inside(&c.netns()), "172.20.0.3:80");
        assert_no_tcp(Place::Inside(&world.neighbour), "172.20.0.3:80");
    });
}

#[test]
fn denied_icc_separates_containers_except_for_links() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |b| b.icc = Icc::Denied);
        let a = world.container(&[(&net, &["172.20.0.2/16"])]);
        let b = world.container_with(&[(&net, &["172.20.0.3/16"])], |spec| {
            spec.publish.push(super::world::publish(80, 8080));
        });
        serve_in(&b, 80, "b");
        serve_in(&b, 81, "b81");
        serve_on_neighbour(world, 80);
        assert_no_tcp(Place::Inside(&a.netns()), "172.20.0.3:80");
        assert_eq!(tcp(Place::Inside(&a.netns()), "192.0.2.9:80").unwrap(), "neighbour 192.0.2.1");
        assert_eq!(tcp(Place::Node, "172.20.0.3:80").unwrap(), "b 172.20.0.1");
        // A published port is for everybody.
        assert!(tcp(Place::Inside(&a.netns()), &format!("{NODE}:8080")).unwrap().starts_with("b "));
        let linked = world.container_with(&[(&net, &["172.20.0.4/16"])], |spec| {
            let server = "172.20.0.3".parse().unwrap();
            spec.endpoints[0].links.push(LinkFlow { server, port: 80, protocol: Protocol::Tcp });
        });
        assert_eq!(tcp(Place::Inside(&linked.netns()), "172.20.0.3:80").unwrap(), "b 172.20.0.4");
        assert_no_tcp(Place::Inside(&linked.netns()), "172.20.0.3:81");
        assert!(world.host.remove_sandbox(&linked.sandbox).is_empty());
        let next = world.container(&[(&net, &["172.20.0.4/16"])]);
        assert_no_tcp(Place::Inside(&next.netns()), "172.20.0.3:80");
    });
}

#[test]
fn without_br_netfilter_denied_icc_is_kept_by_the_bridge() {
    in_world(|world| {
        // As on a machine that has not loaded the module: bridged packets pass no firewall.
        for key in ["iptables", "ip6tables", "arptables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{key}");
            let Ok(()) = std::fs::write(path, "0") else {
                return println!("SKIPPED: no br_netfilter to hide");
            };
        }
        run("mount", "-t tmpfs none /proc/sys/net/bridge");
        let net = world.network("net", &["172.20.0.0/16", "fd00:20::/64"], |b| b.icc = Icc::Denied);
        let a = world.container(&[(&net, &["172.20.0.2/16", "fd00:20::2/64"])]);
        let b = world.container_with(&[(&net, &["172.20.0.3/16", "fd00:20::3/64"])], |spec| {
            spec.publish.push(super::world::publish(80, 8080));
        });
        serve_in(&b, 80, "b");
        serve_in(&b, 81, "b81");
        assert_no_tcp(Place::Inside(&a.netns()), "172.20.0.3:80");
        assert_no_tcp(Place::Inside(&a.netns()), "[fd00:20::3]:80");
        assert!(tcp(Place::Inside(&a.netns()), &format!("{NODE}:8080")).unwrap().starts_with("b "));
        assert!(tcp(Place::Inside(&b.netns()), &format!("{NODE}:8080")).unwrap().starts_with("b "));
        let linked = world.container_with(&[(&net, &["172.20.0.4/16"])], |spec| {
            let server = "172.20.0.3".parse().unwrap();
            spec.endpoints[0].links.push(LinkFlow { server, port: 80, protocol: Protocol::Tcp });
        });
        assert_eq!(tcp(Place::Inside(&linked.netns()), "172.20.0.3:80").unwrap(), "b 172.20.0.4");
        assert_no_tcp(Place::Inside(&linked.netns()), "172.20.0.3:81");
    });
}

#[test]
fn gateway_modes_open_what_they_say() {
    in_world(|world| {
        let routed = world.network("routed", &["172.20.0.0/16"], |b| b.gateway_mode_v4 = GatewayMode::Routed);
        let open =
            world.network("open", &["172.21.0.0/16"], |b| b.gateway_mode_v4 = GatewayMode::NatUnprotected);
        let a = world.container_with(&[(&routed, &["172.20.0.2/16"])], |spec| {
            spec.publish.push(super::world::publish(80, 8080));
        });
        let b = world.container(&[(&open, &["172.21.0.2/16"])]);
        serve_in(&a, 80, "a");
        serve_in(&a, 81, "a81");
        serve_in(&b, 80, "b");
        let lan = Place::Inside(&world.neighbour);
        assert_eq!(tcp(lan, "172.20.0.2:80").unwrap(), "a 192.0.2.9");
        assert_no_tcp(lan, "172.20.0.2:81");
        assert_no_tcp(lan, &format!("{NODE}:8080"));
        assert_eq!(tcp(lan, "172.21.0.2:80").unwrap(), "b 192.0.2.9");
        // Routed networks do not hide their containers.
        serve_on_neighbour(world, 80);
        assert_eq!(tcp(Place::Inside(&a.netns()), "192.0.2.9:80").unwrap(), "neighbour 172.20.0.2");
        assert_eq!(a.sandbox.published.len(), 1);
        assert_eq!(a.sandbox.published[0].host, None);
    });
}

#[test]
fn only_published_ports_are_open_to_those_who_may_come_directly() {
    in_world(|world| {
        let direct =
            world.network("direct", &["172.20.0.0/16"], |b| b.gateway_mode_v4 = GatewayMode::NatDirect);
        let trusting = world.network("trusting", &["172.21.0.0/16"], |b| {
            b.trusted_host_interfaces = vec!["eth0".parse().unwrap()];
        });
        let nobody = world.network("nobody", &["172.22.0.0/16"], |b| {
            b.trusted_host_interfaces = vec!["eth1".parse().unwrap()];
        });
        let lan = Place::Inside(&world.neighbour);
        let servers = [(&direct, "172.20.0.2"), (&trusting, "172.21.0.2"), (&nobody, "172.22.0.2")];
        for (number, (network, address)) in (0..).zip(servers) {
            let container = world.container_with(&[(network, &[&format!("{address}/16")])], |spec| {
                spec.publish.extend([0, 10].map(|more| super::world::publish(80, 8080 + number + more)));
            });
            serve_in(&container, 80, "web");
            serve_in(&container, 81, "hidden");
            assert_eq!(tcp(lan, &format!("{NODE}:{}", 8090 + number)).unwrap(), "web 192.0.2.9");
            assert_no_tcp(lan, &format!("{address}:81"));
        }
        assert_eq!(tcp(lan, "172.20.0.2:80").unwrap(), "web 192.0.2.9");
        assert_eq!(tcp(lan, "172.21.0.2:80").unwrap(), "web 192.0.2.9");
        assert_no_tcp(lan, "172.22.0.2:80");
    });
}

#[test]
fn isolated_bridges_have_no_address() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |b| {
            b.reach = Reach::Internal;
            b.gateway_mode_v4 = GatewayMode::Isolated;
        });
        assert!(!ip(&format!("-4 addr show dev {}", bridge_of(&net))).contains("inet "));
        let a = world.container(&[(&net, &["172.20.0.2/16"])]);
        let b = world.container(&[(&net, &["172.20.0.3/16"])]);
        serve_in(&b, 80, "b");
        assert_eq!(tcp(Place::Inside(&a.netns()), "172.20.0.3:80").unwrap(), "b 172.20.0.2");
    });
}

#[test]
fn masquerading_can_be_off_or_use_a_chosen_address() {
    in_world(|world| {
        ip("addr add 192.0.2.77/24 dev eth0");
        let plain = world.network("plain", &["172.20.0.0/16"], |b| b.masquerade = Masquerade::Off);
        let chosen = world
            .network("chosen", &["172.21.0.0/16"], |b| b.host_ipv4 = Some("192.0.2.77".parse().unwrap()));
        serve_on_neighbour(world, 80);
        let a = world.container(&[(&plain, &["172.20.0.2/16"])]);
        let b = world.container(&[(&chosen, &["172.21.0.2/16"])]);
        assert_eq!(tcp(Place::Inside(&a.netns()), "192.0.2.9:80").unwrap(), "neighbour 172.20.0.2");
        assert_eq!(tcp(Place::Inside(&b.netns()), "192.0.2.9:80").unwrap(), "neighbour 192.0.2.77");
    });
}

#[test]
fn a_running_container_joins_and_leaves_networks() {
    in_world(|world| {
        let one = world.network("one", &["172.20.0.0/16"], |_| {});
        let two = world.network("two", &["172.21.0.0/16"], |_| {});
        let b = world.container(&[(&two, &["172.21.0.2/16"])]);
        serve_in(&b, 80, "b");
        serve_on_neighbour(world, 80);
        let mut a = world.container(&[(&one, &["172.20.0.2/16"])]);
        a.spec.endpoints.push(endpoint(&two, &["172.21.0.5/16"]));
        a.update(world).unwrap();
        let names: Vec<&str> = a.sandbox.endpoints.iter().map(|e| e.ifname.as_str()).collect();
        assert_eq!(names, ["eth0", "eth1"]);
        assert_eq!(tcp(Place::Inside(&a.netns()), "172.21.0.2:80").unwrap(), "b 172.21.0.5");
        // The default route was on the first network and moves to the second.
        assert_eq!(a.sandbox.endpoints[0].gateway_v4, Some("172.20.0.1".parse().unwrap()));
        let kept = a.sandbox.endpoints[1].mac;
        a.spec.endpoints.remove(0);
        a.update(world).unwrap();
        assert_eq!(a.sandbox.endpoints[0].mac, kept);
        assert_eq!(a.sandbox.endpoints[0].ifname.as_str(), "eth1");
        assert_eq!(a.sandbox.endpoints[0].gateway_v4, Some("172.21.0.1".parse().unwrap()));
        assert_eq!(tcp(Place::Inside(&a.netns()), "192.0.2.9:80").unwrap(), "neighbour 192.0.2.1");
        a.netns().run(|| assert!(!ip("link").contains("eth0"))).unwrap();
        // Doing it again changes nothing.
        let before = a.sandbox.clone();
        a.update(world).unwrap();
        assert_eq!(a.sandbox, before);
        // A container may end up without any network.
        a.spec.endpoints.clear();
        a.update(world).unwrap();
        a.netns().run(|| assert_eq!(ip("-o link").lines().count(), 1)).unwrap();
    });
}

#[test]
fn a_failed_connect_leaves_the_container_as_it_was() {
    in_world(|world| {
        let one = world.network("one", &["172.20.0.0/16"], |_| {});
        let two = world.network("two", &["172.21.0.0/16"], |_| {});
        serve_on_neighbour(world, 80);
        let mut a = world.container(&[(&one, &["172.20.0.2/16"])]);
        let before = a.sandbox.clone();
        let mut joining = endpoint(&two, &["172.21.0.5/16"]);
        joining.gateway_priority = 10;
        joining.sysctls = vec!["net.ipv4.conf.IFNAME.no_such_setting=1".to_owned()];
        a.spec.endpoints.push(joining);
        assert!(a.update(world).is_err());
        assert_eq!(a.sandbox, before);
        a.netns().run(|| assert!(!ip("link").contains("eth1"))).unwrap();
        assert_eq!(tcp(Place::Inside(&a.netns()), "192.0.2.9:80").unwrap(), "neighbour 192.0.2.1");
    });
}

#[test]
fn requested_names_addresses_and_settings_are_honoured() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |b| {
            b.mtu = Some(1400);
            b.container_iface_prefix = "lan".to_owned();
        });
        let a = world.container_with(&[(&net, &["172.20.7.7/16"])], |spec| {
            spec.endpoints[0].mac = Some("02:00:00:00:00:77".parse().unwrap());
            spec.endpoints[0].sysctls = vec!["net.ipv4.conf.IFNAME.log_martians=1".to_owned()];
            spec.sysctls = vec![("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())];
        });
        assert_eq!(a.sandbox.endpoints[0].ifname.as_str(), "lan0");
        a.netns()
            .run(|| {
                let shown = ip("addr show dev lan0");
                assert!(shown.contains("mtu 1400") && shown.contains("02:00:00:00:00:77"), "{shown}");
                assert!(shown.contains("inet 172.20.7.7/16 brd 172.20.255.255"), "{shown}");
                // No IPv6 where none was asked for, but on the loopback interface.
                assert!(!shown.contains("inet6"), "{shown}");
                assert!(ip("addr show dev lo").contains("::1/128"));
                let read = |key: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{key}")).unwrap();
                assert_eq!(read("conf/lan0/log_martians").trim(), "1");
                assert_eq!(read("ip_unprivileged_port_start").trim(), "0");
            })
            .unwrap();
        let named = world.container_with(&[(&net, &["172.20.0.9/16"])], |spec| {
            spec.endpoints[0].ifname = Some("public".parse().unwrap());
        });
        named.netns().run(|| ip("addr show dev public")).unwrap();
    });
}

#[test]
fn a_bridge_of_the_user_is_used_and_kept() {
    in_world(|world| {
        ip("link add mine type bridge");
        ip("addr add 10.77.0.1/24 dev mine");
        let net = world.network("net", &["172.20.0.0/16"], |b| b.bridge = "mine".parse().unwrap());
        let a = world.container(&[(&net, &["172.20.0.2/16"])]);
        assert!(ip("addr show dev mine").contains("10.77.0.1/24"));
        assert!(world.host.remove_sandbox(&a.sandbox).is_empty());
        assert!(world.host.remove_network(&net).is_empty());
        assert!(ip("link show dev mine").contains("mine"));
        ip("link add notabridge type veth peer name other");
        let wrong = super::world::bridge_network("wrong", &["172.21.0.0/16"], |b| {
            b.bridge = "notabridge".parse().unwrap();
        });
        let error = world.host.ensure_network(&wrong).unwrap_err();
        assert_eq!(error.to_string(), "interface notabridge exists and is not a bridge");
    });
}

/// A macvlan network on the way out.
fn lan() -> std::sync::Arc<overlay_net::NetworkSpec> {
    use overlay_net::{DriverSpec, MacvlanMode, MacvlanSpec, NetworkSpec, SubnetSpec};
    let subnet = SubnetSpec {
        subnet: "192.0.2.0/24".parse().unwrap(),
        gateway: Some("192.0.2.9".parse().unwrap()),
        next_hop: None,
    };
    std::sync::Arc::new(NetworkSpec {
        id: shoal_types::NetworkId::random_local(),
        name: "lan".to_owned(),
        driver: DriverSpec::Macvlan(MacvlanSpec {
            parent: Some("eth0".parse().unwrap()),
            mode: MacvlanMode::Bridge,
            subnets: vec![subnet],
            reach: Reach::External,
            mtu: None,
            container_iface_prefix: "eth".to_owned(),
        }),
    })
}

#[test]
fn a_macvlan_address_is_free_while_the_kernel_takes_its_former_namespace_apart() {
    in_world(|world| {
        let net = lan();
        world.host.ensure_network(&net).unwrap();
        let former = world.container(&[(&net, &["192.0.2.50/24"])]);
        let lingering = former.netns();
        assert!(world.host.remove_sandbox(&former.sandbox).is_empty());
        let next = world.container(&[(&net, &["192.0.2.50/24"])]);
        assert_eq!(next.sandbox.endpoints[0].mac, former.sandbox.endpoints[0].mac);
        lingering.run(|| assert!(ip("link show eth0").contains("DOWN"))).unwrap();
        assert!(world.host.remove_sandbox(&next.sandbox).is_empty());
        assert!(world.host.remove_network(&net).is_empty());
    });
}

#[test]
fn macvlan_endpoints_sit_on_the_lan() {
    in_world(|world| {
        let net = lan();
        world.host.ensure_network(&net).unwrap();
        serve_on_neighbour(world, 80);
        let mut a = world.container(&[(&net, &["192.0.2.50/24"])]);
        assert_eq!(tcp(Place::Inside(&a.netns()), "192.0.2.9:80").unwrap(), "neighbour 192.0.2.50");
        a.spec.endpoints.clear();
        a.update(world).unwrap();
        a.netns().run(|| assert!(!ip("link").contains("eth0"))).unwrap();
        assert!(world.host.remove_sandbox(&a.sandbox).is_empty());
        assert!(world.host.remove_network(&net).is_empty());
        ip("link show dev eth0");
    });
}

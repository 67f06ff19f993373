//! Published ports, by every path.

use std::net::{TcpListener, TcpStream, UdpSocket};

use overlay_net::host::Management;
use overlay_net::{GatewayMode, HostPorts, NetError, Protocol, PublishSpec, Reach};

use super::packets::{
    Place, assert_alive, assert_no_tcp, assert_no_udp, connect, serve_in, tcp, udp, udp_once, udp_socket,
};
use super::world::{Container, NODE, NODE_V6, World, endpoint, in_configured_world, in_world, ip, publish};

fn web(world: &World, change: impl FnOnce(&mut PublishSpec)) -> Container {
    let net = world.network("net", &["172.20.0.0/16", "fd00:20::/64"], |_| {});
    let mut port = publish(80, 8080);
    change(&mut port);
    let container = world.container_with(&[(&net, &["172.20.0.2/16", "fd00:20::2/64"])], |spec| {
        spec.publish.push(port);
    });
    serve_in(&container, 80, "web");
    container
}

#[test]
fn a_port_is_reached_from_everywhere() {
    in_world(|world| {
        let web = web(world, |_| {});
        let bridge = &web.spec.endpoints[0].network;
        let same = world.container(&[(bridge, &["172.20.0.3/16", "fd00:20::3/64"])]);
        let other_net = world.network("other", &["172.21.0.0/16", "fd00:21::/64"], |_| {});
        let other = world.container(&[(&other_net, &["172.21.0.2/16", "fd00:21::2/64"])]);
        let node = |port| [format!("{NODE}:{port}"), format!("[{NODE_V6}]:{port}")];
        let lan = Place::Inside(&world.neighbour);
        // From outside, with the client's own address.
        assert_eq!(tcp(lan, &node(8080)[0]).unwrap(), "web 192.0.2.9");
        assert_eq!(tcp(lan, &node(8080)[1]).unwrap(), "web 2001:db8:1::9");
        // From the node: its addresses, and both loopback addresses.
        for address in [
            &node(8080)[0],
            &node(8080)[1],
            "127.0.0.1:8080",
            "127.8.8.8:8080",
            "[::1]:8080",
            "172.20.0.1:8080",
        ] {
            let answer = tcp(Place::Node, address).unwrap();
            assert!(answer.starts_with("web "), "{address}: {answer}");
        }
        // From the container itself, from its neighbours, and from other networks.
        let (own, beside, away) = (web.netns(), same.netns(), other.netns());
        for place in [&own, &beside, &away] {
            for address in node(8080) {
                let answer = tcp(Place::Inside(place), &address).unwrap();
                assert!(answer.starts_with("web "), "{address}: {answer}");
            }
        }
        assert_no_tcp(Place::Inside(&away), "172.20.0.2:80");
        // Both addresses are reported, with one port.
        let hosts: Vec<String> = web.sandbox.published.iter().map(|p| p.host.unwrap().to_string()).collect();
        assert_eq!(hosts, ["0.0.0.0:8080", "[::]:8080"]);
        // Gone means gone.
        assert!(world.host.remove_sandbox(&web.sandbox).is_empty());
        assert_no_tcp(lan, &node(8080)[0]);
        assert_no_tcp(Place::Node, "127.0.0.1:8080");
        assert_no_tcp(Place::Node, "[::1]:8080");
    });
}

#[test]
fn udp_ports_work_and_old_flows_follow_the_mapping() {
    in_world(|world| {
        let first = web(world, |port| port.protocol = Protocol::Udp);
        let lan = Place::Inside(&world.neighbour);
        let node = format!("{NODE}:8080");
        for place in [lan, Place::Node] {
            assert!(udp(place, &node).unwrap().starts_with("web "));
        }
        for address in ["127.0.0.1:8080", "[::1]:8080"] {
            assert!(udp(Place::Node, address).unwrap().starts_with("web "), "{address}");
        }
        assert_eq!(udp(lan, &format!("[{NODE_V6}]:8080")).unwrap(), "web 2001:db8:1::9");
        // One client socket, as a server that never restarts its resolver or its SIP stack would have.
        let client = udp_socket(lan, &node);
        assert_eq!(udp_once(&client, &node).unwrap(), "web 192.0.2.9");
        assert!(world.host.remove_sandbox(&first.sandbox).is_empty());
        assert!(udp_once(&client, &node).is_err());
        let net = &first.spec.endpoints[0].network;
        let second = world.container_with(&[(net, &["172.20.0.44/16"])], |spec| {
            spec.publish = first.spec.publish.clone();
        });
        serve_in(&second, 80, "second");
        assert_eq!(udp_once(&client, &node).unwrap(), "second 192.0.2.9");
    });
}

#[test]
fn a_port_bound_to_one_address_is_not_on_the_others() {
    in_world(|world| {
        ip("addr add 192.0.2.2/24 dev eth0");
        let _web = web(world, |port| port.host_ip = Some(NODE.parse().unwrap()));
        let lan = Place::Inside(&world.neighbour);
        assert_eq!(tcp(lan, "192.0.2.1:8080").unwrap(), "web 192.0.2.9");
        assert_no_tcp(lan, "192.0.2.2:8080");
        assert_no_tcp(Place::Node, "127.0.0.1:8080");
        let second = world.network("second", &["172.22.0.0/16"], |_| {});
        let beside = world.container_with(&[(&second, &["172.22.0.2/16"])], |spec| {
            spec.publish
                .push(PublishSpec { host_ip: Some("192.0.2.2".parse().unwrap()), ..publish(80, 8080) });
        });
        serve_in(&beside, 80, "beside");
        assert_eq!(tcp(lan, "192.0.2.2:8080").unwrap(), "beside 192.0.2.9");
    });
}

#[test]
fn a_port_on_loopback_is_out_of_the_neighbours_reach() {
    in_world(|world| {
        let web = web(world, |port| port.host_ip = Some("127.0.0.1".parse().unwrap()));
        assert!(tcp(Place::Node, "127.0.0.1:8080").unwrap().starts_with("web "));
        let lan = Place::Inside(&world.neighbour);
        // The neighbour sends packets for 127.0.0.1 to the node's hardware address, and for the container.
        let attack = || {
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            ip("addr flush dev lo");
            ip(&format!("route add 127.0.0.0/8 via {NODE} dev eth0 src 192.0.2.9"));
        };
        world.neighbour.run(attack).unwrap();
        // Even when somebody has opened the node's own interface for such packets.
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        assert_no_tcp(lan, "127.0.0.1:8080");
        assert_no_tcp(lan, "172.20.0.2:80");
        assert_no_tcp(lan, &format!("{NODE}:8080"));
        // A container on the bridge, which has route_localnet on, must not reach services of the node's loopback.
        let listener = TcpListener::bind("127.0.0.1:9000").unwrap();
        let guest = web.netns();
        guest
            .run(|| {
                std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
                ip("addr flush dev lo");
                ip("route add 127.0.0.0/8 via 172.20.0.1 src 172.20.0.2");
            })
            .unwrap();
        assert_no_tcp(Place::Inside(&guest), "127.0.0.1:9000");
        drop(listener);
    });
}

#[test]
fn a_container_without_ipv6_is_reached_through_the_nodes_ipv6() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        let web = world.container_with(&[(&net, &["172.20.0.2/16"])], |spec| {
            spec.publish.push(publish(80, 8080));
            spec.publish.push(PublishSpec { protocol: Protocol::Udp, ..publish(80, 8080) });
        });
        serve_in(&web, 80, "web");
        let lan = Place::Inside(&world.neighbour);
        assert_eq!(tcp(lan, &format!("{NODE}:8080")).unwrap(), "web 192.0.2.9");
        assert_eq!(tcp(lan, &format!("[{NODE_V6}]:8080")).unwrap(), "web 172.20.0.1");
        assert_eq!(udp(lan, &format!("[{NODE_V6}]:8080")).unwrap(), "web 172.20.0.1");
        let mut long = connect(lan, &format!("[{NODE_V6}]:8080"));
        assert_alive(&mut long);
    });
}

#[test]
fn without_a_firewall_everything_is_proxied() {
    let configure = |config: &mut overlay_net::Config| {
        config.firewall_v4 = Management::LeftAlone;
        config.firewall_v6 = Management::LeftAlone;
    };
    in_configured_world(configure, |world| {
        let _web = web(world, |_| {});
        let lan = Place::Inside(&world.neighbour);
        assert_eq!(tcp(lan, &format!("{NODE}:8080")).unwrap(), "web 172.20.0.1");
        assert_eq!(tcp(lan, &format!("[{NODE_V6}]:8080")).unwrap(), "web fd00:20::1");
        assert!(tcp(Place::Node, "127.0.0.1:8080").unwrap().starts_with("web "));
        assert!(!super::world::run("nft", "list tables").contains("shoal"));
    });
}

#[test]
fn without_a_proxy_the_kernel_still_serves_what_it_can() {
    in_configured_world(
        |config| config.proxy = Management::LeftAlone,
        |world| {
            let net = world.network("net", &["172.20.0.0/16"], |_| {});
            let web = world
                .container_with(&[(&net, &["172.20.0.2/16"])], |spec| spec.publish.push(publish(80, 8080)));
            serve_in(&web, 80, "web");
            assert_eq!(web.sandbox.published.len(), 1);
            assert!(tcp(Place::Node, "127.0.0.1:8080").unwrap().starts_with("web "));
            assert!(tcp(Place::Inside(&web.netns()), &format!("{NODE}:8080")).unwrap().starts_with("web "));
            assert_no_tcp(Place::Node, "[::1]:8080");
        },
    );
}

#[test]
fn ports_in_use_are_refused_with_dockers_texts() {
    in_world(|world| {
        let web = web(world, |_| {});
        let net = &web.spec.endpoints[0].network;
        let attempt = |port: PublishSpec| {
            let mut spec = super::world::sandbox_spec();
            spec.endpoints.push(endpoint(net, &["172.20.0.9/16"]));
            spec.publish.push(port);
            world.host.ensure_sandbox(&spec, None).map(|sandbox| {
                let found = sandbox.published[0].host.unwrap().port();
                assert!(world.host.remove_sandbox(&sandbox).is_empty());
                found
            })
        };
        let error = attempt(publish(81, 8080)).unwrap_err();
        assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let squatter = TcpListener::bind("0.0.0.0:8081").unwrap();
        let error = attempt(publish(81, 8081)).unwrap_err();
        assert_eq!(chain(&error), "failed to bind host port 0.0.0.0:8081/tcp: address already in use");
        drop(squatter);
        let udp_squatter = UdpSocket::bind("0.0.0.0:8082").unwrap();
        let error = attempt(PublishSpec { protocol: Protocol::Udp, ..publish(81, 8082) }).unwrap_err();
        assert_eq!(chain(&error), "failed to bind host port 0.0.0.0:8082/udp: address already in use");
        drop(udp_squatter);
        let elsewhere = PublishSpec { host_ip: Some("198.51.100.1".parse().unwrap()), ..publish(81, 8083) };
        let error = attempt(elsewhere).unwrap_err();
        assert_eq!(
            chain(&error),
            "failed to bind host port 198.51.100.1:8083/tcp: cannot assign requested address"
        );
        // Nothing of the failed attempts is left.
        assert_eq!(std::fs::read_dir(world.dir.path().join("netns")).unwrap().count(), 1);
        for port in [8081, 8082, 8083] {
            assert_eq!(attempt(publish(81, port)).unwrap(), port);
        }
        // The node's processes cannot take a published port.
        assert!(TcpListener::bind("0.0.0.0:8080").is_err());
    });
}

#[test]
fn ranges_and_ephemeral_ports_find_free_ones() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |_| {});
        let squatter = TcpListener::bind("[::]:8000").unwrap();
        let ports = |host_ports, address: &str| {
            let container = world.container_with(&[(&net, &[address])], |spec| {
                spec.publish.push(PublishSpec { host_ports, ..publish(80, 0) });
            });
            let found: Vec<u16> =
                container.sandbox.published.iter().map(|p| p.host.unwrap().port()).collect();
            assert_eq!(found.len(), 2);
            assert_eq!(found[0], found[1], "both families get the same port");
            found[0]
        };
        assert_eq!(ports(HostPorts::Range(8000, 8002), "172.20.0.2/16"), 8001);
        assert_eq!(ports(HostPorts::Range(8000, 8002), "172.20.0.3/16"), 8002);
        let mut spec = super::world::sandbox_spec();
        spec.endpoints.push(endpoint(&net, &["172.20.0.4/16"]));
        spec.publish.push(PublishSpec { host_ports: HostPorts::Range(8001, 8002), ..publish(80, 0) });
        assert!(matches!(world.host.ensure_sandbox(&spec, None), Err(NetError::PortsExhausted)));
        let first = ports(HostPorts::Ephemeral, "172.20.0.5/16");
        let second = ports(HostPorts::Ephemeral, "172.20.0.6/16");
        assert!(first >= 32768 && second > first, "{first} {second}");
        drop(squatter);
    });
}

#[test]
fn ports_follow_the_gateway_and_keep_their_numbers() {
    in_world(|world| {
        let one = world.network("one", &["172.20.0.0/16"], |_| {});
        let two = world.network("two", &["172.21.0.0/16"], |_| {});
        let mut web = world.container_with(&[(&one, &["172.20.0.2/16"])], |spec| {
            spec.publish.push(PublishSpec { host_ports: HostPorts::Ephemeral, ..publish(80, 0) });
        });
        serve_in(&web, 80, "web");
        let port = web.sandbox.published[0].host.unwrap().port();
        let lan = Place::Inside(&world.neighbour);
        let mut open = connect(lan, &format!("{NODE}:{port}"));
        let mut joined = endpoint(&two, &["172.21.0.2/16"]);
        joined.gateway_priority = 1;
        web.spec.endpoints.push(joined);
        web.update(world).unwrap();
        assert_eq!(web.sandbox.published[0].host.unwrap().port(), port);
        assert_eq!(web.sandbox.published[0].target.to_string(), "172.21.0.2:80");
        assert_eq!(tcp(lan, &format!("{NODE}:{port}")).unwrap(), "web 192.0.2.9");
        assert_eq!(tcp(Place::Node, &format!("[::1]:{port}")).unwrap(), "web 172.21.0.1");
        web.spec.endpoints.remove(1);
        web.update(world).unwrap();
        assert_eq!(web.sandbox.published[0].target.to_string(), "172.20.0.2:80");
        assert_alive(&mut open);
    });
}

#[test]
fn internal_networks_publish_nothing() {
    in_world(|world| {
        let net = world.network("net", &["172.20.0.0/16"], |b| b.reach = Reach::Internal);
        let web =
            world.container_with(&[(&net, &["172.20.0.2/16"])], |spec| spec.publish.push(publish(80, 8080)));
        assert!(web.sandbox.published.is_empty());
        assert_no_tcp(Place::Node, "127.0.0.1:8080");
    });
}

#[test]
fn bridged_packets_that_pass_the_firewall_change_nothing() {
    in_world(|world| {
        // As on machines where Kubernetes or libvirt loaded br_netfilter.
        for key in ["iptables", "ip6tables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{key}");
            let Ok(()) = std::fs::write(&path, "1") else { return println!("SKIPPED: no br_netfilter") };
        }
        let web = web(world, |_| {});
        let net = &web.spec.endpoints[0].network;
        let beside = world.container(&[(net, &["172.20.0.3/16", "fd00:20::3/64"])]);
        let (own, other) = (web.netns(), beside.netns());
        assert_eq!(tcp(Place::Inside(&other), "172.20.0.2:80").unwrap(), "web 172.20.0.3");
        for place in [&own, &other] {
            for address in [format!("{NODE}:8080"), format!("[{NODE_V6}]:8080")] {
                assert!(tcp(Place::Inside(place), &address).unwrap().starts_with("web "), "{address}");
            }
        }
        assert_no_udp(Place::Inside(&other), "172.20.0.9:80");
    });
}

#[test]
fn sctp_ports_are_translated() {
    in_world(|world| {
        let _web = web(world, |port| port.protocol = Protocol::Sctp);
        let listed = super::world::run("nft", "list map ip shoal published_any");
        assert!(listed.contains("sctp . 8080 : 172.20.0.2 . 80"), "{listed}");
    });
}

#[test]
fn routed_mode_of_one_family_leaves_the_other_translated() {
    in_world(|world| {
        let net = world
            .network("net", &["172.20.0.0/16", "fd00:20::/64"], |b| b.gateway_mode_v6 = GatewayMode::Routed);
        let web = world.container_with(&[(&net, &["172.20.0.2/16", "fd00:20::2/64"])], |spec| {
            spec.publish.push(publish(80, 8080));
        });
        serve_in(&web, 80, "web");
        let lan = Place::Inside(&world.neighbour);
        assert_eq!(tcp(lan, &format!("{NODE}:8080")).unwrap(), "web 192.0.2.9");
        assert_eq!(tcp(lan, "[fd00:20::2]:80").unwrap(), "web 2001:db8:1::9");
        assert!(TcpStream::connect((NODE_V6, 8080)).is_err());
    });
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

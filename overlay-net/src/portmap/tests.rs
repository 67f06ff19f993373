//! Tables of port planning and of the registry.

use super::*;

fn target(address: &str, mode: GatewayMode) -> Target {
    Target { endpoint: EndpointId::from_bytes([1; 32]), address: address.parse().unwrap(), mode }
}

fn request(host_ip: Option<&str>, host_ports: HostPorts) -> PublishSpec {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    PublishSpec { container_port: 80, protocol: Protocol::Tcp, host_ip, host_ports }
}

fn bindings(planned: &Planned) -> Vec<String> {
    planned.bindings.iter().map(|b| format!("{} -> {}", b.address, b.target.address)).collect()
}

#[test]
fn a_request_without_address_concerns_both_families() {
    let v4 = Some(target("10.0.0.2", GatewayMode::Nat));
    let v6 = Some(target("fd00::2", GatewayMode::Nat));
    let ask = |v4, v6, proxy| {
        bindings(&plan(request(None, HostPorts::Ephemeral), &Targets { v4, v6, ..Targets::default() }, proxy))
    };
    assert_eq!(ask(v4, v6, Management::Managed), ["0.0.0.0 -> 10.0.0.2", ":: -> fd00::2"]);
    assert_eq!(ask(v4, None, Management::Managed), ["0.0.0.0 -> 10.0.0.2", ":: -> 10.0.0.2"]);
    assert_eq!(ask(v4, None, Management::LeftAlone), ["0.0.0.0 -> 10.0.0.2"]);
    assert_eq!(ask(None, v6, Management::Managed), [":: -> fd00::2"]);
    assert!(ask(None, None, Management::Managed).is_empty());
}

#[test]
fn the_networks_default_binding_replaces_the_wildcards() {
    let targets = Targets {
        v4: Some(target("10.0.0.2", GatewayMode::Nat)),
        default_binding: vec!["127.0.0.1".parse().unwrap()],
        ..Targets::default()
    };
    let planned = plan(request(None, HostPorts::Ephemeral), &targets, Management::Managed);
    assert_eq!(bindings(&planned), ["127.0.0.1 -> 10.0.0.2"]);
    let planned = plan(request(Some("192.0.2.1"), HostPorts::Ephemeral), &targets, Management::Managed);
    assert_eq!(bindings(&planned), ["192.0.2.1 -> 10.0.0.2"]);
}

#[test]
fn routed_networks_open_the_containers_own_port() {
    let targets = Targets {
        v4: Some(target("10.0.0.2", GatewayMode::Nat)),
        v6: Some(target("fd00::2", GatewayMode::Routed)),
        ..Targets::default()
    };
    let planned = plan(request(None, HostPorts::Range(8080, 8080)), &targets, Management::Managed);
    assert_eq!(bindings(&planned), ["0.0.0.0 -> 10.0.0.2"]);
    assert_eq!(planned.routed.len(), 1);
    assert_eq!(
        (planned.routed[0].host, planned.routed[0].target.to_string()),
        (None, "[fd00::2]:80".to_owned())
    );
}

#[test]
fn routed_networks_beside_the_one_with_the_default_route_open_it_too() {
    let targets = Targets {
        v4: Some(target("10.0.0.2", GatewayMode::Nat)),
        also_routed: vec![target("10.1.0.2", GatewayMode::Routed), target("fd01::2", GatewayMode::Routed)],
        ..Targets::default()
    };
    let ask = |host_ip| {
        let planned = plan(request(host_ip, HostPorts::Range(8080, 8080)), &targets, Management::LeftAlone);
        let routed = planned.routed.iter().map(|port| port.target.to_string()).collect::<Vec<_>>();
        (bindings(&planned), routed)
    };
    assert_eq!(ask(None).1, ["10.1.0.2:80", "[fd01::2]:80"]);
    assert_eq!(
        ask(Some("0.0.0.0")),
        (vec!["0.0.0.0 -> 10.0.0.2".to_owned()], vec!["10.1.0.2:80".to_owned()])
    );
}

#[test]
fn a_port_of_another_container_is_refused_with_dockers_text() {
    let targets = Targets { v4: Some(target("10.0.0.2", GatewayMode::Nat)), ..Targets::default() };
    let mut registry = Registry::default();
    let held = |ip: &str, port| PublishedPort {
        container_port: 80,
        protocol: Protocol::Tcp,
        host: Some(SocketAddr::new(ip.parse().unwrap(), port)),
        target: "10.0.0.9:80".parse().unwrap(),
        endpoint: EndpointId::from_bytes([9; 32]),
    };
    let sandbox = SandboxId::from_bytes([7; 32]);
    registry.take(sandbox, &held("127.0.0.1", 80));
    let ask = |registry: &Registry, ip, ports| {
        registry.candidates(&plan(request(ip, ports), &targets, Management::LeftAlone), (40000, 40001))
    };
    let error = ask(&registry, None, HostPorts::Range(80, 80)).unwrap_err();
    assert_eq!(error.to_string(), "Bind for 0.0.0.0:80 failed: port is already allocated");
    assert!(ask(&registry, Some("192.0.2.1"), HostPorts::Range(80, 80)).is_ok());
    assert!(ask(&registry, None, HostPorts::Range(80, 81)).is_ok());
    registry.release(sandbox, &held("127.0.0.1", 80));
    assert!(ask(&registry, None, HostPorts::Range(80, 80)).is_ok());
    registry.take(sandbox, &held("0.0.0.0", 40000));
    registry.used_ephemeral(40000);
    let expected = Candidates { first: 40000, last: 40001, start: 40001 };
    assert_eq!(ask(&registry, None, HostPorts::Ephemeral).unwrap(), expected);
    registry.take(sandbox, &held("0.0.0.0", 40001));
    assert_eq!(
        ask(&registry, None, HostPorts::Ephemeral).unwrap_err().to_string(),
        "all ports are allocated"
    );
}

#[test]
fn the_ephemeral_range_is_read_or_defaulted() {
    assert_eq!(parse_ephemeral_range(Some("32768\t60999")), (32768, 60999));
    for bad in [None, Some(""), Some("1"), Some("9 8"), Some("x y"), Some("0 5")] {
        assert_eq!(parse_ephemeral_range(bad), (49153, 65535), "{bad:?}");
    }
}

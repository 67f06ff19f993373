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
        bindings(&plan(
            request(None, HostPorts::Ephemeral),
            &Targets { v4, v6, default_binding: vec![] },
            proxy,
        ))
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
        v6: None,
        default_binding: vec!["127.0.0.1".parse().unwrap()],
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
        default_binding: vec![],
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

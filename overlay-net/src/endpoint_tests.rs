//! Tables of gateway choice, interface names and endpoint settings.

use std::sync::Arc;

use super::*;
use crate::spec::{BridgeSpec, Icc, MacAddr, Masquerade};
use shoal_types::{EndpointId, NetworkId};

struct Net(&'static str, Reach, GatewayMode);

fn join(net: &Net, addresses: &[&str], priority: i64) -> EndpointSpec {
    let subnet = |subnet: &str, gateway: &str| SubnetSpec {
        subnet: subnet.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        next_hop: None,
    };
    let bridge = BridgeSpec {
        bridge: "br0".parse().unwrap(),
        subnets: vec![subnet("10.0.0.0/8", "10.0.0.1"), subnet("fd00::/64", "fd00::1")],
        reach: net.1,
        gateway_mode_v4: net.2,
        gateway_mode_v6: net.2,
        icc: Icc::Allowed,
        masquerade: Masquerade::On,
        host_ipv4: None,
        host_ipv6: None,
        default_binding: Vec::new(),
        mtu: None,
        container_iface_prefix: "eth".to_owned(),
        inhibit_ipv4: false,
        trusted_host_interfaces: Vec::new(),
    };
    EndpointSpec {
        id: EndpointId::random(),
        network: Arc::new(NetworkSpec {
            id: NetworkId::new(net.0),
            name: net.0.to_owned(),
            driver: DriverSpec::Bridge(bridge),
        }),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        mac: None,
        ifname: None,
        gateway_priority: priority,
        sysctls: Vec::new(),
        names: Vec::new(),
        links: Vec::new(),
    }
}

#[test]
fn the_gateway_is_chosen_by_priority_then_name_among_those_that_lead_outside() {
    let a = Net("a", Reach::External, GatewayMode::Nat);
    let b = Net("b", Reach::External, GatewayMode::Nat);
    let inner = Net("0", Reach::Internal, GatewayMode::Nat);
    let isolated = Net("1", Reach::External, GatewayMode::Isolated);
    let v4: &[&str] = &["10.0.0.2/8"];
    let v6: &[&str] = &["fd00::2/64"];
    let cases: [(Vec<EndpointSpec>, Option<usize>, Option<usize>); 6] = [
        (vec![], None, None),
        (vec![join(&b, v4, 0), join(&a, v4, 0)], Some(1), None),
        (vec![join(&b, v4, 1), join(&a, v4, 0)], Some(0), None),
        (vec![join(&inner, v4, 9), join(&isolated, v4, 9), join(&b, v4, -1)], Some(2), None),
        (vec![join(&a, v4, 0), join(&b, v6, 0)], Some(0), Some(1)),
        (vec![join(&inner, v4, 0)], None, None),
    ];
    for (number, (endpoints, want_v4, want_v6)) in cases.into_iter().enumerate() {
        let chosen = |family| choose_gateway(&endpoints, family).map(|(index, _)| index);
        assert_eq!((chosen(Family::V4), chosen(Family::V6)), (want_v4, want_v6), "case {number}");
    }
}

#[test]
fn interfaces_are_numbered_in_order_and_keep_their_names() {
    let net = Net("a", Reach::External, GatewayMode::Nat);
    let [first, mut second, third] = [0, 0, 0].map(|priority| join(&net, &[], priority));
    second.ifname = Some("eth0".parse().unwrap());
    let names = |endpoints: &[EndpointSpec], before: &[Endpoint]| {
        let names = assign_names(endpoints, before).unwrap();
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&[first.clone(), second, third.clone()], &[]), ["eth1", "eth0", "eth2"]);
    let kept = Endpoint {
        id: third.id,
        network: NetworkId::new("a"),
        ifname: "eth7".parse().unwrap(),
        host_ifname: None,
        mac: MacAddr::random(),
        addresses: Vec::new(),
        gateway_v4: None,
        gateway_v6: None,
        links: Vec::new(),
    };
    assert_eq!(names(&[first, third], &[kept]), ["eth0", "eth7"]);
}

#[test]
fn endpoint_settings_concern_their_interface_only() {
    let name: IfName = "eth0.5".parse().unwrap();
    let good = endpoint_sysctl("net.ipv4.conf.IFNAME.log_martians=1", &name).unwrap();
    assert_eq!(good, ("net.ipv4.conf.eth0/5.log_martians".to_owned(), "1".to_owned()));
    for bad in [
        "",
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.eth1.x=1",
        "net.ipv4.conf.IFNAME.x",
        "kernel.a.b.IFNAME.x=1",
        "net.ipv4.conf.IFNAME.=1",
    ] {
        let error = endpoint_sysctl(bad, &name).unwrap_err();
        assert_eq!(error.kind(), shoal_types::ErrorKind::InvalidArgument, "{bad}");
    }
}

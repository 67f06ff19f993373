//! Tables of the rule set: what each kind of network and port contributes.

use std::collections::BTreeSet;

use super::*;
use crate::firewall::expr::Part;
use crate::spec::{LinkFlow, MacAddr, Protocol, SubnetSpec};
use shoal_types::{EndpointId, NetworkId};

fn ruling(forward: Policy) -> Ruling {
    Ruling { forward, accepted: Some(PacketMark { value: 2, mask: 3 }) }
}

fn bridge(change: impl FnOnce(&mut BridgeSpec)) -> NetworkSpec {
    let mut spec = BridgeSpec {
        bridge: "br-test".parse().unwrap(),
        subnets: ["172.20.0.0/16", "fd00:20::/64"]
            .map(|subnet| SubnetSpec { subnet: subnet.parse().unwrap(), gateway: None, next_hop: None })
            .to_vec(),
        reach: Reach::External,
        gateway_mode_v4: GatewayMode::Nat,
        gateway_mode_v6: GatewayMode::Nat,
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
    change(&mut spec);
    NetworkSpec { id: NetworkId::new("net"), name: "net".to_owned(), driver: DriverSpec::Bridge(spec) }
}

/// The names of the sets that a network is in, with the verdict of `into`.
fn sets(network: &NetworkSpec, family: Family) -> Vec<String> {
    let mut names: Vec<String> = network_elements(network, family)
        .into_iter()
        .map(|element| match element.value {
            Value::Verdict(verdict) => format!("{} {verdict:?}", element.set.name()),
            _ => element.set.name().to_owned(),
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn each_kind_of_network_is_in_its_sets() {
    type Case = (fn(&mut BridgeSpec), &'static [&'static str]);
    let cases: [Case; 8] = [
        (|_| {}, &["bridges", "into Goto(IntoNat)", "masqueraded", "same", "subnets"]),
        (
            |b| b.icc = Icc::Denied,
            &["bridges", "deny_icc", "into Goto(IntoNat)", "masqueraded", "same", "subnets"],
        ),
        (|b| b.reach = Reach::Internal, &["bridges", "internal", "into Drop", "same", "subnets"]),
        (|b| b.masquerade = Masquerade::Off, &["bridges", "into Goto(IntoNat)", "same", "subnets"]),
        (
            |b| b.gateway_mode_v4 = GatewayMode::Routed,
            &["bridges", "into Goto(IntoRouted)", "same", "subnets"],
        ),
        (
            |b| b.gateway_mode_v4 = GatewayMode::NatDirect,
            &["bridges", "into Goto(IntoDirect)", "masqueraded", "same", "subnets"],
        ),
        (
            |b| b.gateway_mode_v4 = GatewayMode::NatUnprotected,
            &["bridges", "into Accept", "masqueraded", "same", "subnets"],
        ),
        (
            |b| b.host_ipv4 = Some("192.0.2.7".parse().unwrap()),
            &["bridges", "into Goto(IntoNat)", "same", "snat_to", "subnets"],
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(sets(&bridge(change), Family::V4), expected);
    }
}

#[test]
fn a_family_without_subnets_contributes_nothing() {
    let network = bridge(|b| b.subnets.truncate(1));
    assert!(!network_elements(&network, Family::V4).is_empty());
    assert!(network_elements(&network, Family::V6).is_empty());
    let host = NetworkSpec { driver: DriverSpec::Host, ..network };
    assert!(network_elements(&host, Family::V4).is_empty());
}

#[test]
fn subnets_become_ranges_that_end_behind_the_last_address() {
    let range = |net: &str| -> Vec<(Vec<u8>, bool)> {
        range_elements(net.parse().unwrap()).into_iter().map(|e| (e.key, e.range_end)).collect()
    };
    assert_eq!(range("172.20.0.0/16"), [(vec![172, 20, 0, 0], false), (vec![172, 21, 0, 0], true)]);
    assert_eq!(range("10.0.0.255/32"), [(vec![10, 0, 0, 255], false), (vec![10, 0, 1, 0], true)]);
    assert_eq!(range("255.255.255.0/24"), [(vec![255, 255, 255, 0], false)]);
    assert_eq!(range("fd00:20::/64").len(), 2);
}

fn port(host: Option<&str>, target: &str) -> PublishedPort {
    PublishedPort {
        container_port: 80,
        protocol: Protocol::Tcp,
        host: host.map(|host| host.parse().unwrap()),
        target: target.parse().unwrap(),
        endpoint: EndpointId::from_bytes([1; 32]),
    }
}

#[test]
fn published_ports_go_to_the_right_map_or_to_none() {
    let cases = [
        (port(Some("0.0.0.0:8080"), "172.20.0.2:80"), Family::V4, Some(Set::PublishedAny)),
        (port(Some("192.0.2.1:8080"), "172.20.0.2:80"), Family::V4, Some(Set::Published)),
        (port(Some("127.0.0.1:8080"), "172.20.0.2:80"), Family::V4, Some(Set::Published)),
        (port(Some("[::]:8080"), "[fd00::2]:80"), Family::V6, Some(Set::PublishedAny)),
        (port(None, "172.20.0.2:80"), Family::V4, None),
        // The kernel cannot translate between families, nor from ::1.
        (port(Some("[::]:8080"), "172.20.0.2:80"), Family::V4, None),
        (port(Some("[::]:8080"), "172.20.0.2:80"), Family::V6, None),
        (port(Some("[::1]:8080"), "[fd00::2]:80"), Family::V6, None),
        (port(Some("0.0.0.0:8080"), "172.20.0.2:80"), Family::V6, None),
    ];
    for (port, family, expected) in cases {
        let sets: Vec<Set> = port_elements(&[port], family).iter().map(|element| element.set).collect();
        // Whoever may come to the container's own address finds the port there.
        let open = (Family::of(port.target.ip()) == family).then_some(Set::Open);
        assert_eq!(sets, Vec::from_iter(expected.into_iter().chain(open)), "{port:?}");
    }
    let element = &port_elements(&[port(Some("192.0.2.1:8080"), "172.20.0.2:80")], Family::V4)[0];
    assert_eq!(element.key, [6, 0, 0, 0, 192, 0, 2, 1, 0x1f, 0x90, 0, 0]);
    assert_eq!(element.value, Value::Bytes(vec![172, 20, 0, 2, 0, 80, 0, 0]));
}

#[test]
fn links_name_client_server_and_port() {
    let endpoint = Endpoint {
        id: EndpointId::from_bytes([1; 32]),
        network: NetworkId::new("net"),
        ifname: "eth0".parse().unwrap(),
        host_ifname: None,
        mac: MacAddr::random(),
        addresses: vec!["172.20.0.3/16".parse().unwrap(), "fd00::3/64".parse().unwrap()],
        gateway_v4: None,
        gateway_v6: None,
        links: vec![LinkFlow { server: "172.20.0.2".parse().unwrap(), port: 80, protocol: Protocol::Tcp }],
    };
    let elements = link_elements(&endpoint, Family::V4);
    assert_eq!(elements.len(), 1);
    assert_eq!(elements[0].key, [172, 20, 0, 3, 172, 20, 0, 2, 6, 0, 0, 0, 0, 80, 0, 0]);
    assert!(link_elements(&endpoint, Family::V6).is_empty());
}

#[test]
fn rules_refer_only_to_sets_and_chains_that_exist_and_end_base_chains_by_policy() {
    for family in Family::ALL {
        let chains = chains(family, ruling(Policy::Drop));
        let known: BTreeSet<Chain> = chains.iter().map(|def| def.chain).collect();
        let sets: BTreeSet<Set> = SETS.iter().map(|def| def.set).collect();
        assert_eq!(sets.len(), SETS.len());
        assert_eq!(known.len(), chains.len());
        for expr in chains.iter().flat_map(|chain| chain.rules.iter().flatten()) {
            match expr {
                Expr::Lookup(set, _) | Expr::Map(set, ..) | Expr::VerdictMap(set, _) => {
                    assert!(sets.contains(set));
                }
                Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => assert!(known.contains(chain)),
                _ => {}
            }
        }
        let forward = chains.iter().find(|def| def.chain == Chain::Forward).unwrap();
        assert_eq!(forward.hook.unwrap().policy, Policy::Drop);
        assert_eq!(known.contains(&Chain::Martians), family == Family::V4);
    }
}

/// Loads before a look-up must fill exactly the registers that the set's key has.
#[test]
fn look_ups_load_as_many_registers_as_their_keys_have() {
    for family in Family::ALL {
        for rule in chains(family, ruling(Policy::Accept)).iter().flat_map(|chain| &chain.rules) {
            let mut filled = 0;
            for expr in rule {
                match expr {
                    Expr::Load(field, at) => filled = at + field.registers(family),
                    Expr::Lookup(set, 0) | Expr::Map(set, 0, _) | Expr::VerdictMap(set, 0) => {
                        let def = SETS.iter().find(|def| def.set == *set).unwrap();
                        let wanted: u32 = def.key.iter().map(|part: &Part| part.registers(family)).sum();
                        assert_eq!(filled, wanted, "{set:?}");
                    }
                    _ => {}
                }
            }
        }
    }
}

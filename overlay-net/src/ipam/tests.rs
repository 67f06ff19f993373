//! Tables and properties of the address space.

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn id(name: &str) -> NetworkId {
    NetworkId::new(name)
}

fn space() -> Space {
    Space::new(default_bases(ula_base([1, 2, 3, 4, 5])))
}

#[test]
fn automatic_subnets_follow_dockers_order_and_keep_away_from_the_host() {
    let mut space = space();
    let auto = [PoolRequest::automatic(Family::V4)];
    let occupied = [net("172.18.5.0/24"), net("172.20.0.0/15"), net("172.22.0.1/32")];
    let subnets: Vec<String> = (0..7)
        .map(|n| space.create(&id(&n.to_string()), &auto, &occupied).unwrap()[0].subnet.to_string())
        .collect();
    assert_eq!(
        subnets,
        [
            "172.17.0.0/16",
            "172.19.0.0/16",
            "172.23.0.0/16",
            "172.24.0.0/16",
            "172.25.0.0/16",
            "172.26.0.0/16",
            "172.27.0.0/16"
        ]
    );
}

#[test]
fn the_pools_run_dry_with_dockers_text() {
    let mut space = Space::new(vec![BasePool { base: net("10.0.0.0/23"), size: 24 }]);
    let auto = [PoolRequest::automatic(Family::V4)];
    space.create(&id("a"), &auto, &[]).unwrap();
    space.create(&id("b"), &auto, &[]).unwrap();
    let error = space.create(&id("c"), &auto, &[]).unwrap_err();
    assert_eq!(error.to_string(), "all predefined address pools have been fully subnetted");
    space.remove(&id("a"));
    assert_eq!(space.create(&id("c"), &auto, &[]).unwrap()[0].subnet, net("10.0.0.0/24"));
}

#[test]
fn a_wide_route_is_jumped_over() {
    let mut space = Space::new(vec![BasePool { base: net("10.0.0.0/8"), size: 24 }]);
    let auto = [PoolRequest::automatic(Family::V4)];
    assert_eq!(space.create(&id("a"), &auto, &[net("10.0.0.0/9")]).unwrap()[0].subnet, net("10.128.0.0/24"));
}

#[test]
fn given_subnets_must_be_canonical_and_must_not_overlap() {
    let mut space = space();
    let error = space.create(&id("a"), &[PoolRequest::given(net("10.1.2.3/24"))], &[]).unwrap_err();
    assert_eq!(error.to_string(), "invalid subnet 10.1.2.3/24: it should be 10.1.2.0/24");
    space.create(&id("a"), &[PoolRequest::given(net("10.1.2.0/24"))], &[]).unwrap();
    for other in ["10.1.0.0/16", "10.1.2.128/25", "10.1.2.0/24"] {
        let error = space.create(&id("b"), &[PoolRequest::given(net(other))], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid pool request: Pool overlaps with other one on this address space"
        );
    }
    // A given subnet may cover a route of the host: the user asked for it.
    space.create(&id("b"), &[PoolRequest::given(net("10.2.0.0/16"))], &[net("10.2.0.0/24")]).unwrap();
}

#[test]
fn a_failed_request_takes_nothing() {
    let mut space = space();
    let requests = [PoolRequest::automatic(Family::V4), PoolRequest::given(net("10.1.2.3/24"))];
    space.create(&id("a"), &requests, &[]).unwrap_err();
    assert!(space.records(&id("a")).is_none());
    assert_eq!(space.create(&id("b"), &requests[..1], &[]).unwrap()[0].subnet, net("172.17.0.0/16"));
}

#[test]
fn addresses_go_up_and_a_released_one_is_used_last() {
    let mut space = space();
    let network = id("a");
    let records = space.create(&network, &[PoolRequest::given(net("10.0.0.0/29"))], &[]).unwrap();
    assert_eq!(records[0].gateway, Some(ip("10.0.0.1")));
    let mut next = || space.allocate(&network, Family::V4).map(|a| a.to_string()).map_err(|e| e.to_string());
    assert_eq!(next().unwrap(), "10.0.0.2/29");
    assert_eq!(next().unwrap(), "10.0.0.3/29");
    space.release(&network, ip("10.0.0.2"));
    let mut next = || space.allocate(&network, Family::V4).map(|a| a.to_string()).map_err(|e| e.to_string());
    assert_eq!(
        [next(), next(), next(), next()].map(Result::unwrap),
        ["10.0.0.4/29", "10.0.0.5/29", "10.0.0.6/29", "10.0.0.2/29"]
    );
    assert_eq!(
        next().unwrap_err(),
        "no available IPv4 addresses on this network's address pools: 10.0.0.0/29"
    );
}

#[test]
fn requested_addresses_are_checked() {
    let mut space = space();
    let network = id("a");
    space
        .create(
            &network,
            &[PoolRequest::given(net("10.0.0.0/24")), PoolRequest::given(net("fd00::/64"))],
            &[],
        )
        .unwrap();
    assert_eq!(space.take(&network, ip("10.0.0.77")).unwrap(), net("10.0.0.77/24"));
    assert_eq!(space.take(&network, ip("fd00::77")).unwrap(), net("fd00::77/64"));
    for taken in ["10.0.0.77", "10.0.0.1", "10.0.0.0", "10.0.0.255", "fd00::1", "fd00::"] {
        assert_eq!(
            space.take(&network, ip(taken)).unwrap_err().to_string(),
            "Address already in use",
            "{taken}"
        );
    }
    let error = space.take(&network, ip("10.0.1.1")).unwrap_err();
    assert_eq!(error.to_string(), "no configured subnet contains IP address 10.0.1.1");
    assert_eq!(space.allocate(&network, Family::V6).unwrap(), net("fd00::2/64"));
}

#[test]
fn a_range_bounds_dynamic_addresses_only() {
    let mut space = space();
    let network = id("a");
    let mut request = PoolRequest::given(net("10.0.0.0/24"));
    request.ip_range = Some(net("10.0.0.128/30"));
    request.aux = BTreeMap::from([("router".to_owned(), ip("10.0.0.130"))]);
    let records = space.create(&network, &[request], &[]).unwrap();
    assert_eq!(records[0].gateway, Some(ip("10.0.0.128")));
    assert_eq!(space.allocate(&network, Family::V4).unwrap(), net("10.0.0.129/24"));
    assert_eq!(space.allocate(&network, Family::V4).unwrap(), net("10.0.0.131/24"));
    assert!(space.allocate(&network, Family::V4).is_err());
    assert_eq!(space.take(&network, ip("10.0.0.9")).unwrap(), net("10.0.0.9/24"));
    assert_eq!(space.usage(&network)[0].dynamic_available, 0);
}

#[test]
fn parts_outside_the_subnet_are_refused() {
    let subnet = net("10.0.0.0/24");
    let bad: [fn(&mut PoolRequest); 3] = [
        |request| request.ip_range = Some(net("10.0.1.0/28")),
        |request| request.gateway = GatewayRequest::Given(ip("10.0.1.1")),
        |request| request.aux = BTreeMap::from([("x".to_owned(), ip("10.0.1.1"))]),
    ];
    for spoil in bad {
        let mut request = PoolRequest::given(subnet);
        spoil(&mut request);
        let error = space().create(&id("a"), &[request], &[]).unwrap_err();
        assert!(matches!(error, NetError::OutsideSubnet { .. } | NetError::AuxiliaryOutsideSubnet { .. }));
    }
}

#[test]
fn point_to_point_subnets_use_every_address() {
    let mut space = space();
    let mut request = PoolRequest::given(net("10.0.0.0/31"));
    request.gateway = GatewayRequest::None;
    space.create(&id("a"), &[request], &[]).unwrap();
    assert_eq!(space.allocate(&id("a"), Family::V4).unwrap(), net("10.0.0.0/31"));
    assert_eq!(space.allocate(&id("a"), Family::V4).unwrap(), net("10.0.0.1/31"));
}

#[test]
fn unique_local_prefixes_are_cut_in_64s() {
    let mut space = space();
    let auto = [PoolRequest::automatic(Family::V6)];
    assert_eq!(space.create(&id("a"), &auto, &[]).unwrap()[0].subnet, net("fd01:203:405::/64"));
    assert_eq!(space.create(&id("b"), &auto, &[]).unwrap()[0].subnet, net("fd01:203:405:1::/64"));
}

#[derive(Debug, Clone)]
enum Step {
    Allocate,
    Take(u8),
    Release(u8),
    Restart,
}

proptest! {
    #[test]
    fn no_address_is_ever_held_twice_and_restarts_change_nothing(
        steps in proptest::collection::vec(
            prop_oneof![
                3 => Just(Step::Allocate),
                1 => any::<u8>().prop_map(Step::Take),
                2 => any::<u8>().prop_map(Step::Release),
                1 => Just(Step::Restart),
            ],
            0..200,
        ),
    ) {
        let network = id("a");
        let mut space = space();
        space.create(&network, &[PoolRequest::given(net("10.0.0.0/27"))], &[]).unwrap();
        let mut held: Vec<IpAddr> = Vec::new();
        for step in steps {
            match step {
                Step::Allocate => match space.allocate(&network, Family::V4) {
                    Ok(address) => {
                        prop_assert!(!held.contains(&address.addr()));
                        prop_assert!(!["10.0.0.0", "10.0.0.1", "10.0.0.31"].contains(&address.addr().to_string().as_str()));
                        held.push(address.addr());
                    }
                    Err(_) => prop_assert_eq!(held.len(), 29),
                },
                Step::Take(n) => {
                    let address = ip(&format!("10.0.0.{}", n % 32));
                    if space.take(&network, address).is_ok() {
                        prop_assert!(!held.contains(&address));
                        held.push(address);
                    }
                }
                Step::Release(n) if !held.is_empty() => {
                    let address = held.swap_remove(usize::from(n) % held.len());
                    space.release(&network, address);
                }
                Step::Release(_) => {}
                Step::Restart => {
                    let records = space.records(&network).unwrap();
                    space = Space::new(Vec::new());
                    space.restore(&network, &records, &held);
                }
            }
            prop_assert_eq!(space.usage(&network)[0].in_use, held.len() as u128 + 3);
        }
    }

    #[test]
    fn automatic_subnets_never_overlap(avoid in proptest::collection::vec((any::<u32>(), 8u8..=32), 0..20)) {
        let avoid: Vec<IpNet> =
            avoid.into_iter().map(|(bits, len)| IpNet::new(IpAddr::V4(bits.into()), len).unwrap().trunc()).collect();
        let mut space = space();
        let mut seen: Vec<IpNet> = avoid.clone();
        for n in 0..40 {
            let Ok(records) = space.create(&id(&n.to_string()), &[PoolRequest::automatic(Family::V4)], &avoid) else { break };
            prop_assert!(!seen.iter().any(|other| overlaps(*other, records[0].subnet)));
            seen.push(records[0].subnet);
        }
    }
}

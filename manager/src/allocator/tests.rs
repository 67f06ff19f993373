//! What is given out, seen from outside.
//!
//! Start reading at any test.

use std::collections::BTreeSet;

use shoal_types::cluster::service::{NetworkWish, PublishedServicePort};
use shoal_types::network::NetworkSpec;

use super::*;
use crate::control::first_networks;
use crate::fixtures::{at, cluster, service, task};
use crate::store::Object;

fn port(published: u16, target: u16) -> PublishedServicePort {
    PublishedServicePort {
        name: String::new(),
        protocol: Protocol::Tcp,
        target,
        published,
        mode: PublishMode::Ingress,
    }
}

fn overlay(id: &str) -> ClusterNetwork {
    let mut network = first_networks(at(1)).remove(0);
    network.id = NetworkId::new(id);
    network.spec =
        NetworkSpec { name: id.to_owned(), driver: "overlay".to_owned(), ..NetworkSpec::default() };
    network
}

fn allocate(objects: Vec<Object>) -> Snapshot {
    let ids: Vec<ServiceId> = objects
        .iter()
        .filter_map(|object| match object {
            Object::Service(service) => Some(service.id),
            _ => None,
        })
        .collect();
    let mut draft = Draft::new(&Arc::new(Snapshot::from_objects(1, objects)), at(0));
    Allocator::default().allocate(&mut draft, ids).unwrap();
    let (view, changes) = (draft.view().clone(), draft.into_changes());
    // What was drafted can be applied.
    assert!(changes.len() <= view.objects().count());
    view
}

fn first_objects() -> Vec<Object> {
    let mut objects: Vec<Object> = first_networks(at(0)).into_iter().map(Object::from).collect();
    objects.push(cluster().into());
    objects
}

#[test]
fn ingress_has_the_first_subnet_and_identifiers_begin_at_4096() {
    let mut objects = first_objects();
    objects.push(overlay("one").into());
    let view = allocate(objects);
    let pool = |name: &str| {
        let network = view.networks().find(|network| network.spec.name == name).unwrap();
        network.allocation.clone().unwrap().pools
    };
    let shown = |name: &str| {
        pool(name)
            .iter()
            .map(|pool| format!("{} {} {}", pool.subnet, pool.gateway, pool.vni))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown("ingress"), ["10.0.0.0/24 10.0.0.1 4096"]);
    assert_eq!(shown("one"), ["10.0.1.0/24 10.0.1.1 4097"]);
    assert!(pool("host").is_empty());
}

#[test]
fn an_identifier_is_not_given_again_at_once() {
    let vni_of_one_made_at = |version: u64| {
        let mut network = overlay("one");
        network.meta.version = version;
        let mut objects = first_objects();
        objects.push(network.into());
        let view = allocate(objects);
        let network = view.networks().find(|network| network.spec.name == "one").unwrap();
        network.allocation.clone().unwrap().pools[0].vni
    };
    let n_identifiers = (1 << 24) - 4096;
    for (version, expected) in
        [(7, 4103), (8, 4104), (n_identifiers - 1, (1 << 24) - 1), (n_identifiers, 4097)]
    {
        assert_eq!(vni_of_one_made_at(version), expected, "made at {version}");
    }
}

#[test]
fn a_service_has_an_address_in_each_network_and_ports_of_the_range() {
    let mut objects = first_objects();
    objects.push(overlay("one").into());
    let mut published = service(1, 1);
    published.spec.endpoint.ports = vec![port(0, 80), port(8080, 81), port(0, 82)];
    published.spec.template.networks.push(NetworkWish {
        target: "one".to_owned(),
        aliases: vec!["db".to_owned()],
        driver_options: Default::default(),
    });
    objects.push(task(1, &published, 1, TaskState::New).into());
    objects.push(published.into());
    let view = allocate(objects);
    let service = view.service(ServiceId::from_u128(1)).unwrap();
    let numbers: Vec<u16> = service.endpoint.ports.iter().map(|port| port.published).collect();
    assert_eq!(numbers, [30000, 8080, 30001]);
    let addresses: Vec<String> =
        service.endpoint.virtual_ips.iter().map(|(_, address)| address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.2/24", "10.0.1.2/24"]);
    let task = view.task(shoal_types::TaskId::from_u128(1)).unwrap();
    assert_eq!(task.status.state, TaskState::Pending);
    assert_eq!(task.status.message, "pending task scheduling");
    let addresses: Vec<String> =
        task.networks.iter().map(|attachment| attachment.addresses[0].to_string()).collect();
    assert_eq!(addresses, ["10.0.0.3/24", "10.0.1.3/24"]);
    assert_eq!(task.networks[1].aliases, ["db"]);
}

#[test]
fn what_a_service_was_given_stays_while_it_asks_for_the_same() {
    let mut objects = first_objects();
    let mut published = service(1, 1);
    published.spec.endpoint.ports = vec![port(0, 80)];
    objects.push(published.into());
    let view = allocate(objects);
    let before = view.service(ServiceId::from_u128(1)).unwrap().endpoint.clone();
    let mut draft = Draft::new(&Arc::new(view), at(1));
    let mut changed = Service::clone(draft.view().service(ServiceId::from_u128(1)).unwrap());
    changed.spec.endpoint.ports.push(port(0, 90));
    draft.update(changed).unwrap();
    let mut allocator = Allocator::default();
    allocator.allocate(&mut draft, [ServiceId::from_u128(1)]).unwrap();
    let after = draft.view().service(ServiceId::from_u128(1)).unwrap().endpoint.clone();
    assert_eq!(after.ports[0], before.ports[0]);
    assert_eq!(after.ports[1].published, 30001);
    assert_eq!(after.virtual_ips, before.virtual_ips);
}

#[test]
fn a_full_network_gives_every_address_once_and_then_says_so() {
    let mut objects = first_objects();
    let mut small = overlay("small");
    small.spec.ipam.pools.push(shoal_types::network::PoolSpec {
        subnet: Some("10.9.0.0/29".parse().unwrap()),
        range: None,
        gateway: None,
        auxiliary: Default::default(),
    });
    objects.push(small.into());
    let mut wide = service(1, 9);
    wide.spec.endpoint.resolution = ResolutionMode::Dnsrr;
    wide.spec.template.networks.push(NetworkWish {
        target: "small".to_owned(),
        aliases: Vec::new(),
        driver_options: Default::default(),
    });
    for slot in 1..=9 {
        objects.push(task(slot.into(), &wide, slot, TaskState::New).into());
    }
    objects.push(wide.into());
    let view = allocate(objects);
    let given: Vec<String> = view
        .tasks()
        .flat_map(|task| &task.networks)
        .map(|attachment| attachment.addresses[0].addr().to_string())
        .collect();
    assert_eq!(given, ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]);
    let errors: BTreeSet<String> = view.unallocated_tasks().map(|task| task.status.error.clone()).collect();
    assert_eq!(errors, ["could not find an available IP address in network small".to_owned()].into());
}

#[test]
fn subnets_that_users_choose_must_not_overlap() {
    let mut objects = first_objects();
    for name in ["one", "two"] {
        let mut network = overlay(name);
        network.meta.created = at(i64::from(name == "two"));
        network.spec.ipam.pools.push(shoal_types::network::PoolSpec {
            subnet: Some("10.20.0.0/16".parse().unwrap()),
            range: None,
            gateway: None,
            auxiliary: Default::default(),
        });
        objects.push(network.into());
    }
    let view = allocate(objects);
    assert_eq!(view.network(&NetworkId::new("one")).unwrap().error, "");
    assert_eq!(
        view.network(&NetworkId::new("two")).unwrap().error,
        "Pool overlaps with other one on this address space"
    );
}

#[test]
fn every_node_has_an_ingress_address_once_a_port_is_published() {
    use crate::fixtures::node;
    let with = |publishing: bool| {
        let mut objects = first_objects();
        let mut web = service(1, 1);
        if publishing {
            web.spec.endpoint.ports = vec![port(8080, 80)];
        }
        objects.extend([Object::from(web), node(1).into(), node(2).into()]);
        allocate(objects)
    };
    let addresses = |view: &Snapshot| -> BTreeSet<String> {
        let own = view.nodes().flat_map(|node| &node.attachments);
        own.flat_map(|own| &own.addresses).map(ToString::to_string).collect()
    };
    assert!(addresses(&with(false)).is_empty());
    let given = addresses(&with(true));
    assert_eq!(given.len(), 2, "{given:?}");
    assert!(given.iter().all(|address| address.starts_with("10.0.0.")));
}

/// A network with IPv6 as well, with these subnets.
fn dual(id: &str, subnets: &[&str]) -> ClusterNetwork {
    let mut network = overlay(id);
    network.spec.ipv6 = Some(true);
    network.spec.ipam.pools = subnets.iter().map(|subnet| pool_of(subnet)).collect();
    network
}

fn pool_of(subnet: &str) -> shoal_types::network::PoolSpec {
    shoal_types::network::PoolSpec {
        subnet: Some(subnet.parse().unwrap()),
        range: None,
        gateway: None,
        auxiliary: Default::default(),
    }
}

fn subnets_of(view: &Snapshot, id: &str) -> Vec<String> {
    let pools = &view.network(&NetworkId::new(id)).unwrap().allocation.as_ref().unwrap().pools;
    pools.iter().map(|pool| format!("{} {} {}", pool.subnet, pool.gateway, pool.vni)).collect()
}

#[test]
fn a_network_with_ipv6_has_a_subnet_of_each_family() {
    let mut objects = first_objects();
    objects.push(dual("any", &[]).into());
    objects.push(dual("half", &["fd00:1::/64"]).into());
    objects.push(dual("most", &["fd00:2::/64", "10.77.0.0/24", "10.78.0.0/24"]).into());
    objects.push(dual("more", &[]).into());
    for (object, second) in objects.iter_mut().zip(0..) {
        if let Object::Network(network) = object {
            Arc::make_mut(network).meta.created = at(second);
        }
    }
    let view = allocate(objects);
    // The prefix for local use has the number of the cluster, which is 1 here.
    assert_eq!(subnets_of(&view, "any"), ["10.0.1.0/24 10.0.1.1 4097", "fd00:0:1::/64 fd00:0:1::1 4098"]);
    assert_eq!(subnets_of(&view, "half"), ["10.0.2.0/24 10.0.2.1 4100", "fd00:1::/64 fd00:1::1 4099"]);
    assert_eq!(
        subnets_of(&view, "most"),
        ["10.77.0.0/24 10.77.0.1 4102", "10.78.0.0/24 10.78.0.1 4103", "fd00:2::/64 fd00:2::1 4101"]
    );
    assert_eq!(subnets_of(&view, "more")[1], "fd00:0:1:1::/64 fd00:0:1:1::1 4105");
}

#[test]
fn services_and_tasks_have_an_address_of_each_family_and_go_on_in_the_next_subnet() {
    let mut objects = first_objects();
    let mut both = dual("both", &["10.9.0.0/29", "10.9.1.0/29", "fd00:1::/64"]);
    both.spec.ipam.pools[2].auxiliary.insert("router".to_owned(), "fd00:1::3".parse().unwrap());
    objects.push(both.into());
    let mut web = service(1, 6);
    web.spec.endpoint.ports = vec![port(8080, 80)];
    web.spec.template.networks.push(NetworkWish {
        target: "both".to_owned(),
        aliases: Vec::new(),
        driver_options: Default::default(),
    });
    for slot in 1..=6 {
        objects.push(task(slot.into(), &web, slot, TaskState::New).into());
    }
    objects.push(web.into());
    let view = allocate(objects);
    let shown = |addresses: &[IpNet]| -> Vec<String> { addresses.iter().map(ToString::to_string).collect() };
    let vips: Vec<IpNet> = view
        .service(ServiceId::from_u128(1))
        .unwrap()
        .endpoint
        .virtual_ips
        .iter()
        .map(|(_, address)| *address)
        .collect();
    assert_eq!(shown(&vips), ["10.0.0.2/24", "10.9.0.2/29", "fd00:1::2/64"], "ingress is IPv4");
    let of_task = |number| {
        let task = view.task(shoal_types::TaskId::from_u128(number)).unwrap();
        task.networks.iter().map(|attachment| shown(&attachment.addresses)).collect::<Vec<_>>()
    };
    assert_eq!(of_task(1), [vec!["10.0.0.3/24"], vec!["10.9.0.3/29", "fd00:1::4/64"]]);
    assert_eq!(of_task(6)[1], ["10.9.1.3/29", "fd00:1::9/64"]);
    assert_eq!(view.unallocated_tasks().count(), 0);
}

//! Entries, one by one.
//!
//! Start reading at any test.

use std::collections::BTreeMap;

use shoal_types::ServiceId;
use shoal_types::cluster::service::{NetworkWish, PublishedServicePort};
use shoal_types::cluster::task::TaskAttachment;
use shoal_types::container::networking::Protocol;

use super::*;
use crate::fixtures::{cluster, network, node, service, task};
use crate::store::Object;

fn wish(target: &str, alias: &str) -> NetworkWish {
    NetworkWish { target: target.into(), aliases: vec![alias.into()], driver_options: BTreeMap::new() }
}

fn attachment(network: &str, address: &str) -> TaskAttachment {
    TaskAttachment {
        network: NetworkId::new(network),
        addresses: vec![address.parse().unwrap()],
        aliases: Vec::new(),
        driver_options: BTreeMap::new(),
    }
}

fn service_entry(view: &Snapshot, network: &str) -> Option<OverlayService> {
    match entry(view, &NetworkId::new(network), EntryKey::Service(ServiceId::from_u128(1)))? {
        OverlayEntry::Service(service) => Some(service),
        OverlayEntry::Peer(_) | OverlayEntry::Keys(_) => None,
    }
}

#[test]
fn a_service_is_in_the_networks_where_it_has_an_address_or_wants_none() {
    let mut web = service(1, 1);
    web.spec.template.networks = vec![wish("net1", "www"), wish("net2", "web")];
    web.endpoint.virtual_ips = vec![(NetworkId::new("net1"), "10.0.1.2/24".parse().unwrap())];
    let networks = [network("net1", "one", 1), network("net2", "two", 2), network("net3", "three", 3)];
    let view = |web: Service| {
        Snapshot::from_objects(1, networks.iter().cloned().map(Object::from).chain([web.into()]))
    };
    let vip = view(web.clone());
    let one = service_entry(&vip, "net1").unwrap();
    assert_eq!(
        (one.vips.as_slice(), one.aliases.as_slice()),
        (["10.0.1.2/24".parse().unwrap()].as_slice(), ["www".to_owned()].as_slice())
    );
    assert_eq!(service_entry(&vip, "net2"), None, "the allocator is not done with it");
    web.endpoint.virtual_ips.clear();
    web.spec.endpoint.resolution = ResolutionMode::Dnsrr;
    web.spec.labels.insert(AFFINITY_LABEL.into(), "client".into());
    let dnsrr = view(web);
    let two = service_entry(&dnsrr, "net2").unwrap();
    assert_eq!((two.vips, two.affinity), (Vec::new(), Affinity::ClientAddress));
    assert_eq!(service_entry(&dnsrr, "net3"), None);
}

#[test]
fn published_ports_stand_in_the_ingress_network_alone() {
    let port = |mode, published| PublishedServicePort {
        name: String::new(),
        protocol: Protocol::Tcp,
        target: 80,
        published,
        mode,
    };
    let mut web = service(1, 1);
    web.spec.template.networks = vec![wish("net1", "www")];
    web.endpoint.ports = vec![port(PublishMode::Ingress, 8080), port(PublishMode::Host, 8081)];
    web.endpoint.virtual_ips = vec![
        (NetworkId::new("ing"), "10.0.0.5/24".parse().unwrap()),
        (NetworkId::new("net1"), "10.0.1.2/24".parse().unwrap()),
    ];
    let mut ingress = network("ing", "ingress", 0);
    ingress.spec.ingress = true;
    let objects = [Object::from(ingress), network("net1", "one", 1).into(), web.into()];
    let view = Snapshot::from_objects(1, objects);
    let ports = |network| service_entry(&view, network).unwrap().ports;
    assert_eq!(ports("ing").iter().map(|port| port.published).collect::<Vec<_>>(), [8080]);
    assert!(ports("net1").is_empty());
}

#[test]
fn a_node_knows_the_networks_of_its_tasks_until_nothing_of_them_runs() {
    let (mut running, mut stopped, mut elsewhere) = (
        task(1, &service(1, 1), 1, TaskState::Running),
        task(2, &service(1, 1), 2, TaskState::Shutdown),
        task(3, &service(1, 1), 3, TaskState::Running),
    );
    for (task, on, network) in
        [(&mut running, 1, "net1"), (&mut stopped, 1, "net2"), (&mut elsewhere, 2, "net3")]
    {
        task.node = Some(NodeId::from_u128(on));
        task.networks = vec![attachment(network, "10.0.1.9/24")];
    }
    running.desired = TaskState::Shutdown;
    let mut here = node(1);
    here.attachments = vec![attachment("ing", "10.0.0.9/24")];
    let networks =
        ["net1", "net2", "net3", "ing"].into_iter().zip(1..).map(|(id, third)| network(id, id, third));
    let objects = networks.map(Object::from).chain([
        cluster().into(),
        here.into(),
        node(2).into(),
        running.into(),
        stopped.into(),
        elsewhere.into(),
    ]);
    let view = Snapshot::from_objects(1, objects);
    let known: Vec<String> =
        networks_of(&view, NodeId::from_u128(1)).iter().map(ToString::to_string).collect();
    assert_eq!(known, ["net1"], "it is being stopped; and nothing is published, so ingress is not needed");
    let told =
        super::network(&view, view.network(&NetworkId::new("ing")).unwrap(), NodeId::from_u128(1)).unwrap();
    assert_eq!(told.node_addresses, ["10.0.0.9/24".parse().unwrap()]);
    assert_eq!(told.port, 4789);
}

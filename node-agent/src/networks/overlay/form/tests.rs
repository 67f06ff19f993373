//! What tables mean.
//!
//! Start reading at any test.

use shoal_types::cluster::service::{PublishMode, PublishedServicePort};
use shoal_types::container::networking::Protocol;
use shoal_types::{NodeId, TaskId};

use super::*;

fn peer(number: u128, last: u8, state: PeerState, service: Option<u128>) -> OverlayEntry {
    OverlayEntry::Peer(OverlayPeer {
        key: EntryKey::Task(TaskId::from_u128(number)),
        addresses: vec![format!("10.0.1.{last}/24").parse().unwrap()],
        vtep: "192.0.2.1".parse().unwrap(),
        node: NodeId::from_u128(1),
        name: format!("web.{number}"),
        aliases: vec!["short".into()],
        service: service.map(ServiceId::from_u128),
        container: None,
        state,
    })
}

fn service(vips: &[&str], ports: Vec<PublishedServicePort>) -> OverlayEntry {
    OverlayEntry::Service(OverlayService {
        id: ServiceId::from_u128(1),
        name: "web".into(),
        aliases: vec!["www".into(), "web".into()],
        vips: vips.iter().map(|vip| vip.parse().unwrap()).collect(),
        affinity: told::Affinity::None,
        ports,
        client: told::ClientSource::Kept,
    })
}

fn form(entries: Vec<OverlayEntry>, role: OverlayRole) -> Form {
    Form::of(&entries.into_iter().map(|entry| (entry.key(), entry)).collect(), role)
}

fn shown(form: &Form) -> Vec<String> {
    let mut shown: Vec<String> = form
        .names
        .values()
        .flat_map(|entry| entry.names.iter().map(|name| format!("{name}={:?}", entry.addresses)))
        .collect();
    shown.sort();
    shown
}

fn tasks() -> Vec<OverlayEntry> {
    vec![
        peer(1, 11, PeerState::Serving, Some(1)),
        peer(2, 12, PeerState::Draining, Some(1)),
        peer(3, 13, PeerState::Starting, Some(1)),
    ]
}

#[test]
fn a_service_is_found_by_its_address_and_its_tasks_while_they_serve() {
    let mut entries = tasks();
    entries.push(service(&["10.0.1.2/24"], Vec::new()));
    let form = form(entries, OverlayRole::Containers);
    assert_eq!(form.peers.len(), 3, "all of them are reachable");
    assert_eq!(form.peers.values().next().unwrap().mac.to_string(), "02:42:0a:00:01:0b");
    let expected = [
        "short=[10.0.1.11]",
        "tasks.web=[10.0.1.11]",
        "tasks.www=[10.0.1.11]",
        "web.1=[10.0.1.11]",
        "web=[10.0.1.2]",
        "www=[10.0.1.2]",
    ];
    assert_eq!(shown(&form), expected);
    let backends = &form.services.values().next().unwrap().backends;
    let states: Vec<_> =
        backends.iter().map(|backend| (backend.address.to_string(), backend.state)).collect();
    let expected = [("10.0.1.11", BackendState::Serving), ("10.0.1.12", BackendState::Draining)];
    assert_eq!(states, expected.map(|(address, state)| (address.to_owned(), state)));
}

#[test]
fn a_service_without_an_address_leads_to_its_tasks() {
    let mut entries = tasks();
    entries.push(service(&[], Vec::new()));
    let form = form(entries, OverlayRole::Containers);
    assert!(shown(&form).contains(&"web=[10.0.1.11]".to_owned()));
    assert!(form.services.is_empty());
}

#[test]
fn ingress_has_ports_and_no_names() {
    let port = PublishedServicePort {
        name: String::new(),
        protocol: Protocol::Tcp,
        target: 80,
        published: 8080,
        mode: PublishMode::Ingress,
    };
    let mut entries = tasks();
    entries.push(service(&["10.0.1.2/24"], vec![port]));
    let form = form(entries, OverlayRole::Ingress);
    assert!(form.names.is_empty() && form.services.is_empty());
    let port = &form.ports[&(NetProtocol::Tcp, 8080)];
    assert_eq!((port.target, port.backends.len()), (80, 2));
}

#[test]
fn one_task_that_goes_is_a_few_small_changes() {
    let mut entries = tasks();
    entries.push(service(&["10.0.1.2/24"], Vec::new()));
    entries.push(peer(9, 19, PeerState::Serving, None));
    let before = form(entries.clone(), OverlayRole::Containers);
    entries.remove(0);
    let changes = before.changes_to(&form(entries, OverlayRole::Containers));
    assert_eq!(changes.peers, [TableChange::Remove("10.0.1.11".parse().unwrap())]);
    assert_eq!(changes.services.len(), 1);
    assert_eq!(changes.names.len(), 2, "its own names, and those of the tasks: {:?}", changes.names);
    assert_eq!(before.changes_to(&before), FormChanges::default());
}

#[test]
fn a_service_has_an_address_of_each_family_and_leads_to_those_of_its_tasks() {
    let mut entries = tasks();
    for (entry, last) in entries.iter_mut().zip(11..) {
        let OverlayEntry::Peer(peer) = entry else { continue };
        peer.addresses.push(format!("fd00:1::{last}/64").parse().unwrap());
    }
    entries.push(service(&["10.0.1.2/24", "fd00:1::2/64"], Vec::new()));
    let form = form(entries, OverlayRole::Containers);
    let shown = shown(&form);
    assert!(shown.contains(&"web=[10.0.1.2, fd00:1::2]".to_owned()), "{shown:?}");
    assert!(shown.contains(&"tasks.web=[10.0.1.11, fd00:1::11]".to_owned()), "{shown:?}");
    assert!(shown.contains(&"web.1=[10.0.1.11, fd00:1::11]".to_owned()), "{shown:?}");
    let behind = |vip: &str| -> Vec<String> {
        let service = &form.services[&vip.parse().unwrap()];
        service.backends.iter().map(|backend| backend.address.to_string()).collect()
    };
    assert_eq!(behind("10.0.1.2"), ["10.0.1.11", "10.0.1.12"]);
    assert_eq!(behind("fd00:1::2"), ["fd00:1::11", "fd00:1::12"]);
    let macs: std::collections::BTreeSet<String> =
        form.peers.values().map(|peer| peer.mac.to_string()).collect();
    assert_eq!((form.peers.len(), macs.len()), (6, 3), "one hardware address for both");
}

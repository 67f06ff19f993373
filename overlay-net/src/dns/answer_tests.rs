//! Tables of answers, through the wire format.

use std::net::SocketAddr;
use std::path::PathBuf;

use proptest::prelude::*;
use shoal_types::{EndpointId, NetworkId, SandboxId};

use super::*;
use crate::netd::protocol;
use crate::spec::{Upstream, UpstreamScope};

fn zones() -> Zones {
    let mut zones = Zones::default();
    let mut add = |number: u8, network: &str, names: &[&str], addresses: &[&str]| {
        zones.set(protocol::Record {
            endpoint: EndpointId::from_bytes([number; 32]),
            network: NetworkId::new(network),
            network_name: format!("{network}-name"),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        });
    };
    add(1, "one", &["Web", "aabbccddeeff", "shared"], &["10.0.0.2", "fd00::2"]);
    add(2, "one", &["db_1", "shared"], &["10.0.0.3"]);
    add(3, "two", &["hidden"], &["10.1.0.2"]);
    zones
}

fn resolver() -> Resolver {
    Resolver {
        sandbox: SandboxId::from_bytes([9; 32]),
        netns: PathBuf::from("/nowhere"),
        networks: vec![NetworkId::new("one")],
        upstreams: vec![Upstream {
            address: SocketAddr::from(([192, 0, 2, 53], 53)),
            scope: UpstreamScope::Sandbox,
        }],
        ndots: None,
        forwarding: Forwarding::Allowed,
        links: vec![("alias".to_owned(), "Web".to_owned())],
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let labels = name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
    let mut name = Name::from_labels(labels).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, kind));
    message
}

/// The outcome in words: data of the answers, or what else happened.
fn ask_with(resolver: &Resolver, name: &str, kind: RecordType, turn: usize) -> String {
    match decide(&query(name, kind).to_vec().unwrap(), Transport::Udp, resolver, &zones(), turn) {
        Decision::Ignore => "ignored".to_owned(),
        Decision::Forward(_) => "forward".to_owned(),
        Decision::Reply(bytes) => {
            let reply = Message::from_vec(&bytes).unwrap();
            assert_eq!(reply.metadata.id, 77);
            assert!(reply.metadata.recursion_available && reply.metadata.recursion_desired);
            assert_eq!(reply.metadata.message_type, MessageType::Response);
            assert!(reply.answers.iter().all(|answer| answer.ttl == 600));
            let data: Vec<String> = reply.answers.iter().map(|answer| answer.data.to_string()).collect();
            format!("{:?} {}", reply.metadata.response_code, data.join(" ")).trim_end().to_owned()
        }
    }
}

fn ask(name: &str, kind: RecordType) -> String {
    ask_with(&resolver(), name, kind, 0)
}

#[test]
fn container_names_are_answered_as_docker_answers_them() {
    use RecordType::{A, AAAA, MX, PTR, SRV, TXT};
    let cases = [
        ("web", A, "NoError 10.0.0.2"),
        ("WEB.", A, "NoError 10.0.0.2"),
        ("web", AAAA, "NoError fd00::2"),
        ("aabbccddeeff", A, "NoError 10.0.0.2"),
        ("web.one-name", A, "NoError 10.0.0.2"),
        ("alias", A, "NoError 10.0.0.2"),
        ("ALIAS", AAAA, "NoError fd00::2"),
        ("db_1", A, "NoError 10.0.0.3"),
        ("db_1", AAAA, "NoError"),
        ("web", MX, "NoError"),
        ("web", TXT, "NoError"),
        ("hidden", A, "forward"),
        ("hidden.two-name", A, "forward"),
        ("example.com", A, "forward"),
        ("_http._tcp.example.com", SRV, "forward"),
        ("2.0.0.10.in-addr.arpa", PTR, "NoError Web.one-name."),
        ("2.0.1.10.in-addr.arpa", PTR, "forward"),
        ("0.10.in-addr.arpa", PTR, "forward"),
        (
            "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
            PTR,
            "NoError Web.one-name.",
        ),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(ask(name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn an_address_of_a_task_leads_back_to_that_task_whatever_was_set_last() {
    let mut zones = Zones::default();
    let network = NetworkId::new("one");
    let none =
        protocol::NetworkNames { network: network.clone(), name: "net".to_owned(), entries: Vec::new() };
    zones.set_network(none);
    let entry = |owner: &str, name: &str| crate::NameEntry {
        owner: owner.to_owned(),
        names: vec![name.to_owned()],
        addresses: vec!["10.0.0.9".parse().unwrap()],
    };
    let all = [entry("tasks 1", "tasks.web"), entry("service 1", "web"), entry("peer 1", "web.1.abc")];
    for last in all.clone() {
        let changes = all.iter().cloned().chain([last]).map(crate::NameChange::Set).collect();
        zones.change_network(&network, changes);
        let asked = query("9.0.0.10.in-addr.arpa", RecordType::PTR).to_vec().unwrap();
        let Decision::Reply(reply) = decide(&asked, Transport::Udp, &resolver(), &zones, 0) else {
            panic!("it is known here")
        };
        let reply = Message::from_vec(&reply).unwrap();
        assert!(reply.answers[0].data.to_string().starts_with("web.1.abc.net"), "{:?}", reply.answers);
    }
}

#[test]
fn shared_names_take_turns() {
    assert_eq!(ask_with(&resolver(), "shared", RecordType::A, 0), "NoError 10.0.0.2 10.0.0.3");
    assert_eq!(ask_with(&resolver(), "shared", RecordType::A, 1), "NoError 10.0.0.3 10.0.0.2");
    assert_eq!(ask_with(&resolver(), "shared", RecordType::AAAA, 1), "NoError fd00::2");
}

#[test]
fn unknown_names_fail_where_nothing_is_forwarded() {
    let refused = Resolver { forwarding: Forwarding::Refused, ..resolver() };
    assert_eq!(ask_with(&refused, "example.com", RecordType::A, 0), "ServFail");
    assert_eq!(ask_with(&refused, "web", RecordType::A, 0), "NoError 10.0.0.2");
    let nobody = Resolver { upstreams: Vec::new(), ..resolver() };
    assert_eq!(ask_with(&nobody, "example.com", RecordType::A, 0), "ServFail");
}

#[test]
fn ndots_keeps_single_labels_at_home() {
    let cases = [(None, "forward"), (Some(0), "forward"), (Some(1), "NoError")];
    for (ndots, expected) in cases {
        let resolver = Resolver { ndots, ..resolver() };
        assert_eq!(ask_with(&resolver, "nobody", RecordType::A, 0), expected);
        assert_eq!(ask_with(&resolver, "nobody", RecordType::TXT, 0), "forward");
        assert_eq!(ask_with(&resolver, "nobody.example", RecordType::A, 0), "forward");
    }
}

#[test]
fn records_are_replaced_and_removed() {
    let mut zones = zones();
    let networks = [NetworkId::new("one")];
    let endpoint = EndpointId::from_bytes([1; 32]);
    let renamed = protocol::Record {
        endpoint,
        network: NetworkId::new("one"),
        network_name: "one-name".to_owned(),
        names: vec!["renamed".to_owned()],
        addresses: vec!["10.0.0.2".parse().unwrap()],
    };
    zones.set(renamed);
    assert_eq!(zones.addresses(&networks, "web", Asked::V4), Found::Nothing);
    assert!(matches!(zones.addresses(&networks, "renamed", Asked::V4), Found::Addresses(..)));
    assert_eq!(zones.name(&networks, "fd00::2".parse().unwrap()), None);
    zones.remove(&endpoint);
    assert_eq!(zones.addresses(&networks, "renamed", Asked::V4), Found::Nothing);
    assert_eq!(
        zones.addresses(&networks, "shared", Asked::V4),
        Found::Addresses(vec!["10.0.0.3".parse().unwrap()], CONTAINER_TTL)
    );
    for number in [2, 3] {
        zones.remove(&EndpointId::from_bytes([number; 32]));
    }
    assert!(zones.endpoints().is_empty());
}

fn many() -> (Zones, Resolver) {
    let mut zones = Zones::default();
    for number in 0..200u8 {
        zones.set(protocol::Record {
            endpoint: EndpointId::from_bytes([number; 32]),
            network: NetworkId::new("one"),
            network_name: "one".to_owned(),
            names: vec!["many".to_owned()],
            addresses: vec![IpAddr::from([10, 0, 0, number])],
        });
    }
    (zones, resolver())
}

#[test]
fn long_answers_are_cut_to_what_the_client_takes() {
    let (zones, resolver) = many();
    let reply = |edns: Option<u16>, transport| {
        let mut message = query("many", RecordType::A);
        if let Some(size) = edns {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.set_edns(edns);
        }
        let Decision::Reply(bytes) = decide(&message.to_vec().unwrap(), transport, &resolver, &zones, 0)
        else {
            panic!("no reply");
        };
        let reply = Message::from_vec(&bytes).unwrap();
        assert_eq!(reply.edns.is_some(), edns.is_some());
        (bytes.len(), reply.answers.len(), reply.metadata.truncation)
    };
    let (length, answers, truncated) = reply(None, Transport::Udp);
    assert!(length <= 512 && answers > 10 && truncated);
    let (length, answers, truncated) = reply(Some(1232), Transport::Udp);
    assert!(length <= 1232 && answers > 25 && truncated);
    assert_eq!(reply(Some(4096), Transport::Udp).1, 200);
    let (_, answers, truncated) = reply(None, Transport::Tcp);
    assert!(answers == 200 && !truncated);
}

#[test]
fn replies_of_servers_are_checked_and_relabelled() {
    let bytes = query("example.com", RecordType::A).to_vec().unwrap();
    let Decision::Forward(forwarded) = decide(&bytes, Transport::Udp, &resolver(), &zones(), 0) else {
        panic!("not forwarded");
    };
    let answer = |id, name: &str, code| {
        let mut reply = response(&query(name, RecordType::A), code);
        reply.metadata.id = id;
        reply.to_vec().unwrap()
    };
    let accepted = forwarded.accept(5, &answer(5, "example.com", ResponseCode::NXDomain));
    let Some(Reply::Final(reply)) = accepted else { panic!("{accepted:?}") };
    assert_eq!(Message::from_vec(&reply).unwrap().metadata.id, 77);
    assert_eq!(forwarded.accept(6, &answer(5, "example.com", ResponseCode::NoError)), None);
    assert_eq!(forwarded.accept(5, &answer(5, "example.org", ResponseCode::NoError)), None);
    assert_eq!(forwarded.accept(5, &bytes), None);
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        assert_eq!(forwarded.accept(5, &answer(5, "example.com", code)), Some(Reply::TryNext));
    }
    let failure = Message::from_vec(&forwarded.into_failure()).unwrap();
    assert_eq!((failure.metadata.id, failure.metadata.response_code), (77, ResponseCode::ServFail));
}

#[test]
fn what_is_no_proper_query_gets_the_proper_error() {
    let code = |bytes: &[u8]| match decide(bytes, Transport::Udp, &resolver(), &zones(), 0) {
        Decision::Reply(bytes) => format!("{:?}", Message::from_vec(&bytes).unwrap().metadata.response_code),
        Decision::Forward(_) => "forward".to_owned(),
        Decision::Ignore => "ignored".to_owned(),
    };
    let mut none = Message::new(1, MessageType::Query, OpCode::Query);
    assert_eq!(code(&none.to_vec().unwrap()), "FormErr");
    none.metadata.op_code = OpCode::Status;
    none.add_query(query("web", RecordType::A).queries[0].clone());
    assert_eq!(code(&none.to_vec().unwrap()), "NotImp");
    let mut reply = query("web", RecordType::A);
    reply.metadata.message_type = MessageType::Response;
    assert_eq!(code(&reply.to_vec().unwrap()), "ignored");
    assert_eq!(code(&[0; 5]), "ignored");
    assert_eq!(code(&[0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0xff]), "FormErr");
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_and_never_answer_to_answers(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let decision = decide(&bytes, Transport::Udp, &resolver(), &zones(), 3);
        if bytes.get(2).is_some_and(|flags| flags & 0x80 != 0) {
            prop_assert_eq!(decision, Decision::Ignore);
        }
    }

    #[test]
    fn hostile_replies_are_never_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let query = query("example.com", RecordType::A).to_vec().unwrap();
        if let Decision::Forward(forwarded) = decide(&query, Transport::Udp, &resolver(), &zones(), 0) {
            prop_assert_eq!(forwarded.accept(1, &bytes), None);
        }
    }
}

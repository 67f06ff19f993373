//! The resolver against a name server of its own, on loopback.

use super::*;

use std::io::Write as _;

use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::{A, AAAA};
use tokio::net::TcpListener;

/// What the test's name server does with a name.
fn answer(query: &Message, is_udp: bool) -> Option<Message> {
    let question = query.queries.first()?.clone();
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.add_query(question.clone());
    let name = question.name().to_ascii();
    match (name.as_str(), question.query_type()) {
        ("reg.example.", RecordType::A) => {
            reply.add_answer(Record::from_rdata(question.name().clone(), 60, RData::A(A::new(10, 0, 0, 1))));
        }
        ("reg.example.", RecordType::AAAA) => {
            let address = RData::AAAA(AAAA("fd00::1".parse().unwrap()));
            reply.add_answer(Record::from_rdata(question.name().clone(), 60, address));
        }
        ("large.example.", RecordType::A) if is_udp => reply.metadata.truncation = true,
        ("large.example.", RecordType::A) => {
            reply.add_answer(Record::from_rdata(question.name().clone(), 60, RData::A(A::new(10, 0, 0, 2))));
        }
        ("forged.example.", RecordType::A) if is_udp => {
            reply.metadata.id = query.metadata.id.wrapping_add(1);
            reply.add_answer(Record::from_rdata(question.name().clone(), 60, RData::A(A::new(6, 6, 6, 6))));
        }
        ("broken.example.", _) => reply.metadata.response_code = ResponseCode::ServFail,
        ("empty.example." | "large.example.", _) => {}
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(reply)
}

struct Rig {
    resolver: Resolver,
    server: SocketAddr,
    _files: tempfile::TempDir,
}

async fn rig() -> Rig {
    // The same port for both protocols; try again if the one that UDP got is taken for TCP.
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let server = udp.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0u8; 4096];
        while let Ok((len, peer)) = udp.recv_from(&mut buffer).await {
            if let Some(reply) = Message::from_vec(&buffer[..len]).ok().and_then(|query| answer(&query, true))
            {
                udp.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let len = stream.read_u16().await.unwrap();
            let mut buffer = vec![0u8; usize::from(len)];
            stream.read_exact(&mut buffer).await.unwrap();
            let reply = answer(&Message::from_vec(&buffer).unwrap(), false).unwrap().to_vec().unwrap();
            stream.write_u16(u16::try_from(reply.len()).unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    let files = tempfile::tempdir().unwrap();
    let hosts = files.path().join("hosts");
    let resolv_conf = files.path().join("resolv.conf");
    std::fs::write(&hosts, "10.9.9.9 pinned.example\n").unwrap();
    let mut conf = std::fs::File::create(&resolv_conf).unwrap();
    writeln!(conf, "nameserver {server}\nsearch example\noptions timeout:1 attempts:1").unwrap();
    Rig { resolver: Resolver::new(NameService { hosts, resolv_conf }), server, _files: files }
}

#[tokio::test]
async fn names_come_from_hosts_then_from_the_name_server_with_ipv4_first() {
    let rig = rig().await;
    let text = |addresses: Vec<IpAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let lookup = async |host: &str| text(rig.resolver.lookup(host).await.unwrap());
    assert_eq!(lookup("pinned.example").await, ["10.9.9.9"]);
    assert_eq!(lookup("reg.example").await, ["10.0.0.1", "fd00::1"]);
    assert_eq!(lookup("REG").await, ["10.0.0.1", "fd00::1"]);
    assert_eq!(lookup("large.example").await, ["10.0.0.2"]);
    assert_eq!(lookup("localhost").await, ["127.0.0.1", "::1"]);
    assert_eq!(lookup("192.0.2.7").await, ["192.0.2.7"]);
    assert_eq!(lookup("::1").await, ["::1"]);
}

#[tokio::test]
async fn failures_read_as_gos() {
    let rig = rig().await;
    let server = rig.server;
    let lookup = async |host: &str| rig.resolver.lookup(host).await.unwrap_err().to_string();
    let expected = |host: &str, problem: &str| format!("dial tcp: lookup {host} on {server}: {problem}");
    assert_eq!(lookup("nowhere.example").await, expected("nowhere.example", "no such host"));
    assert_eq!(lookup("empty.example").await, expected("empty.example", "no such host"));
    assert_eq!(lookup("broken.example").await, expected("broken.example", "server misbehaving"));
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_believed() {
    let rig = rig().await;
    let error = rig.resolver.lookup("forged.example").await.unwrap_err();
    assert!(error.to_string().ends_with("i/o timeout"), "{error}");
}

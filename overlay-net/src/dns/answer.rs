//! What a query is answered with. PURE: bytes in, a decision out.
//!
//! Start reading at [`decide`]. The rules are Docker's (libnetwork `resolver.go`): names of containers are answered
//! here, the other address family of a known name is an empty answer and not an error, everything unknown goes to the
//! upstream servers. hickory-proto reads and writes the messages.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::records::{Asked, CONTAINER_TTL, Found, Zones};
use crate::netd::protocol::Resolver;
use crate::spec::Forwarding;

/// What a client without EDNS can take over UDP (RFC 1035, 4.2.1).
const PLAIN_UDP_LEN: usize = 512;
/// The size that our EDNS answers announce.
const OUR_PAYLOAD: u16 = 4096;
const TCP_LEN: usize = 65535;

/// How a query arrived, which bounds the answer's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What to do with a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Send these bytes.
    Reply(Vec<u8>),
    /// Ask the upstream servers.
    Forward(Forwarded),
    /// It is no query.
    Ignore,
}

/// A query on its way to an upstream server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// The query as the client sent it.
    pub(crate) bytes: Vec<u8>,
    /// What a reply must repeat.
    question: Query,
    /// The longest answer that the client takes.
    limit: usize,
    failure: Vec<u8>,
}

impl Forwarded {
    /// The reply when no upstream server helped.
    pub(crate) fn into_failure(self) -> Vec<u8> {
        self.failure
    }

    /// Checks a server's reply and makes it fit for the client; absent when it is not an answer to this query.
    ///
    /// `id` is the one that our own query carried.
    pub(crate) fn accept(&self, id: u16, reply: &[u8]) -> Option<Reply> {
        let message = Message::from_vec(reply).ok()?;
        let metadata = message.metadata;
        let ours = metadata.id == id && metadata.message_type == MessageType::Response;
        if !ours || message.queries.first() != Some(&self.question) {
            return None;
        }
        if matches!(metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused) {
            return Some(Reply::TryNext);
        }
        let mut bytes = reply.to_vec();
        if bytes.len() > self.limit {
            bytes = message.truncate().to_vec().ok()?;
        }
        bytes.get_mut(..2)?.copy_from_slice(self.bytes.get(..2)?);
        Some(Reply::Final(bytes))
    }
}

/// What a server's reply means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Hand it to the client.
    Final(Vec<u8>),
    /// The server cannot help; another one may.
    TryNext,
}

/// Decides about one query of a sandbox.
///
/// `turn` rotates the addresses of a name that several containers share.
pub(crate) fn decide(
    bytes: &[u8],
    transport: Transport,
    resolver: &Resolver,
    zones: &Zones,
    turn: usize,
) -> Decision {
    let Ok(query) = Message::from_vec(bytes) else { return refuse_garbage(bytes) };
    if query.metadata.message_type != MessageType::Query {
        return Decision::Ignore;
    }
    let limit = answer_limit(&query, transport);
    let [question] = query.queries.as_slice() else { return fail(&query, ResponseCode::FormErr) };
    if query.metadata.op_code != OpCode::Query {
        return fail(&query, ResponseCode::NotImp);
    }
    let local =
        if question.query_class() == DNSClass::IN { look_up(question, resolver, zones, turn) } else { None };
    match local {
        Some(answers) => match encode(response(&query, ResponseCode::NoError), answers, limit) {
            Some(reply) => Decision::Reply(reply),
            None => fail(&query, ResponseCode::ServFail),
        },
        None if resolver.forwarding == Forwarding::Refused || resolver.upstreams.is_empty() => {
            fail(&query, ResponseCode::ServFail)
        }
        None => {
            let Some(failure) = encode(response(&query, ResponseCode::ServFail), Vec::new(), limit) else {
                return Decision::Ignore;
            };
            Decision::Forward(Forwarded { bytes: bytes.to_vec(), question: question.clone(), limit, failure })
        }
    }
}

/// The answer from our own names; absent when the question is for somebody else.
fn look_up(question: &Query, resolver: &Resolver, zones: &Zones, turn: usize) -> Option<Vec<Record>> {
    let name = text(question.name());
    let asked = match question.query_type() {
        RecordType::A => Asked::V4,
        RecordType::AAAA => Asked::V6,
        RecordType::PTR => return reverse(question, resolver, zones),
        _ => Asked::Existence,
    };
    let target = resolver.links.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(&name));
    let wanted = target.map_or_else(|| name.clone(), |(_, container)| container.to_ascii_lowercase());
    match zones.addresses(&resolver.networks, &wanted, asked) {
        Found::Addresses(mut addresses, ttl) => {
            let shift = turn % addresses.len();
            addresses.rotate_left(shift);
            Some(addresses.into_iter().map(|address| address_record(question.name(), address, ttl)).collect())
        }
        Found::OtherFamily => Some(Vec::new()),
        // A user who sets ndots wants single labels to be tried with the search list, not sent to strangers.
        Found::Nothing
            if asked != Asked::Existence
                && is_single_label(&name)
                && resolver.ndots.is_some_and(|n| n > 0) =>
        {
            Some(Vec::new())
        }
        Found::Nothing => None,
    }
}

fn reverse(question: &Query, resolver: &Resolver, zones: &Zones) -> Option<Vec<Record>> {
    let net = question.name().parse_arpa_name().ok()?;
    if net.prefix_len() != net.max_prefix_len() {
        return None;
    }
    let name = zones.name(&resolver.networks, net.addr())?;
    let mut name = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(vec![Record::from_rdata(question.name().clone(), CONTAINER_TTL, RData::PTR(PTR(name)))])
}

fn address_record(name: &Name, address: IpAddr, ttl: u32) -> Record {
    let data = match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    Record::from_rdata(name.clone(), ttl, data)
}

/// The name in lower case without the dot at its end.
fn text(name: &Name) -> String {
    let labels: Vec<String> =
        name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    labels.join(".")
}

fn is_single_label(name: &str) -> bool {
    !name.contains('.')
}

fn answer_limit(query: &Message, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => TCP_LEN,
        Transport::Udp => query.edns.as_ref().map_or(PLAIN_UDP_LEN, |edns| {
            usize::from(edns.max_payload()).clamp(PLAIN_UDP_LEN, usize::from(OUR_PAYLOAD))
        }),
    }
}

fn response(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_PAYLOAD);
        reply.set_edns(edns);
    }
    reply
}

fn fail(query: &Message, code: ResponseCode) -> Decision {
    encode(response(query, code), Vec::new(), TCP_LEN).map_or(Decision::Ignore, Decision::Reply)
}

/// Encodes a reply, leaving out answers and setting the truncation bit when it is too long.
fn encode(mut reply: Message, mut answers: Vec<Record>, limit: usize) -> Option<Vec<u8>> {
    reply.add_answers(answers.iter().cloned());
    let mut bytes = reply.to_vec().ok()?;
    while bytes.len() > limit && !answers.is_empty() {
        answers.truncate(answers.len() / 2);
        reply.metadata.truncation = true;
        reply.answers.clone_from(&answers);
        bytes = reply.to_vec().ok()?;
    }
    Some(bytes)
}

/// Bytes that are no message get a format error if they have at least an id to answer to.
fn refuse_garbage(bytes: &[u8]) -> Decision {
    const IS_RESPONSE: u8 = 0x80;
    match bytes {
        [high, low, flags, ..] if bytes.len() >= 12 && flags & IS_RESPONSE == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            let reply = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            reply.to_vec().map_or(Decision::Ignore, Decision::Reply)
        }
        _ => Decision::Ignore,
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;

//! Names to addresses, by /etc/hosts and the name servers of /etc/resolv.conf.
//!
//! Start reading at [`Resolver::lookup`]. The C library's `getaddrinfo` is not used because it loads NSS modules at run
//! time, which a static binary cannot (docs/decisions/2026-11-21-registry-protocol.md). Both files are read at every
//! look-up, so that a laptop that changes its network needs no restart. Reading the files' formats is `files.rs`; there
//! is no mDNS, no NIS, and no cache but a few seconds' one for connections opened together.

mod files;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use self::files::ResolvConf;
use crate::config::NameService;
use crate::error::TransportFailure;

/// How long an answer serves further connections. Short, because no time to live is looked at.
const CACHE_TIME: Duration = Duration::from_secs(5);
/// How long a failure does. Whoever asks whether a name is in an insecure network and then connects shall not wait for
/// the same silent server twice.
const FAILURE_CACHE_TIME: Duration = Duration::from_secs(1);
/// Registries at once in the cache.
const CACHE_LEN: usize = 64;
/// Larger files than this are no honest /etc/hosts (ad blockers' lists have some MiB).
const MAX_FILE_LEN: u64 = 16 << 20;
/// What fits into an unfragmented datagram everywhere (DNS flag day 2020).
const UDP_PAYLOAD: u16 = 1232;
/// Addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 32;

/// Resolves names. One per client; holds nothing but recent answers.
#[derive(Debug)]
pub(crate) struct Resolver {
    files: NameService,
    recent: Mutex<HashMap<String, (Instant, Answer)>>,
}

type Answer = Result<Vec<IpAddr>, TransportFailure>;

/// Why one name server gave no addresses.
enum Miss {
    /// The name does not exist, or has no addresses.
    NoSuchHost,
    /// Another server may know better.
    Failure(String),
}

impl Resolver {
    pub(crate) fn new(files: NameService) -> Self {
        Self { files, recent: Mutex::new(HashMap::new()) }
    }

    /// The addresses of a host, IPv4 first: networks with broken IPv6 are more common than those without IPv4, and
    /// the connector tries the other family a moment later anyway. Never empty.
    pub(crate) async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, TransportFailure> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if let Some(answer) = self.recent(&host) {
            return answer;
        }
        let answer = self.lookup_now(&host).await;
        self.remember(host, answer.clone());
        answer
    }

    async fn lookup_now(&self, host: &str) -> Answer {
        let mut addresses = files::addresses_in_hosts(&read_file(&self.files.hosts).await, host);
        if addresses.is_empty() {
            addresses = if host == "localhost" || host.ends_with(".localhost") {
                // RFC 6761 section 6.3: never asked of the network.
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            } else {
                self.lookup_in_dns(host).await?
            };
        }
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        Ok(addresses)
    }

    async fn lookup_in_dns(&self, host: &str) -> Result<Vec<IpAddr>, TransportFailure> {
        let conf = ResolvConf::parse(&read_file(&self.files.resolv_conf).await);
        let mut failure = None;
        let mut asked = String::new();
        for candidate in conf.candidates(host) {
            let Ok(mut name) = Name::from_ascii(&candidate) else { continue };
            name.set_fqdn(true);
            for server in conf.servers_by_attempt() {
                asked = format!(" on {server}");
                match ask_both_families(server, &name, &conf).await {
                    Ok(addresses) => return Ok(addresses),
                    Err(Miss::NoSuchHost) => break,
                    Err(Miss::Failure(problem)) => failure = Some(problem),
                }
            }
        }
        let host = host.to_owned();
        Err(match failure {
            Some(problem) => TransportFailure::Lookup { host, server: asked, problem },
            None => TransportFailure::NoSuchHost { host, server: asked },
        })
    }

    fn recent(&self, host: &str) -> Option<Answer> {
        let recent = self.recent.lock().ok()?;
        let (since, answer) = recent.get(host)?;
        is_fresh(*since, answer).then(|| answer.clone())
    }

    fn remember(&self, host: String, answer: Answer) {
        let Ok(mut recent) = self.recent.lock() else { return };
        recent.retain(|_, (since, answer)| is_fresh(*since, answer));
        if recent.len() < CACHE_LEN {
            recent.insert(host, (Instant::now(), answer));
        }
    }
}

fn is_fresh(since: Instant, answer: &Answer) -> bool {
    since.elapsed() < if answer.is_ok() { CACHE_TIME } else { FAILURE_CACHE_TIME }
}

/// A file that cannot be read is as good as an empty one, as for the C library.
async fn read_file(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = tokio::fs::File::open(path).await
        && let Err(error) = file.take(MAX_FILE_LEN).read_to_end(&mut text).await
    {
        tracing::warn!(path = %path.display(), error = %error, "cannot read the name service's file");
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Asks for IPv4 and IPv6 addresses at the same time. A failure for one family does not spoil the other.
async fn ask_both_families(server: SocketAddr, name: &Name, conf: &ResolvConf) -> Result<Vec<IpAddr>, Miss> {
    let (v4, v6) =
        tokio::join!(ask(server, name, RecordType::A, conf), ask(server, name, RecordType::AAAA, conf));
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.extend(v6);
            if v4.is_empty() { Err(Miss::NoSuchHost) } else { Ok(v4) }
        }
        (Ok(some), Err(_)) | (Err(_), Ok(some)) if !some.is_empty() => Ok(some),
        (Err(Miss::Failure(problem)), _) | (_, Err(Miss::Failure(problem))) => Err(Miss::Failure(problem)),
        (Err(Miss::NoSuchHost), _) | (_, Err(Miss::NoSuchHost)) => Err(Miss::NoSuchHost),
    }
}

async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    conf: &ResolvConf,
) -> Result<Vec<IpAddr>, Miss> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    query.set_edns(edns);
    let bytes = query.to_vec().map_err(|error| Miss::Failure(error.to_string()))?;
    let exchange = async {
        let mut reply = None;
        if !conf.use_tcp {
            reply = Some(exchange_by_udp(server, &bytes, &query).await?)
                .filter(|reply| !reply.metadata.truncation);
        }
        match reply {
            Some(reply) => Ok(reply),
            None => exchange_by_tcp(server, &bytes, &query).await,
        }
    };
    let reply = match timeout(conf.timeout, exchange).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => return Err(Miss::Failure(super::connect::describe_io(&error))),
        Err(_elapsed) => return Err(Miss::Failure("i/o timeout".to_owned())),
    };
    match reply.metadata.response_code {
        ResponseCode::NoError => Ok(addresses_in(&reply)),
        ResponseCode::NXDomain => Err(Miss::NoSuchHost),
        _ => Err(Miss::Failure("server misbehaving".to_owned())),
    }
}

fn addresses_in(reply: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    reply.answers.iter().filter_map(|record| address(&record.data)).collect()
}

async fn exchange_by_udp(server: SocketAddr, bytes: &[u8], query: &Message) -> io::Result<Message> {
    let local: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0u8; 4096];
    loop {
        let len = socket.recv(&mut buffer).await?;
        // Anything that does not answer this very question is somebody's guess at it: wait on for the true one.
        if let Some(reply) = matching_reply(&buffer[..len], query) {
            return Ok(reply);
        }
    }
}

async fn exchange_by_tcp(server: SocketAddr, bytes: &[u8], query: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = len.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let len = stream.read_u16().await?;
    let mut buffer = vec![0u8; usize::from(len)];
    stream.read_exact(&mut buffer).await?;
    matching_reply(&buffer, query).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn matching_reply(bytes: &[u8], query: &Message) -> Option<Message> {
    let reply = Message::from_vec(bytes).ok()?;
    let answers_us = reply.metadata.id == query.metadata.id && reply.queries == query.queries;
    answers_us.then_some(reply)
}

#[cfg(test)]
mod tests;

//! Opening a connection: by which proxy, to which address, with or without TLS.
//!
//! Start reading at [`Connector::connect`]. Addresses of both families are tried with a head start for the first
//! (RFC 8305, "happy eyeballs"). The pool of open connections is hyper's, in `transport.rs`.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::dns::Resolver;
use super::proxy::{Proxy, ProxyRules};
use super::tls::handshake;
use super::url::{bare_host, is_https, port_of};
use crate::error::TransportFailure;

/// How long one address has before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// A proxy's answer to CONNECT; real ones have a few hundred bytes.
const MAX_PROXY_ANSWER: usize = 16 << 10;

/// Opens connections for one registry and what it leads to.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) proxies: Arc<ProxyRules>,
    pub(crate) tls: Arc<ClientConfig>,
    /// For the TLS of proxies, which certs.d says nothing about.
    pub(crate) proxy_tls: Arc<ClientConfig>,
    /// If the registry is insecure only because of its address, it is spoken to at no other address: otherwise who
    /// answers for its name could take it elsewhere, without a certificate.
    pub(crate) only_networks: Option<OnlyNetworks>,
    pub(crate) connect_timeout: Duration,
    pub(crate) tls_timeout: Duration,
}

/// The networks within which one host must be.
#[derive(Debug, Clone)]
pub(crate) struct OnlyNetworks {
    pub(crate) host: String,
    pub(crate) networks: Arc<[IpNet]>,
}

/// An open connection. Boxed because proxies nest: TLS in TLS in TCP.
pub(crate) struct Stream {
    io: Box<dyn Io>,
    is_proxied: bool,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Connector {
    /// Opens a connection over which requests for `target` can be sent.
    async fn connect(self, target: Uri) -> Result<Stream, TransportFailure> {
        let authority = target.authority().cloned();
        let authority =
            authority.ok_or_else(|| TransportFailure::Tls("http: no Host in request URL".to_owned()))?;
        let host = bare_host(&authority).to_owned();
        let proxy = self.proxies.choose(&target).cloned();
        let io: Box<dyn Io> = match &proxy {
            Some(proxy) => self.connect_to_proxy(proxy).await?,
            None => Box::new(self.open_tcp(&host, port_of(&target)).await?),
        };
        if !is_https(&target) {
            return Ok(Stream { io, is_proxied: proxy.is_some() });
        }
        let io = match &proxy {
            Some(proxy) => {
                open_tunnel(io, proxy, &authority_with_port(&target, &host), self.connect_timeout).await?
            }
            None => io,
        };
        let io = handshake(io, &host, Arc::clone(&self.tls), self.tls_timeout).await?;
        Ok(Stream { io: Box::new(io), is_proxied: false })
    }

    async fn connect_to_proxy(&self, proxy: &Proxy) -> Result<Box<dyn Io>, TransportFailure> {
        let wrap = |failure: TransportFailure| {
            // Go names the proxy's connection apart from the target's.
            let text = failure.to_string();
            TransportFailure::Proxy(format!(
                "proxyconnect tcp: {}",
                text.strip_prefix("proxyconnect ").unwrap_or(&text)
            ))
        };
        let host = proxy.uri.authority().map(bare_host).unwrap_or_default().to_owned();
        let tcp = self.open_tcp(&host, port_of(&proxy.uri)).await.map_err(wrap)?;
        if !is_https(&proxy.uri) {
            return Ok(Box::new(tcp));
        }
        let tls = handshake(tcp, &host, Arc::clone(&self.proxy_tls), self.tls_timeout).await.map_err(wrap)?;
        Ok(Box::new(tls))
    }

    async fn open_tcp(&self, host: &str, port: u16) -> Result<TcpStream, TransportFailure> {
        let mut addresses = self.resolver.lookup(host).await?;
        if let Some(only) = self.only_networks.as_ref().filter(|only| only.host.eq_ignore_ascii_case(host)) {
            addresses.retain(|address| only.networks.iter().any(|network| network.contains(address)));
        }
        let addresses =
            interleave_families(addresses).into_iter().map(|address| SocketAddr::new(address, port));
        open_first(addresses.collect(), self.connect_timeout, host).await
    }
}

/// IPv4 and IPv6 in turns, beginning with the family of the first address.
fn interleave_families(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first_is_v4 = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let mut second = second.into_iter();
    let mut in_turns = Vec::new();
    for address in first {
        in_turns.push(address);
        in_turns.extend(second.next());
    }
    in_turns.extend(second);
    in_turns
}

/// The first connection that comes about. Each further address starts a head start later, or at once when one fails.
async fn open_first(
    addresses: Vec<SocketAddr>,
    limit: Duration,
    host: &str,
) -> Result<TcpStream, TransportFailure> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut first_failure = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(open_one(address, limit));
        }
        let has_more = !waiting.as_slice().is_empty();
        tokio::select! {
            // Losing the timer only loses the head start; it begins anew in the next round.
            () = sleep(HEAD_START), if has_more => {}
            // A finished attempt is taken out of the set in the same step, so dropping `next` loses none.
            finished = attempts.next() => match finished {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(failure)) => {
                    first_failure.get_or_insert(failure);
                }
                None => {
                    let nowhere = || TransportFailure::NoSuchHost { host: host.to_owned(), server: String::new() };
                    return Err(first_failure.unwrap_or_else(nowhere));
                }
            },
        }
    }
}

async fn open_one(address: SocketAddr, limit: Duration) -> Result<TcpStream, TransportFailure> {
    let failure = |problem: String| TransportFailure::Connect { address: address.to_string(), problem };
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            stream
                .set_nodelay(true)
                .map_err(|error| failure(format!("setsockopt: {}", describe_io(&error))))?;
            Ok(stream)
        }
        Ok(Err(error)) => Err(failure(format!("connect: {}", describe_io(&error)))),
        Err(_elapsed) => Err(failure("i/o timeout".to_owned())),
    }
}

fn authority_with_port(target: &Uri, host: &str) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("{host}:{}", port_of(target))
}

/// Asks a proxy to pass everything on to `authority` (RFC 9110, section 9.3.6).
async fn open_tunnel(
    mut io: Box<dyn Io>,
    proxy: &Proxy,
    authority: &str,
    limit: Duration,
) -> Result<Box<dyn Io>, TransportFailure> {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(authorization) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let exchange = async {
        io.write_all(&request).await?;
        io.flush().await?;
        // Byte by byte, because what follows the answer belongs to the tunnel already. It is short and sent once.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") && answer.len() < MAX_PROXY_ANSWER {
            answer.push(io.read_u8().await?);
        }
        io::Result::Ok(answer)
    };
    let answer = match timeout(limit, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return Err(TransportFailure::Proxy(format!("proxyconnect tcp: {}", describe_io(&error))));
        }
        Err(_elapsed) => return Err(TransportFailure::Proxy("proxyconnect tcp: i/o timeout".to_owned())),
    };
    let first_line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status =
        std::str::from_utf8(first_line).ok().and_then(|line| line.split_once(' ')).map(|(_, status)| status);
    match status {
        Some(status) if status.starts_with("2") => Ok(io),
        // Go reports the status text alone, such as "Proxy Authentication Required".
        Some(status) => {
            Err(TransportFailure::Proxy(status.split_once(' ').map_or(status, |(_, text)| text).to_owned()))
        }
        None => Err(TransportFailure::Proxy("malformed HTTP response from proxy".to_owned())),
    }
}

/// A cut connection in Go's words.
pub(crate) fn cut(error: &io::Error) -> TransportFailure {
    TransportFailure::Cut(match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => describe_io(error),
    })
}

/// The error of a body that ended before its time.
pub(crate) fn cut_short(method: &http::Method, uri: &Uri) -> crate::error::RegistryError {
    super::transport::failed(method, uri, TransportFailure::Cut("unexpected EOF".to_owned()))
}

/// An IO error in the words of the C library, without the number that Rust adds.
pub(crate) fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        io::ErrorKind::BrokenPipe => "broken pipe".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => {
            let text = error.to_string();
            match text.find(" (os error ") {
                Some(end) => text[..end].to_ascii_lowercase(),
                None => text,
            }
        }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = TransportFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(target).await.map(TokioIo::new) })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        // A proxied plain connection gets the whole address in the request line instead of the path.
        Connected::new().proxy(self.is_proxied)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

//! Where clients come in: unix sockets, TCP, TCP with TLS, and sockets that the service manager has opened.
//!
//! Start reading at [`bind`], then [`Listener::serve`]. What is served is any hyper service; this module knows no route. Each
//! connection is a task of the listener's; they end with the token, after the requests under way (connections that a client has
//! taken over end with their client).

mod first_line;
mod head_first;
mod sys;
mod tls;
mod unix;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use api_compat::PeerCertificate;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::first_line::FirstLine;
use self::head_first::{HeadFirst, Unread};
pub(crate) use self::unix::remove_stale;
use crate::config::{Config, HostAddress, TlsMode};

/// How long a client may take to send the head of a request, once it has begun.
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// Why the daemon cannot listen where it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The address cannot be taken.
    #[error("failed to load listeners: listen {protocol} {address}: bind: {source}")]
    Bind {
        /// `unix` or `tcp`.
        protocol: &'static str,
        /// Path or address.
        address: String,
        /// What the kernel says; part of the text, as Go has it.
        source: std::io::Error,
    },
    /// The group of the unix socket does not exist.
    #[error("failed to load listeners: could not find group {0}: group {0} not found")]
    NoSuchGroup(String),
    /// The service manager has passed no such socket.
    #[error(
        "failed to load listeners: no sockets found via socket activation: make sure the service was started by systemd"
    )]
    NotInherited,
    /// Certificates or keys cannot be used.
    #[error("failed to load listeners: {0}")]
    Tls(#[from] tls::TlsError),
}

/// One place where clients come in.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    /// For the log and for `info`.
    name: String,
}

enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener, TlsAcceptor),
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unix(_) => "Unix",
            Self::Tcp(_) => "Tcp",
            Self::Tls(..) => "Tls",
        })
    }
}

/// Opens every listener of the configuration, or none. Must be called within the runtime.
pub(crate) async fn bind(config: &Config) -> Result<Vec<Listener>, ListenError> {
    let acceptor = match config.tls.mode {
        TlsMode::Off => None,
        TlsMode::Server | TlsMode::Mutual => Some(tls::acceptor(&config.tls)?),
    };
    let mut inherited = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for host in &config.hosts {
        match host {
            HostAddress::Unix(path) => {
                let socket = unix::bind(path, &config.group)?;
                let name = format!("unix://{}", path.display());
                listeners.push(Listener { socket: Socket::Unix(socket), name });
            }
            HostAddress::Tcp(address) => {
                let bound = TcpListener::bind(address).await;
                let socket = bound.map_err(|source| ListenError::Bind {
                    protocol: "tcp",
                    address: address.clone(),
                    source,
                })?;
                listeners.push(Listener {
                    socket: with_tls(socket, acceptor.as_ref()),
                    name: format!("tcp://{address}"),
                });
            }
            HostAddress::Inherited(which) => {
                let found = inherit(&mut inherited, which, acceptor.as_ref());
                if found.is_empty() {
                    return Err(ListenError::NotInherited);
                }
                listeners.extend(found);
            }
        }
    }
    Ok(listeners)
}

/// Opens the listener for figures, which anybody may read who reaches it.
pub(crate) async fn bind_metrics(address: &str) -> Result<Listener, ListenError> {
    let bound = TcpListener::bind(address).await;
    let socket =
        bound.map_err(|source| ListenError::Bind { protocol: "tcp", address: address.to_owned(), source })?;
    Ok(Listener { socket: Socket::Tcp(socket), name: format!("tcp://{address}") })
}

fn with_tls(socket: TcpListener, acceptor: Option<&TlsAcceptor>) -> Socket {
    match acceptor {
        Some(acceptor) => Socket::Tls(socket, acceptor.clone()),
        None => Socket::Tcp(socket),
    }
}

/// Takes over what the service manager has passed (sd_listen_fds(3)): all, or the one with this number, counted from 3.
fn inherit(inherited: &mut listenfd::ListenFd, which: &str, acceptor: Option<&TlsAcceptor>) -> Vec<Listener> {
    let wanted: Option<usize> = which.trim_matches('/').parse().ok();
    let places = (0..inherited.len()).filter(|place| wanted.is_none_or(|wanted| wanted == place + 3));
    let mut listeners = Vec::new();
    for place in places {
        let name = format!("fd://{}", place + 3);
        let unix = inherited.take_unix_listener(place).ok().flatten();
        if let Some(socket) = unix.and_then(|socket| {
            socket.set_nonblocking(true).ok()?;
            UnixListener::from_std(socket).ok()
        }) {
            listeners.push(Listener { socket: Socket::Unix(socket), name });
            continue;
        }
        let tcp = inherited.take_tcp_listener(place).ok().flatten();
        if let Some(socket) = tcp.and_then(|socket| {
            socket.set_nonblocking(true).ok()?;
            TcpListener::from_std(socket).ok()
        }) {
            listeners.push(Listener { socket: with_tls(socket, acceptor), name });
        }
    }
    listeners
}

impl Listener {
    /// Where it listens, as the configuration says it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether anybody who reaches the port may command the engine.
    pub(crate) fn is_open_to_the_network(&self) -> bool {
        matches!(self.socket, Socket::Tcp(_))
    }

    /// Accepts connections until the token is cancelled. Connections are tracked, so that the caller can wait for them.
    pub(crate) async fn serve<S, B>(self, service: S, connections: TaskTracker, stop: CancellationToken)
    where
        S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let socket = Arc::new(self.socket);
        loop {
            let accepted = tokio::select! {
                // Dropping `accept` loses no connection: it stays in the kernel's queue.
                accepted = accept(&socket) => accepted,
                () = stop.cancelled() => return,
            };
            let connection = match accepted {
                Ok(connection) => connection,
                Err(error) => {
                    // Out of descriptors, or the peer is gone already. The next one may fare better, but not at once.
                    tracing::warn!(listener = self.name, %error, "connection could not be accepted");
                    tokio::select! {
                        // Nothing tells when descriptors are free again.
                        () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
                        () = stop.cancelled() => return,
                    }
                    continue;
                }
            };
            let (service, socket, stop) = (service.clone(), Arc::clone(&socket), stop.clone());
            connections.spawn(async move {
                match (connection, &*socket) {
                    (Connection::Unix(stream), _) => serve_one(stream, None, service, stop).await,
                    (Connection::Tcp(stream), Socket::Tls(_, acceptor)) => {
                        match acceptor.accept(stream).await {
                            Ok(stream) => {
                                let identity = tls::certificate_of(stream.get_ref().1);
                                serve_one(stream, identity, service, stop).await;
                            }
                            Err(error) => tracing::debug!(%error, "TLS handshake failed"),
                        }
                    }
                    (Connection::Tcp(stream), _) => serve_one(stream, None, service, stop).await,
                }
            });
        }
    }
}

enum Connection {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

async fn accept(socket: &Socket) -> std::io::Result<Connection> {
    match socket {
        Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
        Socket::Tcp(listener) | Socket::Tls(listener, _) => {
            let (stream, _peer): (_, SocketAddr) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Connection::Tcp(stream))
        }
    }
}

/// Serves one connection until it ends; when the daemon stops, after the request under way.
async fn serve_one<I, S, B>(stream: I, identity: Option<PeerCertificate>, service: S, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unread + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if let Some(identity) = &identity {
            request.extensions_mut().insert(identity.clone());
        }
        service.call(request)
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // Go's servers write header names in this form, and some clients compare them byte by byte.
    http.title_case_headers(true).timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let stream = FirstLine::new(HeadFirst::new(stream));
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        // The client went away in the middle, or does not speak HTTP: its business.
        tracing::debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests;

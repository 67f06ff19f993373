//! A connection to where a remote log is: opened, written to, closed by being dropped.
//!
//! Start reading at [`Connection::open`]. It does not open itself again: what to do after a failure is
//! `crate::logs::forward`'s. An error means that none, some or all of what was given to [`Connection::send`] has arrived.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use registry_client::trust::{self, ServerTrust};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram, UnixStream};
use tokio_rustls::TlsConnector;

use super::address::Verification;
use super::msgpack::{Receipt, receipt};
use super::{Endpoint, Messages, TlsFiles};

/// How long opening, or one sending, may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Where the machine's syslog may listen.
const LOCAL_SYSLOGS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// No receipt is longer.
const MAX_RECEIPT: usize = 4096;

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// An open connection.
pub(crate) struct Connection {
    way: Way,
}

enum Way {
    Udp(UdpSocket),
    Datagram(UnixDatagram),
    Stream(Box<dyn Stream>),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens a connection, within ten seconds.
    pub(crate) async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let way = limited(async {
            Ok(match endpoint {
                Endpoint::Udp(host) => Way::Udp(udp(host).await?),
                Endpoint::Tcp(host) => Way::Stream(Box::new(TcpStream::connect(host).await?)),
                Endpoint::Tls(host, files) => Way::Stream(Box::new(tls(host, files).await?)),
                Endpoint::UnixStream(path) => Way::Stream(Box::new(UnixStream::connect(path).await?)),
                Endpoint::UnixDatagram(path) => Way::Datagram(datagram(path)?),
                Endpoint::LocalSyslog => local_syslog().await?,
            })
        });
        way.await.map(|way| Self { way })
    }

    /// Sends messages; returns how many were too large for the socket and left out.
    pub(crate) async fn send(&mut self, messages: &Messages) -> io::Result<usize> {
        limited(async {
            match &mut self.way {
                Way::Stream(stream) => {
                    stream.write_all(&messages.bytes).await?;
                    stream.flush().await?;
                    if !messages.receipts.is_empty() {
                        await_receipts(stream, &messages.receipts).await?;
                    }
                    Ok(0)
                }
                Way::Udp(socket) => {
                    let mut n_left_out = 0;
                    for message in messages.iter() {
                        match socket.send(message).await {
                            // The other machine has said that nobody listened to the one before. That is as it is.
                            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                            outcome => n_left_out += count_too_large(outcome)?,
                        }
                    }
                    Ok(n_left_out)
                }
                Way::Datagram(socket) => {
                    let mut n_left_out = 0;
                    for message in messages.iter() {
                        n_left_out += count_too_large(socket.send(message).await)?;
                    }
                    Ok(n_left_out)
                }
            }
        })
        .await
    }
}

async fn limited<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(TIME_LIMIT, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn count_too_large(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Ok(_) => Ok(0),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => Ok(1),
        Err(error) => Err(error),
    }
}

async fn udp(host: &str) -> io::Result<UdpSocket> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for address in tokio::net::lookup_host(host).await? {
        let any: std::net::IpAddr = if address.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn datagram(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

async fn local_syslog() -> io::Result<Way> {
    for path in LOCAL_SYSLOGS.map(Path::new) {
        if let Ok(socket) = datagram(path) {
            return Ok(Way::Datagram(socket));
        }
        if let Ok(stream) = UnixStream::connect(path).await {
            return Ok(Way::Stream(Box::new(stream)));
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "Unix syslog delivery error"))
}

async fn tls(host: &str, files: &TlsFiles) -> io::Result<impl Stream + use<>> {
    let files = files.clone();
    let config = tokio::task::spawn_blocking(move || {
        let path = |path: &PathBuf| path.clone();
        trust::towards_server(&ServerTrust {
            ca_file: files.ca.as_ref().map(path),
            identity: files.identity.as_ref().map(|(certificate, key)| (path(certificate), path(key))),
            is_proven: files.verification == Verification::Demanded,
        })
    });
    let config = config.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let stream = TcpStream::connect(host).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Waits until each message is confirmed, in whatever order.
async fn await_receipts(stream: &mut Box<dyn Stream>, wanted: &[String]) -> io::Result<()> {
    let mut missing: std::collections::BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    let mut received = Vec::new();
    while !missing.is_empty() {
        let len = match receipt(&received) {
            Receipt::Whole(text, len) => {
                missing.remove(text);
                len
            }
            Receipt::Nonsense => return Err(io::Error::new(io::ErrorKind::InvalidData, "not a receipt")),
            Receipt::Incomplete if received.len() > MAX_RECEIPT => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a receipt without end"));
            }
            Receipt::Incomplete => {
                if stream.read_buf(&mut received).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
        };
        received.drain(..len);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{identity, line, options};
    use super::super::{FLUENTD, SYSLOG, Target};
    use super::*;

    async fn send(driver: &str, pairs: &[(&str, &str)], text: &str) -> io::Result<usize> {
        let target = Target::parse(driver, &options(pairs)).unwrap();
        let mut connection = Connection::open(&target.endpoint).await?;
        let mut messages = Messages::default();
        target.encoder(identity()).encode(line(text), &mut messages);
        connection.send(&messages).await
    }

    #[tokio::test]
    async fn datagrams_of_this_machine_arrive_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let address = format!("unixgram://{}", path.display());
        let socket = UnixDatagram::bind(&path).unwrap();
        assert_eq!(send(SYSLOG, &[("syslog-address", &address)], "hello").await.unwrap(), 0);
        let mut buffer = [0; 1024];
        let len = socket.recv(&mut buffer).await.unwrap();
        assert!(buffer[..len].ends_with(b": hello\n"));
        drop(socket);
        assert!(send(SYSLOG, &[("syslog-address", &address)], "hello").await.is_err());
    }

    #[tokio::test]
    async fn a_datagram_that_nobody_takes_is_no_failure() {
        let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let target = Endpoint::Udp(free.to_string());
        let mut connection = Connection::open(&target).await.unwrap();
        let mut messages = Messages::default();
        messages.push(|bytes| bytes.extend_from_slice(b"x"));
        for _ in 0..3 {
            assert_eq!(connection.send(&messages).await.unwrap(), 0);
        }
        messages.push(|bytes| bytes.resize(100_000, b'x'));
        assert_eq!(connection.send(&messages).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_receipt_is_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            for is_honest in [true, false] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 4096];
                let len = stream.read(&mut buffer).await.unwrap();
                if is_honest {
                    let receipt = [b"\x81\xa3ack\xb8", &buffer[len - 24..len]].concat();
                    stream.write_all(&receipt).await.unwrap();
                }
            }
        });
        let pairs = [("fluentd-address", address.as_str()), ("fluentd-request-ack", "true")];
        send(FLUENTD, &pairs, "hello").await.unwrap();
        assert_eq!(send(FLUENTD, &pairs, "hello").await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        server.await.unwrap();
    }
}

//! Listeners over real sockets with a service that answers everything with `OK`.
#![cfg(test)]

use std::path::Path;

use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::config::{Invocation, load, read_command_line};

fn config(arguments: &[&str]) -> Config {
    let all =
        ["--config-file", "/dev/null", "--group", ""].iter().chain(arguments).map(std::ffi::OsString::from);
    let Ok(Invocation::Run(line)) = read_command_line(all) else { panic!("{arguments:?}") };
    load(&line).unwrap()
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"OK"))))
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    // A TLS peer may leave without a closing message.
    let _ = stream.read_to_string(&mut text).await;
    text
}

struct Serving {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    connections: TaskTracker,
}

impl Serving {
    fn start(listener: Listener) -> Self {
        Self::start_with(listener, hyper::service::service_fn(answer))
    }

    fn start_with<S>(listener: Listener, service: S) -> Self
    where
        S: hyper::service::Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        let task = tokio::spawn(listener.serve(service, connections.clone(), stop.clone()));
        Self { stop, task, connections }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        self.connections.close();
        self.connections.wait().await;
    }
}

#[tokio::test]
async fn a_unix_socket_replaces_what_a_crash_has_left_and_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/shoal.sock");
    let host = format!("unix://{}", path.display());
    drop(bind(&config(&["-H", &host])).await.unwrap());
    assert!(path.exists(), "a closed listener leaves its file");
    let mut listeners = bind(&config(&["-H", &host])).await.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let serving = Serving::start(listeners.remove(0));
    let text = ask(tokio::net::UnixStream::connect(&path).await.unwrap()).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\r\nContent-Length: 2\r\n"), "{text}");
    serving.end().await;
}

/// On a runtime of one thread nobody runs between two sends of a task that does not wait.
#[tokio::test]
async fn a_client_of_a_unix_socket_reads_that_it_may_take_over_before_anything_is_written_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shoal.sock");
    let mut listeners = bind(&config(&["-H", &format!("unix://{}", path.display())])).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let hand_over = move |mut request: Request<Incoming>| {
        let (upgrade, tell) = (hyper::upgrade::on(&mut request), tell.clone());
        tokio::spawn(async move {
            let mut connection = TokioIo::new(upgrade.await.unwrap());
            tell.send("begins").unwrap();
            connection.write_all(b"output").await.unwrap();
            tell.send("has written").unwrap();
        });
        let answer = Response::builder().status(101).header("Connection", "Upgrade").header("Upgrade", "tcp");
        std::future::ready(Ok::<_, Infallible>(answer.body(Full::<Bytes>::default()).unwrap()))
    };
    let serving = Serving::start_with(listeners.remove(0), hyper::service::service_fn(hand_over));
    let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
    let request = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    client.write_all(request).await.unwrap();
    assert_eq!(told.recv().await, Some("begins"));
    assert!(told.try_recv().is_err(), "it was written before the head was read");
    let mut head = vec![0; 8192];
    let count = client.read(&mut head).await.unwrap();
    assert!(head[..count].ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&head[..count]));
    let mut output = String::new();
    client.read_to_string(&mut output).await.unwrap();
    assert_eq!((output.as_str(), told.recv().await), ("output", Some("has written")));
    serving.end().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = held.local_addr().unwrap();
    let error = bind(&config(&["-H", &format!("tcp://{address}")])).await.unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("failed to load listeners: listen tcp {address}: bind: "))
    );
}

#[tokio::test]
async fn an_unknown_group_is_refused_unless_it_is_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/s", dir.path().display());
    let mut config = config(&["-H", &host]);
    config.group = "no-such-group".to_owned();
    assert!(matches!(bind(&config).await, Err(ListenError::NoSuchGroup(_))));
}

/// A CA, and a certificate for `localhost` or a client signed by it, in files.
fn certificates(
    dir: &Path,
) -> (rustls::RootCertStore, Vec<CertificateDer>, rustls_pki_types::PrivateKeyDer<'static>) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().unwrap();
    let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = ca_params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca_params, ca_key);
    let make = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (certificate, key)
    };
    let (server, server_key) = make("localhost");
    std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), server.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), server_key.serialize_pem()).unwrap();
    let (client, client_key) = make("client");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(client_key.serialize_der()).unwrap();
    (roots, vec![client.der().clone()], key)
}

type CertificateDer = rustls_pki_types::CertificateDer<'static>;

#[tokio::test]
async fn with_tlsverify_only_clients_with_a_certificate_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (roots, chain, key) = certificates(dir.path());
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (ca, cert, own_key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let arguments = [
        "--tlsverify",
        "--tlscacert",
        &ca,
        "--tlscert",
        &cert,
        "--tlskey",
        &own_key,
        "-H",
        "tcp://127.0.0.1:0",
    ];
    let mut listeners = bind(&config(&arguments)).await.unwrap();
    let listener = listeners.remove(0);
    let Socket::Tls(socket, _) = &listener.socket else { panic!("{listener:?}") };
    let address = socket.local_addr().unwrap();
    let serving = Serving::start(listener);

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
    };
    let ask_with = async |client: rustls::ClientConfig| {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        match connector.connect("localhost".try_into().unwrap(), stream).await {
            Ok(stream) => ask(stream).await,
            Err(error) => error.to_string(),
        }
    };
    let known = ask_with(builder().with_client_auth_cert(chain, key).unwrap()).await;
    assert!(known.starts_with("HTTP/1.1 200 OK"), "{known}");
    let unknown = ask_with(builder().with_no_client_auth()).await;
    assert!(!unknown.contains("200 OK"), "{unknown}");
    serving.end().await;
}

#[tokio::test]
async fn a_missing_certificate_is_named() {
    let error = bind(&config(&["--tls", "--tlscert", "/nonexistent.pem", "-H", "tcp://127.0.0.1:0"]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("could not load X509 key pair (/nonexistent.pem)"), "{error}");
}

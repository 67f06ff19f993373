//! Whom the client believes, and what it says when it does not.

use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa};
use registry_client::testing::{FaultyRegistry, Gate, RawServer, TokenPolicy, TunnelProxy};
use registry_client::{Client, Credentials, ManifestTarget, Proxies, RegistryConfig, RegistryError};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use crate::certificates::{Issued, authority, issued_by, parameters, self_signed};
use crate::hosts::names;
use crate::support::{basic, image_ref, quick_client, quick_config, small_image};

/// The name by which the client knows the registry; the proxy leads it to loopback.
const HOST: &str = "reg.example";

fn server_config(server: &Issued, clients: Option<&Issued>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.der.clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    Arc::new(builder.with_single_cert(vec![server.der.clone()], server.private_key()).unwrap())
}

/// A secure registry, the proxy in front of it, and a certs.d directory.
struct Rig {
    registry: FaultyRegistry,
    proxy: TunnelProxy,
    dir: tempfile::TempDir,
    config: RegistryConfig,
}

impl Rig {
    async fn start(server: Arc<ServerConfig>) -> Self {
        let registry = FaultyRegistry::start_tls(server).await;
        registry.put_image("app", "1", &small_image("amd64"));
        let proxy = TunnelProxy::start(&registry.host()).await;
        let (dir, name_service) = names(&format!("192.0.2.1 {HOST}\n"));
        std::fs::create_dir_all(dir.path().join("certs.d").join(HOST)).unwrap();
        let config = RegistryConfig {
            certs_dirs: vec![dir.path().join("absent"), dir.path().join("certs.d")],
            proxies: Proxies { http: proxy.url(), https: proxy.url(), ..Proxies::default() },
            name_service,
            ..quick_config()
        };
        Self { registry, proxy, dir, config }
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.certs().join(name), content).unwrap();
    }

    fn certs(&self) -> std::path::PathBuf {
        Path::new(self.dir.path()).join("certs.d").join(HOST)
    }

    async fn fetch(&self) -> Result<(), RegistryError> {
        self.fetch_as(Credentials::Anonymous).await
    }

    async fn fetch_as(&self, credentials: Credentials) -> Result<(), RegistryError> {
        let client = Client::new(self.config.clone())?;
        let repository = client.repository(&image_ref(&format!("{HOST}/app")), credentials);
        repository.fetch_manifest(&ManifestTarget::Tag("1".to_owned())).await.map(drop)
    }

    async fn error(&self) -> String {
        self.fetch().await.unwrap_err().to_string()
    }
}

const UNKNOWN_AUTHORITY: &str = concat!(
    r#"Get "https://reg.example/v2/": tls: failed to verify certificate: "#,
    "x509: certificate signed by unknown authority"
);

#[tokio::test]
async fn an_authority_in_certs_d_or_in_a_file_is_trusted() {
    let authority = authority();
    let mut rig = Rig::start(server_config(&issued_by(&authority, &parameters(HOST)), None)).await;
    assert_eq!(rig.error().await, UNKNOWN_AUTHORITY);
    rig.write("ca.crt", &authority.1.pem);
    rig.fetch().await.unwrap();
    assert!(rig.proxy.heads().iter().all(|head| head.starts_with("CONNECT reg.example:443 HTTP/1.1\r\n")));

    std::fs::remove_file(rig.certs().join("ca.crt")).unwrap();
    assert_eq!(rig.error().await, UNKNOWN_AUTHORITY);
    let file = rig.dir.path().join("company.pem");
    std::fs::write(&file, &authority.1.pem).unwrap();
    rig.config.extra_ca_files = vec![file];
    rig.fetch().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_its_own_trusted_authority_is_believed() {
    // What `openssl req -x509` makes: one certificate that is both, which docker's documentation tells people to use.
    let mut own = parameters(HOST);
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = self_signed(&own);
    let rig = Rig::start(server_config(&own, None)).await;
    assert_eq!(rig.error().await, UNKNOWN_AUTHORITY);
    rig.write("domain.crt", &own.pem);
    rig.fetch().await.unwrap();
}

#[tokio::test]
async fn even_a_trusted_certificate_must_name_the_host_and_be_in_its_time() {
    for is_own_authority in [false, true] {
        let authority = authority();
        let issue = |mut parameters: CertificateParams| {
            if is_own_authority {
                parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                self_signed(&parameters)
            } else {
                issued_by(&authority, &parameters)
            }
        };
        let problem = async |server: Issued| {
            let rig = Rig::start(server_config(&server, None)).await;
            rig.write("ca.crt", &authority.1.pem);
            rig.write("own.crt", &server.pem);
            rig.error().await
        };
        let mut expired = parameters(HOST);
        expired.not_before = rcgen::date_time_ymd(2000, 1, 1);
        expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let text = problem(issue(expired)).await;
        assert!(
            text.ends_with("x509: certificate has expired or is not yet valid"),
            "{is_own_authority}: {text}"
        );
        let mut early = parameters(HOST);
        early.not_before = rcgen::date_time_ymd(2200, 1, 1);
        early.not_after = rcgen::date_time_ymd(2201, 1, 1);
        let text = problem(issue(early)).await;
        assert!(
            text.ends_with("x509: certificate has expired or is not yet valid"),
            "{is_own_authority}: {text}"
        );
        let text = problem(issue(parameters("other.example"))).await;
        let expected = "x509: certificate is valid for other.example, not reg.example";
        assert!(text.ends_with(expected), "{is_own_authority}: {text}");
    }
}

#[tokio::test]
async fn this_node_shows_its_own_certificate_if_it_has_one() {
    let (servers, clients) = (authority(), authority());
    let server = issued_by(&servers, &parameters(HOST));
    let rig = Rig::start(server_config(&server, Some(&clients.1))).await;
    rig.write("ca.crt", &servers.1.pem);
    let text = rig.error().await;
    assert!(text.ends_with("remote error: tls: certificate required"), "{text}");
    let client = issued_by(&clients, &parameters("this node"));
    rig.write("client.cert", &client.pem);
    let text = rig.error().await;
    assert_eq!(
        text,
        "missing key client.key for client certificate client.cert. CA certificates must use the extension .crt"
    );
    rig.write("client.key", &client.key.serialize_pem());
    rig.fetch().await.unwrap();
    std::fs::remove_file(rig.certs().join("client.cert")).unwrap();
    assert_eq!(rig.error().await, "missing client certificate client.cert for key client.key");
}

#[tokio::test]
async fn broken_certificate_files_are_named() {
    let authority = authority();
    let rig = Rig::start(server_config(&issued_by(&authority, &parameters(HOST)), None)).await;
    rig.write("ca.crt", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    let text = rig.error().await;
    assert!(text.contains("certs.d/reg.example/ca.crt: "), "{text}");
}

#[tokio::test]
async fn insecure_registries_may_have_any_certificate() {
    let registry =
        FaultyRegistry::start_tls(server_config(&self_signed(&parameters("whatever")), None)).await;
    registry.put_image("app", "1", &small_image("amd64"));
    let repository = quick_client().repository(&registry.image_ref("app"), Credentials::Anonymous);
    repository.fetch_manifest(&ManifestTarget::Tag("1".to_owned())).await.unwrap();
}

#[tokio::test]
async fn a_secure_registry_cannot_have_credentials_sent_over_an_open_line() {
    let authority = authority();
    let rig = Rig::start(server_config(&issued_by(&authority, &parameters(HOST)), None)).await;
    rig.write("ca.crt", &authority.1.pem);
    let realm = Some("http://token.example:8080/token".to_owned());
    rig.registry.set_gate(Gate::Token(TokenPolicy { realm, ..TokenPolicy::default() }));
    let error = rig.fetch_as(basic("user", "hunter2")).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::PlaintextCredentials(host) if host == "token.example:8080"),
        "{error}"
    );
    assert!(rig.proxy.heads().iter().all(|head| !head.contains("token.example")), "{:?}", rig.proxy.heads());
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_called_so() {
    let server = RawServer::start(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    let proxy = TunnelProxy::start(&server.host()).await;
    let (_dir, name_service) = names(&format!("192.0.2.1 {HOST}\n"));
    let proxies = Proxies { https: proxy.url(), ..Proxies::default() };
    let client = Client::new(RegistryConfig { proxies, name_service, ..quick_config() }).unwrap();
    let repository = client.repository(&image_ref("reg.example/app"), Credentials::Anonymous);
    let error = repository.fetch_manifest(&ManifestTarget::Tag("1".to_owned())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Get "https://reg.example/v2/": http: server gave HTTP response to HTTPS client"#
    );
}

//! A real registry (Debian's docker-registry) on the machine of a test: plain, with TLS, or with a password.
//!
//! [`fake`] is for what a real one does not do on demand: faults, odd manifests, token servers.

pub mod fake;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::condition::eventually;
use crate::machine::{INSIDE, Machine, OUTSIDE, OUTSIDE_NAME};
use crate::net::Place;
use crate::process::{Running, command, run};

/// User name the registry with a password knows.
pub const USER: &str = "keeper";
/// The password of [`USER`].
pub const PASSWORD: &str = "s3cret";

/// How a registry guards itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarding {
    /// Plain HTTP, open to all.
    Open,
    /// TLS with a certificate of the test's own authority.
    Tls,
    /// Plain HTTP, [`USER`] and [`PASSWORD`] asked for.
    Password,
}

/// A running registry. Dropping it ends it.
#[derive(Debug)]
pub struct Registry {
    /// `host:port` as it stands in image names.
    pub name: String,
    /// Where its blobs lie.
    pub storage: PathBuf,
    /// The certificate of the authority, for [`Guarding::Tls`].
    pub authority: Option<String>,
    process: Running,
}

impl Registry {
    /// Starts a registry beside the daemon, on loopback (plain) or on the neighbour by name (TLS).
    #[track_caller]
    #[must_use]
    pub fn start(machine: &Machine, guarding: Guarding) -> Self {
        Self::start_with(machine, guarding, None)
    }

    /// Starts an open registry on another machine that serves the same files as `other`.
    #[track_caller]
    #[must_use]
    pub fn start_on_files_of(other: &Self, machine: &Machine) -> Self {
        Self::start_with(machine, Guarding::Open, Some(&other.storage))
    }

    #[track_caller]
    fn start_with(machine: &Machine, guarding: Guarding, shared: Option<&Path>) -> Self {
        static PORT: AtomicU32 = AtomicU32::new(5000);
        let port = PORT.fetch_add(1, Ordering::Relaxed);
        let directory = machine.root().join(format!("registry-{port}"));
        let storage = shared.map_or_else(|| directory.join("storage"), Path::to_owned);
        fs::create_dir_all(&directory).expect("the registry's directory");
        fs::create_dir_all(&storage).expect("the registry's directory");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp:\n  addr: :{port}\n",
            storage.display()
        );
        let mut authority = None;
        match guarding {
            Guarding::Open => {}
            Guarding::Tls => {
                let certificates = certificates_for(OUTSIDE_NAME);
                let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
                fs::write(&certificate, &certificates.server).unwrap();
                fs::write(&key, &certificates.server_key).unwrap();
                config +=
                    &format!("  tls: {{certificate: {}, key: {}}}\n", certificate.display(), key.display());
                authority = Some(certificates.authority);
            }
            Guarding::Password => {
                let passwords = directory.join("htpasswd");
                let mut htpasswd = command("htpasswd");
                htpasswd.args(["-Bbn", USER, PASSWORD]);
                fs::write(&passwords, run(htpasswd, b"").ok()).unwrap();
                config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", passwords.display());
            }
        }
        let file = directory.join("config.yml");
        fs::write(&file, config).expect("the registry's configuration");
        let (mut server, place, address, host) = if guarding == Guarding::Tls {
            (machine.outside("docker-registry"), Place::outside(machine), OUTSIDE, OUTSIDE_NAME)
        } else {
            (machine.inside("docker-registry"), Place::inside(machine), "127.0.0.1", "127.0.0.1")
        };
        server.arg("serve").arg(&file).env("OTEL_TRACES_EXPORTER", "none");
        let process = Running::start(server);
        let address = format!("{address}:{port}");
        eventually("the registry listens", || place.connect(&address).ok());
        Self { name: format!("{host}:{port}"), storage, authority, process }
    }

    /// The registry's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Certificates of one small authority, in PEM.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate.
    pub authority: String,
    /// A certificate for a server.
    pub server: String,
    /// Its key.
    pub server_key: String,
    /// A certificate for a client.
    pub client: String,
    /// Its key.
    pub client_key: String,
}

/// Makes an authority, a server certificate for `host` and all addresses a test uses, and a client certificate.
#[must_use]
pub fn certificates_for(host: &str) -> Certificates {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
    let names = [host, "localhost", "127.0.0.1", INSIDE, OUTSIDE].map(str::to_owned);
    let leaf = |names: &[String]| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names of a certificate");
        (params.signed_by(&key, &authority).expect("a signature").pem(), key.serialize_pem())
    };
    let (server, server_key) = leaf(&names);
    let (client, client_key) = leaf(&["client".to_owned()]);
    Certificates { authority: authority.pem(), server, server_key, client, client_key }
}

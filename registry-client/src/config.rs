//! What the administrator says about registries: mirrors, insecure ones, certificates, proxies, limits.
//!
//! Start reading at [`RegistryConfig`]. The fields are daemon.json's and dockerd's flags, parsed and checked with
//! dockerd's texts where dockerd has them. This module reads no files and opens no connections; turning a registry's
//! name into endpoints by these settings is `hosts.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;

use crate::net::url::has_sane_port;

/// Docker Hub's name in references.
pub const DOCKER_HUB: &str = "docker.io";

/// Everything that is configurable about registries. The default is dockerd's, without proxies.
#[derive(Debug, Clone)]
pub struct RegistryConfig {
    /// For each registry (by the name in references, `docker.io` for Docker Hub) where to look first.
    pub mirrors: BTreeMap<String, Vec<Mirror>>,
    /// Registries that may speak plain HTTP or show certificates that nobody vouches for. The loopback networks
    /// `127.0.0.0/8` and `::1/128` count as listed, as in dockerd.
    pub insecure_registries: Vec<InsecureRegistry>,
    /// Directories with one directory per registry (`<host[:port]>/*.crt`, `*.cert` with `*.key`). Missing ones are fine.
    pub certs_dirs: Vec<PathBuf>,
    /// PEM files with certificate authorities to trust beside the system's, for all registries.
    pub extra_ca_files: Vec<PathBuf>,
    /// By which proxies registries are reached.
    pub proxies: Proxies,
    /// How much at once, and how often.
    pub limits: Limits,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// Where names are resolved.
    pub name_service: NameService,
    /// Where Docker Hub is.
    pub docker_hub: DockerHub,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            mirrors: BTreeMap::new(),
            insecure_registries: Vec::new(),
            certs_dirs: vec![PathBuf::from("/etc/docker/certs.d"), PathBuf::from("/etc/containers/certs.d")],
            extra_ca_files: Vec::new(),
            proxies: Proxies::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            user_agent: concat!("shoal/", env!("CARGO_PKG_VERSION")).to_owned(),
            name_service: NameService::default(),
            docker_hub: DockerHub::default(),
        }
    }
}

/// How much at once, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Blobs downloaded at once by one [`Repository`](crate::Repository) handle and its clones, that is by one pull
    /// (`max-concurrent-downloads`).
    pub downloads_per_pull: usize,
    /// Blobs downloaded at once by the whole client.
    pub downloads_overall: usize,
    /// Blobs uploaded at once by one handle and its clones, that is by one push (`max-concurrent-uploads`).
    pub uploads_per_push: usize,
    /// How often a transfer that gets nowhere is tried (`max-download-attempts`). An attempt that brought a mebibyte or
    /// more does not count.
    pub attempts: u32,
    /// Blobs larger than this are fetched over several connections at once, if the registry serves ranges.
    pub split_above: u64,
    /// How many connections fetch one such blob. Each holds up to 4 MiB in memory. Content networks limit the rate of
    /// a connection, not of a client; on loopback, where nothing does, three are about a tenth slower than one.
    pub connections_per_blob: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            downloads_per_pull: 3,
            downloads_overall: 24,
            uploads_per_push: 5,
            attempts: 5,
            split_above: 64 << 20,
            connections_per_blob: 3,
        }
    }
}

/// How long to wait for what. Zero is not "forever" but "at once".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TCP connection to one address.
    pub connect: Duration,
    /// For the TLS handshake.
    pub tls_handshake: Duration,
    /// For the head of a response after the request is sent.
    pub response: Duration,
    /// For the next byte of a body, in either direction. A stalled transfer counts as a cut connection.
    pub stall: Duration,
    /// How long an unused connection is kept.
    pub idle_connection: Duration,
    /// Pause before the first repetition; doubles each time, with jitter.
    pub first_retry: Duration,
    /// Longest pause between repetitions, and longest `Retry-After` that is obeyed; a longer one fails at once.
    pub longest_retry: Duration,
    /// For how long a mirror that failed to answer is passed over.
    pub mirror_rest: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            tls_handshake: Duration::from_secs(10),
            response: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            idle_connection: Duration::from_secs(30),
            first_retry: Duration::from_millis(500),
            longest_retry: Duration::from_secs(60),
            mirror_rest: Duration::from_secs(30),
        }
    }
}

/// Which files name resolution reads. They are read at every look-up, so changes take effect at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameService {
    /// Usually `/etc/hosts`.
    pub hosts: PathBuf,
    /// Usually `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl Default for NameService {
    fn default() -> Self {
        Self { hosts: PathBuf::from("/etc/hosts"), resolv_conf: PathBuf::from("/etc/resolv.conf") }
    }
}

/// The hosts behind the name `docker.io`. Other ones than Docker's are for installations that have a copy of the Hub,
/// and for tests; they are as secure as their names and addresses say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerHub {
    /// Serves images.
    pub registry: String,
    /// Serves searches.
    pub index: String,
}

impl Default for DockerHub {
    fn default() -> Self {
        Self { registry: "registry-1.docker.io".to_owned(), index: "index.docker.io".to_owned() }
    }
}

/// Proxies by scheme of the registry's address, in the form of the environment variables of the same names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// For `http` addresses; empty for none.
    pub http: String,
    /// For `https` addresses; empty for none.
    pub https: String,
    /// Comma-separated hosts, domains, addresses and networks that are reached directly. Loopback always is.
    pub no_proxy: String,
}

impl Proxies {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or their lower-case forms, as Go's httpproxy does.
    pub fn from_environment() -> Self {
        let read = |upper: &str, lower: &str| {
            let value = std::env::var(upper).ok().filter(|value| !value.is_empty());
            value.or_else(|| std::env::var(lower).ok()).unwrap_or_default()
        };
        Self {
            http: read("HTTP_PROXY", "http_proxy"),
            https: read("HTTPS_PROXY", "https_proxy"),
            no_proxy: read("NO_PROXY", "no_proxy"),
        }
    }
}

/// Why a setting is refused. Texts are dockerd's where it has them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A mirror without `http://` or `https://`.
    #[error("invalid mirror: no scheme specified for {0:?}: must use either 'https://' or 'http://'")]
    MirrorScheme(String),
    /// A mirror with another scheme.
    #[error(
        "invalid mirror: unsupported scheme {scheme:?} in {mirror:?}: must use either 'https://' or 'http://'"
    )]
    MirrorUnsupportedScheme {
        /// The scheme.
        scheme: String,
        /// The whole mirror.
        mirror: String,
    },
    /// A mirror that is no URI.
    #[error("invalid mirror: {0:?} is not a valid URI")]
    MirrorUri(String),
    /// A mirror with more than scheme, host and path.
    #[error("invalid mirror: query or fragment at end of the URI {0:?}")]
    MirrorQuery(String),
    /// A mirror with a user's name or password in it, which is not repeated.
    #[error("invalid mirror: username/password not allowed in URI {0:?}")]
    MirrorUserinfo(String),
    /// An insecure registry with a scheme in front.
    #[error("insecure registry {0} should not contain '://'")]
    InsecureScheme(String),
    /// An insecure registry that is neither a host nor a network.
    #[error("insecure registry {0} is not valid: invalid host {0:?}")]
    InsecureHost(String),
    /// An insecure registry whose name begins or ends with a hyphen.
    #[error("invalid index name ({0}). Cannot begin or end with a hyphen")]
    InsecureHyphen(String),
    /// A proxy that is no URI, or of a scheme that Shoal does not speak.
    #[error("invalid proxy {0:?}: must be an http:// or https:// URI")]
    Proxy(String),
}

/// Another place where a registry's content is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    uri: Uri,
}

impl Mirror {
    /// Reads `https://mirror.example[:port][/path]`.
    ///
    /// A path goes in front of `/v2/`, as in dockerd. A path that has a `/v2` component of its own is taken as it is,
    /// for registries that mirror under a project: `https://harbor.example/v2/hub-proxy`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| !scheme.is_empty());
        let Some(scheme) = scheme else { return Err(ConfigError::MirrorScheme(text.to_owned())) };
        if text.contains('#') {
            return Err(ConfigError::MirrorQuery(text.to_owned()));
        }
        let uri: Uri = text.parse().map_err(|_| ConfigError::MirrorUri(mask_userinfo(text)))?;
        let Some(authority) = uri.authority() else { return Err(ConfigError::MirrorUri(text.to_owned())) };
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(ConfigError::MirrorUnsupportedScheme {
                scheme: scheme.to_owned(),
                mirror: mask_userinfo(text),
            });
        }
        if uri.query().is_some() {
            return Err(ConfigError::MirrorQuery(mask_userinfo(text)));
        }
        if authority.as_str().contains('@') {
            return Err(ConfigError::MirrorUserinfo(mask_userinfo(text)));
        }
        if authority.host().is_empty() || !has_sane_port(authority) {
            return Err(ConfigError::MirrorUri(text.to_owned()));
        }
        Ok(Self { uri })
    }

    /// Scheme, host and path.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl fmt::Display for Mirror {
    /// With a slash at the end, as `docker info` lists mirrors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.uri.to_string();
        write!(f, "{}/", text.trim_end_matches('/'))
    }
}

/// A registry, or a network of them, that need not prove who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsecureRegistry {
    /// By the name in references, with the port if there is one.
    Host(String),
    /// All whose address is in a network.
    Network(IpNet),
}

impl InsecureRegistry {
    /// Reads `host`, `host:port` or a network such as `10.0.0.0/8`. A scheme in front is dropped as in dockerd.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.starts_with('-') || text.ends_with('-') {
            return Err(ConfigError::InsecureHyphen(text.to_owned()));
        }
        let host = match text.split_once("://") {
            Some((scheme, host)) if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => host,
            Some(_) => return Err(ConfigError::InsecureScheme(text.to_owned())),
            None => text,
        };
        if let Ok(network) = host.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        let is_bare_address = host.parse::<IpAddr>().is_ok();
        let is_host = host.parse::<http::uri::Authority>().is_ok_and(|authority| {
            has_sane_port(&authority) && !authority.host().is_empty() && !authority.as_str().contains('@')
        });
        if is_bare_address || is_host {
            Ok(Self::Host(host.to_owned()))
        } else {
            Err(ConfigError::InsecureHost(host.to_owned()))
        }
    }
}

/// Replaces the password in front of the host, so that it can be shown.
pub(crate) fn mask_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => {
            let user = rest[..at].split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:xxxxx@{}", &rest[at + 1..])
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_urls_of_registries() {
        for (text, shown) in [
            ("https://mirror.example", "https://mirror.example/"),
            ("http://10.0.0.1:5000/", "http://10.0.0.1:5000/"),
            ("https://m.example/a/b", "https://m.example/a/b/"),
        ] {
            assert_eq!(Mirror::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn wrong_mirrors_are_refused_with_dockers_texts() {
        for (text, message) in [
            (
                "m.example:5000",
                r#"invalid mirror: no scheme specified for "m.example:5000": must use either 'https://' or 'http://'"#,
            ),
            (
                "ftp://m",
                r#"invalid mirror: unsupported scheme "ftp" in "ftp://m": must use either 'https://' or 'http://'"#,
            ),
            ("http://m/?q", r#"invalid mirror: query or fragment at end of the URI "http://m/?q""#),
            ("http://m/#f", r#"invalid mirror: query or fragment at end of the URI "http://m/#f""#),
            (
                "http://u:secret@m/",
                r#"invalid mirror: username/password not allowed in URI "http://u:xxxxx@m/""#,
            ),
            ("http://m:port/", r#"invalid mirror: "http://m:port/" is not a valid URI"#),
            ("http://[::1", r#"invalid mirror: "http://[::1" is not a valid URI"#),
        ] {
            assert_eq!(Mirror::parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn insecure_registries_are_hosts_or_networks() {
        let host = |text: &str| Ok(InsecureRegistry::Host(text.to_owned()));
        assert_eq!(InsecureRegistry::parse("reg:5000"), host("reg:5000"));
        assert_eq!(InsecureRegistry::parse("http://reg:5000"), host("reg:5000"));
        assert_eq!(InsecureRegistry::parse("::1"), host("::1"));
        assert_eq!(
            InsecureRegistry::parse("10.1.2.3/8"),
            Ok(InsecureRegistry::Network("10.0.0.0/8".parse().unwrap()))
        );
        for text in ["-reg", "reg:port", "ftp://reg", "re g", "", "a@b"] {
            assert!(InsecureRegistry::parse(text).is_err(), "{text}");
        }
    }
}

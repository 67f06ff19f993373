//! Where the daemon listens, and how connections by TCP are secured.
//!
//! Start reading at [`hosts`] and [`tls`].

use std::path::PathBuf;

use super::{ConfigError, Settings};

/// Where the daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostAddress {
    /// A unix socket.
    Unix(PathBuf),
    /// A TCP address, `host:port`.
    Tcp(String),
    /// Sockets that the service manager has opened: all, or the one with this name or number.
    Inherited(String),
}

/// TLS of TCP listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    /// Whether, and how strictly.
    pub(crate) mode: TlsMode,
    /// CA that clients' certificates are checked against.
    pub(crate) ca: PathBuf,
    /// The daemon's certificate.
    pub(crate) certificate: PathBuf,
    /// The daemon's key.
    pub(crate) key: PathBuf,
}

/// Whether TCP listeners use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// They do not.
    Off,
    /// They do; anybody may come.
    Server,
    /// They do; clients show a certificate.
    Mutual,
}

/// Listeners in the order given, without repetition.
pub(super) fn hosts(settings: &Settings) -> Result<Vec<HostAddress>, ConfigError> {
    let mut texts = settings.list("hosts");
    if texts.is_empty() {
        texts.push("unix:///run/shoal.sock".to_owned());
    }
    let is_tls = tls(settings).mode != TlsMode::Off;
    let mut hosts = Vec::new();
    for text in texts {
        let host = parse_host(text.trim(), is_tls)?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

fn parse_host(text: &str, is_tls: bool) -> Result<HostAddress, ConfigError> {
    let invalid = || ConfigError::value(format!("invalid bind address ({text})"));
    let (protocol, address) = text.split_once("://").unwrap_or(("tcp", text));
    match protocol {
        "unix" if address.is_empty() => Ok(HostAddress::Unix("/run/shoal.sock".into())),
        "unix" => Ok(HostAddress::Unix(address.into())),
        "fd" => Ok(HostAddress::Inherited(address.to_owned())),
        "tcp" => {
            let port: u16 = if is_tls { 2376 } else { 2375 };
            let address = address.trim_end_matches('/');
            let (host, given) = match address.rsplit_once(':') {
                Some((host, given)) if !given.contains(']') => (host, Some(given)),
                _ => (address, None),
            };
            let host = if host.is_empty() { "localhost" } else { host };
            let port = match given {
                Some(given) if !given.is_empty() => given.parse().map_err(|_| invalid())?,
                _ => port,
            };
            Ok(HostAddress::Tcp(format!("{host}:{port}")))
        }
        _ => Err(invalid()),
    }
}

/// What the settings and the environment say about TLS.
pub(super) fn tls(settings: &Settings) -> TlsSettings {
    let from_environment = std::env::var_os("DOCKER_CERT_PATH").map(PathBuf::from);
    let home = || std::env::home_dir().unwrap_or_else(|| PathBuf::from("/root")).join(".docker");
    let directory = from_environment.unwrap_or_else(home);
    let verify_by_environment = std::env::var("DOCKER_TLS_VERIFY").is_ok_and(|value| !value.is_empty());
    let is_verify = settings.bool("tlsverify").unwrap_or(verify_by_environment);
    let mode = match (is_verify, settings.bool("tls").unwrap_or(false)) {
        (true, _) => TlsMode::Mutual,
        (false, true) => TlsMode::Server,
        (false, false) => TlsMode::Off,
    };
    let file = |name: &str, default: &str| {
        settings.text(name).map_or_else(|| directory.join(default), PathBuf::from)
    };
    TlsSettings {
        mode,
        ca: file("tlscacert", "ca.pem"),
        certificate: file("tlscert", "cert.pem"),
        key: file("tlskey", "key.pem"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::typed::tests::config;

    #[test]
    fn listeners_are_read_in_dockers_forms() {
        let hosts = |texts: &[&str]| {
            let arguments: Vec<&str> = texts.iter().flat_map(|text| ["-H", text]).collect();
            config(&arguments).map(|config| config.hosts)
        };
        assert_eq!(hosts(&[]).unwrap(), [HostAddress::Unix("/run/shoal.sock".into())]);
        assert_eq!(
            hosts(&["unix:///a", "tcp://:1", "0.0.0.0", "tcp://[::]:5", "fd://", "unix:///a"]).unwrap(),
            [
                HostAddress::Unix("/a".into()),
                HostAddress::Tcp("localhost:1".into()),
                HostAddress::Tcp("0.0.0.0:2375".into()),
                HostAddress::Tcp("[::]:5".into()),
                HostAddress::Inherited(String::new()),
            ]
        );
        assert!(hosts(&["ssh://x"]).is_err());
        assert!(hosts(&["tcp://a:99999"]).is_err());
    }

    #[test]
    fn a_tcp_listener_with_tls_has_another_default_port() {
        let config = config(&["--tlsverify", "-H", "tcp://0.0.0.0"]).unwrap();
        assert_eq!(config.hosts, [HostAddress::Tcp("0.0.0.0:2376".into())]);
        assert_eq!(config.tls.mode, TlsMode::Mutual);
    }
}

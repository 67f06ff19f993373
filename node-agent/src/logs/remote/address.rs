//! PURE but for one look at the disk. Where a remote log is.
//!
//! Start reading at [`split`].

use std::fmt;
use std::path::PathBuf;

/// Where entries are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Datagrams to a host and port.
    Udp(String),
    /// A stream to a host and port.
    Tcp(String),
    /// A stream to a host and port, encrypted.
    Tls(String, TlsFiles),
    /// A stream socket of this machine.
    UnixStream(PathBuf),
    /// A datagram socket of this machine.
    UnixDatagram(PathBuf),
    /// The machine's syslog, wherever it listens.
    LocalSyslog,
}

impl fmt::Display for Endpoint {
    /// As Go names what it dials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(host) => write!(f, "udp {host}"),
            Self::Tcp(host) | Self::Tls(host, _) => write!(f, "tcp {host}"),
            Self::UnixStream(path) => write!(f, "unix {}", path.display()),
            Self::UnixDatagram(path) => write!(f, "unixgram {}", path.display()),
            Self::LocalSyslog => f.write_str("syslog"),
        }
    }
}

/// Who is trusted, and who we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Authorities instead of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Whether the other side has to prove who it is.
    pub(crate) verification: Verification,
}

/// Whether the other side has to prove who it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Verification {
    /// It has.
    #[default]
    Demanded,
    /// Anybody will do.
    Skipped,
}

/// The schemes that Docker takes for addresses of logs.
const SCHEMES: [&str; 5] = ["tcp", "tcp+tls", "udp", "unix", "unixgram"];

/// Splits `scheme://rest` for one of Docker's schemes.
pub(crate) fn split(address: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    (SCHEMES.contains(&scheme) && !rest.is_empty()).then_some((scheme, rest))
}

/// The host and port of an address, without the path that may follow; `None` without a host.
pub(crate) fn host_and_port(rest: &str, default_port: Option<u16>) -> Option<String> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let has_port = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?.1.starts_with(':'),
        None => authority.contains(':'),
    };
    match (authority, has_port, default_port) {
        ("", ..) => None,
        (authority, true, _) => {
            let (_, port) = authority.rsplit_once(':')?;
            port.parse::<u16>().is_ok().then(|| authority.to_owned())
        }
        (authority, false, Some(port)) => Some(format!("{authority}:{port}")),
        (_, false, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_get_the_default_port_unless_they_name_one() {
        let cases = [
            ("host", Some("host:514")),
            ("host:1", Some("host:1")),
            ("10.0.0.1:99/path", Some("10.0.0.1:99")),
            ("[::1]", Some("[::1]:514")),
            ("[::1]:7", Some("[::1]:7")),
            ("host:many", None),
            ("", None),
        ];
        for (rest, expected) in cases {
            assert_eq!(host_and_port(rest, Some(514)).as_deref(), expected, "{rest}");
        }
        assert_eq!(host_and_port("host", None), None);
        assert_eq!(split("tcp+tls://h:1"), Some(("tcp+tls", "h:1")));
        assert_eq!(split("http://h"), None);
    }
}

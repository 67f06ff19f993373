//! PURE. The driver `syslog`: RFC 3164 and RFC 5424 as dockerd writes them.
//!
//! Start reading at [`parse`] and [`Encoder::encode`]. Times are those of the entries, not of the sending. Times without a zone
//! are the machine's, as everybody who reads such lines expects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use super::address::{self, Verification};
use super::{Endpoint, Format, Identity, Line, Messages, Opening, Target, TlsFiles, parse_bool};
use crate::api::streams::LogSource;
use crate::error::NodeError;

/// Options of this driver alone.
pub(super) const OPTIONS: [&str; 7] = [
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];

const DEFAULT_PORT: u16 = 514;
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
const DAEMON: u8 = 3;
const ERROR: u8 = 3;
const INFORMATION: u8 = 6;

/// What the options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    facility: u8,
    layout: Layout,
    framing: Framing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Without a host name, as the machine's own socket wants it.
    Unix,
    Rfc3164,
    Rfc5424(Precision),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    Seconds,
    Microseconds,
}

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// By the newline.
    Newline,
    /// By a length in front (RFC 5425).
    Length,
}

/// Understands the driver's options.
pub(super) fn parse(options: &BTreeMap<String, String>) -> Result<Target, NodeError> {
    let text = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
    let endpoint = endpoint(text("syslog-address"), options)?;
    let facility = facility(text("syslog-facility"))?;
    let layout = match text("syslog-format") {
        "" => Layout::Unix,
        "rfc3164" => Layout::Rfc3164,
        "rfc5424" => Layout::Rfc5424(Precision::Seconds),
        "rfc5424micro" => Layout::Rfc5424(Precision::Microseconds),
        _ => return Err(NodeError::invalid("Invalid syslog format")),
    };
    let is_secure = matches!(endpoint, Endpoint::Tls(..));
    let framing = match layout {
        Layout::Rfc5424(_) if is_secure => Framing::Length,
        _ => Framing::Newline,
    };
    let format = Format::Syslog(Options { facility, layout, framing });
    Ok(Target { endpoint, format, opening: Opening::Required })
}

fn endpoint(written: &str, options: &BTreeMap<String, String>) -> Result<Endpoint, NodeError> {
    if written.is_empty() {
        return Ok(Endpoint::LocalSyslog);
    }
    let wrong =
        || NodeError::invalid(format!("syslog-address should be in form proto://address, got {written}"));
    let (scheme, rest) = address::split(written).ok_or_else(wrong)?;
    if matches!(scheme, "unix" | "unixgram") {
        let path = PathBuf::from(rest);
        check_socket(&path)?;
        return Ok(if scheme == "unix" { Endpoint::UnixStream(path) } else { Endpoint::UnixDatagram(path) });
    }
    let host = address::host_and_port(rest, Some(DEFAULT_PORT)).ok_or_else(wrong)?;
    Ok(match scheme {
        "udp" => Endpoint::Udp(host),
        "tcp" => Endpoint::Tcp(host),
        _ => Endpoint::Tls(host, tls(options)?),
    })
}

/// A socket that is not there is a mistake of the request, seen at once.
fn check_socket(path: &Path) -> Result<(), NodeError> {
    let found = path.metadata();
    found.map(drop).map_err(|error| {
        let reason = node_runtime::errno_text(error.raw_os_error().unwrap_or_default());
        NodeError::invalid(format!("stat {}: {reason}", path.display()))
    })
}

fn tls(options: &BTreeMap<String, String>) -> Result<TlsFiles, NodeError> {
    let file = |key: &str| options.get(key).filter(|path| !path.is_empty()).map(PathBuf::from);
    // The mere presence of the option skips the check, as with dockerd, whatever it says; what says "false" is meant so.
    let is_skipped =
        options.contains_key("syslog-tls-skip-verify") && parse_bool("syslog-tls-skip-verify", options)?;
    Ok(TlsFiles {
        ca: file("syslog-tls-ca-cert"),
        identity: file("syslog-tls-cert").zip(file("syslog-tls-key")),
        verification: if is_skipped { Verification::Skipped } else { Verification::Demanded },
    })
}

fn facility(written: &str) -> Result<u8, NodeError> {
    if written.is_empty() {
        return Ok(DAEMON);
    }
    let named = FACILITIES.iter().find(|(name, _)| *name == written).map(|(_, number)| *number);
    let numbered = || written.parse::<u8>().ok().filter(|number| *number <= 23);
    named.or_else(numbered).ok_or_else(|| NodeError::invalid("invalid syslog facility"))
}

/// Writes messages.
#[derive(Debug)]
pub(crate) struct Encoder {
    options: Options,
    identity: Identity,
    pid: u32,
    zone: TimeZone,
}

impl Encoder {
    pub(super) fn new(options: Options, identity: Identity) -> Self {
        Self { options, identity, pid: std::process::id(), zone: local_zone() }
    }

    pub(super) fn encode(&mut self, line: Line<'_>, out: &mut Messages) {
        let severity = match line.source {
            LogSource::Stdout => INFORMATION,
            LogSource::Stderr => ERROR,
        };
        let priority = u32::from(self.options.facility) * 8 + u32::from(severity);
        let time = line.time.to_zoned(self.zone.clone());
        let Identity { tag, hostname, .. } = &self.identity;
        let pid = self.pid;
        let head = match self.options.layout {
            Layout::Unix => format!("<{priority}>{} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S")),
            Layout::Rfc3164 => {
                format!("<{priority}>{} {hostname} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S"))
            }
            Layout::Rfc5424(precision) => {
                let format = match precision {
                    Precision::Seconds => "%Y-%m-%dT%H:%M:%S%:z",
                    Precision::Microseconds => "%Y-%m-%dT%H:%M:%S%.6f%:z",
                };
                let stamp = time.strftime(format).to_string();
                // Go writes the zone of UTC as a letter.
                let stamp =
                    stamp.strip_suffix("+00:00").map_or_else(|| stamp.clone(), |stamp| format!("{stamp}Z"));
                format!("<{priority}>1 {stamp} {hostname} {tag} {pid} {tag} - ")
            }
        };
        let length = head.len() + line.text.len() + 1;
        out.push(|bytes| {
            if self.options.framing == Framing::Length {
                bytes.extend_from_slice(format!("{length} ").as_bytes());
            }
            bytes.extend_from_slice(head.as_bytes());
            bytes.extend_from_slice(line.text);
            bytes.push(b'\n');
        });
    }
}

/// The machine's time zone.
fn local_zone() -> TimeZone {
    let file = std::fs::read("/etc/localtime").ok();
    file.and_then(|bytes| TimeZone::tzif("Local", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{identity, line, options};
    use super::*;

    fn encoded(pairs: &[(&str, &str)], source: LogSource) -> String {
        let target = parse(&options(pairs)).unwrap();
        let Format::Syslog(options) = target.format else { panic!("another format") };
        let mut encoder = Encoder { options, identity: identity(), pid: 7, zone: TimeZone::UTC };
        let mut out = Messages::default();
        encoder.encode(Line { source, ..line("hello") }, &mut out);
        assert_eq!(out.ends, [out.bytes.len()]);
        String::from_utf8(out.bytes).unwrap()
    }

    #[test]
    fn messages_have_the_layout_that_was_asked_for() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[], "<30>Mar  9 08:07:06 0123456789ab[7]: hello\n"),
            (
                &[("syslog-format", "rfc3164"), ("syslog-facility", "local7")],
                "<190>Mar  9 08:07:06 machine 0123456789ab[7]: hello\n",
            ),
            (
                &[("syslog-format", "rfc5424"), ("syslog-facility", "1")],
                "<14>1 2026-03-09T08:07:06Z machine 0123456789ab 7 0123456789ab - hello\n",
            ),
            (
                &[("syslog-format", "rfc5424micro"), ("syslog-address", "tcp+tls://host")],
                "78 <30>1 2026-03-09T08:07:06.123456Z machine 0123456789ab 7 0123456789ab - hello\n",
            ),
        ];
        for (pairs, expected) in cases {
            assert_eq!(encoded(pairs, LogSource::Stdout), *expected, "{pairs:?}");
        }
        assert!(encoded(&[], LogSource::Stderr).starts_with("<27>"));
    }

    #[test]
    fn addresses_lead_where_they_say() {
        let at = |address: &str| parse(&options(&[("syslog-address", address)])).unwrap().endpoint;
        assert_eq!(at(""), Endpoint::LocalSyslog);
        assert_eq!(at("udp://host"), Endpoint::Udp("host:514".to_owned()));
        assert_eq!(at("tcp://host:1"), Endpoint::Tcp("host:1".to_owned()));
        assert_eq!(at("unix:///dev/null"), Endpoint::UnixStream("/dev/null".into()));
        assert_eq!(at("unixgram:///dev/null"), Endpoint::UnixDatagram("/dev/null".into()));
        assert!(matches!(at("tcp+tls://host:2"), Endpoint::Tls(host, _) if host == "host:2"));
    }
}

//! PURE. Log drivers that send entries elsewhere: what their options mean, and what an entry looks like on the wire.
//!
//! Start reading at [`Target::parse`], which serves the check of a container as well as its start, then [`Encoder`]. Each driver
//! has a file of its own; `address.rs` reads where to, `connection.rs` (the only part with IO) sends. When entries are
//! sent, and again after a failure, is `super::forward`.

mod address;
pub(crate) mod connection;
mod fluentd;
mod gelf;
mod journald;
mod msgpack;
mod partial;
mod syslog;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub(crate) use self::address::{Endpoint, TlsFiles};
pub(crate) use self::partial::{Ending, Part, Parts};
use super::settings;
use crate::api::streams::LogSource;
use crate::error::NodeError;

/// The machine's syslog, or one elsewhere.
pub(crate) const SYSLOG: &str = "syslog";
/// systemd's journal.
pub(crate) const JOURNALD: &str = "journald";
/// Fluentd's forward protocol.
pub(crate) const FLUENTD: &str = "fluentd";
/// Graylog's format.
pub(crate) const GELF: &str = "gelf";

/// Names of the drivers.
pub(crate) const DRIVERS: [&str; 4] = [FLUENTD, GELF, JOURNALD, SYSLOG];

/// Drivers of Docker that are not here, with the reason.
pub(crate) const REFUSED: [(&str, &str); 4] = [
    ("awslogs", "CloudWatch is reached through an agent: send to it by fluentd or syslog"),
    ("gcplogs", "Google Cloud Logging is reached through an agent: send to it by fluentd or syslog"),
    ("splunk", "Splunk is reached through its collector: send to it by fluentd or syslog"),
    ("etwlogs", "it exists on Windows only"),
];

/// Options that choose attributes and the tag, known to each of these drivers.
const ATTRIBUTE_OPTIONS: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];
/// The tag of a driver that says nothing else.
const DEFAULT_TAG: &str = "{{.ID}}";

/// Where a container's log is sent, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where to.
    pub(crate) endpoint: Endpoint,
    /// What the driver's own options say.
    format: Format,
    /// Whether a container may start while nobody listens there.
    pub(crate) opening: Opening,
}

/// What a start makes of nobody listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The container does not start.
    Required,
    /// It does; entries are sent when somebody listens.
    Later,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Format {
    Syslog(syslog::Options),
    Journald,
    Fluentd(fluentd::Options),
    Gelf(gelf::Options),
}

/// Whether a driver is one of these.
pub(crate) fn is_remote(driver: &str) -> bool {
    DRIVERS.contains(&driver)
}

impl Target {
    /// Understands the options of a driver of this module, or refuses them in Docker's words.
    pub(crate) fn parse(driver: &str, options: &BTreeMap<String, String>) -> Result<Self, NodeError> {
        let known: &[&str] = match driver {
            SYSLOG => &syslog::OPTIONS,
            FLUENTD => &fluentd::OPTIONS,
            GELF => &gelf::OPTIONS,
            _ => &[],
        };
        for key in options.keys().map(String::as_str) {
            let is_known =
                known.contains(&key) || ATTRIBUTE_OPTIONS.contains(&key) || settings::is_common(key);
            if !is_known {
                return Err(NodeError::invalid(format!("unknown log opt '{key}' for {driver} log driver")));
            }
        }
        match driver {
            SYSLOG => syslog::parse(options),
            FLUENTD => fluentd::parse(options),
            GELF => gelf::parse(options),
            _ => Ok(Self {
                endpoint: Endpoint::UnixDatagram(journald::SOCKET.into()),
                format: Format::Journald,
                opening: Opening::Required,
            }),
        }
    }

    /// What turns entries into bytes.
    pub(crate) fn encoder(&self, identity: Identity) -> Encoder {
        match &self.format {
            Format::Syslog(options) => Encoder::Syslog(syslog::Encoder::new(options.clone(), identity)),
            Format::Journald => Encoder::Journald(journald::Encoder::new(&identity)),
            Format::Fluentd(options) => Encoder::Fluentd(fluentd::Encoder::new(*options, identity)),
            Format::Gelf(options) => Encoder::Gelf(gelf::Encoder::new(*options, &identity)),
        }
    }
}

/// Whether the other side confirms what it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    /// It does not.
    None,
    /// It does, for each entry.
    Each,
}

/// What entries are told to be about.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The container's id.
    pub(crate) id: String,
    /// Its name, without slash.
    pub(crate) name: String,
    /// Its image as it was asked for.
    pub(crate) image: String,
    /// The image's id; empty without one.
    pub(crate) image_id: String,
    /// Program and arguments in one line.
    pub(crate) command: String,
    /// When the container was made.
    pub(crate) created: Timestamp,
    /// The machine's name.
    pub(crate) hostname: String,
    /// Chosen labels and variables.
    pub(crate) attributes: BTreeMap<String, String>,
    /// The tag.
    pub(crate) tag: String,
}

/// The tag that the options ask for.
pub(crate) fn tag_of(options: &BTreeMap<String, String>) -> &str {
    options.get("tag").map(String::as_str).filter(|tag| !tag.is_empty()).unwrap_or(DEFAULT_TAG)
}

/// One entry of a log on its way out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// What was written, without the newline.
    pub(crate) text: &'a [u8],
    /// Where it was written to.
    pub(crate) source: LogSource,
    /// When.
    pub(crate) time: Timestamp,
    /// Which part of a long line it is, if it is not a whole one.
    pub(crate) part: Option<Part>,
}

/// What is to be sent: one message after the other.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// All bytes.
    pub(crate) bytes: Vec<u8>,
    /// Where each message ends.
    pub(crate) ends: Vec<usize>,
    /// What will confirm each, if that was asked for.
    pub(crate) receipts: Vec<String>,
}

impl Messages {
    /// The messages one by one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    /// Adds one message.
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Forgets everything but the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.receipts.clear();
    }
}

/// Turns entries into messages of one driver.
#[derive(Debug)]
pub(crate) enum Encoder {
    /// RFC 3164, RFC 5424.
    Syslog(syslog::Encoder),
    /// systemd's native protocol.
    Journald(journald::Encoder),
    /// Fluentd's forward protocol.
    Fluentd(fluentd::Encoder),
    /// Graylog's JSON.
    Gelf(gelf::Encoder),
}

impl Encoder {
    /// Adds the messages of one entry; an entry that the format has no word for adds none.
    pub(crate) fn encode(&mut self, line: Line<'_>, out: &mut Messages) {
        match self {
            Self::Syslog(encoder) => encoder.encode(line, out),
            Self::Journald(encoder) => encoder.encode(line, out),
            Self::Fluentd(encoder) => encoder.encode(line, out),
            Self::Gelf(encoder) => encoder.encode(line, out),
        }
    }
}

/// Reads one of Go's notations of a truth value.
fn parse_bool(key: &str, options: &BTreeMap<String, String>) -> Result<bool, NodeError> {
    match options.get(key).map(String::as_str) {
        None | Some("") => Ok(false),
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
        Some(other) => Err(NodeError::invalid(format!(
            "invalid value for {key}: strconv.ParseBool: parsing {other:?}: invalid syntax"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What entries of tests are about.
    pub(super) fn identity() -> Identity {
        Identity {
            id: "0123456789abcdef0123".to_owned(),
            name: "web".to_owned(),
            image: "nginx:1".to_owned(),
            image_id: "sha256:fedcba".to_owned(),
            command: "nginx -g daemon".to_owned(),
            created: "2026-01-02T03:04:05.000000006Z".parse().unwrap(),
            hostname: "machine".to_owned(),
            attributes: [("team".to_owned(), "blue".to_owned())].into(),
            tag: "0123456789ab".to_owned(),
        }
    }

    pub(super) fn line(text: &str) -> Line<'_> {
        Line {
            text: text.as_bytes(),
            source: LogSource::Stdout,
            time: "2026-03-09T08:07:06.123456789Z".parse().unwrap(),
            part: None,
        }
    }

    pub(super) fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn options_are_refused_in_dockers_words() {
        type Pairs = &'static [(&'static str, &'static str)];
        let cases: &[(&str, Pairs, &str)] = &[
            (SYSLOG, &[("nope", "1")], "unknown log opt 'nope' for syslog log driver"),
            (
                JOURNALD,
                &[("syslog-format", "rfc5424")],
                "unknown log opt 'syslog-format' for journald log driver",
            ),
            (
                SYSLOG,
                &[("syslog-address", "host:514")],
                "syslog-address should be in form proto://address, got host:514",
            ),
            (SYSLOG, &[("syslog-address", "unix:///no/such")], "stat /no/such: no such file or directory"),
            (SYSLOG, &[("syslog-facility", "shells")], "invalid syslog facility"),
            (SYSLOG, &[("syslog-format", "gelf")], "Invalid syslog format"),
            (GELF, &[], "gelf-address is a required parameter"),
            (
                GELF,
                &[("gelf-address", "host:12201")],
                "gelf-address should be in form proto://address, got host:12201",
            ),
            (GELF, &[("gelf-address", "unix:///x")], "gelf: endpoint needs to be TCP or UDP"),
            (
                GELF,
                &[("gelf-address", "udp://host")],
                "gelf: please provide gelf-address as proto://host:port",
            ),
            (
                GELF,
                &[("gelf-address", "udp://h:1"), ("gelf-compression-type", "zip")],
                "unknown value \"zip\" for log opt \"gelf-compression-type\" for gelf log driver",
            ),
            (
                GELF,
                &[("gelf-address", "tcp://h:1"), ("gelf-compression-type", "gzip")],
                "compression is only supported on UDP",
            ),
            (FLUENTD, &[("fluentd-address", "ftp://h")], "unsupported scheme: 'ftp'"),
            (
                FLUENTD,
                &[("fluentd-async", "maybe")],
                "invalid value for fluentd-async: strconv.ParseBool: parsing \"maybe\": invalid syntax",
            ),
        ];
        for (driver, pairs, message) in cases {
            let refused = Target::parse(driver, &options(pairs)).unwrap_err();
            assert_eq!(refused.to_string(), *message, "{driver} {pairs:?}");
        }
    }

    #[test]
    fn common_options_are_known_to_all() {
        for driver in [SYSLOG, JOURNALD, FLUENTD] {
            let pairs = [
                ("tag", "x"),
                ("labels", "a"),
                ("env-regex", "^A"),
                ("mode", "non-blocking"),
                ("cache-disabled", "true"),
            ];
            assert!(Target::parse(driver, &options(&pairs)).is_ok(), "{driver}");
        }
    }
}

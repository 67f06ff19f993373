//! PURE. The driver `fluentd`: messages of the forward protocol, with receipts if they are asked for.
//!
//! Start reading at [`parse`] and [`Encoder::encode`]. Fields and options are dockerd's. Buffering and retrying are not the
//! client's here: entries wait in the container's own log until they are sent, so that the options about them only have
//! to be right.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::msgpack::Writer;
use super::partial::{Part, Position};
use super::{
    Acknowledgement, Endpoint, Format, Identity, Line, Messages, Opening, Target, TlsFiles, address,
    parse_bool,
};
use crate::api::streams::LogSource;
use crate::error::NodeError;

/// Options of this driver alone.
pub(super) const OPTIONS: [&str; 11] = [
    "fluentd-address",
    "fluentd-async",
    "fluentd-async-connect",
    "fluentd-async-reconnect-interval",
    "fluentd-buffer-limit",
    "fluentd-max-retries",
    "fluentd-request-ack",
    "fluentd-retry-wait",
    "fluentd-sub-second-precision",
    "fluentd-read-timeout",
    "fluentd-write-timeout",
];

const DEFAULT_ADDRESS: &str = "127.0.0.1:24224";
const DEFAULT_PORT: u16 = 24224;

/// What the options say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    precision: Precision,
    acknowledgement: Acknowledgement,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    Seconds,
    Nanoseconds,
}

/// Understands the driver's options.
pub(super) fn parse(options: &BTreeMap<String, String>) -> Result<Target, NodeError> {
    let is = |key| parse_bool(key, options);
    check_limits(options)?;
    let is_async = is("fluentd-async")? | is("fluentd-async-connect")?;
    let format = Options {
        precision: if is("fluentd-sub-second-precision")? {
            Precision::Nanoseconds
        } else {
            Precision::Seconds
        },
        acknowledgement: if is("fluentd-request-ack")? {
            Acknowledgement::Each
        } else {
            Acknowledgement::None
        },
    };
    let written = options.get("fluentd-address").map(String::as_str).unwrap_or_default();
    Ok(Target {
        endpoint: endpoint(written)?,
        format: Format::Fluentd(format),
        opening: if is_async { Opening::Later } else { Opening::Required },
    })
}

fn endpoint(written: &str) -> Result<Endpoint, NodeError> {
    if written.is_empty() {
        return Ok(Endpoint::Tcp(DEFAULT_ADDRESS.to_owned()));
    }
    let (scheme, rest) = written.split_once("://").unwrap_or(("tcp", written));
    if scheme == "unix" {
        if rest.is_empty() || rest == "/" {
            return Err(NodeError::invalid("path is empty"));
        }
        return Ok(Endpoint::UnixStream(rest.into()));
    }
    if !matches!(scheme, "tcp" | "tls") {
        return Err(NodeError::invalid(format!("unsupported scheme: '{scheme}'")));
    }
    if rest.contains('/') {
        return Err(NodeError::invalid(format!("should not contain a path element: {written}")));
    }
    // A port alone means this machine.
    let rest = if rest.starts_with(':') { format!("127.0.0.1{rest}") } else { rest.to_owned() };
    let host = address::host_and_port(&rest, Some(DEFAULT_PORT))
        .ok_or_else(|| NodeError::invalid(format!("invalid fluentd-address {written:?}")))?;
    Ok(if scheme == "tls" { Endpoint::Tls(host, TlsFiles::default()) } else { Endpoint::Tcp(host) })
}

/// Checks what has no effect here, so that a mistake is told all the same.
fn check_limits(options: &BTreeMap<String, String>) -> Result<(), NodeError> {
    let wrong =
        |key: &str, value: &str| Err(NodeError::invalid(format!("invalid value for {key}: {value:?}")));
    for (key, value) in options {
        let is_right = match key.as_str() {
            "fluentd-buffer-limit" => super::settings::parse_size(value).is_some(),
            "fluentd-max-retries" => value.parse::<u32>().is_ok(),
            "fluentd-async-reconnect-interval"
            | "fluentd-retry-wait"
            | "fluentd-read-timeout"
            | "fluentd-write-timeout" => is_duration(value),
            _ => true,
        };
        if !is_right {
            return wrong(key, value);
        }
    }
    Ok(())
}

/// Whether a text is one of Go's durations, such as `1m30s` or `500ms`.
fn is_duration(text: &str) -> bool {
    if text == "0" {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let unit_start = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(unit_start);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        if number.parse::<f64>().is_err() || !matches!(unit, "ns" | "us" | "µs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        rest = after;
    }
    !text.is_empty()
}

/// Writes messages.
#[derive(Debug)]
pub(crate) struct Encoder {
    options: Options,
    identity: Identity,
    name: String,
}

impl Encoder {
    pub(super) fn new(options: Options, identity: Identity) -> Self {
        let name = format!("/{}", identity.name);
        Self { options, identity, name }
    }

    pub(super) fn encode(&mut self, line: Line<'_>, out: &mut Messages) {
        let receipt = (self.options.acknowledgement == Acknowledgement::Each)
            .then(|| STANDARD.encode(rand::random::<[u8; 16]>()));
        out.push(|bytes| {
            let mut writer = Writer(bytes);
            writer.list(if receipt.is_some() { 4 } else { 3 });
            writer.text(self.identity.tag.as_bytes());
            match self.options.precision {
                Precision::Seconds => writer.integer(line.time.as_second()),
                Precision::Nanoseconds => {
                    writer.event_time(line.time.as_second(), line.time.subsec_nanosecond());
                }
            }
            self.record(line, &mut writer);
            if let Some(receipt) = &receipt {
                writer.map(1);
                writer.text(b"chunk");
                writer.text(receipt.as_bytes());
            }
        });
        out.receipts.extend(receipt);
    }

    fn record(&self, line: Line<'_>, writer: &mut Writer<'_>) {
        let source: &[u8] = match line.source {
            LogSource::Stdout => b"stdout",
            LogSource::Stderr => b"stderr",
        };
        let fixed: [(&str, &[u8]); 4] = [
            ("container_id", self.identity.id.as_bytes()),
            ("container_name", self.name.as_bytes()),
            ("source", source),
            ("log", line.text),
        ];
        let own = |key: &&str| fixed.iter().any(|(known, _)| known == key);
        let attributes = self.identity.attributes.iter().filter(|(key, _)| !own(&key.as_str()));
        let attributes: Vec<(&String, &String)> = attributes.collect();
        let parts = line.part.map(part_fields);
        writer.map(fixed.len() + attributes.len() + parts.as_ref().map_or(0, |parts| parts.len()));
        for (key, value) in attributes {
            writer.text(key.as_bytes());
            writer.text(value.as_bytes());
        }
        for (key, value) in fixed {
            writer.text(key.as_bytes());
            writer.text(value);
        }
        for (key, value) in parts.into_iter().flatten() {
            writer.text(key.as_bytes());
            writer.text(value.as_bytes());
        }
    }
}

fn part_fields(part: Part) -> [(&'static str, String); 4] {
    [
        ("partial_message", "true".to_owned()),
        ("partial_id", format!("{:032x}", part.id)),
        ("partial_ordinal", part.ordinal.to_string()),
        ("partial_last", (part.position == Position::Last).to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{identity, line, options};
    use super::*;

    fn messages(pairs: &[(&str, &str)], line: Line<'_>) -> Messages {
        let target = parse(&options(pairs)).unwrap();
        let Format::Fluentd(options) = target.format else { panic!("another format") };
        let mut out = Messages::default();
        Encoder::new(options, identity()).encode(line, &mut out);
        out
    }

    fn contains(bytes: &[u8], part: &[u8]) -> bool {
        bytes.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn a_message_is_tag_time_record() {
        let out = messages(&[], line("hello"));
        assert!(out.bytes.starts_with(b"\x93\xac0123456789ab\xd3"));
        for field in [
            &b"\x85\xa4team\xa4blue"[..],
            b"\xaccontainer_id\xb40123456789abcdef0123",
            b"\xaecontainer_name\xa4/web",
            b"\xa6source\xa6stdout",
            b"\xa3log\xa5hello",
        ] {
            assert!(contains(&out.bytes, field), "{field:?}");
        }
        assert!(out.receipts.is_empty());
    }

    #[test]
    fn options_choose_the_time_and_receipts() {
        let out = messages(
            &[("fluentd-sub-second-precision", "true"), ("fluentd-request-ack", "true")],
            line("hello"),
        );
        assert!(out.bytes.starts_with(b"\x94\xac0123456789ab\xd7\x00"));
        let [receipt] = out.receipts.as_slice() else { panic!("{:?}", out.receipts) };
        assert!(contains(&out.bytes, b"\xa5chunk\xb8"));
        assert!(out.bytes.ends_with(receipt.as_bytes()));
    }

    #[test]
    fn pieces_of_a_long_line_are_told() {
        let part = Some(Part { id: 0xab, ordinal: 2, position: Position::Last });
        let out = messages(&[], Line { part, ..line("rest") });
        assert!(contains(&out.bytes, b"\xafpartial_ordinal\xa12"));
        assert!(contains(&out.bytes, b"\xacpartial_last\xa4true"));
    }

    #[test]
    fn addresses_lead_where_they_say() {
        let at = |address: &str| parse(&options(&[("fluentd-address", address)])).unwrap().endpoint;
        assert_eq!(at(""), Endpoint::Tcp(DEFAULT_ADDRESS.to_owned()));
        assert_eq!(at("host"), Endpoint::Tcp("host:24224".to_owned()));
        assert_eq!(at("tcp://host:1"), Endpoint::Tcp("host:1".to_owned()));
        assert_eq!(at(":7"), Endpoint::Tcp("127.0.0.1:7".to_owned()));
        assert_eq!(at("unix:///run/f.sock"), Endpoint::UnixStream("/run/f.sock".into()));
        assert!(matches!(at("tls://host:2"), Endpoint::Tls(host, _) if host == "host:2"));
        assert!(["1s", "1m30s", "0", "1.5h", "500ms"].into_iter().all(is_duration));
        assert!(!["", "1", "s", "1d"].into_iter().any(is_duration));
    }
}

//! PURE. The driver `gelf`: Graylog's JSON, in datagrams (compressed and cut as the receiver wants it) or in a stream.
//!
//! Start reading at [`parse`] and [`Encoder::encode`]. The format is that of GELF 1.1; the fields are dockerd's.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Value, json};

use super::address;
use super::{Endpoint, Format, Identity, Line, Messages, Opening, Target};
use crate::api::streams::LogSource;
use crate::error::NodeError;

/// Options of this driver alone.
pub(super) const OPTIONS: [&str; 5] = [
    "gelf-address",
    "gelf-compression-level",
    "gelf-compression-type",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];

/// Datagrams above this are cut; it fits the payload of an Ethernet frame.
const CHUNK_LEN: usize = 1420;
const CHUNK_HEAD_LEN: usize = 12;
/// Receivers take no more pieces.
const MAX_CHUNKS: usize = 128;

/// What the options say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    transport: Transport,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Datagrams(Packing),
    /// Messages end with a zero byte and are never compressed.
    Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip(u32),
    Zlib(u32),
}

/// Understands the driver's options.
pub(super) fn parse(options: &BTreeMap<String, String>) -> Result<Target, NodeError> {
    let text = |key: &str| options.get(key).map(String::as_str);
    let written = text("gelf-address").unwrap_or_default();
    if written.is_empty() {
        return Err(NodeError::invalid("gelf-address is a required parameter"));
    }
    let (scheme, rest) = address::split(written).ok_or_else(|| {
        NodeError::invalid(format!("gelf-address should be in form proto://address, got {written}"))
    })?;
    if !matches!(scheme, "udp" | "tcp") {
        return Err(NodeError::invalid("gelf: endpoint needs to be TCP or UDP"));
    }
    let host = address::host_and_port(rest, None)
        .ok_or_else(|| NodeError::invalid("gelf: please provide gelf-address as proto://host:port"))?;
    let packing = packing(text("gelf-compression-type"), text("gelf-compression-level"))?;
    for key in ["gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"] {
        let Some(value) = text(key) else { continue };
        if scheme == "udp" {
            return Err(NodeError::invalid(format!("\"{key}\" is only valid for TCP")));
        }
        // Reconnecting goes on until it succeeds: entries wait in the container's own log meanwhile.
        value
            .parse::<u32>()
            .map_err(|_| NodeError::invalid(format!("\"{key}\" must be a positive integer")))?;
    }
    let (endpoint, transport) = if scheme == "udp" {
        (Endpoint::Udp(host), Transport::Datagrams(packing))
    } else {
        let is_asked = text("gelf-compression-type").is_some_and(|kind| kind != "none");
        if is_asked || text("gelf-compression-level").is_some() {
            return Err(NodeError::invalid("compression is only supported on UDP"));
        }
        (Endpoint::Tcp(host), Transport::Stream)
    };
    Ok(Target { endpoint, format: Format::Gelf(Options { transport }), opening: Opening::Required })
}

fn packing(kind: Option<&str>, level: Option<&str>) -> Result<Packing, NodeError> {
    let unknown = |value: &str, key: &str| {
        NodeError::invalid(format!("unknown value {value:?} for log opt {key:?} for gelf log driver"))
    };
    let level = match level {
        None | Some("-1") => 1,
        Some(text) => {
            let known = text.parse::<u32>().ok().filter(|level| *level <= 9);
            known.ok_or_else(|| unknown(text, "gelf-compression-level"))?
        }
    };
    match kind {
        None | Some("gzip") => Ok(Packing::Gzip(level)),
        Some("zlib") => Ok(Packing::Zlib(level)),
        Some("none") => Ok(Packing::Plain),
        Some(other) => Err(unknown(other, "gelf-compression-type")),
    }
}

/// Writes messages.
#[derive(Debug)]
pub(crate) struct Encoder {
    options: Options,
    /// What every message says.
    fields: Map<String, Value>,
}

impl Encoder {
    pub(super) fn new(options: Options, identity: &Identity) -> Self {
        let fixed = json!({
            "version": "1.1",
            "host": identity.hostname,
            "_container_id": identity.id,
            "_container_name": identity.name,
            "_image_id": identity.image_id,
            "_image_name": identity.image,
            "_command": identity.command,
            "_tag": identity.tag,
            "_created": identity.created.to_string(),
        });
        let mut fields = Map::new();
        for (key, value) in &identity.attributes {
            // The receiver keeps this name for itself.
            if key != "id" {
                fields.insert(format!("_{key}"), Value::String(value.clone()));
            }
        }
        if let Value::Object(fixed) = fixed {
            fields.extend(fixed);
        }
        Self { options, fields }
    }

    pub(super) fn encode(&mut self, line: Line<'_>, out: &mut Messages) {
        // The format demands a text.
        if line.text.is_empty() {
            return;
        }
        let level = match line.source {
            LogSource::Stdout => 6,
            LogSource::Stderr => 3,
        };
        // Floats hold milliseconds of today exactly, which is what the format asks for.
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit 53 bits")]
        let timestamp = line.time.as_millisecond() as f64 / 1000.0;
        self.fields.insert("short_message".to_owned(), String::from_utf8_lossy(line.text).into());
        self.fields.insert("timestamp".to_owned(), timestamp.into());
        self.fields.insert("level".to_owned(), level.into());
        // A map of texts and numbers can always be written.
        let Ok(message) = serde_json::to_vec(&self.fields) else { return };
        match self.options.transport {
            Transport::Stream => out.push(|bytes| {
                bytes.extend_from_slice(&message);
                bytes.push(0);
            }),
            Transport::Datagrams(packing) => cut(&pack(&message, packing), out),
        }
    }
}

/// Compresses; into memory that cannot fail.
fn pack(message: &[u8], packing: Packing) -> Vec<u8> {
    let packed = match packing {
        Packing::Plain => None,
        Packing::Gzip(level) => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(message).and_then(|()| encoder.finish()).ok()
        }
        Packing::Zlib(level) => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(message).and_then(|()| encoder.finish()).ok()
        }
    };
    packed.unwrap_or_else(|| message.to_vec())
}

/// Cuts a message into datagrams. One that would need too many is left out, as the receiver would.
fn cut(message: &[u8], out: &mut Messages) {
    if message.len() <= CHUNK_LEN {
        return out.push(|bytes| bytes.extend_from_slice(message));
    }
    let chunks = message.chunks(CHUNK_LEN - CHUNK_HEAD_LEN);
    let Ok(n_chunks) = u8::try_from(chunks.len()) else { return };
    if usize::from(n_chunks) > MAX_CHUNKS {
        return;
    }
    let id: [u8; 8] = rand::random();
    for (number, chunk) in (0..n_chunks).zip(chunks) {
        out.push(|bytes| {
            bytes.extend_from_slice(&[0x1e, 0x0f]);
            bytes.extend_from_slice(&id);
            bytes.extend_from_slice(&[number, n_chunks]);
            bytes.extend_from_slice(chunk);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::tests::{identity, line, options};
    use super::*;

    fn messages(pairs: &[(&str, &str)], text: &str) -> Messages {
        let target = parse(&options(pairs)).unwrap();
        let Format::Gelf(options) = target.format else { panic!("another format") };
        let mut out = Messages::default();
        Encoder::new(options, &identity()).encode(line(text), &mut out);
        out
    }

    #[test]
    fn a_stream_carries_plain_json_ended_by_zero() {
        let out = messages(&[("gelf-address", "tcp://h:1")], "hello");
        let (end, json) = out.bytes.split_last().unwrap();
        assert_eq!(*end, 0);
        let expected = json!({
            "version": "1.1", "host": "machine", "short_message": "hello", "timestamp": 1773043626.123, "level": 6,
            "_container_id": "0123456789abcdef0123", "_container_name": "web", "_image_id": "sha256:fedcba",
            "_image_name": "nginx:1", "_command": "nginx -g daemon", "_tag": "0123456789ab",
            "_created": "2026-01-02T03:04:05.000000006Z", "_team": "blue",
        });
        assert_eq!(serde_json::from_slice::<Value>(json).unwrap(), expected);
    }

    #[test]
    fn datagrams_are_compressed_as_asked() {
        let udp = ("gelf-address", "udp://h:1");
        let out = messages(&[udp], "hello");
        let mut json = String::new();
        flate2::read::GzDecoder::new(out.bytes.as_slice()).read_to_string(&mut json).unwrap();
        assert!(json.contains("\"short_message\":\"hello\""));
        let out =
            messages(&[udp, ("gelf-compression-type", "zlib"), ("gelf-compression-level", "9")], "hello");
        flate2::read::ZlibDecoder::new(out.bytes.as_slice()).read_to_string(&mut json).unwrap();
        let out = messages(&[udp, ("gelf-compression-type", "none")], "hello");
        assert!(out.bytes.starts_with(b"{"));
        assert!(messages(&[udp], "").ends.is_empty());
    }

    #[test]
    fn long_messages_are_cut_and_can_be_put_together() {
        let text = "x".repeat(10_000);
        let out = messages(&[("gelf-address", "udp://h:1"), ("gelf-compression-type", "none")], &text);
        assert!(out.ends.len() > 1);
        let mut whole = Vec::new();
        for (number, chunk) in out.iter().enumerate() {
            assert!(chunk.len() <= CHUNK_LEN && chunk.starts_with(&[0x1e, 0x0f]));
            assert_eq!((usize::from(chunk[10]), usize::from(chunk[11])), (number, out.ends.len()));
            whole.extend_from_slice(&chunk[CHUNK_HEAD_LEN..]);
        }
        assert!(serde_json::from_slice::<Value>(&whole).is_ok());
    }
}

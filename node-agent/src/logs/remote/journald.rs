//! PURE. The driver `journald`: systemd's native protocol, one datagram for an entry.
//!
//! Start reading at [`Encoder::encode`]. The protocol is that of systemd's `JOURNAL_NATIVE_PROTOCOL`, the fields are
//! dockerd's.

use super::partial::{Part, Position};
use super::{Identity, Line, Messages};
use crate::api::streams::LogSource;

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// Writes messages.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The fields of every message, as bytes.
    fields: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(identity: &Identity) -> Self {
        let mut fields = Vec::new();
        for (key, value) in &identity.attributes {
            if let Some(name) = field_name(key) {
                write_field(&mut fields, &name, value.as_bytes());
            }
        }
        let short = identity.id.get(..12).unwrap_or(&identity.id);
        for (name, value) in [
            ("CONTAINER_ID", short),
            ("CONTAINER_ID_FULL", &identity.id),
            ("CONTAINER_NAME", &identity.name),
            ("CONTAINER_TAG", &identity.tag),
            ("IMAGE_NAME", &identity.image),
            ("SYSLOG_IDENTIFIER", &identity.tag),
        ] {
            write_field(&mut fields, name, value.as_bytes());
        }
        Self { fields }
    }

    pub(super) fn encode(&mut self, line: Line<'_>, out: &mut Messages) {
        let priority: &[u8] = match line.source {
            LogSource::Stdout => b"6",
            LogSource::Stderr => b"3",
        };
        out.push(|bytes| {
            write_field(bytes, "MESSAGE", line.text);
            write_field(bytes, "PRIORITY", priority);
            write_field(bytes, "SYSLOG_TIMESTAMP", line.time.to_string().as_bytes());
            bytes.extend_from_slice(&self.fields);
            if let Some(part) = line.part {
                write_part(bytes, part);
            }
        });
    }
}

fn write_part(bytes: &mut Vec<u8>, part: Part) {
    write_field(bytes, "CONTAINER_PARTIAL_ID", format!("{:032x}", part.id).as_bytes());
    write_field(bytes, "CONTAINER_PARTIAL_ORDINAL", part.ordinal.to_string().as_bytes());
    let is_last = part.position == Position::Last;
    write_field(bytes, "CONTAINER_PARTIAL_LAST", is_last.to_string().as_bytes());
    if !is_last {
        write_field(bytes, "CONTAINER_PARTIAL_MESSAGE", b"true");
    }
}

/// A name that the journal takes: capitals, digits and underscores, not beginning with an underscore.
fn field_name(key: &str) -> Option<String> {
    let name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    let name = name.trim_start_matches('_');
    (!name.is_empty()).then(|| name.to_owned())
}

/// A value with a newline is written with its length, any other as it is.
fn write_field(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value);
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::tests::{identity, line};
    use super::*;

    #[test]
    fn an_entry_has_dockers_fields() {
        let mut out = Messages::default();
        let mut identity = identity();
        identity.attributes.insert("_my.key".to_owned(), "two\nlines".to_owned());
        Encoder::new(&identity).encode(line("hello"), &mut out);
        let expected = b"MESSAGE=hello\nPRIORITY=6\nSYSLOG_TIMESTAMP=2026-03-09T08:07:06.123456789Z\n\
            MY_KEY\n\x09\0\0\0\0\0\0\0two\nlines\nTEAM=blue\nCONTAINER_ID=0123456789ab\n\
            CONTAINER_ID_FULL=0123456789abcdef0123\nCONTAINER_NAME=web\nCONTAINER_TAG=0123456789ab\n\
            IMAGE_NAME=nginx:1\nSYSLOG_IDENTIFIER=0123456789ab\n";
        assert_eq!(String::from_utf8_lossy(&out.bytes), String::from_utf8_lossy(expected));
    }
}

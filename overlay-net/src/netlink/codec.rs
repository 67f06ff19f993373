//! Netlink messages as bytes: a writer for requests and a reader for attributes. PURE.
//!
//! Start reading at [`Batch::message`]. One codec serves all three families that this crate speaks (rtnetlink,
//! nf_tables, conntrack); the sockets are in `socket.rs`. Format: include/uapi/linux/netlink.h; everything is in host
//! byte order, aligned to four bytes, and every length excludes the padding after it.

use std::ops::Range;

/// `NLM_F_REQUEST`
pub(crate) const REQUEST: u16 = 0x001;
/// `NLM_F_ACK`
pub(crate) const ACK: u16 = 0x004;
/// `NLM_F_DUMP`
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`
pub(crate) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
pub(crate) const APPEND: u16 = 0x800;

/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;
/// Size of `struct nlmsghdr`.
pub(crate) const HEADER_LEN: usize = 16;

/// Several messages that go to the kernel in one system call.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    messages: Vec<Range<usize>>,
}

impl Batch {
    /// Adds a message with its family header and its attributes.
    ///
    /// Sequence numbers count the messages of the batch from one, so that a reply names the message it answers.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        let sequence = u32::try_from(self.messages.len() + 1).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        attributes(&mut Attributes { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.messages.push(start..self.bytes.len());
    }

    /// How many messages were added.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bytes to send.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes attributes behind a message's header, or inside another attribute.
#[derive(Debug)]
pub(crate) struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// An attribute with raw content.
    pub(crate) fn bytes(&mut self, kind: u16, content: &[u8]) {
        // Contents here are names, addresses and keys; none comes near the 64 KiB that the length can say.
        let length = u16::try_from(content.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(content);
        pad(self.bytes);
    }

    /// Attributes as they were received.
    pub(crate) fn raw(&mut self, attributes: &[u8]) {
        self.bytes.extend_from_slice(attributes);
        pad(self.bytes);
    }

    /// A text with its terminating zero.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        let mut content = Vec::with_capacity(text.len() + 1);
        content.extend_from_slice(text.as_bytes());
        content.push(0);
        self.bytes(kind, &content);
    }

    /// A byte.
    pub(crate) fn byte(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// A number in host byte order, as rtnetlink wants it.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A number in network byte order, as netfilter wants it.
    pub(crate) fn network_number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute that holds others; its content may start with a header of its own.
    pub(crate) fn nest(&mut self, kind: u16, header: &[u8], attributes: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        self.bytes.extend_from_slice(header);
        pad(self.bytes);
        attributes(&mut Attributes { bytes: self.bytes });
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// One message received from the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// Its flags.
    pub(crate) flags: u16,
    /// The sequence number of the request that it answers.
    pub(crate) sequence: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

/// Splits a datagram into messages; a malformed rest is left out.
pub(crate) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let payload = datagram.get(HEADER_LEN..length)?;
        let message = Received {
            kind: u16_at(datagram, 4)?,
            flags: u16_at(datagram, 6)?,
            sequence: u32_at(datagram, 8)?,
            payload,
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Splits attributes; a malformed rest is left out.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND_MASK;
        let content = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content))
    })
}

/// The content of the first attribute of that kind.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, content)| content)
}

/// A text without its terminating zero.
pub(crate) fn text(content: &[u8]) -> String {
    let end = content.iter().position(|&byte| byte == 0).unwrap_or(content.len());
    String::from_utf8_lossy(&content[..end]).into_owned()
}

/// A 32-bit number in host byte order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A 32-bit number in network byte order.
pub(crate) fn network_u32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut batch = Batch::default();
        batch.message(16, ACK, &[1, 2, 3], |attributes| {
            attributes.text(3, "eth0");
            attributes.nest(18, &[], |nested| {
                nested.number(1, 1500);
                nested.byte(2, 7);
            });
        });
        batch.message(17, 0, &[], |_| {});
        let read: Vec<_> = messages(batch.as_bytes()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (16, ACK | REQUEST, 1));
        let rest = &read[0].payload[4..];
        assert_eq!(text(attribute(rest, 3).unwrap()), "eth0");
        let nested = attribute(rest, 18).unwrap();
        assert_eq!(u32_at(attribute(nested, 1).unwrap(), 0), Some(1500));
        assert_eq!(attribute(nested, 2), Some(&[7u8][..]));
        assert_eq!((read[1].kind, read[1].sequence, read[1].payload.len()), (17, 2, 0));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            for message in messages(&bytes) {
                for (_, content) in attributes(message.payload) {
                    let _ = attributes(content).count();
                }
            }
        }
    }
}

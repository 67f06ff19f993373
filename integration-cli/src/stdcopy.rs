//! The frames in which a daemon multiplexes the output of a container without a terminal.
//!
//! Eight bytes of header: stream number, three zeros, payload length big endian.

use std::io::{ErrorKind, Read};

/// One frame of a multiplexed stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// 0 stdin, 1 stdout, 2 stderr, 3 an error of the daemon.
    pub stream: u8,
    /// What the container wrote, cut wherever the daemon likes.
    pub payload: Vec<u8>,
}

/// Output of a container, told apart by stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demuxed {
    /// All of stream 1.
    pub stdout: String,
    /// All of stream 2.
    pub stderr: String,
}

/// Reads one frame; `None` at a clean end of the stream. Panics on a torn or malformed frame.
pub fn read_frame(from: &mut dyn Read) -> Option<Frame> {
    let mut header = [0u8; 8];
    let mut filled = 0;
    while filled < header.len() {
        match from.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return None,
            Ok(0) => panic!("stream ends inside a frame header after {:?}", &header[..filled]),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("reading a frame header: {error}"),
        }
    }
    assert!(header[0] <= 3 && header[1..4] == [0, 0, 0], "not a frame header: {header:?}");
    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut payload)
        .unwrap_or_else(|error| panic!("a frame of {length} bytes is cut short: {error}"));
    Some(Frame { stream: header[0], payload })
}

/// Reads frames until the stream ends.
pub fn read_frames(from: &mut dyn Read) -> Vec<Frame> {
    std::iter::from_fn(|| read_frame(from)).collect()
}

/// Joins the payloads of stdout and of stderr; an error frame of the daemon fails the test.
#[must_use]
pub fn demux(frames: &[Frame]) -> Demuxed {
    let mut joined = Demuxed::default();
    for frame in frames {
        let text = String::from_utf8_lossy(&frame.payload);
        match frame.stream {
            1 => joined.stdout.push_str(&text),
            2 => joined.stderr.push_str(&text),
            other => panic!("frame of stream {other}: {text}"),
        }
    }
    joined
}

/// Reads a multiplexed stream to its end and tells its two streams apart.
pub fn read_all(mut from: impl Read) -> Demuxed {
    demux(&read_frames(&mut from))
}

#[cfg(test)]
mod tests {
    use super::{Demuxed, read_all, read_frames};

    #[test]
    fn frames_are_told_apart_by_stream() {
        let bytes = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01!\x01\0\0\0\0\0\0\x01.".as_slice();
        assert_eq!(read_frames(&mut &*bytes).len(), 3);
        assert_eq!(read_all(bytes), Demuxed { stdout: "hi.".to_owned(), stderr: "!".to_owned() });
    }

    #[test]
    #[should_panic(expected = "ends inside a frame header")]
    fn a_torn_header_fails() {
        read_frames(&mut b"\x01\0\0".as_slice());
    }
}

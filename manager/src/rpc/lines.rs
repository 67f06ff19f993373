//! A body as a sequence of JSON values, one a line.
//!
//! Start reading at [`JsonLines`].

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use crate::error::ClusterError;

/// Longest line that is accepted, in bytes: a node's whole set of assignments with its secrets and configs.
const MAX_LINE: usize = 256 << 20;

/// Reads values from a body.
#[derive(Debug)]
pub(crate) struct JsonLines {
    body: Incoming,
    buffer: BytesMut,
    /// How far the buffer is known to hold no line end.
    searched: usize,
}

impl JsonLines {
    /// Reads from the body's beginning.
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next value; `None` at the end. Cancel-safe: what has arrived stays in the buffer.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Option<Result<T, ClusterError>> {
        match self.next_line().await? {
            Ok(line) => Some(serde_json::from_slice(&line).map_err(broken)),
            Err(source) => Some(Err(source)),
        }
    }

    /// The next line, without its end.
    pub(crate) async fn next_line(&mut self) -> Option<Result<Bytes, ClusterError>> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Some(Ok(line));
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_LINE {
                return Some(Err(broken("a line is too long")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(source)) => return Some(Err(broken(source))),
                None if self.buffer.is_empty() => return None,
                None => return Some(Err(broken("it ends within a line"))),
            }
        }
    }
}

/// `value` as a line.
pub(crate) fn encode_line<T: serde::Serialize>(value: &T) -> Result<Bytes, ClusterError> {
    let mut line = serde_json::to_vec(value).map_err(broken)?;
    line.push(b'\n');
    Ok(line.into())
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is handed over, as in map_err")]
fn broken(source: impl ToString) -> ClusterError {
    ClusterError::Unreachable(format!("the stream is broken: {}", source.to_string()))
}

//! Answers that go on: logs, progress, events, statistics.
//!
//! Start reading at [`JsonFraming`], how JSON objects follow each other; the formats are in the files beside this one.

pub(crate) mod events;
pub(crate) mod logs;
pub(crate) mod progress;

use bytes::Bytes;
use http::HeaderValue;
use serde::Serialize;

use crate::extract::Call;
use crate::reply::BodyError;

/// Room for an object of statistics, the largest that comes often.
const USUAL_LEN: usize = 4 << 10;

/// How JSON objects follow each other in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonFraming {
    /// By newlines, announced as plain JSON: what every version knows.
    Plain,
    /// By newlines, announced as such.
    Lines,
    /// The same under its other name.
    NdJson,
    /// Each between a record separator and a newline (RFC 7464).
    Sequence,
}

impl JsonFraming {
    /// The framing that a client accepts, `default` if it does not say.
    pub(crate) fn accepted(call: &Call, default: Self) -> Self {
        let accepts = call.header("accept").split(',').map(|part| part.split(';').next().unwrap_or_default());
        accepts
            .filter_map(|media_type| match media_type.trim() {
                "application/jsonl" => Some(Self::Lines),
                "application/x-ndjson" => Some(Self::NdJson),
                "application/json-seq" => Some(Self::Sequence),
                _ => None,
            })
            .next()
            .unwrap_or(default)
    }

    /// The content type to announce.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Plain => "application/json",
            Self::Lines => "application/jsonl",
            Self::NdJson => "application/x-ndjson",
            Self::Sequence => "application/json-seq",
        })
    }

    /// One object with what stands around it.
    pub(crate) fn frame<T: Serialize>(self, value: &T) -> Result<Bytes, BodyError> {
        let mut text = Vec::with_capacity(USUAL_LEN);
        if self == Self::Sequence {
            text.push(0x1e);
        }
        serde_json::to_writer(&mut text, value)?;
        text.push(b'\n');
        Ok(text.into())
    }
}

//! Reading a container's log.
//!
//! Start reading at [`logs`].

use futures_util::StreamExt as _;
use http::{HeaderValue, StatusCode};
use node_agent::api::streams::LogQuery;

use super::attach::stream_type;
use crate::error::ApiError;
use crate::extract::{Call, parse_unix_time};
use crate::reply::{self, Body, BodyError, Outcome};
use crate::stream::JsonFraming;
use crate::stream::logs::{Frames, LineHead, LogWriter, as_json, failure_as_json};

pub(super) async fn logs(call: Call) -> Outcome {
    let query = query(&call)?;
    let head = LineHead { timestamps: call.query.flag("timestamps"), details: call.query.flag("details") };
    let framing = json_framing(&call);
    let frames = if query.follow { Frames::PerEntry } else { Frames::Joined };
    let logs = call.shared.state.node.streams.logs(call.name(), query).await?;
    if let Some(framing) = framing {
        let body = logs.batches.map(move |batch| match batch {
            Ok(batch) => as_json(&batch, framing, head),
            Err(error) => failure_as_json(&error.message(), framing),
        });
        return Ok(reply::with_type(StatusCode::OK, framing.content_type(), Body::from_stream(body)));
    }
    let mut writer = LogWriter::new(logs.tty, frames, head);
    let body = logs.batches.map(move |batch| match batch {
        Ok(batch) => Ok::<_, BodyError>(writer.write(&batch)),
        Err(error) => Ok(writer.failure(&error.message())),
    });
    let content_type = HeaderValue::from_static(stream_type(logs.tty, call.version));
    Ok(reply::with_type(StatusCode::OK, content_type, Body::from_stream(body)))
}

fn query(call: &Call) -> Result<LogQuery, ApiError> {
    let flag = |name: &str| call.query.flag(name);
    if !flag("stdout") && !flag("stderr") {
        return Err(ApiError::invalid("must specify at least one of 'stdout' or 'stderr'"));
    }
    let time = |name: &str| call.query.some_text(name).map(|text| parse_unix_time(&text)).transpose();
    Ok(LogQuery {
        stdout: flag("stdout"),
        stderr: flag("stderr"),
        follow: flag("follow"),
        since: time("since")?,
        // Zero is how clients say that they have no end in mind.
        until: time("until")?.filter(|time| time.as_nanosecond() != 0),
        // Whatever is no number means everything.
        tail: call.query.text("tail").parse().ok(),
    })
}

/// Whether entries are wanted as JSON objects, which came with 1.54.
fn json_framing(call: &Call) -> Option<JsonFraming> {
    if call.version.is_below(54) {
        return None;
    }
    let accepted = JsonFraming::accepted(call, JsonFraming::Plain);
    match (call.query.text("format"), accepted) {
        ("json", JsonFraming::Plain) => Some(JsonFraming::Lines),
        (_, JsonFraming::Plain) => None,
        (_, framing) => Some(framing),
    }
}

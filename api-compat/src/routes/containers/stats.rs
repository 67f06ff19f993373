//! What a container uses: statistics and processes.
//!
//! Start reading at [`stats`].

use futures_util::StreamExt as _;
use http::StatusCode;
use node_agent::api::streams::StatsMode;

use crate::convert;
use crate::error::ApiError;
use crate::extract::Call;
use crate::model::container_summary::ContainerTopResponse;
use crate::reply::{self, Body, JSON, Outcome};
use crate::stream::JsonFraming;

pub(super) async fn stats(call: Call) -> Outcome {
    let is_stream = call.query.flag_unless_absent("stream");
    let is_one_shot = call.version.is_from(41) && call.query.flag("one-shot");
    let mode = match (is_stream, is_one_shot) {
        (true, true) => return Err(ApiError::invalid("cannot have stream=true and one-shot=true")),
        (true, false) => StatsMode::Stream,
        (false, true) => StatsMode::OneShot,
        (false, false) => StatsMode::Once,
    };
    let version = call.version;
    let mut samples = call.shared.state.node.streams.stats(call.name(), mode).await?;
    if mode != StatsMode::Stream {
        let Some(sample) = samples.next().await else {
            return Err(ApiError::internal("the container's statistics ended before they began"));
        };
        return reply::json(&convert::container_stats::stats(&sample?, version));
    }
    let body = samples
        .map(move |sample| JsonFraming::Plain.frame(&convert::container_stats::stats(&sample?, version)));
    Ok(reply::with_type(StatusCode::OK, JSON, Body::from_stream(body)))
}

pub(super) async fn top(call: Call) -> Outcome {
    let args = call.query.some_text("ps_args").unwrap_or_else(|| "-ef".to_owned());
    let table = call.shared.state.node.views.top(call.name(), &args).await?;
    reply::json(&ContainerTopResponse { titles: table.titles, processes: table.processes })
}

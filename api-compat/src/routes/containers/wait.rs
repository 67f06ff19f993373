//! Waiting for a container.
//!
//! Start reading at [`wait`]. The interest is registered before the headers are sent, and the headers before the wait:
//! `docker run` starts the container once it has seen them. A client that goes away drops the body, and with it the
//! interest.

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::StatusCode;
use node_agent::NodeError;
use node_agent::api::containers::{ExitReport, WaitCondition};

use crate::error::ApiError;
use crate::extract::Call;
use crate::json;
use crate::model::container_summary::{ContainerWaitExitError, ContainerWaitResponse};
use crate::reply::{self, Body, BodyError, JSON, Outcome};

pub(super) async fn wait(call: Call) -> Outcome {
    let condition = condition(&call)?;
    let exit = call.shared.state.node.containers.wait(call.name(), condition).await?;
    let body = stream::once(exit.map(encode));
    Ok(reply::with_type(StatusCode::OK, JSON, Body::from_stream(body)))
}

fn condition(call: &Call) -> Result<WaitCondition, ApiError> {
    // Conditions came with 1.30; before, every wait was for the container not to run.
    if call.version.is_below(30) {
        return Ok(WaitCondition::NotRunning);
    }
    match call.query.text("condition") {
        "" | "not-running" => Ok(WaitCondition::NotRunning),
        "next-exit" => Ok(WaitCondition::NextExit),
        "removed" => Ok(WaitCondition::Removed),
        other => Err(ApiError::invalid(format!("invalid condition: {other:?}"))),
    }
}

fn encode(outcome: Result<ExitReport, NodeError>) -> Result<Bytes, BodyError> {
    let report = outcome.unwrap_or_else(|error| ExitReport { code: 0, error: Some(error.message()) });
    let response = ContainerWaitResponse {
        status_code: i64::from(report.code),
        error: report.error.map(|message| ContainerWaitExitError { message }),
    };
    Ok(json::encode(&response)?.into())
}

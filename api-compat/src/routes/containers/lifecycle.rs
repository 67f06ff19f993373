//! Start, stop, restart, kill, pause, unpause, rename, remove.
//!
//! Start reading at [`start`].

use node_agent::api::containers::{OfRunning, OfVolumes, RemoveOptions, RemoveTarget, StopOptions};

use super::checkpoints;
use crate::error::ApiError;
use crate::extract::Call;
use crate::reply::{self, Outcome};

/// Longest body that a start may have. Very old clients sent `{}` or `null` there, and some still do.
const MAX_START_BODY: u64 = 7;

pub(super) async fn start(call: Call) -> Outcome {
    if call.is_chunked() || call.content_length().is_some_and(|length| length > MAX_START_BODY) {
        return Err(ApiError::invalid(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if let Some(checkpoint) = call.query.some_text("checkpoint") {
        return checkpoints::restore(call, checkpoint).await;
    }
    if call.query.some_text("checkpoint-dir").is_some() {
        return Err(ApiError::new(
            shoal_types::ErrorKind::Forbidden,
            "custom checkpointdir is not supported",
        ));
    }
    call.shared.state.node.containers.start(call.name()).await?;
    Ok(reply::no_content())
}

/// The parameters that stop and restart share. The signal came with 1.42 and was ignored before.
fn stop_options(call: &Call) -> Result<StopOptions, ApiError> {
    let signal = call.query.some_text("signal").filter(|_| call.version.is_from(42));
    Ok(StopOptions { signal, timeout: call.query.integer("t")? })
}

pub(super) async fn stop(call: Call) -> Outcome {
    let options = stop_options(&call)?;
    call.shared.state.node.containers.stop(call.name(), options).await?;
    Ok(reply::no_content())
}

pub(super) async fn restart(call: Call) -> Outcome {
    let options = stop_options(&call)?;
    call.shared.state.node.containers.restart(call.name(), options).await?;
    Ok(reply::no_content())
}

pub(super) async fn kill(call: Call) -> Outcome {
    let signal = call.query.some_text("signal");
    call.shared.state.node.containers.kill(call.name(), signal.as_deref()).await?;
    Ok(reply::no_content())
}

pub(super) async fn pause(call: Call) -> Outcome {
    call.shared.state.node.containers.pause(call.name()).await?;
    Ok(reply::no_content())
}

pub(super) async fn unpause(call: Call) -> Outcome {
    call.shared.state.node.containers.unpause(call.name()).await?;
    Ok(reply::no_content())
}

pub(super) async fn rename(call: Call) -> Outcome {
    let new_name = call.query.text("name");
    if new_name.is_empty() {
        return Err(ApiError::invalid("Neither old nor new names may be empty"));
    }
    call.shared.state.node.containers.rename(call.name(), new_name).await?;
    Ok(reply::no_content())
}

pub(super) async fn remove(call: Call) -> Outcome {
    let flag = |name: &str| call.query.flag(name);
    let options = RemoveOptions {
        running: if flag("force") { OfRunning::Kill } else { OfRunning::Refuse },
        volumes: if flag("v") { OfVolumes::RemoveAnonymous } else { OfVolumes::Keep },
        target: if flag("link") { RemoveTarget::Link } else { RemoveTarget::Container },
    };
    call.shared.state.node.containers.remove(call.name(), options).await?;
    Ok(reply::no_content())
}

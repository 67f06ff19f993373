//! Checkpoints: states of running containers on disk, and starts from them. Experimental, as in Docker.
//!
//! Start reading at [`routes`]. A start from a checkpoint is an ordinary start with a parameter more, see `lifecycle.rs`.
//!
//! Docker answers a checkpoint that exists, or does not, with 500; here it is 409 and 404, in its words.

use std::path::PathBuf;

use http::StatusCode;
use node_agent::api::checkpoints::{AfterCheckpoint, CheckpointName, CheckpointWish};

use crate::error::ApiError;
use crate::extract::Call;
use crate::model::checkpoint::{Checkpoint, CheckpointCreate};
use crate::reply::{self, Outcome};
use crate::route::{Route, delete, get, post};

/// Docker's answer where experimental features are off.
const EXPERIMENTAL: &str = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it.";

/// The operations on checkpoints.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        get("/containers/{id}/checkpoints", list)
            .about("CheckpointList", "Lists checkpoints; experimental.")
            .text("dir", "Where they are, if not with the container.")
            .gives::<Vec<Checkpoint>>(200)
            .fails(&[400, 404, 501]),
        post("/containers/{id}/checkpoints", create)
            .about("CheckpointCreate", "Writes the state of a running container down; experimental.")
            .takes::<CheckpointCreate>()
            .gives_nothing(201)
            .fails(&[400, 404, 409, 501]),
        delete("/containers/{id}/checkpoints/{checkpoint}", remove)
            .about("CheckpointDelete", "Removes a checkpoint; experimental.")
            .text("dir", "Where it is, if not with the container.")
            .gives_nothing(204)
            .fails(&[400, 404, 501]),
    ]
}

fn require_experimental(call: &Call) -> Result<(), ApiError> {
    if call.shared.state.daemon.experimental { Ok(()) } else { Err(ApiError::not_implemented(EXPERIMENTAL)) }
}

async fn list(call: Call) -> Outcome {
    require_experimental(&call)?;
    let root = root(call.query.some_text("dir"))?;
    let names = call.shared.state.node.checkpoints.checkpoints(call.name(), root).await?;
    reply::json(&names.into_iter().map(|name| Checkpoint { name }).collect::<Vec<_>>())
}

async fn create(mut call: Call) -> Outcome {
    require_experimental(&call)?;
    let body: CheckpointCreate = call.json().await?;
    let root = Some(body.checkpoint_dir).filter(|directory| !directory.is_empty());
    let wish = CheckpointWish {
        checkpoint: checkpoint(body.checkpoint_id, root)?,
        after: if body.exit { AfterCheckpoint::Exit } else { AfterCheckpoint::Run },
    };
    call.shared.state.node.checkpoints.checkpoint(call.name(), wish).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

async fn remove(call: Call) -> Outcome {
    require_experimental(&call)?;
    let checkpoint = checkpoint(call.second_name().to_owned(), call.query.some_text("dir"))?;
    call.shared.state.node.checkpoints.remove_checkpoint(call.name(), checkpoint).await?;
    Ok(reply::no_content())
}

/// Starts a container from a checkpoint. With a directory of the client's as well, which Docker writes checkpoints into and
/// refuses to start from.
pub(super) async fn restore(call: Call, name: String) -> Outcome {
    let checkpoint = checkpoint(name, call.query.some_text("checkpoint-dir"))?;
    if !call.shared.state.daemon.experimental {
        return Err(ApiError::invalid("checkpoint is only supported in experimental mode"));
    }
    call.shared.state.node.checkpoints.restore(call.name(), checkpoint).await?;
    Ok(reply::no_content())
}

fn checkpoint(name: String, given: Option<String>) -> Result<CheckpointName, ApiError> {
    if !is_id(&name) {
        return Err(ApiError::invalid(format!(
            "invalid checkpoint ID {name:?}, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    Ok(CheckpointName { name, root: root(given)? })
}

fn root(given: Option<String>) -> Result<Option<PathBuf>, ApiError> {
    let Some(root) = given.map(PathBuf::from) else { return Ok(None) };
    if root.is_absolute() {
        return Ok(Some(root));
    }
    Err(ApiError::invalid(format!("checkpoint directory {root:?} is not absolute")))
}

/// Whether a checkpoint may be called so: it becomes the name of a directory.
fn is_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.len() > 1
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        && !text.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::is_id;

    #[test]
    fn a_checkpoint_is_called_like_a_container_and_does_not_end_in_a_dot() {
        for (text, expected) in [
            ("first", true),
            ("a.b-c_1", true),
            ("../outside", false),
            ("a", false),
            ("ab.", false),
            ("", false),
        ] {
            assert_eq!(is_id(text), expected, "{text:?}");
        }
    }
}

//! Commands run in a container beside its init process.
//!
//! Start reading at [`routes`].

use std::sync::Arc;

use http::StatusCode;
use node_agent::api::execs::ExecStart;
use node_agent::api::streams::Framing;

use crate::convert;
use crate::error::ApiError;
use crate::extract::Call;
use crate::hijack;
use crate::model::IdResponse;
use crate::model::exec::{ExecCreate, ExecInspect, ExecStart as StartBody};
use crate::reply::{self, Outcome};
use crate::route::ParamKind::Integer;
use crate::route::{BodyKind, Route, get, post};
use crate::routes::containers::{stream_type, terminal_size};

/// The operations on commands.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        post("/containers/{id}/exec", create)
            .about("ContainerExec", "Prepares a command in a running container.")
            .takes::<ExecCreate>()
            .gives::<IdResponse>(201)
            .fails(&[400, 404, 409]),
        get("/exec/{id}/json", inspect)
            .about("ExecInspect", "Shows what is known of a command.")
            .gives::<ExecInspect>(200)
            .fails(&[404]),
        post("/exec/{id}/resize", resize)
            .about("ExecResize", "Sets the size of a command's terminal.")
            .query("h", Integer, "Height in characters.")
            .query("w", Integer, "Width in characters.")
            .gives_nothing(200)
            .fails(&[400, 404]),
        post("/exec/{id}/start", start)
            .about("ExecStart", "Runs a command, and attaches to it unless it is to be detached.")
            .takes::<StartBody>()
            .gives_body(101, BodyKind::Hijack)
            .gives_body(200, BodyKind::Bytes(hijack::RAW_STREAM))
            .fails(&[400, 404, 409]),
    ]
}

async fn create(mut call: Call) -> Outcome {
    let body: ExecCreate = call.json().await?;
    let spec = convert::exec::spec(body, call.version)?;
    let id = call.shared.state.node.execs.create(call.name(), spec).await?;
    reply::json_with(StatusCode::CREATED, &IdResponse { id: id.to_string() })
}

async fn inspect(call: Call) -> Outcome {
    let view = call.shared.state.node.execs.inspect(call.name()).await?;
    reply::json(&convert::exec::inspect(&view))
}

async fn resize(call: Call) -> Outcome {
    let (height, width) = terminal_size(&call)?;
    call.shared.state.node.execs.resize(call.name(), height, width).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn start(mut call: Call) -> Outcome {
    let body: StartBody = call.json().await?;
    let execs = &call.shared.state.node.execs;
    if body.detach {
        execs.start_detached(call.name()).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    let content_type = stream_type(body.tty, call.version);
    let options = ExecStart {
        framing: if body.tty { Framing::Raw } else { Framing::Multiplexed },
        console_size: convert::exec::console_size(body.console_size, body.tty, call.version),
    };
    // What is wrong before the command is run is the request's failure.
    execs.check_start(call.name()).await?;
    let (execs, id) = (Arc::clone(execs), call.name().to_owned());
    let start = async move {
        // A command that could not be executed is told as its output; its exit code says 126 or 127.
        let told = |error: ApiError| hijack::message(&format!("{}\r\n", error.message()), options.framing);
        execs.start(&id, options).await.map_err(ApiError::from).unwrap_or_else(told)
    };
    Ok(match call.upgrade.take() {
        Some(upgrade) => hijack::take_over_first(upgrade, start, content_type),
        None => hijack::take_over(None, start.await, content_type),
    })
}

//! Attaching to a container's standard streams.
//!
//! Start reading at [`attach`]. Every failure is told on the connection itself, as plain text without the usual headers,
//! because clients of old take the connection over before they look.

use node_agent::api::streams::{AttachRequest, Framing, Replay};

use crate::convert;
use crate::error::ApiError;
use crate::extract::Call;
use crate::hijack::{self, MULTIPLEXED_STREAM, RAW_STREAM};
use crate::reply::{self, Outcome};
use crate::version::ApiVersion;
use crate::websocket;

pub(super) async fn attach(call: Call) -> Outcome {
    Ok(match start(call).await {
        Ok(reply) => reply,
        Err(error) => reply::raw_failure(&error),
    })
}

async fn start(mut call: Call) -> Outcome {
    let request = request(&call, Framing::Multiplexed)?;
    let upgrade = call.upgrade.take();
    let attachment = call.shared.state.node.streams.attach(call.name(), request).await?;
    let content_type = stream_type(attachment.tty, call.version);
    Ok(hijack::take_over(upgrade, attachment, content_type))
}

fn request(call: &Call, framing: Framing) -> Result<AttachRequest, ApiError> {
    let flag = |name: &str| call.query.flag(name);
    Ok(AttachRequest {
        stdin: flag("stdin"),
        stdout: flag("stdout"),
        stderr: flag("stderr"),
        replay: if flag("logs") { Replay::Log } else { Replay::Nothing },
        live: flag("stream"),
        framing,
        detach_keys: convert::exec::checked_detach_keys(call.query.text("detachKeys"))?,
    })
}

/// Attaches by websocket: messages of raw bytes, whether there is a terminal or not.
pub(super) async fn attach_websocket(mut call: Call) -> Outcome {
    // A container that is not there is told of before the handshake is looked at.
    call.shared.state.node.views.inspect(call.name()).await?;
    let handshake = websocket::Handshake::of(&mut call)?;
    let mut request = request(&call, Framing::Raw)?;
    if call.version.is_below(42) {
        // The parameters came with 1.42; before, every stream was attached.
        (request.stdin, request.stdout, request.stderr) = (true, true, true);
    }
    let attachment = call.shared.state.node.streams.attach(call.name(), request).await?;
    Ok(handshake.accept(attachment))
}

/// What is announced as the type of output. Frames are sent whatever is announced.
pub(crate) fn stream_type(tty: bool, version: ApiVersion) -> &'static str {
    if tty || version.is_below(42) { RAW_STREAM } else { MULTIPLEXED_STREAM }
}

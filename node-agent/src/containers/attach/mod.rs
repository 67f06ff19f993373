//! Attached clients: how they come to the streams of a container, before or after its start.
//!
//! Start reading at [`Actor::attach`](crate::containers::actor::Actor::attach), which is asked by `port.rs`. A client that
//! attaches before the start waits in the actor, and gets its socket after the shim was spawned and before the program
//! runs, so that it misses nothing. `streams.rs` is what a client holds, `detach.rs` watches its keys.

pub(crate) mod detach;
pub(crate) mod streams;

use node_shim::protocol;
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use self::detach::DetachKeys;
use super::actor::{Actor, PendingAttach};
use super::exec::Phase;
use super::request::Reply;
use crate::error::NodeError;

/// The socket of an attached client.
#[derive(Debug)]
pub(crate) enum Attached {
    /// It is here.
    Now(UnixStream),
    /// It comes when the container is started.
    Later(oneshot::Receiver<UnixStream>),
}

/// What a client of a container's init process gets.
pub(crate) struct ContainerStreams {
    /// The live streams; `None` when only the replay is wanted.
    pub(crate) attached: Option<Attached>,
    /// Whether there is a terminal.
    pub(crate) tty: bool,
    /// Whether it may write.
    pub(crate) stdin: bool,
    /// The keys that detach it.
    pub(crate) keys: DetachKeys,
    /// What was logged before.
    pub(crate) replay: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// What is waited for before the end of the output is told.
    pub(crate) before_end: Option<streams::BoxedWait>,
    /// What is done when it detaches.
    pub(crate) on_detach: Box<dyn FnOnce() + Send>,
}

/// What a client of a command gets.
pub(crate) struct ExecStreams {
    /// The socket.
    pub(crate) socket: UnixStream,
    /// Whether there is a terminal.
    pub(crate) tty: bool,
    /// Whether it may write.
    pub(crate) stdin: bool,
    /// The keys that detach it.
    pub(crate) keys: DetachKeys,
    /// Where the command is.
    pub(crate) phase: watch::Receiver<Phase>,
    /// What is done when it detaches.
    pub(crate) on_detach: Box<dyn FnOnce() + Send>,
}

impl Actor {
    /// Attaches a client: at once when the container runs, else at its next start.
    pub(super) async fn attach(&mut self, request: protocol::AttachRequest, reply: Reply<Attached>) {
        let shim = self.core.run.as_deref().and_then(|run| run.shim.clone());
        if let Some(shim) = shim {
            let socket = shim.attach(request).await;
            let socket = socket
                .map(Attached::Now)
                .map_err(|source| NodeError::failed("attach to the container", source));
            let _ = reply.send(socket);
            return;
        }
        // Those who have gone away meanwhile need no place.
        self.core.attaching.retain(|pending| !pending.socket.is_closed());
        let (socket, waiting) = oneshot::channel();
        if reply.send(Ok(Attached::Later(waiting))).is_ok() {
            self.core.attaching.push(PendingAttach { request, socket });
        }
    }
}

//! The two directions of an attached client: output that may come later, input that is watched for detach keys.
//!
//! Start reading at [`container_attachment`] and [`exec_attachment`]. Bytes are not copied here: both ends are the socket
//! of the shim. The socket of a container that was not started yet arrives when it is.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};

use super::detach::{Scanned, Scanner};
use super::{Attached, ContainerStreams, ExecStreams};
use crate::api::streams::Attachment;
use crate::containers::exec::Phase;

/// Something that comes when the container is started, or never.
#[derive(Debug)]
enum Awaited<T> {
    Later(oneshot::Receiver<T>),
    Here(T),
    Never,
}

impl<T> Awaited<T> {
    /// The thing, once it is here; `None` when it never will be.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<&mut T>> {
        if let Self::Later(receiver) = self {
            *self = match ready!(Pin::new(receiver).poll(context)) {
                Ok(thing) => Self::Here(thing),
                Err(_) => Self::Never,
            };
        }
        match self {
            Self::Here(thing) => Poll::Ready(Some(thing)),
            Self::Later(_) | Self::Never => Poll::Ready(None),
        }
    }
}

pub(crate) type BoxedWait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Output for a client: what was logged before, if that was asked for, then the live stream.
struct Output {
    replay: Option<Box<dyn AsyncRead + Send + Unpin>>,
    live: Awaited<OwnedReadHalf>,
    /// Resolves when the client detaches; dropped without it when input is over.
    detached: Option<oneshot::Receiver<()>>,
    /// What must be known before the end is told.
    before_end: Option<BoxedWait>,
}

impl Output {
    fn is_detached(&mut self, context: &mut Context<'_>) -> bool {
        match self.detached.as_mut().map(|detached| Pin::new(detached).poll(context)) {
            Some(Poll::Ready(Ok(()))) => true,
            Some(Poll::Ready(Err(_))) => {
                self.detached = None;
                false
            }
            Some(Poll::Pending) | None => false,
        }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(wait) = &mut self.before_end {
            ready!(wait.as_mut().poll(context));
            self.before_end = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.is_detached(context) {
            return Poll::Ready(Ok(()));
        }
        let n_filled = buffer.filled().len();
        if let Some(replay) = &mut this.replay {
            ready!(Pin::new(replay).poll_read(context, buffer))?;
            if buffer.filled().len() > n_filled {
                return Poll::Ready(Ok(()));
            }
            this.replay = None;
        }
        if let Some(live) = ready!(this.live.poll(context)) {
            match ready!(Pin::new(live).poll_read(context, buffer)) {
                Ok(()) if buffer.filled().len() > n_filled => return Poll::Ready(Ok(())),
                Ok(()) => {}
                // A shim that was killed resets its connections: for a client that is the end of the output.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        this.poll_end(context)
    }
}

/// Input of a client.
struct Input {
    live: Awaited<OwnedWriteHalf>,
    /// Watches a terminal's input; other input is binary and never detaches.
    scanner: Option<Scanner>,
    /// Scanned bytes that the socket has not taken yet.
    pending: Vec<u8>,
    /// Ends the output.
    detach: Option<oneshot::Sender<()>>,
    on_detach: Option<Box<dyn FnOnce() + Send>>,
}

impl Input {
    /// Writes what was scanned before.
    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let Some(live) = ready!(self.live.poll(context)) else { return Poll::Ready(Err(closed())) };
            let n_written = ready!(Pin::new(live).poll_write(context, &self.pending))?;
            if n_written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..n_written);
        }
        Poll::Ready(Ok(()))
    }

    fn is_detached(&self) -> bool {
        self.scanner.is_some() && self.on_detach.is_none()
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the stream is closed")
}

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.is_detached() {
            return Poll::Ready(Err(closed()));
        }
        let Some(scanner) = &mut this.scanner else {
            let Some(live) = ready!(this.live.poll(context)) else { return Poll::Ready(Err(closed())) };
            return Pin::new(live).poll_write(context, bytes);
        };
        // One piece at a time: what waits for the socket is bounded by what a client sends at once.
        if !this.pending.is_empty() {
            ready!(this.poll_pending(context))?;
            return self.poll_write(context, bytes);
        }
        match scanner.scan(bytes) {
            Scanned::Pass(passed) => this.pending = passed,
            Scanned::Detach(passed) => {
                this.pending = passed;
                if let Some(on_detach) = this.on_detach.take() {
                    on_detach();
                }
                if let Some(detach) = this.detach.take() {
                    let _ = detach.send(());
                }
            }
        }
        // Progress is made by the next write, a flush or the shutdown; a first attempt costs nothing.
        let _ = this.poll_pending(context)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_pending(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        match ready!(self.live.poll(context)) {
            Some(live) => Pin::new(live).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// The attachment of a client to a container's init process. Its output ends after the exit is on record and the networks
/// are left, as with Docker: clients then ask for the exit code, or remove the network.
pub(crate) fn container_attachment(streams: ContainerStreams) -> Attachment {
    let ContainerStreams { attached, tty, stdin, keys, replay, before_end, on_detach } = streams;
    let is_live = attached.is_some();
    let (read_half, write_half) = attached.map_or((Awaited::Never, Awaited::Never), split);
    let (detach, detached) = oneshot::channel();
    let output = Output { replay, live: read_half, detached: Some(detached), before_end };
    let scanner = tty.then(|| Scanner::new(keys));
    let input = (stdin && is_live).then(|| -> Box<dyn AsyncWrite + Send + Unpin> {
        let (detach, on_detach) = (Some(detach), Some(on_detach));
        Box::new(Input { live: write_half, scanner, pending: Vec::new(), detach, on_detach })
    });
    Attachment { tty, output: Box::new(output), input }
}

/// The attachment of a client to a command. Its output ends after the exit code is known.
pub(crate) fn exec_attachment(streams: ExecStreams) -> Attachment {
    let ExecStreams { socket, tty, stdin, keys, phase, on_detach } = streams;
    let (read_half, write_half) = socket.into_split();
    let (detach, detached) = oneshot::channel();
    let output = Output {
        replay: None,
        live: Awaited::Here(read_half),
        detached: Some(detached),
        before_end: Some(Box::pin(exited(phase))),
    };
    let scanner = tty.then(|| Scanner::new(keys));
    let live = Awaited::Here(write_half);
    let input = stdin.then(|| -> Box<dyn AsyncWrite + Send + Unpin> {
        let (detach, on_detach) = (Some(detach), Some(on_detach));
        Box::new(Input { live, scanner, pending: Vec::new(), detach, on_detach })
    });
    Attachment { tty, output: Box::new(output), input }
}

/// Waits until a command's exit is on record. The wait ends too when the record is dropped with its container.
async fn exited(mut phase: watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| matches!(phase, Phase::Exited(..))).await;
}

fn split(attached: Attached) -> (Awaited<OwnedReadHalf>, Awaited<OwnedWriteHalf>) {
    match attached {
        Attached::Now(socket) => {
            let (read_half, write_half) = socket.into_split();
            (Awaited::Here(read_half), Awaited::Here(write_half))
        }
        Attached::Later(socket) => {
            let (send_read, read_half) = oneshot::channel();
            let (send_write, write_half) = oneshot::channel();
            tokio::spawn(hand_out(socket, send_read, send_write));
            (Awaited::Later(read_half), Awaited::Later(write_half))
        }
    }
}

/// Gives both halves of a socket, once it comes, to those who wait. Ends by itself when the container is removed, or when
/// both have gone.
async fn hand_out(
    socket: oneshot::Receiver<UnixStream>,
    mut send_read: oneshot::Sender<OwnedReadHalf>,
    mut send_write: oneshot::Sender<OwnedWriteHalf>,
) {
    let clients_gone = async {
        send_read.closed().await;
        send_write.closed().await;
    };
    tokio::select! {
        // May be dropped: then nobody is left to hand it to, and closing the socket is right.
        socket = socket => {
            if let Ok(socket) = socket {
                let (read_half, write_half) = socket.into_split();
                let _ = send_read.send(read_half);
                let _ = send_write.send(write_half);
            }
        }
        // May be dropped: it only watches.
        () = clients_gone => {}
    }
}

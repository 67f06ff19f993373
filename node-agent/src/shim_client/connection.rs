//! One control connection to a shim: sends requests, matches replies, hands out events.
//!
//! Start reading at [`ShimConnection::establish`]. A task owns the socket for the life of the connection.
//! Inputs: a mailbox of requests from the handles, messages from the shim. Outputs: replies by oneshot, events,
//! exits of execs. It ends, and everybody waiting is told, when the shim closes the socket, when it sends nonsense,
//! or when the last handle is dropped. It does not reconnect: that is the decision of the engine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::BytesMut;
use jiff::Timestamp;
use node_shim::protocol::{
    AfterCheckpoint, Answer, AttachRequest, CHECKPOINTS_SINCE, Call, ConsoleSize, Event, ExecMode,
    ExecRequest, ExitRecord, Failure, FailureKind, Hello, KillScope, Message, PROTOCOL_VERSION, Request,
    Role, ShimState, Target, Welcome,
};
use shoal_types::ExecId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::process::connect;
use super::{ExecExit, FoundShim, RunningExec, Shim, ShimError, ShimEvents, frames};

/// Requests waiting to be written. They come from the container's actor and from streams that resize, a handful at a
/// time; a full mailbox makes the caller wait, which is right, because the shim reads whenever it is alive.
const MAILBOX_LEN: usize = 16;

/// A request and where its answer goes.
#[derive(Debug)]
struct Outgoing {
    call: Call,
    reply: oneshot::Sender<Result<Answer, Failure>>,
}

/// Who waits for which exec. `None` after the connection has ended.
type ExecWaiters = Arc<Mutex<Option<HashMap<ExecId, oneshot::Sender<ExitRecord>>>>>;

/// A handle to the task that owns the control connection. When the last handle is dropped the mailbox closes, and the
/// task ends by itself.
#[derive(Debug)]
pub(super) struct ShimConnection {
    bundle: PathBuf,
    /// The shim's version of the protocol.
    version: u32,
    mailbox: mpsc::Sender<Outgoing>,
    exec_waiters: ExecWaiters,
}

impl ShimConnection {
    /// Introduces this daemon on a fresh socket and starts the task. `None`: the shim closed it without a word.
    pub(super) async fn establish(
        bundle: PathBuf,
        mut socket: UnixStream,
    ) -> Result<Option<FoundShim>, ShimError> {
        let welcome = match introduce(&mut socket, Role::Control).await {
            Ok(welcome) => welcome,
            Err(ShimError::Gone | ShimError::Stream(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Welcome::Control { version, state, .. } = welcome else {
            return Err(ShimError::Nonsense(format!("{welcome:?} to a control connection")));
        };
        if version > PROTOCOL_VERSION {
            return Err(ShimError::Newer { version });
        }
        let (mailbox, requests) = mpsc::channel(MAILBOX_LEN);
        // Not bounded by a number, but by what the shim sends: a few phases, the execs that this engine started, and
        // memory kills, which it counts instead of queueing. A bound here would let an actor that waits for a reply
        // block the task that has to read it.
        let (events, receiver) = mpsc::unbounded_channel();
        let exec_waiters: ExecWaiters = Arc::new(Mutex::new(Some(HashMap::new())));
        let (from_shim, to_shim) = socket.into_split();
        let conversation = Conversation {
            from_shim,
            to_shim,
            requests,
            events,
            pending: HashMap::new(),
            next_id: 0,
            exec_waiters: Arc::clone(&exec_waiters),
        };
        tokio::spawn(conversation.run(bundle.clone()));
        let shim = Arc::new(Self { bundle, version, mailbox, exec_waiters });
        Ok(Some(FoundShim { shim, state, events: ShimEvents::new(receiver) }))
    }

    async fn call(&self, call: Call) -> Result<Answer, ShimError> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Outgoing { call, reply }).await.map_err(|_| ShimError::Gone)?;
        Ok(answer.await.map_err(|_| ShimError::Gone)??)
    }

    async fn call_for_nothing(&self, call: Call) -> Result<(), ShimError> {
        match self.call(call).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Registers for the exit before the process can exist, so that even an immediate exit finds its waiter.
    fn expect_exit(&self, exec_id: ExecId) -> Result<ExecExit, ShimError> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.exec_waiters).as_mut().ok_or(ShimError::Gone)?.insert(exec_id, sender);
        Ok(ExecExit::new(receiver))
    }
}

#[async_trait]
impl Shim for ShimConnection {
    async fn create(&self) -> Result<u32, ShimError> {
        match self.call(Call::Create).await? {
            Answer::Created { pid } => Ok(pid),
            other => Err(unexpected(&other)),
        }
    }

    async fn start(&self) -> Result<Timestamp, ShimError> {
        match self.call(Call::Start).await? {
            Answer::Started { at } => Ok(at),
            other => Err(unexpected(&other)),
        }
    }

    async fn kill(&self, signal: i32, scope: KillScope) -> Result<(), ShimError> {
        self.call_for_nothing(Call::Kill { signal, scope }).await
    }

    async fn pause(&self) -> Result<(), ShimError> {
        self.call_for_nothing(Call::Pause).await
    }

    async fn resume(&self) -> Result<(), ShimError> {
        self.call_for_nothing(Call::Resume).await
    }

    async fn checkpoint(&self, place: &Path, after: AfterCheckpoint) -> Result<(), ShimError> {
        if self.version < CHECKPOINTS_SINCE {
            let text = "the container was started by an older release, whose shim makes no checkpoints";
            return Err(ShimError::Refused(Failure::new(FailureKind::Invalid, text)));
        }
        self.call_for_nothing(Call::Checkpoint { place: place.to_owned(), after }).await
    }

    async fn resize(&self, target: Target, size: ConsoleSize) -> Result<(), ShimError> {
        self.call_for_nothing(Call::Resize { target, size }).await
    }

    async fn close_stdin(&self) -> Result<(), ShimError> {
        self.call_for_nothing(Call::CloseStdin).await
    }

    async fn attach(&self, request: AttachRequest) -> Result<UnixStream, ShimError> {
        let mut socket = connect(&self.bundle).await?.ok_or(ShimError::Gone)?;
        match introduce(&mut socket, Role::Attach(request)).await? {
            Welcome::Attached => Ok(socket),
            other => Err(ShimError::Nonsense(format!("{other:?} to an attach"))),
        }
    }

    async fn exec(&self, request: ExecRequest) -> Result<RunningExec, ShimError> {
        let exec_id = request.exec_id;
        let mode = request.mode;
        let exit = self.expect_exit(exec_id)?;
        let started = async {
            let mut socket = connect(&self.bundle).await?.ok_or(ShimError::Gone)?;
            match introduce(&mut socket, Role::Exec(Box::new(request))).await? {
                Welcome::Exec { pid } => Ok((socket, pid)),
                other => Err(ShimError::Nonsense(format!("{other:?} to an exec"))),
            }
        }
        .await;
        match started {
            Ok((socket, pid)) => {
                let stream = match mode {
                    ExecMode::Attached => Some(socket),
                    ExecMode::Detached => None,
                };
                Ok(RunningExec { pid, stream, exit })
            }
            Err(error) => {
                if let Some(waiters) = lock(&self.exec_waiters).as_mut() {
                    waiters.remove(&exec_id);
                }
                Err(error)
            }
        }
    }

    async fn signal_exec(&self, exec_id: ExecId, signal: i32) -> Result<(), ShimError> {
        self.call_for_nothing(Call::SignalExec { exec_id, signal }).await
    }

    async fn acknowledge_exec(&self, exec_id: ExecId) -> Result<(), ShimError> {
        self.call_for_nothing(Call::AcknowledgeExec { exec_id }).await
    }

    async fn state(&self) -> Result<ShimState, ShimError> {
        match self.call(Call::State).await? {
            Answer::State(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    async fn shut_down(&self) -> Result<(), ShimError> {
        self.call_for_nothing(Call::Shutdown).await
    }
}

/// Sends the hello and reads the answer, and not a byte more.
async fn introduce(socket: &mut UnixStream, role: Role) -> Result<Welcome, ShimError> {
    let hello = frames::encode(&Hello { version: PROTOCOL_VERSION, role })?;
    socket.write_all(&hello).await.map_err(ShimError::Stream)?;
    let answer: Option<Result<Welcome, Failure>> = frames::read_frame(socket).await?;
    Ok(answer.ok_or(ShimError::Gone)??)
}

fn unexpected(answer: &Answer) -> ShimError {
    ShimError::Nonsense(format!("the answer {answer:?} to another request"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The map is whole after every statement that holds the lock, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task that owns the socket.
struct Conversation {
    from_shim: OwnedReadHalf,
    to_shim: OwnedWriteHalf,
    requests: mpsc::Receiver<Outgoing>,
    events: mpsc::UnboundedSender<Event>,
    pending: HashMap<u64, oneshot::Sender<Result<Answer, Failure>>>,
    next_id: u64,
    exec_waiters: ExecWaiters,
}

impl Conversation {
    async fn run(mut self, bundle: PathBuf) {
        if let Err(error) = self.converse().await {
            tracing::warn!(bundle = %bundle.display(), %error, "dropping the connection to a shim");
        }
        // Dropping the senders tells everybody who waits that no answer will come.
        lock(&self.exec_waiters).take();
    }

    async fn converse(&mut self) -> Result<(), ShimError> {
        let mut buffer = BytesMut::new();
        loop {
            tokio::select! {
                // May be dropped: `read_buf` has either put bytes into the buffer or taken none.
                n_read = self.from_shim.read_buf(&mut buffer) => {
                    match n_read {
                        // A shim that was killed may reset the connection; both are its end.
                        Ok(0) | Err(_) => return Ok(()),
                        Ok(_) => {
                            while let Some(message) = frames::decode(&mut buffer)? {
                                self.take(message);
                            }
                        }
                    }
                }
                // May be dropped: a request is either received or still in the mailbox.
                request = self.requests.recv() => {
                    let Some(request) = request else { return Ok(()) };
                    if self.send(request).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Reply { id, result } => {
                if let Some(reply) = self.pending.remove(&id) {
                    // The caller may have lost interest; the events tell what became of it.
                    let _ = reply.send(result);
                }
            }
            Message::Event(event) => {
                if let Event::ExecExited { exec_id, exit } = &event {
                    let waiter =
                        lock(&self.exec_waiters).as_mut().and_then(|waiters| waiters.remove(exec_id));
                    if let Some(waiter) = waiter {
                        let _ = waiter.send(*exit);
                    }
                }
                let _ = self.events.send(event);
            }
        }
    }

    async fn send(&mut self, outgoing: Outgoing) -> Result<(), ShimError> {
        let id = self.next_id;
        self.next_id += 1;
        let frame = frames::encode(&Request { id, call: outgoing.call })?;
        self.pending.insert(id, outgoing.reply);
        self.to_shim.write_all(&frame).await.map_err(ShimError::Stream)
    }
}

//! The conversation between the creating process and the container's init (or exec) process.
//!
//! Start reading at [`Message`], which lists all that is ever said. Both ends are one connected pair of packet sockets,
//! so a message arrives whole or not at all, and the end of a process shows as the end of the stream. The socket is
//! close-on-exec: after the last message, the end of the stream means that the program has been executed.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::error::{Context, ExecutableError, ExecutableReason, Result, RuntimeError};

/// Everything that is said between the two processes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// Init: the user namespace exists and needs its mappings.
    WantsMappings,
    /// Init: the root file system is mounted, the hooks of the runtime namespace may run.
    WantsRuntimeHooks,
    /// Creator: what was waited for has been done.
    Continue,
    /// A process in between: the container's process exists, its pid descriptor comes along. (Its number would not
    /// help: the process in between may count in another pid namespace.)
    Cloned,
    /// Init: the terminal's master comes along.
    Terminal,
    /// Init: everything is prepared. Helpers: done, the result comes along.
    Ready,
    /// Init: the filter is loaded; its listener has this number in the sender's table.
    SeccompListener(i32),
    /// Init, the last word: a step failed.
    Failed(Failure),
}

/// A [`RuntimeError`] of the other process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// A step with its errno.
    Step { step: String, errno: i32 },
    /// The executable, by class and text.
    Executable { reason: u8, text: String },
    /// A hook.
    Hook { stage: String, path: PathBuf, reason: String },
    /// The configuration, found out only inside the container.
    InvalidSpec(String),
    /// A thing that is refused, found out only inside the container.
    Unsupported(String),
}

const REASONS: [ExecutableReason; 6] = [
    ExecutableReason::NotFoundInPath,
    ExecutableReason::NoSuchFile,
    ExecutableReason::NotADirectory,
    ExecutableReason::PermissionDenied,
    ExecutableReason::IsADirectory,
    ExecutableReason::Other,
];

const STAGES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

impl Failure {
    pub(crate) fn from_error(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Step { step, source } | RuntimeError::Init { step, source } => {
                Self::Step { step, errno: source.raw_os_error().unwrap_or(libc::EIO) }
            }
            RuntimeError::Executable(failure) => {
                let reason = REASONS.iter().position(|reason| *reason == failure.reason).unwrap_or(5);
                Self::Executable { reason: u8::try_from(reason).unwrap_or(5), text: failure.text }
            }
            RuntimeError::Hook { stage, path, reason } => {
                Self::Hook { stage: stage.to_owned(), path, reason }
            }
            RuntimeError::InvalidSpec(text) => Self::InvalidSpec(text),
            RuntimeError::Unsupported(text) => Self::Unsupported(text),
            other => Self::Step { step: other.chain(), errno: libc::EIO },
        }
    }

    pub(crate) fn into_error(self) -> RuntimeError {
        match self {
            Self::Step { step, errno } => {
                RuntimeError::Init { step, source: std::io::Error::from_raw_os_error(errno) }
            }
            Self::Executable { reason, text } => {
                let reason = REASONS.get(usize::from(reason)).copied().unwrap_or(ExecutableReason::Other);
                RuntimeError::Executable(ExecutableError { reason, text })
            }
            Self::Hook { stage, path, reason } => {
                let stage = STAGES.iter().find(|known| **known == stage).copied().unwrap_or("unknown");
                RuntimeError::Hook { stage, path, reason }
            }
            Self::InvalidSpec(text) => RuntimeError::InvalidSpec(text),
            Self::Unsupported(text) => RuntimeError::Unsupported(text),
        }
    }
}

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
}

/// The longest message; failures are cut to fit.
const LONGEST: usize = 8192;

impl Channel {
    /// Makes both ends.
    pub(crate) fn pair() -> Result<(Self, Self)> {
        let (left, right) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .step(|| "create the socket pair to the container process")?;
        Ok((Self { socket: left }, Self { socket: right }))
    }

    pub(crate) fn from_socket(socket: OwnedFd) -> Self {
        Self { socket }
    }

    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Says something.
    pub(crate) fn send(&self, message: &Message) -> Result<()> {
        self.send_with(message, None)
    }

    /// Says something and passes a descriptor with it.
    pub(crate) fn send_with(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let mut bytes =
            serde_json::to_vec(message).map_err(std::io::Error::from).step(|| "encode a message")?;
        if bytes.len() > LONGEST {
            let cut = Message::Failed(Failure::Step {
                step: "(message too long)".to_owned(),
                errno: libc::EMSGSIZE,
            });
            bytes = serde_json::to_vec(&cut).map_err(std::io::Error::from).step(|| "encode a message")?;
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let passed: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !passed.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&passed));
        }
        sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
            .step(|| "send a message to the other process")?;
        Ok(())
    }

    /// Waits for the next message; `None` at the end of the stream.
    pub(crate) fn receive(&self) -> Result<Option<(Message, Option<OwnedFd>)>> {
        let mut bytes = [0_u8; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                // A process that ended with an unread message in its queue resets the pair, which is told once; what it
                // said before comes after that.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                other => break other.step(|| "wait for a message of the other process")?,
            }
        };
        let mut passed = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                passed = fds.into_iter().next_back();
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(RuntimeError::step(
                "read a message",
                std::io::Error::from_raw_os_error(libc::EMSGSIZE),
            ));
        }
        let text = bytes.get(..received.bytes).unwrap_or_default();
        let message =
            serde_json::from_slice(text).map_err(std::io::Error::from).step(|| "decode a message")?;
        Ok(Some((message, passed)))
    }

    /// Waits for [`Message::Continue`]; false when the other side has gone.
    pub(crate) fn await_continue(&self) -> Result<bool> {
        Ok(matches!(self.receive()?, Some((Message::Continue, _))))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

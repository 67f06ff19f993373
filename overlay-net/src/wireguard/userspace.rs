//! The daemon's side of the processes that encrypt where the kernel does not.
//!
//! Start reading at [`Process`]. One connection for each message: nothing is open while nothing is said, and there is
//! nothing to bring back after a restart of the daemon.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::key::PublicKey;
use super::plan::{PeerChange, Present};
use super::process::{Begin, MODE, Reply, Request};
use crate::host::SpawnNetd;
use crate::netd::protocol::{encode, message_len};

/// How long a fresh process may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);

/// A process that is a device, or will be.
#[derive(Debug, Clone)]
pub(super) struct Process {
    socket: PathBuf,
}

impl Process {
    /// The process that listens there.
    pub(super) const fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Starts the process and gives it a device.
    pub(super) fn start(&self, spawn: &SpawnNetd, begin: Begin) -> io::Result<()> {
        let arguments = [MODE.into(), OsString::from("--socket"), self.socket.clone().into_os_string()];
        spawn(&arguments)?;
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(&self.socket).is_err() {
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // A socket cannot be waited for before it exists.
            thread::sleep(POLL);
        }
        self.ask(&Request::Begin(begin)).map(drop)
    }

    /// The device's key, port and peers; absent when there is no process or it has no device.
    pub(super) fn read(&self) -> Option<(PublicKey, u16, Vec<Present>)> {
        match self.ask(&Request::Read) {
            Ok(Reply::Device(device)) => device,
            Ok(_) | Err(_) => None,
        }
    }

    /// Changes peers.
    pub(super) fn change(&self, changes: &[PeerChange]) -> io::Result<()> {
        self.ask(&Request::Change(changes.to_vec())).map(drop)
    }

    /// Ends the process, if there is one; its device goes with it.
    pub(super) fn stop(&self) -> io::Result<()> {
        match self.ask(&Request::Stop) {
            Err(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Resolves when the process is not there, or ends.
    pub(super) async fn ended(&self) {
        let Ok(mut stream) = tokio::net::UnixStream::connect(&self.socket).await else { return };
        let Ok(frame) = encode(&Request::Watch) else { return };
        if stream.write_all(&frame).await.is_err() {
            return;
        }
        // The answer, and then nothing: the connection ends with the process.
        let mut answer = [0; 64];
        while stream.read(&mut answer).await.is_ok_and(|length| length > 0) {}
    }

    fn ask(&self, request: &Request) -> io::Result<Reply> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(&encode(request)?)?;
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix)?;
        let mut body = vec![0; message_len(prefix)?];
        stream.read_exact(&mut body)?;
        match serde_json::from_slice(&body)? {
            Reply::Failed { errno: Some(errno), .. } => Err(io::Error::from_raw_os_error(errno)),
            Reply::Failed { errno: None, text } => Err(io::Error::other(text)),
            reply => Ok(reply),
        }
    }
}

//! The process that encrypts where the kernel does not: one for each device, independent of the daemon.
//!
//! Start reading at [`main`]; what it does with packets is in `tunnel.rs`, who talks to it in `userspace.rs`. It is told
//! its device once, and peers after that; a daemon that comes back finds it as it was. It ends when it is told to, when
//! its link is gone, or when nobody gives it a device.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::setsid;
use serde::{Deserialize, Serialize};

use super::key::{PrivateKey, PublicKey};
use super::plan::{PeerChange, Present};
use super::tunnel::Engine;
use crate::netd::protocol::{encode, message_len};
use crate::netd::take_lock;
use crate::netns::Netns;
use crate::spec::IfName;
use crate::sys;

/// First argument of the process, behind `netd`.
pub(crate) const MODE: &str = "wireguard";
/// How long a process without a device waits for one.
const IDLE_LIMIT: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// Connections of daemons that want to know when the process ends. There is one daemon; former ones have hung up.
const WATCHERS: usize = 4;
/// How long a client may take for one message.
const MESSAGE_LIMIT: Duration = Duration::from_secs(5);

/// What the daemon asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Be this device.
    Begin(Begin),
    /// What is there?
    Read,
    /// Change peers.
    Change(Vec<PeerChange>),
    /// Keep the connection until the process ends.
    Watch,
    /// End.
    Stop,
}

/// A device.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Begin {
    /// Where the namespace is pinned that the link shall be in.
    pub(super) netns: PathBuf,
    /// The link's name.
    pub(super) name: IfName,
    /// UDP port in the namespace of the process.
    pub(super) port: u16,
    /// The key.
    pub(super) private: PrivateKey,
}

/// What the process answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It is done.
    Done,
    /// To `Read`: nothing before `Begin`.
    Device(Option<(PublicKey, u16, Vec<Present>)>),
    /// It was refused, by the kernel if there is a number.
    Failed { errno: Option<i32>, text: String },
}

/// A device that runs.
struct Device {
    engine: Arc<Engine>,
    public: PublicKey,
    port: u16,
}

/// Runs the process; `args` are the arguments after the mode.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args.skip_while(|argument| argument != "--socket").skip(1);
    let Some(socket) = args.next().map(PathBuf::from) else {
        tracing::error!("usage: netd wireguard --socket PATH");
        return ExitCode::FAILURE;
    };
    match serve(&socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "wireguard process failed");
            ExitCode::FAILURE
        }
    }
}

fn serve(path: &Path) -> io::Result<()> {
    let Some(_lock) = take_lock(path)? else { return Ok(()) };
    // Signals to the daemon's session are not meant for us. A session leader by birth is fine, too.
    let _ = setsid();
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let (mut device, mut watchers) = (None, VecDeque::new());
    loop {
        if device.is_none() && !is_called(&listener)? {
            return fs::remove_file(path);
        }
        // What goes wrong with one client is that client's business.
        let Ok((mut stream, _)) = listener.accept() else { continue };
        match talk(&mut stream, &mut device) {
            Ok(After::End) => return fs::remove_file(path),
            Ok(After::KeepStream) => {
                watchers.push_front(stream);
                watchers.truncate(WATCHERS);
            }
            Ok(After::GoOn) | Err(_) => {}
        }
    }
}

/// Waits for somebody to connect; answers whether anybody did.
fn is_called(listener: &UnixListener) -> io::Result<bool> {
    let mut waited = [PollFd::new(listener, PollFlags::IN)];
    match poll(&mut waited, Some(&IDLE_LIMIT)) {
        Err(rustix::io::Errno::INTR) => Ok(true),
        outcome => Ok(outcome? > 0),
    }
}

/// What the process does after a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    GoOn,
    KeepStream,
    End,
}

fn talk(stream: &mut UnixStream, device: &mut Option<Device>) -> io::Result<After> {
    stream.set_read_timeout(Some(MESSAGE_LIMIT))?;
    stream.set_write_timeout(Some(MESSAGE_LIMIT))?;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let mut body = vec![0; message_len(prefix)?];
    stream.read_exact(&mut body)?;
    let (reply, after) = match serde_json::from_slice(&body)? {
        Request::Begin(begin) => (outcome(start(&begin, device)), After::GoOn),
        Request::Read => (Reply::Device(device.as_ref().map(read)), After::GoOn),
        Request::Change(changes) => {
            if let Some(device) = device {
                changes.iter().for_each(|change| device.engine.change(change));
            }
            (Reply::Done, After::GoOn)
        }
        Request::Watch => (Reply::Done, After::KeepStream),
        Request::Stop => (Reply::Done, After::End),
    };
    stream.write_all(&encode(&reply)?)?;
    Ok(after)
}

fn outcome(result: io::Result<()>) -> Reply {
    match result {
        Ok(()) => Reply::Done,
        Err(error) => Reply::Failed { errno: error.raw_os_error(), text: error.to_string() },
    }
}

fn read(device: &Device) -> (PublicKey, u16, Vec<Present>) {
    (device.public, device.port, device.engine.present())
}

fn start(begin: &Begin, device: &mut Option<Device>) -> io::Result<()> {
    if device.is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // Both families: peers may have addresses of either.
    let socket = UdpSocket::bind((IpAddr::V6(Ipv6Addr::UNSPECIFIED), begin.port))?;
    let tun = Netns::open(&begin.netns).and_then(|netns| netns.run(|| open_tun(&begin.name)));
    let engine = Arc::new(Engine::new(tun.map_err(io::Error::other)??, socket, &begin.private));
    // A device without its link is none: the daemon finds it gone and starts another process.
    engine.run(end)?;
    *device = Some(Device { engine, public: begin.private.public(), port: begin.port });
    Ok(())
}

/// Ends the process from one of the device's threads.
#[expect(clippy::exit, reason = "the main thread waits for clients and the device's threads for packets")]
fn end() {
    std::process::exit(0);
}

fn open_tun(name: &IfName) -> io::Result<fs::File> {
    let tun = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    sys::attach_tun(&tun, name)?;
    Ok(tun)
}

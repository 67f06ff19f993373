//! Unix sockets by path: the gate of a container that another process starts, and the receiver of a seccomp listener.
//!
//! Paths may be longer than a socket address allows; the directory is then opened and the name taken below it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{ContainerProcessState, ContainerState, Spec, State};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, bind, connect as connect_socket, listen, sendmsg, socket_with,
};
use rustix::process::PidfdGetfdFlags;

use crate::channel::Channel;
use crate::container::ContainerRecord;
use crate::error::{Context, Result, RuntimeError};

/// Makes the socket of [`crate::Gate::Listener`]; only root can connect.
pub fn listen_at(path: &Path) -> Result<OwnedFd> {
    let describe = || format!("listen at {}", path.display());
    let socket = new_socket(SocketType::SEQPACKET).step(describe)?;
    let (address, _directory) = address_of(path)?;
    let old = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = bind(&socket, &address);
    rustix::process::umask(old);
    bound.step(describe)?;
    listen(&socket, 4).step(describe)?;
    Ok(socket)
}

/// Connects to such a socket.
pub(crate) fn connect(path: &Path) -> Result<Channel> {
    let socket = connect_as(path, SocketType::SEQPACKET)?;
    Ok(Channel::from_socket(socket))
}

fn connect_as(path: &Path, kind: SocketType) -> Result<OwnedFd> {
    let describe = || format!("connect to {}", path.display());
    let socket = new_socket(kind).step(describe)?;
    let (address, _directory) = address_of(path)?;
    connect_socket(&socket, &address).step(describe)?;
    Ok(socket)
}

/// Sends a descriptor with a few bytes to the stream socket at `path` (a console socket).
pub fn send_descriptor(path: &Path, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let socket = connect_as(path, SocketType::STREAM)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let passed = [fd];
    control.push(SendAncillaryMessage::ScmRights(&passed));
    sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        .step(|| format!("send a descriptor to {}", path.display()))?;
    Ok(())
}

/// Takes the filter's listener out of the container's process and hands it to the agent that the spec names.
pub(crate) fn hand_over_seccomp(
    pidfd: BorrowedFd<'_>,
    number: i32,
    record: &ContainerRecord,
    spec: &Spec,
) -> Result<()> {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let path = seccomp.and_then(|seccomp| seccomp.listener_path().clone());
    let path = path
        .ok_or_else(|| RuntimeError::InvalidSpec("seccomp notifications need a listenerPath".to_owned()))?;
    let listener = rustix::process::pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())
        .step(|| "take the seccomp listener over")?;
    let mut state = State::default();
    state
        .set_version("1.0.2".to_owned())
        .set_id(record.id.clone())
        .set_status(ContainerState::Creating)
        .set_pid(Some(record.pid))
        .set_bundle(record.bundle.clone())
        .set_annotations(spec.annotations().clone());
    let mut process = ContainerProcessState::default();
    process
        .set_version("1.0.2".to_owned())
        .set_fds(vec!["seccompFd".to_owned()])
        .set_pid(record.pid)
        .set_metadata(seccomp.and_then(|seccomp| seccomp.listener_metadata().clone()))
        .set_state(state);
    let bytes =
        serde_json::to_vec(&process).map_err(std::io::Error::from).step(|| "encode the process state")?;
    send_descriptor(&path, &bytes, listener.as_fd())
}

fn new_socket(kind: SocketType) -> rustix::io::Result<OwnedFd> {
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// Makes an address of any length; the descriptor must live as long as the address is used.
fn address_of(path: &Path) -> Result<(SocketAddrUnix, Option<OwnedFd>)> {
    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok((address, None));
    }
    let describe = || format!("open the directory of {}", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    let directory = rustix::fs::open(directory, flags, Mode::empty()).step(describe)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let short = short.join(path.file_name().unwrap_or_default());
    let address = SocketAddrUnix::new(short).step(describe)?;
    Ok((address, Some(directory)))
}

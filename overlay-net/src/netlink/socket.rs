//! A netlink socket: sends a batch, reads what the kernel says to each message.
//!
//! Start reading at [`Socket::run`]. The kernel works through requests inside the send call, so every answer waits in
//! the receive queue when it returns: there is nothing to wait for and no reason for async here. A socket belongs to
//! the network namespace of the thread that opened it, wherever it is used later.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::codec::{Batch, Received, attribute, attributes, messages, text, u32_at};
use crate::sys;

/// `NLMSG_ERROR`: an errno, zero for success.
const MESSAGE_ERROR: u16 = 2;
/// `NLMSG_DONE`: end of a dump.
const MESSAGE_DONE: u16 = 3;
/// `NLM_F_DUMP_INTR`: the dump missed a change.
const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED` / `NLM_F_ACK_TLVS`: the error carries explanations.
const ERROR_HAS_ATTRIBUTES: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`
const ERROR_TEXT: u16 = 1;
/// Larger than any datagram that the kernel makes for a dump (32 KiB).
const RECEIVE_LEN: usize = 64 * 1024;
/// How often a dump that missed a change is repeated.
const DUMP_TRIES: usize = 8;

/// Which part of the kernel a socket talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nf_tables and conntrack.
    Netfilter,
    /// Everything that registers a family by name.
    Generic,
}

/// A netlink socket of one network namespace.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the namespace of the calling thread.
    pub(crate) fn open(protocol: Protocol) -> io::Result<Self> {
        let number = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
            Protocol::Generic => Some(netlink::GENERIC),
        };
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number)?;
        // Explanations make failures readable; kernels that lack them still answer the number.
        let _ = sys::enable_extended_acks(&fd);
        Ok(Self { fd, buffer: vec![0; RECEIVE_LEN] })
    }

    /// Sends a batch; answers the outcome of each message, in order.
    ///
    /// Messages without `ACK` count as successful unless the kernel complains.
    pub(crate) fn run(&mut self, batch: &Batch) -> io::Result<Vec<io::Result<()>>> {
        let mut outcomes: Vec<io::Result<()>> = (0..batch.len()).map(|_| Ok(())).collect();
        self.exchange(batch, |message| {
            let slot = usize::try_from(message.sequence).ok().and_then(|n| n.checked_sub(1));
            if message.kind == MESSAGE_ERROR
                && let Some(outcome) = slot.and_then(|slot| outcomes.get_mut(slot))
                && outcome.is_ok()
            {
                *outcome = outcome_of(&message);
            }
        })?;
        Ok(outcomes)
    }

    /// Sends a batch and fails with the first failure of any message.
    pub(crate) fn run_all(&mut self, batch: &Batch) -> io::Result<()> {
        self.run(batch)?.into_iter().collect()
    }

    /// Sends one request and hands over each message of the answer.
    pub(crate) fn request(&mut self, batch: &Batch, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut failure = Ok(());
        self.exchange(batch, |message| match message.kind {
            MESSAGE_ERROR if failure.is_ok() => failure = outcome_of(&message),
            MESSAGE_ERROR | MESSAGE_DONE => {}
            kind => each(kind, message.payload),
        })?;
        failure
    }

    /// Reads a whole table; repeats when it changed while being read. `each` sees type and payload of every entry.
    pub(crate) fn dump<T>(
        &mut self,
        request: &Batch,
        mut each: impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_TRIES {
            let mut entries = Vec::new();
            if self.dump_once(request, |kind, payload| entries.extend(each(kind, payload)))?
                == DumpEnd::Complete
            {
                return Ok(entries);
            }
        }
        Err(io::Error::from(io::ErrorKind::Interrupted))
    }

    fn dump_once(&mut self, request: &Batch, mut each: impl FnMut(u16, &[u8])) -> io::Result<DumpEnd> {
        send_whole(&self.fd, request.as_bytes())?;
        let mut end = DumpEnd::Complete;
        loop {
            let length = receive(&self.fd, &mut self.buffer, RecvFlags::empty())?;
            for message in messages(&self.buffer[..length]) {
                if message.flags & DUMP_INTERRUPTED != 0 {
                    end = DumpEnd::Interrupted;
                }
                match message.kind {
                    MESSAGE_DONE => return Ok(end),
                    MESSAGE_ERROR => return outcome_of(&message).map(|()| end),
                    kind => each(kind, message.payload),
                }
            }
        }
    }

    fn exchange(&mut self, batch: &Batch, mut each: impl FnMut(Received<'_>)) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        send_whole(&self.fd, batch.as_bytes())?;
        loop {
            match receive(&self.fd, &mut self.buffer, RecvFlags::DONTWAIT) {
                Ok(length) => messages(&self.buffer[..length]).for_each(&mut each),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.fd
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DumpEnd {
    Complete,
    Interrupted,
}

fn send_whole(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    loop {
        match send(fd, bytes, SendFlags::empty()) {
            // Netlink takes a datagram whole or not at all.
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    loop {
        match recv(fd, &mut *buffer, flags) {
            Ok((length, _)) => return Ok(length),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn outcome_of(message: &Received<'_>) -> io::Result<()> {
    let code = u32_at(message.payload, 0).map_or(0, u32::cast_signed);
    if code == 0 {
        return Ok(());
    }
    if let Some(explanation) = explanation(message) {
        tracing::debug!(errno = -code, explanation, "netlink request refused");
    }
    Err(io::Error::from_raw_os_error(-code))
}

/// The kernel's words; behind the errno and the header of the refused message, which is not repeated in full when
/// extended acknowledgements are on and the request was small.
fn explanation(message: &Received<'_>) -> Option<String> {
    if message.flags & ERROR_HAS_ATTRIBUTES == 0 {
        return None;
    }
    let echoed = usize::try_from(u32_at(message.payload, 4)?).ok()?;
    let capped = message.flags & 0x100 != 0;
    let skip = 4 + if capped { 16 } else { echoed.next_multiple_of(4) };
    let rest = message.payload.get(skip..)?;
    attributes(rest).next()?;
    attribute(rest, ERROR_TEXT).map(text)
}

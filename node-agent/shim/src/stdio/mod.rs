//! A process' standard streams: who made them, who gets them, how they end.
//!
//! Start reading at [`Session`], one for the init process and one for each exec that runs. `pipes.rs` makes the ends,
//! `input.rs` feeds standard input, `client.rs` is one attached client, `spill.rs` what waits for it on disk. Output goes
//! to every client from the moment it attached and to the log. A client that is slow holds the process up, so that no
//! byte is lost and little waits; one that stands still does so only for [`PATIENCE`], unlike with dockerd, whose
//! containers stop for ever when somebody stops a terminal. What comes then waits on disk, and only a client that does
//! not even take what has room there holds the process up again, because nothing may be cut out of a stream. Where
//! connections come from and what a process' end means is not decided here.

mod client;
mod input;
mod null;
mod pipes;
mod spill;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::termios::Winsize;

pub(crate) use self::client::Backlog;
use self::client::{Client, Readiness};
use self::input::Input;
pub(crate) use self::null::NullDevice;
pub(crate) use self::pipes::{ChildEnds, Plan};
use self::spill::Spill;
use crate::log::LogWriter;
use crate::poll::{ConnectionId, Interest, Poller, Ready, SessionId, Token};
use crate::protocol::{AttachRequest, ConsoleSize};
use crate::stream::Stream;

/// How much output may wait for a client before the process is held up.
const CLIENT_BACKLOG: usize = 1024 * 1024;

/// The same once the process has ended: what is left in its pipes must come out even if a client stands still.
const FINAL_CLIENT_BACKLOG: usize = 4 * 1024 * 1024;

/// How much of what is left is read at once.
const REST_STEP: usize = 64 * 1024;

/// How long a client that takes nothing may hold the process up.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client does to the process by ending its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndOfInput {
    /// The process' standard input ends; the client goes on receiving.
    ClosesInput,
    /// The client's attachment ends; the process notices nothing.
    EndsAttachment,
}

/// Where the process is in its life, as far as its streams are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// The process does not run yet; what is in its pipes may be the runtime's own words.
    Held,
    /// Output comes.
    Open,
    /// The process has ended; what it wrote is collected until the end of the streams or this moment, because a
    /// descendant may keep them open for ever.
    Draining(Instant),
    /// No output will come.
    Over,
}

/// The pseudo-terminal of a process.
#[derive(Debug)]
struct Terminal {
    master: OwnedFd,
    /// Kept open while the process lives, so that programs which close and reopen their terminal do not end it.
    slave: Option<OwnedFd>,
}

/// The standard streams of one process and everybody attached to them.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    end_of_input: EndOfInput,
    outputs: [Option<OwnedFd>; 2],
    /// Whether outputs are in the poller: not before the process is known to run, and not while a client is too far
    /// behind.
    is_flowing: bool,
    input: Input,
    terminal: Option<Terminal>,
    /// The size that was asked for last, for a terminal that does not exist yet.
    size: Option<ConsoleSize>,
    clients: Vec<Client>,
    log: LogWriter,
    /// Where output may wait for clients that stand still; `None` where it may not or cannot.
    spill_directory: Option<PathBuf>,
    flow: Flow,
}

fn slot(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Session {
    /// The streams of a process that does not exist yet; clients may attach.
    pub(crate) fn new(id: SessionId, end_of_input: EndOfInput) -> Self {
        Self {
            id,
            end_of_input,
            outputs: [None, None],
            is_flowing: false,
            input: Input::Awaited,
            terminal: None,
            size: None,
            clients: Vec::new(),
            log: LogWriter::None,
            spill_directory: None,
            flow: Flow::Held,
        }
    }

    /// Stores output in this log from now on.
    pub(crate) fn set_log(&mut self, log: LogWriter) {
        self.log = log;
    }

    /// Lets output wait in this directory for clients that stand still.
    pub(crate) fn spill_into(&mut self, directory: PathBuf) {
        self.spill_directory = Some(directory);
    }

    /// The log.
    pub(crate) fn log(&mut self) -> &mut LogWriter {
        &mut self.log
    }

    /// Makes the ends for a process without a terminal: ours are watched from now on, its are returned.
    pub(crate) fn open_pipes(&mut self, plan: Plan, poller: &Poller) -> io::Result<ChildEnds> {
        let (ours, child) = pipes::make(plan)?;
        for (stream, end) in Stream::ALL.into_iter().zip(ours.outputs) {
            if let Some(end) = end {
                self.watch_output(stream, end, poller)?;
            }
        }
        self.open_input(ours.input, poller)?;
        Ok(child)
    }

    /// Takes the master of the process' terminal.
    pub(crate) fn open_terminal(&mut self, master: OwnedFd, poller: &Poller) -> io::Result<()> {
        pipes::set_nonblocking(&master)?;
        let slave = pipes::open_slave(&master).ok();
        let output = master.try_clone()?;
        let input = master.try_clone()?;
        self.terminal = Some(Terminal { master, slave });
        if let Some(size) = self.size {
            self.resize(size)?;
        }
        self.watch_output(Stream::Stdout, output, poller)?;
        self.open_input(Some(input), poller)
    }

    fn watch_output(&mut self, stream: Stream, end: OwnedFd, poller: &Poller) -> io::Result<()> {
        if self.is_flowing {
            poller.add(&end, Token::Output(self.id, stream), Interest::READ)?;
        }
        self.outputs[slot(stream)] = Some(end);
        Ok(())
    }

    fn open_input(&mut self, end: Option<OwnedFd>, poller: &Poller) -> io::Result<()> {
        self.input.open(end);
        self.update_clients(poller)
    }

    /// The process runs: output is handed on from now on, also what was written before.
    pub(crate) fn release(&mut self, poller: &Poller) -> io::Result<()> {
        if self.flow == Flow::Held {
            self.flow = Flow::Open;
        }
        self.update_clients(poller)
    }

    /// Sets the terminal's size, now or when there is one.
    pub(crate) fn resize(&mut self, size: ConsoleSize) -> io::Result<()> {
        self.size = Some(size);
        if let Some(terminal) = &self.terminal {
            let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(&terminal.master, size)?;
        }
        Ok(())
    }

    /// The last size that was asked for.
    pub(crate) fn size(&self) -> Option<ConsoleSize> {
        self.size
    }

    /// Ends standard input, now or as soon as there is one.
    pub(crate) fn close_input(&mut self, poller: &Poller) -> io::Result<()> {
        self.input.end(poller);
        self.update_clients(poller)
    }

    /// Adds a client, which gets everything from here on.
    pub(crate) fn attach(
        &mut self,
        id: ConnectionId,
        socket: UnixStream,
        request: AttachRequest,
        poller: &Poller,
    ) -> io::Result<()> {
        let mut client = Client::new(id, socket, request);
        if self.flow == Flow::Over {
            client.leave();
        }
        client.watch(Readiness::Later, poller)?;
        self.clients.push(client);
        self.update_clients(poller)
    }

    /// Whether this connection is attached here.
    pub(crate) fn has_client(&self, id: ConnectionId) -> bool {
        self.clients.iter().any(|client| client.id() == id)
    }

    /// How many clients are attached.
    pub(crate) fn n_clients(&self) -> usize {
        self.clients.len()
    }

    /// Reads what the process wrote, at most one buffer full, and hands it on.
    pub(crate) fn on_output(&mut self, stream: Stream, buffer: &mut [u8], poller: &Poller) -> io::Result<()> {
        let Some(end) = &self.outputs[slot(stream)] else { return Ok(()) };
        match rustix::io::read(end, &mut *buffer) {
            // A terminal reports the end of its other side as an error.
            Ok(0) | Err(Errno::IO) => {
                self.close_output(stream, poller);
                Ok(())
            }
            Ok(n_read) => {
                self.hand_on(stream, &buffer[..n_read]);
                self.update_clients(poller)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => {
                self.close_output(stream, poller);
                Ok(())
            }
        }
    }

    /// Gives output to the log and to everybody who is attached.
    fn hand_on(&mut self, stream: Stream, bytes: &[u8]) {
        self.log.write(stream, bytes);
        for client in &mut self.clients {
            client.send(stream, bytes);
        }
    }

    /// Goes on writing input that the process had no room for.
    pub(crate) fn on_input(&mut self, ready: Ready, poller: &Poller) -> io::Result<()> {
        if ready.hung_up {
            self.input.abandon(poller);
        } else {
            self.input.flush(self.id, poller)?;
        }
        self.update_clients(poller)
    }

    /// Serves a client that can be read or written, or is gone.
    pub(crate) fn on_client(
        &mut self,
        id: ConnectionId,
        ready: Ready,
        buffer: &mut [u8],
        poller: &Poller,
    ) -> io::Result<()> {
        let Some(client) = self.clients.iter_mut().find(|client| client.id() == id) else { return Ok(()) };
        if ready.hung_up {
            client.vanish();
        }
        if ready.writable {
            client.flush();
        }
        if ready.readable && client.sends_input() && self.input.takes_more() {
            match client.read(buffer) {
                Ok(0) => self.on_client_end_of_input(id, poller),
                Ok(n_read) => self.input.write(self.id, &buffer[..n_read], poller)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    client.vanish();
                    self.on_client_end_of_input(id, poller);
                }
            }
        }
        self.update_clients(poller)
    }

    fn on_client_end_of_input(&mut self, id: ConnectionId, poller: &Poller) {
        let Some(client) = self.clients.iter_mut().find(|client| client.id() == id) else { return };
        client.end_input();
        match self.end_of_input {
            EndOfInput::ClosesInput => self.input.end(poller),
            EndOfInput::EndsAttachment => client.leave(),
        }
    }

    /// The process has ended: nobody can write to it, and its output is collected until `deadline` at most.
    pub(crate) fn drain(&mut self, deadline: Instant, poller: &Poller) -> io::Result<()> {
        if matches!(self.flow, Flow::Held | Flow::Open) {
            self.flow = Flow::Draining(deadline);
            self.input.abandon(poller);
            if let Some(terminal) = &mut self.terminal {
                drop(terminal.slave.take());
            }
        }
        self.update_clients(poller)
    }

    /// When to stop waiting for the end of the output.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.flow {
            Flow::Draining(deadline) => Some(deadline),
            Flow::Held | Flow::Open | Flow::Over => None,
        }
    }

    /// When [`Self::on_time`] has something to do.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.deadline().into_iter().chain(self.next_spill()).min()
    }

    fn next_spill(&self) -> Option<Instant> {
        self.spill_directory.as_ref()?;
        self.clients.iter().filter_map(Client::still_since).min().map(|since| since + PATIENCE)
    }

    /// Lets the process go on if a client has held it up for too long.
    pub(crate) fn on_time(&mut self, poller: &Poller) -> io::Result<()> {
        let now = Instant::now();
        if self.next_spill().is_none_or(|due| due > now) {
            return Ok(());
        }
        for client in &mut self.clients {
            let is_due = client.still_since().is_some_and(|since| since + PATIENCE <= now);
            let Some(directory) = self.spill_directory.as_ref().filter(|_| is_due) else { continue };
            match Spill::create(directory) {
                Ok(spill) => client.spill_to(spill),
                // The disk does not serve: from now on clients are waited for.
                Err(_) => self.spill_directory = None,
            }
        }
        self.update_clients(poller)
    }

    /// Whether all output has been collected.
    pub(crate) fn is_drained(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }

    /// The process never came to life: what is in its pipes are the runtime's own words, and nobody's. Clients stay,
    /// until the session is finished.
    pub(crate) fn abandon_output(&mut self, poller: &Poller) -> io::Result<()> {
        for stream in Stream::ALL {
            self.close_output(stream, poller);
        }
        self.terminal = None;
        self.close_input(poller)
    }

    /// Nothing more will come: completes the log, and lets every client go once it has got its share.
    pub(crate) fn finish(&mut self, poller: &Poller) -> io::Result<()> {
        if matches!(self.flow, Flow::Draining(_)) {
            self.take_rest();
        }
        for stream in Stream::ALL {
            self.close_output(stream, poller);
        }
        self.input.abandon(poller);
        self.terminal = None;
        self.flow = Flow::Over;
        self.log.finish();
        for client in &mut self.clients {
            client.leave();
        }
        self.update_clients(poller)
    }

    /// Takes what lies in the pipes at this moment, however long clients make it wait.
    ///
    /// The time for collecting is over. What the process wrote before its end is still in there if the machine was too busy to read
    /// it; what a descendant goes on writing is not waited for.
    fn take_rest(&mut self) {
        let mut buffer = vec![0; REST_STEP];
        for stream in Stream::ALL {
            let waiting = self.outputs[slot(stream)].as_ref().map(rustix::io::ioctl_fionread);
            let mut left = waiting.and_then(Result::ok).unwrap_or(0);
            while let Some(end) = self.outputs[slot(stream)].as_ref().filter(|_| left > 0) {
                match rustix::io::read(end, &mut buffer[..]) {
                    Err(Errno::INTR) => {}
                    Ok(0) | Err(_) => break,
                    Ok(n_read) => {
                        self.hand_on(stream, &buffer[..n_read]);
                        left = left.saturating_sub(n_read as u64);
                    }
                }
            }
        }
    }

    /// Whether the session is over and the last client has gone.
    pub(crate) fn is_deserted(&self) -> bool {
        self.flow == Flow::Over && self.clients.is_empty()
    }

    fn close_output(&mut self, stream: Stream, poller: &Poller) {
        if let Some(end) = self.outputs[slot(stream)].take() {
            // A child that compresses may hold a copy for a moment, which would keep the registration alive.
            poller.remove(&end);
        }
    }

    /// After any change: removes the clients that are done, watches the others for what can be done with them, and
    /// holds the process up or lets it go on.
    fn update_clients(&mut self, poller: &Poller) -> io::Result<()> {
        let takes_input = self.input.takes_more();
        let over = self.flow == Flow::Over;
        self.clients.retain_mut(|client| {
            let has_more_input = client.sends_input() && !over;
            if client.is_done(has_more_input) {
                client.close(poller);
                return false;
            }
            let readiness = if takes_input { Readiness::Now } else { Readiness::Later };
            // A client that cannot be watched cannot be served.
            client.watch(readiness, poller).is_ok()
        });
        let limit = match self.flow {
            Flow::Held => 0,
            Flow::Open => CLIENT_BACKLOG,
            Flow::Draining(_) | Flow::Over => FINAL_CLIENT_BACKLOG,
        };
        if limit == 0 {
            return self.set_flowing(false, poller);
        }
        let now = Instant::now();
        let mut may_flow = true;
        for client in &mut self.clients {
            may_flow &= !client.is_in_the_way(limit, now);
        }
        self.set_flowing(may_flow, poller)
    }

    fn set_flowing(&mut self, may_flow: bool, poller: &Poller) -> io::Result<()> {
        if may_flow == self.is_flowing {
            return Ok(());
        }
        self.is_flowing = may_flow;
        for stream in Stream::ALL {
            let Some(end) = &self.outputs[slot(stream)] else { continue };
            if may_flow {
                poller.add(end.as_fd(), Token::Output(self.id, stream), Interest::READ)?;
            } else {
                // Removed, not silenced: the hang-up of an output cannot be silenced.
                poller.remove(end);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The process: how it starts, what it waits for, when it ends.
//!
//! Start reading at [`run`], then [`Shim`], which holds everything, and [`Shim::serve`], the loop. What the events
//! mean is in the files named like them: `requests.rs`, `container.rs`, `execs.rs`, `reaper.rs`, `oom.rs`. Idle, the
//! process sits in one endless wait; there are no timers but the ones that a running operation needs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use node_runtime::cgroup::Cgroup;
use rustix::process::Pid;

use crate::bundle::Bundle;
use crate::checkpoint::Departure;
use crate::container::{Life, Shutdown};
use crate::error::ProcessError;
use crate::execs::Exec;
use crate::memory;
use crate::oom::OomWatch;
use crate::poll::{ConnectionId, Interest, Patience, Poller, Ready, SessionId, Token};
use crate::protocol::{Event, Failure, Message, Phase, Role, ShimState, Welcome};
use crate::reaper::Commands;
use crate::runtime::{self, OciRuntime};
use crate::socket::{self, Control, Greeted, Greeting};
use crate::stdio::{EndOfInput, Session};
use crate::{report, sys};

/// How much is read at once from a process or a client.
const BUFFER_LEN: usize = 128 * 1024;

/// How long after the last event memory is given back. Long enough not to do it between the lines of a busy process.
const TRIM_DELAY: Duration = Duration::from_millis(200);

/// How long to wait before accepting again after it had failed.
const ACCEPT_DELAY: Duration = Duration::from_secs(1);

/// Everything that a shim knows.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) bundle: Bundle,
    pub(crate) poller: Poller,
    pub(crate) runtime: Box<dyn OciRuntime>,
    pub(crate) life: Life,
    /// The init process' streams, from before it exists until after it ended.
    pub(crate) init: Session,
    pub(crate) execs: Vec<Exec>,
    pub(crate) commands: Commands,
    /// The container's cgroup, from its creation on.
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) oom: OomWatch,
    /// Why the container ends, if a checkpoint is the reason.
    pub(crate) departure: Departure,
    pub(crate) shutdown: Shutdown,
    pub(crate) control: Option<Control>,
    pub(crate) next_session: u32,
    signals: OwnedFd,
    listener: UnixListener,
    /// While the listener is not watched, because accepting has failed: when to try again.
    accept_again: Option<Instant>,
    greetings: BTreeMap<ConnectionId, Greeting>,
    next_connection: u32,
    /// Empty while idle.
    buffer: Vec<u8>,
}

/// Serves a bundle until its container is gone and a daemon has taken note.
pub(crate) fn run(bundle: &Path, empty_mounts: Option<&Path>) -> Result<(), ProcessError> {
    let control = become_shim()?;
    // Its owner may have died; the container can do without.
    let empty_mounts = empty_mounts.and_then(|path| File::open(path).ok()).map(OwnedFd::from);
    let mut shim = Shim::new(Bundle::open(bundle)?, empty_mounts)?;
    if let Some(socket) = control {
        shim.greet(socket);
    }
    shim.serve()
}

/// Makes this process independent of the one that started it. Returns the inherited connection.
fn become_shim() -> Result<Option<UnixStream>, ProcessError> {
    sys::keep_heap_small();
    sys::close_descriptors_from(3);
    sys::reset_signals();
    // A listing would show the name of the descriptor that the program was started through. A name is no condition.
    let _ = rustix::thread::set_name(c"shoal-shim");
    // Fails only for the leader of a process group, which is then its own session's business.
    let _ = rustix::process::setsid();
    let doing = |what: &'static str| move |source: rustix::io::Errno| ProcessError::step(what, source);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(doing("become a subreaper"))?;
    let stdin = rustix::stdio::stdin();
    let is_socket = rustix::net::sockopt::socket_domain(stdin).is_ok();
    if !is_socket {
        return Ok(None);
    }
    let socket = rustix::io::fcntl_dupfd_cloexec(stdin, 3).map_err(doing("keep the inherited connection"))?;
    let null = File::open("/dev/null").map_err(|source| ProcessError::step("open /dev/null", source))?;
    rustix::stdio::dup2_stdin(&null).map_err(doing("let go of standard input"))?;
    Ok(Some(UnixStream::from(socket)))
}

impl Shim {
    fn new(bundle: Bundle, empty_mounts: Option<OwnedFd>) -> Result<Self, ProcessError> {
        let doing = |what: &'static str| move |source: io::Error| ProcessError::step(what, source);
        let poller = Poller::new().map_err(doing("make an epoll instance"))?;
        let signals = sys::signal_descriptor().map_err(doing("receive signals"))?;
        let listener = socket::listen()?;
        poller.add(&signals, Token::Signals, Interest::READ).map_err(doing("watch signals"))?;
        poller.add(&listener, Token::Listener, Interest::READ).map_err(doing("watch the socket"))?;
        adjust_oom_score(bundle.launch.oom_score_adj);
        let runtime = runtime::choose(&bundle, empty_mounts);
        let init = Session::new(SessionId::INIT, end_of_init_input(&bundle));
        Ok(Self {
            bundle,
            poller,
            runtime,
            life: Life::Idle,
            init,
            execs: Vec::new(),
            commands: Commands::default(),
            cgroup: None,
            oom: OomWatch::default(),
            departure: Departure::default(),
            shutdown: Shutdown::NotAsked,
            control: None,
            next_session: 1,
            signals,
            listener,
            accept_again: None,
            greetings: BTreeMap::new(),
            next_connection: 0,
            buffer: Vec::new(),
        })
    }

    /// The loop.
    fn serve(&mut self) -> Result<(), ProcessError> {
        let mut is_swollen = true;
        while !self.is_over() {
            let patience = self.patience(is_swollen);
            let events =
                self.poller.wait(patience).map_err(|source| ProcessError::step("wait for events", source))?;
            if events.is_empty() && is_swollen {
                self.trim();
                is_swollen = false;
            }
            for ready in events {
                is_swollen = true;
                if let Err(error) = self.dispatch(ready) {
                    // What failed concerns one source; the container and the other sources go on.
                    report(&format!("cannot serve {:?}: {error}", ready.token));
                }
            }
            self.pass_deadlines();
            self.tell_log_trouble();
            self.settle();
        }
        Ok(())
    }

    fn dispatch(&mut self, ready: Ready) -> io::Result<()> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER_LEN];
        }
        match ready.token {
            Token::Signals => self.reap(),
            Token::Listener => self.accept(),
            Token::Oom => self.on_oom(),
            Token::Connection(id) => self.on_connection(id, ready)?,
            Token::Output(id, stream) => {
                let Self { init, execs, buffer, poller, .. } = self;
                if let Some(session) = find_session(init, execs, id) {
                    session.on_output(stream, buffer, poller)?;
                }
            }
            Token::Input(id) => {
                let Self { init, execs, poller, .. } = self;
                if let Some(session) = find_session(init, execs, id) {
                    session.on_input(ready, poller)?;
                }
            }
        }
        Ok(())
    }

    fn patience(&self, is_swollen: bool) -> Patience {
        let sessions = self.execs.iter().filter_map(|exec| exec.session()).chain([&self.init]);
        let deadline = sessions
            .filter_map(Session::next_wake)
            .chain(self.accept_again)
            .chain(self.oom.deadline())
            .chain(self.commands.deadline())
            .min();
        let until_deadline = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match (until_deadline, is_swollen) {
            (Some(duration), true) => Patience::Until(duration.min(TRIM_DELAY)),
            (Some(duration), false) => Patience::Until(duration),
            (None, true) => Patience::Until(TRIM_DELAY),
            (None, false) => Patience::Endless,
        }
    }

    /// Gives back the memory that the last burst of work took.
    fn trim(&mut self) {
        self.buffer = Vec::new();
        self.init.log().trim();
        memory::let_go_of_heap();
        memory::let_go_of_code();
    }

    fn pass_deadlines(&mut self) {
        if let Err(error) = self.init.on_time(&self.poller) {
            report(&format!("cannot let the container go on without a client: {error}"));
        }
        let Some(again) = self.accept_again else { return };
        if Instant::now() >= again && self.poller.add(&self.listener, Token::Listener, Interest::READ).is_ok()
        {
            self.accept_again = None;
        }
    }

    pub(crate) fn drain_signals(&self) {
        let mut sink = [0; 1024];
        while matches!(rustix::io::read(&self.signals, &mut sink), Ok(n_read) if n_read > 0) {}
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) if socket::is_same_user(&socket) => self.greet(socket),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return self.pause_accepting(&error),
                },
            }
        }
    }

    /// There are no descriptors or no memory left. The connection stays where it is, and would be told of for ever.
    fn pause_accepting(&mut self, error: &io::Error) {
        report(&format!("cannot accept a connection: {error}"));
        self.poller.remove(&self.listener);
        self.accept_again = Some(Instant::now() + ACCEPT_DELAY);
    }

    fn greet(&mut self, socket: UnixStream) {
        let id = ConnectionId(self.next_connection);
        self.next_connection = self.next_connection.wrapping_add(1);
        match Greeting::new(socket).and_then(|greeting| greeting.watch(id, &self.poller).map(|()| greeting)) {
            Ok(greeting) => drop(self.greetings.insert(id, greeting)),
            Err(error) => report(&format!("cannot serve a connection: {error}")),
        }
    }

    fn on_connection(&mut self, id: ConnectionId, ready: Ready) -> io::Result<()> {
        if self.control.as_ref().is_some_and(|control| control.id == id) {
            self.on_control(ready);
            return Ok(());
        }
        if let Some(greeting) = self.greetings.get_mut(&id) {
            let greeted = greeting.read();
            return self.on_greeting(id, greeted);
        }
        let Self { init, execs, buffer, poller, .. } = self;
        let sessions = execs.iter_mut().filter_map(|exec| exec.session_mut()).chain([init]);
        for session in sessions {
            if session.has_client(id) {
                return session.on_client(id, ready, buffer, poller);
            }
        }
        Ok(())
    }

    fn on_greeting(&mut self, id: ConnectionId, greeted: Greeted) -> io::Result<()> {
        if matches!(greeted, Greeted::NotYet) {
            return Ok(());
        }
        let Some(greeting) = self.greetings.remove(&id) else { return Ok(()) };
        let mut socket = greeting.into_socket(&self.poller);
        match greeted {
            Greeted::NotYet | Greeted::Gone => Ok(()),
            Greeted::Nonsense(failure) => {
                socket::refuse(socket, failure);
                Ok(())
            }
            Greeted::Hello(hello) => match hello.role {
                Role::Control => self.take_control(id, socket),
                Role::Attach(request) => {
                    socket::welcome(&mut socket, &Ok(Welcome::Attached))?;
                    self.init.attach(id, socket, request, &self.poller)
                }
                Role::Exec(request) => {
                    self.exec(id, socket, &request);
                    Ok(())
                }
            },
        }
    }

    /// Makes this the control connection in place of any other.
    fn take_control(&mut self, id: ConnectionId, socket: UnixStream) -> io::Result<()> {
        if self.control.is_some() {
            self.tell(Event::Superseded);
        }
        if let Some(superseded) = self.control.take() {
            superseded.close(&self.poller);
        }
        let welcome = Welcome::Control {
            version: crate::protocol::PROTOCOL_VERSION,
            shim_pid: u32::try_from(Pid::as_raw(Some(rustix::process::getpid()))).unwrap_or_default(),
            state: self.state(),
        };
        let mut control = Control::new(id, socket, &self.poller)?;
        match control.welcome(welcome, &self.poller) {
            Ok(()) => self.control = Some(control),
            Err(socket::Lost) => control.close(&self.poller),
        }
        Ok(())
    }

    fn on_control(&mut self, ready: Ready) {
        let Some(control) = &mut self.control else { return };
        let id = control.id;
        let mut standing = Ok(());
        if ready.writable {
            standing = control.flush(&self.poller);
        }
        let mut requests = Vec::new();
        if ready.readable {
            let (whole, after_read) = control.read(&mut self.buffer);
            requests = whole;
            standing = standing.and(after_read);
        }
        for request in requests {
            self.handle(id, &request);
        }
        if standing.is_err() {
            self.lose_control();
        }
    }

    fn lose_control(&mut self) {
        if let Some(control) = self.control.take() {
            control.close(&self.poller);
        }
    }

    /// Sends a message to the daemon, if one is there. One that is not gets the whole state when it comes back.
    pub(crate) fn send(&mut self, message: &Message) {
        let Some(control) = &mut self.control else { return };
        if control.send(message, &self.poller).is_err() {
            self.lose_control();
        }
    }

    /// Tells the daemon what happened.
    pub(crate) fn tell(&mut self, event: Event) {
        self.send(&Message::Event(event));
    }

    fn tell_log_trouble(&mut self) {
        let trouble = self.init.log().file().and_then(|file| file.take_trouble());
        if let Some(message) = trouble {
            report(&format!("cannot write the container's log, entries are lost: {message}"));
            self.tell(Event::LogTrouble { message });
        }
    }

    /// Everything that is known.
    pub(crate) fn state(&self) -> ShimState {
        ShimState {
            phase: self.life.phase(),
            execs: self.execs.iter().filter_map(Exec::state).collect(),
            oom_kills: self.oom.kills(),
            paused: self.life.is_paused(),
        }
    }

    /// Whether the container is gone, a daemon (if there is one) knows it, every client has got its share, and no rotated
    /// log is half compressed.
    fn is_over(&mut self) -> bool {
        self.shutdown == Shutdown::Done
            && !self.init.log().file().is_some_and(|file| file.rotation().is_compressing())
            && self.control.as_ref().is_none_or(Control::is_flushed)
            && self.init.is_deserted()
            && self.execs.iter().filter_map(Exec::session).all(Session::is_deserted)
    }
}

/// The session with this number, if it still exists.
fn find_session<'a>(init: &'a mut Session, execs: &'a mut [Exec], id: SessionId) -> Option<&'a mut Session> {
    if id == SessionId::INIT {
        return Some(init);
    }
    execs.iter_mut().find(|exec| exec.session_id() == id)?.session_mut()
}

fn end_of_init_input(bundle: &Bundle) -> EndOfInput {
    use crate::protocol::StdinMode;
    match bundle.launch.stdin {
        StdinMode::Once => EndOfInput::ClosesInput,
        StdinMode::Closed | StdinMode::Open => EndOfInput::EndsAttachment,
    }
}

/// The kernel refuses to lower the score without a privilege that containers of containers lack.
fn adjust_oom_score(wish: Option<i32>) {
    let Some(score) = wish else { return };
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        report(&format!("cannot set the OOM score adjustment to {score}: {error}"));
    }
}

/// Why a request was not legal.
pub(crate) fn wrong_phase(phase: &Phase, wanted: &str) -> Failure {
    let is = match phase {
        Phase::Idle => "is not created",
        Phase::Creating => "is being created",
        Phase::Created { .. } => "is not started",
        Phase::Running { .. } => "is running",
        Phase::Failed(_) => "has failed to start",
        Phase::Exited(_) => "has exited",
    };
    Failure::new(crate::protocol::FailureKind::WrongPhase, format!("cannot {wanted}: the container {is}"))
}

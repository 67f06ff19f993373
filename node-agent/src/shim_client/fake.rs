//! Shims without processes, for tests of the engine: they obey the same phases, and the test decides when a container
//! exits, what it prints and when its shim dies.
//!
//! Start reading at [`FakeShims`]. A container lives here as long as the value does, however often its handles are
//! dropped: that is how a test restarts its engine. What a fake does not do: run anything, write files, frame
//! output (the far end of an attached stream is given to the test as it is).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use node_shim::protocol::{
    AfterCheckpoint, AttachRequest, ConsoleSize, Event, ExecMode, ExecRequest, ExecState, ExitRecord,
    Failure, FailureKind, KillScope, Phase, ShimState, Target,
};
use shoal_types::ExecId;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::{ExecExit, FoundShim, RunningExec, Shim, ShimError, ShimEvents, Shims};

const SIGKILL: i32 = 9;

/// All fake shims of a test's machine.
#[derive(Debug, Default)]
pub struct FakeShims {
    containers: Mutex<HashMap<PathBuf, Arc<FakeContainer>>>,
    next_failure: Mutex<Option<Failure>>,
}

impl FakeShims {
    /// A machine without shims.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The container of a bundle, if a shim was ever spawned for it.
    pub fn container(&self, bundle: &Path) -> Option<Arc<FakeContainer>> {
        lock(&self.containers).get(bundle).cloned()
    }

    /// Bundles whose shim lives.
    pub fn living_bundles(&self) -> Vec<PathBuf> {
        let containers = lock(&self.containers);
        containers
            .iter()
            .filter(|(_, container)| container.is_alive())
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// The machine is switched off: nothing lives, nothing is remembered.
    pub fn reboot(&self) {
        for (_, container) in lock(&self.containers).drain() {
            container.die();
        }
    }

    /// Makes the next create fail.
    pub fn fail_next_create(&self, failure: Failure) {
        *lock(&self.next_failure) = Some(failure);
    }
}

#[async_trait]
impl Shims for FakeShims {
    async fn spawn(&self, bundle: &Path) -> Result<FoundShim, ShimError> {
        let container = Arc::new(FakeContainer::new(lock(&self.next_failure).take()));
        lock(&self.containers).insert(bundle.to_owned(), Arc::clone(&container));
        Ok(container.connect())
    }

    async fn find(&self, bundle: &Path) -> Result<Option<FoundShim>, ShimError> {
        Ok(self
            .container(bundle)
            .filter(|container| container.is_alive())
            .map(|container| container.connect()))
    }

    async fn clean_up(&self, bundle: &Path) -> Result<ExitRecord, ShimError> {
        let recorded = self.container(bundle).and_then(|container| {
            container.die();
            container.exit_record()
        });
        Ok(recorded.unwrap_or_else(|| exit_record(128 + SIGKILL)))
    }
}

/// One container of a [`FakeShims`]: what the test can see and do.
#[derive(Debug)]
pub struct FakeContainer {
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    state: ShimState,
    create_failure: Option<Failure>,
    is_alive: bool,
    events: Option<mpsc::UnboundedSender<Event>>,
    signals: Vec<(i32, KillScope)>,
    sizes: Vec<(Target, ConsoleSize)>,
    attached: Vec<(AttachRequest, UnixStream)>,
    execs: Vec<FakeExec>,
    exec_exits: HashMap<ExecId, oneshot::Sender<ExitRecord>>,
}

/// An exec that the engine has started in a [`FakeContainer`].
#[derive(Debug)]
pub struct FakeExec {
    /// What was asked for.
    pub request: ExecRequest,
    /// The process' end of the stream, unless detached.
    pub stream: Option<UnixStream>,
}

impl FakeContainer {
    fn new(create_failure: Option<Failure>) -> Self {
        let state = ShimState { phase: Phase::Idle, execs: Vec::new(), oom_kills: 0, paused: false };
        Self {
            inside: Mutex::new(Inside {
                state,
                create_failure,
                is_alive: true,
                events: None,
                signals: Vec::new(),
                sizes: Vec::new(),
                attached: Vec::new(),
                execs: Vec::new(),
                exec_exits: HashMap::new(),
            }),
        }
    }

    fn connect(self: &Arc<Self>) -> FoundShim {
        let (events, receiver) = mpsc::unbounded_channel();
        let mut inside = lock(&self.inside);
        if let Some(superseded) = inside.events.replace(events) {
            let _ = superseded.send(Event::Superseded);
        }
        let shim = Arc::new(FakeShim { container: Arc::clone(self) });
        FoundShim { shim, state: inside.state.clone(), events: ShimEvents::new(receiver) }
    }

    fn is_alive(&self) -> bool {
        lock(&self.inside).is_alive
    }

    fn exit_record(&self) -> Option<ExitRecord> {
        match &lock(&self.inside).state.phase {
            Phase::Exited(exit) => Some(*exit),
            Phase::Idle
            | Phase::Creating
            | Phase::Created { .. }
            | Phase::Running { .. }
            | Phase::Failed(_) => None,
        }
    }

    /// The init process ends with this code.
    pub fn exit(&self, code: i32) {
        let mut inside = lock(&self.inside);
        inside.attached.clear();
        inside.execs.clear();
        inside.enter(Phase::Exited(exit_record(code)));
    }

    /// The process of an exec ends with this code.
    pub fn exit_exec(&self, exec_id: ExecId, code: i32) {
        let mut inside = lock(&self.inside);
        let exit = exit_record(code);
        if let Some(exec) = inside.state.execs.iter_mut().find(|exec| exec.exec_id == exec_id) {
            exec.exit = Some(exit);
        }
        if let Some(waiter) = inside.exec_exits.remove(&exec_id) {
            let _ = waiter.send(exit);
        }
        inside.tell(Event::ExecExited { exec_id, exit });
        inside.execs.retain(|exec| exec.request.exec_id != exec_id);
    }

    /// The kernel kills a process for want of memory.
    pub fn run_out_of_memory(&self) {
        let mut inside = lock(&self.inside);
        inside.state.oom_kills += 1;
        let kills = inside.state.oom_kills;
        inside.tell(Event::Oom { kills });
    }

    /// The shim is killed: the connection breaks and no new one is accepted.
    pub fn die(&self) {
        let mut inside = lock(&self.inside);
        inside.is_alive = false;
        inside.events = None;
        inside.attached.clear();
        inside.execs.clear();
        inside.exec_exits.clear();
    }

    /// The signals that were sent to the container, in order.
    pub fn signals(&self) -> Vec<(i32, KillScope)> {
        lock(&self.inside).signals.clone()
    }

    /// The terminal sizes that were set, in order.
    pub fn sizes(&self) -> Vec<(Target, ConsoleSize)> {
        lock(&self.inside).sizes.clone()
    }

    /// Takes the container's ends of the streams that were attached since the last call.
    pub fn take_attached(&self) -> Vec<(AttachRequest, UnixStream)> {
        std::mem::take(&mut lock(&self.inside).attached)
    }

    /// Takes the execs that were started since the last call. Dropping one's stream ends its output.
    pub fn take_execs(&self) -> Vec<FakeExec> {
        std::mem::take(&mut lock(&self.inside).execs)
    }
}

impl Inside {
    fn enter(&mut self, phase: Phase) {
        self.state.phase = phase.clone();
        self.tell(Event::Phase(phase));
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &self.events {
            let _ = events.send(event);
        }
    }

    fn require_process(&self) -> Result<(), ShimError> {
        match self.state.phase {
            Phase::Created { .. } | Phase::Running { .. } => Ok(()),
            Phase::Idle | Phase::Creating | Phase::Failed(_) | Phase::Exited(_) => {
                Err(Failure::new(FailureKind::NotRunning, "the container is not running").into())
            }
        }
    }
}

#[derive(Debug)]
struct FakeShim {
    container: Arc<FakeContainer>,
}

impl FakeShim {
    fn inside(&self) -> Result<MutexGuard<'_, Inside>, ShimError> {
        let inside = lock(&self.container.inside);
        if inside.is_alive { Ok(inside) } else { Err(ShimError::Gone) }
    }
}

fn wrong_phase() -> ShimError {
    Failure::new(FailureKind::WrongPhase, "not legal in this phase").into()
}

#[async_trait]
impl Shim for FakeShim {
    async fn create(&self) -> Result<u32, ShimError> {
        let mut inside = self.inside()?;
        if inside.state.phase != Phase::Idle {
            return Err(wrong_phase());
        }
        if let Some(failure) = inside.create_failure.take() {
            inside.enter(Phase::Failed(failure.clone()));
            return Err(failure.into());
        }
        let pid = 4_000_000;
        inside.enter(Phase::Created { pid });
        Ok(pid)
    }

    async fn start(&self) -> Result<Timestamp, ShimError> {
        let mut inside = self.inside()?;
        let Phase::Created { pid } = inside.state.phase else { return Err(wrong_phase()) };
        let started_at = Timestamp::now();
        inside.enter(Phase::Running { pid, started_at });
        Ok(started_at)
    }

    async fn kill(&self, signal: i32, scope: KillScope) -> Result<(), ShimError> {
        let mut inside = self.inside()?;
        inside.require_process()?;
        inside.signals.push((signal, scope));
        if signal == SIGKILL {
            inside.attached.clear();
            inside.enter(Phase::Exited(exit_record(128 + SIGKILL)));
        }
        Ok(())
    }

    async fn pause(&self) -> Result<(), ShimError> {
        let mut inside = self.inside()?;
        inside.require_process()?;
        inside.state.paused = true;
        Ok(())
    }

    async fn resume(&self) -> Result<(), ShimError> {
        let mut inside = self.inside()?;
        inside.require_process()?;
        inside.state.paused = false;
        Ok(())
    }

    async fn checkpoint(&self, place: &Path, after: AfterCheckpoint) -> Result<(), ShimError> {
        let mut inside = self.inside()?;
        inside.require_process()?;
        std::fs::create_dir(place).map_err(ShimError::Stream)?;
        std::fs::write(place.join("inventory.img"), b"fake").map_err(ShimError::Stream)?;
        if after == AfterCheckpoint::Exit {
            inside.attached.clear();
            inside.enter(Phase::Exited(ExitRecord { checkpointed: true, ..exit_record(128 + SIGKILL) }));
        }
        Ok(())
    }

    async fn resize(&self, target: Target, size: ConsoleSize) -> Result<(), ShimError> {
        self.inside()?.sizes.push((target, size));
        Ok(())
    }

    async fn close_stdin(&self) -> Result<(), ShimError> {
        self.inside().map(drop)
    }

    async fn attach(&self, request: AttachRequest) -> Result<UnixStream, ShimError> {
        let (ours, theirs) = UnixStream::pair().map_err(ShimError::Stream)?;
        self.inside()?.attached.push((request, theirs));
        Ok(ours)
    }

    async fn exec(&self, request: ExecRequest) -> Result<RunningExec, ShimError> {
        let mut inside = self.inside()?;
        inside.require_process()?;
        let exec_id = request.exec_id;
        let pid = 4_100_000;
        let (stream, far_end) = match request.mode {
            ExecMode::Attached => {
                let (ours, theirs) = UnixStream::pair().map_err(ShimError::Stream)?;
                (Some(ours), Some(theirs))
            }
            ExecMode::Detached => (None, None),
        };
        let (sender, receiver) = oneshot::channel();
        inside.exec_exits.insert(exec_id, sender);
        inside.state.execs.push(ExecState { exec_id, pid, exit: None });
        inside.execs.push(FakeExec { request, stream: far_end });
        inside.tell(Event::ExecStarted { exec_id, pid });
        Ok(RunningExec { pid, stream, exit: ExecExit::new(receiver) })
    }

    async fn signal_exec(&self, exec_id: ExecId, signal: i32) -> Result<(), ShimError> {
        let is_running =
            self.inside()?.state.execs.iter().any(|exec| exec.exec_id == exec_id && exec.exit.is_none());
        if !is_running {
            return Err(Failure::new(FailureKind::NoSuchExec, "no such exec").into());
        }
        if signal == SIGKILL {
            self.container.exit_exec(exec_id, 128 + SIGKILL);
        }
        Ok(())
    }

    async fn acknowledge_exec(&self, exec_id: ExecId) -> Result<(), ShimError> {
        self.inside()?.state.execs.retain(|exec| exec.exec_id != exec_id || exec.exit.is_none());
        Ok(())
    }

    async fn state(&self) -> Result<ShimState, ShimError> {
        Ok(self.inside()?.state.clone())
    }

    async fn shut_down(&self) -> Result<(), ShimError> {
        drop(self.inside()?);
        if self.container.exit_record().is_none() {
            self.container.exit(128 + SIGKILL);
        }
        self.container.die();
        Ok(())
    }
}

fn exit_record(code: i32) -> ExitRecord {
    let signal = (code > 128).then(|| code - 128);
    ExitRecord {
        code,
        signal,
        oom_killed: false,
        at: Timestamp::now(),
        unstarted: false,
        checkpointed: false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_container_outlives_its_handles_and_its_exit_is_seen_by_the_next_one() {
        let shims = FakeShims::new();
        let bundle = Path::new("/bundle");
        let first = shims.spawn(bundle).await.unwrap();
        first.shim.create().await.unwrap();
        first.shim.start().await.unwrap();
        drop(first);
        shims.container(bundle).unwrap().exit(3);
        let second = shims.find(bundle).await.unwrap().unwrap();
        assert!(matches!(second.state.phase, Phase::Exited(ExitRecord { code: 3, .. })));
    }

    #[tokio::test]
    async fn events_end_when_the_shim_dies() {
        let shims = FakeShims::new();
        let bundle = Path::new("/bundle");
        let mut found = shims.spawn(bundle).await.unwrap();
        found.shim.create().await.unwrap();
        shims.container(bundle).unwrap().die();
        assert!(matches!(found.events.next().await, Some(Event::Phase(Phase::Created { .. }))));
        assert_eq!(found.events.next().await, None);
        assert!(matches!(found.shim.start().await, Err(ShimError::Gone)));
        assert!(shims.find(bundle).await.unwrap().is_none());
        assert_eq!(shims.clean_up(bundle).await.unwrap().code, 137);
    }
}

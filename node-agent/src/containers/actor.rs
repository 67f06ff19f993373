//! The owner of one container: takes requests, shim events and deadlines, one after the other, and acts.
//!
//! Start reading at [`Actor::run`]. Inputs: the slot's inbox, the shim's events, deadlines, probe results. Outputs: what
//! the slot publishes, answers, events. What to do is decided by [`Lifecycle::step`]; doing it is `effects.rs`. The task
//! ends when nothing can happen by itself any more, and another is made for the next request; the engine's tracker owns
//! it, and a cancelled engine drops it at whatever it awaits, which is what a crash looks like as well.

use std::path::PathBuf;
use std::sync::Arc;

use node_shim::protocol::{self, Phase};
use shoal_types::ContainerId;
use shoal_types::container::state::Exit;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::health::monitor::Monitor;
use super::lifecycle::{BootWish, Ended, Input, Lifecycle, Moment, Refusal, Ticket};
use super::record::ContainerRecord;
use super::request::{LifeWish, Request};
use super::run::RunRecord;
use super::slot::Slot;
use super::{Shared, view};
use crate::shim_client::{Shim, ShimEvents};

/// All that is known of one container. Lies in the slot while nothing happens.
#[derive(Debug)]
pub(crate) struct Core {
    /// Its id.
    pub(crate) id: ContainerId,
    /// What it is.
    pub(crate) record: ContainerRecord,
    /// How it is.
    pub(crate) life: Lifecycle,
    /// The run in progress.
    pub(crate) run: Option<Box<LiveRun>>,
    /// What is left of the last one.
    pub(crate) bundle: Bundle,
    /// The health check; `None` without one.
    pub(crate) health: Option<Box<Monitor>>,
    /// Clients that attached before the start.
    pub(crate) attaching: Vec<PendingAttach>,
    /// The checkpoint that the start under way goes on from.
    pub(crate) restore_from: Option<PathBuf>,
    /// Those who wait for an answer.
    answers: Vec<(Ticket, oneshot::Sender<Result<(), Refusal>>)>,
    next_ticket: u64,
    /// How many runs have ended since the daemon started.
    pub(crate) n_exits: u64,
    /// How the last one ended.
    pub(crate) last_exit: Option<Arc<Exit>>,
}

/// What a run has acquired.
#[derive(Debug, Default)]
pub(crate) struct LiveRun {
    /// The shim; `None` before it was spawned and after it has died.
    pub(crate) shim: Option<Arc<dyn Shim>>,
    /// What happens to it.
    pub(crate) events: Option<ShimEvents>,
    /// What must be known to end the run.
    pub(crate) record: RunRecord,
    /// What has been acquired, in this order.
    pub(crate) holdings: Vec<Holding>,
}

/// What is left of a run that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bundle {
    /// Nothing.
    None,
    /// A bundle that can be deleted.
    Finished,
    /// A bundle that the next boot shall find, because something could not be given back.
    Kept,
}

/// Something that a run acquires and gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holding {
    /// The bundle exists. It is made first, so that a crash from here on leaves a trace.
    Bundle,
    /// `/dev/shm` for others is mounted on the host.
    SharedMemory,
    /// Volumes are mounted.
    Mounts,
    /// The network is planned or plumbed.
    Network,
    /// A shim was spawned.
    Shim,
}

impl Holding {
    /// Everything that a run can hold, in the order of acquisition: what boot assumes of a run that it finds.
    pub(crate) const ALL: [Self; 5] =
        [Self::Bundle, Self::SharedMemory, Self::Mounts, Self::Network, Self::Shim];
}

/// A client that waits for the streams of a container that was not started yet.
#[derive(Debug)]
pub(crate) struct PendingAttach {
    /// What it wants.
    pub(crate) request: protocol::AttachRequest,
    /// Where it waits.
    pub(crate) socket: oneshot::Sender<UnixStream>,
}

impl Core {
    /// A container as its record says.
    pub(crate) fn new(id: ContainerId, record: ContainerRecord, life: Lifecycle) -> Box<Self> {
        let last_exit = life.condition().state.last_exit().cloned().map(Arc::new);
        Box::new(Self {
            id,
            record,
            life,
            run: None,
            bundle: Bundle::None,
            health: None,
            attaching: Vec::new(),
            restore_from: None,
            answers: Vec::new(),
            next_ticket: 0,
            n_exits: 0,
            last_exit,
        })
    }

    /// Gives a caller a number and remembers where its answer goes.
    fn ticket(&mut self, answer: oneshot::Sender<Result<(), Refusal>>) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.answers.push((ticket, answer));
        ticket
    }

    /// Answers a caller, who may have gone away.
    pub(crate) fn answer(&mut self, ticket: Ticket, outcome: Result<(), Refusal>) {
        if let Some(place) = self.answers.iter().position(|(waiting, _)| *waiting == ticket) {
            let (_, answer) = self.answers.swap_remove(place);
            let _ = answer.send(outcome);
        }
    }

    fn is_dormant(&self) -> bool {
        self.life.is_dormant() && self.run.is_none()
    }
}

/// The task that owns a container for as long as anything can happen to it.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) core: Box<Core>,
}

/// What has woken the actor.
enum Wake {
    Request,
    ShimEvent(Option<protocol::Event>),
    Deadline,
    Probe(super::health::monitor::ProbeOutcome),
}

impl Actor {
    /// An owner for this core.
    pub(crate) fn new(shared: Arc<Shared>, slot: Arc<Slot>, core: Box<Core>) -> Self {
        Self { shared, slot, core }
    }

    /// Starts the task.
    pub(crate) fn spawn(self) {
        let shared = Arc::clone(&self.shared);
        shared.spawn(self.run());
    }

    /// Feeds an input while the daemon starts. `None` when the container is gone afterwards.
    pub(crate) async fn settle(&mut self, input: Input) -> Option<()> {
        let fate = self.feed(input).await;
        self.publish();
        (fate == Fate::Here).then_some(())
    }

    /// What the restart policy wants of the container now that the daemon has started.
    pub(crate) fn boot_wish(&self) -> BootWish {
        self.core.life.boot_wish()
    }

    /// From now on the container goes its own way: its task starts, or it falls asleep.
    pub(crate) fn serve(mut self) {
        self.core.life.step(Input::Serve, self.shared.now());
        self.spawn();
    }

    async fn run(mut self) {
        loop {
            while let Some(request) = self.slot.next_request() {
                // Boxed, so that what a request needs does not weigh on an actor that waits.
                if Box::pin(self.handle(request)).await == Fate::Gone {
                    return;
                }
            }
            if self.core.is_dormant() {
                let Self { shared, slot, core } = self;
                match slot.fall_asleep(core) {
                    Ok(()) => return,
                    Err(core) => self = Self { shared, slot, core },
                }
                continue;
            }
            let wake = self.wait().await;
            if Box::pin(self.react(wake)).await == Fate::Gone {
                return;
            }
        }
    }

    async fn wait(&mut self) -> Wake {
        let health = self.core.health.as_deref().and_then(Monitor::next_due);
        let deadline = self.core.life.next_deadline().into_iter().chain(health).min();
        let sleep = self.shared.clock().sleep_until(deadline);
        let events = self.core.run.as_deref_mut().and_then(|run| run.events.as_mut());
        let probe = self.core.health.as_deref_mut();
        tokio::select! {
            // May be dropped: the request stays in the inbox.
            () = self.slot.woken() => Wake::Request,
            // May be dropped: the events keep their place.
            event = next_event(events) => Wake::ShimEvent(event),
            // May be dropped: the deadline is computed anew each time.
            () = sleep => Wake::Deadline,
            // May be dropped: the probe is a task of its own and keeps its result.
            outcome = next_outcome(probe) => Wake::Probe(outcome),
        }
    }

    async fn react(&mut self, wake: Wake) -> Fate {
        match wake {
            Wake::Request => Fate::Here,
            Wake::ShimEvent(event) => self.on_shim_event(event).await,
            Wake::Deadline => {
                self.tick_health();
                self.feed(Input::Tick).await
            }
            Wake::Probe(outcome) => {
                self.on_probe(outcome);
                Fate::Here
            }
        }
    }

    async fn handle(&mut self, request: Request) -> Fate {
        match request {
            Request::Life(wish, answer) => {
                let ticket = self.core.ticket(answer);
                self.feed(input_of(wish, ticket)).await
            }
            Request::Restore(checkpoint, answer) => {
                let ticket = self.core.ticket(answer);
                self.core.restore_from = Some(checkpoint);
                let fate = self.feed(Input::Start(ticket)).await;
                // Whatever came of it: the next start is one without.
                self.core.restore_from = None;
                fate
            }
            Request::Attach(request, reply) => {
                self.attach(request, reply).await;
                Fate::Here
            }
            Request::Unlink(alias, reply) => {
                let outcome = self.unlink(&alias).await;
                let _ = reply.send(outcome);
                Fate::Here
            }
            Request::Rename(name, reply) => {
                let outcome = self.rename(name).await;
                let _ = reply.send(outcome);
                Fate::Here
            }
            Request::Update(update, reply) => {
                let outcome = self.update(*update).await;
                let _ = reply.send(outcome);
                Fate::Here
            }
            Request::Join(network, endpoint, reply) => {
                let outcome = self.join_network(network, *endpoint).await;
                let _ = reply.send(outcome);
                Fate::Here
            }
            Request::Leave(network, reply) => {
                let outcome = self.leave_network(&network).await;
                let _ = reply.send(outcome);
                Fate::Here
            }
            Request::RenewFiles => {
                self.renew_files().await;
                Fate::Here
            }
            Request::Settle(settled) => {
                let _ = settled.send(());
                Fate::Here
            }
        }
    }

    async fn on_shim_event(&mut self, event: Option<protocol::Event>) -> Fate {
        match event {
            Some(protocol::Event::Phase(Phase::Exited(exit))) => self.feed(Input::Exited(ended(exit))).await,
            Some(protocol::Event::Oom { .. }) => self.feed(Input::OutOfMemory).await,
            Some(protocol::Event::ExecExited { exec_id, exit }) => {
                self.shared.execs.note_exit(exec_id, exit.code);
                Fate::Here
            }
            Some(protocol::Event::LogTrouble { message }) => {
                tracing::error!(container.id = %self.core.id, %message, "log of a container cannot be written");
                Fate::Here
            }
            Some(protocol::Event::Superseded) => {
                tracing::error!(container.id = %self.core.id, "another daemon has taken over a shim");
                self.forget_shim();
                Fate::Here
            }
            Some(protocol::Event::ExecStarted { .. } | protocol::Event::Phase(_)) => Fate::Here,
            None => self.on_shim_lost().await,
        }
    }

    /// The shim has died without a word: its cleanup tells how the container ended.
    async fn on_shim_lost(&mut self) -> Fate {
        self.forget_shim();
        if self.core.life.condition().state.run().is_none() {
            return Fate::Here;
        }
        tracing::warn!(container.id = %self.core.id, "the shim of a container has died; killing what is left");
        let bundle = self.shared.bundles.path(self.core.id);
        match self.shared.seams.shims.clean_up(&bundle).await {
            Ok(exit) => self.feed(Input::Exited(ended(exit))).await,
            Err(error) => {
                tracing::error!(container.id = %self.core.id, %error, "cannot clean up after a dead shim");
                let at = jiff::Timestamp::now();
                let ended = Ended { code: 137, oom_killed: false, checkpointed: false, at };
                self.feed(Input::Exited(ended)).await
            }
        }
    }

    fn forget_shim(&mut self) {
        if let Some(run) = self.core.run.as_deref_mut() {
            run.shim = None;
            run.events = None;
        }
    }

    /// Publishes what is known now.
    pub(crate) fn publish(&self) {
        self.slot.publish(view::publish(&self.core, &self.shared));
    }
}

/// Whether the container still exists after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does.
    Here,
    /// It was removed, and its actor ends.
    Gone,
}

pub(crate) fn ended(exit: protocol::ExitRecord) -> Ended {
    let protocol::ExitRecord { code, oom_killed, checkpointed, at, .. } = exit;
    Ended { code, oom_killed, checkpointed, at }
}

fn input_of(wish: LifeWish, ticket: Ticket) -> Input {
    match wish {
        LifeWish::Start => Input::Start(ticket),
        LifeWish::BootStart => Input::BootStart(ticket),
        LifeWish::Stop(plan) => Input::Stop(ticket, plan),
        LifeWish::Restart(plan) => Input::Restart(ticket, plan),
        LifeWish::Kill(signal) => Input::Kill(ticket, signal),
        LifeWish::Pause => Input::Pause(ticket),
        LifeWish::Unpause => Input::Unpause(ticket),
        LifeWish::Remove(running, volumes) => Input::Remove(ticket, running, volumes),
    }
}

async fn next_event(events: Option<&mut ShimEvents>) -> Option<protocol::Event> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn next_outcome(monitor: Option<&mut Monitor>) -> super::health::monitor::ProbeOutcome {
    match monitor {
        Some(monitor) => monitor.outcome().await,
        None => std::future::pending().await,
    }
}

/// The daemon's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    /// A clock that begins now.
    pub(crate) fn start() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> super::lifecycle::Now {
        super::lifecycle::Now { moment: Moment(self.origin.elapsed()), wall: jiff::Timestamp::now() }
    }

    /// Waits until a moment; for ever without one.
    pub(crate) async fn sleep_until(self, moment: Option<Moment>) {
        match moment {
            Some(Moment(offset)) => tokio::time::sleep_until(self.origin + offset).await,
            None => std::future::pending().await,
        }
    }
}

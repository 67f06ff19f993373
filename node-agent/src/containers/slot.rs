//! The place of one container: what is published of it, the requests that wait, and its actor, awake or asleep.
//!
//! Start reading at [`Slot::send`]. A container that nothing happens to has no task: its [`Core`] lies in the slot, and the
//! first request wakes a task that takes it. So there is never more than one owner, and a stopped container costs its
//! record and little else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shoal_types::ContainerId;
use shoal_types::container::state::Exit;
use tokio::sync::{Notify, watch};

use super::Shared;
use super::actor::{Actor, Core};
use super::request::Request;
use crate::api::containers::ContainerView;
use crate::error::NodeError;
use crate::shim_client::Shim;

/// How many requests may wait for one container. Clients send one at a time and wait for its answer; a crowd that is
/// larger than this has lost control, and is told to come back later.
const INBOX_LEN: usize = 64;

/// One container's place.
#[derive(Debug)]
pub(crate) struct Slot {
    id: ContainerId,
    published: watch::Sender<Published>,
    inbox: Mutex<Inbox>,
    wake: Notify,
}

/// What everybody may see of a container, without asking its owner.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// The container.
    pub(crate) view: Arc<ContainerView>,
    /// How many runs have ended since the daemon started.
    pub(crate) n_exits: u64,
    /// How the last of them ended, or the one before the daemon started.
    pub(crate) last_exit: Option<Arc<Exit>>,
    /// Whether the container still exists.
    pub(crate) presence: Presence,
    /// The way to its shim, while it runs.
    pub(crate) shim: Option<Arc<dyn Shim>>,
}

/// Whether a container still exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It does.
    Here,
    /// It was removed.
    Removed,
}

#[derive(Debug)]
struct Inbox {
    queue: VecDeque<Request>,
    seat: Seat,
}

/// Where the container's core is.
#[derive(Debug)]
enum Seat {
    /// Here: nothing happens.
    Asleep(Box<Core>),
    /// With a task.
    Awake,
    /// Nowhere: the container was removed.
    Gone,
}

impl Slot {
    /// A place for a container that nothing happens to yet.
    pub(crate) fn new(core: Box<Core>, published: Published) -> Arc<Self> {
        Arc::new(Self {
            id: core.id,
            published: watch::Sender::new(published),
            inbox: Mutex::new(Inbox { queue: VecDeque::new(), seat: Seat::Asleep(core) }),
            wake: Notify::new(),
        })
    }

    /// The container's id.
    pub(crate) fn id(&self) -> ContainerId {
        self.id
    }

    /// The container as its owner last published it.
    pub(crate) fn view(&self) -> Arc<ContainerView> {
        Arc::clone(&self.published.borrow().view)
    }

    /// Everything that is published.
    pub(crate) fn published(&self) -> Published {
        self.published.borrow().clone()
    }

    /// Follows what is published from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Publishes. Only the owner calls this.
    pub(crate) fn publish(&self, published: Published) {
        self.published.send_replace(published);
    }

    /// Hands a request to the container's owner, waking one if there is none.
    pub(crate) fn send(self: &Arc<Self>, shared: &Arc<Shared>, request: Request) -> Result<(), NodeError> {
        if shared.is_closing() {
            return Err(NodeError::unavailable("the daemon is shutting down"));
        }
        let mut inbox = self.inbox();
        if matches!(inbox.seat, Seat::Gone) {
            return Err(NodeError::NoSuchContainer(self.id.to_string()));
        }
        if inbox.queue.len() >= INBOX_LEN {
            return Err(NodeError::unavailable(format!("too many requests wait for container {}", self.id)));
        }
        inbox.queue.push_back(request);
        match std::mem::replace(&mut inbox.seat, Seat::Awake) {
            Seat::Asleep(core) => {
                drop(inbox);
                Actor::new(Arc::clone(shared), Arc::clone(self), core).spawn();
            }
            Seat::Awake | Seat::Gone => self.wake.notify_one(),
        }
        Ok(())
    }

    /// Takes the core for a task that is about to be spawned by the caller: boot does so. `None` when there is an owner.
    pub(crate) fn take_core(&self) -> Option<Box<Core>> {
        let mut inbox = self.inbox();
        match std::mem::replace(&mut inbox.seat, Seat::Awake) {
            Seat::Asleep(core) => Some(core),
            Seat::Awake => None,
            Seat::Gone => {
                inbox.seat = Seat::Gone;
                None
            }
        }
    }

    /// The next request, for the owner.
    pub(crate) fn next_request(&self) -> Option<Request> {
        self.inbox().queue.pop_front()
    }

    /// Waits until a request has come. May be dropped: the request stays in the queue.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Puts the core back to sleep; gives it back if a request has come meanwhile.
    pub(crate) fn fall_asleep(&self, core: Box<Core>) -> Result<(), Box<Core>> {
        let mut inbox = self.inbox();
        if !inbox.queue.is_empty() {
            return Err(core);
        }
        inbox.seat = Seat::Asleep(core);
        Ok(())
    }

    /// The container is gone; requests that still wait find their answers dropped.
    pub(crate) fn vanish(&self) {
        let mut inbox = self.inbox();
        inbox.seat = Seat::Gone;
        let orphans = std::mem::take(&mut inbox.queue);
        drop(inbox);
        drop(orphans);
        self.published.send_modify(|published| published.presence = Presence::Removed);
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

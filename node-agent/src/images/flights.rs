//! Work that several clients want at the same time is done once.
//!
//! Start reading at [`Flights::join`]. Whoever asks first begins the work; whoever asks meanwhile rides along and sees the
//! same progress and outcome. The work goes on as long as one of them is interested, and is cancelled when the last
//! [`Ticket`] is dropped.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::error::NodeError;

/// Work under way, by what it is for. `P` is what its progress looks like.
pub(super) struct Flights<K: Eq + Hash + Clone + Send + 'static, P: Clone + Send + Sync + 'static> {
    running: Arc<Mutex<HashMap<K, Flight<P>>>>,
}

struct Flight<P> {
    state: watch::Receiver<State<P>>,
    abort: AbortHandle,
    n_riders: usize,
    /// Tells this flight from a later one for the same key.
    number: u64,
}

/// Where a flight is.
#[derive(Debug, Clone)]
pub(super) enum State<P> {
    /// Under way.
    Progress(P),
    /// Over.
    Done(Result<(), Arc<NodeError>>),
}

/// A ride on a flight.
pub(super) struct Ticket<K: Eq + Hash + Clone + Send + 'static, P: Clone + Send + Sync + 'static> {
    running: Arc<Mutex<HashMap<K, Flight<P>>>>,
    key: K,
    number: u64,
    state: watch::Receiver<State<P>>,
    /// Whether this ticket's holder began the work.
    pub(super) role: Role,
}

/// Who began the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The holder of the ticket.
    Pilot,
    /// Somebody else; what they bring along (a registry, credentials) may be worse than ours.
    Rider,
}

/// Through which the work tells how far it is.
pub(super) struct Reporter<P> {
    state: watch::Sender<State<P>>,
}

impl<P: Clone> Clone for Reporter<P> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

impl<P> Reporter<P> {
    /// Tells where the work is. Only the latest is kept for those who watch.
    pub(super) fn report(&self, progress: P) {
        // Nobody watches any more: the work is about to be cancelled.
        let _ = self.state.send(State::Progress(progress));
    }
}

impl<K: Eq + Hash + Clone + Send + 'static, P: Clone + Send + Sync + 'static> Default for Flights<K, P> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone + Send + 'static, P: Clone + Send + Sync + 'static> Flights<K, P> {
    /// Rides along with the work for `key`, or begins it.
    pub(super) fn join<F>(&self, key: K, start: P, begin: impl FnOnce(Reporter<P>) -> F) -> Ticket<K, P>
    where
        F: Future<Output = Result<(), NodeError>> + Send + 'static,
    {
        let mut running = lock(&self.running);
        if let Some(flight) = running.get_mut(&key) {
            flight.n_riders += 1;
            let (state, number) = (flight.state.clone(), flight.number);
            return Ticket { running: Arc::clone(&self.running), key, number, state, role: Role::Rider };
        }
        let (sender, state) = watch::channel(State::Progress(start));
        let number = NEXT_NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let work = begin(Reporter { state: sender.clone() });
        let done = Landing { running: Arc::clone(&self.running), key: key.clone(), number };
        let task = tokio::spawn(async move {
            let outcome = work.await.map_err(Arc::new);
            // Off the board first: who joins after the end begins anew.
            drop(done);
            let _ = sender.send(State::Done(outcome));
        });
        let flight = Flight { state: state.clone(), abort: task.abort_handle(), n_riders: 1, number };
        running.insert(key.clone(), flight);
        Ticket { running: Arc::clone(&self.running), key, number, state, role: Role::Pilot }
    }
}

/// Numbers of flights, over all boards.
static NEXT_NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Takes a flight off the board when its work ends, is cancelled, or panics.
struct Landing<K: Eq + Hash, P> {
    running: Arc<Mutex<HashMap<K, Flight<P>>>>,
    key: K,
    number: u64,
}

impl<K: Eq + Hash, P> Drop for Landing<K, P> {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        if running.get(&self.key).is_some_and(|flight| flight.number == self.number) {
            running.remove(&self.key);
        }
    }
}

impl<K: Eq + Hash + Clone + Send + 'static, P: Clone + Send + Sync + 'static> Ticket<K, P> {
    /// Where the work is now.
    pub(super) fn state(&mut self) -> State<P> {
        self.state.borrow_and_update().clone()
    }

    /// Waits until the work is somewhere else than when it was last looked at. Dropping the future loses nothing.
    pub(super) async fn changed(&mut self) -> Result<(), NodeError> {
        self.state.changed().await.map_err(|_| cancelled())
    }

    /// Waits for the end.
    pub(super) async fn landed(mut self) -> Result<(), NodeError> {
        let state = self.state.wait_for(|state| matches!(state, State::Done(_))).await;
        match state.map_err(|_| cancelled())?.clone() {
            State::Done(Ok(())) | State::Progress(_) => Ok(()),
            State::Done(Err(error)) => Err(NodeError::Shared(error)),
        }
    }
}

impl<K: Eq + Hash + Clone + Send + 'static, P: Clone + Send + Sync + 'static> Drop for Ticket<K, P> {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        let Some(flight) = running.get_mut(&self.key).filter(|flight| flight.number == self.number) else {
            return;
        };
        flight.n_riders -= 1;
        if flight.n_riders == 0 {
            flight.abort.abort();
            running.remove(&self.key);
        }
    }
}

fn lock<K, P>(running: &Mutex<HashMap<K, Flight<P>>>) -> MutexGuard<'_, HashMap<K, Flight<P>>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The work ended without an outcome: it panicked, or the daemon is shutting down.
fn cancelled() -> NodeError {
    NodeError::failed("wait for a transfer", std::io::Error::other("it was cancelled"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    type Board = Flights<&'static str, u32>;

    #[tokio::test]
    async fn two_who_want_the_same_share_one_flight_and_its_progress() {
        let board = Board::default();
        let begun = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Notify::new());
        let work = |reporter: Reporter<u32>| {
            begun.fetch_add(1, Ordering::Relaxed);
            let gate = Arc::clone(&gate);
            async move {
                reporter.report(7);
                gate.notified().await;
                Ok(())
            }
        };
        let mut first = board.join("x", 0, work);
        let mut second = board.join("x", 0, work);
        assert_eq!((first.role, second.role), (Role::Pilot, Role::Rider));
        for ticket in [&mut first, &mut second] {
            ticket.changed().await.unwrap();
            assert!(matches!(ticket.state(), State::Progress(7)));
        }
        gate.notify_one();
        first.landed().await.unwrap();
        second.landed().await.unwrap();
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn work_is_cancelled_with_the_last_ticket_and_can_begin_anew() {
        let board = Board::default();
        let alive = Arc::new(());
        let work = |_| {
            let alive = Arc::clone(&alive);
            async move {
                let _alive = alive;
                std::future::pending::<Result<(), NodeError>>().await
            }
        };
        let first = board.join("x", 0, work);
        let second = board.join("x", 0, work);
        drop(first);
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(second);
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
        let third = board.join("x", 0, |_| async { Ok(()) });
        assert_eq!(third.role, Role::Pilot);
        third.landed().await.unwrap();
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all() {
        let board = Board::default();
        let fail = |_| async { Err(NodeError::invalid("no")) };
        let (first, second) = (board.join("x", 0, fail), board.join("x", 0, fail));
        for ticket in [first, second] {
            assert_eq!(ticket.landed().await.unwrap_err().message(), "no");
        }
    }
}

//! The owner of the membership: the one task that changes what this machine is in a cluster.
//!
//! Start reading at [`Owner::run`]. [`entry`] is becoming a node, [`role`] whether it manages, [`standing`] what the disk says, [`exit`] leaving. Inputs: wishes of clients, what the leader says through the worker's session, what becomes of the
//! manager, and the outcome of work that takes long ([`Outcome`]), which runs beside so that a client can always leave. Output: what is
//! published. A client that goes away changes nothing.

mod entry;
mod exit;
mod patience;
mod role;
mod standing;

use std::sync::Arc;

use manager::ClusterError;
use manager::api::membership::{InitRequest, JoinRequest, LeaveForce, Standing, Surroundings};
use manager::ca::Credentials;
use manager::node::{ManagerFate, ManagerNode};
use shoal_types::NodeId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::member::Member;
use super::record::Record;
use super::{MembershipParts, Published, SwarmMembership, unavailable};
use patience::is_final;

type Reply<T> = oneshot::Sender<Result<T, ClusterError>>;

/// What clients wish.
pub(super) enum Wish {
    Init(Box<InitRequest>, Reply<NodeId>),
    Join(Box<JoinRequest>, Reply<()>),
    Leave(LeaveForce, Reply<()>),
    Unlock(String, Reply<()>),
    Stop(oneshot::Sender<()>),
}

/// What long work has led to.
enum Outcome {
    /// A cluster was begun.
    Begun(Record, Result<Arc<ManagerNode>, ClusterError>),
    /// The cluster that was asked has let this machine in.
    Enrolled(Record, Result<Arc<Credentials>, ClusterError>),
    /// This node's manager runs, or cannot.
    Managing(Result<Arc<ManagerNode>, ClusterError>),
    /// This node holds a certificate for the role that the cluster wants.
    Renewed(Result<(), ClusterError>),
}

/// Who waits for this machine to be a node.
enum Waiting {
    Init(Reply<NodeId>),
    Join(Reply<()>),
}

impl Waiting {
    fn answer(self, outcome: Result<NodeId, ClusterError>) {
        // Whoever has gone does not need the answer.
        match self {
            Self::Init(reply) => drop(reply.send(outcome)),
            Self::Join(reply) => drop(reply.send(outcome.map(|_| ()))),
        }
    }
}

/// The owner.
pub(super) struct Owner {
    parts: MembershipParts,
    publish: watch::Sender<Published>,
    /// The handle that managers' ports carry back to the front end.
    handle: SwarmMembership,
    member: Option<Member>,
    is_locked: bool,
    work: Option<JoinHandle<Outcome>>,
    /// Whether that work is to start the manager, which a change of role ends.
    is_starting_manager: bool,
    waiting: Option<Waiting>,
    failures: u32,
}

/// What happens next to the owner.
enum Event {
    Wish(Wish),
    Worked(Outcome),
    Session,
    Fate(ManagerFate),
    Gone,
}

impl Owner {
    pub(super) fn new(
        parts: MembershipParts,
        publish: watch::Sender<Published>,
        handle: SwarmMembership,
    ) -> Self {
        Self {
            parts,
            publish,
            handle,
            member: None,
            is_locked: false,
            work: None,
            is_starting_manager: false,
            waiting: None,
            failures: 0,
        }
    }

    /// Takes up what this machine was, says when it has begun, and serves until the daemon ends.
    pub(super) async fn run(mut self, mut wishes: mpsc::Receiver<Wish>, begun: oneshot::Sender<()>) {
        self.resume(None).await;
        let mut begun = Some(begun);
        loop {
            self.publish();
            if self.work.is_none()
                && let Some(begun) = begun.take()
            {
                // The daemon may have given up waiting.
                let _ = begun.send(());
            }
            match self.next(&mut wishes).await {
                Event::Wish(Wish::Stop(done)) => {
                    self.stop().await;
                    let _ = done.send(());
                    return;
                }
                Event::Wish(wish) => self.grant(wish).await,
                Event::Worked(outcome) => {
                    self.work = None;
                    self.take(outcome).await;
                }
                Event::Session => self.heed_session(),
                Event::Fate(fate) => self.heed_fate(fate).await,
                Event::Gone => return,
            }
        }
    }

    async fn next(&mut self, wishes: &mut mpsc::Receiver<Wish>) -> Event {
        let work = async {
            match &mut self.work {
                Some(work) => work.await,
                None => std::future::pending().await,
            }
        };
        let (session, fate) = match &mut self.member {
            Some(member) => {
                let fate = member.manager.as_ref().map(|manager| manager.fate());
                (Some(&mut member.connection), fate)
            }
            None => (None, None),
        };
        tokio::select! {
            // All may be dropped: queue, handle and channels keep what has not been taken.
            wish = wishes.recv() => wish.map_or(Event::Gone, Event::Wish),
            worked = work => match worked {
                Ok(outcome) => Event::Worked(outcome),
                Err(error) => {
                    tracing::error!(%error, "work of the swarm part has died");
                    Event::Worked(Outcome::Managing(Err(unavailable("work of the swarm part has died"))))
                }
            },
            () = changed(session) => Event::Session,
            fate = fated(fate) => Event::Fate(fate),
        }
    }

    fn publish(&self) {
        let published = match &self.member {
            Some(member) => {
                let cluster =
                    member.manager.as_ref().map(|manager| manager.ports(Arc::new(self.handle.clone())));
                Published {
                    standing: member.standing(),
                    surroundings: member.surroundings(),
                    manager: member.manager.clone(),
                    cluster,
                }
            }
            None => Published {
                standing: match (self.is_locked, &self.work) {
                    (true, _) => Standing::Locked,
                    (false, Some(_)) => Standing::Pending,
                    (false, None) => Standing::Inactive,
                },
                surroundings: Surroundings::default(),
                manager: None,
                cluster: None,
            },
        };
        self.publish.send_replace(published);
    }

    async fn grant(&mut self, wish: Wish) {
        match wish {
            Wish::Init(request, reply) => {
                if let Err(error) = self.begin_init(*request).await {
                    let _ = reply.send(Err(error));
                } else {
                    self.waiting = Some(Waiting::Init(reply));
                }
            }
            Wish::Join(request, reply) => {
                if let Err(error) = self.begin_join(*request).await {
                    let _ = reply.send(Err(error));
                } else {
                    self.waiting = Some(Waiting::Join(reply));
                }
            }
            Wish::Leave(force, reply) => {
                let left = self.leave(force).await;
                let _ = reply.send(left);
            }
            Wish::Unlock(key, reply) => {
                let outcome = self.unlock(&key).await;
                let _ = reply.send(outcome);
            }
            // Taken by `run`.
            Wish::Stop(_) => {}
        }
    }

    /// Runs work beside; its outcome is an event.
    fn work(&mut self, work: impl Future<Output = Outcome> + Send + 'static) {
        self.give_up_work();
        self.is_starting_manager = false;
        self.work = Some(tokio::spawn(work));
    }

    fn give_up_work(&mut self) {
        if let Some(work) = self.work.take() {
            work.abort();
        }
    }

    async fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Begun(record, Ok(manager)) => {
                let credentials = manager.credentials();
                self.settle(record, credentials, Some(manager)).await;
            }
            Outcome::Enrolled(record, Ok(credentials)) => self.settle(record, credentials, None).await,
            Outcome::Begun(_, Err(error)) | Outcome::Enrolled(_, Err(error)) => {
                tracing::warn!(%error, "this machine has become no node of a cluster");
                self.wipe().await;
                self.answer(Err(error));
            }
            Outcome::Managing(Ok(manager)) => {
                tracing::info!(node.id = %manager.node_id(), "this node is a manager");
                self.failures = 0;
                if let Some(member) = &mut self.member {
                    member.client.learn_managers(&manager.managers());
                    member.trouble = None;
                    member.manager = Some(manager);
                }
                self.heed_session();
            }
            Outcome::Managing(Err(error)) => {
                tracing::warn!(%error, "the manager of this node does not run");
                self.failures += 1;
                if let Some(member) = &mut self.member {
                    member.trouble = Some(error.to_string());
                }
                if self.waiting.is_some() && is_final(&error) {
                    self.leave_for_good().await;
                    self.answer(Err(error));
                } else {
                    self.start_manager();
                }
            }
            Outcome::Renewed(Ok(())) => self.heed_role().await,
            Outcome::Renewed(Err(error)) => {
                tracing::warn!(%error, "no certificate of the wanted role and authority yet");
                self.failures += 1;
                if let Some(member) = &mut self.member {
                    member.renewed_in = None;
                }
                self.heed_session();
            }
        }
    }

    fn answer(&mut self, outcome: Result<NodeId, ClusterError>) {
        if let Some(waiting) = self.waiting.take() {
            waiting.answer(outcome);
        }
    }

    async fn stop(&mut self) {
        self.give_up_work();
        if let Some(member) = self.member.take() {
            let Member { worker, client, manager, .. } = member;
            worker.stop().await;
            // A manager waits for its clients when it ends, and this is one of them.
            drop(client);
            if let Some(manager) = manager {
                manager.stop().await;
            }
        }
    }
}

async fn changed(session: Option<&mut watch::Receiver<node_agent::worker::Connection>>) {
    match session {
        Some(session) => {
            if session.changed().await.is_err() {
                // The worker ends; whoever ends it says so.
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

async fn fated(fate: Option<watch::Receiver<ManagerFate>>) -> ManagerFate {
    let Some(mut fate) = fate else { return std::future::pending().await };
    let decided = fate.wait_for(|fate| *fate != ManagerFate::Serving).await.map(|fate| fate.clone());
    match decided {
        Ok(fate) => fate,
        Err(_) => std::future::pending().await,
    }
}

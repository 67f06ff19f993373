//! The leader's loop: finds out what has changed, and decides what follows.
//!
//! Start reading at [`Decisions::step`], which is pure, then [`run`], which drives it over a store and a clock. Whoever gains
//! leadership starts `run` and drops it when leadership is lost; the first thing that it does is to look at everything. A wake-up
//! carries nothing: what has changed is read from the store, so being woken, being late and beginning anew are one path.
//!
//! The cost of a step depends on what has changed: services whose tasks or nodes have, tasks that wait. Nothing looks at all
//! tasks but the pass at the beginning and [`FULL_PASS_EVERY`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shoal_types::cluster::node::Node;
use shoal_types::cluster::service::ServiceMode;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::{NodeId, ServiceId};

use crate::allocator::Allocator;
use crate::clock::{Clock, after, until};
use crate::error::ClusterError;
use crate::orchestrator::{
    dispose, enforce_constraints, is_mere_progress, orphan_lost_tasks, reconcile_service,
};
use crate::scheduler::{MOST_CHANGES, Pass, schedule};
use crate::store::{Change, Conflict, Draft, Key, Snapshot, Store};

/// After how long everything is looked at, changed or not.
pub const FULL_PASS_EVERY: Duration = Duration::from_secs(120);
/// For how long further changes are waited for after one (swarm: 50 ms).
const QUIET: Duration = Duration::from_millis(20);
/// For how long at most (swarm: 1 s).
const LONGEST_UNREST: Duration = Duration::from_millis(200);
/// After how long it is tried again when the store has not taken a decision.
const RETRY: Duration = Duration::from_millis(500);

/// What the leader still has to look at. Everything in it can be found again by a full pass.
#[derive(Debug)]
pub struct Decisions {
    seen: Option<Arc<Snapshot>>,
    full_pass_at: Timestamp,
    /// Services to be looked at.
    services: BTreeSet<ServiceId>,
    /// Services whose addresses and ports are to be looked at.
    endpoints: BTreeSet<ServiceId>,
    /// Nodes whose tasks may no longer be theirs.
    nodes: BTreeSet<NodeId>,
    /// Whether a task that waits may find a place, or one that has stopped may be forgotten.
    places: Places,
    /// When a service is to be looked at although nothing has changed.
    deadlines: BTreeMap<ServiceId, Timestamp>,
    allocator: Allocator,
    id_sequence: Option<u64>,
}

/// Whether there is anything to be placed or forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    Settled,
    Open,
}

impl Default for Decisions {
    fn default() -> Self {
        Self {
            seen: None,
            full_pass_at: Timestamp::MIN,
            services: BTreeSet::new(),
            endpoints: BTreeSet::new(),
            nodes: BTreeSet::new(),
            places: Places::Open,
            deadlines: BTreeMap::new(),
            allocator: Allocator::default(),
            id_sequence: None,
        }
    }
}

impl Decisions {
    /// Decisions that draw ids from a sequence, so that a simulation can happen again.
    pub fn with_id_sequence(seed: u64) -> Self {
        Self { id_sequence: Some(seed), ..Self::default() }
    }

    /// Decides what follows from the store as it is now. The changes are to be committed before the next step; when there are none,
    /// nothing is to be done before the store changes or [`Self::wake_at`].
    pub fn step(&mut self, snapshot: &Arc<Snapshot>, now: Timestamp) -> Result<Vec<Change>, Conflict> {
        self.observe(snapshot, now);
        let mut draft = self.draft(snapshot, now);
        self.orchestrate(&mut draft)?;
        if draft.n_changes() > 0 {
            // New tasks get addresses and nodes at once, so that a wish costs one commit and not one for each stage.
            self.places = Places::Open;
        }
        if self.places == Places::Settled && self.endpoints.is_empty() {
            return Ok(Vec::new());
        }
        let allocated = self.allocator.allocate(&mut draft, self.endpoints.iter().copied())?;
        dispose(&mut draft)?;
        let scheduled = schedule(&mut draft)?;
        self.endpoints.clear();
        if draft.n_changes() == 0 && (allocated, scheduled) == (Pass::Complete, Pass::Complete) {
            self.places = Places::Settled;
        }
        Ok(draft.into_changes())
    }

    /// When a step is to be made although nothing has changed.
    pub fn wake_at(&self) -> Timestamp {
        self.deadlines.values().copied().min().map_or(self.full_pass_at, |at| at.min(self.full_pass_at))
    }

    /// Looks at everything in the next step; what to do when the store has not taken a decision.
    pub fn begin_anew(&mut self) {
        self.seen = None;
    }

    fn draft(&self, snapshot: &Arc<Snapshot>, now: Timestamp) -> Draft {
        let draft = Draft::new(snapshot, now);
        match self.id_sequence {
            Some(seed) => draft.with_id_sequence(seed ^ snapshot.index().rotate_left(32)),
            None => draft,
        }
    }

    /// Takes in what has changed since the last step.
    fn observe(&mut self, snapshot: &Arc<Snapshot>, now: Timestamp) {
        let seen = self.seen.replace(Arc::clone(snapshot));
        let changed = seen.as_ref().and_then(|seen| Some((seen, snapshot.changed_since(seen.index())?)));
        match changed {
            Some((seen, keys)) if now < self.full_pass_at => {
                for key in keys {
                    self.note(key, seen, snapshot);
                }
            }
            _ => self.note_everything(snapshot, now),
        }
        self.services.extend(
            self.deadlines.iter().filter(|&(_, &deadline)| deadline <= now).map(|(&service, _)| service),
        );
    }

    fn note_everything(&mut self, snapshot: &Snapshot, now: Timestamp) {
        self.full_pass_at = after(now, FULL_PASS_EVERY);
        self.deadlines.clear();
        self.services.extend(snapshot.services().map(|service| service.id));
        self.services.extend(snapshot.services_with_tasks());
        self.endpoints.extend(snapshot.services().map(|service| service.id));
        self.nodes.extend(snapshot.nodes().map(|node| node.id));
        self.places = Places::Open;
    }

    fn note(&mut self, key: &Key, before: &Snapshot, after: &Snapshot) {
        match key {
            Key::Service(id) => {
                self.services.insert(*id);
                self.endpoints.insert(*id);
            }
            Key::Task(id) => {
                let (was, is) = (before.task(*id), after.task(*id));
                let service = is.or(was).and_then(|task| after.service(task.service));
                if let (Some(was), Some(is), Some(service)) = (was, is, service)
                    && is_mere_progress(service, was, is)
                {
                    return;
                }
                self.services.extend(is.or(was).map(|task| task.service));
                let runs = |state| (TaskState::Assigned..=TaskState::Running).contains(&state);
                if is.is_none_or(|task| !runs(task.status.state)) {
                    self.places = Places::Open;
                }
            }
            Key::Node(id) => self.note_node(*id, before, after),
            Key::Network(_) => {
                self.places = Places::Open;
                self.endpoints.extend(after.services().map(|service| service.id));
            }
            Key::Cluster
            | Key::Authority
            | Key::Secret(_)
            | Key::Config(_)
            | Key::Revocation(_)
            | Key::Attachment(_) => {}
        }
    }

    fn note_node(&mut self, id: NodeId, before: &Snapshot, after: &Snapshot) {
        let same = match (before.node(id), after.node(id)) {
            (Some(was), Some(is)) => concerns_tasks(was) == concerns_tasks(is),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        self.places = Places::Open;
        self.nodes.insert(id);
        self.services.extend(after.tasks_on(id).map(|task| task.service));
        let is_everywhere = |mode: &ServiceMode| matches!(mode, ServiceMode::Global | ServiceMode::GlobalJob);
        self.services.extend(
            after.services().filter(|service| is_everywhere(&service.spec.mode)).map(|service| service.id),
        );
    }

    /// Looks at services and nodes until there is nothing left to look at or enough to commit.
    fn orchestrate(&mut self, draft: &mut Draft) -> Result<(), Conflict> {
        if !self.nodes.is_empty() {
            for id in std::mem::take(&mut self.nodes) {
                enforce_constraints(draft, id)?;
            }
            orphan_lost_tasks(draft)?;
        }
        while draft.n_changes() < MOST_CHANGES
            && let Some(id) = self.services.pop_first()
        {
            self.deadlines.remove(&id);
            if let Some(deadline) = reconcile_service(draft, id)? {
                self.deadlines.insert(id, deadline);
            }
        }
        Ok(())
    }
}

/// What of a node concerns tasks; the rest changes without anybody having to act.
fn concerns_tasks(node: &Node) -> impl PartialEq + '_ {
    let address = node.status.address.as_str();
    (&node.spec, node.role, &node.description, node.status.state, address)
}

/// Decides for as long as it is polled: dropping it at any point is safe, because a decision is in the store or is not.
///
/// Returns only when the store can no longer be written to by this manager.
pub async fn run(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> ClusterError {
    let mut changed = store.changed();
    let mut decisions = Decisions::default();
    loop {
        changed.mark_unchanged();
        let retry = match decide(&mut decisions, store.as_ref(), clock.as_ref()).await {
            Ok(()) => None,
            Err(error @ (ClusterError::NotLeader(_) | ClusterError::NoLeader)) => return error,
            Err(error) => {
                tracing::warn!(error = %error, "the store has not taken a decision");
                decisions.begin_anew();
                Some(RETRY)
            }
        };
        let pause = retry.unwrap_or_else(|| until(clock.now(), decisions.wake_at()));
        tokio::select! {
            // Both only wait; what has changed is read from the store afterwards.
            result = changed.changed(), if retry.is_none() => {
                if result.is_err() {
                    return ClusterError::NoLeader;
                }
                settle(&mut changed, clock.as_ref()).await;
            }
            () = clock.sleep(pause) => {}
        }
    }
}

/// Steps until there is nothing more to decide.
async fn decide(decisions: &mut Decisions, store: &dyn Store, clock: &dyn Clock) -> Result<(), ClusterError> {
    loop {
        let changes = decisions.step(&store.snapshot(), clock.now())?;
        if changes.is_empty() {
            return Ok(());
        }
        store.commit(changes).await?;
    }
}

/// Waits until the store is quiet for a moment, so that many changes are decided upon together.
async fn settle(changed: &mut tokio::sync::watch::Receiver<u64>, clock: &dyn Clock) {
    let begun = clock.now();
    while until(clock.now(), after(begun, LONGEST_UNREST)) > Duration::ZERO {
        tokio::select! {
            // Losing this wake-up is harmless: the store is read afterwards.
            result = changed.changed() => if result.is_err() { return },
            () = clock.sleep(QUIET) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::services::Services;
    use crate::clock::SystemClock;
    use crate::control::{Control, first_networks};
    use crate::fixtures::{EPOCH, cluster, node, service};
    use crate::store::{MemoryStore, Object};

    #[tokio::test]
    async fn tasks_of_a_service_that_is_created_are_given_to_nodes() {
        let mut objects: Vec<Object> = vec![cluster().into(), node(1).into(), node(2).into()];
        objects.extend(first_networks(EPOCH).into_iter().map(Object::from));
        let store = Arc::new(MemoryStore::new(Snapshot::from_objects(1, objects)));
        let control = Control::new(store.clone(), Arc::new(SystemClock), NodeId::from_u128(1));
        let leader = tokio::spawn(run(store.clone(), Arc::new(SystemClock)));
        let mut changed = store.changed();
        let id = control.create(service(1, 4).spec, None).await.unwrap();
        let are_assigned = |store: &Snapshot| {
            store.tasks_of(id).filter(|task| task.status.state == TaskState::Assigned).count() == 4
        };
        let assigned = async {
            while !are_assigned(&store.snapshot()) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), assigned).await.unwrap();
        assert!(store.snapshot().tasks_of(id).all(|task| task.desired == TaskState::Running));
        leader.abort();
    }

    #[test]
    fn a_large_service_is_made_in_pieces() {
        let objects: Vec<Object> = vec![cluster().into(), node(1).into(), service(1, 1200).into()];
        let store = MemoryStore::new(Snapshot::from_objects(1, objects));
        let mut decisions = Decisions::default();
        loop {
            let changes = decisions.step(&store.snapshot(), EPOCH).unwrap();
            if changes.is_empty() {
                break;
            }
            assert!(changes.len() <= MOST_CHANGES + 1, "{}", changes.len());
            store.commit_now(&changes).unwrap();
        }
        let n_assigned =
            store.snapshot().tasks().filter(|task| task.status.state == TaskState::Assigned).count();
        assert_eq!(n_assigned, 1200);
    }
}

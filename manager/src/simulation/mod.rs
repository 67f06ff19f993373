//! A cluster in which everything happens that can: decisions, nodes and users over one clock that is not the machine's.
//!
//! Start reading at [`run_seed`]. A seed says everything, so a failure happens again. For a while users, nodes and leaders do
//! what they like ([`chaos`]); then they are left in peace, and what was wished for must come true ([`check`]). After every commit
//! it is checked that no state went back and that no place had two tasks. Clocks of leaders are turned back, and each leader
//! has another. `SHOAL_SIM_SEEDS=10000` tries more than the usual 200.

mod agents;
mod chaos;
mod check;
mod scale;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use shoal_types::cluster::node::NodeState;
use shoal_types::{NodeId, TaskId};

use crate::clock::{after, never_back};
use crate::control::first_networks;
use crate::decisions::Decisions;
use crate::fixtures;
use crate::store::{Change, Object, Snapshot};
use agents::Agent;

/// Seeds that are tried if the environment does not say.
const USUAL_SEEDS: u64 = 200;
/// Seconds of chaos.
const CHAOS: u32 = 120;
/// Seconds of peace after which everything must be as wished for. The longest of the delays that are in play is much shorter.
const PEACE: u32 = 900;
/// What passes between two steps.
const STEP: Duration = Duration::from_millis(500);
/// What the time is at the beginning.
const BEGINNING: Timestamp = Timestamp::constant(1_000_000, 0);
/// For how long a node may be silent before it is down.
const SILENCE: Duration = Duration::from_secs(15);
/// Seconds without a change after which nothing will change any more.
const QUIET: u32 = 70;

/// The cluster, its nodes and its users.
struct World {
    seed: u64,
    /// What the leader takes the time for.
    now: Timestamp,
    /// What the clock of the leader's machine says, which users may turn.
    machine: Timestamp,
    /// How long it really is since the beginning.
    elapsed: Duration,
    rng: StdRng,
    store: Arc<Snapshot>,
    decisions: Decisions,
    agents: BTreeMap<NodeId, Agent>,
    /// Tasks whose node was down while they ran: they may run beside their replacement when it returns.
    strays: std::collections::BTreeSet<TaskId>,
    next_id: u128,
    peace: bool,
}

#[test]
fn whatever_happens_states_go_forward_places_have_one_task_and_wishes_come_true() {
    let seeds = std::env::var("SHOAL_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let first = std::env::var("SHOAL_SIM_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds.unwrap_or(USUAL_SEEDS) {
        run_seed(seed);
    }
}

fn run_seed(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..CHAOS {
        world.disturb();
        world.second();
    }
    world.make_peace();
    let (mut index, mut quiet) = (0, 0);
    for _ in 0..PEACE {
        world.second();
        quiet = if world.store.index() == index { quiet + 1 } else { 0 };
        index = world.store.index();
        if quiet > QUIET {
            break;
        }
    }
    world.check_wishes();
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut objects: Vec<Object> = vec![fixtures::cluster().into()];
        for (number, mut network) in first_networks(fixtures::EPOCH).into_iter().enumerate() {
            network.id = shoal_types::NetworkId::new(format!("network{number}"));
            objects.push(network.into());
        }
        let mut agents = BTreeMap::new();
        for number in 1..=rng.random_range(2..6) {
            let node = fixtures::node(number);
            agents.insert(node.id, Agent::default());
            objects.push(node.into());
        }
        Self {
            seed,
            now: BEGINNING,
            machine: BEGINNING,
            elapsed: Duration::ZERO,
            rng,
            store: Arc::new(Snapshot::from_objects(1, objects)),
            decisions: Decisions::with_id_sequence(seed),
            agents,
            strays: Default::default(),
            next_id: 1000,
            peace: false,
        }
    }

    /// Lets a second pass, in a few steps between which anything may happen.
    fn second(&mut self) {
        for _ in 0..2 {
            self.elapsed += STEP;
            self.machine = after(self.machine, STEP);
            self.now = never_back(self.machine, self.now, STEP);
            self.work();
            self.decide();
        }
        self.detect_failures();
    }

    /// Lets the leader decide until it has nothing more to do.
    fn decide(&mut self) {
        for round in 0.. {
            assert!(round < 200, "seed {}: decisions do not come to an end", self.seed);
            let snapshot = Arc::clone(&self.store);
            let changes = match self.decisions.step(&snapshot, self.now) {
                Ok(changes) => changes,
                Err(conflict) => panic!("seed {}: a decision contradicts itself: {conflict}", self.seed),
            };
            if changes.is_empty() {
                return;
            }
            // Nodes and users go on while a decision is on its way to the store.
            if !self.peace && self.rng.random_ratio(1, 4) {
                self.work();
            }
            if !self.peace && self.rng.random_ratio(1, 20) {
                self.disturb();
            }
            if !self.commit(&changes) {
                self.decisions.begin_anew();
            }
        }
    }

    /// Writes to the store and checks what must hold at every moment. Returns whether the store has taken it.
    fn commit(&mut self, changes: &[Change]) -> bool {
        let mut next = Snapshot::clone(&self.store);
        if next.apply(next.index() + 1, changes).is_err() {
            return false;
        }
        let next = Arc::new(next);
        self.check_moment(&next);
        self.store = next;
        true
    }

    /// Nodes that were not heard of for some time are down; those that come back are ready again.
    fn detect_failures(&mut self) {
        let mut changes = Vec::new();
        for node in self.store.nodes() {
            let Some(agent) = self.agents.get(&node.id) else { continue };
            let silent = agent.cut_since.is_some_and(|since| since + SILENCE <= self.elapsed);
            let state = if silent { NodeState::Down } else { NodeState::Ready };
            let is_heard = agent.cut_since.is_none();
            if node.status.state != state && (silent || is_heard) {
                let mut status = node.status.clone();
                status.state = state;
                changes.push(Change::ReportNode { node: node.id, status, description: None, at: self.now });
                if silent {
                    self.strays.extend(self.store.tasks_on(node.id).map(|task| task.id));
                }
            }
        }
        if !changes.is_empty() {
            assert!(self.commit(&changes));
        }
    }
}

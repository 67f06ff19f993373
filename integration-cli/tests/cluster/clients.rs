//! Clients of a cluster that note everything that they do, so that it can be judged afterwards.
//!
//! Start reading at [`Clients`]. One client for each manager reads a register (the label of a config), exchanges its value by its version, and
//! creates configs, without pause, until [`Clients::judge`]: what they saw must fit into one order, and what was acknowledged
//! must be there on every manager.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use integration_cli::condition::{eventually, within};
use integration_cli::http::{Client, Request};
use integration_cli::linear::{Effect, Operation, check};
use integration_cli::report::note;
use serde_json::{Value, json};

use super::Cluster;

/// How long the others may take to go on after a fault. Far above what they need, which is printed.
const PATIENCE: Duration = Duration::from_secs(60);
/// What must have been acknowledged during a fault before it ends.
const PROGRESS: u64 = 10;
/// The config that is the register.
const REGISTER: &str = "register";

/// Chance that can happen again (SplitMix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// A client for each manager, at work.
pub(super) struct Clients {
    history: Arc<History>,
    at_work: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Begins with the managers 1 to `managers`.
    #[track_caller]
    pub(super) fn begin(cluster: &Cluster, managers: usize, seed: u64) -> Self {
        cluster.node(1).post_json("/configs/create", &register_spec(0)).expect(201);
        let history = Arc::new(History::default());
        let act = |number: usize| {
            let actor = Actor {
                client: Client::new(cluster.node(number).daemon().socket()),
                history: Arc::clone(&history),
                chance: Chance(seed.wrapping_mul(1000).wrapping_add(number as u64)),
                number,
                known: None,
            };
            std::thread::spawn(move || actor.run())
        };
        let at_work = (1..=managers).map(act).collect();
        Self { history, at_work }
    }

    /// Waits until so much more was acknowledged.
    #[track_caller]
    pub(super) fn go_on(&self, when: &str) {
        let begun = Instant::now();
        let acknowledged = || self.history.acknowledged.load(Ordering::SeqCst);
        let before = acknowledged();
        within(PATIENCE, &format!("writes go on {when}"), || {
            (acknowledged() >= before + PROGRESS).then_some(())
        });
        note(&format!("writes went on {when}: {PROGRESS} in {:?}", begun.elapsed()));
    }

    /// Ends their work and judges what they saw, when every manager answers.
    #[track_caller]
    pub(super) fn judge(self, cluster: &Cluster) {
        let (history, managers) = (self.history, self.at_work.len());
        history.is_over.store(true, Ordering::SeqCst);
        self.at_work.into_iter().for_each(|actor| actor.join().unwrap());
        for number in 1..=managers {
            let names = eventually("every manager lists configs", || cluster.try_list(number, "/configs"));
            let names: Vec<&str> =
                names.iter().filter_map(|config| config["Spec"]["Name"].as_str()).collect();
            let created = history.created.lock().unwrap();
            let lost: Vec<&String> = created.iter().filter(|name| !names.contains(&name.as_str())).collect();
            assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        }
        let begun = Instant::now();
        let last = value_of(&cluster.node(1).get(&format!("/configs/{REGISTER}")).expect(200).json());
        history.note(Effect::Read(last), begun, Some(Instant::now()));
        let operations = history.operations.lock().unwrap();
        check(0, &operations).unwrap();
        note(&format!(
            "{} operations on the register, {} configs; longest time without an acknowledged write {:?}",
            operations.len(),
            history.created.lock().unwrap().len(),
            history.longest_silence.lock().unwrap(),
        ));
    }
}

/// What all clients share.
#[derive(Default)]
struct History {
    operations: Mutex<Vec<Operation>>,
    created: Mutex<Vec<String>>,
    /// Values that were written so far.
    values: AtomicU64,
    /// Writes that were acknowledged, and when the last was.
    acknowledged: AtomicU64,
    last: Mutex<Option<Instant>>,
    longest_silence: Mutex<Duration>,
    is_over: AtomicBool,
}

impl History {
    fn note(&self, effect: Effect, begun: Instant, ended: Option<Instant>) {
        self.operations.lock().unwrap().push(Operation { effect, begun, ended });
    }

    fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        let now = Instant::now();
        if let Some(before) = self.last.lock().unwrap().replace(now) {
            let mut longest = self.longest_silence.lock().unwrap();
            *longest = (*longest).max(now.duration_since(before));
        }
    }
}

/// A client of one manager.
struct Actor {
    client: Client,
    history: Arc<History>,
    chance: Chance,
    number: usize,
    known: Option<(u64, u64)>,
}

impl Actor {
    fn run(mut self) {
        while !self.history.is_over.load(Ordering::SeqCst) {
            let moved_on = match (self.chance.below(10), self.known) {
                (0, _) => self.create(),
                (1..6, Some((value, version))) => self.exchange(value, version),
                _ => self.read(),
            };
            if !moved_on {
                // A manager that does not answer is not asked without pause.
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
    }

    fn read(&mut self) -> bool {
        let begun = Instant::now();
        let reply = self.client.send(&Request::new("GET", &format!("/configs/{REGISTER}")));
        let Some(reply) = reply.ok().filter(|reply| reply.status == 200) else { return false };
        let shown = reply.json();
        let value = value_of(&shown);
        self.history.note(Effect::Read(value), begun, Some(Instant::now()));
        self.known = Some((value, shown["Version"]["Index"].as_u64().unwrap()));
        true
    }

    fn exchange(&mut self, from: u64, version: u64) -> bool {
        let to = self.history.values.fetch_add(1, Ordering::SeqCst) + 1;
        let target = format!("/configs/{REGISTER}/update?version={version}");
        let request = Request::new("POST", &target).json(&register_spec(to));
        let begun = Instant::now();
        let reply = self.client.send(&request);
        let ended = Instant::now();
        // Whatever became of it, the version is not the newest any more.
        self.known = None;
        match reply {
            Ok(reply) if reply.status == 200 => {
                self.history.note(Effect::Exchange { from, to }, begun, Some(ended));
                self.history.acknowledge();
                true
            }
            Ok(reply) if reply.message().contains("update out of sequence") => {
                self.history.note(Effect::Refused(from), begun, Some(ended));
                true
            }
            _ => {
                self.history.note(Effect::Exchange { from, to }, begun, None);
                false
            }
        }
    }

    fn create(&mut self) -> bool {
        let name = format!("c{}-{}", self.number, self.history.values.fetch_add(1, Ordering::SeqCst));
        let request = Request::new("POST", "/configs/create").json(&json!({"Name": name, "Data": "eA=="}));
        let is_created = self.client.send(&request).is_ok_and(|reply| reply.status == 201);
        if is_created {
            self.history.created.lock().unwrap().push(name);
            self.history.acknowledge();
        }
        is_created
    }
}

fn register_spec(value: u64) -> Value {
    json!({"Name": REGISTER, "Labels": {"value": value.to_string()}, "Data": "eA=="})
}

fn value_of(config: &Value) -> u64 {
    config["Spec"]["Labels"]["value"].as_str().unwrap().parse().unwrap()
}

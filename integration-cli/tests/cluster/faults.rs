//! Faults at random, and what clients saw meanwhile: nothing that was acknowledged is lost, and every answer fits into one order.
//!
//! Start reading at [`a_register_stays_linearizable_under_faults`]. Clients on every manager read a register and exchange its value (the label of a config, by
//! its version) and create configs, while members are cut off both ways or one way, stopped, and killed. What they saw is
//! checked by `integration_cli::linear`. The short version is part of every run; `cargo xtask test faults` takes the long one:
//! `SHOAL_FAULTS="seconds=300 managers=3 workers=4 seed=7"`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use integration_cli::condition::{eventually, poll, within};
use integration_cli::http::{Client, Request};
use integration_cli::linear::{Effect, Operation, check};
use integration_cli::report::note;
use integration_cli::{Test, cases};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Cluster, options};

cases![a_register_stays_linearizable_under_faults];

/// How long the others may take to go on after a fault. Far above what they need, which is printed.
const PATIENCE: Duration = Duration::from_secs(60);
/// What must have been acknowledged during a fault before it ends.
const PROGRESS: u64 = 10;

/// What is tried.
#[derive(Debug, Clone, Copy)]
struct Plan {
    duration: Duration,
    managers: usize,
    workers: usize,
    seed: u64,
}

impl Plan {
    fn from_environment() -> Self {
        let mut plan = Self { duration: Duration::from_secs(15), managers: 3, workers: 0, seed: 1 };
        let text = std::env::var("SHOAL_FAULTS").unwrap_or_default();
        for (name, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
            let value: u64 = value.parse().expect("a number in SHOAL_FAULTS");
            match name {
                "seconds" => plan.duration = Duration::from_secs(value),
                "managers" => plan.managers = usize::try_from(value).unwrap(),
                "workers" => plan.workers = usize::try_from(value).unwrap(),
                "seed" => plan.seed = value,
                _ => panic!("SHOAL_FAULTS knows seconds, managers, workers and seed, not {name}"),
            }
        }
        plan
    }
}

/// Chance that can happen again (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
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
    register: String,
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
        let reply = self.client.send(&Request::new("GET", &format!("/configs/{}", self.register)));
        let Some(reply) = reply.ok().filter(|reply| reply.status == 200) else { return false };
        let shown = reply.json();
        let value = value_of(&shown);
        self.history.note(Effect::Read(value), begun, Some(Instant::now()));
        self.known = Some((value, shown["Version"]["Index"].as_u64().unwrap()));
        true
    }

    fn exchange(&mut self, from: u64, version: u64) -> bool {
        let to = self.history.values.fetch_add(1, Ordering::SeqCst) + 1;
        let target = format!("/configs/{}/update?version={version}", self.register);
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
    json!({"Name": "register", "Labels": {"value": value.to_string()}, "Data": "eA=="})
}

fn value_of(config: &Value) -> u64 {
    config["Spec"]["Labels"]["value"].as_str().unwrap().parse().unwrap()
}

fn a_register_stays_linearizable_under_faults(t: &Test) {
    let plan = Plan::from_environment();
    note(&format!("{plan:?}"));
    let cluster = Cluster::formed(t, plan.managers, plan.workers);
    // What daemons say while they are tormented is not what this is about.
    cluster.nodes.iter().for_each(|node| node.daemon().announce(""));
    let one = cluster.node(1);
    let register = "register";
    one.post_json("/configs/create", &register_spec(0)).expect(201);
    let replicas = plan.managers + plan.workers;
    one.docker(&format!(
        "service create --detach --no-resolve-image --name web --replicas {replicas} busybox park"
    ))
    .ok();
    cluster.await_running(1, "web", replicas);
    let history = Arc::new(History::default());
    let actors: Vec<JoinHandle<()>> =
        (1..=plan.managers).map(|number| act(&cluster, number, plan, register, &history)).collect();
    let faults = torment(&cluster, plan, &history);
    history.is_over.store(true, Ordering::SeqCst);
    actors.into_iter().for_each(|actor| actor.join().unwrap());
    cluster.await_ready(replicas);
    cluster.await_running(1, "web", replicas);
    for number in 1..=plan.managers {
        let names = eventually("every manager lists configs", || cluster.try_list(number, "/configs"));
        let names: Vec<&str> = names.iter().filter_map(|config| config["Spec"]["Name"].as_str()).collect();
        let lost: Vec<String> = history
            .created
            .lock()
            .unwrap()
            .iter()
            .filter(|name| !names.contains(&name.as_str()))
            .cloned()
            .collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
    let begun = Instant::now();
    let last = value_of(&one.get(&format!("/configs/{register}")).expect(200).json());
    history.note(Effect::Read(last), begun, Some(Instant::now()));
    let operations = history.operations.lock().unwrap();
    check(0, &operations).unwrap();
    note(&format!(
        "{} operations on the register, {} configs, {faults} faults; longest time without an acknowledged write {:?}",
        operations.len(),
        history.created.lock().unwrap().len(),
        history.longest_silence.lock().unwrap(),
    ));
    cluster.dissolve();
}

fn act(
    cluster: &Cluster,
    number: usize,
    plan: Plan,
    register: &str,
    history: &Arc<History>,
) -> JoinHandle<()> {
    let socket: PathBuf = cluster.node(number).daemon().socket().to_owned();
    let actor = Actor {
        client: Client::new(&socket),
        register: register.to_owned(),
        history: Arc::clone(history),
        chance: Chance(plan.seed.wrapping_mul(1000).wrapping_add(number as u64)),
        number,
        known: None,
    };
    std::thread::spawn(move || actor.run())
}

/// One fault after the other until time is up; returns how many. Each lasts until the others have gone on, or none could.
fn torment(cluster: &Cluster, plan: Plan, history: &History) -> u32 {
    let mut chance = Chance(plan.seed);
    let begun = Instant::now();
    let mut n_faults = 0;
    while begun.elapsed() < plan.duration {
        let number = usize::try_from(chance.below((plan.managers + plan.workers) as u64)).unwrap() + 1;
        // Every other time it is the leader's turn.
        let number = if chance.below(2) == 0 { leader(cluster).unwrap_or(number) } else { number };
        let (daemon, port) = (cluster.node(number).daemon(), u8::try_from(number).unwrap());
        n_faults += 1;
        match chance.below(4) {
            0 => {
                cluster.lan.cut(port);
                goes_on(history, &format!("without node {number}, which is cut off"));
                cluster.lan.mend(port);
            }
            1 => {
                cluster.lan.mute(port);
                goes_on(history, &format!("while node {number} hears and is not heard"));
                cluster.lan.unmute();
            }
            2 => {
                daemon.signal(Signal::STOP);
                goes_on(history, &format!("while node {number} is stopped"));
                daemon.signal(Signal::CONT);
            }
            _ => {
                daemon.kill();
                goes_on(history, &format!("after node {number} was killed"));
                daemon.start_again(&options(number));
            }
        }
        goes_on(history, &format!("with node {number} again"));
        within(PATIENCE, "every manager answers", || {
            (1..=plan.managers).all(|number| cluster.try_list(number, "/nodes").is_some()).then_some(())
        });
    }
    n_faults
}

/// Waits until so much more was acknowledged.
#[track_caller]
fn goes_on(history: &History, when: &str) {
    let begun = Instant::now();
    let before = history.acknowledged.load(Ordering::SeqCst);
    within(PATIENCE, &format!("writes go on {when}"), || {
        (history.acknowledged.load(Ordering::SeqCst) >= before + PROGRESS).then_some(())
    });
    note(&format!("writes went on {when}: {PROGRESS} in {:?}", begun.elapsed()));
}

fn leader(cluster: &Cluster) -> Option<usize> {
    let nodes = poll(Duration::from_secs(1), &mut || cluster.try_list(1, "/nodes"))?;
    let leads = |node: &&Value| node["ManagerStatus"]["Leader"] == true;
    let address = nodes.iter().find(leads)?["ManagerStatus"]["Addr"].as_str()?.to_owned();
    address.strip_prefix("192.0.2.")?.split(':').next()?.parse().ok()
}

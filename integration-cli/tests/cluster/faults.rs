//! Faults at random, and what clients saw meanwhile: nothing that was acknowledged is lost, and every answer fits into one order.
//!
//! Start reading at [`a_register_stays_linearizable_under_faults`]. Clients on every manager ([`super::clients`]) go on while members are
//! cut off both ways or one way, stopped, and killed. The short version is part of every run; `cargo xtask test faults` takes the
//! long one: `SHOAL_FAULTS="seconds=300 managers=3 workers=4 seed=7"`.

use std::time::{Duration, Instant};

use integration_cli::condition::{poll, within};
use integration_cli::plan;
use integration_cli::report::note;
use integration_cli::{Test, cases};
use rustix::process::Signal;
use serde_json::Value;

use super::clients::{Chance, Clients};
use super::{Cluster, REST, options};

cases![a_register_stays_linearizable_under_faults];

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
        let [seconds, managers, workers, seed] =
            plan::numbers("SHOAL_FAULTS", [("seconds", 15), ("managers", 3), ("workers", 0), ("seed", 1)]);
        Self { duration: Duration::from_secs(seconds as u64), managers, workers, seed: seed as u64 }
    }
}

fn a_register_stays_linearizable_under_faults(t: &Test) {
    let plan = Plan::from_environment();
    note(&format!("{plan:?}"));
    let cluster = Cluster::formed(t, plan.managers, plan.workers);
    // What daemons say while they are tormented is not what this is about.
    cluster.nodes.iter().for_each(|node| node.daemon().announce(""));
    let replicas = plan.managers + plan.workers;
    cluster
        .node(1)
        .docker(&format!(
            "service create --detach --no-resolve-image --name web --replicas {replicas} busybox park"
        ))
        .ok();
    cluster.await_running(1, "web", replicas);
    let clients = Clients::begin(&cluster, plan.managers, plan.seed);
    let faults = torment(&cluster, plan, &clients);
    note(&format!("{faults} faults"));
    cluster.await_ready(replicas);
    cluster.await_running(1, "web", replicas);
    clients.judge(&cluster);
    cluster.dissolve();
}

/// One fault after the other until time is up; returns how many. Each lasts until the others have gone on, or none could.
fn torment(cluster: &Cluster, plan: Plan, clients: &Clients) -> u32 {
    let mut chance = Chance(plan.seed);
    let begun = Instant::now();
    let mut n_faults = 0;
    while begun.elapsed() < plan.duration {
        let number = usize::try_from(chance.below((plan.managers + plan.workers) as u64)).unwrap() + 1;
        // Every other time it is the leader's turn.
        let number = if chance.below(2) == 0 { leader(cluster, 1).unwrap_or(number) } else { number };
        let (daemon, port) = (cluster.node(number).daemon(), u8::try_from(number).unwrap());
        n_faults += 1;
        match chance.below(4) {
            0 => {
                cluster.lan.cut(port);
                clients.go_on(&format!("without node {number}, which is cut off"));
                cluster.lan.mend(port);
            }
            1 => {
                cluster.lan.mute(port);
                clients.go_on(&format!("while node {number} hears and is not heard"));
                cluster.lan.unmute();
            }
            2 => {
                daemon.signal(Signal::STOP);
                clients.go_on(&format!("while node {number} is stopped"));
                daemon.signal(Signal::CONT);
            }
            _ => {
                daemon.kill();
                clients.go_on(&format!("after node {number} was killed"));
                daemon.start_again(&options(number));
            }
        }
        clients.go_on(&format!("with node {number} again"));
        within(REST, "every manager answers", || {
            (1..=plan.managers).all(|number| cluster.try_list(number, "/nodes").is_some()).then_some(())
        });
    }
    n_faults
}

/// Who leads, as node `number` sees it.
pub(super) fn leader(cluster: &Cluster, number: usize) -> Option<usize> {
    let nodes = poll(Duration::from_secs(1), &mut || cluster.try_list(number, "/nodes"))?;
    let leads = |node: &&Value| node["ManagerStatus"]["Leader"] == true;
    let address = nodes.iter().find(leads)?["ManagerStatus"]["Addr"].as_str()?.to_owned();
    address.strip_prefix("192.0.2.")?.split(':').next()?.parse().ok()
}

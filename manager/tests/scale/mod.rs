//! Large clusters: real managers, nodes that only pretend to run tasks, real connections between them.
//!
//! Start reading at [`a_large_cluster_places_tasks_repairs_nodes_and_fails_over`]. The cluster grows in steps; at each it is
//! measured how quickly tasks are placed, what that takes of the managers' processors, how long one change takes, and what a
//! lost node costs. The short form is part of every run and judges no figure; `cargo xtask bench scale` takes the long one
//! and prints a line of CSV for each step: `SHOAL_SCALE="nodes=1000 tasks=50 steps=4 managers=3"` (tasks of each node).

mod agents;
mod gauges;

use std::sync::Arc;
use std::time::{Duration, Instant};

use manager::Cluster;
use manager::node::ManagerNode;
use shoal_types::cluster::node::NodeState;
use shoal_types::cluster::service::{ServiceMode, ServiceSpec};
use shoal_types::{NodeId, ServiceId};
use tokio::runtime::Runtime;

use crate::world::{World, ports, tokens};
use agents::Agents;
use gauges::{memory, percentile, processor_time};

/// How long anything may take; only what is broken needs this long.
const PATIENCE: Duration = Duration::from_secs(300);
/// Replicas of each service.
const REPLICAS: u64 = 50;
/// Services that are made one by one for the time of a change.
const SINGLE_CHANGES: u64 = 40;
/// What the columns of the figures are.
const COLUMNS: &str = "nodes,tasks,joined_per_s,placed_per_s,running_per_s,managers_cpu_ms_per_task,idle_cpu_percent,change_p50_ms,change_p99_ms,\
     repair_ms,memory_mib";

/// What is tried.
#[derive(Debug, Clone, Copy)]
struct Plan {
    managers: usize,
    nodes: usize,
    tasks_per_node: usize,
    steps: usize,
}

impl Plan {
    fn from_environment() -> Self {
        let mut plan = Self { managers: 1, nodes: 12, tasks_per_node: 10, steps: 1 };
        let text = std::env::var("SHOAL_SCALE").unwrap_or_default();
        for (name, value) in text.split_whitespace().filter_map(|word| word.split_once('=')) {
            let value = value.parse().expect("a number in SHOAL_SCALE");
            match name {
                "managers" => plan.managers = value,
                "nodes" => plan.nodes = value,
                "tasks" => plan.tasks_per_node = value,
                "steps" => plan.steps = value,
                _ => panic!("SHOAL_SCALE knows managers, nodes, tasks and steps, not {name}"),
            }
        }
        plan
    }
}

/// A cluster that grows.
struct Growing {
    plan: Plan,
    world: World,
    /// Where managers live.
    runtime: Runtime,
    managers: Vec<Arc<ManagerNode>>,
    agents: Agents,
    n_services: u64,
    /// Tasks that shall run.
    n_tasks: u64,
}

#[test]
fn a_large_cluster_places_tasks_repairs_nodes_and_fails_over() {
    let plan = Plan::from_environment();
    println!("{plan:?}");
    let mut cluster = Growing::new(plan);
    println!("{COLUMNS}");
    for step in 1..=plan.steps {
        cluster.grow(plan.nodes * step / plan.steps);
    }
    cluster.fail_over();
    cluster.stop();
}

impl Growing {
    fn new(plan: Plan) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("managers")
            .enable_all()
            .build()
            .unwrap();
        let world = World::new();
        let managers = runtime.block_on(async {
            let mut managers = vec![world.init("manager1").await];
            for number in 2..=plan.managers {
                let joined = world.join(&format!("manager{number}"), &managers[0]).await;
                managers.push(joined);
            }
            managers
        });
        Self { plan, world, runtime, managers, agents: Agents::new(), n_services: 0, n_tasks: 0 }
    }

    fn ports(&self) -> Cluster {
        ports(self.managers.last().unwrap())
    }

    /// Lets the cluster grow to so many nodes with their tasks, and measures.
    fn grow(&mut self, n_nodes: usize) {
        let begun = Instant::now();
        let n_new = n_nodes - usize::try_from(self.agents.tally().sessions).unwrap();
        let token = self.runtime.block_on(tokens(&self.managers[0])).worker;
        let addresses: Vec<_> = self.managers.iter().map(|manager| manager.address()).collect();
        self.agents.join(&self.world, n_new, &token, &addresses);
        let joined = rate(n_new, begun.elapsed());

        let wanted = u64::try_from(n_nodes * self.plan.tasks_per_node).unwrap();
        let n_placed = wanted - self.n_tasks;
        let (placed, running, cpu) = self.fill(wanted);
        let idle = self.idle_share();
        let changes = self.single_changes();
        let repair = self.lose_a_node();
        let (now, _) = memory();
        println!(
            "{n_nodes},{},{joined:.0},{:.0},{:.0},{:.2},{:.0},{:.1},{:.1},{:.0},{now}",
            self.n_tasks,
            rate(n_placed, placed),
            rate(n_placed, running),
            cpu.as_secs_f64() * 1000.0 / n_placed as f64,
            idle * 100.0,
            millis(percentile(&changes, 50)),
            millis(percentile(&changes, 99)),
            millis(repair),
        );
    }

    /// Makes services until there are so many tasks. How long it takes until the last was told to its node, until the last is known to
    /// run, and what that takes of the managers' processors.
    fn fill(&mut self, wanted: u64) -> (Duration, Duration, Duration) {
        let (before, cpu, begun) = (self.agents.tally(), processor_time("manager"), Instant::now());
        let missing = wanted - self.n_tasks;
        while self.n_tasks < wanted {
            self.create(REPLICAS.min(wanted - self.n_tasks));
        }
        let placed = self.agents.wait("tasks are placed", |tally| tally.told >= before.told + missing);
        let running =
            self.agents.wait("tasks are running", |tally| tally.running >= before.running + missing);
        (placed - begun, running - begun, processor_time("manager") - cpu)
    }

    fn create(&mut self, replicas: u64) -> ServiceId {
        self.n_services += 1;
        let mut spec = ServiceSpec { name: format!("service{}", self.n_services), ..ServiceSpec::default() };
        spec.mode = ServiceMode::Replicated { replicas };
        spec.labels.insert("com.example.team".to_owned(), format!("team{}", self.n_services % 10));
        let container = &mut spec.template.container;
        container.image = format!("registry.example.com/app:1@sha256:{:064x}", self.n_services);
        container.env = (1..=6).map(|number| format!("SETTING_{number}=a value of some length")).collect();
        self.n_tasks += replicas;
        self.runtime.block_on(self.ports().services.create(spec, None)).unwrap()
    }

    /// The share of one processor that managers take while nothing changes.
    fn idle_share(&self) -> f64 {
        let (cpu, begun) = (processor_time("manager"), Instant::now());
        // Nothing happens, which is what is measured; the short form need not measure it well.
        std::thread::sleep(Duration::from_secs(if self.plan.steps > 1 { 5 } else { 1 }));
        (processor_time("manager") - cpu).as_secs_f64() / begun.elapsed().as_secs_f64()
    }

    /// How long it takes from the wish for a service of one task until a node is told of it, one after the other.
    fn single_changes(&mut self) -> Vec<Duration> {
        let mut taken = Vec::new();
        for _ in 0..SINGLE_CHANGES {
            let (told, begun) = (self.agents.tally().told, Instant::now());
            self.create(1);
            taken.push(self.agents.wait("a task is placed", |tally| tally.told > told) - begun);
        }
        taken
    }

    /// Takes a node away without a word. How long it takes from when it counts as down until its tasks are told to others.
    fn lose_a_node(&mut self) -> Duration {
        let told = self.agents.tally().told;
        let lost = self.agents.lose_one();
        let nodes = self.ports().nodes;
        let shown = async |node: NodeId| nodes.inspect(&node.to_string()).await.unwrap().status.state;
        let tasks = self.runtime.block_on(self.ports().tasks.list(Default::default())).unwrap();
        let on_it = tasks.iter().filter(|task| task.node == Some(lost)).count();
        self.runtime.block_on(async {
            let is_down = async {
                while shown(lost).await != NodeState::Down {
                    // What others see of a node has no signal here.
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(PATIENCE, is_down).await.expect("the lost node is down");
        });
        let begun = Instant::now();
        let expected = told + u64::try_from(on_it).unwrap();
        let repaired = self.agents.wait("tasks of the lost node are placed", |tally| tally.told >= expected);
        repaired.saturating_duration_since(begun)
    }

    /// Stops the leader, and waits until writes succeed and every node has a session again.
    fn fail_over(&mut self) {
        if self.plan.managers < 3 {
            return;
        }
        let sessions = self.agents.tally().sessions;
        let leader = self.managers.remove(0);
        let begun = Instant::now();
        self.runtime.block_on(leader.stop());
        let stopped = begun.elapsed();
        let spec = ServiceSpec { name: "after".to_owned(), ..ServiceSpec::default() };
        let services = self.ports().services;
        self.runtime.block_on(async {
            let mut spec = spec;
            spec.template.container.image = "busybox".to_owned();
            while services.create(spec.clone(), None).await.is_err() {
                // An election tells nobody when it will have ended.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let written = begun.elapsed();
        let back = self.agents.wait("sessions are open again", |tally| tally.sessions == sessions) - begun;
        println!(
            "orderly stop of the leader: stopped after {stopped:.1?}, a write after {written:.1?}, all {sessions} sessions after {back:.1?}"
        );
        println!("most memory of managers and agents together: {} MiB", memory().1);
    }

    fn stop(self) {
        drop(self.agents);
        self.runtime.block_on(async {
            for manager in &self.managers {
                manager.stop().await;
            }
        });
    }
}

fn rate(n: impl TryInto<u32>, time: Duration) -> f64 {
    let n = n.try_into().ok().map_or(f64::INFINITY, f64::from);
    n / time.as_secs_f64().max(0.001)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

//! Names while tasks die all the time: a service that lives is found in every answer, a task that is dead soon in none.
//!
//! Start reading at the case. A container on each node is asked for the names of two services, by a thread in its network namespace,
//! while tasks are killed without a word and, in the end, replaced in order. What was seen is judged afterwards by the times that
//! the daemons' events give. The short form is part of every run; `cargo xtask test churn` takes the long one:
//! `SHOAL_CHURN="nodes=5 replacements=1000"`.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use integration_cli::condition::within;
use integration_cli::events::Recording;
use integration_cli::net::Place;
use integration_cli::plan;
use integration_cli::report::note;
use integration_cli::resolver::Resolver;
use integration_cli::session::with_filters;
use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::clients::Chance;
use super::{Cluster, REST};

cases![names_are_right_while_tasks_are_replaced];

/// Tasks of each service.
const REPLICAS: usize = 8;
/// Only so many fewer than all may be missing: a service that nobody can serve has no name to give.
const SURVIVORS: usize = 4;
/// By virtual address, by its tasks, and a service that is its tasks.
const NAMES: [&str; 4] = ["web", "tasks.web", "direct", "tasks.direct"];
/// How long after its death a task may still be found on a machine that does much else. What is measured is printed.
const BOUND: Duration = Duration::from_secs(10);
/// Pause between two rounds of questions of one container.
const PAUSE: Duration = Duration::from_millis(4);

/// What is tried.
#[derive(Debug, Clone, Copy)]
struct Plan {
    nodes: usize,
    replacements: usize,
}

impl Plan {
    fn from_environment() -> Self {
        let [nodes, replacements] = plan::numbers("SHOAL_CHURN", [("nodes", 2), ("replacements", 24)]);
        Self { nodes, replacements }
    }
}

/// What one container was told.
#[derive(Default)]
struct Heard {
    rounds: usize,
    /// When an address was first and last in an answer.
    addresses: HashMap<Ipv4Addr, (SystemTime, SystemTime)>,
    wrong: Vec<String>,
}

impl Heard {
    /// Asks on until the other end of the channel is gone.
    fn listen(over: &Receiver<()>, ready: &AtomicBool) -> Self {
        let (mut heard, mut resolver) = (Self::default(), Resolver::open().expect("a socket"));
        // The channel tells of the end, and in between it is the pause.
        while over.recv_timeout(PAUSE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let all_found = NAMES.iter().filter(|name| heard.ask(&mut resolver, name, ready)).count();
            heard.rounds += 1;
            if all_found == NAMES.len() {
                ready.store(true, Ordering::SeqCst);
            }
        }
        heard
    }

    /// Whether the name was found. Once it was, it must always be.
    fn ask(&mut self, resolver: &mut Resolver, name: &str, ready: &AtomicBool) -> bool {
        let answer = resolver.ask(name);
        let now = SystemTime::now();
        match answer {
            Ok(answer) if answer.code == 0 && !answer.addresses.is_empty() => {
                for address in answer.addresses {
                    self.addresses.entry(address).or_insert((now, now)).1 = now;
                }
                true
            }
            other if ready.load(Ordering::SeqCst) => {
                self.wrong.push(format!("{name}: {other:?}"));
                false
            }
            _ => false,
        }
    }
}

/// A container that is asked all the time.
struct Asker {
    ready: Arc<AtomicBool>,
    over: Sender<()>,
    thread: JoinHandle<Heard>,
}

impl Asker {
    fn start(cluster: &Cluster, number: usize) -> Self {
        let node = cluster.node(number);
        node.docker("run -d --name asker --network net busybox park").ok();
        let holder = node.docker("inspect asker --format {{.State.Pid}}").ok().parse().expect("a pid");
        let (over, ended) = channel();
        let ready = Arc::new(AtomicBool::new(false));
        let is_ready = Arc::clone(&ready);
        let listen = move || Place::of_process(holder).enter(move || Heard::listen(&ended, &is_ready));
        Self { ready, over, thread: std::thread::spawn(listen) }
    }

    fn end(self) -> Heard {
        drop(self.over);
        self.thread.join().expect("a thread that asks")
    }
}

/// When tasks began and ended, by the events of their nodes.
#[derive(Default)]
struct Lives {
    begun: HashMap<String, SystemTime>,
    ended: HashMap<String, SystemTime>,
}

impl Lives {
    fn of(recordings: &mut [Recording]) -> Self {
        let mut lives = Self::default();
        for event in recordings.iter_mut().flat_map(|recording| recording.so_far().iter()) {
            let attributes = &event.raw["Actor"]["Attributes"];
            let Some(task) = attributes["com.docker.swarm.task.id"].as_str() else { continue };
            let nanos = event.raw["timeNano"].as_u64().expect("a time");
            let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
            let side = if event.action == "die" { &mut lives.ended } else { &mut lives.begun };
            side.insert(task.to_owned(), at);
        }
        lives
    }
}

fn all_tasks(cluster: &Cluster, service: &str) -> Vec<Value> {
    let path = with_filters("/tasks", &json!({"service": [service]}));
    cluster.node(1).get(&path).expect(200).json().as_array().cloned().unwrap_or_default()
}

/// Kills tasks until so many have died, never so many at once that a service has none.
fn kill_at_random(cluster: &Cluster, plan: Plan, numbers: &BTreeMap<String, usize>) {
    let (mut chance, mut killed) = (Chance(7), std::collections::BTreeSet::new());
    while killed.len() < plan.replacements {
        for service in ["web", "direct"] {
            let mut running = within(REST, &format!("enough tasks of {service} run"), || {
                let mut running = cluster.running(1, service)?;
                running.retain(|task| !killed.contains(task["ID"].as_str().expect("an id")));
                (running.len() > SURVIVORS).then_some(running)
            });
            for _ in SURVIVORS..running.len() {
                let task = running.swap_remove(usize::try_from(chance.below(running.len() as u64)).unwrap());
                let node = numbers[task["NodeID"].as_str().expect("a node")];
                let container =
                    task["Status"]["ContainerStatus"]["ContainerID"].as_str().expect("a container");
                cluster.node(node).post(&format!("/containers/{container}/kill")).expect(204);
                killed.insert(task["ID"].as_str().expect("an id").to_owned());
            }
        }
    }
}

/// Says how long something took, in the words of a table.
fn say(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |part: usize| took.get((took.len() * part / 100).min(took.len().saturating_sub(1))).copied();
    note(&format!(
        "{what}: {} observations, median {:.1?}, 99 % {:.1?}, longest {:.1?}",
        took.len(),
        at(50).unwrap_or_default(),
        at(99).unwrap_or_default(),
        took.last().copied().unwrap_or_default()
    ));
}

/// The address of each task on the network, also of those that are gone; no address is used twice.
fn addresses(cluster: &Cluster) -> HashMap<Ipv4Addr, String> {
    let mut found = HashMap::new();
    for task in ["web", "direct"].into_iter().flat_map(|service| all_tasks(cluster, service)) {
        let id = task["ID"].as_str().expect("an id").to_owned();
        let address = task["NetworksAttachments"][0]["Addresses"][0].as_str().expect("an address");
        let (address, _) = address.split_once('/').expect("an address with a prefix");
        let before = found.insert(address.parse().expect("an address"), id);
        assert_eq!(before, None, "{address} was given to two tasks, this cannot be judged");
    }
    found
}

/// Compares what was heard with how long tasks lived.
fn judge(heard: &[Heard], tasks: &HashMap<Ipv4Addr, String>, lives: &Lives) {
    let (mut found_after, mut gone_after, mut stale) = (Vec::new(), Vec::new(), Vec::new());
    for (number, one) in heard.iter().enumerate() {
        assert!(one.wrong.is_empty(), "node {}: {:?}", number + 1, &one.wrong[..one.wrong.len().min(5)]);
        for (address, (first, last)) in &one.addresses {
            // The virtual address of a service is nobody's.
            let Some(task) = tasks.get(address) else { continue };
            found_after.extend(lives.begun.get(task).and_then(|begun| first.duration_since(*begun).ok()));
            let Some(ended) = lives.ended.get(task) else { continue };
            let late = last.duration_since(*ended).unwrap_or_default();
            gone_after.push(late);
            if late > BOUND {
                stale.push(format!("node {}: {address} {late:?} after its death", number + 1));
            }
        }
    }
    say("from the start of a task until a node gives its name", found_after);
    say("from the death of a task until a node does no longer", gone_after);
    assert!(stale.is_empty(), "dead tasks are found: {stale:?}");
}

fn names_are_right_while_tasks_are_replaced(t: &Test) {
    let plan = Plan::from_environment();
    note(&format!("{plan:?}"));
    let cluster = Cluster::formed(t, 1, plan.nodes - 1);
    let one = cluster.node(1);
    one.docker("swarm update --task-history-limit 100000").ok();
    // Wide enough that no address comes back: a name that leads to one could be either task's.
    one.docker("network create -d overlay --attachable --subnet 10.80.0.0/16 net").ok();
    let mut numbers = BTreeMap::new();
    let mut recordings = Vec::new();
    for number in 1..=plan.nodes {
        numbers.insert(cluster.node(number).docker("info --format {{.Swarm.NodeID}}").ok(), number);
        let wanted = json!({"type": ["container"], "event": ["start", "die"]});
        recordings.push(cluster.node(number).record_events(&wanted));
    }
    for (service, mode) in [("web", "vip"), ("direct", "dnsrr")] {
        one.docker(&format!(
            "service create --detach --no-resolve-image --name {service} --endpoint-mode {mode} --network net \
             --restart-delay 0s --replicas {REPLICAS} busybox park"
        ))
        .ok();
        cluster.await_running(1, service, REPLICAS);
    }
    let askers: Vec<Asker> = (1..=plan.nodes).map(|number| Asker::start(&cluster, number)).collect();
    within(REST, "every node knows the names", || {
        askers.iter().all(|asker| asker.ready.load(Ordering::SeqCst)).then_some(())
    });
    kill_at_random(&cluster, plan, &numbers);
    for service in ["web", "direct"] {
        cluster.await_running(1, service, REPLICAS);
        one.docker(&format!("service update --quiet --force --update-parallelism 4 {service}")).ok();
        cluster.await_running(1, service, REPLICAS);
    }
    let dead = plan.replacements + 2 * REPLICAS;
    let lives = within(REST, "all deaths are known", || {
        Some(Lives::of(&mut recordings)).filter(|lives| lives.ended.len() >= dead)
    });
    let heard: Vec<Heard> = askers.into_iter().map(Asker::end).collect();
    note(&format!(
        "{} tasks have died, {} rounds of {} questions",
        lives.ended.len(),
        heard.iter().map(|heard| heard.rounds).sum::<usize>(),
        NAMES.len()
    ));
    judge(&heard, &addresses(&cluster), &lives);
    for number in 1..=plan.nodes {
        cluster.node(number).docker("rm -f asker").ok();
    }
    one.docker("service rm web direct").ok();
    within(REST, "the network can be removed", || (one.docker("network rm net").code == 0).then_some(()));
    cluster.dissolve();
}

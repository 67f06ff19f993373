//! A stack is replaced while the world asks it: not one request fails.
//!
//! Start reading at the case. Requests come from outside of the cluster, to every node in turn, each by a connection of its own, while
//! each task of the web server is replaced by one of the next release, the new one first. The short form is part of every run;
//! `cargo xtask test rolling` takes the long one: `SHOAL_ROLLING="requests=500 updates=5"`, requests in a second.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use integration_cli::condition::within;
use integration_cli::net::Place;
use integration_cli::plan;
use integration_cli::process::run;
use integration_cli::report::note;
use integration_cli::{Test, cases};

use super::{Cluster, REST};

cases![a_stack_is_replaced_under_load_without_a_failed_request];

const NODES: u8 = 3;
const PORT: u16 = 8080;
/// Who asks at the same time.
const CLIENTS: u32 = 25;
/// How long a request may take; only a broken cluster needs more.
const LIMIT: Duration = Duration::from_secs(20);

/// How far the update is, and to what.
const STATE: &str = "{{.UpdateStatus.State}}:{{.Spec.TaskTemplate.ContainerSpec.Env}}";

/// What is tried.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// In a second, all clients together.
    requests: u32,
    updates: u32,
}

impl Plan {
    fn from_environment() -> Self {
        let [requests, updates] = plan::numbers("SHOAL_ROLLING", [("requests", 50), ("updates", 1)])
            .map(|number| u32::try_from(number).unwrap());
        Self { requests, updates }
    }
}

/// What clients have seen.
#[derive(Default)]
struct Seen {
    took: Mutex<Vec<Duration>>,
    failed: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

/// Everybody who asks, until this is ended.
struct Load {
    seen: Arc<Seen>,
    clients: Vec<std::thread::JoinHandle<()>>,
    begun: Instant,
}

impl Load {
    fn start(place: Place, plan: Plan) -> Self {
        let (seen, begun) = (Arc::new(Seen::default()), Instant::now());
        let period = Duration::from_secs(1) * CLIENTS / plan.requests;
        let client = |number: u32| {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || place.enter(move || ask_on(&seen, period, period * number / CLIENTS)))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { seen, clients, begun }
    }

    /// Ends it and says how it went; fails if any request did.
    fn end(self, plan: Plan) {
        self.seen.is_over.store(true, Ordering::SeqCst);
        let ran = self.begun.elapsed();
        self.clients.into_iter().for_each(|client| client.join().expect("a client"));
        let mut took = std::mem::take(&mut *self.seen.took.lock().unwrap());
        let failed = std::mem::take(&mut *self.seen.failed.lock().unwrap());
        took.sort_unstable();
        let share = |part: usize| took.get(took.len() * part / 1000).copied().unwrap_or_default();
        note(&format!(
            "{plan:?}: {} requests in {ran:.1?}, {} failed; took {:.1?} (half), {:.1?} (99 %), {:.1?} at most",
            took.len() + failed.len(),
            failed.len(),
            share(500),
            share(990),
            took.last().copied().unwrap_or_default()
        ));
        assert!(failed.is_empty(), "{} requests failed: {:?}", failed.len(), &failed[..failed.len().min(10)]);
        assert!(!took.is_empty(), "nobody has asked");
    }
}

/// Asks one node after the other, once in a period.
fn ask_on(seen: &Seen, period: Duration, offset: Duration) {
    let begun = Instant::now();
    let mut due = begun + offset;
    for node in (1..=NODES).cycle() {
        if seen.is_over.load(Ordering::SeqCst) {
            return;
        }
        // The rate itself: between requests there is nothing to wait for.
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let asked = Instant::now();
        match ask(node, "/") {
            Ok(text) if text.contains("shop, release ") => seen.took.lock().unwrap().push(asked.elapsed()),
            answer => seen.failed.lock().unwrap().push(format!(
                "node {node} after {:.1?}, at {:.1?}: {answer:?}",
                asked.elapsed(),
                begun.elapsed()
            )),
        }
        due = (due + period).max(asked);
    }
}

/// What the web server answers at a node's port.
fn ask(node: u8, path: &str) -> std::io::Result<String> {
    let to = SocketAddr::from(([192, 0, 2, node], PORT));
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn deploy(cluster: &Cluster, release: u32) {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose-tests/stacks/shop/stack.yaml");
    let file = file.canonicalize().expect("the stack's file").display().to_string();
    let mut deploy = cluster.node(1).docker_command(&[
        "stack",
        "deploy",
        "--resolve-image=never",
        "--compose-file",
        file.as_str(),
        "shop",
    ]);
    deploy.env("RELEASE", release.to_string());
    run(deploy, b"").ok();
}

fn a_stack_is_replaced_under_load_without_a_failed_request(t: &Test) {
    let plan = Plan::from_environment();
    let cluster = Cluster::formed(t, 1, usize::from(NODES) - 1);
    let (one, stranger) = (cluster.node(1), cluster.lan.stranger());
    deploy(&cluster, 1);
    for (service, count) in [("shop_web", 3), ("shop_cache", 1), ("shop_db", 1)] {
        cluster.await_running(1, service, count);
    }
    for node in 1..=NODES {
        within(REST, &format!("the shop answers on node {node}"), || {
            stranger.enter(move || ask(node, "/")).ok().filter(|text| text.contains("shop, release 1"))
        });
    }
    within(REST, "the web server finds the database by way of the cache", || {
        let said = stranger.enter(|| ask(1, "/cgi-bin/item?hat")).ok()?;
        said.contains("none from db").then_some(())
    });
    let load = Load::start(stranger, plan);
    for release in 2..2 + plan.updates {
        deploy(&cluster, release);
        within(REST * 2, &format!("release {release} is everywhere"), || {
            let state = one.docker(&format!("service inspect shop_web --format {STATE}")).stdout;
            assert!(!state.starts_with("rollback") && !state.starts_with("paused"), "{state}");
            (state.starts_with("completed") && state.contains(&format!("RELEASE={release}"))).then_some(())
        });
    }
    load.end(plan);
    for node in 1..=NODES {
        let said = stranger.enter(move || ask(node, "/")).expect("an answer");
        assert!(said.contains(&format!("shop, release {}", 1 + plan.updates)), "node {node}: {said}");
    }
    // The client does not wait for tasks, whose networks cannot be removed before they are gone.
    within(REST, "the stack can be removed", || (one.docker("stack rm shop").code == 0).then_some(()));
    cluster.dissolve();
}

//! A service of many replicas on one node: from the wish until all of them run, and the end of it.
//!
//! Start reading at [`run`]. Each engine is a cluster of its own that has no other node. podman has no services and sits this out.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bench::api::{Api, IMAGE, LABEL, status_of};
use crate::bench::engine::Engine;
use crate::bench::http::Body;
use crate::bench::options::Kind;
use crate::bench::rounds::{Bench, Turn};

const REPLICAS: usize = 100;
/// Until the slowest engine is done.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is asked; each answer costs the engine something.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Begins a cluster in each engine, creates the service and removes it, and ends the clusters.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let replicas = bench.scaled(REPLICAS, 5);
    bench.once(|turn| {
        ensure!(turn.engine.kind() != Kind::Podman, "it has no services");
        // dockerd refuses to be a node while its containers outlive it.
        start_again(turn, &json!({}))?;
        let init = json!({"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"});
        turn.engine.api().post("/swarm/init", Body::Json(&init)).map(|_| ())
    });
    bench.turns(bench.rounds(0, 3), |turn| create_and_remove(turn, replicas));
    bench.once(|turn| {
        turn.api.post("/swarm/leave?force=1", Body::Nothing)?;
        start_again(turn, &Engine::usual_configuration())
    });
    Ok(())
}

fn start_again(turn: &mut Turn<'_>, configuration: &Value) -> Result<()> {
    turn.engine.stop(Signal::SIGTERM)?;
    turn.engine.configure(configuration)?;
    turn.engine.start().map(|_| ())
}

fn create_and_remove(turn: &mut Turn<'_>, replicas: usize) -> Result<()> {
    let (id, took, cpu) = turn.measure(|turn| {
        let id = create(&mut turn.api, replicas)?;
        wait_for(&mut turn.api, "all replicas run", |api| Ok(running(api, &id)? == replicas))?;
        Ok(id)
    })?;
    turn.record("replicas.run", took)?;
    turn.record("replicas.run.cpu", cpu)?;
    let (_, took, _) = turn.measure(|turn| {
        turn.api.delete(&format!("/services/{id}"))?;
        wait_for(&mut turn.api, "all containers are gone", |api| Ok(containers(api)? == 0))
    })?;
    turn.record("replicas.remove", took)
}

fn create(api: &mut Api, replicas: usize) -> Result<String> {
    let container = json!({
        "Image": IMAGE, "Command": ["sleep", "86400"], "Labels": {LABEL: "1"}, "StopGracePeriod": 100_000_000,
    });
    let spec = json!({
        "Name": "replicas",
        "TaskTemplate": {"ContainerSpec": container},
        "Mode": {"Replicated": {"Replicas": replicas}},
    });
    let answer: Value = serde_json::from_slice(&api.post("/services/create", Body::Json(&spec))?)?;
    answer["ID"].as_str().map(str::to_owned).context("no ID in the answer to the creation of a service")
}

/// How many tasks of a service run.
fn running(api: &mut Api, service: &str) -> Result<usize> {
    // {"service":["ID"],"desired-state":["running"]}
    let filters =
        format!("%7B%22service%22%3A%5B%22{service}%22%5D%2C%22desired-state%22%3A%5B%22running%22%5D%7D");
    let tasks = api.get(&format!("/tasks?filters={filters}"))?;
    let tasks = tasks.as_array().context("tasks are no list")?;
    Ok(tasks.iter().filter(|task| task["Status"]["State"] == "running").count())
}

/// How many containers of tasks there are, in whatever state.
fn containers(api: &mut Api) -> Result<usize> {
    // {"is-task":["true"]}
    let listed = api.get("/containers/json?all=1&filters=%7B%22is-task%22%3A%5B%22true%22%5D%7D")?;
    Ok(listed.as_array().context("containers are no list")?.len())
}

fn wait_for(api: &mut Api, what: &str, mut holds: impl FnMut(&mut Api) -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match holds(api) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // An engine that removes containers while it lists them may say that one is gone.
            Err(error) if status_of(&error) == Some(404) => {}
            Err(error) => return Err(error),
        }
        ensure!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        // What is waited for shows only in lists.
        std::thread::sleep(ASK_EVERY);
    }
}

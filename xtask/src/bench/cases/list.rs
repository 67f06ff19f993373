//! Requests that only read, while 300 stopped containers exist.
//!
//! Start reading at [`run`].

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::bench::load::load;
use crate::bench::rounds::Bench;

const CONTAINERS: usize = 300;
/// Connections of the busy rows.
const CONNECTIONS: usize = 4;

/// The list, an inspect and a ping, on one connection and on several.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let numbers: Vec<usize> = (0..bench.scaled(CONTAINERS, 20)).collect();
    let duration = bench.lasting(1.5);
    let mut one_of_them = HashMap::new();
    bench.once(|turn| {
        let ids = turn.engine.in_parallel(&numbers, |api, number| {
            // As much as the containers of a small site have.
            let environment: Vec<String> = (0..8).map(|at| format!("SETTING_{at}={number}-{at}")).collect();
            let more = json!({"Env": environment, "ExposedPorts": {"80/tcp": {}}});
            api.create_with(&["sleep", "1"], &json!({}), &more, &format!("?name=bench-{number}"))
        })?;
        one_of_them.insert(turn.engine.name(), ids.first().context("no containers")?.clone());
        Ok(())
    });
    bench.turns(bench.rounds(0, 3), |turn| {
        let id = one_of_them.get(turn.engine.name()).context("no container")?;
        let inspect = format!("/containers/{id}/json");
        let list = "/containers/json?all=1";
        for (metric, path, connections) in [
            ("list.all", list, 1),
            ("list.all.busy", list, CONNECTIONS),
            ("list.inspect", &inspect, 1),
            ("list.ping", "/_ping", 1),
            ("list.ping.busy", "/_ping", CONNECTIONS),
        ] {
            let rate = load(&turn.engine.address(), path, connections, duration)?;
            turn.record(metric, rate)?;
        }
        Ok(())
    });
    Ok(())
}

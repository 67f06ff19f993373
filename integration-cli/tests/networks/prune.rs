//! `POST /networks/prune`. Daemons of their own, because pruning spares nobody.

use integration_cli::session::with_filters;
use integration_cli::{DaemonOptions, Test, cases};
use serde_json::{Value, json};

use super::network;

cases![prune_removes_networks_without_containers, prune_obeys_its_filters];

fn prune_removes_networks_without_containers(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    assert_eq!(d.post("/networks/prune").expect(200).json(), json!({"NetworksDeleted": Value::Null}));
    let (used, created, unused) = (network(&d, ""), network(&d, ""), network(&d, ""));
    d.start(&format!("--network {used} busybox park"));
    d.create(&format!("--network {created} busybox park"));
    let pruned = d.post("/networks/prune").expect(200).json()["NetworksDeleted"].clone();
    let mut pruned: Vec<String> = serde_json::from_value(pruned).unwrap();
    pruned.sort();
    // A container that does not run holds no network.
    assert_eq!(pruned, [created.as_str(), unused.as_str()]);
    d.get(&format!("/networks/{used}")).expect(200);
    d.get("/networks/bridge").expect(200);
}

fn prune_obeys_its_filters(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let (red, blue) = (network(&d, "--label colour=red"), network(&d, "--label colour=blue"));
    let prune = |filters: Value| {
        d.post(&with_filters("/networks/prune", &filters)).expect(200).json()["NetworksDeleted"].clone()
    };
    assert_eq!(prune(json!({"until": ["1h"]})), Value::Null);
    assert_eq!(prune(json!({"label": ["colour=red"]})), json!([red]));
    assert_eq!(prune(json!({"label!": ["colour=red"]})), json!([blue]));
}

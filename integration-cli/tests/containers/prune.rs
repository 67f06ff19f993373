//! `POST /containers/prune`. Daemons of their own, because pruning spares nobody.

use integration_cli::session::with_filters;
use integration_cli::{DaemonOptions, Test, cases};
use serde_json::{Value, json};

cases![
    prune_removes_what_does_not_run_and_counts_space,
    prune_obeys_its_filters,
    the_client_prunes_everything
];

fn prune_removes_what_does_not_run_and_counts_space(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let nothing = d.post("/containers/prune").expect(200).json();
    assert_eq!(nothing, json!({"ContainersDeleted": Value::Null, "SpaceReclaimed": 0}));
    let running = d.start("busybox park");
    let created = d.create("busybox true");
    let exited = d.start("busybox sh -c 'head -c 5000 /dev/zero > /f'");
    d.wait(&exited);
    let pruned = d.post("/containers/prune").expect(200).json();
    let mut deleted: Vec<String> = serde_json::from_value(pruned["ContainersDeleted"].clone()).unwrap();
    deleted.sort();
    let mut expected = vec![created.id, exited.id];
    expected.sort();
    assert_eq!(deleted, expected);
    assert_eq!(pruned["SpaceReclaimed"], 5000);
    assert_eq!(d.status(&running), "running");
    let told = d.past_events(&json!({"event": ["prune"]}));
    assert_eq!(told.last().unwrap().attribute("reclaimed"), "5000");
}

fn prune_obeys_its_filters(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let red = d.create("--label colour=red busybox true");
    let blue = d.create("--label colour=blue busybox true");
    let plain = d.create("busybox true");
    let prune = |filters: Value| {
        let reply = d.post(&with_filters("/containers/prune", &filters)).expect(200).json();
        reply["ContainersDeleted"].clone()
    };
    assert_eq!(prune(json!({"until": ["1h"]})), Value::Null);
    assert_eq!(prune(json!({"label": ["colour=red"]})), json!([red.id]));
    assert_eq!(prune(json!({"label!": ["colour"]})), json!([plain.id]));
    assert_eq!(prune(json!({})), json!([blue.id]));
    let reply = d.post(&with_filters("/containers/prune", &json!({"colour": ["red"]})));
    reply.expect_error(400, d.by_age("invalid filter 'colour'", "Invalid filter 'colour'"));
}

fn the_client_prunes_everything(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let container = d.create("busybox true");
    let network = d.name("net");
    d.docker(&format!("network create {network}")).ok();
    let printed = d.docker("system prune -f").ok();
    assert!(printed.contains(&container.id) && printed.contains(&network), "{printed}");
    assert!(printed.contains("Total reclaimed space:"), "{printed}");
    assert_eq!(d.docker("ps -aq").ok(), "");
    // Images with a tag stay without -a.
    assert_eq!(d.docker("images -q").ok().lines().count(), 1);
    let printed = d.docker("system prune -af").ok();
    assert!(printed.contains("busybox:latest"), "{printed}");
    assert_eq!(d.docker("images -q").ok(), "");
}

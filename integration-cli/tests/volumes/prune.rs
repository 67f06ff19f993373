//! `POST /volumes/prune`. Daemons of their own, because pruning spares nobody.

use integration_cli::session::with_filters;
use integration_cli::{DaemonOptions, Test, cases};
use serde_json::{Value, json};

use super::volume;

cases![
    old_clients_prune_all_unused_volumes,
    newer_clients_prune_anonymous_volumes_unless_asked,
    prune_obeys_labels
];

fn names(value: &Value) -> Vec<String> {
    let mut names: Vec<String> = serde_json::from_value(value.clone()).unwrap();
    names.sort();
    names
}

fn old_clients_prune_all_unused_volumes(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    assert_eq!(
        d.post("/volumes/prune").expect(200).json(),
        json!({"VolumesDeleted": [], "SpaceReclaimed": 0})
    );
    let (used, unused) = (volume(&d, ""), volume(&d, ""));
    let container = d.create(&format!("-v {used}:/data busybox true"));
    d.run(&format!("-v {unused}:/data busybox sh -c 'head -c 4096 /dev/zero > /data/f'")).ok();
    let pruned = d.post("/volumes/prune").expect(200).json();
    assert_eq!(pruned, json!({"VolumesDeleted": [unused], "SpaceReclaimed": 4096}));
    d.docker(&format!("rm {container}")).ok();
    assert_eq!(names(&d.post("/volumes/prune").expect(200).json()["VolumesDeleted"]), [used]);
}

fn newer_clients_prune_anonymous_volumes_unless_asked(t: &Test) {
    t.newer_than_reference(1, 42, "volume prune keeps named volumes");
    let d = t.own_daemon(&DaemonOptions::default());
    let named = volume(&d, "");
    let container = d.create("-v /anon busybox true");
    let anonymous = d.inspect(&container)["Mounts"][0]["Name"].as_str().unwrap().to_owned();
    d.docker(&format!("rm {container}")).ok();
    let pruned = d.post("/v1.42/volumes/prune").expect(200).json();
    assert_eq!(names(&pruned["VolumesDeleted"]), [anonymous]);
    let all = d.post(&with_filters("/v1.42/volumes/prune", &json!({"all": ["true"]}))).expect(200).json();
    assert_eq!(names(&all["VolumesDeleted"]), [named]);
}

fn prune_obeys_labels(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let (red, blue) = (volume(&d, "--label colour=red"), volume(&d, "--label colour=blue"));
    let prune = |filters: Value| {
        d.post(&with_filters("/volumes/prune", &filters)).expect(200).json()["VolumesDeleted"].clone()
    };
    assert_eq!(prune(json!({"label": ["colour=green"]})), json!([]));
    assert_eq!(prune(json!({"label": ["colour=red"]})), json!([red]));
    assert_eq!(prune(json!({"label!": ["colour=red"]})), json!([blue]));
}

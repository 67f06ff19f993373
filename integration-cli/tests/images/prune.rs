//! `POST /images/prune`. Daemons of their own, because pruning spares nobody.

use integration_cli::session::with_filters;
use integration_cli::{DaemonOptions, Test, cases};
use serde_json::{Value, json};

use super::{id_of, own_image};

cases![prune_removes_images_without_a_name, prune_of_all_keeps_what_containers_use, prune_obeys_its_filters];

fn deleted(value: &Value) -> Vec<String> {
    let items = value["ImagesDeleted"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|item| item["Deleted"].as_str().map(str::to_owned)).collect()
}

fn prune_removes_images_without_a_name(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    assert_eq!(
        d.post("/images/prune").expect(200).json(),
        json!({"ImagesDeleted": null, "SpaceReclaimed": 0})
    );
    let name = d.name("img");
    d.load(&[own_image(&d, &format!("{name}:latest"))]);
    let old = id_of(&d, &name);
    d.docker(&format!("tag busybox {name}")).ok();
    let pruned = d.post("/images/prune").expect(200).json();
    assert!(deleted(&pruned).contains(&old), "{pruned}");
    assert!(pruned["SpaceReclaimed"].as_i64().unwrap() > 10_000, "{pruned}");
    d.get(&format!("/images/{old}/json")).expect(404);
    id_of(&d, "busybox");
}

fn prune_of_all_keeps_what_containers_use(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let name = d.name("img");
    d.load(&[own_image(&d, &format!("{name}:latest"))]);
    d.create("busybox true");
    let pruned = d.post(&with_filters("/images/prune", &json!({"dangling": ["false"]}))).expect(200).json();
    assert!(
        pruned["ImagesDeleted"].as_array().unwrap().contains(&json!({"Untagged": format!("{name}:latest")})),
        "{pruned}"
    );
    id_of(&d, "busybox");
    d.get(&format!("/images/{name}/json")).expect(404);
}

fn prune_obeys_its_filters(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let name = d.name("img");
    d.load(&[own_image(&d, &format!("{name}:latest"))]);
    let prune = |filters: Value| d.post(&with_filters("/images/prune", &filters)).expect(200).json();
    assert_eq!(deleted(&prune(json!({"dangling": ["false"], "label": ["of=nobody"]}))).len(), 0);
    let label = format!("of={}", d.prefix());
    assert_ne!(deleted(&prune(json!({"dangling": ["false"], "label": [label]}))).len(), 0);
    d.get(&format!("/images/{name}/json")).expect(404);
    id_of(&d, "busybox");
    // Made long ago, as its configuration says.
    d.load(&[own_image(&d, &format!("{name}:latest"))]);
    assert_eq!(deleted(&prune(json!({"dangling": ["false"], "until": ["2024-01-01T00:00:00"]}))).len(), 0);
    let n_deleted = deleted(&prune(json!({"dangling": ["false"], "until": ["24h"]}))).len();
    // A newer daemon asks when the image came here.
    assert_eq!(n_deleted == 0, t.by_age(true, false));
    let soon = (std::time::SystemTime::now() + std::time::Duration::from_secs(60))
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    prune(json!({"dangling": ["false"], "until": [soon.to_string()]}));
    d.get(&format!("/images/{name}/json")).expect(404);
}

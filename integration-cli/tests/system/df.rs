//! `/system/df`: what takes space. A daemon of its own, because every other test would change the figures.

use integration_cli::{DaemonOptions, Test, cases};
use serde_json::{Value, json};

cases![an_empty_daemon_uses_nothing, df_counts_what_is_there_and_what_is_used, the_client_prints_the_table];

fn an_empty_daemon_uses_nothing(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::default());
    let df = d.get("/system/df").expect(200).json();
    assert_eq!(df["LayersSize"], 0);
    for list in ["Images", "Containers", "Volumes", "BuildCache"] {
        // The reference answers null where newer ones answer an empty list.
        let empty =
            df[list].as_array().is_some_and(Vec::is_empty) || (!d.api_at_least(1, 42) && df[list].is_null());
        assert!(empty, "{list} in {df}");
    }
}

fn df_counts_what_is_there_and_what_is_used(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let (used, unused) = (d.name("used"), d.name("unused"));
    d.docker(&format!("volume create {unused}")).ok();
    let container = d.start(&format!(
        "-v {used}:/data busybox sh -c 'head -c 4096 /dev/zero > /data/f; head -c 8192 /dev/zero > /f'"
    ));
    d.wait(&container);
    let df = d.get("/system/df").expect(200).json();
    let image = &df["Images"][0];
    assert_eq!(image["RepoTags"], json!(["busybox:latest"]));
    assert_eq!(image["Containers"], 1);
    assert!(image["Size"].as_i64().unwrap() > 1_000_000, "{image}");
    assert!(df["LayersSize"].as_i64().unwrap() > 1_000_000, "{df}");
    let item = &df["Containers"][0];
    assert_eq!(item["Id"], container.id.as_str());
    assert_eq!(item["SizeRw"], 8192);
    let volume = |name: &str| -> Value {
        let volumes = df["Volumes"].as_array().unwrap();
        volumes
            .iter()
            .find(|volume| volume["Name"] == name)
            .cloned()
            .unwrap_or_else(|| panic!("{name} in {df}"))
    };
    assert_eq!(volume(&used)["UsageData"], json!({"RefCount": 1, "Size": 4096}));
    assert_eq!(volume(&unused)["UsageData"], json!({"RefCount": 0, "Size": 0}));
}

fn the_client_prints_the_table(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    d.start("busybox park");
    let table = d.docker_args(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]).ok();
    assert_eq!(table, "Images 1 1\nContainers 1 1\nLocal Volumes 0 0\nBuild Cache 0 0");
    d.docker("system df -v").ok();
}

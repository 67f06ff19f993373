//! Volumes that a plugin keeps.

use std::path::PathBuf;
use std::sync::Mutex;

use integration_cli::plugin::FakePlugin;
use integration_cli::{DaemonOptions, OwnDaemon, Test, cases};
use serde_json::{Value, json};

cases![
    a_container_uses_a_plugins_volume,
    volumes_of_a_plugin_are_listed_and_shown,
    what_a_plugin_refuses_is_told,
];

/// A daemon, and a plugin `keeper` whose volumes are all one directory of the machine.
fn kept(t: &Test) -> (OwnDaemon, FakePlugin, PathBuf) {
    let d = t.own_daemon(&DaemonOptions::default());
    let kept = d.directory("kept");
    let directory = kept.display().to_string();
    let made = Mutex::new(vec!["there".to_owned()]);
    let plugin =
        FakePlugin::start(d.daemon().machine(), "keeper", "VolumeDriver", move |method, arguments| {
            let name = arguments["Name"].as_str().unwrap_or_default().to_owned();
            let mut made = made.lock().unwrap();
            let shown =
                |name: &String| json!({"Name": name, "Mountpoint": directory, "Status": {"Keeper": "ready"}});
            match method {
                "VolumeDriver.Create" if name == "refused" => json!({"Err": "no room"}),
                "VolumeDriver.Create" => {
                    made.push(name);
                    json!({"Err": ""})
                }
                "VolumeDriver.Remove" => {
                    made.retain(|known| *known != name);
                    json!({"Err": ""})
                }
                "VolumeDriver.Get" => match made.iter().find(|known| **known == name) {
                    Some(name) => json!({"Volume": shown(name), "Err": ""}),
                    None => json!({"Err": "no such volume"}),
                },
                "VolumeDriver.List" => {
                    json!({"Volumes": made.iter().map(shown).collect::<Vec<Value>>(), "Err": ""})
                }
                "VolumeDriver.Mount" | "VolumeDriver.Path" => json!({"Mountpoint": directory, "Err": ""}),
                "VolumeDriver.Capabilities" => json!({"Capabilities": {"Scope": "global"}}),
                _ => json!({"Err": ""}),
            }
        });
    (d, plugin, kept)
}

fn a_container_uses_a_plugins_volume(t: &Test) {
    let (d, plugin, directory) = kept(t);
    d.run("--volume-driver keeper -v data:/data busybox sh -c 'echo kept > /data/file'").ok();
    assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), "kept\n");
    assert_eq!(d.run("-v data:/data busybox cat /data/file").ok(), "kept");
    let calls = plugin.calls();
    let users = |name: &str| -> Vec<Value> {
        calls
            .iter()
            .filter(|(method, _)| method == name)
            .map(|(_, arguments)| arguments["ID"].clone())
            .collect()
    };
    let (mounted, unmounted) = (users("VolumeDriver.Mount"), users("VolumeDriver.Unmount"));
    assert!(mounted.len() >= 2 && mounted.len() == unmounted.len(), "{calls:?}");
    assert!(mounted.iter().all(|id| unmounted.contains(id)), "{calls:?}");
    d.docker("volume rm data").ok();
    let removed = plugin.calls().into_iter().find(|(method, _)| method == "VolumeDriver.Remove").unwrap();
    assert_eq!(removed.1["Name"], "data");
}

fn volumes_of_a_plugin_are_listed_and_shown(t: &Test) {
    let (d, _plugin, _directory) = kept(t);
    d.docker("volume create -d keeper data").ok();
    d.docker("volume ls --filter driver=keeper -q").ok();
    let listed = d.docker("volume ls -q").ok();
    assert!(
        listed.lines().any(|name| name == "data") && listed.lines().any(|name| name == "there"),
        "{listed}"
    );
    let shown = d.get("/volumes/there").json();
    assert_eq!(
        (shown["Driver"].as_str(), shown["Scope"].as_str()),
        (Some("keeper"), Some("global")),
        "{shown}"
    );
    assert_eq!(shown["Status"]["Keeper"], "ready");
    // What a plugin keeps is pruned by nobody but its users.
    d.post("/v1.41/volumes/prune").expect(200);
    assert!(d.docker("volume ls -q").ok().contains("data"));
}

fn what_a_plugin_refuses_is_told(t: &Test) {
    let (d, _plugin, _directory) = kept(t);
    d.docker("volume create -d keeper refused").fails_saying(1, "create refused: no room");
    d.docker("volume create -d nobody data").fails_saying(1, "plugin \"nobody\" not found");
    assert_eq!(d.get("/volumes/refused").status, 404);
}

//! What is refused has left nothing behind: no object, no change of one, no event.
//!
//! Start reading at [`requests`]: refusals that only the engine can decide, each with something beside it that would have to be
//! undone. Those that the API decides alone are tested with it.

use integration_cli::http::Request;
use integration_cli::{DaemonOptions, Session, Test, cases};
use serde_json::{Value, json};

cases![what_is_refused_changes_nothing];

fn what_is_refused_changes_nothing(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    d.docker("network create --subnet 10.88.0.0/24 net").ok();
    d.docker("volume create --label a=b vol").ok();
    d.docker("run -d --name running --network net -v vol:/data busybox park").ok();
    d.docker("create --name made busybox true").ok();
    let mut before = world(&d);
    let mut faults = Vec::new();
    for (method, path, body) in requests() {
        let request = Request::new(method, &path);
        let request = if body.is_null() { request } else { request.json(&body) };
        let reply = d.send(request);
        // Some of these Docker calls a failure of its own.
        if reply.status < 400 {
            faults.push(format!("{method} {path} {body}: {} {}", reply.status, reply.text()));
        }
        if t.implementation().is_reference() {
            // Its answers are held against, but it makes volumes and images before it refuses.
            continue;
        }
        let after = world(&d);
        for (what, changed) in after.as_object().unwrap().iter().filter(|(what, now)| before[*what] != **now)
        {
            faults.push(format!("{method} {path} {body} was refused, but the {what} are now {changed}"));
        }
        before = after;
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    d.docker("rm -f running made").ok();
    d.docker("volume rm vol").ok();
    d.docker("network rm net").ok();
}

/// Everything that could have changed.
fn world(d: &Session) -> Value {
    let list = |path: &str| {
        let list = d.get(path).expect(200).json();
        let list = if list.is_array() { &list } else { &list["Volumes"] };
        let mut items = list.as_array().cloned().unwrap_or_default();
        for item in &mut items {
            // `Up 3 seconds`
            item.as_object_mut().unwrap().remove("Status");
        }
        // The reference has no order.
        items.sort_by_key(ToString::to_string);
        items
    };
    let shown = |name: &str| {
        let container = d.get(&format!("/containers/{name}/json")).expect(200).json();
        [&container["Name"], &container["State"], &container["HostConfig"], &container["NetworkSettings"]]
            .map(Value::clone)
    };
    json!({
        "containers": list("/containers/json?all=1"),
        "running": shown("running"),
        "made": shown("made"),
        "images": list("/images/json?all=1"),
        "networks": list("/networks"),
        "volumes": list("/volumes"),
        "events": d.past_events(&json!({})).iter().map(|event| event.label()).collect::<Vec<_>>(),
    })
}

/// A creation with a volume that would be made for it.
fn create(query: &str, mut host: Value) -> (&'static str, String, Value) {
    if host["Binds"].is_null() {
        host["Binds"] = json!(["fresh:/fresh"]);
    }
    let mut body = json!({"Image": "busybox", "Cmd": ["true"], "Volumes": {"/anon": {}}});
    body["HostConfig"] = host;
    ("POST", format!("/containers/create{query}"), body)
}

#[rustfmt::skip]
fn requests() -> Vec<(&'static str, String, Value)> {
    let post = |path: &str, body: Value| ("POST", path.to_owned(), body);
    let plain = |method: &'static str, path: &str| (method, path.to_owned(), Value::Null);
    vec![
        create("?name=made", json!({})),
        create("?name=a%2Fb", json!({})),
        create("", json!({"Memory": 1000})),
        create("", json!({"Binds": ["fresh:/fresh", "relative/path:/b:banana"]})),
        create("", json!({"Binds": ["fresh:/fresh", "fresh:/fresh"]})),
        create("", json!({"Mounts": [{"Type": "bind", "Source": "/no/such/path", "Target": "/b"}]})),
        create("", json!({"Mounts": [{"Type": "volume", "Source": "other", "Target": "relative"}]})),
        create("", json!({"VolumesFrom": ["nosuch"]})),
        create("", json!({"RestartPolicy": {"Name": "banana"}})),
        create("", json!({"RestartPolicy": {"Name": "always"}, "AutoRemove": true})),
        create("", json!({"NetworkMode": "container:made", "PortBindings": {"80/tcp": [{}]}})),
        create("", json!({"PortBindings": {"banana/tcp": [{"HostPort": "80"}]}})),
        create("", json!({"SecurityOpt": ["banana"]})),
        create("", json!({"LogConfig": {"Type": "json-file", "Config": {"banana": "1"}}})),
        create("", json!({"Runtime": "banana"})),
        post("/containers/create", json!({"Image": "nosuch", "HostConfig": {"Binds": ["fresh:/fresh"]}})),
        post("/containers/running/update", json!({"Memory": 1000, "RestartPolicy": {"Name": "always"}})),
        post("/containers/running/update", json!({"CpuShares": 5, "RestartPolicy": {"Name": "banana"}})),
        post("/containers/running/exec", json!({"Cmd": []})),
        post("/containers/made/exec", json!({"Cmd": ["true"]})),
        plain("POST", "/containers/made/rename?name=running"),
        plain("POST", "/containers/made/rename?name=-"),
        plain("POST", "/containers/made/pause"),
        plain("POST", "/containers/made/kill"),
        plain("POST", "/containers/running/kill?signal=banana"),
        plain("POST", "/containers/running/unpause"),
        plain("DELETE", "/containers/running"),
        plain("DELETE", "/containers/nosuch?force=1&v=1"),
        plain("PUT", "/containers/made/archive?path=/no/such/directory"),
        plain("POST", "/containers/prune?filters=%7B%22banana%22%3A%5B%221%22%5D%7D"),
        post("/commit?container=nosuch&repo=new", json!({})),
        post("/commit?container=made&repo=UPPER", json!({})),
        plain("POST", "/images/busybox/tag?repo=UPPER"),
        plain("POST", "/images/nosuch/tag?repo=new"),
        plain("DELETE", "/images/nosuch"),
        plain("POST", "/images/create?fromImage=UPPER"),
        plain("POST", "/images/prune?filters=%7B%22banana%22%3A%5B%221%22%5D%7D"),
        post("/networks/create", json!({"Name": "net", "CheckDuplicate": true})),
        post("/networks/create", json!({"Name": "other", "IPAM": {"Config": [{"Subnet": "10.88.0.0/25"}]}})),
        post("/networks/create", json!({"Name": "other", "IPAM": {"Config": [{"Subnet": "banana"}]}})),
        post("/networks/create", json!({"Name": "other", "Driver": "banana"})),
        post("/networks/create", json!({"Name": "host"})),
        post("/networks/net/connect", json!({"Container": "nosuch"})),
        post("/networks/net/connect", json!({"Container": "running"})),
        post("/networks/nosuch/connect", json!({"Container": "running"})),
        post("/networks/bridge/connect", json!({"Container": "running", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "172.17.0.99"}}})),
        post("/networks/net/disconnect", json!({"Container": "made"})),
        plain("DELETE", "/networks/net"),
        plain("DELETE", "/networks/bridge"),
        plain("POST", "/networks/prune?filters=%7B%22banana%22%3A%5B%221%22%5D%7D"),
        post("/volumes/create", json!({"Name": "vol", "Driver": "banana"})),
        post("/volumes/create", json!({"Name": "../vol"})),
        post("/volumes/create", json!({"Name": "other", "DriverOpts": {"banana": "1"}})),
        plain("DELETE", "/volumes/vol"),
        plain("DELETE", "/volumes/nosuch"),
        plain("POST", "/volumes/prune?filters=%7B%22banana%22%3A%5B%221%22%5D%7D"),
    ]
}

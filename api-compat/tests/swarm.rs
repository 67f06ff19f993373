//! The cluster as clients see it: joining, nodes, services, tasks, secrets, configs, logs.
//!
//! Start reading at [`swarm`].
#![cfg(test)]

use std::sync::Arc;

use api_compat::{Api, ApiState, DaemonInfo};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use manager::ClusterError;
use manager::api::membership::Standing;
use serde_json::{Value, json};
use shoal_types::NodeId;

use crate::client::{ask, ask_json, send};
use crate::cluster::{FakeCluster, out_of_sequence};
use crate::fake::Fake;
use crate::objects;

const ID: &str = "000000000000000000000000";

/// The API of a manager.
pub(crate) fn swarm() -> (Api, Arc<FakeCluster>, Arc<Fake>) {
    let (cluster, node) = (Arc::new(FakeCluster::default()), Fake::with(vec![objects::running("one")]));
    let daemon = DaemonInfo { version: "1.2.3".into(), ..DaemonInfo::default() };
    let api = Api::new(ApiState {
        node: node.node(),
        cluster: cluster.ports(),
        builder: Arc::new(builder::Unsupported),
        daemon,
    });
    (api, cluster, node)
}

fn filters(value: &Value) -> String {
    let text = value.to_string();
    format!(
        "filters={}",
        text.replace('"', "%22").replace('{', "%7B").replace('}', "%7D").replace(' ', "%20")
    )
}

#[tokio::test]
async fn a_cluster_is_begun_joined_and_left() {
    let (api, cluster, _) = swarm();
    let body = json!({"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": "eth0", "Availability": "drain"});
    let answer = ask_json(&api, "POST", "/swarm/init", &body).await;
    assert_eq!((answer.status, answer.text()), (200, format!("\"{ID}1\"\n")));
    let body = json!({"RemoteAddrs": ["192.0.2.1:2377"], "JoinToken": "t"});
    let answer = ask_json(&api, "POST", "/swarm/join", &body).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    assert_eq!(ask(&api, "POST", "/swarm/leave?force=1").await.status, 200);
    assert_eq!(ask_json(&api, "POST", "/swarm/unlock", &json!({"UnlockKey": "k"})).await.status, 200);
    let calls = cluster.calls();
    assert!(calls[0].contains("listen: \"0.0.0.0:2377\"") && calls[0].contains("Drain"), "{}", calls[0]);
    assert!(calls[1].contains("remotes: [\"192.0.2.1:2377\"]"), "{}", calls[1]);
    assert_eq!(calls[2..], ["leave Yes", "unlock k"]);
    assert_eq!(ask(&api, "GET", "/swarm/unlockkey").await.json(), json!({"UnlockKey": "SWMKEY-1-x"}));
}

#[tokio::test]
async fn the_cluster_is_shown_with_tokens_and_sent_back() {
    let (api, cluster, _) = swarm();
    let shown = ask(&api, "GET", "/swarm").await.json();
    assert_eq!(shown["JoinTokens"], json!({"Worker": "w", "Manager": "m"}));
    assert_eq!((&shown["DataPathPort"], &shown["SubnetSize"]), (&json!(4789), &json!(24)));
    let target = "/swarm/update?version=10&rotateWorkerToken=true&rotateManagerToken=0";
    assert_eq!(ask_json(&api, "POST", target, &shown["Spec"]).await.status, 200);
    assert_eq!(
        cluster.calls()[1],
        "update cluster 10 history=5 Rotation { worker_token: true, manager_token: false, unlock_key: false, signing: None }"
    );
    for (target, message) in [
        ("/swarm/update", "invalid swarm version '': strconv.ParseUint: parsing \"\": invalid syntax"),
        ("/swarm/update?version=1&rotateWorkerToken=x", "invalid value for rotateWorkerToken: x"),
    ] {
        let answer = ask_json(&api, "POST", target, &shown["Spec"]).await;
        assert_eq!((answer.status, answer.message().as_str()), (400, message));
    }
}

#[tokio::test]
async fn info_tells_of_the_cluster() {
    let (api, cluster, _) = swarm();
    let swarm = ask(&api, "GET", "/info").await.json()["Swarm"].clone();
    assert_eq!(
        (&swarm["LocalNodeState"], &swarm["ControlAvailable"], &swarm["NodeAddr"]),
        (&json!("active"), &json!(true), &json!("192.0.2.1"))
    );
    assert_eq!((&swarm["Nodes"], &swarm["Managers"]), (&json!(1), &json!(1)));
    assert_eq!(swarm["RemoteManagers"], json!([{"NodeID": format!("{ID}1"), "Addr": "192.0.2.1:2377"}]));
    assert_eq!(swarm["Cluster"]["ID"], json!(format!("{ID}9")));
    assert_eq!(swarm["Cluster"].get("JoinTokens"), None);
    assert_eq!(ask(&api, "GET", "/_ping").await.header("swarm"), "active/manager");
    cluster.stand(Standing::Worker(NodeId::from_u128(1)));
    let swarm = ask(&api, "GET", "/info").await.json()["Swarm"].clone();
    assert_eq!((&swarm["ControlAvailable"], swarm.get("Cluster")), (&json!(false), None));
}

#[tokio::test]
async fn a_cluster_without_a_leader_does_not_keep_info_from_answering() {
    let (api, cluster, _) = swarm();
    cluster.fail_next(ClusterError::NoLeader);
    let answer = ask(&api, "GET", "/info").await;
    assert_eq!((answer.status, answer.json()["Swarm"].get("Cluster")), (200, None));
    cluster.fail_next(ClusterError::NoLeader);
    let answer = ask(&api, "GET", "/nodes").await;
    assert_eq!(answer.status, 500);
    assert!(answer.message().contains("The swarm does not have a leader."));
}

#[tokio::test]
async fn who_is_no_manager_says_so_before_anything_else() {
    let (api, cluster, _) = swarm();
    for (standing, words) in [
        (
            Standing::Worker(NodeId::from_u128(1)),
            "Worker nodes can't be used to view or modify cluster state.",
        ),
        (Standing::Pending, "Manager is being prepared or has trouble connecting to the cluster."),
        (Standing::Locked, "Swarm is encrypted and needs to be unlocked before it can be used."),
    ] {
        cluster.stand(standing);
        for (method, target) in [
            ("GET", "/swarm"),
            ("POST", "/services/create"),
            ("GET", "/tasks"),
            ("DELETE", "/nodes/x"),
            ("POST", "/secrets/x/update?version=1"),
            ("GET", "/services/web/logs?stdout=1"),
        ] {
            let answer = ask(&api, method, target).await;
            assert_eq!(answer.status, 503, "{method} {target}");
            assert!(answer.message().contains(words), "{}", answer.message());
        }
    }
}

#[tokio::test]
async fn nodes_are_listed_shown_changed_and_forgotten() {
    let (api, cluster, _) = swarm();
    let query = filters(&json!({"role": ["manager"], "label": ["a=b"], "node.label": ["c"], "name": ["h"]}));
    let nodes = ask(&api, "GET", &format!("/nodes?{query}")).await.json();
    assert_eq!(nodes[0]["Description"]["Platform"], json!({"Architecture": "x86_64", "OS": "linux"}));
    let call = &cluster.calls()[0];
    for part in ["roles: [Manager]", "node_labels: [(\"c\", None)]", "names: [\"h\"]", "(\"a\", Some(\"b\"))"]
    {
        assert!(call.contains(part), "{call}");
    }
    let pending = filters(&json!({"membership": ["pending"]}));
    assert_eq!(ask(&api, "GET", &format!("/nodes?{pending}")).await.json(), json!([]));
    let mut spec = ask(&api, "GET", "/nodes/self").await.json()["Spec"].clone();
    spec["Availability"] = json!("drain");
    assert_eq!(ask_json(&api, "POST", "/nodes/self/update?version=9", &spec).await.status, 200);
    assert_eq!(ask(&api, "DELETE", "/nodes/x?force=1").await.status, 200);
    assert_eq!(cluster.calls()[2..], ["update node self 9 Manager Drain", "rm node x Yes"]);
    assert_eq!(ask(&api, "GET", "/nodes/x").await.message(), "node x not found");
    for (filter, status, message) in [
        (json!({"role": ["king"]}), 500, "Invalid role filter: 'king'"),
        (json!({"membership": ["x"]}), 500, "Invalid membership filter: 'x'"),
        (json!({"x": ["y"]}), 400, "invalid filter 'x'"),
    ] {
        let answer = ask(&api, "GET", &format!("/nodes?{}", filters(&filter))).await;
        assert_eq!((answer.status, answer.message().as_str()), (status, message));
    }
}

#[tokio::test]
async fn secrets_keep_their_content_and_configs_show_it() {
    let (api, cluster, _) = swarm();
    let body = json!({"Name": "n", "Data": "eA=="});
    let answer = ask_json(&api, "POST", "/secrets/create", &body).await;
    assert_eq!((answer.status, answer.text()), (201, format!("{{\"ID\":\"{ID}4\"}}\n")));
    assert_eq!(ask_json(&api, "POST", "/configs/create", &body).await.status, 201);
    let secret = ask(&api, "GET", "/secrets/key").await.json();
    assert_eq!(secret["Spec"], json!({"Name": "key", "Labels": {}}));
    let config = ask(&api, "GET", "/configs/conf").await.json();
    assert_eq!(config["Spec"]["Data"], json!("c2hvd24="));
    assert_eq!(ask(&api, "DELETE", "/secrets/key").await.status, 204);
    assert_eq!(ask(&api, "DELETE", "/configs/conf").await.status, 204);
    let labels = json!({"Name": "key", "Labels": {"a": "b"}});
    assert_eq!(ask_json(&api, "POST", "/secrets/key/update?version=12", &labels).await.status, 200);
    assert_eq!(ask_json(&api, "POST", "/configs/conf/update?version=13", &labels).await.status, 200);
    assert_eq!(
        cluster.calls(),
        [
            "create secret n [120]",
            "create config n [120]",
            "rm secret key",
            "rm config conf",
            "update secret key 12 {\"a\": \"b\"}",
            "update config conf 13 {\"a\": \"b\"}",
        ]
    );
    let names = |name: &str| filters(&json!({"names": [name]}));
    assert_eq!(
        ask(&api, "GET", &format!("/secrets?{}", names("key"))).await.json()[0]["ID"],
        format!("{ID}4")
    );
    assert_eq!(ask(&api, "GET", &format!("/secrets?{}", names("ke"))).await.json(), json!([]));
    assert_eq!(ask(&api, "GET", &format!("/configs?{}", names("x"))).await.json(), json!([]));
    assert_eq!(ask(&api, "GET", "/v1.29/configs").await.status, 400);
    assert_eq!(ask(&api, "GET", "/configs/x").await.status, 404);
}

fn web() -> Value {
    json!({
        "Name": "web", "Labels": {"a": "b"},
        "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}, "Networks": [{"Target": "front"}]},
        "Mode": {"Replicated": {"Replicas": 2}},
        "EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]},
    })
}

async fn ask_with_credentials(api: &Api, target: &str, body: &Value) -> crate::client::Answer {
    let body = serde_json::to_vec(body).unwrap();
    let request = Request::builder()
        .method("POST")
        .uri(target)
        .header("content-type", "application/json")
        .header("content-length", body.len())
        .header("x-registry-auth", "e30=");
    send(api, request.body(Full::<Bytes>::from(body)).unwrap()).await
}

#[tokio::test]
async fn services_are_made_shown_changed_and_removed() {
    let (api, cluster, _) = swarm();
    let answer = ask_with_credentials(&api, "/services/create", &web()).await;
    assert_eq!((answer.status, answer.json()), (201, json!({"ID": format!("{ID}2"), "Warnings": null})));
    let shown = ask(&api, "GET", "/services/web").await.json();
    assert_eq!(shown["Spec"]["EndpointSpec"]["Mode"], json!("vip"));
    assert_eq!(shown["Endpoint"]["VirtualIPs"][0]["Addr"], json!("10.0.1.2/24"));
    assert_eq!(shown["Spec"].get("UpdateConfig"), None);
    let full = ask(&api, "GET", "/services/web?insertDefaults=true").await.json();
    assert_eq!(full["Spec"]["UpdateConfig"]["Parallelism"], json!(1));
    assert_eq!(full["Spec"]["TaskTemplate"]["RestartPolicy"]["Condition"], json!("any"));

    let before = cluster.spec();
    let answer = ask_json(&api, "POST", "/services/web/update?version=21", &shown["Spec"]).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"Warnings": null})));
    assert_eq!(cluster.spec(), before);
    let rollback = "/services/web/update?version=21&rollback=previous&registryAuthFrom=previous-spec";
    assert_eq!(ask_json(&api, "POST", rollback, &shown["Spec"]).await.status, 200);
    assert_eq!(ask(&api, "DELETE", "/services/web").await.status, 200);
    assert_eq!(
        cluster.calls(),
        [
            "create service web Some(\"e30=\")",
            "update service web 21 spec None Spec",
            "update service web 21 previous None PreviousSpec",
            "rm service web",
        ]
    );
}

#[tokio::test]
async fn wrong_services_are_refused() {
    let (api, cluster, _) = swarm();
    let answer = ask(&api, "GET", "/services/x").await;
    assert_eq!((answer.status, answer.message().as_str()), (404, "service x not found"));
    for (target, message) in [
        (
            "/services/web/update?version=x",
            "invalid service version 'x': strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        ("/services/web/update?version=1&registryAuthFrom=x", "unsupported registryAuthFrom value"),
        ("/services/web/update?version=1&rollback=x", "unrecognized rollback option x"),
    ] {
        let answer = ask_json(&api, "POST", target, &web()).await;
        assert_eq!((answer.status, answer.message().as_str()), (400, message), "{target}");
    }
    let answer = ask(&api, "GET", "/services/web?insertDefaults=maybe").await;
    let text =
        "invalid value for insertDefaults: maybe: strconv.ParseBool: parsing \"maybe\": invalid syntax";
    assert_eq!((answer.status, answer.message().as_str()), (400, text));
    cluster.fail_next(out_of_sequence());
    let answer = ask_json(&api, "POST", "/services/web/update?version=1", &web()).await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.message(), "rpc error: code = Unknown desc = update out of sequence");
    let plugin = json!({"Name": "p", "TaskTemplate": {"Runtime": "plugin", "PluginSpec": {}}});
    assert_eq!(ask_json(&api, "POST", "/services/create", &plugin).await.status, 501);
}

#[tokio::test]
async fn files_of_old_clients_are_no_templates_and_versions_are_numbers() {
    let (api, _, _) = swarm();
    let file = json!({"Name": "f", "Data": "eA==", "Templating": {"Name": "golang"}});
    for noun in ["secret", "config"] {
        let answer = ask_json(&api, "POST", &format!("/v1.36/{noun}s/create"), &file).await;
        let text = format!("{noun} templating is not supported on the specified API version: 1.36");
        assert_eq!((answer.status, answer.message()), (400, text));
        let answer = ask_json(&api, "POST", &format!("/{noun}s/f/update?version=x"), &file).await;
        assert_eq!((answer.status, answer.message()), (400, format!("invalid {noun} version")));
    }
}

#[tokio::test]
async fn services_are_listed_with_what_their_tasks_do() {
    let (api, cluster, _) = swarm();
    let query = filters(&json!({"mode": ["global"], "name": ["w"], "label": ["a"], "id": ["0"]}));
    let listed = ask(&api, "GET", &format!("/services?status=true&{query}")).await.json();
    assert_eq!(
        listed[0]["ServiceStatus"],
        json!({"RunningTasks": 1, "DesiredTasks": 2, "CompletedTasks": 0})
    );
    let call = &cluster.calls()[0];
    assert!(call.contains("modes: [\"global\"]") && call.contains("names: [\"w\"]"), "{call}");
    assert_eq!(ask(&api, "GET", "/services").await.json()[0].get("ServiceStatus"), None);
    let text = "invalid value for status: x: strconv.ParseBool: parsing \"x\": invalid syntax";
    let answer = ask(&api, "GET", "/services?status=x").await;
    assert_eq!((answer.status, answer.message().as_str()), (400, text));
    assert_eq!(ask(&api, "GET", "/v1.40/services?status=true").await.json()[0].get("ServiceStatus"), None);
    let plugins = filters(&json!({"runtime": ["plugin"]}));
    assert_eq!(ask(&api, "GET", &format!("/services?{plugins}")).await.json(), json!([]));
}

#[tokio::test]
async fn images_are_pinned_for_clients_that_do_not_do_so() {
    let (api, cluster, node) = swarm();
    assert_eq!(ask_json(&api, "POST", "/v1.29/services/create", &web()).await.status, 201);
    let digest = objects::digest();
    assert_eq!(cluster.spec().template.container.image, format!("nginx:latest@{digest}"));
    node.fail_next(node_agent::NodeError::failed("ask", std::io::Error::other("no route")));
    let answer = ask_json(&api, "POST", "/v1.29/services/create", &web()).await;
    assert_eq!(answer.json()["Warnings"], json!(["unable to pin image nginx to digest: ask: no route"]));
    assert_eq!(ask_json(&api, "POST", "/services/create", &web()).await.status, 201);
    assert_eq!(cluster.spec().template.container.image, "nginx");
}

#[tokio::test]
async fn tasks_are_listed_and_shown() {
    let (api, cluster, _) = swarm();
    let query = filters(&json!({
        "service": ["web"], "node": ["self"], "desired-state": ["Running", "shutdown"], "_up-to-date": ["true"],
    }));
    let tasks = ask(&api, "GET", &format!("/tasks?{query}")).await.json();
    assert_eq!((&tasks[0]["Slot"], &tasks[0]["Status"]["State"]), (&json!(1), &json!("running")));
    let names = tasks[0]["NetworksAttachments"].as_array().unwrap();
    let names: Vec<_> =
        names.iter().map(|place| place["Network"]["Spec"]["Name"].as_str().unwrap()).collect();
    assert_eq!(names, ["front", "host", ""]);
    let call = &cluster.calls()[0];
    for part in
        ["services: [\"web\"]", "nodes: [\"self\"]", "desired: [Running, Shutdown]", "up_to_date: Some(true)"]
    {
        assert!(call.contains(part), "{call}");
    }
    assert_eq!(ask(&api, "GET", "/tasks/t").await.json()["ServiceID"], json!(format!("{ID}2")));
    assert_eq!(ask(&api, "GET", "/tasks/x").await.message(), "task x not found");
    for (filter, status, message) in [
        (json!({"desired-state": ["x"]}), 500, "Invalid desired-state filter: 'x'"),
        (json!({"y": ["x"]}), 400, "invalid filter 'y'"),
    ] {
        let answer = ask(&api, "GET", &format!("/tasks?{}", filters(&filter))).await;
        assert_eq!((answer.status, answer.message().as_str()), (status, message));
    }
}

#[tokio::test]
async fn logs_of_services_are_framed_and_say_where_they_come_from() {
    let (api, cluster, _) = swarm();
    let target = "/services/web/logs?stdout=1&stderr=true&details=1&tail=5&since=1.5&follow=1";
    let answer = ask(&api, "GET", target).await;
    assert_eq!(answer.header("content-type"), "application/vnd.docker.multiplexed-stream");
    let origin = format!(
        "com.docker.swarm.node.id={ID}1,com.docker.swarm.service.id={ID}2,com.docker.swarm.task.id={ID}3,zone=a "
    );
    let frame = |stream: u8, text: String| {
        let length = u8::try_from(text.len()).unwrap();
        [&[stream, 0, 0, 0, 0, 0, 0, length], text.as_bytes()].concat()
    };
    let expected = [
        frame(1, format!("{origin}out\n")),
        frame(2, format!("{origin}err\n")),
        frame(3, "Error grabbing logs: warning: gap\n".to_owned()),
    ];
    assert_eq!(answer.body.to_vec(), expected.concat());
    let call = &cluster.calls()[0];
    for part in
        [&format!("Service(\"{ID}2\")"), "follow: true", "tail: Some(5)", "[Stdout, Stderr]", "00:00:01.5"]
    {
        assert!(call.contains(part), "{call}");
    }
    let answer = ask(&api, "GET", "/v1.41/tasks/t/logs?stdout=1&timestamps=1").await;
    assert_eq!(answer.header("content-type"), "application/vnd.docker.raw-stream");
    assert!(answer.text().contains("2026-11-21T08:44:01.000000000Z out\n"));
    let answer = ask(&api, "GET", "/services/web/logs").await;
    assert_eq!(
        (answer.status, answer.message().as_str()),
        (400, "must specify at least one of 'stdout' or 'stderr'")
    );
    for (tail, message) in [
        ("x", "tail value must be a positive integer or \"all\""),
        ("-1", "negative tail values not supported"),
    ] {
        let answer = ask(&api, "GET", &format!("/services/web/logs?stdout=1&tail={tail}")).await;
        assert_eq!((answer.status, answer.message().as_str()), (500, message));
        // The number of lines is looked at last.
        let answer = ask(&api, "GET", &format!("/services/x/logs?stdout=1&tail={tail}")).await;
        assert_eq!((answer.status, answer.message().as_str()), (404, "service x not found"));
    }
}

#[tokio::test]
async fn networks_of_the_cluster_are_shown_beside_those_of_the_node() {
    let (api, cluster, node) = swarm();
    let names = async |query: &str| {
        let listed = ask(&api, "GET", &format!("/networks?{query}")).await.json();
        let name = |network: &Value| network["Name"].as_str().unwrap().to_owned();
        listed.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["front", "bridge"]);
    assert_eq!(names(&filters(&json!({"label": ["tier=back"]}))).await, ["bridge"]);
    assert_eq!(names(&filters(&json!({"name": ["^fr.nt$"]}))).await, ["front", "bridge"]);
    assert_eq!(names(&filters(&json!({"name": ["^ront"]}))).await, ["bridge"]);
    let shown = ask(&api, "GET", "/networks/front").await.json();
    assert_eq!((&shown["Scope"], &shown["Driver"]), (&json!("swarm"), &json!("overlay")));
    assert_eq!(shown["IPAM"]["Config"], json!([{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"}]));
    assert_eq!(shown["Options"], json!({"com.docker.network.driver.overlay.vxlanid_list": "4097"}));
    assert_eq!(ask(&api, "GET", "/networks/front?scope=local").await.status, 404);
    assert_eq!(ask(&api, "GET", "/networks/bridge?scope=swarm").await.status, 404);
    assert_eq!(ask(&api, "GET", "/networks/bridge").await.json()["Scope"], json!("local"));
    let wish = |name: &str| json!({"Name": name, "Driver": "overlay"});
    let answer = ask_json(&api, "POST", "/networks/create", &wish("back")).await;
    assert_eq!((answer.status, answer.json()["Id"].clone()), (201, json!("net")));
    let answer = ask_json(&api, "POST", "/networks/create", &wish("bridge")).await;
    assert_eq!((answer.status, answer.message().as_str()), (409, "network with name bridge already exists"));
    assert_eq!(ask(&api, "DELETE", "/networks/front").await.status, 204);
    assert!(cluster.calls().contains(&"create network back overlay".to_owned()));
    assert!(cluster.calls().contains(&"rm network net".to_owned()));
    assert_eq!(ask(&api, "DELETE", "/networks/bridge").await.status, 204);
    assert!(node.calls().contains(&"network rm bridge".to_owned()));
    let pruned = ask(&api, "POST", "/networks/prune").await.json();
    assert_eq!(pruned["NetworksDeleted"], json!(["front"]));
}

#[tokio::test]
async fn who_is_no_manager_has_no_networks_of_the_cluster() {
    let (api, cluster, _) = swarm();
    cluster.stand(Standing::Worker(NodeId::from_u128(1)));
    assert_eq!(ask(&api, "GET", "/networks").await.json().as_array().unwrap().len(), 1);
    assert_eq!(ask(&api, "GET", "/networks/front").await.status, 404);
    let answer = ask_json(&api, "POST", "/networks/create", &json!({"Name": "n", "Driver": "overlay"})).await;
    assert_eq!(answer.status, 403);
    assert!(answer.message().starts_with("This node is not a swarm manager."));
    cluster.stand(Standing::Manager(NodeId::from_u128(1)));
    cluster.fail_next(ClusterError::NoLeader);
    assert_eq!(ask(&api, "GET", "/networks").await.json().as_array().unwrap().len(), 1);
}

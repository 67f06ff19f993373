//! Images, networks, volumes, the daemon, and what is refused.
#![cfg(test)]

use http::Request;
use http_body_util::Full;
use node_agent::NodeError;
use serde_json::{Value, json};

use crate::client::{api, ask, ask_json, send};

#[tokio::test]
async fn every_noun_answers_in_every_version() {
    let (api, _) = api();
    for minor in [24, 25, 29, 30, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56] {
        for target in [
            "/images/json",
            "/images/busybox/json",
            "/images/busybox/history",
            "/networks",
            "/networks/bridge",
            "/volumes",
            "/volumes/vol",
            "/info",
            "/version",
            "/system/df",
            "/containers/one/stats?stream=0",
            "/plugins",
            "/containers/one/changes",
        ] {
            let answer = ask(&api, "GET", &format!("/v1.{minor}{target}")).await;
            assert_eq!(answer.status, 200, "1.{minor} {target}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn transfers_write_dockers_lines_and_tell_late_failures_in_the_stream() {
    let (api, fake) = api();
    let pulled = ask(&api, "POST", "/images/create?fromImage=busybox&tag=latest").await;
    assert_eq!(
        pulled.text(),
        "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n{\"errorDetail\":{\"message\":\"pull: cut\"},\"error\":\"pull: cut\"}\r\n"
    );
    let missing = ask(&api, "POST", "/images/create?fromImage=missing").await;
    assert_eq!((missing.status, missing.message().as_str()), (404, "No such image: missing"));
    let loaded = ask(&api, "POST", "/images/load").await;
    assert_eq!(
        (loaded.status, loaded.text().as_str()),
        (200, "{\"errorDetail\":{\"message\":\"invalid archive\"},\"error\":\"invalid archive\"}\r\n")
    );
    let digest = format!("sha256:{}", "a".repeat(64));
    ask(&api, "POST", &format!("/images/create?fromImage=busybox&tag={digest}&platform=linux/arm64")).await;
    assert!(
        fake.calls()
            .pop()
            .unwrap()
            .starts_with(&format!("pull docker.io/library/busybox@{digest} Some(Platform"))
    );
}

#[tokio::test]
async fn credentials_are_read_from_their_header_and_garbage_is_none() {
    use base64::Engine as _;
    let (api, fake) = api();
    let auth = br#"{"username":"u","password":"p"}"#;
    let auth = base64::engine::general_purpose::URL_SAFE.encode(auth);
    for (header, has) in [(auth.as_str(), "true"), ("garbage!", "false"), ("", "false")] {
        let request = Request::builder()
            .method("POST")
            .uri("/images/create?fromImage=busybox")
            .header("X-Registry-Auth", header)
            .body(Full::default())
            .unwrap();
        assert_eq!(send(&api, request).await.status, 200);
        assert!(fake.calls().pop().unwrap().ends_with(has), "{header}");
    }
}

#[tokio::test]
async fn parameters_of_images_follow_their_versions() {
    let (api, fake) = api();
    let answer = ask(&api, "GET", "/images/json?identity=1").await;
    assert_eq!(answer.message(), "conflicting options: identity requires manifests=1");
    let platform = "%7B%22os%22:%22linux%22,%22architecture%22:%22arm64%22%7D";
    let answer = ask(&api, "GET", &format!("/images/busybox/json?manifests=1&platform={platform}")).await;
    assert_eq!(answer.message(), "conflicting options: manifests and platform options cannot both be set");
    let answer = ask(&api, "GET", "/images/busybox/json?platform=%7B%22os%22:%22linux%22%7D").await;
    assert_eq!(answer.message(), "invalid platform: both OS and Architecture must be provided");
    let answer =
        ask(&api, "GET", &format!("/v1.51/images/get?names=a&platform={platform}&platform={platform}")).await;
    assert_eq!(
        answer.message(),
        "multiple platform parameters are not supported in this API version; use API version 1.52 or later"
    );
    assert_eq!(
        ask(&api, "GET", &format!("/images/get?names=a&names=b&platform={platform}&platform={platform}"))
            .await
            .text(),
        "tar"
    );
    assert!(fake.calls().pop().unwrap().starts_with("save [\"a\", \"b\"]"));
    assert_eq!(
        ask(&api, "POST", "/images/busybox/tag?repo=sha256").await.message(),
        "refusing to create an ambiguous tag using digest algorithm as name"
    );
    assert_eq!(ask(&api, "POST", "/images/busybox/tag?repo=A").await.status, 400);
    let removed = ask(&api, "DELETE", "/images/busybox?force=1").await;
    assert_eq!(removed.text(), "[{\"Untagged\":\"busybox\"},{\"Deleted\":\"sha256:1\"}]\n");
}

#[tokio::test]
async fn prunes_have_null_or_an_empty_list_as_docker_does() {
    let (api, fake) = api();
    for (target, reply) in [
        ("/containers/prune", json!({"ContainersDeleted": null, "SpaceReclaimed": 0})),
        ("/images/prune", json!({"ImagesDeleted": null, "SpaceReclaimed": 0})),
        ("/networks/prune", json!({"NetworksDeleted": null})),
        ("/volumes/prune", json!({"VolumesDeleted": [], "SpaceReclaimed": 0})),
        ("/build/prune", json!({"CachesDeleted": null, "SpaceReclaimed": 0})),
    ] {
        assert_eq!(ask(&api, "POST", target).await.json(), reply);
    }
    for (target, scope) in [
        ("/v1.41/volumes/prune", "All"),
        ("/v1.42/volumes/prune", "Anonymous"),
        ("/v1.42/volumes/prune?filters=%7B%22all%22:%5B%22true%22%5D%7D", "All"),
    ] {
        ask(&api, "POST", target).await;
        assert!(fake.calls().pop().unwrap().contains(&format!("scope: {scope}")), "{target}");
    }
}

#[tokio::test]
async fn networks_and_volumes_are_made_and_connected() {
    let (api, fake) = api();
    let body = json!({"name": "n", "CheckDuplicate": true, "Options": {"a": "b"}, "IPAM": {"Config": [{"Subnet": "10.0.0.0/24"}]}});
    assert_eq!(
        ask_json(&api, "POST", "/networks/create", &body).await.text(),
        "{\"Id\":\"c1c2\",\"Warning\":\"\"}\n"
    );
    assert!(fake.calls().pop().unwrap().contains("subnet: Some(10.0.0.0/24)"));
    let body =
        json!({"Container": "one", "EndpointConfig": {"Aliases": ["al"], "MacAddress": "02:00:00:00:00:01"}});
    for (minor, mac) in [(53, "mac_address: None"), (54, "mac_address: Some")] {
        assert_eq!(
            ask_json(&api, "POST", &format!("/v1.{minor}/networks/n/connect"), &body).await.status,
            200
        );
        assert!(fake.calls().pop().unwrap().contains(mac), "{minor}");
    }
    ask_json(&api, "POST", "/networks/n/disconnect", &json!({"Container": "one", "Force": true})).await;
    assert_eq!(fake.calls().pop().unwrap(), "disconnect n one Yes");
    assert_eq!(ask(&api, "GET", "/networks/zz").await.message(), "network zz not found");
    assert_eq!(ask(&api, "GET", "/networks/bridge?scope=swarm").await.status, 404);
    assert_eq!(ask(&api, "GET", "/volumes/zz").await.message(), "get zz: no such volume");
    let made = ask_json(&api, "POST", "/volumes/create", &json!({})).await;
    assert_eq!(
        (made.status, made.text().as_str()),
        (
            201,
            "{\"CreatedAt\":\"2026-11-21T08:44:02Z\",\"Driver\":\"local\",\"Labels\":null,\"Mountpoint\":\"/var/lib/shoal/volumes/vol/_data\",\"Name\":\"vol\",\"Options\":null,\"Scope\":\"local\"}\n"
        )
    );
    assert_eq!(ask(&api, "PUT", "/volumes/v?version=1").await.status, 503);
    assert_eq!(ask(&api, "GET", "/networks/").await.status, 200);
}

#[tokio::test]
async fn network_lists_have_containers_before_1_52_only() {
    let (api, _) = api();
    let list = |minor: u16| ask_list(api.clone(), minor);
    async fn ask_list(api: api_compat::Api, minor: u16) -> Value {
        ask(&api, "GET", &format!("/v1.{minor}/networks")).await.json()[0].clone()
    }
    assert_eq!(list(51).await["Containers"], json!({}));
    assert_eq!(list(52).await.get("Containers"), None);
    let shown = ask(&api, "GET", "/networks/bridge").await.json();
    let container = &shown["Containers"]["01".repeat(32)];
    assert_eq!(
        (container["Name"].clone(), container["IPv4Address"].clone()),
        (json!("one"), json!("172.17.0.2/16"))
    );
    assert_eq!(shown["Status"]["IPAM"]["Subnets"]["172.17.0.0/16"]["IPsInUse"], json!(3));
}

#[tokio::test]
async fn disk_use_has_both_shapes() {
    let (api, _) = api();
    let old = ask(&api, "GET", "/v1.51/system/df?type=volume").await.json();
    assert_eq!((old["Images"].clone(), old["Volumes"].as_array().unwrap().len()), (Value::Null, 1));
    assert_eq!(old.get("ImageUsage"), None);
    let new = ask(&api, "GET", "/system/df?verbose=1").await.json();
    assert_eq!(new["ContainerUsage"]["ActiveCount"], json!(1));
    assert_eq!(new["ContainerUsage"]["TotalCount"], json!(2));
    assert_eq!(new["VolumeUsage"]["Items"][0]["UsageData"], json!({"RefCount": 1, "Size": 10}));
    assert_eq!(new.get("Images"), None);
    let brief = ask(&api, "GET", "/system/df").await.json();
    assert!(brief.get("Images").is_some() && brief["ImageUsage"].get("Items").is_none());
}

#[tokio::test]
async fn events_are_framed_as_clients_accept_them() {
    let (api, _) = api();
    let watch = async |version: &str, accept: &str| {
        let request = Request::builder().uri(format!("{version}/events?until=1")).header("accept", accept);
        send(&api, request.body(Full::default()).unwrap()).await
    };
    for (version, accept, content_type) in [
        ("/v1.51", "application/jsonl", "application/json"),
        ("", "", "application/jsonl"),
        ("", "application/x-ndjson", "application/x-ndjson"),
        ("", "text/html, application/json-seq", "application/json-seq"),
    ] {
        let answer = watch(version, accept).await;
        assert_eq!(answer.header("content-type"), content_type);
        let starts = answer.body.first() == Some(&0x1e);
        assert_eq!(starts, content_type == "application/json-seq");
        assert_eq!(answer.text().lines().count(), 2);
        assert_eq!(answer.text().contains("\"status\":\"start\""), version == "/v1.51");
    }
    let filtered = ask(&api, "GET", "/events?filters=%7B%22type%22:%5B%22container%22%5D%7D").await;
    assert_eq!(filtered.text().lines().count(), 1);
}

#[tokio::test]
async fn a_machine_outside_a_cluster_says_so_in_swarms_words() {
    let (api, _) = api();
    let outside = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
    for (method, target) in [
        ("GET", "/swarm"),
        ("GET", "/nodes"),
        ("GET", "/nodes/x"),
        ("POST", "/services/create"),
        ("GET", "/services"),
        ("GET", "/services/x/logs?stdout=1&tail=x"),
        ("GET", "/tasks"),
        ("GET", "/tasks/x/logs?stdout=1&tail=x"),
        ("GET", "/secrets"),
        ("DELETE", "/configs/x"),
        ("POST", "/configs/create"),
        ("POST", "/swarm/update?version=1"),
        ("GET", "/swarm/unlockkey"),
        ("POST", "/swarm/unlock"),
    ] {
        let answer = ask(&api, method, target).await;
        assert_eq!((answer.status, answer.message().as_str()), (503, outside), "{method} {target}");
    }
    let answer = ask(&api, "POST", "/swarm/leave").await;
    assert_eq!((answer.status, answer.message().as_str()), (503, "This node is not part of a swarm"));
    assert_eq!(ask(&api, "POST", "/swarm/init").await.status, 501);
}

#[tokio::test]
async fn what_is_not_done_is_refused_with_a_reason() {
    let (api, _) = api();
    for (method, target, status) in [
        ("POST", "/build", 501),
        ("POST", "/session", 501),
        ("POST", "/grpc", 501),
        ("POST", "/build/cancel", 400),
        ("GET", "/plugins/x/json", 404),
        ("POST", "/plugins/pull", 501),
        ("GET", "/debug/pprof/heap", 501),
    ] {
        let answer = ask(&api, method, target).await;
        assert_eq!(answer.status, status, "{method} {target}");
        assert!(!answer.message().is_empty());
    }
    assert_eq!(ask(&api, "GET", "/plugins").await.text(), "[]\n");
}

#[tokio::test]
async fn logins_answer_as_clients_expect() {
    let (api, fake) = api();
    let body = json!({"username": "u", "password": "p", "serveraddress": "https://r/"});
    let answer = ask_json(&api, "POST", "/auth", &body).await;
    assert_eq!(answer.text(), "{\"Status\":\"Login Succeeded\",\"IdentityToken\":\"\"}\n");
    assert_eq!(fake.calls(), ["login https://r/ true"]);
    fake.fail_next(NodeError::Refused { kind: shoal_types::ErrorKind::Unauthorized, message: "no".into() });
    assert_eq!(ask_json(&api, "POST", "/auth", &body).await.status, 401);
}

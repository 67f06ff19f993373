//! Containers: the round trip from create to inspect, lists, and the shapes of versions.
#![cfg(test)]

use serde_json::{Value, json};

use crate::client::{api, ask, ask_json};

/// The keys of an object, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn what_was_asked_for_is_what_inspect_shows() {
    let (api, _) = api();
    let asked = json!({
        "Hostname": "h1", "Domainname": "d.x", "User": "0:0", "AttachStdout": true, "AttachStderr": true, "Tty": true,
        "OpenStdin": true, "StdinOnce": true, "Env": ["A=1", "B=2"], "Cmd": ["sh", "-c", "sleep 50"],
        "Image": "busybox:latest", "Labels": {"z": "1", "a": "2"}, "Volumes": {"/v": {}}, "WorkingDir": "/w",
        "StopSignal": "SIGINT", "StopTimeout": 3, "Shell": ["/bin/sh"],
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 2},
        "ExposedPorts": {"81/udp": {}},
        "HostConfig": {
            "Binds": ["/tmp:/t:ro", "named:/n"], "NetworkMode": "none", "CapAdd": ["NET_ADMIN"], "Dns": ["8.8.8.8"],
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "Mounts": [
                {"Type": "volume", "Source": "vol2", "Target": "/v2", "VolumeOptions": {"NoCopy": true, "Labels": {"q": "1"}}},
                {"Type": "tmpfs", "Target": "/tm", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 448}},
            ],
            "Memory": 67_108_864, "NanoCpus": 500_000_000, "ExtraHosts": ["a:1.2.3.4"], "Tmpfs": {"/tt": "size=1m"},
            "Sysctls": {"net.core.somaxconn": "100"}, "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
            "Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nn", "CgroupPermissions": "rwm"}],
            "SecurityOpt": ["no-new-privileges"], "Init": true, "PidsLimit": 100,
        },
    });
    let created = ask_json(&api, "POST", "/v1.41/containers/create?name=full", &asked).await;
    assert_eq!((created.status, created.json()["Warnings"].clone()), (201, json!([])));
    let shown = ask(&api, "GET", "/v1.41/containers/full/json").await.json();
    for (field, value) in asked.as_object().unwrap() {
        match field.as_str() {
            "HostConfig" => {}
            // Published ports are exposed as well.
            "ExposedPorts" => assert_eq!(shown["Config"][field], json!({"80/tcp": {}, "81/udp": {}})),
            _ => assert_eq!(&shown["Config"][field], value, "{field}"),
        }
    }
    for (field, value) in asked["HostConfig"].as_object().unwrap() {
        assert_eq!(&shown["HostConfig"][field], value, "{field}");
    }
    assert_eq!(shown["HostConfig"]["MemorySwap"], json!(134_217_728));
}

#[tokio::test]
async fn what_inspect_shows_can_be_asked_for_again() {
    let (api, _) = api();
    let asked =
        json!({"Image": "busybox", "Cmd": ["a"], "HostConfig": {"Binds": ["/a:/b"], "CapDrop": ["ALL"]}});
    ask_json(&api, "POST", "/containers/create?name=first", &asked).await;
    let first = ask(&api, "GET", "/containers/first/json").await.json();
    // As tools do that replace a container by one with a newer image.
    let mut again = first["Config"].clone();
    again["HostConfig"] = first["HostConfig"].clone();
    again["NetworkingConfig"] = json!({"EndpointsConfig": first["NetworkSettings"]["Networks"]});
    let created = ask_json(&api, "POST", "/containers/create?name=second", &again).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let second = ask(&api, "GET", "/containers/second/json").await.json();
    assert_eq!(second["Config"], first["Config"]);
    assert_eq!(second["HostConfig"], first["HostConfig"]);
}

#[tokio::test]
async fn null_and_empty_are_told_apart_as_docker_does() {
    let (api, _) = api();
    let shown = ask(&api, "GET", "/v1.41/containers/two/json").await.json();
    for field in [
        "Binds",
        "CapAdd",
        "CapDrop",
        "Dns",
        "ExtraHosts",
        "GroupAdd",
        "Links",
        "Devices",
        "Ulimits",
        "PidsLimit",
    ] {
        assert_eq!(shown["HostConfig"].get(field), Some(&Value::Null), "{field}");
    }
    for field in ["Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Mounts", "Init"] {
        assert_eq!(shown["HostConfig"].get(field), None, "{field}");
    }
    for field in ["Cmd", "Entrypoint", "Env"] {
        assert_eq!(shown["Config"].get(field), Some(&Value::Null), "{field}");
    }
    for field in ["ExposedPorts", "Healthcheck", "StopSignal", "StopTimeout", "Shell"] {
        assert_eq!(shown["Config"].get(field), None, "{field}");
    }
    assert_eq!(shown["ExecIDs"], Value::Null);
    assert_eq!(shown["Mounts"], json!([]));
    assert_eq!(shown["State"]["StartedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(shown["State"].get("Health"), None);
    assert_eq!(shown["NetworkSettings"]["Ports"], json!({}));
    let bridge = &shown["NetworkSettings"]["Networks"]["bridge"];
    for field in ["IPAMConfig", "Links", "Aliases", "DriverOpts"] {
        assert_eq!(bridge.get(field), Some(&Value::Null), "{field}");
    }
    assert_eq!((bridge["EndpointID"].clone(), bridge["IPPrefixLen"].clone()), (json!(""), json!(0)));
}

/// The fields that dockerd 20.10 (API 1.41) was seen to send for a running container.
const INSPECT_1_41: [&str; 26] = [
    "AppArmorProfile",
    "Args",
    "Config",
    "Created",
    "Driver",
    "ExecIDs",
    "GraphDriver",
    "HostConfig",
    "HostnamePath",
    "HostsPath",
    "Id",
    "Image",
    "LogPath",
    "MountLabel",
    "Mounts",
    "Name",
    "NetworkSettings",
    "Path",
    "Platform",
    "ProcessLabel",
    "ResolvConfPath",
    "RestartCount",
    "SizeRootFs",
    "SizeRw",
    "State",
    "",
];
const NETWORK_SETTINGS_1_41: [&str; 19] = [
    "Bridge",
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "HairpinMode",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "LinkLocalIPv6Address",
    "LinkLocalIPv6PrefixLen",
    "MacAddress",
    "Networks",
    "Ports",
    "SandboxID",
    "SandboxKey",
    "SecondaryIPAddresses",
    "SecondaryIPv6Addresses",
    "",
];
const ENDPOINT_1_41: [&str; 13] = [
    "Aliases",
    "DriverOpts",
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAMConfig",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "Links",
    "MacAddress",
    "NetworkID",
];
const HOST_CONFIG_1_41: [&str; 67] = [
    "AutoRemove",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeight",
    "BlkioWeightDevice",
    "CapAdd",
    "CapDrop",
    "Cgroup",
    "CgroupParent",
    "CgroupnsMode",
    "ConsoleSize",
    "ContainerIDFile",
    "CpuCount",
    "CpuPercent",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "IOMaximumBandwidth",
    "IOMaximumIOps",
    "IpcMode",
    "Isolation",
    "KernelMemory",
    "KernelMemoryTCP",
    "Links",
    "LogConfig",
    "MaskedPaths",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "MemorySwappiness",
    "NanoCpus",
    "NetworkMode",
    "OomKillDisable",
    "OomScoreAdj",
    "PidMode",
    "PidsLimit",
    "PortBindings",
    "Privileged",
    "PublishAllPorts",
    "ReadonlyPaths",
    "ReadonlyRootfs",
    "RestartPolicy",
    "Runtime",
    "SecurityOpt",
    "ShmSize",
    "UTSMode",
    "Ulimits",
    "UsernsMode",
    "VolumeDriver",
    "VolumesFrom",
    "",
    "",
];

#[tokio::test]
async fn version_1_41_has_the_fields_that_the_reference_daemon_sends() {
    let (api, _) = api();
    let shown = ask(&api, "GET", "/v1.41/containers/one/json?size=1").await.json();
    let named =
        |fields: &[&'static str]| fields.iter().copied().filter(|name| !name.is_empty()).collect::<Vec<_>>();
    assert_eq!(keys(&shown), named(&INSPECT_1_41));
    assert_eq!(keys(&shown["HostConfig"]), named(&HOST_CONFIG_1_41));
    assert_eq!(keys(&shown["NetworkSettings"]), named(&NETWORK_SETTINGS_1_41));
    assert_eq!(keys(&shown["NetworkSettings"]["Networks"]["bridge"]), named(&ENDPOINT_1_41));
    let listed = ask(&api, "GET", "/v1.41/containers/json").await.json();
    assert_eq!(
        keys(&listed[0]),
        [
            "Command",
            "Created",
            "HostConfig",
            "Id",
            "Image",
            "ImageID",
            "Labels",
            "Mounts",
            "Names",
            "NetworkSettings",
            "Ports",
            "State",
            "Status"
        ]
    );
}

#[tokio::test]
async fn newer_versions_show_what_they_have_learnt() {
    let (api, _) = api();
    let newest = ask(&api, "GET", "/containers/one/json").await.json();
    assert_eq!(keys(&newest["NetworkSettings"]), ["Networks", "Ports", "SandboxID", "SandboxKey"]);
    assert_eq!(newest["NetworkSettings"]["Networks"]["bridge"]["GwPriority"], json!(0));
    assert_eq!(newest["NetworkSettings"]["Networks"]["bridge"]["DNSNames"], json!(["one"]));
    assert_eq!(
        newest["NetworkSettings"]["Ports"],
        json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}], "81/tcp": null})
    );
    let old = ask(&api, "GET", "/v1.51/containers/one/json").await.json();
    assert_eq!(old["NetworkSettings"]["IPAddress"], "172.17.0.2");
    for minor in [24, 30, 40, 43, 44, 45, 46, 48, 51, 52, 56] {
        let listed = ask(&api, "GET", &format!("/v1.{minor}/containers/json?all=1")).await.json();
        assert_eq!(listed[0].get("Health").is_some(), minor >= 52, "1.{minor}");
        ask(&api, "GET", &format!("/v1.{minor}/containers/one/json")).await;
    }
}

#[tokio::test]
async fn lists_say_the_same_from_the_cache_and_without_it() {
    let (api, _) = api();
    let plain = |mut list: Value| {
        for entry in list.as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove("SizeRootFs");
        }
        list
    };
    for minor in [24, 44, 52] {
        let first = ask(&api, "GET", &format!("/v1.{minor}/containers/json?all=1")).await;
        let second = ask(&api, "GET", &format!("/v1.{minor}/containers/json?all=1")).await;
        let sized = ask(&api, "GET", &format!("/v1.{minor}/containers/json?all=1&size=1")).await;
        assert_eq!(first.json(), second.json());
        assert_eq!(first.json(), plain(sized.json()));
        assert_eq!(second.json()[0]["Status"], "Up 10 hours");
    }
}

#[tokio::test]
async fn filters_of_lists_become_typed_or_are_refused() {
    let (api, fake) = api();
    let list = async |filters: &str| {
        let encoded: String = form_urlencoded::byte_serialize(filters.as_bytes()).collect();
        ask(&api, "GET", &format!("/containers/json?filters={encoded}")).await
    };
    for (filters, message) in [
        ("x", "invalid filter"),
        (r#"{"x":["y"]}"#, "invalid filter 'x'"),
        (
            r#"{"status":["y"]}"#,
            "invalid filter 'status=y': invalid value for state (y): must be one of created, running, paused, restarting, removing, exited, dead",
        ),
        (r#"{"exited":["y"]}"#, "invalid filter 'exited=y': strconv.Atoi: parsing \"y\": invalid syntax"),
        (r#"{"publish":["y"]}"#, "invalid filter 'publish=y'"),
        (r#"{"is-task":["y"]}"#, "invalid filter 'is-task=[y]'"),
    ] {
        let answer = list(filters).await;
        assert_eq!((answer.status, answer.message().as_str()), (400, message));
    }
    list(r#"{"label":{"a=b":true},"publish":["80-90/tcp"],"health":["none"]}"#).await;
    let call = fake.calls().pop().unwrap();
    assert!(call.contains("required: [(\"a\", Some(\"b\"))]"), "{call}");
    assert!(
        call.contains("port: 80") && call.contains("last: 90") && call.contains("health: [None]"),
        "{call}"
    );
    let answer = ask(&api, "GET", "/containers/json?limit=x").await;
    assert_eq!(answer.message(), "strconv.Atoi: parsing \"x\": invalid syntax");
}

#[tokio::test]
async fn bodies_that_ask_for_nothing_are_refused() {
    let (api, _) = api();
    for body in [json!({}), json!(null), json!({"HostConfig": {}})] {
        let answer = ask_json(&api, "POST", "/containers/create", &body).await;
        assert_eq!(answer.message(), "config cannot be empty in order to create a container");
    }
    let answer = ask_json(&api, "POST", "/containers/create", &json!({"Image": 3})).await;
    assert_eq!(
        answer.message(),
        "invalid JSON: json: cannot unmarshal number into Go struct field ContainerConfig.Image of type string"
    );
}

#[tokio::test]
async fn changes_reach_the_engine_as_typed_requests() {
    let (api, fake) = api();
    for (method, target, status, call) in [
        ("POST", "/containers/one/start", 204, "start one"),
        (
            "POST",
            "/containers/one/stop?t=5&signal=INT",
            204,
            "stop one StopOptions { signal: Some(\"INT\"), timeout: Some(5) }",
        ),
        (
            "POST",
            "/v1.41/containers/one/stop?signal=INT",
            204,
            "stop one StopOptions { signal: None, timeout: None }",
        ),
        (
            "POST",
            "/containers/one/restart?t=-1",
            204,
            "restart one StopOptions { signal: None, timeout: Some(-1) }",
        ),
        ("POST", "/containers/one/kill?signal=9", 204, "kill one Some(\"9\")"),
        ("POST", "/containers/one/pause", 204, "pause one"),
        ("POST", "/containers/one/unpause", 204, "unpause one"),
        ("POST", "/containers/one/rename?name=uno", 204, "rename one uno"),
        ("POST", "/containers/one/resize?h=40&w=99999", 200, "resize one 40 65535"),
        (
            "DELETE",
            "/containers/one?v=1&force=yes",
            204,
            "remove one RemoveOptions { running: Kill, volumes: RemoveAnonymous, target: Container }",
        ),
        (
            "DELETE",
            "/containers/one/alias?link=1",
            404,
            "remove one/alias RemoveOptions { running: Refuse, volumes: Keep, target: Link }",
        ),
        ("GET", "/containers/one/top", 200, "top one -ef"),
        ("POST", "/containers/one/wait?condition=removed", 200, "wait one Removed"),
        ("POST", "/v1.29/containers/one/wait?condition=removed", 200, "wait one NotRunning"),
        ("HEAD", "/containers/one/archive?path=/etc", 200, "stat one /etc"),
        ("GET", "/containers/one/archive?path=/etc", 200, "read one /etc"),
        ("GET", "/containers/one/stats?stream=0", 200, "stats one Once"),
        ("GET", "/containers/one/stats?stream=0&one-shot=1", 200, "stats one OneShot"),
    ] {
        let answer = ask(&api, method, target).await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        assert_eq!(fake.calls().pop().unwrap(), call);
    }
}

#[tokio::test]
async fn parameters_that_are_wrong_are_refused_with_dockers_texts() {
    let (api, _) = api();
    for (method, target, message) in [
        ("POST", "/containers/one/stop?t=x", "strconv.Atoi: parsing \"x\": invalid syntax"),
        ("POST", "/containers/one/rename", "Neither old nor new names may be empty"),
        ("POST", "/containers/one/resize?h=x&w=1", "invalid resize height \"x\": invalid syntax"),
        ("POST", "/containers/one/resize?h=1", "invalid resize width \"\": invalid syntax"),
        ("POST", "/containers/one/wait?condition=x", "invalid condition: \"x\""),
        ("GET", "/containers/one/logs", "must specify at least one of 'stdout' or 'stderr'"),
        ("GET", "/containers/one/archive", "bad parameter: path cannot be empty"),
        ("GET", "/containers/one/stats?one-shot=1", "cannot have stream=true and one-shot=true"),
        ("GET", "/events?since=10&until=5", "`since` time (10) cannot be after `until` time (5)"),
        ("GET", "/system/df?type=x", "unknown object type: x"),
        ("POST", "/containers/one/exec", "No exec command specified"),
    ] {
        let answer = ask(&api, method, target).await;
        assert_eq!((answer.status, answer.message().as_str()), (400, message), "{target}");
    }
    let answer = ask_json(&api, "POST", "/containers/one/start", &json!({"too": "long"})).await;
    assert_eq!(
        answer.message(),
        "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
    );
}

#[tokio::test]
async fn logs_are_framed_and_typed_by_version() {
    let (api, _) = api();
    let old = ask(&api, "GET", "/v1.41/containers/one/logs?stdout=1&stderr=1").await;
    let new = ask(&api, "GET", "/v1.42/containers/one/logs?stdout=1&stderr=1").await;
    assert_eq!(old.header("content-type"), "application/vnd.docker.raw-stream");
    assert_eq!(new.header("content-type"), "application/vnd.docker.multiplexed-stream");
    assert_eq!(&old.body[..], b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n");
    assert_eq!(old.body, new.body);
    let stamped = ask(&api, "GET", "/containers/one/logs?stdout=1&timestamps=1&details=1").await;
    assert!(stamped.text().contains("2026-08-23T10:00:00.000000001Z a=b out\n"), "{}", stamped.text());
    let json = ask(&api, "GET", "/containers/one/logs?stdout=1&format=json").await;
    assert_eq!(json.header("content-type"), "application/jsonl");
    assert!(json.text().starts_with("{\"Line\":\"out\\n\",\"Source\":\"stdout\""), "{}", json.text());
}

#[tokio::test]
async fn archives_describe_their_path_in_a_header() {
    use base64::Engine as _;
    let (api, _) = api();
    let answer = ask(&api, "HEAD", "/containers/one/archive?path=/etc").await;
    let stat = answer.header("x-docker-container-path-stat");
    let stat = base64::engine::general_purpose::STANDARD.decode(stat).unwrap();
    let stat: Value = serde_json::from_slice(&stat).unwrap();
    assert_eq!(
        stat,
        json!({"name": "etc", "size": 4096, "mode": 2_147_484_141_u32, "mtime": "2026-08-23T10:00:00Z", "linkTarget": ""})
    );
}

//! `GET /containers/{id}/json`: shapes that Go and Python clients rely on.

use integration_cli::{Test, cases};
use serde_json::{Value, json};

cases![
    the_top_level_describes_the_container,
    lists_that_were_not_sent_are_null_and_maps_are_empty,
    what_was_sent_is_echoed,
    optional_config_fields_are_left_out_when_empty,
    network_settings_of_a_running_container,
    the_old_network_fields_repeat_the_default_bridge,
    ports_that_are_exposed_only_are_null,
    files_of_the_container_exist_where_inspect_says,
    inspect_of_a_missing_container_is_404,
    the_client_inspects_by_template_type_and_size,
    a_container_can_be_made_again_from_its_inspection,
    times_have_nine_digits_and_utc,
];

fn the_top_level_describes_the_container(t: &Test) {
    let container = t.start("busybox sh -c 'exec park'");
    let inspected = t.inspect(&container);
    assert_eq!(inspected["Id"], container.id.as_str());
    assert_eq!(inspected["Name"], format!("/{container}"));
    assert_eq!(inspected["Path"], "sh");
    assert_eq!(inspected["Args"], json!(["-c", "exec park"]));
    assert_eq!(inspected["Platform"], "linux");
    assert_eq!(inspected["RestartCount"], 0);
    assert_eq!(inspected["ExecIDs"], Value::Null);
    assert_eq!(inspected["MountLabel"], "");
    assert_eq!(inspected["ProcessLabel"], "");
    let image = t.get("/images/busybox/json").expect(200).json()["Id"].clone();
    assert_eq!(inspected["Image"], image);
    assert!(inspected["Driver"].as_str().is_some_and(|driver| !driver.is_empty()));
    assert!(inspected.get("SizeRw").is_none() && inspected["State"].get("Health").is_none(), "{inspected}");
    let pid = inspected["State"]["Pid"].as_i64().unwrap();
    let running = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(running.contains("park"), "{running}");
}

fn lists_that_were_not_sent_are_null_and_maps_are_empty(t: &Test) {
    let container = t.create_json(&t.body(&["true"]));
    let inspected = t.inspect(&container);
    let (host, config) = (&inspected["HostConfig"], &inspected["Config"]);
    for key in [
        "Binds",
        "CapAdd",
        "CapDrop",
        "ExtraHosts",
        "GroupAdd",
        "Links",
        "SecurityOpt",
        "VolumesFrom",
        "Devices",
        "DeviceRequests",
        "Ulimits",
        "BlkioWeightDevice",
        "DeviceCgroupRules",
    ] {
        // Go clients read both as an empty list; docker-py tells them apart, and so does the reference.
        assert!(host[key].is_null(), "HostConfig.{key} is {}", host[key]);
    }
    for key in ["Dns", "DnsOptions", "DnsSearch"] {
        assert!(host[key].is_null() || host[key] == json!([]), "HostConfig.{key} is {}", host[key]);
    }
    assert!(host["PortBindings"].is_null() || host["PortBindings"] == json!({}), "{host}");
    // The daemon's own log options, if it has any.
    assert!(host["LogConfig"]["Config"].is_object(), "{host}");
    assert_eq!(config["Entrypoint"], Value::Null);
    assert!(config["Volumes"].is_null() || config["Volumes"] == json!({}), "{config}");
    assert_eq!(config["Labels"], json!({}));
    assert_eq!(config["OnBuild"], Value::Null);
    assert_eq!(inspected["Mounts"], json!([]));
    for key in ["Annotations", "Sysctls", "Tmpfs", "StorageOpt", "Mounts", "Init"] {
        assert!(host.get(key).is_none(), "HostConfig.{key} is there: {}", host[key]);
    }
}

fn what_was_sent_is_echoed(t: &Test) {
    let host = json!({
        "Binds": ["/tmp:/host:ro"], "CapAdd": ["NET_ADMIN"], "CapDrop": ["MKNOD"], "Dns": ["192.0.2.1"],
        "DnsOptions": ["ndots:3"], "DnsSearch": ["example.test"], "ExtraHosts": ["a:192.0.2.2"], "GroupAdd": ["staff"],
        "Memory": 67_108_864, "NanoCpus": 250_000_000, "CpusetCpus": "0", "PidsLimit": 77, "Privileged": false,
        "PublishAllPorts": true, "ReadonlyRootfs": true, "ShmSize": 1_048_576, "Sysctls": {"net.ipv4.ip_forward": "1"},
        "Tmpfs": {"/scratch": "size=1m"}, "Init": true, "OomScoreAdj": 100, "CpuShares": 512,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "SecurityOpt": ["no-new-privileges"],
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]},
    });
    let body = json!({
        "Image": "busybox", "Cmd": ["true"], "Hostname": "box", "Domainname": "example.test", "User": "alice",
        "Env": ["A=1"], "Labels": {"k": "v"}, "StopSignal": "SIGQUIT", "StopTimeout": 7, "Tty": true, "OpenStdin": true,
        "WorkingDir": "/tmp", "ExposedPorts": {"80/tcp": {}}, "HostConfig": host,
    });
    let container = t.create_json(&body);
    let inspected = t.inspect(&container);
    for (key, value) in host.as_object().unwrap() {
        assert_eq!(inspected["HostConfig"][key], *value, "HostConfig.{key}");
    }
    for key in [
        "Cmd",
        "Hostname",
        "Domainname",
        "User",
        "Labels",
        "StopSignal",
        "StopTimeout",
        "Tty",
        "OpenStdin",
        "WorkingDir",
        "ExposedPorts",
    ] {
        assert_eq!(inspected["Config"][key], body[key], "Config.{key}");
    }
    assert_eq!(inspected["HostConfig"]["MemorySwap"], 134_217_728);
}

fn optional_config_fields_are_left_out_when_empty(t: &Test) {
    let container = t.create_json(&t.body(&["true"]));
    let config = t.inspect(&container)["Config"].clone();
    for key in [
        "ExposedPorts",
        "Healthcheck",
        "ArgsEscaped",
        "NetworkDisabled",
        "StopSignal",
        "StopTimeout",
        "Shell",
    ] {
        assert!(config.get(key).is_none(), "{key} is there: {}", config[key]);
    }
    for key in [
        "Hostname",
        "Domainname",
        "User",
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "OpenStdin",
        "StdinOnce",
        "Env",
        "Cmd",
        "Image",
        "WorkingDir",
    ] {
        assert!(config.get(key).is_some(), "{key} is missing in {config}");
    }
}

fn network_settings_of_a_running_container(t: &Test) {
    let network = t.name("net");
    let id = t.docker(&format!("network create --subnet 10.97.0.0/24 {network}")).ok();
    let container = t.start(&format!("--network {network} --network-alias web busybox park"));
    let settings = t.inspect(&container)["NetworkSettings"].clone();
    assert_eq!(settings["Networks"].as_object().unwrap().len(), 1);
    let endpoint = &settings["Networks"][&network];
    assert_eq!(endpoint["NetworkID"], id.as_str());
    assert_eq!(endpoint["EndpointID"].as_str().unwrap().len(), 64);
    assert_eq!(endpoint["Gateway"], "10.97.0.1");
    assert_eq!(endpoint["IPPrefixLen"], 24);
    assert!(endpoint["IPAddress"].as_str().unwrap().starts_with("10.97.0."));
    assert_eq!(endpoint["MacAddress"].as_str().unwrap().len(), 17);
    assert_eq!(endpoint["GlobalIPv6Address"], "");
    assert_eq!(endpoint["IPv6Gateway"], "");
    assert_eq!(endpoint["Links"], Value::Null);
    assert_eq!(endpoint["DriverOpts"], Value::Null);
    // Below 1.45 the short id stands among the aliases.
    assert_eq!(endpoint["Aliases"], json!(["web", container.short()]));
    assert_eq!(settings["SandboxID"].as_str().unwrap().len(), 64);
    assert!(settings["SandboxKey"].as_str().unwrap().starts_with('/'));
}

fn the_old_network_fields_repeat_the_default_bridge(t: &Test) {
    let container = t.start("busybox park");
    let settings = t.inspect(&container)["NetworkSettings"].clone();
    let endpoint = &settings["Networks"]["bridge"];
    for key in [
        "EndpointID",
        "Gateway",
        "IPAddress",
        "IPPrefixLen",
        "MacAddress",
        "GlobalIPv6Address",
        "IPv6Gateway",
    ] {
        assert_eq!(settings[key], endpoint[key], "{key}");
    }
    assert_ne!(settings["IPAddress"], "");
    let network = t.name("net");
    t.docker(&format!("network create {network}")).ok();
    let elsewhere = t.start(&format!("--network {network} busybox park"));
    let settings = t.inspect(&elsewhere)["NetworkSettings"].clone();
    assert_eq!(settings["IPAddress"], "");
    assert_eq!(settings["IPPrefixLen"], 0);
    assert_eq!(settings["Bridge"], "");
    assert_eq!(settings["HairpinMode"], false);
    assert_eq!(settings["SecondaryIPAddresses"], Value::Null);
}

fn ports_that_are_exposed_only_are_null(t: &Test) {
    let container = t.start("--expose 81 -p 127.0.0.1::80 busybox park");
    let ports = t.inspect(&container)["NetworkSettings"]["Ports"].clone();
    assert_eq!(ports["81/tcp"], Value::Null);
    assert!(ports.as_object().unwrap().contains_key("81/tcp"), "{ports}");
    let bound = &ports["80/tcp"];
    assert_eq!(bound.as_array().unwrap().len(), 1);
    assert_eq!(bound[0]["HostIp"], "127.0.0.1");
    assert!(bound[0]["HostPort"].as_str().unwrap().parse::<u16>().unwrap() > 0);
    let host = t.inspect(&container)["HostConfig"]["PortBindings"].clone();
    // What was asked for stays as it was asked for.
    assert_eq!(host["80/tcp"][0]["HostPort"], "");
}

fn files_of_the_container_exist_where_inspect_says(t: &Test) {
    let container = t.start("--hostname box busybox sh -c 'echo logged; exec park'");
    t.await_log(&container, "logged");
    let inspected = t.inspect(&container);
    let read = |key: &str| t.host(&format!("cat {}", inspected[key].as_str().unwrap())).ok();
    assert!(read("LogPath").contains("\"log\":\"logged\\n\""), "{inspected}");
    assert_eq!(read("HostnamePath"), "box");
    assert!(read("HostsPath").contains("box"));
    assert!(read("ResolvConfPath").contains("nameserver"));
}

fn inspect_of_a_missing_container_is_404(t: &Test) {
    t.get("/containers/no-such-container/json").expect_error(404, "No such container: no-such-container");
    let stderr = t.docker("inspect no-such-thing").fails(1);
    assert!(stderr.to_lowercase().contains("no such object: no-such-thing"), "{stderr}");
    assert!(
        t.docker("container inspect no-such-thing").fails(1).contains("No such container: no-such-thing")
    );
}

fn the_client_inspects_by_template_type_and_size(t: &Test) {
    let container = t.create("--cpus 0.5 busybox true");
    let shown = t.docker_args(&[
        "inspect",
        "-f",
        "{{.Name}} {{.HostConfig.NanoCpus}} {{.State.Status}}",
        &container.name,
    ]);
    assert_eq!(shown.ok(), format!("/{container} 500000000 created"));
    assert!(
        t.docker(&format!("inspect --type image {container}"))
            .fails(1)
            .to_lowercase()
            .contains("no such image")
    );
    let sized = t.docker_args(&["inspect", "-s", "-f", "{{.SizeRw}}", &container.name]).ok();
    assert_eq!(sized, "0");
}

fn a_container_can_be_made_again_from_its_inspection(t: &Test) {
    let (network, volume) = (t.name("net"), t.name("vol"));
    t.docker(&format!("network create --subnet 10.96.0.0/24 {network}")).ok();
    let first = t.start(&format!(
        "--network {network} --network-alias web -v {volume}:/data -p 127.0.0.1::80 -e A=1 --label l=1 --cap-add NET_ADMIN \
         --restart on-failure:2 --health-cmd true --memory 64m --ulimit nofile=100:200 busybox park"
    ));
    let inspected = t.inspect(&first);
    // What watchtower does to replace a container: everything it read goes back in.
    let mut body = inspected["Config"].clone();
    body["HostConfig"] = inspected["HostConfig"].clone();
    body["NetworkingConfig"] = json!({"EndpointsConfig": inspected["NetworkSettings"]["Networks"]});
    t.docker(&format!("rm -f {first}")).ok();
    let second = t.start_json(&body);
    let again = t.inspect(&second);
    assert_eq!(again["HostConfig"], inspected["HostConfig"]);
    for key in ["Cmd", "Env", "Labels", "Healthcheck", "Image"] {
        assert_eq!(again["Config"][key], inspected["Config"][key], "{key}");
    }
    let aliases = again["NetworkSettings"]["Networks"][&network]["Aliases"].clone();
    assert!(aliases.as_array().unwrap().contains(&json!("web")), "{aliases}");
}

fn times_have_nine_digits_and_utc(t: &Test) {
    let container = t.start("busybox true");
    t.wait(&container);
    let inspected = t.inspect(&container);
    for time in [&inspected["Created"], &inspected["State"]["StartedAt"], &inspected["State"]["FinishedAt"]] {
        let time = time.as_str().unwrap();
        // RFC 3339 with up to nine digits of a second: trailing zeros are left out.
        assert!(
            time.starts_with("20") && time.ends_with('Z') && time.len() > 20 && time.len() <= 30,
            "{time}"
        );
    }
}

//! What create refuses, and with which words.

use integration_cli::{Reply, Test, cases};
use serde_json::{Value, json};

cases![
    memory_limits_are_checked,
    cpu_limits_are_checked,
    restart_policies_are_checked,
    namespace_modes_are_checked,
    container_network_mode_conflicts_are_refused,
    host_network_conflicts,
    health_durations_are_checked,
    capabilities_are_checked,
    security_options_are_checked,
    log_drivers_and_their_options_are_checked,
    ports_are_checked,
    a_long_hostname_is_refused,
    small_numbers_are_checked,
    an_unknown_runtime_is_refused,
    mounts_are_checked,
    binds_are_checked,
];

fn create_with(t: &Test, host: Value) -> Reply {
    let mut body = t.body(&["true"]);
    body["HostConfig"] = host;
    t.create_raw(&body)
}

/// Asserts that create with this host configuration is refused with a message that holds `text`.
#[track_caller]
fn refused(t: &Test, host: Value, text: &str) {
    create_with(t, host).expect_error_holding(400, text);
}

/// Like [`refused`], where the reference has the same words but gives the error no class, so that it answers 500.
#[track_caller]
fn refused_without_class(t: &Test, host: Value, text: &str) {
    create_with(t, host).expect_error_holding(t.by_age(400, 500), text);
}

fn memory_limits_are_checked(t: &Test) {
    refused(t, json!({"Memory": 1_000_000}), "Minimum memory limit allowed is 6MB");
    refused(
        t,
        json!({"Memory": 67_108_864, "MemorySwap": 33_554_432}),
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    );
    refused(
        t,
        json!({"MemorySwap": 67_108_864}),
        "You should always set the Memory limit when using Memoryswap limit, see usage",
    );
    refused(
        t,
        json!({"Memory": 33_554_432, "MemoryReservation": 67_108_864}),
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    );
    refused(t, json!({"MemorySwappiness": 101}), "valid memory swappiness range is 0-100");
}

fn cpu_limits_are_checked(t: &Test) {
    refused(
        t,
        json!({"NanoCpus": 500_000_000, "CpuPeriod": 10_000}),
        "Conflicting options: Nano CPUs and CPU Period cannot both be set",
    );
    refused(
        t,
        json!({"NanoCpus": 500_000_000, "CpuQuota": 10_000}),
        "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
    );
    let count = std::thread::available_parallelism().unwrap().get();
    let text = t.by_age(
        format!("range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"),
        format!("Range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"),
    );
    refused(t, json!({"NanoCpus": (count as u64 + 1) * 1_000_000_000}), &text);
    refused(
        t,
        json!({"CpuPeriod": 10}),
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    );
    refused(t, json!({"CpuQuota": 10}), "CPU cfs quota can not be less than 1ms (i.e. 1000)");
    refused(t, json!({"CpusetCpus": "77"}), "Requested CPUs are not available - requested 77, available: ");
    refused(t, json!({"CpusetCpus": "banana"}), "Invalid value banana for cpuset cpus");
}

fn restart_policies_are_checked(t: &Test) {
    // The reference had shorter words for the same.
    let unknown = t.by_age(
        "invalid restart policy: unknown policy 'banana'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        "invalid restart policy 'banana'",
    );
    refused(t, json!({"RestartPolicy": {"Name": "banana"}}), unknown);
    let count = t.by_age(
        "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        "maximum retry count cannot be used with restart policy 'always'",
    );
    refused(t, json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}), count);
    refused(
        t,
        json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}),
        "maximum retry count cannot be negative",
    );
    refused(
        t,
        json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}}),
        "can't create 'AutoRemove' container with restart policy",
    );
}

fn namespace_modes_are_checked(t: &Test) {
    refused_without_class(t, json!({"Isolation": "hyperv"}), "linux only supports 'default'");
    if t.api_at_least(1, 42) {
        // The reference leaves these to start.
        refused(t, json!({"IpcMode": "banana"}), "invalid IPC mode: banana");
        refused(t, json!({"CgroupnsMode": "banana"}), "invalid cgroup namespace mode: banana");
        refused(t, json!({"PidMode": "banana"}), "invalid PID mode: banana");
        refused(t, json!({"UTSMode": "banana"}), "invalid UTS mode: banana");
    }
}

fn container_network_mode_conflicts_are_refused(t: &Test) {
    let target = t.create("busybox true");
    let mode = format!("container:{target}");
    let check = |mut body: Value, text: &str| {
        body["Image"] = json!("busybox");
        body["HostConfig"]["NetworkMode"] = json!(mode);
        t.create_raw(&body).expect_error_holding(400, text);
    };
    check(json!({"Hostname": "own"}), "conflicting options: hostname and the network mode");
    check(
        json!({"HostConfig": {"Links": ["a:b"]}}),
        "conflicting options: container type network can't be used with links",
    );
    check(json!({"HostConfig": {"Dns": ["192.0.2.1"]}}), "conflicting options: dns and the network mode");
    check(
        json!({"HostConfig": {"ExtraHosts": ["a:192.0.2.1"]}}),
        "conflicting options: custom host-to-IP mapping and the network mode",
    );
    check(
        json!({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "0"}]}}}),
        "conflicting options: port publishing and the container type network mode",
    );
    check(
        json!({"HostConfig": {"PublishAllPorts": true}}),
        "conflicting options: port publishing and the container type network mode",
    );
    check(
        json!({"ExposedPorts": {"80/tcp": {}}}),
        "conflicting options: port exposing and the container type network mode",
    );
}

fn host_network_conflicts(t: &Test) {
    refused(
        t,
        json!({"NetworkMode": "host", "Links": ["a:b"]}),
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
    );
    let body = json!({"Image": "busybox", "Hostname": "own", "HostConfig": {"UTSMode": "host"}});
    t.create_raw(&body).expect_error(400, "conflicting options: hostname and the UTS mode");
}

fn health_durations_are_checked(t: &Test) {
    let check = |health: Value, text: &str| {
        let body = json!({"Image": "busybox", "Cmd": ["true"], "Healthcheck": health});
        t.create_raw(&body).expect_error(400, text);
    };
    for field in ["Interval", "Timeout", "StartPeriod"] {
        check(
            json!({"Test": ["CMD", "true"], field: 500}),
            &format!("{field} in Healthcheck cannot be less than 1ms"),
        );
    }
    check(json!({"Test": ["CMD", "true"], "Retries": -1}), "Retries in Healthcheck cannot be negative");
}

fn capabilities_are_checked(t: &Test) {
    refused(t, json!({"CapAdd": ["BANANA"]}), "invalid CapAdd: unknown capability: \"CAP_BANANA\"");
    refused(t, json!({"CapDrop": ["BANANA"]}), "invalid CapDrop: unknown capability: \"CAP_BANANA\"");
    for form in ["NET_ADMIN", "CAP_NET_ADMIN", "net_admin", "cap_net_admin", "ALL"] {
        t.create_raw(&json!({"Image": "busybox", "HostConfig": {"CapAdd": [form]}})).expect(201);
    }
}

fn security_options_are_checked(t: &Test) {
    for (option, text) in [
        ("banana", "invalid --security-opt 1: \"banana\""),
        ("banana=1", "invalid --security-opt 2: \"banana=1\""),
        ("no-new-privileges=banana", "banana"),
    ] {
        refused_without_class(t, json!({"SecurityOpt": [option]}), text);
    }
    for fine in [
        "no-new-privileges",
        "no-new-privileges=false",
        "no-new-privileges:true",
        "seccomp=unconfined",
        "seccomp:unconfined",
        "label=disable",
    ] {
        t.create_raw(&json!({"Image": "busybox", "HostConfig": {"SecurityOpt": [fine]}})).expect(201);
    }
}

fn log_drivers_and_their_options_are_checked(t: &Test) {
    // The words differ with the way in which a plugin of that name is looked for.
    refused(t, json!({"LogConfig": {"Type": "banana"}}), "banana");
    refused(
        t,
        json!({"LogConfig": {"Type": "json-file", "Config": {"banana": "1"}}}),
        "unknown log opt 'banana' for json-file log driver",
    );
    // Values are looked at when the driver is made, which is at the latest by start.
    for (key, value) in
        [("max-size", "banana"), ("max-file", "0"), ("max-file", "banana"), ("compress", "banana")]
    {
        let log = json!({"Type": "json-file", "Config": {"max-size": "1m", key: value}});
        let mut reply =
            t.create_raw(&json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"LogConfig": log}}));
        if reply.status == 201 {
            let id = reply.json()["Id"].as_str().unwrap().to_owned();
            reply = t.post(&format!("/containers/{id}/start"));
        }
        assert!(matches!(reply.status, 400 | 500), "{key}={value}: {reply:?}");
        assert!(reply.message().contains(key) || reply.message().contains(value), "{key}={value}: {reply:?}");
    }
}

fn ports_are_checked(t: &Test) {
    for port in ["banana", "80/banana", "99999/tcp"] {
        if port == "80/banana" && !t.api_at_least(1, 42) {
            // The reference finds the protocol out only at start.
            continue;
        }
        let reply = t.create_raw(&json!({
            "Image": "busybox", "HostConfig": {"PortBindings": {port: [{"HostPort": "0"}]}}
        }));
        assert_eq!(reply.status, 400, "{port}: {reply:?}");
    }
    let reply = t.create_raw(&json!({
        "Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "banana"}]}}
    }));
    reply.expect_error_holding(400, "banana");
}

fn a_long_hostname_is_refused(t: &Test) {
    t.newer_than_reference(1, 42, "the reference takes any hostname and lets start fail");
    let hostname = "h".repeat(65);
    let reply = t.create_raw(&json!({"Image": "busybox", "Hostname": hostname}));
    reply.expect_error(400, &format!("hostname \"{hostname}\" is too long (maximum 64 bytes)"));
}

fn small_numbers_are_checked(t: &Test) {
    refused(t, json!({"ShmSize": -1}), "SHM size can not be less than 0");
    refused(t, json!({"OomScoreAdj": 1001}), "Invalid value 1001, range for oom score adj is [-1000, 1000]");
}

fn an_unknown_runtime_is_refused(t: &Test) {
    let reply = t.create_raw(&json!({"Image": "busybox", "HostConfig": {"Runtime": "banana"}}));
    // The reference capitalises; newer daemons wrap the same words.
    reply.expect_error_holding(400, "nknown");
    assert!(reply.message().contains("banana"), "{reply:?}");
}

fn mounts_are_checked(t: &Test) {
    let mount = |mount: Value, text: &str| refused(t, json!({"Mounts": [mount]}), text);
    mount(
        json!({"Type": "bind", "Source": "/no/such/path", "Target": "/x"}),
        "invalid mount config for type \"bind\": bind source path does not exist: /no/such/path",
    );
    mount(
        json!({"Type": "bind", "Source": "/tmp"}),
        "invalid mount config for type \"bind\": field Target must not be empty",
    );
    mount(
        json!({"Type": "bind", "Target": "/x"}),
        "invalid mount config for type \"bind\": field Source must not be empty",
    );
    mount(
        json!({"Type": "volume", "Source": "v1"}),
        "invalid mount config for type \"volume\": field Target must not be empty",
    );
    mount(
        json!({"Type": "tmpfs", "Source": "/tmp", "Target": "/x"}),
        "invalid mount config for type \"tmpfs\": field Source must not be specified",
    );
    mount(json!({"Type": "banana", "Target": "/x"}), "mount type unknown");
    mount(json!({"Type": "volume", "Target": "relative"}), "mount path must be absolute");
    mount(json!({"Type": "tmpfs", "Target": "/"}), "destination can't be '/'");
    refused(
        t,
        json!({"Mounts": [{"Type": "tmpfs", "Target": "/x"}, {"Type": "tmpfs", "Target": "/x"}]}),
        "Duplicate mount point: /x",
    );
}

fn binds_are_checked(t: &Test) {
    let bind = |bind: &str, text: &str| refused_without_class(t, json!({"Binds": [bind]}), text);
    bind("/a:relative", "mount path must be absolute");
    bind("/a:/b:banana", "banana");
    bind("/a:/", "destination can't be '/'");
    bind("/a:/b:ro:c", "/a:/b:ro:c");
    refused(t, json!({"Binds": ["a$b:/x"]}), "includes invalid characters for a local volume name");
    refused(t, json!({"Binds": ["/a:/x", "/b:/x"]}), "Duplicate mount point: /x");
}

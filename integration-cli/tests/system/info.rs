//! `/info`: what tools read before they decide anything.

use integration_cli::images::architecture;
use integration_cli::{DaemonOptions, Test, cases};
use serde_json::Value;

cases![
    info_describes_the_machine,
    info_describes_the_engine,
    info_lists_network_and_log_drivers,
    info_tells_that_there_is_no_swarm,
    info_counts_containers_by_state,
    the_client_prints_info_without_complaint,
    labels_of_the_daemon_are_shown,
];

fn info(t: &Test) -> Value {
    t.get("/info").expect(200).json()
}

fn info_describes_the_machine(t: &Test) {
    let info = info(t);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: u64 = memory.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(info["MemTotal"], total * 1024);
    assert_eq!(info["NCPU"], std::thread::available_parallelism().unwrap().get());
    assert_eq!(info["Name"], std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
    assert_eq!(info["KernelVersion"], std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim());
    assert_eq!(info["OSType"], "linux");
    assert_eq!(info["Architecture"], if architecture() == "amd64" { "x86_64" } else { "aarch64" });
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    assert_eq!(info["CgroupVersion"], if unified { "2" } else { "1" });
    let release = std::fs::read_to_string("/etc/os-release").unwrap();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap().trim_matches('"');
    assert_eq!(info["OperatingSystem"], name);
}

fn info_describes_the_engine(t: &Test) {
    let info = info(t);
    assert_eq!(info["ServerVersion"], t.get("/version").expect(200).json()["Version"]);
    assert_eq!(info["LoggingDriver"], "json-file");
    assert_eq!(info["DefaultRuntime"], "runc");
    assert!(info["Runtimes"]["runc"]["path"].is_string(), "{info}");
    assert_eq!(info["IndexServerAddress"], "https://index.docker.io/v1/");
    assert!(matches!(info["CgroupDriver"].as_str(), Some("cgroupfs" | "systemd")), "{info}");
    // cAdvisor refuses to work without a storage driver and kind reads the backing file system.
    assert!(!info["Driver"].as_str().unwrap().is_empty());
    let status = info["DriverStatus"].as_array().unwrap();
    assert!(status.iter().all(|pair| pair.as_array().is_some_and(|pair| pair.len() == 2)), "{info}");
    assert!(info["ID"].as_str().is_some_and(|id| !id.is_empty()));
    assert!(info["SystemTime"].as_str().is_some_and(|time| time.len() >= 20));
    let security = info["SecurityOptions"].as_array().unwrap();
    let has_seccomp =
        security.iter().any(|option| option.as_str().unwrap().starts_with("name=seccomp,profile="));
    assert!(has_seccomp, "{security:?}");
    if let Some(machine) = t.daemon().own_machine() {
        assert_eq!(info["DockerRootDir"], machine.root().join("data").to_str().unwrap());
    }
    for limit in ["MemoryLimit", "CPUShares", "CPUSet", "PidsLimit"] {
        assert_eq!(info[limit], true, "{limit}");
    }
    let local = info["RegistryConfig"]["InsecureRegistryCIDRs"].as_array().unwrap();
    assert!(local.iter().any(|range| range == "127.0.0.0/8"), "{local:?}");
}

fn info_lists_network_and_log_drivers(t: &Test) {
    let info = info(t);
    let plugins = |kind: &str| -> Vec<String> {
        let list = info["Plugins"][kind].as_array().unwrap_or_else(|| panic!("{kind} in {info}"));
        list.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    assert!(plugins("Volume").contains(&"local".to_owned()));
    for driver in ["bridge", "host", "null"] {
        assert!(plugins("Network").contains(&driver.to_owned()), "{driver}");
    }
    assert!(plugins("Log").contains(&"json-file".to_owned()));
    assert_eq!(info["Plugins"]["Authorization"], Value::Null);
}

fn info_tells_that_there_is_no_swarm(t: &Test) {
    let swarm = &info(t)["Swarm"];
    assert_eq!(swarm["LocalNodeState"], "inactive");
    assert_eq!(swarm["ControlAvailable"], false);
    assert_eq!(swarm["NodeID"], "");
    assert_eq!(swarm["RemoteManagers"], Value::Null);
}

fn info_counts_containers_by_state(t: &Test) {
    let d = t.own_daemon(&DaemonOptions::default());
    let counts = || {
        let info = d.get("/info").expect(200).json();
        ["Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images"]
            .map(|key| info[key].clone())
    };
    assert_eq!(counts(), [0, 0, 0, 0, 1]);
    d.create("busybox true");
    d.start("busybox park");
    let paused = d.start("busybox park");
    d.docker(&format!("pause {paused}")).ok();
    assert_eq!(counts(), [3, 1, 1, 1, 1]);
    d.docker(&format!("unpause {paused}")).ok();
    d.docker(&format!("stop {paused}")).ok();
    assert_eq!(counts(), [3, 1, 0, 2, 1]);
}

fn the_client_prints_info_without_complaint(t: &Test) {
    let outcome = t.docker("info");
    let text = outcome.clone().ok();
    assert!(text.contains("Server Version:") && text.contains("Default Runtime: runc"), "{text}");
    assert!(!outcome.stderr.contains("ERROR"), "{outcome:?}");
}

fn labels_of_the_daemon_are_shown(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::flags("--label rack=7 --label disk=fast"));
    assert_eq!(d.docker_args(&["info", "--format", "{{json .Labels}}"]).ok(), r#"["rack=7","disk=fast"]"#);
}

//! The refusals and warnings of Docker, as tables.

use shoal_types::container::mounts::{MountOrigin, Propagation, VolumeCopy};
use shoal_types::container::networking::{NetworkMode, PortPublish, PortSpec, Protocol};
use shoal_types::container::resources::{ThrottleDevice, Ulimit};
use shoal_types::container::security::UtsMode;

use super::*;
use crate::containers::host::{CgroupVersion, Limits};

fn outcome(host: &Host, change: impl FnOnce(&mut ContainerSpec)) -> Result<Vec<String>, String> {
    let mut spec = ContainerSpec::default();
    change(&mut spec);
    let config = EngineConfig::new("/data", "/run");
    check(&mut spec, &config, host).map_err(|error| error.to_string())
}

type Change = fn(&mut ContainerSpec);

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn contradictions_are_refused_with_dockers_words() {
    let port = PortSpec { port: 80, protocol: Protocol::Tcp };
    let publish = PortPublish { container_port: port, host_ip: None, host_ports: None };
    let cases: Vec<(Change, &str)> = vec![
        (
            |s| s.process.working_dir = "srv".into(),
            "the working directory 'srv' is invalid, it needs to be an absolute path",
        ),
        (|s| s.process.stop_signal = Some("SIGNOPE".into()), "invalid signal: SIGNOPE"),
        (|s| s.process.env = vec!["=x".into()], "invalid environment variable: =x"),
        (
            |s| {
                s.auto_remove = true;
                s.restart = RestartPolicy::Always;
            },
            "can't create 'AutoRemove' container with restart policy",
        ),
        (
            |s| {
                s.health = Some(HealthSpec { timeout: Duration::from_micros(9), ..HealthSpec::default() });
            },
            "Timeout in Healthcheck cannot be less than 1ms",
        ),
        (|s| s.security.cap_add = vec!["NOPE".into()], "invalid CapAdd: unknown capability: \"CAP_NOPE\""),
        (
            |s| s.security.cap_drop = vec!["cap_nope".into()],
            "invalid CapDrop: unknown capability: \"CAP_NOPE\"",
        ),
        (|s| s.resources.memory = 4096, "Minimum memory limit allowed is 6MB"),
        (
            |s| {
                s.resources.memory = 10 << 20;
                s.resources.memory_swap = 9 << 20;
            },
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            |s| s.resources.memory_swap = 9 << 20,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            |s| {
                s.resources.memory = 10 << 20;
                s.resources.memory_reservation = 11 << 20;
            },
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            |s| s.resources.ulimits = vec![Ulimit { name: "nofile".into(), soft: -1, hard: 10 }],
            "ulimit soft limit must be less than or equal to hard limit: -1 > 10",
        ),
        (
            |s| s.resources.memory_swappiness = Some(101),
            "Invalid value: 101, valid memory swappiness range is 0-100",
        ),
        (
            |s| {
                s.resources.nano_cpus = 1;
                s.resources.cpu_period = 1000;
            },
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            |s| {
                s.resources.nano_cpus = 1;
                s.resources.cpu_quota = 1000;
            },
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            |s| s.resources.nano_cpus = 9_000_000_000,
            "range of CPUs is from 0.01 to 8.00, as there are only 8 CPUs available",
        ),
        (
            |s| s.resources.cpu_period = 999,
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (|s| s.resources.cpu_quota = 10, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        (
            |s| s.resources.cpuset_cpus = "6-9".into(),
            "Requested CPUs are not available - requested 6-9, available: 0-7",
        ),
        (|s| s.resources.cpuset_cpus = "x".into(), "Invalid value x for cpuset cpus"),
        (|s| s.resources.cpuset_cpus = "0-4000000000".into(), "Invalid value 0-4000000000 for cpuset cpus"),
        (|s| s.resources.blkio_weight = 5, "Range of blkio weight is from 10 to 1000"),
        (
            |s| s.resources.oom_score_adj = 1001,
            "Invalid value 1001, range for oom score adj is [-1000, 1000]",
        ),
        (|s| s.runtime = Some("nope".into()), "unknown or invalid runtime name: nope"),
        (
            |s| {
                s.namespaces.uts = UtsMode::Host;
                s.process.hostname = "x".into();
            },
            "conflicting options: hostname and the UTS mode",
        ),
        (
            |s| {
                s.networking.mode = NetworkMode::Host;
                s.networking.links = vec!["a".into()];
            },
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ),
        (|s| s.logging.driver = "nope".into(), "logger: no log driver named 'nope' is registered"),
        (
            |s| s.logging.options = [("nope".to_owned(), "1".to_owned())].into(),
            "unknown log opt 'nope' for json-file log driver",
        ),
        (
            |s| s.annotations = [(String::new(), "1".to_owned())].into(),
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ),
    ];
    let host = Host::capable(CgroupVersion::V1);
    for (change, message) in cases {
        assert_eq!(outcome(&host, change), Err(message.to_owned()));
    }
    let long = "x".repeat(65);
    let message = format!("hostname \"{long}\" is too long (maximum 64 bytes)");
    assert_eq!(outcome(&host, |s| s.process.hostname = long), Err(message));
    let message = "conflicting options: port publishing and the container type network mode";
    let shared = outcome(&host, |s| {
        s.networking.mode = NetworkMode::Container("x".into());
        s.networking.published = vec![publish];
    });
    assert_eq!(shared, Err(message.to_owned()));
}

#[test]
fn paths_of_mounts_are_checked() {
    let mount = |destination: &str| MountSpec {
        destination: destination.to_owned(),
        source: MountSource::Volume {
            name: String::new(),
            subpath: String::new(),
            copy: VolumeCopy::FromImage,
            driver: String::new(),
            options: Default::default(),
            labels: Default::default(),
            propagation: Propagation::Default,
            relabel: None,
        },
        access: MountAccess::ReadWrite,
        origin: MountOrigin::Bind,
        mode: String::new(),
    };
    let host = Host::capable(CgroupVersion::V1);
    let relative = outcome(&host, |s| s.mounts = vec![mount("data")]);
    assert_eq!(relative, Err("invalid mount path: 'data' mount path must be absolute".to_owned()));
    for root in ["/", "//", "/a/.."] {
        let at_root = outcome(&host, |s| s.mounts = vec![mount(root)]);
        assert_eq!(at_root, Err("invalid specification: destination can't be '/'".to_owned()));
    }
}

#[test]
fn limits_that_the_kernel_lacks_become_warnings() {
    let mut spec = ContainerSpec::default();
    spec.resources.memory = 10 << 20;
    spec.resources.memory_swappiness = Some(3);
    spec.resources.oom_kill_disable = Some(true);
    spec.resources.pids_limit = Some(5);
    spec.resources.cpu_shares = 5;
    spec.resources.cpu_quota = 5000;
    spec.resources.cpuset_cpus = "0".to_owned();
    spec.resources.blkio_weight = 5;
    spec.resources.blkio_read_bps = vec![ThrottleDevice { path: "/dev/x".to_owned(), rate: 1 }];
    let host = Host { limits: Limits::default(), ..Host::capable(CgroupVersion::V1) };
    let config = EngineConfig::new("/data", "/run");
    let warnings = check(&mut spec, &config, &host).unwrap();
    assert_eq!(warnings.len(), 9, "{warnings:#?}");
    assert!(warnings.iter().all(|warning| warning.contains("iscarded.")), "{warnings:#?}");
    let left = &spec.resources;
    assert_eq!((left.memory, left.cpu_shares, left.cpu_quota, left.blkio_weight), (0, 0, 0, 0));
    assert_eq!((left.pids_limit, left.oom_kill_disable, left.memory_swappiness), (None, None, None));
    assert!(left.cpuset_cpus.is_empty() && left.blkio_read_bps.is_empty());
}

#[test]
fn a_kernel_without_swap_accounting_limits_memory_alone() {
    let limits = Limits { swap: false, ..Limits::ALL };
    let host = Host { limits, ..Host::capable(CgroupVersion::V1) };
    let warnings = outcome(&host, |s| s.resources.memory = 10 << 20).unwrap();
    assert_eq!(
        warnings,
        [
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
        ]
    );
}

#[test]
fn an_ordinary_spec_passes_without_warnings() {
    for version in [CgroupVersion::V1, CgroupVersion::V2] {
        let host = Host::capable(version);
        let warnings = outcome(&host, |s| {
            s.process.working_dir = "/a/../b/".into();
            s.resources.memory = 64 << 20;
            s.resources.nano_cpus = 500_000_000;
            s.resources.pids_limit = Some(100);
            s.security.cap_add = vec!["ALL".into(), "net_admin".into(), "CAP_SYS_TIME".into()];
            s.runtime = Some("runc".into());
        });
        assert_eq!(warnings, Ok(vec![]));
    }
}

#[test]
fn what_is_the_hosts_goes_with_no_user_namespace() {
    use crate::userns::{IdMapping, IdRange};
    let range = vec![IdRange { inside: 0, outside: 100_000, length: 65_536 }];
    let mut config = EngineConfig::new("/data", "/run");
    config.ids = IdMapping::new(range.clone(), range);
    let changes: [Change; 3] = [
        |s| s.security.privileged = true,
        |s| s.networking.mode = NetworkMode::Host,
        |s| s.namespaces.pid = PidMode::Host,
    ];
    for change in changes {
        let mut spec = ContainerSpec::default();
        change(&mut spec);
        let refused = check(&mut spec, &config, &Host::capable(CgroupVersion::V2)).unwrap_err();
        assert!(refused.to_string().contains("user namespaces"), "{refused}");
        spec.namespaces.user = UserMode::Host;
        assert!(check(&mut spec, &config, &Host::capable(CgroupVersion::V2)).is_ok());
        assert_eq!(spec.namespaces.user, UserMode::Host);
    }
    let mut spec = ContainerSpec::default();
    spec.namespaces.user = UserMode::Host;
    check(&mut spec, &EngineConfig::new("/data", "/run"), &Host::capable(CgroupVersion::V2)).unwrap();
    assert_eq!(spec.namespaces.user, UserMode::DaemonDefault, "there is nothing to opt out of");
}

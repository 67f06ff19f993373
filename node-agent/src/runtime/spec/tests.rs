//! Runtime specs as tables: from what a container is asked to be to what the runtime is told.

use oci_spec::runtime::Mount;
use shoal_types::ContainerId;
use shoal_types::container::mounts::{MountAccess, Propagation};
use shoal_types::container::resources::Ulimit;
use shoal_types::container::security::{CgroupMode, IpcMode, PidMode};
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::{MountKind, MountPoint};

use super::*;
use crate::containers::config::EngineConfig;
use crate::containers::host::{CgroupVersion, Host};
use crate::containers::ports::{Fill, HostMount, ResolvedMount};
use crate::runtime::files::FilePaths;
use crate::runtime::inputs::PeerNamespaces;
use crate::runtime::user::User;
use crate::userns::{IdMapping, IdRange};

/// What is known of a plain container, on a machine that can do everything.
fn inputs() -> SpecInputs {
    SpecInputs {
        id: ContainerId::random(),
        hostname: "web".to_owned(),
        spec: Arc::new(ContainerSpec::default()),
        command: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
        user: User { uid: 0, gid: 0, groups: vec![0, 10] },
        mounts: Vec::new(),
        host_mounts: Vec::new(),
        files: FilePaths {
            resolv_conf: Some("/c/resolv.conf".into()),
            hostname: Some("/c/hostname".into()),
            hosts: Some("/c/hosts".into()),
        },
        shm: None,
        peers: PeerNamespaces::default(),
        network: NetworkNamespace::At("/run/shoal/netns/x".into()),
        user_namespace: None,
        ids: IdMapping::default(),
        links: Vec::new(),
        config: Arc::new(EngineConfig::new("/d", "/e")),
        host: Arc::new(Host { apparmor: false, ..Host::capable(CgroupVersion::V1) }),
    }
}

fn asked(change: impl FnOnce(&mut ContainerSpec)) -> SpecInputs {
    let mut inputs = inputs();
    change(Arc::make_mut(&mut inputs.spec));
    inputs
}

fn built(inputs: &SpecInputs) -> Spec {
    build(inputs, Devices::default(), None).unwrap()
}

/// Namespaces as `kind` or `kind=path`.
fn namespaces_of(spec: &Spec) -> Vec<String> {
    let namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
    let text = |namespace: &oci_spec::runtime::LinuxNamespace| match namespace.path() {
        Some(path) => format!("{}={}", namespace.typ(), path.display()),
        None => namespace.typ().to_string(),
    };
    namespaces.iter().map(text).collect()
}

fn mounts_of(spec: &Spec) -> Vec<Mount> {
    spec.mounts().clone().unwrap()
}

fn destinations_of(spec: &Spec) -> Vec<String> {
    mounts_of(spec).iter().map(|mount| mount.destination().display().to_string()).collect()
}

/// Source and options of the mount at a path.
fn mounted_at(spec: &Spec, destination: &str) -> (String, Vec<String>) {
    let mounts = mounts_of(spec);
    let mount = mounts.iter().find(|mount| mount.destination().as_os_str() == destination).unwrap();
    let source = mount.source().clone().unwrap_or_default().display().to_string();
    (source, mount.options().clone().unwrap_or_default())
}

/// Binds a path of the host.
fn bind(inputs: &mut SpecInputs, source: &str, destination: &str, access: MountAccess) {
    let point = MountPoint {
        kind: MountKind::Bind,
        name: String::new(),
        source: source.to_owned(),
        destination: destination.to_owned(),
        driver: String::new(),
        mode: String::new(),
        access,
        propagation: Propagation::Default,
        anonymous: false,
        subpath: String::new(),
        spec_index: None,
        image: None,
    };
    inputs.mounts.push(ResolvedMount { point, spec: None, fill: Fill::Never });
    let (destination, source) = (destination.to_owned(), source.into());
    inputs.host_mounts.push(HostMount { destination, source, access });
}

#[test]
fn a_plain_container_has_dockers_shape() {
    let inputs = inputs();
    let spec = built(&inputs);
    assert_eq!(namespaces_of(&spec), ["mnt", "net=/run/shoal/netns/x", "uts", "pid", "ipc"]);
    let usual = ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"];
    let files = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];
    assert_eq!(destinations_of(&spec), [usual.as_slice(), &files].concat());
    assert_eq!(spec.hostname().as_deref(), Some("web"));
    let process = spec.process().as_ref().unwrap();
    assert_eq!(process.args().as_deref(), Some(inputs.command.as_slice()));
    assert_eq!(process.env().as_ref().unwrap()[1], "HOSTNAME=web");
    assert_eq!(process.cwd().as_os_str(), "/");
    assert_eq!((process.terminal(), process.no_new_privileges()), (None, None));
    let capabilities = process.capabilities().as_ref().unwrap();
    assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 14);
    assert_eq!(capabilities.effective(), capabilities.bounding());
    assert_eq!((capabilities.inheritable(), capabilities.ambient()), (&None, &None));
    let linux = spec.linux().as_ref().unwrap();
    assert!(linux.masked_paths().as_ref().unwrap().contains(&"/proc/kcore".to_owned()));
    assert!(linux.readonly_paths().as_ref().unwrap().contains(&"/proc/sys".to_owned()));
    assert_eq!(linux.sysctl().as_ref().unwrap()["net.ipv4.ip_unprivileged_port_start"], "0");
    assert_eq!(
        linux.cgroups_path().as_ref().unwrap().display().to_string(),
        format!("/docker/{}", inputs.id)
    );
}

#[test]
fn what_is_shared_is_joined_or_left_out() {
    let mut on_host = asked(|spec| {
        spec.networking.mode = NetworkMode::Host;
        spec.namespaces.uts = UtsMode::Host;
        spec.namespaces.pid = PidMode::Host;
        spec.namespaces.ipc = IpcMode::Host;
    });
    on_host.network = NetworkNamespace::Host;
    let spec = built(&on_host);
    assert_eq!(namespaces_of(&spec), ["mnt"]);
    assert_eq!((spec.hostname(), spec.linux().as_ref().unwrap().sysctl()), (&None, &None));
    assert_eq!(mounted_at(&spec, "/dev/shm").0, "/dev/shm");

    let mut with_peer = asked(|spec| {
        spec.namespaces.pid = PidMode::Container("p".to_owned());
        spec.namespaces.ipc = IpcMode::Container("p".to_owned());
        spec.namespaces.cgroup = Some(CgroupMode::Private);
    });
    with_peer.network = NetworkNamespace::Peer;
    let shm = Some("/run/shoal/shm/p".into());
    with_peer.peers = PeerNamespaces { network: Some(1), ipc: Some(2), shm, pid: Some(3) };
    let spec = built(&with_peer);
    let joined = ["mnt", "net=/proc/1/ns/net", "uts", "pid=/proc/3/ns/pid", "ipc=/proc/2/ns/ipc", "cgroup"];
    assert_eq!(namespaces_of(&spec), joined);
    assert_eq!(mounted_at(&spec, "/dev/shm").0, "/run/shoal/shm/p");
}

#[test]
fn without_ipc_there_is_no_shared_memory() {
    let spec = built(&asked(|spec| spec.namespaces.ipc = IpcMode::None));
    assert!(!destinations_of(&spec).contains(&"/dev/shm".to_owned()));
    assert!(namespaces_of(&spec).contains(&"ipc".to_owned()));
}

#[test]
fn a_privileged_container_is_masked_nowhere_and_writes_sys_and_cgroups() {
    let spec = built(&asked(|spec| spec.security.privileged = true));
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!((linux.masked_paths(), linux.readonly_paths()), (&None, &None));
    let is_read_only = |path: &str| mounted_at(&spec, path).1.contains(&"ro".to_owned());
    assert!(!is_read_only("/sys") && !is_read_only("/sys/fs/cgroup"));
    let plain = built(&inputs());
    assert!(mounted_at(&plain, "/sys").1.contains(&"ro".to_owned()));
    assert!(mounted_at(&plain, "/sys/fs/cgroup").1.contains(&"ro".to_owned()));
}

#[test]
fn a_user_other_than_root_holds_no_capability() {
    let mut inputs = inputs();
    inputs.user = User { uid: 1000, gid: 1000, groups: vec![1000] };
    let spec = built(&inputs);
    let capabilities = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
    assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 14);
    assert_eq!((capabilities.permitted(), capabilities.effective()), (&None, &None));
}

#[test]
fn mounts_of_the_user_replace_the_usual_ones_parents_first() {
    let mut inputs = inputs();
    bind(&mut inputs, "/h/deep", "/a/b/c", MountAccess::ReadWrite);
    bind(&mut inputs, "/h/hosts", "/etc/hosts", MountAccess::ReadOnly);
    bind(&mut inputs, "/h/a", "/a", MountAccess::ReadWrite);
    bind(&mut inputs, "/dev", "/dev", MountAccess::ReadWrite);
    let spec = built(&inputs);
    let expected = [
        "/proc",
        "/sys",
        "/sys/fs/cgroup",
        "/a",
        "/dev",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/a/b/c",
    ];
    assert_eq!(destinations_of(&spec), expected);
    assert_eq!(mounted_at(&spec, "/a"), ("/h/a".to_owned(), ["rbind", "rprivate"].map(str::to_owned).into()));
    assert_eq!(mounted_at(&spec, "/etc/hosts").0, "/h/hosts");
}

#[test]
fn read_only_binds_reach_as_deep_as_the_kernel_can() {
    let access_of = |access, recursive_read_only| {
        let mut inputs = inputs();
        inputs.host = Arc::new(Host { recursive_read_only, ..Host::capable(CgroupVersion::V1) });
        bind(&mut inputs, "/h", "/m", access);
        let built = build(&inputs, Devices::default(), None).ok()?;
        mounted_at(&built, "/m").1.into_iter().find(|option| option.ends_with("ro"))
    };
    assert_eq!(access_of(MountAccess::ReadOnly, true).as_deref(), Some("rro"));
    assert_eq!(access_of(MountAccess::ReadOnly, false).as_deref(), Some("ro"));
    assert_eq!(access_of(MountAccess::ReadOnlyNonRecursive, true).as_deref(), Some("ro"));
    assert_eq!(access_of(MountAccess::ReadOnlyForceRecursive, true).as_deref(), Some("rro"));
    assert_eq!(access_of(MountAccess::ReadOnlyForceRecursive, false), None);
}

#[test]
fn a_read_only_root_has_read_only_network_files() {
    let spec = built(&asked(|spec| spec.security.readonly_rootfs = true));
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
    assert!(mounted_at(&spec, "/etc/hosts").1.contains(&"ro".to_owned()));
}

#[test]
fn an_init_process_stands_before_the_program_where_it_can_be_process_1() {
    let arguments = |inputs: &SpecInputs| built(inputs).process().as_ref().unwrap().args().clone().unwrap();
    let with_init = asked(|spec| spec.init = Some(true));
    assert_eq!(arguments(&with_init), ["/sbin/docker-init", "--", "sh", "-c", "true"]);
    assert_eq!(destinations_of(&built(&with_init)).last().unwrap(), "/sbin/docker-init");
    let on_host = asked(|spec| {
        spec.init = Some(true);
        spec.namespaces.pid = PidMode::Host;
    });
    assert_eq!(arguments(&on_host), ["sh", "-c", "true"]);
}

#[test]
fn limits_of_the_container_stand_before_those_of_the_daemon() {
    let limit = |name: &str, soft, hard| Ulimit { name: name.to_owned(), soft, hard };
    let mut inputs = asked(|spec| spec.resources.ulimits = vec![limit("nofile", 10, -1)]);
    let config = Arc::make_mut(&mut inputs.config);
    config.ulimits = vec![limit("nofile", 1, 1), limit("core", 0, 0)];
    let spec = built(&inputs);
    let limits = spec.process().as_ref().unwrap().rlimits().clone().unwrap();
    let seen: Vec<(String, u64, u64)> =
        limits.iter().map(|limit| (limit.typ().to_string(), limit.soft(), limit.hard())).collect();
    let expected = [("RLIMIT_CORE".to_owned(), 0, 0), ("RLIMIT_NOFILE".to_owned(), 10, u64::MAX)];
    assert_eq!(seen, expected);
}

#[test]
fn what_the_user_sets_overrules_what_is_usual() {
    let spec = built(&asked(|spec| {
        spec.sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "80".to_owned());
        spec.process.env = vec!["PATH=/bin".to_owned(), "HOSTNAME".to_owned()];
        spec.process.tty = true;
        spec.security.masked_paths = Some(Vec::new());
        spec.shm_size = Some(1024);
    }));
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.sysctl().as_ref().unwrap()["net.ipv4.ip_unprivileged_port_start"], "80");
    assert_eq!(linux.masked_paths(), &None);
    assert_eq!(spec.process().as_ref().unwrap().env().as_ref().unwrap(), &["PATH=/bin", "TERM=xterm"]);
    assert!(mounted_at(&spec, "/dev/shm").1.contains(&"size=1024".to_owned()));
}

#[test]
fn a_user_namespace_is_joined_and_its_mapping_told() {
    let range = vec![IdRange { inside: 0, outside: 100_000, length: 65_536 }];
    let inputs = SpecInputs {
        user_namespace: Some("/proc/1/fd/7".into()),
        ids: IdMapping::new(range.clone(), range),
        ..inputs()
    };
    let json = serde_json::to_value(build(&inputs, Devices::default(), None).unwrap()).unwrap();
    let namespaces = json["linux"]["namespaces"].as_array().unwrap();
    let user = namespaces.iter().find(|namespace| namespace["type"] == "user").unwrap();
    assert_eq!(user["path"], "/proc/1/fd/7");
    for mapping in ["uidMappings", "gidMappings"] {
        let expected = serde_json::json!([{"hostID": 100_000, "containerID": 0, "size": 65_536}]);
        assert_eq!(json["linux"][mapping], expected);
    }
    let sysctls = &json["linux"]["sysctl"];
    assert!(sysctls.get("net.ipv4.ping_group_range").is_none(), "not all groups are mapped: {sysctls}");
    assert_eq!(sysctls["net.ipv4.ip_unprivileged_port_start"], "0");
}

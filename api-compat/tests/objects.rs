//! The objects that the fake node is made of, as dockerd 20.10 shows them on the development machine.
//!
//! Start reading at [`running`].
#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use node_agent::api::containers::{ContainerPaths, ContainerView, EffectiveSettings, SandboxView};
use node_agent::api::events::{Event, EventKind, EventScope};
use node_agent::api::images::{
    Descriptor, ImageRunConfig, ImageSummary, ImageView, ManifestKind, ManifestSummary,
};
use node_agent::api::streams::{InterfaceCounters, StatsReading, StatsSample};
use node_agent::api::system::SystemInfo;
use shoal_types::container::networking::{PortSpec, Protocol};
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::{ContainerState, EndpointStatus, PublishedPort, Run};
use shoal_types::network::{IpamSpec, Network, NetworkSpec, PoolSpec};
use shoal_types::volume::{Volume, VolumeScope};
use shoal_types::{ContainerId, Digest, EndpointId, ImageId, ImageRef, NetworkId, Platform, SandboxId};

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn digest() -> Digest {
    format!("sha256:{}", "84d8".repeat(16)).parse().unwrap()
}

pub(crate) fn image_id() -> ImageId {
    ImageId(digest())
}

pub(crate) fn descriptor() -> Descriptor {
    Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: digest(),
        size: 527,
        annotations: BTreeMap::new(),
        platform: None,
    }
}

/// The id of a container: ones for `one`, else made of the name.
fn id_of(name: &str) -> ContainerId {
    let mut bytes = [1; 32];
    if name != "one" {
        bytes.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte = letter);
    }
    ContainerId::from_bytes(bytes)
}

/// A container that was made and never started.
pub(crate) fn created(name: &str) -> ContainerView {
    let path = |file: &str| format!("/var/lib/shoal/containers/1/{file}");
    ContainerView {
        version: 1,
        id: id_of(name),
        name: name.to_owned(),
        link_names: Vec::new(),
        links: Vec::new(),
        created: time("2026-11-21T08:44:01.964271047Z"),
        image_id: Some(image_id()),
        image_manifest: Some(descriptor()),
        image_shown: "busybox".into(),
        spec: Arc::new(ContainerSpec { image: "busybox".into(), ..ContainerSpec::default() }),
        requested: Arc::from("{}"),
        command: vec!["sleep".into(), "100".into()],
        state: ContainerState::Created,
        start_failure: None,
        restart_count: 0,
        health: None,
        sandbox: None,
        endpoints: BTreeMap::from([(
            "bridge".to_owned(),
            EndpointStatus {
                endpoint_id: None,
                ipv4: None,
                ipv4_gateway: None,
                mac_address: None,
                dns_names: Vec::new(),
                ..endpoint()
            },
        )]),
        published: Vec::new(),
        mounts: Vec::new(),
        exec_ids: Vec::new(),
        paths: ContainerPaths {
            resolv_conf: path("resolv.conf"),
            hostname: path("hostname"),
            hosts: path("hosts"),
            log: path("json.log"),
            upper_dir: path("upper"),
            lower_dirs: vec![path("lower")],
            work_dir: path("work"),
            merged_dir: path("merged"),
        },
        effective: EffectiveSettings {
            runtime: "shoal".into(),
            log_driver: "json-file".into(),
            storage_driver: "overlay2".into(),
            masked_paths: vec!["/proc/kcore".into()],
            readonly_paths: vec!["/proc/sys".into()],
            shm_size: 64 << 20,
            stop_timeout: 10,
            ..EffectiveSettings::default()
        },
    }
}

/// A container that runs, on the default bridge, with a published and an exposed port.
pub(crate) fn running(name: &str) -> ContainerView {
    let mut view = created(name);
    let tcp = |port| PortSpec { port, protocol: Protocol::Tcp };
    let mut spec = ContainerSpec::clone(&view.spec);
    spec.networking.exposed = vec![tcp(80), tcp(81)];
    spec.process.hostname = "010101010101".into();
    view.spec = Arc::new(spec);
    view.state = ContainerState::Running(Run {
        pid: 28524,
        // Long enough ago for the words to stay the same while a test runs.
        started_at: Timestamp::now() - jiff::SignedDuration::from_mins(610),
        oom_killed: false,
        previous_end: None,
    });
    view.endpoints = BTreeMap::from([("bridge".to_owned(), endpoint())]);
    view.sandbox = Some(SandboxView { id: SandboxId::from_bytes([3; 32]), key: "/run/shoal/netns/3".into() });
    let host = |address: &str| PublishedPort {
        container_port: tcp(80),
        host_ip: address.parse().unwrap(),
        host_port: Some(8080),
    };
    view.published = vec![host("0.0.0.0"), host("::")];
    view
}

/// The endpoint of a running container on the default bridge.
pub(crate) fn endpoint() -> EndpointStatus {
    EndpointStatus {
        network_id: NetworkId::new("c1c2de4194e26c2bf575008163ca9a58c227c3106d18e3f809a7d941fd05d426"),
        endpoint_id: Some(EndpointId::from_bytes([4; 32])),
        ipv4: Some("172.17.0.2/16".parse().unwrap()),
        ipv4_gateway: Some("172.17.0.1".parse().unwrap()),
        ipv6: None,
        ipv6_gateway: None,
        mac_address: Some("02:42:ac:11:00:02".into()),
        dns_names: vec!["one".into()],
    }
}

pub(crate) fn image() -> ImageSummary {
    ImageSummary {
        id: image_id(),
        tags: vec![ImageRef::parse("busybox:latest").unwrap()],
        digests: Vec::new(),
        created: Some(time("2026-11-21T08:44:01.951815401Z")),
        size: 1_982_312,
        shared_size: None,
        containers: None,
        labels: BTreeMap::new(),
        target: descriptor(),
        repositories: vec!["docker.io/library/busybox".to_owned()],
        manifests: vec![ManifestSummary {
            descriptor: descriptor(),
            available: true,
            content_size: 10,
            kind: ManifestKind::Image {
                platform: Platform::new("linux", "amd64", ""),
                containers: Vec::new(),
                unpacked_size: 20,
            },
        }],
    }
}

pub(crate) fn image_view() -> ImageView {
    ImageView {
        summary: image(),
        manifest: descriptor(),
        config_digest: digest(),
        platform: Platform::new("linux", "amd64", ""),
        os_version: String::new(),
        config: ImageRunConfig { cmd: Some(vec!["sh".into()]), ..ImageRunConfig::default() },
        config_json: "{}".into(),
        author: String::new(),
        comment: "Imported from -".into(),
        docker_version: String::new(),
        diff_ids: Vec::new(),
        chain_id: None,
        layer_dirs: vec!["/var/lib/shoal/layers/1".into()],
        last_tagged: None,
    }
}

pub(crate) fn network() -> Network {
    let pool = PoolSpec {
        subnet: Some("172.17.0.0/16".parse().unwrap()),
        range: None,
        gateway: Some("172.17.0.1".parse().unwrap()),
        auxiliary: BTreeMap::new(),
    };
    Network {
        id: endpoint().network_id,
        spec: NetworkSpec {
            name: "bridge".into(),
            driver: "bridge".into(),
            ipam: IpamSpec { pools: vec![pool], ..IpamSpec::default() },
            ..NetworkSpec::default()
        },
        created: time("2026-11-21T08:42:55.840596579Z"),
    }
}

pub(crate) fn volume() -> Volume {
    Volume {
        name: "vol".into(),
        driver: "local".into(),
        mountpoint: "/var/lib/shoal/volumes/vol/_data".into(),
        options: None,
        labels: None,
        created: time("2026-11-21T08:44:02.371720248Z"),
        anonymous: false,
        scope: VolumeScope::Local,
    }
}

pub(crate) fn system_info() -> SystemInfo {
    SystemInfo {
        id: "0f0e".into(),
        running: 1,
        images: 1,
        storage_driver: "overlay2".into(),
        storage_status: vec![("Backing Filesystem".into(), "extfs".into())],
        volume_drivers: vec!["local".into()],
        kernel: "6.18.44".into(),
        cgroup_version: 1,
        security_options: vec!["name=seccomp,profile=builtin".into()],
        runtimes: BTreeMap::from([("shoal".into(), ("embedded".into(), Vec::new()))]),
        address_pools: vec![("172.17.0.0/16".into(), 16)],
        firewall: ("nftables".into(), Vec::new()),
        ..SystemInfo::default()
    }
}

pub(crate) fn sample(id: ContainerId, name: &str) -> StatsSample {
    let reading = StatsReading {
        at: time("2026-11-21T08:44:06.867652131Z"),
        cgroup: node_runtime::cgroup::Readings::default(),
        system_cpu: 5,
        online_cpus: 2,
        machine_memory: 1 << 30,
        interfaces: vec![(
            "eth0".into(),
            InterfaceCounters { rx_bytes: 1042, ..InterfaceCounters::default() },
        )],
    };
    StatsSample { id, name: name.to_owned(), current: Some(Arc::new(reading)), previous: None }
}

pub(crate) fn events() -> Vec<Event> {
    let event = |kind, action: &str, actor: &str, attributes: &[(&str, &str)]| Event {
        kind,
        action: action.to_owned(),
        actor: actor.to_owned(),
        attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        time: time("2026-11-21T08:44:02.376161934Z"),
        scope: EventScope::Local,
    };
    vec![
        event(
            EventKind::Network,
            "connect",
            "c1c2",
            &[("container", "0101"), ("name", "bridge"), ("type", "bridge")],
        ),
        event(EventKind::Container, "start", "0101", &[("image", "busybox"), ("name", "one")]),
    ]
}

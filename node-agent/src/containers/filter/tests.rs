//! Which of some containers pass which queries.

use std::collections::BTreeMap;

use shoal_types::container::health::Health;
use shoal_types::container::mounts::{MountAccess, Propagation};
use shoal_types::container::spec::ContainerSpec;
use shoal_types::container::state::{EndpointStatus, Exit, MountKind, MountPoint, PublishedPort, Run};
use shoal_types::{ContainerId, Digest, NetworkId};

use super::*;
use crate::api::LabelFilter;
use crate::api::containers::{ContainerPaths, EffectiveSettings};

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn image(byte: u8) -> ImageId {
    ImageId(Digest::from_sha256([byte; 32]))
}

fn view(byte: u8, name: &str, state: ContainerState) -> ContainerView {
    let mut spec = ContainerSpec { image: format!("image{byte}:latest"), ..ContainerSpec::default() };
    spec.labels.insert("tier".to_owned(), name.to_owned());
    spec.networking.exposed = vec![format!("{}/tcp", 8000 + u16::from(byte)).parse().unwrap()];
    let endpoint = EndpointStatus {
        network_id: NetworkId::new(format!("{byte:02x}").repeat(32)),
        endpoint_id: None,
        ipv4: None,
        ipv4_gateway: None,
        ipv6: None,
        ipv6_gateway: None,
        mac_address: None,
        dns_names: Vec::new(),
    };
    let published = PublishedPort {
        container_port: spec.networking.exposed[0],
        host_ip: [0, 0, 0, 0].into(),
        host_port: Some(9000 + u16::from(byte)),
    };
    let mount = MountPoint {
        kind: MountKind::Volume,
        name: format!("vol-{name}"),
        source: String::new(),
        destination: format!("/{name}"),
        driver: "local".to_owned(),
        mode: String::new(),
        access: MountAccess::ReadWrite,
        propagation: Propagation::Default,
        anonymous: false,
        subpath: String::new(),
        spec_index: None,
        image: None,
    };
    ContainerView {
        version: 1,
        id: ContainerId::from_bytes([byte; 32]),
        name: name.to_owned(),
        link_names: Vec::new(),
        links: Vec::new(),
        created: time(i64::from(byte)),
        image_id: Some(image(byte)),
        image_manifest: None,
        image_shown: spec.image.clone(),
        spec: Arc::new(spec),
        requested: "{}".into(),
        command: Vec::new(),
        state,
        start_failure: None,
        restart_count: 0,
        health: (byte == 0x11).then(|| Health {
            status: HealthStatus::Healthy,
            failing_streak: 0,
            log: Vec::new(),
        }),
        sandbox: None,
        endpoints: BTreeMap::from([(format!("net-{name}"), endpoint)]),
        published: vec![published],
        mounts: vec![mount],
        exec_ids: Vec::new(),
        paths: ContainerPaths::default(),
        effective: EffectiveSettings::default(),
    }
}

fn all() -> Vec<Arc<ContainerView>> {
    let run = || Run { pid: 1, started_at: time(0), oom_killed: false, previous_end: None };
    let exit =
        Exit { code: 3, oom_killed: false, started_at: None, finished_at: time(0), error: String::new() };
    [
        view(0x11, "web", ContainerState::Running(run())),
        view(0x12, "webdb", ContainerState::Paused(run())),
        view(0x21, "old", ContainerState::Exited(exit)),
        view(0x22, "new", ContainerState::Created),
    ]
    .map(Arc::new)
    .into()
}

fn names(query: &ListQuery) -> Result<Vec<String>, String> {
    let views = all();
    let find = |name: &str| {
        let found = views.iter().find(|view| view.name == name).cloned();
        found.ok_or_else(|| NodeError::NoSuchContainer(name.to_owned()))
    };
    let filter = Filter::compile(query, find).map_err(|error| error.to_string())?;
    let passing = views.iter().filter(|view| filter.passes(view, &[image(0x12)]));
    Ok(passing.map(|view| view.name.clone()).collect())
}

fn range(first: &str, last: u16) -> PortRange {
    PortRange { first: first.parse().unwrap(), last }
}

#[test]
fn each_field_restricts_by_its_own_rule() {
    type Change = fn(&mut ListQuery);
    let cases: Vec<(Change, &[&str])> = vec![
        (|_| {}, &["web", "webdb"]),
        (|q| q.all = true, &["web", "webdb", "old", "new"]),
        (|q| q.limit = Some(1), &["web", "webdb", "old", "new"]),
        (|q| q.filter.statuses = vec!["exited".into(), "created".into()], &["old", "new"]),
        (|q| q.filter.names = vec!["^web$".into()], &["web"]),
        (|q| q.filter.names = vec!["^/web$".into()], &["web"]),
        (|q| q.filter.names = vec!["web".into()], &["web", "webdb"]),
        (|q| q.filter.names = vec!["old".into()], &[]),
        (|q| q.filter.ids = vec!["1212".into()], &["webdb"]),
        (
            |q| {
                q.all = true;
                q.filter.exited = vec![3];
            },
            &["old"],
        ),
        (
            |q| {
                q.all = true;
                q.filter.before = vec!["old".into()];
            },
            &["web", "webdb"],
        ),
        (
            |q| {
                q.all = true;
                q.filter.since = vec!["webdb".into()];
            },
            &["old", "new"],
        ),
        (|q| q.filter.ancestors = vec!["anything".into()], &["webdb"]),
        (|q| q.filter.ancestors = vec!["image17:latest".into()], &["web", "webdb"]),
        (|q| q.filter.volumes = vec!["vol-web".into()], &["web"]),
        (|q| q.filter.volumes = vec!["/webdb".into()], &["webdb"]),
        (|q| q.filter.networks = vec!["net-web".into()], &["web"]),
        (|q| q.filter.networks = vec!["1212".into()], &["webdb"]),
        (|q| q.filter.published = vec![range("8017", 8017)], &[]),
        (|q| q.filter.published = vec![range("9000", 9017)], &["web"]),
        (|q| q.filter.published = vec![range("9017/udp", 9017)], &[]),
        (|q| q.filter.exposed = vec![range("8000", 8020)], &["web", "webdb"]),
        (
            |q| {
                q.all = true;
                q.filter.exposed = vec![range("8018", 9000)];
            },
            &["webdb"],
        ),
        (
            |q| {
                q.filter.published = vec![range("9017", 9017)];
                q.filter.exposed = vec![range("8018", 8018)];
            },
            &["web", "webdb"],
        ),
        (|q| q.filter.health = vec![Some(HealthStatus::Healthy)], &["web"]),
        (|q| q.filter.health = vec![None], &["webdb"]),
        (|q| q.filter.is_task = Some(true), &[]),
        (
            |q| {
                q.filter.labels = LabelFilter {
                    required: vec![("tier".into(), Some("web".into()))],
                    ..LabelFilter::default()
                };
            },
            &["web"],
        ),
    ];
    for (change, expected) in cases {
        let mut query = ListQuery::default();
        change(&mut query);
        assert_eq!(names(&query).unwrap(), expected, "{query:?}");
    }
}

#[test]
fn wrong_values_are_refused_with_dockers_words() {
    let mut query = ListQuery::default();
    query.filter.statuses = vec!["x".to_owned()];
    assert_eq!(
        names(&query).unwrap_err(),
        "invalid filter 'status=x': invalid value for state (x): must be one of created, running, paused, restarting, removing, exited, dead"
    );
    let mut query = ListQuery::default();
    query.filter.before = vec!["ghost".to_owned()];
    assert_eq!(names(&query).unwrap_err(), "No such container: ghost");
}

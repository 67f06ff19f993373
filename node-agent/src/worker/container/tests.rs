//! Tables: what of a service's template ends up where in the container.

use std::sync::Arc;

use jiff::Timestamp;
use shoal_types::cluster::service::{PublishedServicePort, ServiceResources};
use shoal_types::container::mounts::{BindRecursion, MissingSource, MountAccess, MountOrigin, Propagation};
use shoal_types::container::networking::Protocol;
use shoal_types::network::NetworkSpec;

use super::*;
use crate::worker::testing::{a_task, node_facts};

fn changed(change: impl FnOnce(&mut TaskTemplate)) -> Task {
    let mut task = a_task("web", 2);
    change(Arc::make_mut(&mut task.template));
    task
}

fn spec(change: impl FnOnce(&mut TaskTemplate)) -> ContainerSpec {
    container_of(&changed(change), &node_facts(), &BTreeMap::new(), Vec::new()).unwrap()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn network(name: &str, driver: &str) -> (NetworkId, Arc<Network>) {
    let id = NetworkId::new(format!("id-of-{name}"));
    let spec = NetworkSpec { name: name.to_owned(), driver: driver.to_owned(), ..NetworkSpec::default() };
    (id.clone(), Arc::new(Network { id, spec, created: Timestamp::UNIX_EPOCH }))
}

fn attachment(network: NetworkId) -> TaskAttachment {
    TaskAttachment {
        network,
        addresses: Vec::new(),
        aliases: words(&["db"]),
        driver_options: BTreeMap::new(),
    }
}

#[test]
fn the_container_says_whose_task_it_is_and_nobody_can_pretend() {
    let task = changed(|template| {
        template.container.labels.insert("mine".into(), "1".into());
        template.container.labels.insert(LABEL_TASK_ID.into(), "forged".into());
    });
    let spec = container_of(&task, &node_facts(), &BTreeMap::new(), Vec::new()).unwrap();
    let label = |key: &str| spec.labels.get(key).map(String::as_str).unwrap();
    assert_eq!(label("mine"), "1");
    assert_eq!(label("com.docker.swarm.task"), "");
    assert_eq!(label("com.docker.swarm.task.id"), task.id.to_string());
    assert_eq!(label("com.docker.swarm.task.name"), format!("web.2.{}", task.id));
    assert_eq!(label("com.docker.swarm.node.id"), node_facts().id.to_string());
    assert_eq!(label("com.docker.swarm.service.id"), task.service.to_string());
    assert_eq!(label("com.docker.swarm.service.name"), "web");
    assert_eq!(spec.restart, RestartPolicy::No);
}

#[test]
fn a_command_replaces_the_whole_invocation_and_arguments_only_the_images() {
    type Case<'a> = (&'a [&'a str], &'a [&'a str], Option<Vec<String>>, Option<Vec<String>>);
    let cases: [Case<'_>; 4] = [
        (&[], &[], None, None),
        (&[], &["a"], None, Some(words(&["a"]))),
        (&["c"], &["a"], Some(words(&["c"])), Some(words(&["a"]))),
        (&["c"], &[], Some(words(&["c"])), Some(Vec::new())),
    ];
    for (command, args, entrypoint, cmd) in cases {
        let spec = spec(|template| {
            template.container.command = words(command);
            template.container.args = words(args);
        });
        assert_eq!((spec.process.entrypoint, spec.process.cmd), (entrypoint, cmd));
    }
}

#[test]
fn templates_are_filled_in_where_swarm_does() {
    let spec = spec(|template| {
        template.container.env = words(&["SLOT={{.Task.Slot}}", "PLAIN=1"]);
        template.container.hostname = "{{.Node.Hostname}}-{{.Task.Slot}}".to_owned();
        template.container.mounts = vec![MountSpec {
            destination: "/{{.Service.Name}}".to_owned(),
            source: MountSource::Bind {
                path: "/srv/{{.Task.Slot}}".to_owned(),
                propagation: Propagation::Default,
                recursion: BindRecursion::Recursive,
                missing: MissingSource::Refuse,
                relabel: None,
            },
            access: MountAccess::ReadWrite,
            origin: MountOrigin::Mount,
            mode: String::new(),
        }];
    });
    assert_eq!(spec.process.env, words(&["SLOT=2", "PLAIN=1"]));
    assert_eq!(spec.process.hostname, "host-2");
    assert_eq!(spec.mounts[0].destination, "/web");
    assert!(matches!(&spec.mounts[0].source, MountSource::Bind { path, .. } if path == "/srv/2"));
    let bad = changed(|template| template.container.hostname = "{{.Nope}}".to_owned());
    assert!(container_of(&bad, &node_facts(), &BTreeMap::new(), Vec::new()).is_err());
}

#[test]
fn limits_reach_the_kernel_in_its_own_terms() {
    let resources = |wanted: ServiceResources| spec(|template| template.resources = wanted).resources;
    let limited = resources(ServiceResources {
        limit_nano_cpus: 5,
        limit_memory: 100,
        limit_pids: 7,
        reserved_memory: 50,
        swap: Some(20),
        swappiness: Some(-1),
        ..ServiceResources::default()
    });
    assert_eq!((limited.nano_cpus, limited.memory, limited.memory_swap), (5, 100, 120));
    assert_eq!(
        (limited.memory_reservation, limited.pids_limit, limited.memory_swappiness),
        (50, Some(7), None)
    );
    assert_eq!(resources(ServiceResources::default()).pids_limit, None);
    let unlimited = ServiceResources { swap: Some(-1), limit_memory: 9, ..ServiceResources::default() };
    assert_eq!(resources(unlimited).memory_swap, -1);
}

#[test]
fn named_resources_are_told_by_the_environment() {
    let mut task = a_task("web", 1);
    let named = |name: &str| GenericResource::Named(name.to_owned());
    task.generic = vec![
        ("gpu".into(), named("u1")),
        ("gpu".into(), named("u2")),
        ("ssd".into(), GenericResource::Discrete(3)),
    ];
    let env = environment(&task, &node_facts()).unwrap();
    assert_eq!(env, words(&["DOCKER_RESOURCE_GPU=u1,u2", "DOCKER_RESOURCE_SSD=3"]));
}

#[test]
fn only_host_ports_are_published_by_the_container() {
    let port = |published, mode| PublishedServicePort {
        name: String::new(),
        protocol: Protocol::Tcp,
        target: 80,
        published,
        mode,
    };
    let mut task = a_task("web", 1);
    task.endpoint.ports =
        vec![port(8080, PublishMode::Host), port(0, PublishMode::Host), port(90, PublishMode::Ingress)];
    let spec = container_of(&task, &node_facts(), &BTreeMap::new(), Vec::new()).unwrap();
    let ports: Vec<_> = spec.networking.published.iter().map(|port| port.host_ports).collect();
    assert_eq!(ports, [Some((8080, 8080)), None]);
}

#[test]
fn networks_of_the_node_and_those_that_span_nodes_are_joined() {
    let known: BTreeMap<_, _> = [
        network("host", "host"),
        network("bridge", "bridge"),
        network("lan", "bridge"),
        network("o", "overlay"),
    ]
    .into();
    let networking = |name: &str| {
        let mut task = a_task("web", 1);
        task.networks = known
            .values()
            .filter(|network| network.spec.name == name)
            .map(|n| attachment(n.id.clone()))
            .collect();
        container_of(&task, &node_facts(), &known, Vec::new()).map(|spec| spec.networking)
    };
    assert_eq!(networking("host").unwrap().mode, NetworkMode::Host);
    assert_eq!(networking("bridge").unwrap().mode, NetworkMode::DefaultBridge);
    assert_eq!(networking("nothing").unwrap().mode, NetworkMode::DefaultBridge);
    let lan = networking("lan").unwrap();
    assert_eq!(lan.mode, NetworkMode::Network("lan".into()));
    assert_eq!(lan.endpoints["lan"].aliases, words(&["db", "web"]));
    let overlay = networking("o").unwrap();
    assert_eq!(overlay.mode, NetworkMode::Network("o".into()));
    assert!(overlay.endpoints["o"].aliases.is_empty(), "names there are the managers' business");
    let mut lost = a_task("web", 1);
    let id = network("gone", "bridge").0;
    lost.networks = vec![attachment(id.clone())];
    assert_eq!(container_of(&lost, &node_facts(), &known, Vec::new()), Err(SpecError::NoSuchNetwork(id)));
}

#[test]
fn hosts_have_the_address_first_in_services_and_last_in_containers() {
    assert_eq!(hosts("10.0.0.1 db db.local"), words(&["db:10.0.0.1", "db.local:10.0.0.1"]));
    assert_eq!(hosts(""), Vec::<String>::new());
}

#[test]
fn the_grace_is_rounded_up_to_seconds_because_less_would_kill_early() {
    let seconds = |grace| grace_seconds(&changed(|template| template.container.stop_grace = grace));
    assert_eq!(seconds(None), 10);
    assert_eq!(seconds(Some(Duration::from_millis(1500))), 2);
    assert_eq!(seconds(Some(Duration::ZERO)), 0);
}

#[test]
fn a_template_that_no_task_could_fill_in_is_refused_before() {
    let with = |env: &str| {
        let mut spec = ServiceSpec { name: "web".to_owned(), ..ServiceSpec::default() };
        spec.labels.insert("tier".to_owned(), "front".to_owned());
        spec.template.container.env = vec![env.to_owned()];
        check_templates(&spec)
    };
    let good = "A={{.Service.Labels.tier}} {{.Task.Name}} {{.Node.Hostname}} {{.Task.Slot}}";
    assert_eq!(with(good), Ok(()));
    for bad in ["A={{.Nope}}", "A={{.Service.Labels.none}}", "A={{"] {
        assert!(with(bad).unwrap_err().starts_with("template: "), "{bad}");
    }
}

//! The ports as a front end uses them, over a store in memory: what is written, and in which words what is refused.
//!
//! Start reading at any test; [`control`] makes a cluster of three nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use shoal_types::cluster::node::{ManagerStatus, NodeRole, NodeState};
use shoal_types::cluster::secret::{ConfigSpec, FileTarget, SecretReference, SecretSpec};
use shoal_types::cluster::service::{
    NetworkWish, PublishMode, PublishedServicePort, RegistryCredentials, ServiceMode, ServiceSpec,
    UpdateState,
};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::container::networking::Protocol;
use shoal_types::network::NetworkSpec;
use shoal_types::{ErrorKind, NodeId, TaskId};

use super::*;
use crate::api::ObjectFilter;
use crate::api::networks::Networks;
use crate::api::nodes::{NodeFilter, Nodes, RemoveForce};
use crate::api::secrets::{Configs, Secrets};
use crate::api::services::{CredentialsOf, ServiceFilter, ServiceUpdate, Services, UpdateTarget};
use crate::api::tasks::{TaskFilter, Tasks};
use crate::fixtures::{at, cluster, node, service, task};
use crate::store::{Change, MemoryStore, Object};

/// A clock that stands still.
struct Still;

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Timestamp {
        at(1000)
    }

    async fn sleep(&self, _: Duration) {}
}

fn control() -> (Arc<MemoryStore>, Control) {
    let mut manager = node(1);
    manager.spec.role = NodeRole::Manager;
    manager.manager =
        Some(ManagerStatus { leader: true, reachable: true, address: ([192, 0, 2, 1], 2377).into() });
    let mut objects: Vec<Object> = vec![cluster().into(), manager.into(), node(2).into(), node(3).into()];
    objects.extend(first_networks(at(0)).into_iter().map(Object::from));
    let store = Arc::new(MemoryStore::new(Snapshot::from_objects(1, objects)));
    let control = Control::new(store.clone(), Arc::new(Still), NodeId::from_u128(1));
    (store, control)
}

fn spec(name: &str) -> ServiceSpec {
    ServiceSpec { name: name.to_owned(), ..service(1, 1).spec }
}

fn update(version: u64, target: UpdateTarget) -> ServiceUpdate {
    ServiceUpdate { version, target, credentials: None, credentials_of: CredentialsOf::default() }
}

fn published(port: u16, mode: PublishMode) -> PublishedServicePort {
    PublishedServicePort { name: String::new(), protocol: Protocol::Tcp, target: 80, published: port, mode }
}

/// What a refusal says, and of which kind it is.
fn refusal<T: fmt::Debug>(result: Result<T, ClusterError>) -> (ErrorKind, String) {
    let error = result.unwrap_err();
    (error.kind(), error.to_string())
}

const INVALID: ErrorKind = ErrorKind::InvalidArgument;

#[tokio::test]
async fn a_service_is_found_by_id_name_and_the_beginning_of_its_id() {
    let (_, control) = control();
    let id =
        Services::create(&control, spec("web"), Some(RegistryCredentials(b"secret".to_vec()))).await.unwrap();
    let text = id.to_string();
    for name in [text.as_str(), "web", &text[..10]] {
        let service = Services::inspect(&control, name).await.unwrap();
        assert_eq!((service.id, service.spec_version), (id, 1));
        assert_eq!(service.spec.template.credentials.unwrap().0, b"secret");
    }
    let missing = refusal(Services::inspect(&control, "nope").await);
    assert_eq!(missing, (ErrorKind::NotFound, "service nope not found".to_owned()));
}

#[tokio::test]
async fn a_beginning_that_fits_several_is_ambiguous() {
    let (store, control) = control();
    for number in [1, 2] {
        store.commit_now(&[Change::Create(service(number, 1).into())]).unwrap();
    }
    let several = refusal(Services::inspect(&control, "0000").await);
    assert_eq!(several, (INVALID, "service 0000 is ambiguous (2 matches found)".to_owned()));
}

#[tokio::test]
async fn a_service_without_a_name_is_given_one() {
    let (_, control) = control();
    Services::create(&control, spec(""), None).await.unwrap();
    let listed = Services::list(&control, ServiceFilter::default()).await.unwrap();
    assert!(listed[0].0.spec.name.contains('_'), "{}", listed[0].0.spec.name);
}

#[tokio::test]
async fn services_are_refused_in_swarms_words() {
    let (_, control) = control();
    Services::create(&control, spec("web"), None).await.unwrap();
    let twice = refusal(Services::create(&control, spec("web"), None).await);
    let text = "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists";
    assert_eq!(twice, (ErrorKind::Conflict, text.to_owned()));

    let wants = |id, name: &str| SecretReference {
        id,
        name: name.to_owned(),
        target: FileTarget { path: name.to_owned(), uid: "0".to_owned(), gid: "0".to_owned(), mode: 0o444 },
    };
    let data = SecretSpec { name: "there".to_owned(), data: vec![1], ..SecretSpec::default() };
    let there = Secrets::create(&control, data).await.unwrap();
    let nowhere = shoal_types::SecretId::from_u128(9);
    for (wanted, text) in [
        (vec![wants(nowhere, "key")], "secret not found: key"),
        (vec![wants(nowhere, "a"), wants(there, "there"), wants(nowhere, "b")], "secrets not found: a, b"),
        (vec![wants(there, "other")], "secret not found: other"),
    ] {
        let mut spec = spec("a");
        spec.template.container.secrets = wanted;
        let missing = refusal(Services::create(&control, spec, None).await);
        assert_eq!(missing, (INVALID, format!("rpc error: code = InvalidArgument desc = {text}")));
    }

    let mut on_ingress = spec("a");
    let wish = |target: &str| NetworkWish {
        target: target.to_owned(),
        aliases: Vec::new(),
        driver_options: Default::default(),
    };
    on_ingress.template.networks.push(wish("ingress"));
    assert_eq!(
        refusal(Services::create(&control, on_ingress, None).await).1,
        "rpc error: code = InvalidArgument desc = Service cannot be explicitly attached to the ingress network \"ingress\""
    );
    let mut nowhere = spec("a");
    nowhere.template.networks.push(wish("nowhere"));
    let missing = refusal(Services::create(&control, nowhere, None).await);
    assert_eq!(missing, (ErrorKind::NotFound, "network nowhere not found".to_owned()));
}

#[tokio::test]
async fn a_published_port_belongs_to_one_service() {
    let (_, control) = control();
    let mut first = spec("first");
    first.endpoint.ports = vec![published(80, PublishMode::Ingress), published(90, PublishMode::Host)];
    let id = Services::create(&control, first, None).await.unwrap();
    let cases = [
        (80, PublishMode::Ingress, Some("an ingress")),
        (80, PublishMode::Host, Some("an ingress")),
        (90, PublishMode::Ingress, Some("a host-published")),
        (90, PublishMode::Host, None),
    ];
    for (port, mode, how) in cases {
        let mut other = spec("other");
        other.endpoint.ports.push(published(port, mode));
        let result = Services::create(&control, other, None).await;
        match how {
            None => drop(result.unwrap()),
            Some(how) => assert_eq!(
                refusal(result).1,
                format!(
                    "rpc error: code = InvalidArgument desc = port '{port}' is already in use by service 'first' ({id}) as \
                     {how} port"
                )
            ),
        }
    }
}

#[tokio::test]
async fn an_update_needs_the_newest_version_and_keeps_the_spec_before() {
    let (_, control) = control();
    Services::create(&control, spec("web"), Some(RegistryCredentials(vec![7]))).await.unwrap();
    let before = Services::inspect(&control, "web").await.unwrap();
    let mut wanted = before.spec.clone();
    wanted.template.credentials = None;
    wanted.template.container.image = "nginx".to_owned();
    let target = UpdateTarget::Spec(Box::new(wanted));
    Services::update(&control, "web", update(before.meta.version, target.clone())).await.unwrap();
    let late = refusal(Services::update(&control, "web", update(before.meta.version, target)).await);
    assert_eq!(
        late,
        (ErrorKind::Internal, "rpc error: code = Unknown desc = update out of sequence".to_owned())
    );
    let after = Services::inspect(&control, "web").await.unwrap();
    assert_eq!(after.spec_version, 2);
    assert_eq!(after.previous.unwrap().template.container.image, "busybox");
    assert_eq!(after.spec.template.credentials.unwrap().0, [7], "credentials are kept");
}

#[tokio::test]
async fn an_update_may_keep_the_credentials_of_the_spec_before() {
    let (_, control) = control();
    Services::create(&control, spec("web"), Some(RegistryCredentials(vec![7]))).await.unwrap();
    let keeping = |version| ServiceUpdate {
        credentials_of: CredentialsOf::PreviousSpec,
        ..update(version, UpdateTarget::Spec(Box::new(spec("web"))))
    };
    let version = Services::inspect(&control, "web").await.unwrap().meta.version;
    let refused = refusal(Services::update(&control, "web", keeping(version)).await);
    assert_eq!(refused, (INVALID, "service does not have a previous spec".to_owned()));
    let others = ServiceUpdate { credentials: Some(RegistryCredentials(vec![8])), ..keeping(version) };
    Services::update(&control, "web", others).await.unwrap();
    let version = Services::inspect(&control, "web").await.unwrap().meta.version;
    Services::update(&control, "web", keeping(version)).await.unwrap();
    let kept = Services::inspect(&control, "web").await.unwrap().spec.template.credentials;
    assert_eq!(kept, Some(RegistryCredentials(vec![7])));
}

#[tokio::test]
async fn a_rollback_goes_to_the_spec_before_and_back_again() {
    let (_, control) = control();
    Services::create(&control, spec("web"), None).await.unwrap();
    let first = Services::inspect(&control, "web").await.unwrap();
    let none =
        refusal(Services::update(&control, "web", update(first.meta.version, UpdateTarget::Previous)).await);
    let text = format!(
        "rpc error: code = FailedPrecondition desc = service {} does not have a previous spec",
        first.id
    );
    assert_eq!(none, (INVALID, text));
    let mut wanted = first.spec.clone();
    wanted.template.container.image = "nginx".to_owned();
    let target = UpdateTarget::Spec(Box::new(wanted));
    Services::update(&control, "web", update(first.meta.version, target)).await.unwrap();
    for image in ["busybox", "nginx"] {
        let version = Services::inspect(&control, "web").await.unwrap().meta.version;
        Services::update(&control, "web", update(version, UpdateTarget::Previous)).await.unwrap();
        let service = Services::inspect(&control, "web").await.unwrap();
        assert_eq!(service.spec.template.container.image, image);
        let status = service.update.unwrap();
        assert_eq!(
            (status.state, status.message.as_str()),
            (UpdateState::RollbackStarted, "manually requested rollback")
        );
    }
}

#[tokio::test]
async fn name_and_mode_of_a_service_stay() {
    let (_, control) = control();
    Services::create(&control, spec("web"), None).await.unwrap();
    let service = Services::inspect(&control, "web").await.unwrap();
    type Change = fn(&mut ServiceSpec);
    let cases: [(Change, &str); 2] = [
        (|spec| spec.name = "other".to_owned(), "renaming services is not supported"),
        (|spec| spec.mode = ServiceMode::Global, "service mode change is not allowed"),
    ];
    for (change, text) in cases {
        let mut wanted = service.spec.clone();
        change(&mut wanted);
        let target = UpdateTarget::Spec(Box::new(wanted));
        let result = Services::update(&control, "web", update(service.meta.version, target)).await;
        assert_eq!(
            refusal(result),
            (ErrorKind::NotImplemented, format!("rpc error: code = Unimplemented desc = {text}"))
        );
    }
}

#[tokio::test]
async fn every_update_of_a_job_begins_another_run() {
    let (_, control) = control();
    let mut job = spec("job");
    job.mode = ServiceMode::ReplicatedJob { max_concurrent: 1, total_completions: 1 };
    Services::create(&control, job.clone(), None).await.unwrap();
    let before = Services::inspect(&control, "job").await.unwrap();
    assert_eq!(before.job.unwrap().iteration, 0);
    let target = UpdateTarget::Spec(Box::new(job));
    Services::update(&control, "job", update(before.meta.version, target)).await.unwrap();
    assert_eq!(Services::inspect(&control, "job").await.unwrap().job.unwrap().iteration, 1);
}

#[tokio::test]
async fn secrets_never_show_their_content_and_only_labels_change() {
    let (_, control) = control();
    let new = |name: &str, data: &[u8]| SecretSpec {
        name: name.to_owned(),
        data: data.to_vec(),
        ..SecretSpec::default()
    };
    let id = Secrets::create(&control, new("key", b"x")).await.unwrap();
    let shown = Secrets::inspect(&control, "key").await.unwrap();
    assert!(shown.spec.data.is_empty());
    let mut labelled = shown.spec.clone();
    labelled.labels.insert("a".to_owned(), "b".to_owned());
    Secrets::update(&control, "key", shown.meta.version, labelled.clone()).await.unwrap();
    let late = Secrets::update(&control, "key", shown.meta.version, labelled.clone()).await;
    assert_eq!(refusal(late).1, "rpc error: code = Unknown desc = update out of sequence");
    labelled.data = b"y".to_vec();
    let changed = refusal(Secrets::update(&control, "key", 3, labelled).await);
    let text = "rpc error: code = InvalidArgument desc = only updates to Labels are allowed";
    assert_eq!(changed, (INVALID, text.to_owned()));
    let twice = refusal(Secrets::create(&control, new("key", b"x")).await);
    assert_eq!(
        twice,
        (ErrorKind::Conflict, "rpc error: code = AlreadyExists desc = secret key already exists".to_owned())
    );
    for data in [vec![], vec![0; 512_000]] {
        assert_eq!(
            refusal(Secrets::create(&control, new("other", &data)).await).1,
            "rpc error: code = InvalidArgument desc = secret data must be larger than 0 and less than 512000 bytes"
        );
    }
    assert_eq!(Secrets::list(&control, ObjectFilter::default()).await.unwrap()[0].id, id);
}

#[tokio::test]
async fn a_secret_or_config_in_use_stays() {
    let (_, control) = control();
    let data = SecretSpec { name: "key".to_owned(), data: vec![1], ..SecretSpec::default() };
    let id = Secrets::create(&control, data).await.unwrap();
    for (name, users) in [("a", "service: a"), ("b", "services: ")] {
        let mut user = spec(name);
        user.template.container.secrets.push(SecretReference {
            id,
            name: "key".to_owned(),
            target: FileTarget {
                path: "key".to_owned(),
                uid: "0".to_owned(),
                gid: "0".to_owned(),
                mode: 0o444,
            },
        });
        Services::create(&control, user, None).await.unwrap();
        let (kind, text) = refusal(Secrets::remove(&control, "key").await);
        assert_eq!(kind, INVALID);
        let beginning = format!(
            "rpc error: code = InvalidArgument desc = secret 'key' is in use by the following {users}"
        );
        assert!(text.starts_with(&beginning), "{text}");
    }
    let config = ConfigSpec { name: "file".to_owned(), data: vec![1], ..ConfigSpec::default() };
    Configs::create(&control, config).await.unwrap();
    assert_eq!(Configs::inspect(&control, "file").await.unwrap().spec.data, [1]);
    Configs::remove(&control, "file").await.unwrap();
    assert_eq!(refusal(Configs::inspect(&control, "file").await).1, "config file not found");
}

#[tokio::test]
async fn nodes_are_found_by_host_name_and_as_self() {
    let (_, control) = control();
    for name in ["self", "host1", "0000000000000000000000001"] {
        assert_eq!(Nodes::inspect(&control, name).await.unwrap().id, NodeId::from_u128(1), "{name}");
    }
    let filter = NodeFilter { roles: vec![NodeRole::Manager], ..NodeFilter::default() };
    assert_eq!(Nodes::list(&control, filter).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_last_manager_stays_one() {
    let (_, control) = control();
    let node = Nodes::inspect(&control, "self").await.unwrap();
    let mut spec = node.spec;
    spec.role = NodeRole::Worker;
    let refused = refusal(Nodes::update(&control, "self", node.meta.version, spec).await);
    let text =
        "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm";
    assert_eq!(refused, (INVALID, text.to_owned()));
    let removed = refusal(Nodes::remove(&control, "self", RemoveForce::Yes).await);
    assert!(
        removed.1.ends_with(
            "is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"
        ),
        "{}",
        removed.1
    );
}

#[tokio::test]
async fn a_node_that_is_removed_leaves_orphans_and_a_revocation() {
    let (store, control) = control();
    let owner = service(1, 1);
    let mut orphan = task(5, &owner, 1, TaskState::Running);
    orphan.node = Some(NodeId::from_u128(2));
    store.commit_now(&[Change::Create(owner.into()), Change::Create(orphan.into())]).unwrap();
    let refused = refusal(Nodes::remove(&control, "host2", RemoveForce::No).await);
    let text = "rpc error: code = FailedPrecondition desc = node 0000000000000000000000002 is not down and can't be removed";
    assert_eq!(refused, (INVALID, text.to_owned()));
    Nodes::remove(&control, "host2", RemoveForce::Yes).await.unwrap();
    let task = Tasks::inspect(&control, &TaskId::from_u128(5).to_string()).await.unwrap();
    assert_eq!(task.status.state, TaskState::Orphaned);
    assert_eq!(task.status.message, "Task belonged to a node that has been deleted");
    assert!(control.view().revocation(NodeId::from_u128(2)).is_some());
}

#[tokio::test]
async fn a_node_that_is_down_may_be_removed() {
    let (store, control) = control();
    let mut status = node(2).status;
    status.state = NodeState::Down;
    let down = Change::ReportNode { node: NodeId::from_u128(2), status, description: None, at: at(5) };
    store.commit_now(&[down]).unwrap();
    Nodes::remove(&control, "host2", RemoveForce::No).await.unwrap();
    assert_eq!(refusal(Nodes::inspect(&control, "host2").await).1, "node host2 not found");
}

#[tokio::test]
async fn tasks_are_listed_by_service_node_state_and_age() {
    let (store, control) = control();
    let mut owner = service(1, 2);
    let (mut old, mut new) = (task(1, &owner, 1, TaskState::Running), task(2, &owner, 2, TaskState::Running));
    (old.node, new.node) = (Some(NodeId::from_u128(2)), Some(NodeId::from_u128(3)));
    old.desired = TaskState::Shutdown;
    owner.spec.template.container.image = "nginx".to_owned();
    owner.spec_version = 2;
    new.spec_version = 2;
    for object in [Object::from(owner), old.into(), new.into()] {
        store.commit_now(&[Change::Create(object)]).unwrap();
    }
    let list = async |filter: TaskFilter| -> Vec<u128> {
        let tasks = Tasks::list(&control, filter).await.unwrap();
        tasks.iter().map(|task| task.id.as_u128()).collect()
    };
    let all = TaskFilter::default;
    assert_eq!(list(all()).await, [1, 2]);
    assert_eq!(list(TaskFilter { services: vec!["service1".to_owned()], ..all() }).await, [1, 2]);
    assert_eq!(list(TaskFilter { nodes: vec!["host2".to_owned()], ..all() }).await, [1]);
    assert_eq!(list(TaskFilter { desired: vec![TaskState::Shutdown], ..all() }).await, [1]);
    assert_eq!(list(TaskFilter { up_to_date: Some(true), ..all() }).await, [2]);
    let named = ObjectFilter { names: vec!["service1.2".to_owned()], ..ObjectFilter::default() };
    assert_eq!(list(TaskFilter { object: named, ..all() }).await, [2]);
    let unknown = Tasks::list(&control, TaskFilter { services: vec!["nope".to_owned()], ..all() }).await;
    assert_eq!(refusal(unknown), (ErrorKind::NotFound, "service nope not found".to_owned()));
}

#[tokio::test]
async fn networks_are_refused_in_swarms_words() {
    let (_, control) = control();
    let new = |name: &str| NetworkSpec { name: name.to_owned(), ..NetworkSpec::default() };
    let id = Networks::create(&control, new("front")).await.unwrap();
    assert_eq!(id.as_str().len(), 25);
    assert_eq!(Networks::inspect(&control, "front").await.unwrap().spec.driver, "overlay");
    let cases = [
        (new("front"), ErrorKind::Conflict, "network with name front already exists"),
        (new("host"), ErrorKind::Forbidden, "host is a pre-defined network and cannot be created"),
        (
            NetworkSpec { ingress: true, attachable: true, ..new("x") },
            INVALID,
            "ingress network cannot be attachable",
        ),
        (
            NetworkSpec { ipv4: Some(false), ..new("x") },
            INVALID,
            "IPv4 cannot be disabled in a Swarm scoped network",
        ),
    ];
    for (spec, kind, text) in cases {
        assert_eq!(refusal(Networks::create(&control, spec).await), (kind, text.to_owned()));
    }
    // A client looks for it before it makes a service that uses the node's own network of that name; it is not listed.
    assert_eq!(Networks::inspect(&control, "bridge").await.unwrap().spec.driver, "bridge");
    let listed = Networks::list(&control).await.unwrap();
    assert!(listed.iter().all(|network| network.spec.driver == "overlay"), "{listed:?}");
    let mut user = spec("web");
    user.template.networks.push(NetworkWish {
        target: "front".to_owned(),
        aliases: Vec::new(),
        driver_options: Default::default(),
    });
    let service = Services::create(&control, user, None).await.unwrap();
    assert_eq!(
        refusal(Networks::remove(&control, "front").await),
        (
            INVALID,
            format!(
                "rpc error: code = FailedPrecondition desc = network {id} is in use by service {service}"
            )
        )
    );
    Services::remove(&control, "web").await.unwrap();
    Networks::remove(&control, "front").await.unwrap();
}

//! Tables, followed through changes of the store.
//!
//! Start reading at [`follow`]: after every step the table that was kept up to date is the one that a new leader would make.

use shoal_types::cluster::node::{DataPathKey, Node, NodeState};
use shoal_types::cluster::overlay::{OverlayPeer, PeerState};
use shoal_types::cluster::service::NetworkWish;
use shoal_types::cluster::task::{Task, TaskAttachment};
use shoal_types::cluster::task_state::TaskState;
use shoal_types::{NodeId, ServiceId, TaskId};

use super::*;
use crate::fixtures::{at, cluster, network, node, service, status, task};
use crate::overlay::entries::keys_of_its_own;
use crate::store::{Change, Object};

fn net() -> NetworkId {
    NetworkId::new("net1")
}

fn attachment(last: u8) -> TaskAttachment {
    TaskAttachment {
        network: net(),
        addresses: vec![format!("10.0.1.{last}/24").parse().unwrap()],
        aliases: Vec::new(),
        driver_options: BTreeMap::new(),
    }
}

fn in_network(number: u128, of_node: u128, state: TaskState) -> Task {
    let mut task = task(number, &service(1, 1), number.try_into().unwrap(), state);
    task.node = Some(NodeId::from_u128(of_node));
    task.networks = vec![attachment(10 + u8::try_from(number).unwrap())];
    task
}

fn store() -> Snapshot {
    let mut web = service(1, 1);
    web.spec.template.networks = vec![NetworkWish {
        target: "net1".into(),
        aliases: vec!["www".into()],
        driver_options: BTreeMap::new(),
    }];
    web.endpoint.virtual_ips = vec![(net(), "10.0.1.2/24".parse().unwrap())];
    let objects = [
        Object::from(cluster()),
        node(1).into(),
        node(2).into(),
        network("net1", "one", 1).into(),
        web.into(),
    ];
    Snapshot::from_objects(1, objects)
}

/// A store that changes, with tables that follow it.
struct World {
    store: Snapshot,
    tables: Tables,
}

impl World {
    fn new() -> Self {
        let (store, mut tables) = (store(), Tables::default());
        tables.advance(&Arc::new(store.clone()));
        tables.take_changed();
        Self { store, tables }
    }

    /// Applies changes; which networks are other than before.
    fn follow(&mut self, changes: &[Change]) -> Vec<String> {
        self.store.apply(self.store.index() + 1, changes).unwrap();
        let view = Arc::new(self.store.clone());
        self.tables.advance(&view);
        let mut fresh = Tables::default();
        fresh.advance(&view);
        assert_eq!(self.tables.since(&net(), None), fresh.since(&net(), None));
        self.tables.take_changed().iter().map(ToString::to_string).collect()
    }

    fn peer(&self, number: u128) -> Option<OverlayPeer> {
        let table = self.tables.tables.get(&net())?;
        match table.entries.get(&EntryKey::Task(TaskId::from_u128(number))).map(Arc::as_ref) {
            Some(OverlayEntry::Peer(peer)) => Some(peer.clone()),
            _ => None,
        }
    }
}

fn report(number: u128, state: TaskState) -> Change {
    Change::ReportTask { task: TaskId::from_u128(number), status: status(state, at(1)), at: at(1) }
}

#[test]
fn a_task_is_a_peer_from_its_node_on_and_serves_while_it_runs_and_shall_run() {
    let mut world = World::new();
    assert_eq!(world.follow(&[Change::Create(in_network(1, 1, TaskState::Assigned).into())]), ["net1"]);
    let state = |world: &World| world.peer(1).map(|peer| peer.state);
    assert_eq!(state(&world), Some(PeerState::Starting));
    assert!(
        world.follow(&[report(1, TaskState::Preparing)]).is_empty(),
        "nobody is told what changes nothing"
    );
    assert_eq!(world.follow(&[report(1, TaskState::Running)]), ["net1"]);
    assert_eq!(state(&world), Some(PeerState::Serving));
    let stop = Change::Desire { task: TaskId::from_u128(1), state: TaskState::Shutdown, at: at(2) };
    assert_eq!(world.follow(&[stop]), ["net1"]);
    assert_eq!(state(&world), Some(PeerState::Draining));
    assert_eq!(world.follow(&[report(1, TaskState::Shutdown)]), ["net1"]);
    assert_eq!(state(&world), None);
}

#[test]
fn peers_of_a_node_move_with_its_address() {
    let mut world = World::new();
    world.follow(&[Change::Create(in_network(1, 1, TaskState::Running).into())]);
    assert_eq!(world.peer(1).unwrap().vtep.to_string(), "192.0.2.1");
    let mut moved = Node::clone(world.store.node(NodeId::from_u128(1)).unwrap());
    moved.description.as_mut().unwrap().data_path = Some("198.51.100.7".parse().unwrap());
    assert_eq!(world.follow(&[Change::Update(moved.into())]), ["net1"]);
    assert_eq!(world.peer(1).unwrap().vtep.to_string(), "198.51.100.7");
}

#[test]
fn who_has_missed_little_is_told_little_and_who_has_missed_much_the_whole() {
    let mut world = World::new();
    let begun = world.tables.revision(&net());
    world.follow(&[Change::Create(in_network(1, 1, TaskState::Running).into())]);
    world.follow(&[Change::Create(in_network(2, 2, TaskState::Running).into())]);
    let News::Changes(changes) = world.tables.since(&net(), Some(begun)) else { panic!("too much is told") };
    let keys: Vec<EntryKey> = changes.iter().map(|(key, _)| *key).collect();
    assert_eq!(keys, [1, 2].map(|number| EntryKey::Task(TaskId::from_u128(number))));
    let newest = world.tables.revision(&net());
    assert_eq!(world.tables.since(&net(), Some(newest)), News::Changes(Vec::new()));
    for _ in 0..REMEMBERED {
        let mut service = world.store.service(ServiceId::from_u128(1)).unwrap().as_ref().clone();
        service.spec.template.networks[0].aliases.push("more".into());
        world.store.apply(world.store.index() + 1, &[Change::Update(service.into())]).unwrap();
        world.tables.advance(&Arc::new(world.store.clone()));
    }
    assert!(
        matches!(world.tables.since(&net(), Some(newest - 1)), News::Whole(entries) if entries.len() == 3)
    );
    assert!(matches!(world.tables.since(&net(), Some(newest)), News::Changes(changes) if changes.len() == 1));
}

#[test]
fn a_view_that_is_older_changes_nothing_and_a_network_that_goes_takes_its_table() {
    let mut world = World::new();
    let old = Arc::new(world.store.clone());
    world.follow(&[Change::Create(in_network(1, 1, TaskState::Running).into())]);
    world.tables.advance(&old);
    assert!(world.tables.take_changed().is_empty() && world.peer(1).is_some());
    world.follow(&[
        Change::Remove(Key::Task(TaskId::from_u128(1))),
        Change::Remove(Key::Service(ServiceId::from_u128(1))),
        Change::Remove(Key::Network(net())),
    ]);
    assert_eq!(world.tables.since(&net(), None), News::Whole(Vec::new()));
}

#[test]
fn keys_of_nodes_are_told_only_in_encrypted_networks_where_they_have_peers() {
    let key = |number| DataPathKey { public: [7; 32], number };
    let with_keys = |world: &World, id: u128, keys: &[DataPathKey]| {
        let mut node = Node::clone(world.store.node(NodeId::from_u128(id)).unwrap());
        node.description.as_mut().unwrap().data_path_keys = keys.to_vec();
        Change::Update(node.into())
    };
    let told = |world: &World, id: u128| {
        let table = world.tables.tables.get(&net())?;
        match table.entries.get(&EntryKey::Keys(NodeId::from_u128(id))).map(Arc::as_ref) {
            Some(OverlayEntry::Keys(told)) => Some((told.vtep.to_string(), told.keys.len())),
            _ => None,
        }
    };
    let mut plain = World::new();
    plain.follow(&[Change::Create(in_network(1, 1, TaskState::Running).into())]);
    assert!(plain.follow(&[with_keys(&plain, 1, &[key(1)])]).is_empty(), "keys are of no use there");

    let mut world = World::new();
    let mut secret = world.store.network(&net()).unwrap().as_ref().clone();
    secret.spec.options.insert("encrypted".into(), String::new());
    world.follow(&[Change::Update(secret.into())]);
    assert!(world.follow(&[with_keys(&world, 1, &[key(1)])]).is_empty(), "the node has nobody there");
    world.follow(&[Change::Create(in_network(1, 1, TaskState::Assigned).into())]);
    assert_eq!(told(&world, 1), Some(("192.0.2.1".into(), 1)));
    assert_eq!(world.follow(&[with_keys(&world, 1, &[key(2), key(1)])]), ["net1"]);
    assert_eq!(told(&world, 1), Some(("192.0.2.1".into(), 2)));
    assert_eq!(told(&world, 2), None);
    world.follow(&[report(1, TaskState::Shutdown)]);
    assert_eq!(told(&world, 1), None);
}

#[test]
fn no_node_takes_the_key_of_another_that_is_there() {
    let key = |byte| DataPathKey { public: [byte; 32], number: 1 };
    let mut world = World::new();
    let (one, two) = (NodeId::from_u128(1), NodeId::from_u128(2));
    let mut node = Node::clone(world.store.node(one).unwrap());
    node.description.as_mut().unwrap().data_path_keys = vec![key(1)];
    node.status.state = NodeState::Ready;
    world.follow(&[Change::Update(node.clone().into())]);
    let told = |world: &World, id| keys_of_its_own(&world.store, id, vec![key(1), key(2)]);
    assert_eq!(told(&world, two), [key(2)], "one is another's");
    assert_eq!(told(&world, one), [key(1), key(2)], "its own, and a new one");
    let mut node = Node::clone(world.store.node(one).unwrap());
    node.status.state = NodeState::Down;
    world.follow(&[Change::Update(node.into())]);
    assert_eq!(told(&world, two), [key(1), key(2)], "the machine has joined again as another node");
}

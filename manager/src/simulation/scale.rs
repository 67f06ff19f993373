//! How the cost of a change grows with the cluster.
//!
//! Start reading at the test. The figures are printed; what is asserted is only what even a busy machine keeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shoal_types::cluster::task_state::TaskState;
use shoal_types::{NodeId, TaskId};

use crate::decisions::Decisions;
use crate::fixtures::{at, cluster, node, service, status, task};
use crate::store::{Change, Object, Snapshot};

/// Replicas of each service.
const REPLICAS: u64 = 10;
/// Changes that are timed; the quickest counts, because others use the machine too.
const TRIES: u64 = 15;

/// A settled cluster of nodes with `per_node` running tasks each.
fn settled(n_nodes: u128, per_node: u128) -> (Arc<Snapshot>, Decisions) {
    let mut objects: Vec<Object> = vec![cluster().into()];
    objects.extend((1..=n_nodes).map(|number| Object::from(node(number))));
    let n_services = n_nodes * per_node / u128::from(REPLICAS);
    for number in 1..=n_services {
        let service = service(number, REPLICAS);
        for slot in 1..=REPLICAS {
            let id = number * u128::from(REPLICAS) + u128::from(slot);
            let mut task = task(id, &service, slot, TaskState::Running);
            task.node = Some(NodeId::from_u128(id % n_nodes + 1));
            task.started = Some(at(1));
            objects.push(task.into());
        }
        objects.push(service.into());
    }
    let mut store = Arc::new(Snapshot::from_objects(1, objects));
    let mut decisions = Decisions::with_id_sequence(1);
    settle(&mut store, &mut decisions, 10);
    (store, decisions)
}

fn settle(store: &mut Arc<Snapshot>, decisions: &mut Decisions, seconds: i64) {
    loop {
        let changes = decisions.step(store, at(seconds)).unwrap();
        if changes.is_empty() {
            return;
        }
        commit(store, &changes);
    }
}

fn commit(store: &mut Arc<Snapshot>, changes: &[Change]) {
    let mut next = Snapshot::clone(store);
    next.apply(next.index() + 1, changes).unwrap();
    *store = Arc::new(next);
}

/// How long it takes from the report of a task's start until everything that follows is decided and stored.
fn cost_of_a_report(n_nodes: u128, per_node: u128) -> Duration {
    let (mut store, mut decisions) = settled(n_nodes, per_node);
    let mut quickest = Duration::MAX;
    for number in 0..TRIES {
        let id = TaskId::from_u128(u128::from(REPLICAS) + 1 + u128::from(number));
        let begun = Instant::now();
        commit(
            &mut store,
            &[Change::ReportTask { task: id, status: status(TaskState::Running, at(11)), at: at(11) }],
        );
        settle(&mut store, &mut decisions, 11);
        quickest = quickest.min(begun.elapsed());
    }
    quickest
}

#[test]
fn a_change_costs_as_much_in_a_large_cluster_as_in_a_small_one() {
    let small = cost_of_a_report(10, 20);
    let large = cost_of_a_report(200, 50);
    println!("a report among 200 tasks: {small:?}, among 10,000: {large:?}");
    assert!(large < small * 4, "{small:?} {large:?}");
}

#[test]
fn a_lost_node_is_repaired_in_a_moment() {
    let (mut store, mut decisions) = settled(200, 50);
    let mut lost = store.node(NodeId::from_u128(7)).unwrap().status.clone();
    lost.state = shoal_types::cluster::node::NodeState::Down;
    let begun = Instant::now();
    commit(
        &mut store,
        &[Change::ReportNode { node: NodeId::from_u128(7), status: lost, description: None, at: at(20) }],
    );
    settle(&mut store, &mut decisions, 20);
    let elapsed = begun.elapsed();
    let n_placed = store.tasks().filter(|task| task.status.state == TaskState::Assigned).count();
    println!("{n_placed} tasks of a lost node placed in {elapsed:?}, unoptimised, among 200 nodes");
    assert_eq!(n_placed, 50);
    assert!(elapsed < Duration::from_secs(30));
}

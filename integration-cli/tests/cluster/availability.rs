//! Where tasks go when nodes are taken out or lost, and how an update keeps a service alive.

use std::time::Instant;

use integration_cli::condition::{eventually, within};
use integration_cli::report::note;
use integration_cli::{Test, cases};

use super::{Cluster, REST};

cases![
    a_paused_node_takes_nothing_new_and_a_drained_one_is_emptied,
    tasks_of_a_lost_worker_are_replaced,
    an_unhealthy_update_is_rolled_back_and_health_decides_what_runs,
    host_ports_are_had_once_on_each_node,
];

fn a_paused_node_takes_nothing_new_and_a_drained_one_is_emptied(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let one = cluster.node(1);
    let worker = cluster.node(2).docker("info --format {{.Swarm.NodeID}}").ok();
    one.docker("service create --detach --no-resolve-image --name web --replicas 2 busybox park").ok();
    cluster.await_running(1, "web", 2);
    let before = cluster.containers(2);
    assert_eq!(before.len(), 1);
    one.docker(&format!("node update --availability pause {worker}")).ok();
    one.docker("service scale --detach web=4").ok();
    cluster.await_running(1, "web", 4);
    assert_eq!(cluster.containers(2), before, "what it has it keeps, and gets nothing more");
    eventually("the node can be changed again", || {
        (one.docker(&format!("node update --availability drain {worker}")).code == 0).then_some(())
    });
    eventually("the drained node is empty", || cluster.containers(2).is_empty().then_some(()));
    cluster.await_running(1, "web", 4);
    cluster.dissolve();
}

fn tasks_of_a_lost_worker_are_replaced(t: &Test) {
    let cluster = Cluster::formed(t, 1, 2);
    let one = cluster.node(1);
    let manager = one.docker("info --format {{.Swarm.NodeID}}").ok();
    let lost = cluster.node(3).docker("info --format {{.Swarm.NodeID}}").ok();
    one.docker(&format!("node update --availability drain {manager}")).ok();
    one.docker(
        "service create --detach --no-resolve-image --name web --replicas 4 --restart-delay 0s busybox park",
    )
    .ok();
    cluster.await_running(1, "web", 4);
    assert_eq!(cluster.containers(3).len(), 2);
    cluster.lan.cut(3);
    let cut = Instant::now();
    within(REST, "everything runs elsewhere", || {
        let tasks = cluster.running(1, "web")?;
        (tasks.len() == 4 && tasks.iter().all(|task| task["NodeID"] != lost.as_str())).then_some(())
    });
    // The goal is eight seconds; a machine that tests several things at once may take longer.
    note(&format!("tasks of a lost worker were replaced after {:?}", cut.elapsed()));
    assert!(cut.elapsed().as_secs() < 30, "{:?}", cut.elapsed());
    assert_eq!(cluster.containers(3).len(), 2, "the lost worker has let nothing go");
    cluster.lan.mend(3);
    eventually("the copies are stopped", || cluster.containers(3).is_empty().then_some(()));
    cluster.await_ready(3);
    cluster.dissolve();
}

fn an_unhealthy_update_is_rolled_back_and_health_decides_what_runs(t: &Test) {
    let cluster = Cluster::formed(t, 1, 0);
    let one = cluster.node(1);
    one.docker(
        "service create --detach --no-resolve-image --name web --health-cmd 'test -f /ready' --health-interval 200ms \
         --health-retries 3 --health-start-period 5m --update-monitor 1s --update-failure-action rollback \
         --rollback-monitor 1s --restart-delay 100ms busybox park",
    )
    .ok();
    let id = eventually("its container is there", || {
        Some(one.docker("ps -q --filter is-task=true").ok()).filter(|id| !id.is_empty())
    });
    eventually("it waits for its health", || {
        let state = one.docker("service ps web --format {{.CurrentState}}").ok();
        state.starts_with("Starting").then_some(())
    });
    one.docker(&format!("exec {id} touch /ready")).ok();
    cluster.await_running(1, "web", 1);
    // The new task never becomes healthy: it fails, and the update is undone by itself.
    one.docker(
        "service update --detach --no-resolve-image --health-cmd false --health-start-period 0s --env-add A=1 web",
    )
    .ok();
    within(REST, "the update is rolled back", || {
        let state = one.docker("service inspect web --format {{.UpdateStatus.State}}").ok();
        state.starts_with("rollback").then_some(())
    });
    let id = within(REST, "the old form is started again", || {
        let spec =
            one.docker("service inspect web --format '{{json .Spec.TaskTemplate.ContainerSpec.Env}}'").ok();
        let id = one.docker("ps -q --filter is-task=true --filter health=starting").ok();
        (!spec.contains("A=1") && !id.is_empty() && !id.contains('\n')).then_some(id)
    });
    within(REST, "the rollback is complete", || {
        // Whichever container is there by now is made healthy.
        let now = one.docker("ps -q --filter is-task=true").ok();
        for id in now.lines().chain([id.as_str()]) {
            let _ = one.docker(&format!("exec {id} touch /ready"));
        }
        let state = one.docker("service inspect web --format {{.UpdateStatus.State}}").ok();
        (state == "rollback_completed").then_some(())
    });
    cluster.await_running(1, "web", 1);
    cluster.dissolve();
}

fn host_ports_are_had_once_on_each_node(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let one = cluster.node(1);
    one.docker(
        "service create --detach --no-resolve-image --name web --replicas 2 \
         --publish mode=host,published=8080,target=80 busybox park",
    )
    .ok();
    cluster.await_running(1, "web", 2);
    for number in [1, 2] {
        let ports = cluster.node(number).docker("ps --filter is-task=true --format {{.Ports}}").ok();
        assert!(ports.contains("8080->80/tcp"), "node {number}: {ports}");
    }
    one.docker("service scale --detach web=3").ok();
    eventually("the third has no place, and it is said why", || {
        let errors = one.docker("service ps web --no-trunc --format {{.Error}}").ok();
        errors.contains("host-mode port already in use on 2 nodes").then_some(())
    });
    cluster.dissolve();
}

//! Services on several nodes: made, scaled, changed, changed back, moved, removed; what their tasks see.

use integration_cli::condition::eventually;
use integration_cli::{Test, cases};
use serde_json::json;

use super::Cluster;

cases![
    a_service_lives_on_two_nodes,
    tasks_see_their_secrets_and_configs,
    a_failing_task_is_replaced,
    what_no_task_could_have_is_refused,
];

fn a_service_lives_on_two_nodes(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let one = cluster.node(1);
    one.docker("service create --detach --no-resolve-image --name web --replicas 2 busybox park").ok();
    cluster.await_running(1, "web", 2);
    for number in [1, 2] {
        let names = cluster.containers(number);
        assert!(names.len() == 1 && names[0].starts_with("web."), "spread over the nodes: {names:?}");
    }
    one.docker("service scale --detach web=4").ok();
    cluster.await_running(1, "web", 4);
    one.docker("service update --detach --no-resolve-image --env-add A=1 --update-parallelism 0 web").ok();
    eventually("the update is complete", || {
        let state = one.docker("service inspect web --format {{.UpdateStatus.State}}").ok();
        (state == "completed").then_some(())
    });
    let id = one.docker("ps -q --filter is-task=true").ok().lines().next().unwrap().to_owned();
    assert_eq!(one.docker(&format!("exec {id} sh -c 'echo $A'")).ok(), "1");
    one.docker("service rollback --detach web").ok();
    eventually("the rollback is complete", || {
        let state = one.docker("service inspect web --format {{.UpdateStatus.State}}").ok();
        (state == "rollback_completed").then_some(())
    });
    let worker = cluster.node(2).docker("info --format {{.Swarm.NodeID}}").ok();
    one.docker(&format!("node update --availability drain {worker}")).ok();
    eventually("the drained node is empty", || cluster.containers(2).is_empty().then_some(()));
    cluster.await_running(1, "web", 4);
    one.docker("service rm web").ok();
    for number in [1, 2] {
        eventually("containers are gone", || {
            cluster.node(number).docker("ps -aq --filter is-task=true").ok().is_empty().then_some(())
        });
    }
    cluster.dissolve();
}

fn tasks_see_their_secrets_and_configs(t: &Test) {
    let cluster = Cluster::formed(t, 1, 0);
    let one = cluster.node(1);
    one.docker_with_input("secret create pw -", b"s3cret").ok();
    one.docker_with_input("config create conf -", b"a=1").ok();
    one.docker_with_input("config create run -", b"#!/bin/sh\necho ran\n").ok();
    one.docker(
        "service create --detach --no-resolve-image --name web --secret source=pw,target=key,uid=7,mode=0400 \
         --config source=conf,target=/etc/app.conf --config source=run,target=/run.sh,mode=0555 --env SLOT={{.Task.Slot}} --hostname {{.Service.Name}}-{{.Task.Slot}} busybox park",
    )
    .ok();
    cluster.await_running(1, "web", 1);
    let id = one.docker("ps -q --filter is-task=true").ok();
    let inside = |line: &str| one.docker(&format!("exec {id} {line}")).ok();
    assert_eq!(inside("cat /run/secrets/key"), "s3cret");
    assert_eq!(inside("stat -c %u:%a /run/secrets/key"), "7:400");
    assert_eq!(inside("cat /etc/app.conf"), "a=1");
    assert_eq!(inside("stat -c %u:%a /etc/app.conf"), "0:444");
    assert_eq!(inside("/run.sh"), "ran");
    assert_eq!(inside("sh -c 'echo $SLOT'"), "1");
    assert_eq!(inside("hostname"), "web-1");
    let in_use = one.docker("secret rm pw");
    assert!(in_use.stderr.contains("is in use by the following service: web"), "{}", in_use.stderr);
    one.docker("service rm web").ok();
    cluster.dissolve();
}

fn a_failing_task_is_replaced(t: &Test) {
    let cluster = Cluster::formed(t, 1, 0);
    let one = cluster.node(1);
    one.docker("service create --detach --no-resolve-image --name web --restart-delay 100ms busybox park")
        .ok();
    let before = cluster.await_running(1, "web", 1);
    let id = one.docker("ps -q --filter is-task=true").ok();
    one.docker(&format!("kill {id}")).ok();
    eventually("another task runs", || {
        let now = cluster.running(1, "web")?;
        (now.len() == 1 && now[0]["ID"] != before[0]["ID"]).then_some(())
    });
    let history = one.docker("service ps web --no-trunc --format {{.Error}}").ok();
    assert!(history.contains("task: non-zero exit (137)"), "{history}");
    // Nobody listens at this port of the node itself.
    one.docker(
        "service create --detach --no-resolve-image --name none --restart-condition none 127.0.0.1:9/nothing:1 true",
    )
    .ok();
    eventually("the reason is told", || {
        let rows = one.docker("service ps none --no-trunc --format '{{.CurrentState}} {{.Error}}'").ok();
        ["Rejected", "127.0.0.1:9", "connection refused"].iter().all(|word| rows.contains(word)).then_some(())
    });
    cluster.dissolve();
}

fn what_no_task_could_have_is_refused(t: &Test) {
    let cluster = Cluster::bare(t, 1);
    cluster.form(1);
    let one = cluster.node(1);
    one.docker("network create -d bridge mine").ok();
    for (wish, reason) in [
        ("--env A={{.Nope}}", "InvalidArgument"),
        ("--hostname {{.Task.Nope}}", "InvalidArgument"),
        ("--mount type=bind,source=/{{.Node.Hostname,target=/data", "InvalidArgument"),
    ] {
        let refused =
            one.docker(&format!("service create --detach --no-resolve-image --name web {wish} busybox park"));
        assert!(refused.code != 0 && refused.stderr.contains(reason), "{wish}: {}", refused.stderr);
    }
    // The command line looks for networks of the cluster only, and does not get as far.
    let wish = json!({
        "Name": "web",
        "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}, "Networks": [{"Target": "mine"}]},
    });
    one.post_json("/services/create", &wish).expect_error(
        403,
        "The network mine cannot be used with services. Only networks scoped to the swarm can be used, such as those \
         created with the overlay driver.",
    );
    assert_eq!(one.docker("service ls -q").ok(), "");
    one.docker("network rm mine").ok();
    cluster.dissolve();
}

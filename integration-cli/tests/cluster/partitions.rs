//! Networks that fall apart: a minority refuses and keeps its tasks, a majority goes on, and both heal without help.
//!
//! Start reading at any case.

use integration_cli::condition::{eventually, within};
use integration_cli::{Test, cases};

use super::clients::Clients;
use super::{Cluster, REST};

cases![
    a_minority_refuses_writes_and_serves_its_tasks_until_the_network_heals,
    one_way_partitions_of_the_leader_stop_nobody,
];

const NO_LEADER: &str = "The swarm does not have a leader";

fn a_minority_refuses_writes_and_serves_its_tasks_until_the_network_heals(t: &Test) {
    let cluster = Cluster::formed(t, 3, 0);
    let (one, two) = (cluster.node(1), cluster.node(2));
    one.docker("service create --detach --no-resolve-image --name web --mode global --restart-delay 100ms busybox park").ok();
    cluster.await_running(1, "web", 3);
    let id = one.docker("ps -q --filter is-task=true").ok();
    cluster.lan.cut(1);
    within(REST, "the leader that was cut off refuses", || {
        let made = one.docker_with_input("config create lost -", b"x");
        assert!(made.code != 0, "a minority has acknowledged a write");
        made.stderr.contains(NO_LEADER).then_some(())
    });
    assert!(
        one.docker("service ls").stderr.contains(NO_LEADER),
        "nor does it answer what may be out of date"
    );
    one.docker(&format!("kill {id}")).ok();
    eventually("the minority starts its task again by itself", || {
        (one.docker("ps -q --filter is-task=true").ok() == id).then_some(())
    });
    within(REST, "the majority writes", || {
        (two.docker_with_input("config create kept -", b"x").code == 0).then_some(())
    });
    cluster.lan.mend(1);
    let configs = within(REST, "the minority has what was written without it", || {
        let listed = one.docker("config ls --format {{.Name}}");
        (listed.code == 0 && listed.stdout.contains("kept")).then_some(listed.stdout)
    });
    assert!(!configs.contains("lost"), "what was refused has not happened: {configs}");
    cluster.await_ready(3);
    cluster.await_running(2, "web", 3);
    cluster.dissolve();
}

fn one_way_partitions_of_the_leader_stop_nobody(t: &Test) {
    let cluster = Cluster::bare(t, 3);
    cluster.form(3);
    cluster.nodes.iter().for_each(|node| node.daemon().announce(""));
    let clients = Clients::begin(&cluster, 3, 1);
    clients.go_on("before anything happens");
    for how in ["hears and is not heard", "is heard and does not hear"] {
        let leader = eventually("somebody leads", || super::faults::leader(&cluster, 1));
        let port = u8::try_from(leader).unwrap();
        match how {
            "hears and is not heard" => cluster.lan.mute(port),
            _ => cluster.lan.deafen(port),
        }
        clients.go_on(&format!("while the leader, node {leader}, {how}"));
        cluster.lan.unmute();
        clients.go_on(&format!("with node {leader} again"));
    }
    cluster.await_ready(3);
    clients.judge(&cluster);
    cluster.dissolve();
}

//! What is left of a cluster that has lost its managers: one of them goes on alone, or another machine with a backup.

use std::fs;

use integration_cli::condition::{eventually, within};
use integration_cli::{Test, cases};

use super::{Cluster, REST, options};

cases![a_last_manager_goes_on_alone_when_forced, a_backup_brings_the_cluster_to_another_machine];

fn a_last_manager_goes_on_alone_when_forced(t: &Test) {
    let cluster = Cluster::formed(t, 3, 0);
    let three = cluster.node(3);
    three.docker("service create --detach --no-resolve-image --name web --mode global busybox park").ok();
    let tasks = cluster.await_running(3, "web", 3);
    let own = three.docker("ps -q --filter is-task=true").ok();
    for number in [1, 2] {
        cluster.node(number).daemon().kill();
    }
    within(REST, "the last one notices", || {
        three.docker("node ls").stderr.contains("The swarm does not have a leader").then_some(())
    });
    // It may be said twice, by whoever does not know whether the first time has worked.
    for _ in 0..2 {
        three.docker("swarm init --force-new-cluster").ok();
        assert_eq!(three.docker("service ls --format {{.Name}}").ok(), "web");
    }
    assert_eq!(three.docker("ps -q --filter is-task=true").ok(), own, "its task was not touched");
    let managers = three.docker("node ls --format {{.ManagerStatus}}").ok();
    assert_eq!(managers.lines().filter(|line| !line.is_empty()).count(), 1, "{managers}");
    // The others are strangers now: they leave and join anew, and what they were is removed.
    let token = three.docker("swarm join-token -q manager").ok();
    for number in [1, 2] {
        let node = cluster.node(number);
        node.daemon().start_again(&options(number));
        node.docker("swarm leave --force").ok();
        node.docker(&format!("swarm join --token {token} 192.0.2.3:2377")).ok();
    }
    eventually("all three are there", || {
        let nodes = cluster.try_list(3, "/nodes")?;
        (nodes.iter().filter(|node| node["Status"]["State"] == "ready").count() == 3).then_some(())
    });
    let gone = |node: &serde_json::Value| node["Status"]["State"] == "down";
    let nodes = within(REST, "the old ones are down", || {
        let nodes = cluster.try_list(3, "/nodes")?;
        (nodes.iter().filter(|node| gone(node)).count() == 2).then_some(nodes)
    });
    for node in nodes.iter().filter(|node| gone(node)) {
        three.docker(&format!("node rm {}", node["ID"].as_str().unwrap())).ok();
    }
    let after = cluster.await_running(3, "web", 3);
    assert!(after.iter().any(|task| tasks.iter().any(|old| old["ID"] == task["ID"])), "its own still runs");
    cluster.dissolve();
}

fn a_backup_brings_the_cluster_to_another_machine(t: &Test) {
    let cluster = Cluster::of(t, 2);
    let (one, two) = (cluster.node(1), cluster.node(2));
    one.docker("swarm init").ok();
    one.docker_with_input("secret create pw -", b"s3cret").ok();
    one.docker("service create --detach --no-resolve-image --name web --secret pw busybox park").ok();
    cluster.await_running(1, "web", 1);
    let (root, token) = (one.docker("swarm ca").ok(), one.docker("swarm join-token -q worker").ok());
    assert_eq!(two.get("/swarm/backup").status, 503);
    let backup = one.get("/swarm/backup").expect(200).text();
    let file = two.daemon().machine().root().join("backup");
    fs::write(&file, &backup).unwrap();
    let flags = format!("--from {} --advertise-addr 192.0.2.2", file.display());
    let refused = two.daemon().run_verb_with("restore-swarm", &flags);
    assert!(refused.code != 0, "not while the daemon runs: {refused:?}");
    two.daemon().stop();
    one.daemon().kill();
    let said = two.daemon().run_verb_with("restore-swarm", &flags).ok();
    assert!(said.contains("is restored"), "{said}");
    let again = two.daemon().run_verb_with("restore-swarm", &flags);
    assert!(again.stderr.contains("is not empty"), "{again:?}");
    two.daemon().start_again(&options(2));
    eventually("the restored manager answers", || (two.docker("node ls").code == 0).then_some(()));
    assert_eq!(two.docker("swarm ca").ok(), root);
    assert_eq!(two.docker("swarm join-token -q worker").ok(), token);
    // The node of the backup is gone, so its task is made anew here, with its secret.
    cluster.await_running(2, "web", 1);
    let id = within(REST, "the task runs here", || {
        Some(two.docker("ps -q --filter is-task=true").ok()).filter(|id| !id.is_empty())
    });
    assert_eq!(two.docker(&format!("exec {id} cat /run/secrets/pw")).ok(), "s3cret");
    one.daemon().start_again(&options(1));
    cluster.dissolve();
}

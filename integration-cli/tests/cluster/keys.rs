//! Keys and certificates: the authority exchanged under way, managers locked by a key of the administrator's.

use integration_cli::condition::eventually;
use integration_cli::{Test, cases};

use super::{Cluster, options};

cases![the_authority_is_exchanged_as_the_command_line_shows_it, a_locked_manager_opens_with_its_key];

fn the_authority_is_exchanged_as_the_command_line_shows_it(t: &Test) {
    let cluster = Cluster::formed(t, 1, 1);
    let one = cluster.node(1);
    one.docker("service create --detach --no-resolve-image --name web --replicas 2 busybox park").ok();
    let tasks = cluster.await_running(1, "web", 2);
    let (root, token) = (one.docker("swarm ca").ok(), one.docker("swarm join-token -q worker").ok());
    let shown = one.docker("swarm ca --rotate").ok();
    assert!(shown.contains("desired root digest: sha256:"), "{shown}");
    assert!(shown.contains("rotated TLS certificates:"), "{shown}");
    let now = one.docker("swarm ca").ok();
    assert!(now != root && shown.ends_with(&now), "the new certificate is printed last: {shown}");
    assert_ne!(one.docker("swarm join-token -q worker").ok()[..60], token[..60]);
    let refused = one.docker("swarm ca --rotate --ca-cert /proc/self/exe");
    assert_ne!(refused.code, 0, "what is no certificate is refused");
    one.docker("service scale --detach web=3").ok();
    let after = cluster.await_running(1, "web", 3);
    assert!(tasks.iter().all(|task| after.iter().any(|now| now["ID"] == task["ID"])), "no task was touched");
    // Everybody finds everybody again with what was written down.
    for number in [2, 1] {
        cluster.node(number).daemon().stop();
        cluster.node(number).daemon().start_again(&options(number));
    }
    eventually("the manager answers", || (one.docker("node ls").code == 0).then_some(()));
    cluster.await_ready(2);
    cluster.dissolve();
}

fn a_locked_manager_opens_with_its_key(t: &Test) {
    let cluster = Cluster::formed(t, 1, 0);
    let one = cluster.node(1);
    one.docker("service create --detach --no-resolve-image --name web busybox park").ok();
    let tasks = cluster.await_running(1, "web", 1);
    let shown = one.docker("swarm update --autolock=true").ok();
    let first = shown.lines().find_map(|line| line.trim().strip_prefix("SWMKEY-")).expect("the key is shown");
    let first = format!("SWMKEY-{first}");
    let rotated = one.docker("swarm unlock-key --rotate -q").ok();
    assert!(rotated.starts_with("SWMKEY-1-") && rotated != first);
    assert_eq!(one.docker("swarm unlock-key -q").ok(), rotated);
    restart(&cluster);
    let state = || one.docker("info --format {{.Swarm.LocalNodeState}}").ok();
    assert_eq!(state(), "locked");
    assert!(one.docker("node ls").stderr.contains("Swarm is encrypted and needs to be unlocked"));
    let pid = |state: &str| one.docker(&format!("ps -q --filter is-task=true --filter status={state}")).ok();
    assert!(!pid("running").is_empty(), "its tasks go on while it is locked");
    let wrong = one.docker_with_input("swarm unlock", format!("{first}\n").as_bytes());
    assert!(wrong.stderr.contains("swarm could not be unlocked: invalid key provided"), "{}", wrong.stderr);
    one.docker_with_input("swarm unlock", format!("{rotated}\n").as_bytes()).ok();
    eventually("the manager answers", || (one.docker("node ls").code == 0).then_some(()));
    let after = cluster.await_running(1, "web", 1);
    assert_eq!(after[0]["ID"], tasks[0]["ID"]);
    assert!(one.docker("swarm unlock").stderr.contains("swarm is not locked"));
    one.docker("swarm update --autolock=false").ok();
    assert!(one.docker("swarm unlock-key -q").stderr.contains("no unlock key is set"));
    eventually("it starts unlocked", || {
        restart(&cluster);
        (state() == "active").then_some(())
    });
    cluster.dissolve();
}

fn restart(cluster: &Cluster) {
    cluster.node(1).daemon().stop();
    cluster.node(1).daemon().start_again(&options(1));
}

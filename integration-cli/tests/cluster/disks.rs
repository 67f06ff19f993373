//! Managers whose disks fail them: full, slow, not answering at all.
//!
//! Start reading at any case. A manager's data lie on a file system of their own, small or one that can be frozen: what is written to
//! a frozen one waits, as with a disk that does not answer.

use std::time::{Duration, Instant};

use integration_cli::condition::{eventually, within};
use integration_cli::http::Request;
use integration_cli::report::note;
use integration_cli::{OwnDaemon, Test, cases};
use serde_json::{Value, json};

use super::clients::Clients;
use super::{Cluster, REST, options};

cases![
    a_leader_whose_disk_is_full_is_replaced_and_returns_when_there_is_room,
    a_leader_whose_disk_is_slow_or_hangs_holds_nobody_up_for_long,
];

/// For how long a disk does not answer.
const HANG: Duration = Duration::from_secs(10);

/// Puts a file system in place of a daemon's data, which are forgotten.
#[track_caller]
fn give_disk(node: &OwnDaemon, number: usize, mount: &str) {
    node.daemon().stop();
    let root = node.daemon().machine().root().display().to_string();
    node.host(&format!("set -e; cd {root}; rm -rf data; mkdir data; {mount}")).ok();
    node.daemon().start_again(&options(number));
}

fn data(node: &OwnDaemon) -> String {
    node.daemon().machine().root().join("data").display().to_string()
}

/// Creates a config of 400 KiB, sixteen of which are more than there is room for in what a store has taken of the disk.
#[track_caller]
fn create_large(through: &OwnDaemon, number: usize) {
    let spec = json!({"Name": format!("c{number}"), "Data": "A".repeat(400 << 10)});
    within(REST, "writes are acknowledged", || {
        let reply = through.try_send(Request::new("POST", "/configs/create").json(&spec)).ok()?;
        (reply.status == 201 || reply.message().contains("already exists")).then_some(())
    });
}

fn a_leader_whose_disk_is_full_is_replaced_and_returns_when_there_is_room(t: &Test) {
    let cluster = Cluster::bare(t, 3);
    cluster.nodes.iter().for_each(|node| node.daemon().announce(""));
    let (one, two) = (cluster.node(1), cluster.node(2));
    give_disk(one, 1, "mount -t tmpfs -o size=64m shoal-it data");
    cluster.form(3);
    let fill = format!("{}/fill", data(one));
    one.host(&format!("dd if=/dev/zero of={fill} bs=64k 2>/dev/null; test -s {fill}")).ok();
    let mut longest = Duration::ZERO;
    for number in 0..16 {
        let begun = Instant::now();
        create_large(two, number);
        longest = longest.max(begun.elapsed());
    }
    note(&format!("the longest write while the disk of the leader was full took {longest:?}"));
    assert_ne!(eventually("somebody leads", || super::faults::leader(&cluster, 2)), 1);
    one.host(&format!("rm {fill}")).ok();
    let freed = Instant::now();
    within(REST, "the manager is back and has everything", || {
        (cluster.try_list(1, "/configs")?.len() == 16).then_some(())
    });
    within(REST, "it takes part again", || {
        let nodes = cluster.try_list(2, "/nodes")?;
        let is_reachable = |node: &&Value| node["ManagerStatus"]["Reachability"] == "reachable";
        (nodes.iter().filter(is_reachable).count() == 3).then_some(())
    });
    note(&format!("it took part again {:?} after there was room", freed.elapsed()));
    cluster.dissolve();
}

fn a_leader_whose_disk_is_slow_or_hangs_holds_nobody_up_for_long(t: &Test) {
    let cluster = Cluster::bare(t, 3);
    cluster.nodes.iter().for_each(|node| node.daemon().announce(""));
    let one = cluster.node(1);
    if one.host("losetup --find").code != 0 {
        integration_cli::skip("there is no loop device here");
    }
    give_disk(one, 1, "truncate -s 128m disk; mkfs.ext4 -q disk; mount -o loop disk data");
    cluster.form(3);
    let clients = Clients::begin(&cluster, 3, 1);
    clients.go_on("before anything happens");
    let data = data(one);
    let until_over = |what: &str| {
        within(REST, what, || (one.host("test -e /run/over").code == 0).then_some(()));
        one.host("rm /run/over").ok();
    };
    // Detached, so that the file system thaws whatever becomes of the test.
    let beside = |script: &str| {
        one.host(&format!("setsid sh -c '{script}; touch /run/over' >/dev/null 2>&1 &")).ok();
    };
    // Two thirds of the time nothing is written.
    beside(&format!(
        "for i in $(seq 20); do fsfreeze -f {data}; sleep 0.2; fsfreeze -u {data}; sleep 0.1; done"
    ));
    clients.go_on("while the disk of the leader is slow");
    until_over("the disk is quick again");
    clients.go_on("with a quick disk again");
    beside(&format!("fsfreeze -f {data}; sleep {}; fsfreeze -u {data}", HANG.as_secs()));
    clients.go_on("while the disk of the leader hangs");
    until_over("the disk answers again");
    clients.go_on("with a disk that answers again");
    cluster.await_ready(3);
    clients.judge(&cluster);
    cluster.dissolve();
}

//! Operations, each of which the daemon dies of at each of its points.

use integration_cli::condition::eventually;
use integration_cli::{Test, cases, skip};
use serde_json::Value;

use super::wreck::{Operation, Wreck, is_long};

cases![
    a_run_to_its_end,
    a_run_that_removes_itself,
    a_start_with_a_restart_policy,
    a_stop,
    a_forced_removal,
    a_restart,
    a_pause,
    a_rename,
    a_network,
    a_connection_to_a_network,
    a_volume,
    a_commit_and_the_removal_of_its_image,
    a_load,
    an_exec,
];

fn long_only() {
    if !is_long() {
        skip("part of the long sweep (SHOAL_CRASH_SWEEP=long)");
    }
}

/// What is known of a container; `None` when it is not there.
pub(super) fn known(d: &Wreck, name: &str) -> Option<Value> {
    let reply = d.get(&format!("/containers/{name}/json"));
    assert!(matches!(reply.status, 200 | 404), "{reply:?}");
    (reply.status == 200).then(|| reply.json())
}

pub(super) fn status(known: &Value) -> &str {
    known["State"]["Status"].as_str().unwrap()
}

/// Waits until a container has come to rest, and returns what is known of it then.
pub(super) fn at_rest(d: &Wreck, name: &str) -> Option<Value> {
    eventually("the container is at rest", || match known(d, name) {
        None => Some(None),
        Some(found) if matches!(status(&found), "created" | "exited") => Some(Some(found)),
        Some(_) => None,
    })
}

/// Removes a container that may not be there, and everything else that an operation may have made under the name.
pub(super) fn remove_all(d: &Wreck, name: &str) {
    if known(d, name).is_some() {
        d.docker(&format!("rm -f -v {name}")).ok();
    }
    for (list, remove) in [("network ls -q", "network rm"), ("volume ls -q", "volume rm")] {
        for found in d.docker(&format!("{list} --filter name={name}")).ok().lines() {
            d.docker(&format!("{remove} {found}")).ok();
        }
    }
}

/// That a container which ran to its end ended as its program did, with its output kept once.
pub(super) fn ended_well(d: &Wreck, name: &str, found: &Value, code: i64, output: &str) {
    let state = &found["State"];
    if status(found) == "created" || state["Error"] != "" {
        return;
    }
    assert_eq!(state["ExitCode"], code, "{state}");
    let shown = d.docker(&format!("logs {name}"));
    assert_eq!(shown.clone().ok().trim(), output, "{shown:?}");
}

fn a_run_to_its_end(t: &Test) {
    Wreck::new(t).at_every_point(&Operation {
        prepare: |_, _| {},
        act: |d, name| {
            let line = format!(
                "run --name {name} -p 7300:80 -v {name}-vol:/data -v /anon busybox sh -c 'echo one; echo two; exit 3'"
            );
            d.docker(&line).code == 3
        },
        check: |d, name, told| match at_rest(d, name) {
            Some(found) => {
                ended_well(d, name, &found, 3, "one\ntwo");
                assert!(!told || status(&found) == "exited", "{found}");
            }
            None => assert!(!told, "a container is lost"),
        },
        remove: remove_all,
    });
}

fn a_run_that_removes_itself(t: &Test) {
    Wreck::new(t).at_every_point(&Operation {
        prepare: |_, _| {},
        act: |d, name| d.docker(&format!("run --rm --name {name} -v /anon busybox true")).code == 0,
        check: |d, name, _| {
            let gone = eventually("it has removed itself", || match known(d, name) {
                None => Some(true),
                // It never ran, so it never ended.
                Some(found) if status(&found) == "created" => Some(false),
                Some(_) => None,
            });
            if gone {
                assert_eq!(d.docker("volume ls -q").ok(), "", "its anonymous volume goes with it");
            }
        },
        remove: remove_all,
    });
}

fn a_start_with_a_restart_policy(t: &Test) {
    Wreck::new(t).at_every_point(&Operation {
        prepare: |d, name| {
            d.docker(&format!("network create {name}-net")).ok();
            let line =
                format!("create --name {name} --restart always --network {name}-net -p 7301:80 busybox park");
            d.docker(&line).ok();
        },
        act: |d, name| d.docker(&format!("start {name}")).code == 0,
        check: |d, name, told| {
            let found = eventually("it is decided", || {
                known(d, name).filter(|found| matches!(status(found), "created" | "running"))
            });
            assert!(!told || status(&found) == "running", "{found}");
            if status(&found) == "running" {
                assert_eq!(d.docker(&format!("exec {name} echo inside")).ok(), "inside");
                assert_ne!(found["NetworkSettings"]["Networks"][format!("{name}-net")]["IPAddress"], "");
            }
        },
        remove: remove_all,
    });
}

fn start_parking(d: &Wreck, name: &str) {
    d.docker(&format!("run -d --name {name} -p 7302:80 -v /anon busybox park")).ok();
}

fn a_stop(t: &Test) {
    Wreck::new(t).at_every_point(&Operation {
        prepare: |d, name| {
            d.docker(&format!("run -d --name {name} --restart unless-stopped -p 7302:80 busybox park")).ok();
        },
        act: |d, name| d.docker(&format!("stop {name}")).code == 0,
        check: |d, name, told| {
            let found = eventually("it is decided", || {
                known(d, name).filter(|found| matches!(status(found), "exited" | "running"))
            });
            assert!(!told || status(&found) == "exited", "a stopped container runs again: {found}");
            if status(&found) == "exited" {
                assert_eq!(found["State"]["ExitCode"], 0, "{found}");
            }
        },
        remove: remove_all,
    });
}

fn a_forced_removal(t: &Test) {
    Wreck::new(t).at_every_point(&Operation {
        prepare: start_parking,
        act: |d, name| d.docker(&format!("rm -f -v {name}")).code == 0,
        check: |d, name, told| {
            let found = known(d, name);
            assert!(!told || found.is_none(), "a removed container is there: {found:?}");
        },
        remove: |d, name| {
            remove_all(d, name);
            // Its name, port and address are free again.
            d.docker(&format!("run --rm --name {name} -p 7302:80 busybox true")).ok();
        },
    });
}

fn a_restart(t: &Test) {
    long_only();
    Wreck::new(t).at_every_point(&Operation {
        prepare: start_parking,
        act: |d, name| d.docker(&format!("restart {name}")).code == 0,
        check: |d, name, told| {
            let found = eventually("it is decided", || {
                known(d, name).filter(|found| matches!(status(found), "exited" | "running"))
            });
            assert!(!told || status(&found) == "running", "{found}");
        },
        remove: remove_all,
    });
}

fn a_pause(t: &Test) {
    long_only();
    Wreck::new(t).at_every_point(&Operation {
        prepare: start_parking,
        act: |d, name| {
            d.docker(&format!("pause {name}")).code == 0 && d.docker(&format!("unpause {name}")).code == 0
        },
        check: |d, name, told| {
            let found = known(d, name).expect("the container");
            assert!(!told || status(&found) == "running", "{found}");
            if status(&found) == "paused" {
                d.docker(&format!("unpause {name}")).ok();
            }
            assert_eq!(d.docker(&format!("exec {name} echo inside")).ok(), "inside");
        },
        remove: remove_all,
    });
}

fn a_rename(t: &Test) {
    long_only();
    Wreck::new(t).at_every_point(&Operation {
        prepare: start_parking,
        act: |d, name| d.docker(&format!("rename {name} {name}-new")).code == 0,
        check: |d, name, told| {
            let (old, new) = (known(d, name), known(d, &format!("{name}-new")));
            assert!(old.is_some() != new.is_some(), "one name, not {old:?} and {new:?}");
            assert!(!told || new.is_some());
        },
        remove: |d, name| {
            remove_all(d, &format!("{name}-new"));
            remove_all(d, name);
        },
    });
}

fn networks(d: &Wreck, name: &str) -> usize {
    d.docker(&format!("network ls -q --filter name={name}")).ok().lines().count()
}

fn a_network(t: &Test) {
    let wreck = Wreck::new(t);
    wreck.at_every_point(&Operation {
        prepare: |_, _| {},
        act: |d, name| d.docker(&format!("network create --subnet 10.57.0.0/24 {name}")).code == 0,
        check: |d, name, told| {
            assert!(networks(d, name) == 1 || !told, "a network is lost");
            if networks(d, name) == 1 {
                d.docker(&format!("run --rm --network {name} --ip 10.57.0.9 busybox true")).ok();
            }
        },
        remove: remove_all,
    });
    wreck.at_every_point(&Operation {
        prepare: |d, name| {
            d.docker(&format!("network create --subnet 10.57.0.0/24 {name}")).ok();
        },
        act: |d, name| d.docker(&format!("network rm {name}")).code == 0,
        check: |d, name, told| assert!(networks(d, name) == 0 || !told, "a removed network is there"),
        remove: |d, name| {
            remove_all(d, name);
            d.docker(&format!("network create --subnet 10.57.0.0/24 {name}")).ok();
            d.docker(&format!("network rm {name}")).ok();
        },
    });
}

fn a_connection_to_a_network(t: &Test) {
    long_only();
    let wreck = Wreck::new(t);
    let operation = Operation {
        prepare: |d, name| {
            d.docker(&format!("network create {name}-net")).ok();
            start_parking(d, name);
        },
        act: |d, name| {
            d.docker(&format!("network connect --alias other {name}-net {name}")).code == 0
                && d.docker(&format!("network disconnect {name}-net {name}")).code == 0
        },
        check: |d, name, told| {
            let found = known(d, name).expect("the container");
            assert_eq!(status(&found), "running");
            let connected = found["NetworkSettings"]["Networks"][format!("{name}-net")].is_object();
            let interfaces = d.docker(&format!("exec {name} ls /sys/class/net")).ok();
            assert_eq!(interfaces.contains("eth1"), connected, "{interfaces} in {found}");
            assert!(!told || !connected, "{found}");
        },
        remove: remove_all,
    };
    wreck.at_every_point(&operation);
}

fn a_volume(t: &Test) {
    let wreck = Wreck::new(t);
    let volumes = |d: &Wreck, name: &str| d.docker(&format!("volume ls -q --filter name={name}")).ok();
    assert_eq!(volumes(&wreck, "none"), "");
    wreck.at_every_point(&Operation {
        prepare: |_, _| {},
        act: |d, name| {
            d.docker(&format!("volume create {name}")).code == 0
                && d.docker(&format!("volume rm {name}")).code == 0
        },
        check: |d, name, told| {
            let there = d.docker(&format!("volume ls -q --filter name={name}")).ok();
            assert!(!told || there.is_empty(), "a removed volume is there");
            // Whether or not it is there, the name can be used.
            d.docker(&format!("run --rm -v {name}:/data busybox touch /data/file")).ok();
        },
        remove: remove_all,
    });
}

fn a_commit_and_the_removal_of_its_image(t: &Test) {
    long_only();
    Wreck::new(t).at_every_point(&Operation {
        prepare: |d, name| {
            d.docker(&format!("run --name {name} busybox sh -c 'echo x > /made'")).ok();
        },
        act: |d, name| {
            d.docker(&format!("commit {name} {name}:v1")).code == 0
                && d.docker(&format!("rmi {name}:v1")).code == 0
        },
        check: |d, name, told| {
            let there = d.docker(&format!("image ls -q {name}")).ok();
            assert!(!told || there.is_empty(), "a removed image is there");
            if !there.is_empty() {
                assert_eq!(d.docker(&format!("run --rm {name}:v1 cat /made")).ok(), "x");
            }
        },
        remove: |d, name| {
            remove_all(d, name);
            if !d.docker(&format!("image ls -q {name}")).ok().is_empty() {
                d.docker(&format!("rmi {name}:v1")).ok();
            }
            // What a transfer that was cut short has left is kept for the next one; a prune takes it away.
            d.docker("image prune -f").ok();
        },
    });
}

fn a_load(t: &Test) {
    long_only();
    Wreck::new(t).at_every_point(&Operation {
        prepare: |d, name| {
            let file = d.directory("saved").join("image.tar");
            d.docker(&format!("run --name {name} busybox sh -c 'echo x > /made'")).ok();
            d.docker(&format!("commit {name} {name}:v1")).ok();
            d.docker(&format!("save -o {} {name}:v1", file.display())).ok();
            d.docker(&format!("rmi {name}:v1")).ok();
            d.docker(&format!("rm {name}")).ok();
            std::fs::rename(&file, d.daemon().machine().root().join("load.tar")).unwrap();
        },
        act: |d, _| {
            let file = d.daemon().machine().root().join("load.tar");
            d.docker(&format!("load -q -i {}", file.display())).code == 0
        },
        check: |d, name, told| {
            let there = d.docker(&format!("image ls -q {name}")).ok();
            assert!(!told || !there.is_empty(), "a loaded image is lost");
            if !there.is_empty() {
                assert_eq!(d.docker(&format!("run --rm {name}:v1 cat /made")).ok(), "x");
            }
        },
        remove: |d, name| {
            if !d.docker(&format!("image ls -q {name}")).ok().is_empty() {
                d.docker(&format!("rmi {name}:v1")).ok();
            }
            // What a transfer that was cut short has left is kept for the next one; a prune takes it away.
            d.docker("image prune -f").ok();
        },
    });
}

fn an_exec(t: &Test) {
    // An exec is not durable: it has no commits, and its shim knows it. What remains is that the container is unharmed.
    long_only();
    let wreck = Wreck::new(t);
    let name = wreck.name("exec");
    start_parking(&wreck, &name);
    let running = wreck.docker_start(&format!("exec {name} sleep 1"));
    wreck.daemon().kill();
    running.finish();
    wreck.come_back();
    assert_eq!(wreck.docker(&format!("exec {name} echo inside")).ok(), "inside");
    remove_all(&wreck, &name);
}

//! The daemon, CRIU or the shim is killed while CRIU writes a state down.
//!
//! Start reading at [`Held::begin`]: CRIU is stopped after it has taken hold of the container's processes and before it is done, and
//! stands still until the case lets it go on. So what happens meanwhile happens amid the checkpoint, and not at some moment.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use integration_cli::condition::{eventually, poll};
use integration_cli::process::Running;
use integration_cli::{Container, OwnDaemon, Test, cases, guard, skip};
use rustix::process::{Pid, Signal, kill_process};

use super::{COUNT, assert_counted_on, await_counts, checkpointing, is_shoal, options};
use crate::crash::inventory;

cases![
    a_checkpoint_is_seen_through_without_a_daemon,
    the_next_daemon_finds_a_checkpoint_that_is_being_made,
    a_container_that_was_to_run_on_does_so_under_the_next_daemon,
    a_checkpoint_that_fails_lets_the_container_run_on,
    a_checkpoint_that_fails_without_a_daemon_leaves_nothing,
    a_checkpoint_that_dies_with_its_shim_is_none,
];

/// A daemon that has made a container before, and what its machine looks like without one.
struct Bench {
    daemon: OwnDaemon,
    healthy: BTreeSet<String>,
}

impl std::ops::Deref for Bench {
    type Target = OwnDaemon;

    fn deref(&self) -> &OwnDaemon {
        &self.daemon
    }
}

impl Bench {
    fn new(t: &Test) -> Self {
        if !is_shoal(t) {
            skip("the reference does not find its way");
        }
        let daemon = checkpointing(t);
        daemon.docker("run --rm --runtime other -p 80 busybox true").ok();
        // What the container had may go a moment after it.
        let mut healthy = inventory::take(&daemon);
        eventually("the machine is at rest", || {
            let now = inventory::take(&daemon);
            let before = std::mem::replace(&mut healthy, now);
            (before == healthy).then_some(())
        });
        Self { daemon, healthy }
    }

    fn count(&self) -> Container {
        let container = self.start(&format!("--runtime other --restart unless-stopped -p 80 {COUNT}"));
        await_counts(self, &container, 3);
        container
    }

    fn come_back(&self) {
        self.daemon().start_again(&options());
    }

    fn names(&self, container: &Container) -> String {
        let listed = self.docker(&format!("checkpoint ls {container}")).ok();
        listed.lines().skip(1).collect::<Vec<_>>().join(" ")
    }

    fn pid(&self, container: &Container) -> u64 {
        self.inspect(container)["State"]["Pid"].as_u64().unwrap()
    }

    /// Goes on from a checkpoint that was made while nobody looked, and looks for leftovers of it.
    fn assert_whole(&self, container: &Container, name: &str) {
        self.await_status(container, "exited");
        assert_eq!(self.inspect(container)["State"]["ExitCode"], 137, "as after every checkpoint");
        assert_eq!(self.names(container), name);
        self.docker(&format!("start --checkpoint {name} {container}")).ok();
        await_counts(self, container, 3);
        assert_counted_on(self, container);
        assert_eq!(entries(&directory(self, container)), [name]);
        self.assert_clean_without(container);
    }

    /// The container goes on from its checkpoint, after it has ended.
    fn assert_goes_on(&self, container: &Container) {
        self.await_status(container, "exited");
        self.docker(&format!("start --checkpoint first {container}")).ok();
        await_counts(self, container, 3);
        assert_eq!(self.status(container), "running");
    }

    /// The container runs on as if no checkpoint had been asked for, and another one succeeds.
    fn assert_untouched(&self, container: &Container) {
        await_counts(self, container, 3);
        assert_counted_on(self, container);
        assert_eq!(self.status(container), "running");
        assert_eq!(self.names(container), "");
        assert_eq!(entries(&directory(self, container)), [""; 0]);
        self.docker(&format!("checkpoint create {container} first")).ok();
        self.assert_whole(container, "first");
    }

    /// Removes the container and waits until the machine looks as it did at first.
    fn assert_clean_without(&self, container: &Container) {
        self.docker(&format!("rm -f {container}")).ok();
        let mut now = BTreeSet::new();
        let clean = poll(integration_cli::condition::PATIENCE, &mut || {
            now = inventory::take(&self.daemon);
            (now == self.healthy && of_criu(self).is_empty()).then_some(())
        });
        let more: Vec<_> = now.difference(&self.healthy).collect();
        let less: Vec<_> = self.healthy.difference(&now).collect();
        assert!(clean.is_some(), "too much {more:#?} {:?}, too little {less:#?}", of_criu(self));
    }
}

/// A checkpoint amid which CRIU stands still.
struct Held {
    client: Running,
    criu: Vec<Pid>,
}

impl Held {
    /// Asks for the checkpoint `first`, and stops CRIU once it has begun to write.
    fn begin(d: &OwnDaemon, container: &Container, option: &str) -> Self {
        let client = d.docker_start(&format!("checkpoint create {option} {container} first"));
        let draft = directory(d, container).join(".first.unfinished");
        eventually("CRIU writes processes down", || {
            entries(&draft).iter().any(|name| name.starts_with("core-")).then_some(())
        });
        let criu = of_criu(d);
        signal(&criu, Signal::STOP);
        eventually("CRIU stands still", || criu.iter().all(|pid| is_stopped(*pid)).then_some(()));
        assert!(draft.exists() && !criu.is_empty(), "CRIU was done before it could be stopped");
        Self { client, criu }
    }

    /// The daemon is killed; its client is told nothing good.
    fn kill_daemon(&mut self, d: &OwnDaemon) {
        d.daemon().kill();
        eventually("the client gives up", || self.client.has_ended().then_some(()));
    }

    fn go_on(&self) {
        signal(&self.criu, Signal::CONT);
    }

    fn kill_criu(&self) {
        signal(&self.criu, Signal::KILL);
    }
}

fn signal(processes: &[Pid], signal: Signal) {
    for pid in processes {
        // Helpers of CRIU may end by themselves.
        let _ = kill_process(*pid, signal);
    }
}

/// CRIU on the daemon's machine, and its helpers.
fn of_criu(d: &OwnDaemon) -> Vec<Pid> {
    let members = guard::members(d.daemon().machine().name());
    let is_criu =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "criu\n");
    members.into_iter().filter(is_criu).filter_map(Pid::from_raw).collect()
}

fn is_stopped(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_none_or(|state| state.trim_start().starts_with(['T', 'Z']))
}

/// Where the container's checkpoints are.
fn directory(d: &OwnDaemon, container: &Container) -> PathBuf {
    d.daemon().machine().root().join("data/containers").join(&container.id).join("checkpoints")
}

/// Names in a directory that need not be there.
fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The shim of the machine's only container.
fn shims(d: &OwnDaemon) -> Vec<Pid> {
    let members = guard::members(d.daemon().machine().name());
    let is_shim =
        |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "shoal-shim\n");
    members.into_iter().filter(is_shim).filter_map(Pid::from_raw).collect()
}

fn a_checkpoint_is_seen_through_without_a_daemon(t: &Test) {
    let d = Bench::new(t);
    let container = d.count();
    let mut held = Held::begin(&d, &container, "");
    held.kill_daemon(&d);
    held.go_on();
    eventually("the shim is done", || shims(&d).is_empty().then_some(()));
    d.come_back();
    d.assert_whole(&container, "first");
}

fn the_next_daemon_finds_a_checkpoint_that_is_being_made(t: &Test) {
    let d = Bench::new(t);
    let container = d.count();
    let mut held = Held::begin(&d, &container, "");
    held.kill_daemon(&d);
    d.come_back();
    assert_eq!(d.status(&container), "running");
    assert_eq!(d.names(&container), "", "half a checkpoint is none");
    let start = d.post(&format!("/containers/{container}/start?checkpoint=first"));
    assert_eq!(start.status, 304, "{start:?}");
    let path = format!("/containers/{container}/checkpoints");
    let again = d.post_json(&path, &serde_json::json!({"CheckpointID": "first"}));
    again.expect_error_holding(409, "another checkpoint of the container is being made");
    held.go_on();
    d.assert_whole(&container, "first");
}

fn a_container_that_was_to_run_on_does_so_under_the_next_daemon(t: &Test) {
    let d = Bench::new(t);
    let container = d.count();
    let pid = d.pid(&container);
    let mut held = Held::begin(&d, &container, "--leave-running");
    held.kill_daemon(&d);
    d.come_back();
    assert_eq!(d.names(&container), "");
    held.go_on();
    eventually("the checkpoint is whole", || (d.names(&container) == "first").then_some(()));
    await_counts(&d, &container, 3);
    assert_counted_on(&d, &container);
    assert_eq!((d.pid(&container), d.status(&container).as_str()), (pid, "running"));
    d.docker(&format!("kill {container}")).ok();
    d.assert_goes_on(&container);
    d.assert_clean_without(&container);
}

fn a_checkpoint_that_fails_lets_the_container_run_on(t: &Test) {
    let d = Bench::new(t);
    let container = d.count();
    let held = Held::begin(&d, &container, "");
    held.kill_criu();
    let outcome = held.client.finish();
    assert!(outcome.stderr.contains("Cannot checkpoint container"), "{outcome:?}");
    d.assert_untouched(&container);
}

fn a_checkpoint_that_fails_without_a_daemon_leaves_nothing(t: &Test) {
    let d = Bench::new(t);
    let container = d.count();
    let log = d.inspect(&container)["LogPath"].as_str().unwrap().to_owned();
    let mut held = Held::begin(&d, &container, "");
    held.kill_daemon(&d);
    held.kill_criu();
    eventually("nothing is left of the checkpoint", || {
        entries(&directory(&d, &container)).is_empty().then_some(())
    });
    // Nobody but the shim is there to let the container go on.
    let written = || fs::metadata(&log).unwrap().len();
    let before = written();
    eventually("the container writes", || (written() > before).then_some(()));
    d.come_back();
    d.assert_untouched(&container);
}

fn a_checkpoint_that_dies_with_its_shim_is_none(t: &Test) {
    let d = Bench::new(t);
    let container = d.create(&format!("--runtime other -p 80 {COUNT}"));
    d.docker(&format!("start {container}")).ok();
    await_counts(&d, &container, 3);
    let mut held = Held::begin(&d, &container, "");
    held.kill_daemon(&d);
    signal(&shims(&d), Signal::KILL);
    d.come_back();
    held.go_on();
    d.await_status(&container, "exited");
    assert_eq!(d.names(&container), "");
    d.post(&format!("/containers/{container}/start?checkpoint=first"))
        .expect_error_holding(404, "checkpoint first does not exist");
    // The next one of this name clears the rest away.
    d.docker(&format!("start {container}")).ok();
    d.docker(&format!("checkpoint create {container} first")).ok();
    d.await_status(&container, "exited");
    assert_eq!(entries(&directory(&d, &container)), ["first"]);
    d.assert_goes_on(&container);
    d.assert_clean_without(&container);
}

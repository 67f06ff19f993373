//! Checkpoints: the state of a running container on disk, and starts that go on from there.
//!
//! They need CRIU and a kernel that it knows; elsewhere it is seen that the refusal says what is missing. `cargo xtask test vm`
//! has both. `input.rs` has what is typed after a restore, `deaths.rs` what is there when the daemon or CRIU is killed amid a
//! checkpoint.

pub(super) mod deaths;
pub(super) mod input;

use std::path::Path;

use integration_cli::condition::eventually;
use integration_cli::process::{command, run};
use integration_cli::{Container, DaemonOptions, Implementation, OwnDaemon, Test, cases};
use serde_json::json;

cases![
    a_container_goes_on_where_it_was,
    a_container_runs_on_after_a_checkpoint,
    a_container_goes_on_from_a_directory_of_its_own,
    a_terminal_goes_on,
    a_paused_container_is_written_down,
    a_departure_outlives_the_daemon,
    checkpoints_are_listed_and_removed,
    checkpoints_are_experimental,
    what_cannot_be_done_is_refused_with_the_reason,
    a_runtime_that_knows_no_checkpoints_is_named,
];

const RUNC: &str = "/usr/sbin/runc";
/// Counts in memory, and says so.
const COUNT: &str = "busybox sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done'";

fn options() -> DaemonOptions {
    DaemonOptions::flags(&format!("--experimental --add-runtime other={RUNC}"))
}

/// Why CRIU does not work here, if it does not.
fn trouble() -> Option<String> {
    let mut check = command("sh");
    check.args(["-c", "criu check"]);
    let checked = run(check, b"");
    let first = checked.stderr.lines().next().unwrap_or_default().to_owned();
    (checked.code != 0).then_some(first)
}

fn require_criu() {
    if let Some(trouble) = trouble() {
        integration_cli::skip(&format!("needs CRIU and a kernel that it knows: {trouble}"));
    }
}

/// A daemon with a runtime that makes checkpoints on this machine.
fn checkpointing(t: &Test) -> OwnDaemon {
    require_criu();
    t.own_daemon(&options())
}

fn is_shoal(t: &Test) -> bool {
    matches!(t.implementation(), Implementation::Shoald(_))
}

/// The numbers that the container has written.
fn counts(d: &OwnDaemon, container: &Container) -> Vec<u32> {
    d.logs(container).lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Waits until the container counts `further` than now.
fn await_counts(d: &OwnDaemon, container: &Container, further: usize) {
    let n_before = counts(d, container).len();
    eventually(&format!("{container} counts"), || {
        (counts(d, container).len() >= n_before + further).then_some(())
    });
}

/// Each number came once, in its order: the process went on with its memory, and nothing of its output is lost.
fn assert_counted_on(d: &OwnDaemon, container: &Container) {
    let counts = counts(d, container);
    assert!(counts.iter().copied().eq(1..=u32::try_from(counts.len()).unwrap()), "{counts:?}");
}

/// Writes the container's state down, and starts it from there.
fn go_on_from(d: &OwnDaemon, container: &Container, checkpoint: &str) {
    d.docker(&format!("checkpoint create {container} {checkpoint}")).ok();
    d.await_status(container, "exited");
    d.docker(&format!("start --checkpoint {checkpoint} {container}")).ok();
    assert_eq!(d.status(container), "running");
}

fn a_container_goes_on_where_it_was(t: &Test) {
    let d = checkpointing(t);
    let container = d.start(&format!("--runtime other --restart unless-stopped -v kept:/data -p 80 {COUNT}"));
    await_counts(&d, &container, 5);
    let mut events = d.record_events(&d.container_filter(&container.name));
    assert_eq!(d.docker(&format!("checkpoint create {container} first")).ok(), "first");
    d.await_status(&container, "exited");
    assert_eq!(d.inspect(&container)["State"]["ExitCode"], 137, "a checkpoint kills");
    events.wait_for("container checkpoint");
    events.wait_for("container die");
    assert_eq!(d.docker(&format!("checkpoint ls {container}")).ok(), "CHECKPOINT NAME\nfirst");
    d.docker(&format!("start --checkpoint first {container}")).ok();
    events.wait_for("container start");
    assert_eq!(d.status(&container), "running");
    await_counts(&d, &container, 5);
    assert_counted_on(&d, &container);
    assert_eq!(d.shell(&container, "cat /proc/1/comm"), "sh");
    let address = d.address(&container, "bridge");
    assert!(d.shell(&container, "ip -o addr show eth0").contains(&format!("inet {address}/")));
    assert!(d.shell(&container, "ip route").contains("default via"));
    // A second time, from where it is now; the first is still there.
    go_on_from(&d, &container, "second");
    await_counts(&d, &container, 2);
    assert_counted_on(&d, &container);
    // What is started without goes from its beginning.
    d.docker(&format!("restart -t 0 {container}")).ok();
    eventually("it counts anew", || {
        (counts(&d, &container).iter().filter(|count| **count == 1).count() == 2).then_some(())
    });
    d.docker(&format!("rm -f {container}")).ok();
}

fn a_container_runs_on_after_a_checkpoint(t: &Test) {
    let d = checkpointing(t);
    let container = d.start(&format!("--runtime other {COUNT}"));
    await_counts(&d, &container, 3);
    let pid = d.inspect(&container)["State"]["Pid"].clone();
    d.docker(&format!("checkpoint create --leave-running {container} first")).ok();
    await_counts(&d, &container, 3);
    assert_eq!(d.inspect(&container)["State"]["Pid"], pid);
    assert_counted_on(&d, &container);
    d.docker(&format!("rm -f {container}")).ok();
}

fn a_container_goes_on_from_a_directory_of_its_own(t: &Test) {
    let d = checkpointing(t);
    let container = d.start(&format!("--runtime other {COUNT}"));
    await_counts(&d, &container, 3);
    let there = d.daemon().machine().root().join("elsewhere/deep");
    let option = format!("--checkpoint-dir {}", there.display());
    d.docker(&format!("checkpoint create {option} {container} first")).ok();
    d.await_status(&container, "exited");
    assert!(there.join("first/inventory.img").exists());
    assert_eq!(d.docker(&format!("checkpoint ls {container}")).ok(), "CHECKPOINT NAME");
    assert_eq!(d.docker(&format!("checkpoint ls {option} {container}")).ok(), "CHECKPOINT NAME\nfirst");
    if is_shoal(t) {
        // Docker refuses to start from where it has let checkpoints be put.
        d.docker(&format!("start --checkpoint first {option} {container}")).ok();
        await_counts(&d, &container, 3);
        assert_counted_on(&d, &container);
    }
    d.docker(&format!("rm -f {container}")).ok();
    assert!(there.join("first").exists(), "what is not with the container stays");
    d.host(&format!("rm -r {}", there.display())).ok();
}

fn a_terminal_goes_on(t: &Test) {
    let d = checkpointing(t);
    let container = d.start(&format!("--runtime other -t {COUNT}"));
    go_on_from(&d, &container, "first");
    await_counts(&d, &container, 2);
    assert_counted_on(&d, &container);
    assert_eq!(d.shell(&container, "echo in"), "in");
    d.docker(&format!("rm -f {container}")).ok();
}

fn a_paused_container_is_written_down(t: &Test) {
    let d = checkpointing(t);
    let container = d.start(&format!("--runtime other {COUNT}"));
    await_counts(&d, &container, 2);
    d.docker(&format!("pause {container}")).ok();
    d.docker(&format!("checkpoint create --leave-running {container} first")).ok();
    assert_eq!(d.status(&container), "paused");
    d.docker(&format!("unpause {container}")).ok();
    await_counts(&d, &container, 2);
    d.docker(&format!("pause {container}")).ok();
    go_on_from(&d, &container, "second");
    await_counts(&d, &container, 2);
    assert_counted_on(&d, &container);
    d.docker(&format!("rm -f {container}")).ok();
}

fn a_departure_outlives_the_daemon(t: &Test) {
    let d = checkpointing(t);
    let container = d.start(&format!("--runtime other --restart unless-stopped {COUNT}"));
    await_counts(&d, &container, 2);
    d.docker(&format!("checkpoint create {container} first")).ok();
    d.await_status(&container, "exited");
    d.daemon().kill();
    d.daemon().start_again(&options());
    assert_eq!(d.status(&container), "exited");
    d.docker(&format!("start --checkpoint first {container}")).ok();
    await_counts(&d, &container, 2);
    assert_counted_on(&d, &container);
    // It belongs to its shim again, like any other.
    d.daemon().kill();
    d.daemon().start_again(&options());
    await_counts(&d, &container, 2);
    assert_counted_on(&d, &container);
    d.docker(&format!("rm -f {container}")).ok();
}

fn checkpoints_are_listed_and_removed(t: &Test) {
    let d = checkpointing(t);
    let container = d.start(&format!("--runtime other {COUNT}"));
    await_counts(&d, &container, 1);
    let path = format!("/containers/{container}/checkpoints");
    assert_eq!(d.get(&path).expect(200).json(), json!([]));
    d.post_json(&path, &json!({"CheckpointID": "one"})).expect(201);
    assert_eq!(d.get(&path).expect(200).json(), json!([{"Name": "one"}]));
    let taken = d.post_json(&path, &json!({"CheckpointID": "one"}));
    let (exists, missing) = if is_shoal(t) { (409, 404) } else { (500, 500) };
    taken.expect_error_holding(exists, "checkpoint with name one already exists for container");
    d.delete(&format!("{path}/one")).expect(204);
    assert_eq!(d.get(&path).expect(200).json(), json!([]));
    d.delete(&format!("{path}/one")).expect_error_holding(missing, "checkpoint one does not exist");
    d.docker(&format!("rm -f {container}")).ok();
    let never = d.create(&format!("--runtime other {COUNT}"));
    let start = d.post(&format!("/containers/{never}/start?checkpoint=none"));
    start.expect_error_holding(missing, "checkpoint none does not exist");
    let stopped = d.post_json(&format!("/containers/{never}/checkpoints"), &json!({"CheckpointID": "one"}));
    stopped.expect_error_holding(409, "is not running");
    d.docker(&format!("rm {never}")).ok();
}

fn checkpoints_are_experimental(t: &Test) {
    let container = t.create("busybox true");
    let reply = t.get(&format!("/containers/{container}/checkpoints"));
    reply.expect_error_holding(501, "experimental feature is disabled by default");
    let start = t.post(&format!("/containers/{container}/start?checkpoint=first"));
    start.expect_error(400, "checkpoint is only supported in experimental mode");
}

fn what_cannot_be_done_is_refused_with_the_reason(t: &Test) {
    let d = t.own_daemon(&options());
    assert_eq!(d.get("/_ping").header("Docker-Experimental"), Some("true"));
    let container = d.start("--runtime other busybox park");
    let path = format!("/containers/{container}/checkpoints");
    d.post_json(&path, &json!({"CheckpointID": "../x"})).expect_error_holding(400, "invalid checkpoint ID");
    if is_shoal(t) {
        if trouble().is_some() {
            d.post_json(&path, &json!({"CheckpointID": "first"}))
                .expect_error_holding(501, "checkpoints need CRIU");
            assert_eq!(d.get(&path).expect(200).json(), json!([]));
        }
        let built_in = d.start("busybox park");
        let path = format!("/containers/{built_in}/checkpoints");
        d.post_json(&path, &json!({"CheckpointID": "first"})).expect_error_holding(501, "--add-runtime");
        d.docker(&format!("rm -f {built_in}")).ok();
    }
    assert_eq!(d.status(&container), "running");
    d.docker(&format!("rm -f {container}")).ok();
}

fn a_runtime_that_knows_no_checkpoints_is_named(t: &Test) {
    const CRUN: &str = "/usr/bin/crun";
    require_criu();
    // Debian's is built without CRIU.
    if !Path::new(CRUN).exists() || !super::is_cgroup_v2() {
        integration_cli::skip("needs crun, which needs a machine with cgroup v2 only");
    }
    let mut version = command(CRUN);
    version.arg("--version");
    if run(version, b"").ok().contains("+CRIU") {
        integration_cli::skip("this crun knows checkpoints");
    }
    let d = t.own_daemon(&DaemonOptions::flags(&format!("--experimental --add-runtime crun={CRUN}")));
    let container = d.start(&format!("--runtime crun {COUNT}"));
    let path = format!("/containers/{container}/checkpoints");
    let asked = d.post_json(&path, &json!({"CheckpointID": "first"}));
    if is_shoal(t) {
        asked.expect_error_holding(501, CRUN);
        asked.expect_error_holding(501, "unknown command checkpoint");
    } else {
        assert!(asked.status >= 400, "{asked:?}");
    }
    assert_eq!(d.get(&path).expect(200).json(), json!([]));
    await_counts(&d, &container, 2);
    assert_counted_on(&d, &container);
    d.docker(&format!("kill {container}")).ok();
    d.await_status(&container, "exited");
    if is_shoal(t) {
        let start = d.post(&format!("/containers/{container}/start?checkpoint=first"));
        start.expect_error_holding(501, CRUN);
    }
    assert_eq!(d.status(&container), "exited");
    d.docker(&format!("rm {container}")).ok();
}

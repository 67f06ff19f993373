//! Containers that live on while the daemon is away. The reference does this with `--live-restore`, Shoal always.

use integration_cli::condition::eventually;
use integration_cli::machine::INSIDE;
use integration_cli::net::Place;
use integration_cli::{Container, OwnDaemon, Test, cases};

use super::surviving;

cases![
    a_container_survives_a_stop_and_a_crash,
    a_container_that_ended_meanwhile_has_its_exit_code,
    output_written_meanwhile_is_not_lost,
    exec_stop_and_logs_work_after_the_return,
    names_and_ports_work_during_and_after_the_absence,
    restart_policies_hold_for_what_ended_meanwhile,
    addresses_of_survivors_are_not_given_away,
    a_crash_in_the_middle_of_many_starts_leaves_order,
    repeated_crashes_leave_nothing_behind,
    input_reaches_a_survivor,
    a_paused_container_stays_paused,
    volumes_of_survivors_are_in_use,
];

fn crash(d: &OwnDaemon) {
    d.daemon().kill();
}

fn back(d: &OwnDaemon) {
    d.daemon().start_again(&surviving());
}

fn pid(d: &OwnDaemon, container: &Container) -> String {
    d.inspect(container)["State"]["Pid"].to_string()
}

fn a_container_survives_a_stop_and_a_crash(t: &Test) {
    let d = t.own_daemon(&surviving());
    let container = d.start("busybox park");
    let (before, started) = (pid(&d, &container), d.inspect(&container)["State"]["StartedAt"].clone());
    d.daemon().stop();
    assert!(std::path::Path::new(&format!("/proc/{before}")).exists(), "it lives while the daemon is away");
    back(&d);
    assert_eq!((d.status(&container).as_str(), pid(&d, &container)), ("running", before.clone()));
    crash(&d);
    assert!(std::path::Path::new(&format!("/proc/{before}")).exists());
    back(&d);
    assert_eq!((d.status(&container).as_str(), pid(&d, &container)), ("running", before));
    assert_eq!(d.inspect(&container)["State"]["StartedAt"], started);
    assert_eq!(d.inspect(&container)["RestartCount"], 0);
}

fn a_container_that_ended_meanwhile_has_its_exit_code(t: &Test) {
    let d = t.own_daemon(&surviving());
    let container =
        d.start("busybox sh -c 'trap \"exit 23\" TERM; echo ready; while true; do sleep 0.05; done'");
    d.await_log(&container, "ready");
    let process = pid(&d, &container);
    crash(&d);
    d.host(&format!("kill -TERM {process}; while test -d /proc/{process}; do sleep 0.05; done")).ok();
    back(&d);
    eventually("it is known to have ended", || (d.status(&container) == "exited").then_some(()));
    // The reference asks its shim, which is gone by then in some versions, and falls back to 255 or 0.
    let code = d.inspect(&container)["State"]["ExitCode"].as_i64().unwrap();
    if d.api_at_least(1, 42) {
        assert_eq!(code, 23);
    }
    assert_eq!(d.docker(&format!("start {container}")).ok(), container.name);
    d.docker(&format!("kill {container}")).ok();
}

fn output_written_meanwhile_is_not_lost(t: &Test) {
    let d = t.own_daemon(&surviving());
    let container = d.start("busybox sh -c 'i=0; while test $i -lt 300; do i=$((i+1)); echo line$i; usleep 10000; done; echo end'");
    d.await_log(&container, "line10");
    crash(&d);
    back(&d);
    if d.api_at_least(1, 42) {
        // The reference's log is written by the daemon, and what the pipe cannot hold waits for it.
        d.await_log(&container, "end");
        let expected: Vec<String> = (1..=300).map(|n| format!("line{n}")).chain(["end".to_owned()]).collect();
        assert!(
            d.logs(&container).lines().eq(expected.iter().map(String::as_str)),
            "nothing lost, nothing doubled"
        );
    } else {
        d.await_log(&container, "line290");
    }
}

fn exec_stop_and_logs_work_after_the_return(t: &Test) {
    let d = t.own_daemon(&surviving());
    let container = d.start("busybox sh -c 'echo before; exec park'");
    d.await_log(&container, "before");
    crash(&d);
    back(&d);
    assert_eq!(d.exec(&container, "echo inside").ok(), "inside");
    assert_eq!(d.exec(&container, "sh -c 'exit 7'").code, 7);
    assert_eq!(d.logs(&container), "before");
    assert!(d.docker(&format!("top {container}")).ok().contains("park"));
    let waiting = d.docker_start(&format!("wait {container}"));
    d.docker(&format!("stop {container}")).ok();
    assert_eq!(waiting.finish().ok(), "0");
    assert_eq!(d.inspect(&container)["State"]["ExitCode"], 0);
}

fn names_and_ports_work_during_and_after_the_absence(t: &Test) {
    let d = t.own_daemon(&surviving());
    let network = d.name("net");
    d.docker(&format!("network create {network}")).ok();
    let server = d.start(&format!(
        "--network {network} --network-alias web -p 7220:80 busybox nc -ll -p 80 -e echo hello"
    ));
    let client = d.start(&format!("--network {network} busybox park"));
    let outside = Place::outside(d.daemon().machine());
    let reads = || outside.read_from(&format!("{INSIDE}:7220")).is_ok_and(|answer| answer.trim() == "hello");
    eventually("the server answers", || reads().then_some(()));
    crash(&d);
    // The kernel forwards without the daemon; the reference's proxy is its child, but not on this way in.
    assert!(reads(), "published ports work while the daemon is away");
    back(&d);
    assert!(reads());
    assert_eq!(d.resolve(&client, "web"), [d.address(&server, &network)]);
    let late = d.start(&format!("--network {network} busybox park"));
    assert_eq!(d.resolve(&late, "web"), [d.address(&server, &network)]);
    d.docker(&format!("rm -f {server}")).ok();
    assert_eq!(d.resolve(&client, "web"), [""; 0]);
    assert!(!reads());
}

fn restart_policies_hold_for_what_ended_meanwhile(t: &Test) {
    let d = t.own_daemon(&surviving());
    let always = d.start("--restart always busybox park");
    let never = d.start("busybox park");
    let processes = [pid(&d, &always), pid(&d, &never)];
    crash(&d);
    for process in &processes {
        d.host(&format!("kill -9 {process}; while test -d /proc/{process}; do sleep 0.05; done")).ok();
    }
    back(&d);
    eventually("the policy acts", || (d.status(&always) == "running").then_some(()));
    assert_ne!(pid(&d, &always), processes[0]);
    eventually("the other is known to have ended", || (d.status(&never) == "exited").then_some(()));
}

fn addresses_of_survivors_are_not_given_away(t: &Test) {
    let d = t.own_daemon(&surviving());
    let survivors: Vec<Container> = (0..3).map(|_| d.start("busybox park")).collect();
    let taken: Vec<String> = survivors.iter().map(|container| d.address(container, "bridge")).collect();
    crash(&d);
    back(&d);
    for survivor in &survivors {
        assert!(taken.contains(&d.address(survivor, "bridge")));
    }
    for _ in 0..4 {
        let newcomer = d.start("busybox park");
        assert!(!taken.contains(&d.address(&newcomer, "bridge")));
    }
}

fn a_crash_in_the_middle_of_many_starts_leaves_order(t: &Test) {
    t.newer_than_reference(1, 42, "the reference leaves shims and cgroups of what it was starting");
    let d = t.own_daemon(&surviving());
    let names: Vec<String> = (0..6).map(|_| d.name("many")).collect();
    let running: Vec<_> =
        names.iter().map(|name| d.docker_start(&format!("run -d --name {name} busybox park"))).collect();
    eventually("some have started", || {
        (d.list("/containers/json", &serde_json::json!({})).len() >= 2).then_some(())
    });
    crash(&d);
    for client in running {
        client.finish();
    }
    back(&d);
    // Whatever is listed can be used, and whatever is not leaves its name free.
    for name in &names {
        let reply = d.get(&format!("/containers/{name}/json"));
        if reply.status == 200 {
            let status = reply.json()["State"]["Status"].as_str().unwrap().to_owned();
            assert!(matches!(status.as_str(), "running" | "created" | "exited"), "{name} is {status}");
            d.docker(&format!("rm -f {name}")).ok();
        }
        d.docker(&format!("run --rm --name {name} busybox true")).ok();
    }
}

fn repeated_crashes_leave_nothing_behind(t: &Test) {
    let d = t.own_daemon(&surviving());
    let survivor = d.start("-p 7230:80 busybox park");
    for _ in 0..4 {
        crash(&d);
        back(&d);
        assert_eq!(d.run("busybox echo works").ok(), "works");
    }
    assert_eq!(d.status(&survivor), "running");
    d.docker(&format!("rm -f {survivor}")).ok();
    // What is left over is found when the daemon is torn down at the end of the case.
}

fn input_reaches_a_survivor(t: &Test) {
    let d = t.own_daemon(&surviving());
    let container = d.start("-i busybox sh -c 'while read line; do echo got $line; done'");
    crash(&d);
    back(&d);
    let mut attached = d.docker_start(&format!("attach {container}"));
    attached.write(b"word\n");
    assert_eq!(attached.next_line(), "got word");
}

fn a_paused_container_stays_paused(t: &Test) {
    let d = t.own_daemon(&surviving());
    let container = d.start("busybox park");
    d.docker(&format!("pause {container}")).ok();
    crash(&d);
    back(&d);
    assert_eq!(d.status(&container), "paused");
    d.docker(&format!("unpause {container}")).ok();
    assert_eq!(d.exec(&container, "echo inside").ok(), "inside");
}

fn volumes_of_survivors_are_in_use(t: &Test) {
    let d = t.own_daemon(&surviving());
    let volume = d.name("vol");
    let container = d.start(&format!("-v {volume}:/data busybox park"));
    crash(&d);
    back(&d);
    d.delete(&format!("/volumes/{volume}")).expect(409);
    d.docker(&format!("rm -f {container}")).ok();
    d.delete(&format!("/volumes/{volume}")).expect(204);
}

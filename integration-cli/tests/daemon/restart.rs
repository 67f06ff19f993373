//! A daemon that is stopped and started again: what it remembers, and what it starts by itself.

use integration_cli::condition::eventually;
use integration_cli::{DaemonOptions, Implementation, Test, cases, skip};
use serde_json::json;

use super::restart;

cases![
    stopped_containers_images_volumes_and_networks_are_remembered,
    always_starts_again_even_after_a_stop_by_hand,
    unless_stopped_remembers_the_stop,
    on_failure_starts_again_what_was_running,
    containers_end_with_the_reference_and_not_with_shoal,
    a_container_that_removes_itself_is_gone_after_a_crash,
    the_identity_of_the_daemon_stays,
    names_and_aliases_work_again,
    published_ports_work_again,
    fixed_addresses_are_kept,
    health_is_checked_again,
    created_containers_can_be_started,
    logs_are_kept,
];

fn stopped_containers_images_volumes_and_networks_are_remembered(t: &Test) {
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let (volume, network) = (d.name("vol"), d.name("net"));
    d.docker(&format!("volume create --label a=b {volume}")).ok();
    d.docker(&format!("network create --subnet 10.54.0.0/24 --gateway 10.54.0.1 --label a=b {network}")).ok();
    let container = d.start(&format!(
        "--network {network} -v {volume}:/data --label l=1 -e A=1 busybox sh -c 'echo x > /file; exit 3'"
    ));
    d.wait(&container);
    let described = |path: &str| d.get(path).expect(200).json();
    let paths = [
        format!("/containers/{container}/json"),
        format!("/volumes/{volume}"),
        format!("/networks/{network}"),
        "/images/busybox/json".to_owned(),
        format!("/containers/{container}/changes"),
    ];
    let before: Vec<_> = paths.iter().map(|path| described(path)).collect();
    restart(&d, &options);
    for (path, before) in paths.iter().zip(before) {
        let mut after = described(path);
        if !d.api_at_least(1, 42) && path.starts_with("/networks") {
            // The reference shows no options as an empty map first and as null after it has read them back.
            after["IPAM"]["Options"] = before["IPAM"]["Options"].clone();
        }
        assert_eq!(after, before, "{path}");
    }
}

fn always_starts_again_even_after_a_stop_by_hand(t: &Test) {
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let running = d.start("--restart always busybox park");
    let stopped = d.start("--restart always busybox park");
    d.docker(&format!("stop {stopped}")).ok();
    restart(&d, &options);
    for container in [&running, &stopped] {
        eventually(&format!("{container} runs"), || (d.status(container) == "running").then_some(()));
    }
}

fn unless_stopped_remembers_the_stop(t: &Test) {
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let running = d.start("--restart unless-stopped busybox park");
    let stopped = d.start("--restart unless-stopped busybox park");
    d.docker(&format!("stop {stopped}")).ok();
    restart(&d, &options);
    eventually("the running one runs again", || (d.status(&running) == "running").then_some(()));
    assert_eq!(d.status(&stopped), "exited");
}

fn on_failure_starts_again_what_was_running(t: &Test) {
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let done = d.start("--restart on-failure busybox true");
    d.wait(&done);
    // Ignores TERM, so that it is killed with the reference and its end is a failure.
    let failing = d.start("--restart on-failure --stop-timeout 1 busybox sh -c 'trap \"\" TERM; while true; do sleep 0.1; done'");
    restart(&d, &options);
    eventually("the failed one runs again", || (d.status(&failing) == "running").then_some(()));
    assert_eq!(d.status(&done), "exited");
    d.docker(&format!("kill {failing}")).ok();
}

fn containers_end_with_the_reference_and_not_with_shoal(t: &Test) {
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let container = d.start("busybox park");
    let pid = d.inspect(&container)["State"]["Pid"].clone();
    restart(&d, &options);
    if matches!(t.implementation(), Implementation::Dockerd(_)) {
        assert_eq!(d.status(&container), "exited");
        return;
    }
    // A container never depends on the daemon being alive: live-restore is always on.
    assert_eq!(d.inspect(&container)["State"]["Pid"], pid);
    assert_eq!(d.status(&container), "running");
}

fn a_container_that_removes_itself_is_gone_after_a_crash(t: &Test) {
    let options = super::surviving();
    let d = t.own_daemon(&options);
    let container = d.start("--rm busybox park");
    let pid = d.inspect(&container)["State"]["Pid"].to_string();
    d.daemon().kill();
    d.host(&format!("kill -9 {pid}")).ok();
    d.daemon().start_again(&options);
    eventually("it is removed", || {
        (d.get(&format!("/containers/{}/json", container.id)).status == 404).then_some(())
    });
}

fn the_identity_of_the_daemon_stays(t: &Test) {
    let options = DaemonOptions::default();
    let d = t.bare_daemon(&options);
    let id = d.get("/info").expect(200).json()["ID"].clone();
    restart(&d, &options);
    assert_eq!(d.get("/info").expect(200).json()["ID"], id);
}

fn names_and_aliases_work_again(t: &Test) {
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let network = d.name("net");
    d.docker(&format!("network create {network}")).ok();
    let server = d.start(&format!("--restart always --network {network} --network-alias web busybox park"));
    let client = d.start(&format!("--restart always --network {network} busybox park"));
    restart(&d, &options);
    for container in [&server, &client] {
        eventually(&format!("{container} runs"), || (d.status(container) == "running").then_some(()));
    }
    assert_eq!(d.resolve(&client, "web"), [d.address(&server, &network)]);
}

fn published_ports_work_again(t: &Test) {
    use integration_cli::machine::INSIDE;
    use integration_cli::net::Place;
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let container = d.start("--restart always -p 7200:80 busybox nc -ll -p 80 -e echo hello");
    restart(&d, &options);
    eventually("the server answers", || {
        let answer = Place::outside(d.daemon().machine()).read_from(&format!("{INSIDE}:7200")).ok()?;
        (answer.trim() == "hello").then_some(())
    });
    d.docker(&format!("rm -f {container}")).ok();
    d.start("-p 7200:80 busybox park");
}

fn fixed_addresses_are_kept(t: &Test) {
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let network = d.name("net");
    d.docker(&format!("network create --subnet 10.53.0.0/24 {network}")).ok();
    let container = d.start(&format!("--restart always --network {network} --ip 10.53.0.99 busybox park"));
    restart(&d, &options);
    eventually("it runs", || (d.status(&container) == "running").then_some(()));
    assert_eq!(d.address(&container, &network), "10.53.0.99");
    // And no other container is given it.
    for _ in 0..3 {
        let other = d.start(&format!("--network {network} busybox park"));
        assert_ne!(d.address(&other, &network), "10.53.0.99");
    }
}

fn health_is_checked_again(t: &Test) {
    t.newer_than_reference(1, 42, "the reference does not check the health of containers that outlived it");
    let options = super::surviving();
    let d = t.own_daemon(&options);
    let container =
        d.start("--health-cmd 'test ! -e /sick' --health-interval 0.2s --health-retries 1 busybox park");
    let is = |status: &str| d.inspect(&container)["State"]["Health"]["Status"] == status;
    eventually("it is healthy", || is("healthy").then_some(()));
    restart(&d, &options);
    d.shell(&container, "touch /sick");
    eventually("it is unhealthy", || is("unhealthy").then_some(()));
}

fn created_containers_can_be_started(t: &Test) {
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let container = d.create("-p 7210:80 -v /anon busybox sh -c 'echo ran'");
    restart(&d, &options);
    assert_eq!(d.docker(&format!("start -a {container}")).ok(), "ran");
    assert_eq!(d.inspect(&container)["Mounts"].as_array().unwrap().len(), 1);
}

fn logs_are_kept(t: &Test) {
    if !t.implementation().is_reference() && matches!(t.implementation(), Implementation::External(_)) {
        skip("needs a daemon that the suite starts itself");
    }
    let options = DaemonOptions::default();
    let d = t.own_daemon(&options);
    let container = d.start("busybox sh -c 'seq 1 100'");
    d.wait(&container);
    restart(&d, &options);
    assert_eq!(d.logs(&container).lines().count(), 100);
    assert_eq!(
        d.get(&format!("/containers/{container}/json")).expect(200).json()["State"]["ExitCode"],
        json!(0)
    );
}

//! The power of a machine is cut: what is on its disk is all that the next daemon has.
//!
//! Start reading at any case. The machine's processes, mounts, interfaces and rules are taken away behind the daemon's back; the disk
//! itself is spared, as a journal spares what was made durable.

use integration_cli::condition::{eventually, within};
use integration_cli::machine::INSIDE;
use integration_cli::net::Place;
use integration_cli::{DaemonOptions, Test, cases};

cases![containers_come_back_by_their_policies];

/// Says its number at a port.
const WEB: &str = "busybox sh -c 'mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www'";

fn containers_come_back_by_their_policies(t: &Test) {
    let t = t.own_daemon(&DaemonOptions::default());
    t.docker("network create --subnet 10.66.0.0/24 net").ok();
    t.docker("volume create data").ok();
    t.docker(&format!(
        "run -d --name always --restart always --network net --ip 10.66.0.9 -p 8080:80 --hostname one -v data:/data {WEB}"
    ))
    .ok();
    t.docker("exec always sh -c 'echo kept > /data/file; echo mine > /file'").ok();
    t.docker("run -d --name never busybox park").ok();
    t.docker("run -d --name stopped --restart unless-stopped busybox park").ok();
    t.docker("stop stopped").ok();
    // A writable layer is made durable as the file system does it; this is what `sync` in a container is for.
    t.docker("exec always sync").ok();

    t.daemon().announce("");
    t.daemon().lose_power();
    t.daemon().start_again(&DaemonOptions::default());

    within(std::time::Duration::from_secs(30), "the one with a policy runs again", || {
        (t.docker("inspect always --format {{.State.Status}}").stdout.trim() == "running").then_some(())
    });
    // Nobody saw how it ended.
    let format = "'{{.State.Status}} {{.State.ExitCode}}'";
    let never = t.docker(&format!("inspect never --format {format}")).ok();
    assert_eq!(never, "exited 255");
    assert!(t.docker("inspect stopped --format {{.State.Status}}").ok().contains("exited"));
    let answer = eventually("its port answers", || {
        let outside = Place::outside(t.daemon().machine());
        let said = outside.ask(&format!("{INSIDE}:8080"), "GET / HTTP/1.0\r\n\r\n").ok()?;
        said.lines().last().filter(|last| !last.is_empty()).map(str::to_owned)
    });
    assert_eq!(answer, "one");
    assert_eq!(t.docker("exec always cat /data/file /file").ok(), "kept\nmine");
    let address = t.docker("inspect always --format {{.NetworkSettings.Networks.net.IPAddress}}").ok();
    assert_eq!(address, "10.66.0.9");
    t.docker("start never").ok();
    t.docker("rm -f always never stopped").ok();
    t.docker("network rm net").ok();
    t.docker("volume rm data").ok();
}

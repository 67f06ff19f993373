//! How the daemon ends, and what of it remains then.

use std::time::{Duration, Instant};

use integration_cli::{DaemonOptions, Test, cases};
use rustix::process::Signal;

cases![
    term_and_int_end_the_daemon_with_success,
    the_pid_file_holds_the_pid_and_goes_with_the_daemon,
    the_socket_is_for_root_and_group_only,
    waiting_clients_are_let_go,
    user_signal_one_writes_stacks_and_ends_nothing,
];

fn term_and_int_end_the_daemon_with_success(t: &Test) {
    for signal in [Signal::TERM, Signal::INT] {
        let d = t.bare_daemon(&DaemonOptions::default());
        let before = Instant::now();
        d.daemon().signal(signal);
        assert_eq!(d.daemon().wait(), 0, "{signal:?}");
        assert!(before.elapsed() < Duration::from_secs(10));
    }
}

fn the_pid_file_holds_the_pid_and_goes_with_the_daemon(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::default());
    let file = d.daemon().machine().root().join("daemon.pid");
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), d.daemon().pid().to_string());
    d.daemon().stop();
    assert!(!file.exists());
}

fn the_socket_is_for_root_and_group_only(t: &Test) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let d = t.bare_daemon(&DaemonOptions::flags("--group staff"));
    let socket = std::fs::metadata(d.daemon().socket()).unwrap();
    assert_eq!((socket.permissions().mode() & 0o777, socket.uid()), (0o660, 0));
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let staff =
        groups.lines().find_map(|line| line.strip_prefix("staff:x:")).unwrap().split(':').next().unwrap();
    assert_eq!(socket.gid().to_string(), staff);
}

fn waiting_clients_are_let_go(t: &Test) {
    let d = t.own_daemon(&super::surviving());
    let container = d.start("busybox park");
    let mut events = d.docker_start("events");
    let mut logs = d.docker_start(&format!("logs -f {container}"));
    let mut wait = d.docker_start(&format!("wait {container}"));
    let mut attached = d.docker_start(&format!("attach {container}"));
    integration_cli::condition::poll(Duration::from_millis(300), &mut || None::<()>);
    assert!(!events.has_ended() && !logs.has_ended() && !wait.has_ended() && !attached.has_ended());
    // Nobody's stream holds the end of Shoal up; the reference gives its clients some seconds.
    let limit = Duration::from_secs(d.by_age(1, 20));
    let before = Instant::now();
    assert_eq!(d.daemon().stop(), 0);
    assert!(before.elapsed() < limit, "{:?}", before.elapsed());
    for client in [events, logs, wait, attached] {
        client.finish();
    }
    d.daemon().start_again(&super::surviving());
    assert_eq!(d.status(&container), "running");
}

fn user_signal_one_writes_stacks_and_ends_nothing(t: &Test) {
    let d = t.bare_daemon(&DaemonOptions::default());
    d.daemon().signal(Signal::USR1);
    integration_cli::condition::eventually("the log tells of it", || {
        d.daemon().log_text().to_lowercase().contains("stack").then_some(())
    });
    d.get("/_ping").expect(200);
}

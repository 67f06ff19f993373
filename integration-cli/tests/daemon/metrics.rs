//! `--metrics-addr`: figures for Prometheus.

use integration_cli::net::Place;
use integration_cli::{DaemonOptions, Test, cases};
use serde_json::json;

cases![
    figures_are_served_on_a_listener_of_their_own,
    an_address_that_is_taken_keeps_the_daemon_from_starting
];

fn figures_are_served_on_a_listener_of_their_own(t: &Test) {
    // The reference serves figures in experimental mode only.
    let config = json!({"metrics-addr": "127.0.0.1:9323", "experimental": true});
    let d = t.own_daemon(&DaemonOptions::config(&config));
    d.start("busybox park");
    d.docker("create busybox true").ok();
    let place = Place::inside(d.daemon().machine());
    let ask = |path: &str| {
        let question = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        place.ask("127.0.0.1:9323", &question).unwrap()
    };
    let text = ask("/metrics");
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    for line in [
        "engine_daemon_container_states_containers{state=\"running\"} 1",
        "engine_daemon_container_states_containers{state=\"stopped\"} 1",
        "# TYPE engine_daemon_events_total counter",
        "# TYPE engine_daemon_engine_cpus_cpus gauge",
        "# TYPE engine_daemon_container_actions_seconds histogram",
        "# TYPE engine_daemon_network_actions_seconds histogram",
        "engine_daemon_network_actions_seconds_count{action=\"connect\"} 1",
        "# TYPE engine_daemon_health_checks_total counter",
        "engine_daemon_health_checks_failed_total 0",
    ] {
        assert!(text.lines().any(|found| found.trim_end() == line), "{line} in {text}");
    }
    assert!(text.contains("engine_daemon_engine_info{architecture=\""), "{text}");
    // The reference counts one of each action when it starts.
    let once = if t.implementation().is_reference() { 1 } else { 0 };
    let counted = |action: &str, count: u32| {
        let line = format!("engine_daemon_container_actions_seconds_count{{action=\"{action}\"}} {count}");
        assert!(text.lines().any(|found| found.trim_end() == line), "{line} in {text}");
    };
    counted("create", once + 2);
    counted("start", once + 1);
    counted("commit", once);
    assert!(ask("/other").starts_with("HTTP/1.1 404"));
}

fn an_address_that_is_taken_keeps_the_daemon_from_starting(t: &Test) {
    let config = json!({"metrics-addr": "203.0.113.7:9323", "experimental": true});
    let refused = t.refuse_to_start(&DaemonOptions::config(&config));
    assert!(refused.stderr.contains("203.0.113.7:9323"), "{refused:?}");
}

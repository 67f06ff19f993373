//! Health checks.

use integration_cli::condition::eventually;
use integration_cli::{Container, Test, cases};
use serde_json::{Value, json};

cases![
    health_begins_with_starting_and_becomes_healthy,
    a_failing_check_makes_the_container_unhealthy_after_its_retries,
    a_check_that_recovers_makes_it_healthy_again,
    failures_in_the_start_period_do_not_count,
    a_check_that_takes_too_long_fails,
    the_log_keeps_five_results_with_output,
    changes_are_told_as_events_and_only_changes,
    the_list_shows_health_in_its_status,
    none_switches_the_check_of_the_image_off,
    the_exec_form_and_the_shell_form_work,
    health_ends_with_the_container_and_begins_anew,
    pausing_suspends_the_checks,
    a_check_of_the_image_runs,
];

fn health(t: &Test, container: &Container) -> Value {
    t.inspect(container)["State"]["Health"].clone()
}

fn await_health(t: &Test, container: &Container, status: &str) -> Value {
    eventually(&format!("{container} is {status}"), || {
        let health = health(t, container);
        (health["Status"] == status).then_some(health)
    })
}

fn health_begins_with_starting_and_becomes_healthy(t: &Test) {
    let container = t.start("--health-cmd 'test -e /ready' --health-interval 0.1s busybox park");
    let first = health(t, &container);
    assert_eq!(first["Status"], "starting");
    t.shell(&container, "touch /ready");
    let later = await_health(t, &container, "healthy");
    assert_eq!(later["FailingStreak"], 0);
}

fn a_failing_check_makes_the_container_unhealthy_after_its_retries(t: &Test) {
    let container =
        t.start("--health-cmd 'echo bad; exit 1' --health-interval 0.1s --health-retries 2 busybox park");
    let health = await_health(t, &container, "unhealthy");
    assert!(health["FailingStreak"].as_i64().unwrap() >= 2, "{health}");
    let last = health["Log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["ExitCode"], &last["Output"]), (&json!(1), &json!("bad\n")));
    // Health is told, not acted upon.
    assert_eq!(t.status(&container), "running");
}

fn a_check_that_recovers_makes_it_healthy_again(t: &Test) {
    let container =
        t.start("--health-cmd 'test -e /good' --health-interval 0.1s --health-retries 1 busybox park");
    await_health(t, &container, "unhealthy");
    t.shell(&container, "touch /good");
    await_health(t, &container, "healthy");
}

fn failures_in_the_start_period_do_not_count(t: &Test) {
    let container = t.start(
        "--health-cmd 'test -e /good' --health-interval 0.1s --health-retries 1 --health-start-period 60s busybox park",
    );
    eventually("some checks have failed", || {
        (health(t, &container)["Log"].as_array().unwrap().len() >= 3).then_some(())
    });
    let health = health(t, &container);
    assert_eq!((&health["Status"], &health["FailingStreak"]), (&json!("starting"), &json!(0)));
    t.shell(&container, "touch /good");
    await_health(t, &container, "healthy");
    // The first success ends the period: failures count from now on.
    t.shell(&container, "rm /good");
    await_health(t, &container, "unhealthy");
}

fn a_check_that_takes_too_long_fails(t: &Test) {
    let container =
        t.start("--health-cmd 'echo before; sleep 100' --health-interval 0.1s --health-timeout 0.3s --health-retries 1 busybox park");
    let health = await_health(t, &container, "unhealthy");
    let last = health["Log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["ExitCode"], -1);
    assert!(last["Output"].as_str().unwrap().starts_with("Health check exceeded timeout (300ms)"), "{last}");
}

fn the_log_keeps_five_results_with_output(t: &Test) {
    let container = t.start("--health-cmd 'echo probe; head -c 6000 /dev/zero | tr \"\\0\" x' --health-interval 0.1s busybox park");
    let log = eventually("five results", || {
        let health = health(t, &container);
        let log = health["Log"].as_array().unwrap().clone();
        (log.len() == 5 && log[4]["Start"].as_str() > log[0]["End"].as_str()).then_some(log)
    });
    for result in &log {
        let output = result["Output"].as_str().unwrap();
        assert!(output.starts_with("probe\nxxx") && output.ends_with("x..."), "{}", &output[..20]);
        assert_eq!(output.len(), 4096 + 3);
        assert_eq!(result["ExitCode"], 0);
    }
}

fn changes_are_told_as_events_and_only_changes(t: &Test) {
    let container =
        t.create("--health-cmd 'test -e /good' --health-interval 0.1s --health-retries 1 busybox park");
    let filters = json!({"container": [container.id], "event": ["health_status"]});
    let mut recording = t.record_events(&filters);
    t.docker(&format!("start {container}")).ok();
    recording.wait_for("container health_status: unhealthy");
    t.shell(&container, "touch /good");
    recording.wait_for("container health_status: healthy");
    let told: Vec<String> = recording.labels();
    assert_eq!(told, ["container health_status: unhealthy", "container health_status: healthy"]);
}

fn the_list_shows_health_in_its_status(t: &Test) {
    let container = t.start("--health-cmd 'test -e /good' --health-interval 0.2s --health-retries 1 --health-start-period 60s busybox park");
    let shown = || {
        t.list("/containers/json", &json!({"id": [container.id]}))[0]["Status"].as_str().unwrap().to_owned()
    };
    assert!(shown().ends_with(" (health: starting)"), "{}", shown());
    t.shell(&container, "touch /good");
    await_health(t, &container, "healthy");
    assert!(shown().ends_with(" (healthy)"), "{}", shown());
    t.shell(&container, "rm /good");
    await_health(t, &container, "unhealthy");
    assert!(shown().ends_with(" (unhealthy)"), "{}", shown());
}

fn none_switches_the_check_of_the_image_off(t: &Test) {
    let image = t.name("checked");
    let config = json!({"Healthcheck": {"Test": ["CMD", "false"], "Interval": 100_000_000}});
    t.load(&[integration_cli::images::Image::on_busybox(&format!("{image}:latest"), &config, &[])]);
    let container = t.start(&format!("--no-healthcheck {image} park"));
    assert!(t.inspect(&container)["State"].get("Health").is_none());
}

fn the_exec_form_and_the_shell_form_work(t: &Test) {
    let with = |test: Value| {
        let body = json!({
            "Image": "busybox", "Cmd": ["park"], "Env": ["WORD=seen"],
            "Healthcheck": {"Test": test, "Interval": 100_000_000},
        });
        let container = t.start_json(&body);
        let health = await_health(t, &container, "healthy");
        health["Log"].as_array().unwrap().last().unwrap()["Output"].as_str().unwrap().to_owned()
    };
    assert_eq!(with(json!(["CMD", "echo", "$WORD; literally"])), "$WORD; literally\n");
    assert_eq!(with(json!(["CMD-SHELL", "echo $WORD | tr a-z A-Z"])), "SEEN\n");
}

fn health_ends_with_the_container_and_begins_anew(t: &Test) {
    let container = t.start("--health-cmd true --health-interval 0.1s busybox park");
    await_health(t, &container, "healthy");
    t.docker(&format!("stop {container}")).ok();
    assert_eq!(health(t, &container)["Status"], "unhealthy");
    let told = t.past_events(&json!({"container": [container.id], "event": ["exec_die"]})).len();
    t.docker(&format!("start {container}")).ok();
    await_health(t, &container, "healthy");
    let later = t.past_events(&json!({"container": [container.id], "event": ["exec_die"]})).len();
    assert!(later > told);
}

fn pausing_suspends_the_checks(t: &Test) {
    let container = t.start("--health-cmd 'echo x >> /checks' --health-interval 0.1s busybox park");
    await_health(t, &container, "healthy");
    t.docker(&format!("pause {container}")).ok();
    let count = || t.past_events(&json!({"container": [container.id], "event": ["exec_start"]})).len();
    let before = count();
    let more = integration_cli::condition::poll(std::time::Duration::from_millis(600), &mut || {
        (count() > before + 1).then_some(())
    });
    assert_eq!(more, None, "checks go on while the container is paused");
    t.docker(&format!("unpause {container}")).ok();
    eventually("checks go on", || (count() > before + 1).then_some(()));
}

fn a_check_of_the_image_runs(t: &Test) {
    let image = t.name("checked");
    let config = json!({"Healthcheck": {"Test": ["CMD-SHELL", "echo from image"], "Interval": 100_000_000}});
    t.load(&[integration_cli::images::Image::on_busybox(&format!("{image}:latest"), &config, &[])]);
    let container = t.start(&format!("{image} park"));
    let health = await_health(t, &container, "healthy");
    assert_eq!(health["Log"][0]["Output"], "from image\n");
}

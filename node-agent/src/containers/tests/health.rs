//! Health checks, with probes that the test answers.

use super::*;
use shoal_types::ExecId;
use shoal_types::container::health::{HealthSpec, HealthStatus, HealthTest};
use tokio::io::AsyncWriteExt as _;

fn checked() -> ContainerSpec {
    let health = HealthSpec {
        test: Some(HealthTest::Shell("check".to_owned())),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(3),
        retries: 2,
        ..HealthSpec::default()
    };
    ContainerSpec { health: Some(health), ..spec() }
}

fn status(view: &ContainerView) -> Option<HealthStatus> {
    view.health.as_ref().map(|health| health.status)
}

/// Waits for the next probe and lets it end with this code and output.
async fn answer_probe(machine: &Machine, id: ContainerId, code: i32, output: &str) -> ExecId {
    let process = machine.process(id);
    let waiting = async {
        loop {
            if let Some(exec) = process.take_execs().pop() {
                return exec;
            }
            // The fake tells nobody of an exec; the clock is stopped, so that this costs no time.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let exec = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("no probe");
    exec.stream.unwrap().write_all(output.as_bytes()).await.unwrap();
    process.exit_exec(exec.request.exec_id, code);
    exec.request.exec_id
}

#[tokio::test(start_paused = true)]
async fn verdicts_are_published_and_told_when_they_change() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let mut events = machine.follow_events();
    let id = started(&engine, "web", checked()).await;
    assert_eq!(status(&engine.find("web").unwrap().view()), Some(HealthStatus::Starting));
    events.until("start").await;
    let exec_id = answer_probe(&machine, id, 0, "fine").await;
    let view = wait_for(&engine, "web", |view| status(view) == Some(HealthStatus::Healthy)).await;
    assert_eq!(view.health.as_ref().unwrap().log[0].output, "fine");
    let actions = events.until("health_status: healthy").await;
    assert_eq!(
        actions,
        [
            "exec_create: /bin/sh -c check",
            "exec_start: /bin/sh -c check",
            "exec_die(0)",
            "health_status: healthy"
        ]
    );
    assert_eq!(exec_id.to_string().len(), 64);
    for _ in 0..2 {
        answer_probe(&machine, id, 1, "").await;
    }
    wait_for(&engine, "web", |view| status(view) == Some(HealthStatus::Unhealthy)).await;
    events.until("health_status: unhealthy").await;
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_takes_too_long_is_killed_and_counts() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    started(&engine, "web", checked()).await;
    let view =
        wait_for(&engine, "web", |view| view.health.as_ref().is_some_and(|health| !health.log.is_empty()))
            .await;
    let result = &view.health.as_ref().unwrap().log[0];
    assert_eq!((result.exit_code, result.output.as_str()), (-1, "Health check exceeded timeout (3s)"));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_ends_is_probed_no_more() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", checked()).await;
    answer_probe(&machine, id, 0, "").await;
    wait_for(&engine, "web", |view| status(view) == Some(HealthStatus::Healthy)).await;
    machine.process(id).exit(0);
    let view = wait_for_state(&engine, "web", "exited").await;
    assert_eq!(status(&view), Some(HealthStatus::Unhealthy));
    // That nothing happens can only be waited out; the clock is stopped, so that this costs no time.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(engine.find("web").unwrap().view().health.as_ref().unwrap().log.len(), 1);
}

//! The daemon goes and comes back.

use super::*;
use crate::api::containers::StopOptions;
use shoal_types::container::restart::RestartPolicy;

#[tokio::test]
async fn containers_run_on_while_the_daemon_is_away() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", rich_spec()).await;
    let before = engine.find("web").unwrap().view();
    engine.close().await;
    let (engine, report) = machine.daemon_and_report().await;
    assert_eq!((report.n_containers, report.n_running, report.n_orphans), (1, 1, 0));
    let after = engine.find("web").unwrap().view();
    assert_eq!(after.state, before.state);
    assert_eq!(
        (&after.endpoints, &after.published, &after.sandbox),
        (&before.endpoints, &before.published, &before.sandbox)
    );
    machine.assert_nothing_leaks(&engine);
    let mut events = machine.follow_events();
    machine.process(id).exit(5);
    events.until("die").await;
    assert_eq!(state_of(&engine, "web").last_exit().unwrap().code, 5);
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test]
async fn an_exit_while_the_daemon_was_away_is_found_with_its_code() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", rich_spec()).await;
    engine.close().await;
    machine.process(id).exit(9);
    let mut events = machine.follow_events();
    let engine = machine.daemon().await;
    assert_eq!(state_of(&engine, "web").last_exit().unwrap().code, 9);
    assert!(events.actions().contains(&"die(9)".to_owned()));
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test]
async fn a_dead_shim_is_cleaned_up_at_boot() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", rich_spec()).await;
    engine.close().await;
    machine.process(id).die();
    let engine = machine.daemon().await;
    assert_eq!(state_of(&engine, "web").last_exit().unwrap().code, 137);
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test]
async fn a_reboot_ends_what_ran_with_255_and_policies_start_it_again() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let policies = [
        ("no", RestartPolicy::No, "exited"),
        ("always", RestartPolicy::Always, "running"),
        ("unless", RestartPolicy::UnlessStopped, "running"),
        ("failing", RestartPolicy::OnFailure { max_retries: 0 }, "running"),
    ];
    for (name, restart, _) in policies {
        started(&engine, name, ContainerSpec { restart, ..spec() }).await;
    }
    let stopped = [
        ("stopped-always", RestartPolicy::Always, "running"),
        ("stopped-unless", RestartPolicy::UnlessStopped, "exited"),
        ("stopped-failing", RestartPolicy::OnFailure { max_retries: 0 }, "exited"),
    ];
    for (name, restart, _) in stopped {
        started(&engine, name, ContainerSpec { restart, ..spec() }).await;
        engine.kill(name, None).await.unwrap();
    }
    created(&engine, "never", ContainerSpec { restart: RestartPolicy::Always, ..spec() }).await;
    let passing = started(&engine, "passing", ContainerSpec { auto_remove: true, ..spec() }).await;
    engine.close().await;
    // A reboot takes processes and bundles away.
    std::fs::remove_dir_all(machine.root.path().join("exec")).unwrap();
    machine.shims.reboot();
    let engine = machine.daemon().await;
    for (name, _, state) in policies.into_iter().chain(stopped) {
        assert_eq!(state_of(&engine, name).name(), state, "{name}");
    }
    assert_eq!(state_of(&engine, "no").last_exit().unwrap().code, 255);
    assert_eq!(state_of(&engine, "never").name(), "created");
    assert!(engine.find(&passing.to_string()).is_err());
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test]
async fn pauses_are_remembered() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    started(&engine, "web", spec()).await;
    engine.pause("web").await.unwrap();
    let engine = machine.restart(engine).await;
    assert_eq!(state_of(&engine, "web").name(), "paused");
    engine.unpause("web").await.unwrap();
    assert_eq!(state_of(&engine, "web").name(), "running");
}

#[tokio::test]
async fn those_that_others_link_to_are_started_first() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let again = || ContainerSpec { restart: RestartPolicy::Always, ..spec() };
    started(&engine, "db", again()).await;
    let mut linking = again();
    linking.networking.links = vec!["db:data".to_owned()];
    started(&engine, "a-web", linking).await;
    engine.close().await;
    std::fs::remove_dir_all(machine.root.path().join("exec")).unwrap();
    machine.shims.reboot();
    let mut events = machine.follow_events();
    let engine = machine.daemon().await;
    let starts: Vec<String> = events.names_of("start");
    assert_eq!(starts, ["db", "a-web"]);
    assert_eq!(state_of(&engine, "a-web").name(), "running");
}

#[tokio::test]
async fn what_has_no_record_is_removed() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", rich_spec()).await;
    engine.close().await;
    let batch = crate::store::Batch::new()
        .delete::<crate::containers::record::ContainerRecord>(id.to_string())
        .delete::<crate::containers::record::StateRecord>(id.to_string());
    machine.store.commit(batch).await.unwrap();
    machine.images.hold_nothing();
    let (engine, report) = machine.daemon_and_report().await;
    assert_eq!((report.n_containers, report.n_orphans), (0, 2));
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_a_crash_interrupted_keeps_the_policy_quiet() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let mut events = machine.follow_events();
    let id = started(&engine, "web", ContainerSpec { restart: RestartPolicy::UnlessStopped, ..spec() }).await;
    let stopping = tokio::spawn({
        let engine = engine.clone();
        async move { engine.stop("web", StopOptions { signal: None, timeout: Some(-1) }).await }
    });
    events.until("kill").await;
    engine.close().await;
    stopping.await.unwrap().unwrap_err();
    machine.process(id).exit(0);
    let engine = machine.daemon().await;
    assert_eq!(state_of(&engine, "web").name(), "exited");
}

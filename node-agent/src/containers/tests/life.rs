//! The life of single containers as clients see it.

use super::*;
use crate::api::containers::{ContainerUpdate, PruneFilter, StopOptions, WaitCondition};
use node_shim::protocol::{Failure, FailureKind};
use shoal_types::ErrorKind;
use shoal_types::container::restart::RestartPolicy;

#[tokio::test]
async fn a_container_is_made_started_ends_and_is_removed_with_dockers_events() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let mut events = machine.follow_events();
    let id = started(&engine, "web", rich_spec()).await;
    assert_eq!(events.actions(), ["create", "network connect", "volume mount", "volume mount", "start"]);
    machine.assert_nothing_leaks(&engine);
    let exit = engine.wait("web", WaitCondition::NotRunning).await.unwrap();
    machine.process(id).exit(3);
    assert_eq!(exit.await.unwrap().code, 3);
    assert_eq!(
        events.until("die").await,
        ["network disconnect", "volume unmount", "volume unmount", "die(3)"]
    );
    machine.assert_nothing_leaks(&engine);
    let removed = engine.wait("web", WaitCondition::Removed).await.unwrap();
    engine.remove("web", FORCE).await.unwrap();
    assert_eq!(removed.await.unwrap().code, 3);
    assert_eq!(events.actions(), ["destroy"]);
    assert!(matches!(engine.find("web"), Err(NodeError::NoSuchContainer(_))));
    assert_eq!(machine.volumes.names(), ["named"]);
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test]
async fn a_stop_signals_waits_and_tells_in_order() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", spec()).await;
    let mut events = machine.follow_events();
    let stopping = tokio::spawn({
        let engine = engine.clone();
        async move { engine.stop("web", StopOptions::default()).await }
    });
    assert_eq!(events.until("kill").await, ["kill(15)"]);
    machine.process(id).exit(0);
    stopping.await.unwrap().unwrap();
    assert_eq!(events.until("stop").await, ["network disconnect", "volume unmount", "die(0)", "stop"]);
    let again = engine.stop("web", StopOptions::default()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::NotModified);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_is_not_heard_kills() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", spec()).await;
    let mut events = machine.follow_events();
    engine.stop("web", StopOptions { signal: Some("HUP".to_owned()), timeout: Some(2) }).await.unwrap();
    let signals: Vec<i32> = machine.process(id).signals().into_iter().map(|(signal, _)| signal).collect();
    assert_eq!(signals, [1, 9]);
    assert_eq!(
        events.until("stop").await,
        ["kill(1)", "kill(9)", "network disconnect", "volume unmount", "die(137)", "stop"]
    );
}

#[tokio::test]
async fn a_stop_goes_on_when_its_client_goes_away() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", spec()).await;
    let mut events = machine.follow_events();
    let stopping = tokio::spawn({
        let engine = engine.clone();
        async move { engine.stop("web", StopOptions { signal: None, timeout: Some(-1) }).await }
    });
    events.until("kill").await;
    stopping.abort();
    machine.process(id).exit(0);
    events.until("stop").await;
}

#[tokio::test]
async fn refusals_have_dockers_words_and_kinds() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = created(&engine, "web", spec()).await;
    let kill = engine.kill("web", None).await.unwrap_err();
    assert_eq!(
        (kill.message(), kill.kind()),
        (format!("cannot kill container: web: container {id} is not running"), ErrorKind::Conflict)
    );
    assert_eq!(engine.kill("web", Some("NOPE")).await.unwrap_err().message(), "invalid signal: NOPE");
    engine.start("web").await.unwrap();
    assert_eq!(engine.start("web").await.unwrap_err().kind(), ErrorKind::NotModified);
    let remove = engine.remove("web", RemoveOptions::default()).await.unwrap_err();
    assert_eq!(
        (remove.message().as_str(), remove.kind()),
        (
            "cannot remove container \"web\": container is running: stop the container before removing or force remove",
            ErrorKind::Conflict
        )
    );
    let unpause = engine.unpause("web").await.unwrap_err();
    assert_eq!(
        (unpause.message(), unpause.kind()),
        (format!("Container {id} is not paused"), ErrorKind::Internal)
    );
    engine.pause("web").await.unwrap();
    let paused = engine.start("web").await.unwrap_err();
    assert_eq!(paused.message(), "cannot start a paused container, try unpause instead");
}

#[tokio::test]
async fn pause_and_unpause_freeze_and_thaw() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    started(&engine, "web", spec()).await;
    let mut events = machine.follow_events();
    engine.pause("web").await.unwrap();
    assert_eq!(state_of(&engine, "web").name(), "paused");
    engine.unpause("web").await.unwrap();
    assert_eq!(state_of(&engine, "web").name(), "running");
    assert_eq!(events.actions(), ["pause", "unpause"]);
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing_and_tells_why() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    created(&engine, "web", rich_spec()).await;
    machine.shims.fail_next_create(Failure::new(
        FailureKind::CommandNotFound,
        "exec: \"nope\": executable file not found in $PATH",
    ));
    let error = engine.start("web").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("executable file not found in $PATH"), "{}", error.message());
    let view = engine.find("web").unwrap().view();
    assert_eq!(view.state, ContainerState::Created);
    assert_eq!(view.start_failure.as_ref().map(|failure| failure.code), Some(127));
    machine.assert_nothing_leaks(&engine);
    engine.start("web").await.unwrap();
    assert_eq!(engine.find("web").unwrap().view().start_failure, None);
}

#[tokio::test]
async fn a_missing_network_fails_the_start_as_not_found() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let mut spec = spec();
    spec.networking.mode = shoal_types::container::networking::NetworkMode::Network("nope".to_owned());
    created(&engine, "web", spec).await;
    let error = engine.start("web").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.message(), "failed to set up container networking: network nope not found");
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test]
async fn a_port_that_is_taken_fails_the_start_and_gives_everything_back() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    started(&engine, "one", rich_spec()).await;
    created(&engine, "two", rich_spec()).await;
    let error = engine.start("two").await.unwrap_err();
    assert!(error.message().contains("port is already allocated"), "{}", error.message());
    assert_eq!(state_of(&engine, "two"), ContainerState::Created);
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test]
async fn auto_remove_removes_after_the_exit_and_after_a_failed_start() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let mut events = machine.follow_events();
    let passing = ContainerSpec { auto_remove: true, ..spec() };
    let id = created(&engine, "web", passing.clone()).await;
    let removed = engine.wait("web", WaitCondition::Removed).await.unwrap();
    engine.start("web").await.unwrap();
    machine.process(id).exit(7);
    assert_eq!(removed.await.unwrap().code, 7);
    let actions = events.until("destroy").await;
    assert_eq!(actions[actions.len() - 2..], ["die(7)", "destroy"]);
    assert!(machine.volumes.names().is_empty());

    created(&engine, "web", passing).await;
    machine.shims.fail_next_create(Failure::new(FailureKind::Runtime, "no"));
    engine.start("web").await.unwrap_err();
    assert!(engine.find("web").is_err());
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test]
async fn waits_follow_their_condition() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = created(&engine, "web", spec()).await;
    let not_running = engine.wait("web", WaitCondition::NotRunning).await.unwrap();
    assert_eq!(not_running.await.unwrap().code, 0);
    let next = engine.wait("web", WaitCondition::NextExit).await.unwrap();
    engine.start("web").await.unwrap();
    machine.process(id).exit(4);
    assert_eq!(next.await.unwrap().code, 4);
    let next = engine.wait("web", WaitCondition::NextExit).await.unwrap();
    engine.start("web").await.unwrap();
    engine.remove("web", FORCE).await.unwrap();
    assert_eq!(next.await.unwrap().code, 137);
    assert!(engine.wait("web", WaitCondition::Removed).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_policy_starts_again_and_counts_until_the_user_stops() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let mut events = machine.follow_events();
    let id = started(&engine, "web", ContainerSpec { restart: RestartPolicy::Always, ..spec() }).await;
    events.until("start").await;
    machine.process(id).exit(1);
    events.until("die").await;
    let view = wait_for_state(&engine, "web", "running").await;
    assert_eq!(view.restart_count, 1);
    events.until("start").await;
    machine.process(id).exit(1);
    events.until("die").await;
    assert_eq!(state_of(&engine, "web").name(), "restarting");
    engine.stop("web", StopOptions::default()).await.unwrap();
    assert_eq!(events.actions(), ["stop"]);
    assert_eq!(state_of(&engine, "web").name(), "exited");
}

#[tokio::test]
async fn a_restart_is_stop_and_start_under_one_roof() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", spec()).await;
    let mut events = machine.follow_events();
    let restarting = tokio::spawn({
        let engine = engine.clone();
        async move { engine.restart("web", StopOptions::default()).await }
    });
    events.until("kill").await;
    machine.process(id).exit(0);
    restarting.await.unwrap().unwrap();
    let actions: Vec<String> = events.actions().into_iter().filter(|action| !action.contains(' ')).collect();
    assert_eq!(actions, ["die(0)", "stop", "start", "restart"]);
    let dead = engine.restart("nope", StopOptions::default()).await.unwrap_err();
    assert_eq!(dead.message(), "No such container: nope");
}

#[tokio::test]
async fn renaming_moves_the_name_and_frees_the_old_one() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", spec()).await;
    created(&engine, "db", spec()).await;
    let mut events = machine.follow_events();
    engine.rename("web", "/front").await.unwrap();
    assert_eq!(engine.find("front").unwrap().id(), id);
    assert!(engine.find("web").is_err());
    assert_eq!(events.actions(), ["rename(/web)"]);
    let taken = engine.rename("front", "db").await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
    assert!(taken.message().starts_with("Error when allocating new name: Conflict."), "{}", taken.message());
    let same = engine.rename("front", "front").await.unwrap_err();
    assert_eq!(same.message(), "Renaming a container with the same name as its current name");
    let empty = engine.rename("front", "/").await.unwrap_err();
    assert_eq!(empty.message(), "Neither old nor new names may be empty");
    let engine = machine.restart(engine).await;
    assert_eq!(engine.find("front").unwrap().id(), id);
}

#[tokio::test]
async fn an_update_changes_the_policy_and_limits_of_a_stopped_container() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    created(&engine, "web", spec()).await;
    let mut update = ContainerUpdate { restart: Some(RestartPolicy::Always), ..ContainerUpdate::default() };
    (update.resources.memory, update.resources.memory_swap) = (64 << 20, 128 << 20);
    engine.update("web", update).await.unwrap();
    let view = engine.find("web").unwrap().view();
    assert_eq!((view.spec.restart, view.spec.resources.memory), (RestartPolicy::Always, 64 << 20));
    assert_eq!(view.spec.resources.memory_swap, 128 << 20);
    let mut bad = ContainerUpdate::default();
    bad.resources.memory = 1;
    let error = engine.update("web", bad).await.unwrap_err();
    assert_eq!(error.message(), "Cannot update container web: Minimum memory limit allowed is 6MB");
}

#[tokio::test]
async fn a_shim_that_dies_takes_the_container_down_and_is_cleaned_up() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", rich_spec()).await;
    let mut events = machine.follow_events();
    machine.process(id).die();
    events.until("die").await;
    assert_eq!(state_of(&engine, "web").last_exit().map(|exit| exit.code), Some(137));
    machine.assert_nothing_leaks(&engine);
}

#[tokio::test]
async fn running_out_of_memory_is_told_and_shown() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", spec()).await;
    let mut events = machine.follow_events();
    machine.process(id).run_out_of_memory();
    assert_eq!(events.until("oom").await, ["oom"]);
    machine.process(id).exit(137);
    let view = wait_for_state(&engine, "web", "exited").await;
    assert!(view.state.last_exit().is_some_and(|exit| exit.oom_killed));
}

#[tokio::test]
async fn prune_removes_what_does_not_run() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    started(&engine, "running", spec()).await;
    let stopped = created(&engine, "stopped", spec()).await;
    let mut labelled = spec();
    labelled.labels.insert("keep".to_owned(), String::new());
    created(&engine, "kept", labelled).await;
    let mut filter = PruneFilter::default();
    filter.labels.excluded.push(("keep".to_owned(), None));
    let pruned = engine.prune(filter).await.unwrap();
    assert_eq!(pruned.removed, [stopped.to_string()]);
    assert!(engine.find("running").is_ok() && engine.find("kept").is_ok());
}

#[tokio::test]
async fn a_sleeping_container_has_no_task_and_wakes_for_requests() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for number in 0..20 {
        created(&engine, &format!("c{number}"), spec()).await;
    }
    let settle = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, settle).await.expect("stopped containers have tasks");
    engine.start("c7").await.unwrap();
    assert_eq!(state_of(&engine, "c7").name(), "running");
}

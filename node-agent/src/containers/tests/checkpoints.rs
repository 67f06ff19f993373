//! Checkpoints as clients see them: what is kept, what is refused, and that a departure is no exit for the policy.

use std::path::PathBuf;

use super::*;
use crate::api::checkpoints::{AfterCheckpoint, CheckpointName, CheckpointWish, Checkpoints as _};
use shoal_types::ErrorKind;
use shoal_types::container::restart::RestartPolicy;

fn named(name: &str) -> CheckpointName {
    CheckpointName { name: name.to_owned(), root: None }
}

/// Asks for a checkpoint of a container whose runtime is taken to be fit.
async fn write_down(engine: &Engine, name: &str, after: AfterCheckpoint) -> Result<(), NodeError> {
    let handle = engine.find(name).unwrap();
    let shim = handle.shim().unwrap();
    engine.write_down(handle, shim, name, CheckpointWish { checkpoint: named("first"), after }).await
}

#[tokio::test]
async fn a_checkpoint_is_made_listed_and_removed() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", spec()).await;
    assert_eq!(engine.checkpoints("web", None).await.unwrap(), [""; 0]);
    let mut events = machine.follow_events();
    write_down(&engine, "web", AfterCheckpoint::Run).await.unwrap();
    assert_eq!(events.actions(), ["checkpoint"]);
    assert_eq!(state_of(&engine, "web").name(), "running");
    let again = write_down(&engine, "web", AfterCheckpoint::Run).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    assert_eq!(
        again.message(),
        "cannot checkpoint container web: checkpoint with name first already exists for container web"
    );
    let engine = machine.restart(engine).await;
    assert_eq!(engine.checkpoints("web", None).await.unwrap(), ["first"]);
    let directory = machine.root.path().join("data/containers").join(id.to_string()).join("checkpoints");
    assert_eq!(engine.checkpoints("web", Some(directory)).await.unwrap(), ["first"]);
    engine.remove_checkpoint("web", named("first")).await.unwrap();
    assert_eq!(engine.checkpoints("web", None).await.unwrap(), [""; 0]);
    let gone = engine.remove_checkpoint("web", named("first")).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(gone.message(), "checkpoint first does not exist for container web");
}

#[tokio::test]
async fn a_container_that_departs_stays_where_it_is_until_it_is_removed_with_its_checkpoints() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let persistent = ContainerSpec { restart: RestartPolicy::UnlessStopped, ..spec() };
    let id = started(&engine, "web", persistent).await;
    write_down(&engine, "web", AfterCheckpoint::Exit).await.unwrap();
    wait_for_state(&engine, "web", "exited").await;
    let engine = machine.restart(engine).await;
    assert_eq!(state_of(&engine, "web").name(), "exited");
    assert_eq!(engine.checkpoints("web", None).await.unwrap(), ["first"]);
    engine.remove("web", FORCE).await.unwrap();
    assert!(!machine.root.path().join("data/containers").join(id.to_string()).exists());
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_reason() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let wish = CheckpointWish { checkpoint: named("first"), after: AfterCheckpoint::Run };
    let missing = engine.checkpoint("web", wish.clone()).await.unwrap_err();
    assert!(matches!(missing, NodeError::NoSuchContainer(_)));
    created(&engine, "web", spec()).await;
    let still = engine.checkpoint("web", wish.clone()).await.unwrap_err();
    assert_eq!(still.kind(), ErrorKind::Conflict);
    assert!(still.message().ends_with(" is not running"));
    engine.start("web").await.unwrap();
    let unfit = engine.checkpoint("web", wish).await.unwrap_err();
    assert_eq!(unfit.kind(), ErrorKind::NotImplemented);
    assert!(unfit.message().contains("--add-runtime"));
    let running = engine.restore("web", named("first")).await.unwrap_err();
    assert_eq!(running.kind(), ErrorKind::NotModified);
    let nowhere = engine.checkpoints("web", Some(PathBuf::from("/no/such/place"))).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::NotFound);
}

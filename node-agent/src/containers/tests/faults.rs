//! Every call to the world fails once, and the daemon dies before and after each: nothing leaks, nothing doubles, and the
//! same wish can be granted afterwards.

use super::*;
use crate::api::containers::StopOptions;
use crate::containers::fakes::Fault;

/// What a client does, in the order in which it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Create,
    Start,
    Kill,
    Remove,
}

const DEEDS: [Deed; 4] = [Deed::Create, Deed::Start, Deed::Kill, Deed::Remove];

async fn perform(engine: &Engine, deed: Deed) -> Result<(), NodeError> {
    match deed {
        Deed::Create => create(engine, "web", rich_spec()).await.map(drop),
        Deed::Start => engine.start("web").await,
        Deed::Kill => engine.kill("web", None).await,
        Deed::Remove => engine.remove("web", FORCE).await,
    }
}

/// A machine on which everything before this deed has been done.
async fn prepared(deed: Deed) -> (Machine, Engine) {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    for earlier in DEEDS.into_iter().take_while(|earlier| *earlier != deed) {
        perform(&engine, earlier).await.unwrap();
    }
    (machine, engine)
}

/// The calls of the world that a deed makes when all goes well.
async fn calls_of(deed: Deed) -> Vec<&'static str> {
    let (machine, engine) = prepared(deed).await;
    machine.faults.disarm();
    perform(&engine, deed).await.unwrap();
    let calls = machine.faults.calls();
    assert!(!calls.is_empty(), "{deed:?}");
    engine.close().await;
    calls
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_any_call_leaves_nothing_behind_and_can_be_repeated() {
    for deed in DEEDS {
        let calls = calls_of(deed).await;
        for (call_idx, call) in calls.iter().enumerate() {
            let (machine, engine) = prepared(deed).await;
            machine.faults.arm(call_idx, Fault::Fail);
            let outcome = perform(&engine, deed).await;
            machine.faults.disarm();
            // A failed teardown is found again at boot; everything else must be clean at once.
            let is_teardown =
                ["networks.disconnect", "volumes.unmount", "mounter.unmount", "volumes.release", "shim.kill"]
                    .contains(call);
            let engine = if is_teardown { machine.restart(engine).await } else { engine };
            machine.assert_nothing_leaks(&engine);
            if outcome.is_err() {
                perform(&engine, deed).await.unwrap_or_else(|error| {
                    panic!("{deed:?} after a failure of {call}: {}", error.message())
                });
            }
            machine.assert_nothing_leaks(&engine);
            engine.close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_leaves_nothing_behind_and_can_be_repeated() {
    for deed in DEEDS {
        let calls = calls_of(deed).await;
        for (call_idx, call) in calls.iter().enumerate() {
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                crash_at(deed, call_idx, call, fault).await;
            }
        }
    }
}

async fn crash_at(deed: Deed, call_idx: usize, call: &str, fault: Fault) {
    let case = format!("{deed:?}, {fault:?} {call}");
    let (machine, engine) = prepared(deed).await;
    machine.faults.arm(call_idx, fault);
    let doing = tokio::spawn({
        let engine = engine.clone();
        async move { perform(&engine, deed).await }
    });
    tokio::time::timeout(PATIENCE, machine.faults.crashed()).await.unwrap_or_else(|_| panic!("{case}"));
    engine.close().await;
    let _ = doing.await;
    machine.faults.disarm();
    machine.images.hold_nothing();
    let engine = machine.daemon().await;
    machine.assert_nothing_leaks(&engine);
    let state = engine.find("web").map(|handle| handle.view().state.name());
    match deed {
        Deed::Create => assert!(matches!(state, Err(_) | Ok("created")), "{case}: {state:?}"),
        Deed::Start => assert!(matches!(state, Ok("created" | "running")), "{case}: {state:?}"),
        Deed::Kill => assert!(matches!(state, Ok("running" | "exited")), "{case}: {state:?}"),
        Deed::Remove => assert!(matches!(state, Err(_) | Ok("exited")), "{case}: {state:?}"),
    }
    finish(&engine, &case).await;
    machine.assert_nothing_leaks(&engine);
    assert!(engine.find("web").is_err(), "{case}");
    engine.close().await;
}

/// Leads the container through the rest of its life, from wherever the crash has left it.
async fn finish(engine: &Engine, case: &str) {
    let fail = |error: NodeError| panic!("{case}: {}", error.message());
    if engine.find("web").is_err() {
        create(engine, "web", rich_spec()).await.map(drop).unwrap_or_else(fail);
    }
    if state_of(engine, "web").run().is_none() {
        engine.start("web").await.unwrap_or_else(fail);
    }
    engine
        .stop("web", StopOptions { signal: Some("KILL".to_owned()), timeout: None })
        .await
        .unwrap_or_else(fail);
    engine.remove("web", FORCE).await.unwrap_or_else(fail);
}

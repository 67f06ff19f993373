//! Commands in containers and attached clients.

use super::*;
use crate::api::containers::Containers;
use crate::api::execs::{ExecSpec, ExecStart, Execs};
use crate::api::streams::Framing;
use shoal_types::ErrorKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn command(words: &[&str]) -> ExecSpec {
    ExecSpec {
        command: words.iter().map(|&word| word.to_owned()).collect(),
        attach_stdin: true,
        attach_stdout: true,
        attach_stderr: true,
        ..ExecSpec::default()
    }
}

fn execs(engine: &Engine) -> &dyn Execs {
    engine
}

const START: ExecStart = ExecStart { framing: Framing::Multiplexed, console_size: None };

#[tokio::test]
async fn the_exit_code_is_known_when_the_stream_ends() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", spec()).await;
    let mut events = machine.follow_events();
    let exec = execs(&engine).create("web", command(&["ls", "-l"])).await.unwrap();
    let attachment = execs(&engine).start(&exec.to_string(), START).await.unwrap();
    let running = execs(&engine).inspect(&exec.to_string()).await.unwrap();
    assert!(running.running && running.pid > 0 && running.exit_code.is_none());
    let mut process = machine.process(id).take_execs().pop().unwrap();
    let mut input = attachment.input.unwrap();
    input.write_all(b"in").await.unwrap();
    input.shutdown().await.unwrap();
    let mut received = String::new();
    let mut far_end = process.stream.take().unwrap();
    far_end.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "in");
    far_end.write_all(b"out").await.unwrap();
    drop(far_end);
    machine.process(id).exit_exec(exec, 4);
    let mut output = attachment.output;
    let mut text = String::new();
    output.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "out");
    let ended = execs(&engine).inspect(&exec.to_string()).await.unwrap();
    assert_eq!((ended.running, ended.exit_code), (false, Some(4)));
    assert_eq!(events.until("exec_die").await, ["exec_create: ls -l", "exec_start: ls -l", "exec_die(4)"]);
}

#[tokio::test]
async fn a_command_runs_once() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", spec()).await;
    let exec = execs(&engine).create("web", command(&["ls"])).await.unwrap();
    execs(&engine).start_detached(&exec.to_string()).await.unwrap();
    let again = execs(&engine).start_detached(&exec.to_string()).await.unwrap_err();
    assert_eq!(again.message(), format!("exec command {exec} is already running"));
    machine.process(id).exit_exec(exec, 0);
    let mut entry = engine.boot_access().execs.find(&exec.to_string()).unwrap().follow();
    entry.wait_for(|phase| matches!(phase, crate::containers::exec::Phase::Exited(..))).await.unwrap();
    let again = execs(&engine).start_detached(&exec.to_string()).await.unwrap_err();
    assert_eq!(again.message(), format!("exec command {exec} has already run"));
}

#[tokio::test]
async fn commands_need_a_running_container_and_unstarted_ones_go_with_it() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = created(&engine, "web", spec()).await;
    let error = execs(&engine).create("web", command(&["ls"])).await.unwrap_err();
    assert_eq!(
        (error.message(), error.kind()),
        (format!("container {id} is not running"), ErrorKind::Conflict)
    );
    Containers::start(&engine, "web").await.unwrap();
    let error = execs(&engine).create("web", ExecSpec::default()).await.unwrap_err();
    assert_eq!(error.message(), "No exec command specified");
    let nobody = ExecSpec { user: "nobody".to_owned(), ..command(&["ls"]) };
    let error = execs(&engine).create("web", nobody).await.unwrap_err();
    assert_eq!(error.message(), "unable to find user nobody: no matching entries in passwd file");
    engine.pause("web").await.unwrap();
    let error = execs(&engine).create("web", command(&["ls"])).await.unwrap_err();
    assert_eq!(error.message(), "Container web is paused, unpause the container before exec");
    engine.unpause("web").await.unwrap();
    let exec = execs(&engine).create("web", command(&["ls"])).await.unwrap();
    machine.process(id).exit(0);
    wait_for_state(&engine, "web", "exited").await;
    let error = execs(&engine).inspect(&exec.to_string()).await.unwrap_err();
    assert_eq!(error.message(), format!("No such exec instance: {exec}"));
}

#[tokio::test]
async fn what_became_of_a_command_is_known_until_its_container_is_removed() {
    let machine = Machine::new();
    let engine = machine.daemon().await;
    let id = started(&engine, "web", spec()).await;
    let process = machine.process(id);
    let create = async || execs(&engine).create("web", command(&["ls"])).await.unwrap();
    let (finished, running) = (create().await, create().await);
    for exec in [finished, running] {
        execs(&engine).start_detached(&exec.to_string()).await.unwrap();
    }
    process.exit_exec(finished, 4);
    process.exit(0);
    wait_for_state(&engine, "web", "exited").await;
    assert!(
        crate::api::containers::ContainerViews::inspect(&engine, "web").await.unwrap().exec_ids.is_empty()
    );
    process.exit_exec(running, 137);
    for (exec, code) in [(finished, 4), (running, 137)] {
        let mut entry = engine.boot_access().execs.find(&exec.to_string()).unwrap().follow();
        entry.wait_for(|phase| matches!(phase, crate::containers::exec::Phase::Exited(..))).await.unwrap();
        let ended = execs(&engine).inspect(&exec.to_string()).await.unwrap();
        assert_eq!((ended.running, ended.exit_code), (false, Some(code)));
        let refused = [
            execs(&engine).resize(&exec.to_string(), 40, 40).await.unwrap_err(),
            execs(&engine).start_detached(&exec.to_string()).await.unwrap_err(),
        ];
        for error in refused {
            let expected = (format!("container {id} is not running"), ErrorKind::Conflict);
            assert_eq!((error.message(), error.kind()), expected);
        }
    }
    engine.remove("web", FORCE).await.unwrap();
    let error = execs(&engine).inspect(&finished.to_string()).await.unwrap_err();
    assert_eq!(error.message(), format!("No such exec instance: {finished}"));
}

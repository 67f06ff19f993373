//! One container after the other: `true` from a cached image.
//!
//! Start reading at [`run`].

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use crate::bench::api::{IMAGE, Network};
use crate::bench::rounds::{Bench, Turn};

/// Create, start, wait, remove over one connection, with a bridge network and with none.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    bench.turns(bench.rounds(2, 30), |turn| {
        let (life, took, cpu) = turn.measure(|turn| turn.api.run_to_end(&["true"], Network::Bridge))?;
        turn.record("run.bridge", took)?;
        turn.record("run.bridge.cpu", cpu)?;
        turn.record("run.bridge.create", life.create)?;
        turn.record("run.bridge.start", life.start)?;
        turn.record("run.bridge.wait", life.wait)?;
        turn.record("run.bridge.remove", life.remove)?;
        let (_, took, cpu) = turn.measure(|turn| turn.api.run_to_end(&["true"], Network::None))?;
        turn.record("run.none", took)?;
        turn.record("run.none.cpu", cpu)
    });
    Ok(())
}

/// The stock client, as a user waits for it.
pub(super) fn cli(bench: &mut Bench<'_>) -> Result<()> {
    let parent = |turn: &Turn<'_>| format!("--cgroup-parent={}", turn.engine.account().container_parent());
    bench.turns(bench.rounds(1, 20), |turn| {
        let parent = parent(turn);
        let (_, took, cpu) = turn.measure(|turn| docker(turn, &["run", "--rm", &parent, IMAGE, "true"]))?;
        turn.record("cli.run", took)?;
        turn.record("cli.run.cpu", cpu)?;
        let (_, took, _) = turn.measure(|turn| docker(turn, &["version"]))?;
        turn.record("cli.version", took)
    });
    Ok(())
}

/// Runs the client to its end without reading what it writes.
pub(super) fn docker(turn: &Turn<'_>, arguments: &[&str]) -> Result<()> {
    let mut command = turn.engine.docker(arguments);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let output = child.context("start docker")?.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker {}: {}: {}", arguments.join(" "), output.status, error.trim());
    Ok(())
}

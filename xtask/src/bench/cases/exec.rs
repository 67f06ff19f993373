//! A program in a container that runs already.
//!
//! Start reading at [`run`].

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};

use super::run::docker;
use crate::bench::rounds::Bench;

/// Create, start attached, read to the end, inspect; and the same by the stock client.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut containers = HashMap::new();
    bench.once(|turn| {
        containers.insert(turn.engine.name(), turn.api.sleeper()?);
        Ok(())
    });
    bench.turns(bench.rounds(2, 30), |turn| {
        let id = containers.get(turn.engine.name()).context("no container")?;
        let (written, took, cpu) = turn.measure(|turn| turn.api.exec(id, &["echo", "hello"]))?;
        // Eight bytes of frame, then what the program wrote.
        ensure!(written.ends_with(b"hello\n"), "exec wrote {:?}", String::from_utf8_lossy(&written));
        turn.record("exec.api", took)?;
        turn.record("exec.api.cpu", cpu)
    });
    bench.turns(bench.rounds(1, 12), |turn| {
        let id = containers.get(turn.engine.name()).context("no container")?;
        let (_, took, _) = turn.measure(|turn| docker(turn, &["exec", id, "true"]))?;
        turn.record("exec.cli", took)
    });
    Ok(())
}

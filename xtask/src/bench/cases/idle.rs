//! What an engine costs while nothing happens.
//!
//! Start reading at [`run`]. Memory is the proportional set size of the daemon, its helpers and the containers' monitors: pages
//! that several processes share count once.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::bench::accounting::Memory;
use crate::bench::rounds::{Bench, Turn};
use crate::bench::samples::Clock;

const CONTAINERS: usize = 20;
/// What a daemon may still do after its start, and after the start of containers.
const SETTLE: Duration = Duration::from_secs(5);

/// A fresh daemon, then the same with idle containers.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let numbers: Vec<usize> = (0..bench.scaled(CONTAINERS, 4)).collect();
    let mut empty = HashMap::new();
    bench.once(|turn| {
        turn.engine.stop(Signal::SIGTERM)?;
        turn.engine.start().map(|_| ())
    });
    settle();
    bench.look(|turn| {
        let memory = turn.engine.account().memory()?;
        turn.note(&format!("no containers: {}", words(&memory)));
        turn.record("idle.memory", memory.mebibytes)?;
        empty.insert(turn.engine.name(), memory.mebibytes);
        Ok(())
    });
    at_rest(bench, ["idle.cpu", "idle.wakeups"])?;
    bench.once(|turn| turn.engine.in_parallel(&numbers, |api, _| api.sleeper()).map(|_| ()));
    settle();
    bench.look(|turn| {
        let memory = turn.engine.account().memory()?;
        turn.note(&format!("{} containers: {}", numbers.len(), words(&memory)));
        let empty = empty.get(turn.engine.name()).context("not measured without containers")?;
        turn.record("idle.container", (memory.mebibytes - empty) / numbers.len() as f64)
    });
    at_rest(bench, ["idle.container.cpu", "idle.container.wakeups"])
}

/// All engines over the same stretch of time.
fn at_rest(bench: &mut Bench<'_>, [cpu, wakeups]: [&str; 2]) -> Result<()> {
    let duration = bench.lasting(20.0);
    let read = |turn: &Turn<'_>| -> Result<(f64, u64)> {
        Ok((turn.engine.account().cpu()?, turn.engine.account().voluntary_switches()?))
    };
    let mut before = HashMap::new();
    bench.look(|turn| {
        before.insert(turn.engine.name(), (read(turn)?, Clock::start()));
        Ok(())
    });
    // The measurement is what happens while nobody does anything.
    std::thread::sleep(duration);
    bench.look(|turn| {
        let (after_cpu, after_switches) = read(turn)?;
        let ((before_cpu, before_switches), clock) =
            before.get_mut(turn.engine.name()).context("not measured before")?;
        let milliseconds = clock.lap();
        turn.record(cpu, (after_cpu - *before_cpu) / milliseconds * 100.0)?;
        let switches = after_switches.saturating_sub(*before_switches);
        turn.record(wakeups, switches as f64 / milliseconds * 1e3)
    });
    Ok(())
}

fn settle() {
    // What a daemon does after its start cannot be seen from outside.
    std::thread::sleep(SETTLE);
}

/// Memory by program, for those who ask where it is.
fn words(memory: &Memory) -> String {
    let words = memory
        .by_program
        .iter()
        .map(|(name, (count, mebibytes))| format!("{count} {name} {mebibytes:.2} MiB"));
    format!("{:.2} MiB: {}", memory.mebibytes, words.collect::<Vec<_>>().join(", "))
}

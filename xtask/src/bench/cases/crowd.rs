//! Whether the cost of a start depends on how many containers run already.
//!
//! Start reading at [`run`].

use std::collections::HashMap;

use anyhow::{Context as _, Result};

use crate::bench::api::{Network, State};
use crate::bench::floors::Beginning;
use crate::bench::rounds::{Bench, Rounds};
use crate::bench::samples::{Sample, summary};

const FEW: usize = 10;
const MANY: usize = 300;
/// How often a container is run beside the crowd.
const RUNS: Rounds = Rounds { warm_up: 1, recorded: 9 };

/// Times and processor times beside a crowd of one size, by engine.
type Beside = HashMap<&'static str, (Vec<Sample>, Vec<Sample>)>;

/// The same container beside a few others and beside many.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let beginning = Beginning::prepare(bench)?;
    let few = beside(bench, FEW, "crowd.few");
    record_beginnings(bench, &beginning, "floor.crowd.few")?;
    let many = bench.scaled(MANY, FEW * 2);
    if many != MANY {
        bench.once(|turn| {
            turn.note(&format!("the crowd was {many} containers, not {MANY}, because of --scale"));
            Ok(())
        });
    }
    let many = beside(bench, many, "crowd.many");
    record_beginnings(bench, &beginning, "floor.crowd.many")?;
    bench.once(|turn| {
        let name = turn.engine.name();
        let median = |samples: &[Sample]| summary(samples).map(|summary| summary.median).context("no values");
        let (few, few_cpu) = few.get(name).context("not measured beside few")?;
        let (many, many_cpu) = many.get(name).context("not measured beside many")?;
        turn.record("crowd.growth", median(many)? / median(few)?)?;
        turn.record("crowd.growth.cpu", median(many_cpu)? / median(few_cpu)?)
    });
    Ok(())
}

/// What no engine can beat beside this crowd.
fn record_beginnings(bench: &mut Bench<'_>, beginning: &Beginning, metric: &str) -> Result<()> {
    (0..bench.scaled(40, 5)).try_for_each(|round| bench.record_floor(metric, round, beginning.once()?))
}

/// Fills every engine up to `crowd` running containers and runs one more, again and again.
fn beside(bench: &mut Bench<'_>, crowd: usize, metric: &str) -> Beside {
    bench.once(|turn| {
        let running = turn.api.ours(State::Running)?.len();
        let missing: Vec<usize> = (running..crowd).collect();
        turn.engine.in_parallel(&missing, |api, _| api.sleeper()).map(|_| ())
    });
    let mut measured = Beside::new();
    let mut round = 0;
    bench.turns(RUNS, |turn| {
        let (_, took, cpu) = turn.measure(|turn| turn.api.run_to_end(&["true"], Network::Bridge))?;
        turn.record(metric, took)?;
        round += 1;
        if !turn.is_warming_up() {
            let (times, cpus) = measured.entry(turn.engine.name()).or_default();
            times.push(Sample { round, value: took });
            cpus.push(Sample { round, value: cpu });
        }
        Ok(())
    });
    measured
}

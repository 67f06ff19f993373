//! Many containers at once.
//!
//! Start reading at [`run`].

use anyhow::Result;

use crate::bench::rounds::Bench;

const CONTAINERS: usize = 50;

/// Eight workers create and start containers, then remove them.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let numbers: Vec<usize> = (0..bench.scaled(CONTAINERS, 8)).collect();
    let count = numbers.len() as f64;
    bench.turns(bench.rounds(0, 4), |turn| {
        let (ids, took, cpu) =
            turn.measure(|turn| turn.engine.in_parallel(&numbers, |api, _| api.sleeper()))?;
        turn.record("parallel.rate", count / took * 1e3)?;
        turn.record("parallel.cpu", cpu / count)?;
        let (_, took, _) = turn.measure(|turn| turn.engine.in_parallel(&ids, |api, id| api.remove(id)))?;
        turn.record("parallel.remove", count / took * 1e3)
    });
    Ok(())
}

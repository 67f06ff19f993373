//! Start of the daemon until it answers: empty, with 120 containers of which 20 run, and after it was killed.
//!
//! Start reading at [`run`]. The containers must go on meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::bench::api::{Network, State};
use crate::bench::options::Kind;
use crate::bench::rounds::{Bench, Turn};

const STOPPED: usize = 100;
const RUNNING: usize = 20;
/// Until the list of running containers is complete again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ends daemons in turns and starts them again.
pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    bench.turns(bench.rounds(0, 4), |turn| again(turn, Signal::SIGTERM, "restart.empty", 0));
    let stopped: Vec<usize> = (0..bench.scaled(STOPPED, 5)).collect();
    let running: Vec<usize> = (0..bench.scaled(RUNNING, 2)).collect();
    bench.once(|turn| {
        turn.engine.in_parallel(&stopped, |api, _| {
            let id = api.create(&["true"], &serde_json::json!({}))?;
            api.start(&id)?;
            api.wait(&id)
        })?;
        turn.engine.in_parallel(&running, |api, _| api.sleeper()).map(|_| ())
    });
    bench.turns(bench.rounds(0, 4), |turn| again(turn, Signal::SIGTERM, "restart.full", running.len()));
    bench.turns(bench.rounds(0, 3), |turn| again(turn, Signal::SIGKILL, "restart.killed", running.len()));
    bench.once(|turn| turn.api.run_to_end(&["true"], Network::Bridge).map(|_| ()));
    Ok(())
}

fn again(turn: &mut Turn<'_>, signal: Signal, metric: &str, running: usize) -> Result<()> {
    turn.engine.stop(signal)?;
    let took = turn.engine.start()?;
    turn.record(metric, took)?;
    wait_for_running(turn, running)
}

/// An engine may answer before it has looked at its containers, but it must find all of them.
fn wait_for_running(turn: &Turn<'_>, expected: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let running = turn.engine.api().ours(State::Running)?.len();
        if running == expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            let hint =
                if turn.engine.kind() == Kind::Podman { " (podman keeps them by its own means)" } else { "" };
            bail!("{running} containers run after the restart, not {expected}{hint}");
        }
        // The list is the only place where it shows.
        std::thread::sleep(Duration::from_millis(5));
    }
}

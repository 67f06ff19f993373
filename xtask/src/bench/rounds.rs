//! Engines take turns: every round asks each of them once, and another one begins each time.
//!
//! Start reading at [`Bench::turns`].

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::api::{Api, status_of};
use super::engine::Engine;
use super::machine;
use super::options::Options;
use super::samples::{Clock, Milliseconds, Sample, Samples};

/// A window in which the machine's idleness is judged.
const WINDOW: Duration = Duration::from_millis(250);
/// More than this part of the machine in use by others makes a round a loud one.
const LOUD: f64 = 0.25;

/// One run over all cases.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    options: &'a Options,
    engines: &'a [Engine],
    samples: Samples,
    /// What the machine itself takes, under the one name of "machine".
    floors: Samples,
    case: &'static str,
    /// Engines that have not failed in this case.
    live: Vec<usize>,
    loud: usize,
    counted: usize,
}

/// How often something is done: first to warm up, then for the record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounds {
    pub(super) warm_up: usize,
    pub(super) recorded: usize,
}

/// One engine's part of a round.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) engine: &'a Engine,
    /// A connection of this turn.
    pub(super) api: Api,
    samples: &'a mut Samples,
    /// `None` while warming up.
    round: Option<usize>,
}

impl Turn<'_> {
    /// Records a value of this engine, unless this is for warming up.
    pub(super) fn record(&mut self, metric: &str, value: f64) -> Result<()> {
        match self.round {
            Some(round) => self.samples.record(metric, self.engine.index(), Sample { round, value }),
            None => Ok(()),
        }
    }

    pub(super) fn is_warming_up(&self) -> bool {
        self.round.is_none()
    }

    /// Does something and returns how long it took and what processor time the engine spent on it.
    pub(super) fn measure<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<(T, Milliseconds, Milliseconds)> {
        let account = self.engine.account();
        let before = account.cpu()?;
        let mut clock = Clock::start();
        let result = act(self)?;
        let took = clock.lap();
        account.settle()?;
        Ok((result, took, account.cpu()? - before))
    }

    /// Tells the reader something that is not a number of the table.
    pub(super) fn note(&mut self, text: &str) {
        let line = format!("{}: {text}", self.engine.name());
        println!("  - {line}");
        self.samples.notes.push(line);
    }
}

impl<'a> Bench<'a> {
    pub(super) fn new(options: &'a Options, engines: &'a [Engine], samples: Samples) -> Self {
        let floors = Samples::new(&["machine".to_owned()]);
        Self { options, engines, samples, floors, case: "", live: Vec::new(), loud: 0, counted: 0 }
    }

    /// Begins a case, with all engines again.
    pub(super) fn begin(&mut self, case: &'static str) {
        self.case = case;
        self.live = (0..self.engines.len()).collect();
        (self.loud, self.counted) = (0, 0);
    }

    pub(super) fn options(&self) -> &Options {
        self.options
    }

    pub(super) fn samples(&self) -> &Samples {
        &self.samples
    }

    pub(super) fn floors(&self) -> &Samples {
        &self.floors
    }

    /// The stock docker client as the engines get it, talking to the first of them unless told otherwise.
    pub(super) fn client(&self, arguments: &[&str]) -> Result<Command> {
        Ok(self.engines.first().context("no engine is measured")?.docker(arguments))
    }

    /// Records what the machine takes for something that engines do as well.
    pub(super) fn record_floor(&mut self, metric: &str, round: usize, value: f64) -> Result<()> {
        self.floors.record(metric, 0, Sample { round, value })
    }

    pub(super) fn loud_rounds(&self) -> usize {
        self.loud
    }

    pub(super) fn counted_rounds(&self) -> usize {
        self.counted
    }

    /// A count as the command line scales it.
    pub(super) fn scaled(&self, count: usize, least: usize) -> usize {
        let scaled = (count as f64 * self.options.scale).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count above zero"
        )]
        let scaled = scaled as usize;
        scaled.max(least)
    }

    /// A duration as the command line scales it, but long enough to say something.
    pub(super) fn lasting(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64((seconds * self.options.scale).max(0.5))
    }

    /// How often a case is repeated unless the command line says otherwise.
    pub(super) fn rounds(&self, warm_up: usize, recorded: usize) -> Rounds {
        Rounds { warm_up, recorded: self.options.rounds.unwrap_or_else(|| self.scaled(recorded, 2)) }
    }

    /// Gives every engine its turn once, without warming up.
    pub(super) fn once(&mut self, act: impl FnMut(&mut Turn<'_>) -> Result<()>) {
        self.turns(Rounds { warm_up: 0, recorded: 1 }, act);
    }

    /// Gives every engine its turn once and asks it nothing before: for what is seen of an engine at rest.
    pub(super) fn look(&mut self, act: impl FnMut(&mut Turn<'_>) -> Result<()>) {
        self.take_turns(Rounds { warm_up: 0, recorded: 1 }, act);
    }

    /// Gives every engine its turns, over a connection that is open. One that fails is reported and has no more turns in this
    /// case.
    pub(super) fn turns(&mut self, rounds: Rounds, mut act: impl FnMut(&mut Turn<'_>) -> Result<()>) {
        // Opens the connection, which is no part of what is measured.
        self.take_turns(rounds, |turn| turn.api.ping().and_then(|()| act(turn)));
    }

    fn take_turns(&mut self, rounds: Rounds, mut act: impl FnMut(&mut Turn<'_>) -> Result<()>) {
        for number in 0..rounds.warm_up + rounds.recorded {
            self.wait_until_quiet();
            let mut order = self.live.clone();
            let first = number % order.len().max(1);
            order.rotate_left(first);
            for index in order {
                let Some(engine) = self.engines.get(index) else { continue };
                let round = number.checked_sub(rounds.warm_up);
                let mut turn = Turn { engine, api: engine.api(), samples: &mut self.samples, round };
                if let Err(error) = act(&mut turn) {
                    self.live.retain(|live| *live != index);
                    self.report(engine.name(), &error);
                }
            }
        }
    }

    /// Removes what the case left in every engine.
    pub(super) fn clean(&mut self) {
        for engine in self.engines {
            if let Err(error) = engine.clean() {
                self.report(engine.name(), &error.context("clean up"));
            }
        }
    }

    /// Tells the reader something about the machine.
    pub(super) fn note(&mut self, text: &str) {
        println!("  - {text}");
        self.samples.notes.push(text.to_owned());
    }

    /// Reports the failure of a whole case.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        self.report("the case", error);
    }

    fn report(&mut self, who: &str, error: &anyhow::Error) {
        // An operation that an engine refuses as not implemented is a gap, not a failure of the run.
        let what = if status_of(error) == Some(501) { "left out" } else { "failed" };
        let line = format!("{}: {who} {what}: {error:#}", self.case);
        println!("  ! {line}");
        self.samples.notes.push(line);
    }

    /// With `--quiet`: until two of three windows in a row left most of the machine idle.
    fn wait_until_quiet(&mut self) {
        self.counted += 1;
        let deadline = Instant::now() + self.options.quiet;
        let mut recent = [false; 3];
        loop {
            let before = machine::ticks();
            // Idleness is a property of a stretch of time.
            std::thread::sleep(if self.options.quiet.is_zero() { Duration::from_millis(50) } else { WINDOW });
            let is_quiet = machine::busy_since(before) < LOUD;
            recent.rotate_left(1);
            recent[2] = is_quiet;
            let is_settled = recent.iter().filter(|quiet| **quiet).count() >= 2;
            if is_settled || (self.options.quiet.is_zero() && is_quiet) {
                return;
            }
            if Instant::now() >= deadline {
                self.loud += 1;
                return;
            }
        }
    }
}

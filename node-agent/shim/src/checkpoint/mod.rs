//! Checkpoints: the runtime writes the state of the container's processes down, and kills them if that is wanted.
//!
//! Start reading at [`Shim::checkpoint`]. The shim sees it through whether a daemon is there or not: a container that was killed
//! for its checkpoint has lost nothing. `draft.rs` lets nobody find half a checkpoint.

mod draft;

use std::path::Path;
use std::time::Duration;

use self::draft::Draft;
use crate::container::Life;
use crate::process::{Shim, wrong_phase};
use crate::protocol::{AfterCheckpoint, Answer, Failure, FailureKind};
use crate::reaper::Errand;
use crate::report;
use crate::requests::ReplyTo;
use crate::runtime::command_line::RunningCommand;

/// How long the runtime may clear up after it has killed the container. The state is written by then.
const CLEAR_UP_TIME: Duration = Duration::from_secs(60);

/// A checkpoint that the runtime is at work on.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    reply: ReplyTo,
    draft: Draft,
    after: AfterCheckpoint,
}

/// Why the container's processes end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Departure {
    /// By themselves, or because they were killed.
    #[default]
    Ordinary,
    /// They go on from a checkpoint, if anybody wants it.
    IntoCheckpoint,
}

impl Shim {
    /// Writes the state of the container's processes down, to be found at `place` when it is whole.
    pub(crate) fn checkpoint(&mut self, reply: ReplyTo, place: &Path, after: AfterCheckpoint) {
        match self.begin_checkpoint(place, after) {
            Ok((draft, command)) => {
                self.commands.push(command, Errand::Checkpoint(Checkpoint { reply, draft, after }));
            }
            Err(failure) => self.reply(reply, Err(failure)),
        }
    }

    fn begin_checkpoint(
        &mut self,
        place: &Path,
        after: AfterCheckpoint,
    ) -> Result<(Draft, RunningCommand), Failure> {
        if !matches!(self.life, Life::Running { .. }) {
            return Err(wrong_phase(&self.life.phase(), "write its state down"));
        }
        if self.commands.has_checkpoint() {
            let text = "another checkpoint of the container is being made";
            return Err(Failure::new(FailureKind::WrongPhase, text));
        }
        let draft = Draft::begin(place)?;
        match self.runtime.checkpoint(draft.path(), after) {
            Ok(command) => Ok((draft, command)),
            Err(failure) => {
                draft.abandon();
                Err(failure)
            }
        }
    }

    /// The runtime has written the state, or not.
    pub(crate) fn checkpointed(&mut self, checkpoint: Checkpoint, outcome: Result<(), Failure>) {
        let Checkpoint { reply, draft, after } = checkpoint;
        let outcome = match outcome {
            Ok(()) => draft.finish(),
            Err(failure) => {
                draft.abandon();
                // CRIU freezes the container. If it was killed, nobody else lets the processes go on.
                if let Err(failure) = self.restore_freezer() {
                    report(&failure.to_string());
                }
                Err(failure)
            }
        };
        if outcome.is_ok() && after == AfterCheckpoint::Exit {
            self.departure = Departure::IntoCheckpoint;
            self.note_departure();
        }
        self.reply(reply, outcome.map(|()| Answer::Done));
    }

    /// Whether the exit has to wait until it is known what became of the checkpoint. One that hangs is not waited for.
    pub(crate) fn awaits_checkpoint(&mut self) -> bool {
        let awaits = self.commands.has_checkpoint();
        if awaits {
            self.commands.hurry(CLEAR_UP_TIME);
        }
        awaits
    }
}

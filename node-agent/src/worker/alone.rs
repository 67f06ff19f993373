//! What a node does without managers when one of its tasks ends.
//!
//! Start reading at [`answer`]. Pure. With managers an end is reported and a new task takes the slot. Without them nobody can make
//! one, so the same task is started again in place, by its own restart rule, and stays RUNNING: nothing has to be merged later
//! (docs/decisions/2026-11-21-tasks-without-managers.md says why this never conflicts with what managers decide meanwhile).

use std::time::Duration;

use jiff::Timestamp;
use shoal_types::cluster::service::{RestartCondition, RestartRule};

/// How long there must have been no session before a task is started again in place. Longer than an election, so that a change of
/// leader does not hide ends from the managers.
pub(super) const ALONE_AFTER: Duration = Duration::from_secs(10);

/// What the end of a task leads to while there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is the end, told as soon as somebody listens.
    Conclude,
    /// The task is started again after this time, unless a session is opened before.
    RestartAfter(Duration),
}

/// How a task has ended, and what came before.
#[derive(Debug, Clone, Copy)]
pub(super) struct End<'a> {
    /// The code with which it has ended.
    pub(super) code: i32,
    /// When it was started again in place before.
    pub(super) restarts: &'a [Timestamp],
    /// Now.
    pub(super) now: Timestamp,
    /// For how long there has been no session.
    pub(super) alone_for: Duration,
}

/// What the end of a running task leads to while there is no session.
pub(super) fn answer(rule: &RestartRule, end: End<'_>) -> Answer {
    let wanted = match rule.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => end.code != 0,
        RestartCondition::Any => true,
    };
    let window = rule.bounded_window();
    let is_recent = |at: &&Timestamp| {
        window.is_none_or(|window| {
            Duration::try_from(end.now.duration_since(**at)).is_ok_and(|ago| ago < window)
        })
    };
    let attempts = end.restarts.iter().filter(is_recent).count();
    let may =
        rule.max_attempts == 0 || u64::try_from(attempts).is_ok_and(|attempts| attempts < rule.max_attempts);
    if wanted && may {
        Answer::RestartAfter(rule.delay.max(ALONE_AFTER.saturating_sub(end.alone_for)))
    } else {
        Answer::Conclude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(condition: RestartCondition, max_attempts: u64, window: u64) -> RestartRule {
        RestartRule {
            condition,
            max_attempts,
            window: Some(Duration::from_secs(window)),
            ..RestartRule::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_rule_of_the_service_decides() {
        use RestartCondition::*;
        let restart = |seconds| Answer::RestartAfter(Duration::from_secs(seconds));
        // condition, attempts, window, code, restarts, alone for -> answer; the rule's delay is 5 s, it is second 100.
        let cases: [(_, _, _, _, &[i64], _, _); 9] = [
            (None, 0, 0, 1, &[], 60, Answer::Conclude),
            (OnFailure, 0, 0, 0, &[], 60, Answer::Conclude),
            (OnFailure, 0, 0, 1, &[], 60, restart(5)),
            (Any, 0, 0, 0, &[], 60, restart(5)),
            (Any, 0, 0, 1, &[], 2, restart(8)),
            (Any, 2, 0, 1, &[10], 60, restart(5)),
            (Any, 2, 0, 1, &[10, 20], 60, Answer::Conclude),
            (Any, 2, 50, 1, &[10, 90], 60, restart(5)),
            (Any, 2, 50, 1, &[80, 90], 60, Answer::Conclude),
        ];
        for (condition, attempts, window, code, restarts, alone, wanted) in cases {
            let restarts: Vec<Timestamp> = restarts.iter().map(|second| at(*second)).collect();
            let end = End { code, restarts: &restarts, now: at(100), alone_for: Duration::from_secs(alone) };
            assert_eq!(answer(&rule(condition, attempts, window), end), wanted);
        }
    }
}

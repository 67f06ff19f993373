//! Whether what clients saw of a register could have happened one after the other: linearizability, by exhaustive search.
//!
//! Start reading at [`check`]. The algorithm is that of Wing and Gong with Lowe's memory of configurations that lead nowhere. A register is changed
//! only by exchanging a value that was read for one that nobody has written before, so the search has little to choose from.
//! An operation whose answer never came may have happened at any later time, or not at all.

use std::collections::HashSet;
use std::time::Instant;

/// What a client did and was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It read this value.
    Read(u64),
    /// It has put `to` in the place of `from`.
    Exchange {
        /// What it had read before.
        from: u64,
        /// What it has written.
        to: u64,
    },
    /// It was refused because the value was not this any more.
    Refused(u64),
}

/// One operation of one client.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// What was done.
    pub effect: Effect,
    /// When it was asked for.
    pub begun: Instant,
    /// When the answer came; `None` if none did.
    pub ended: Option<Instant>,
}

/// What has been placed so far, and the value then.
type Configuration = (Vec<u64>, u64);

/// Finds an order in which the operations may have happened on a register that held `initial`; without one, says how far every order fails.
pub fn check(initial: u64, operations: &[Operation]) -> Result<(), String> {
    let mut operations: Vec<Operation> = operations.to_vec();
    operations.sort_by_key(|operation| operation.begun);
    let n_answered = operations.iter().filter(|operation| operation.ended.is_some()).count();
    let mut stack = vec![(vec![0u64; operations.len().div_ceil(64)], initial, 0usize)];
    let mut seen: HashSet<Configuration> = HashSet::new();
    let mut furthest = (0, stack[0].0.clone(), initial);
    while let Some((placed, value, n_placed)) = stack.pop() {
        if n_placed == n_answered {
            return Ok(());
        }
        if n_placed > furthest.0 {
            furthest = (n_placed, placed.clone(), value);
        }
        for (idx, after) in next(&operations, &placed, value) {
            let mut with = placed.clone();
            with[idx / 64] |= 1 << (idx % 64);
            if seen.insert((with.clone(), after)) {
                let answered = usize::from(operations[idx].ended.is_some());
                stack.push((with, after, n_placed + answered));
            }
        }
    }
    let (n_placed, placed, value) = furthest;
    let open: Vec<String> =
        candidates(&operations, &placed).map(|idx| format!("{:?}", operations[idx].effect)).collect();
    Err(format!(
        "after {n_placed} of {n_answered} operations the value is {value}, and none of these fits: {open:?}"
    ))
}

/// Operations that may be the next, and the value after each.
fn next(operations: &[Operation], placed: &[u64], value: u64) -> Vec<(usize, u64)> {
    let fits = |idx: usize| match operations[idx].effect {
        Effect::Read(seen) => (seen == value).then_some((idx, value)),
        Effect::Exchange { from, to } => (from == value).then_some((idx, to)),
        Effect::Refused(from) => (from != value).then_some((idx, value)),
    };
    candidates(operations, placed).filter_map(fits).collect()
}

/// Operations that are not placed and had begun before the first of those that are not placed had ended.
fn candidates<'a>(operations: &'a [Operation], placed: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
    let mut first_end: Option<Instant> = None;
    let is_placed = |idx: usize| placed[idx / 64] & (1 << (idx % 64)) != 0;
    operations.iter().enumerate().filter(move |(idx, _)| !is_placed(*idx)).map_while(
        move |(idx, operation)| {
            if first_end.is_some_and(|end| operation.begun > end) {
                return None;
            }
            if let Some(end) = operation.ended {
                first_end = Some(first_end.map_or(end, |first| first.min(end)));
            }
            Some(idx)
        },
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Operations as (effect, begun, ended), in seconds.
    fn history(operations: &[(Effect, u64, Option<u64>)]) -> Result<(), String> {
        let zero = Instant::now();
        let at = |second: u64| zero + Duration::from_secs(second);
        let operations: Vec<Operation> = operations
            .iter()
            .map(|&(effect, begun, ended)| Operation { effect, begun: at(begun), ended: ended.map(at) })
            .collect();
        check(0, &operations)
    }

    const fn swap(from: u64, to: u64) -> Effect {
        Effect::Exchange { from, to }
    }

    #[test]
    fn what_may_have_happened_one_after_the_other_passes() {
        use Effect::{Read, Refused};
        for operations in [
            vec![],
            vec![(swap(0, 1), 0, Some(1)), (Read(1), 2, Some(3))],
            // At the same time, in either order.
            vec![(swap(0, 1), 0, Some(5)), (Read(0), 1, Some(2)), (Read(1), 3, Some(4))],
            // Refused by what another has done meanwhile.
            vec![(swap(0, 1), 0, Some(5)), (Refused(0), 1, Some(6))],
            // Never answered: it has happened late, or not at all.
            vec![(swap(0, 1), 0, None), (Read(0), 5, Some(6)), (Read(1), 7, Some(8))],
            vec![
                (swap(0, 1), 0, None),
                (Read(0), 5, Some(6)),
                (swap(0, 2), 7, Some(8)),
                (Read(2), 9, Some(9)),
            ],
        ] {
            assert_eq!(history(&operations), Ok(()), "{operations:?}");
        }
    }

    #[test]
    fn what_cannot_have_happened_is_found() {
        use Effect::{Read, Refused};
        for operations in [
            // A write that was acknowledged is lost.
            vec![(swap(0, 1), 0, Some(1)), (Read(0), 2, Some(3))],
            // An old value is read after a newer one was.
            vec![(swap(0, 1), 0, Some(9)), (Read(1), 1, Some(2)), (Read(0), 3, Some(4))],
            // Two have exchanged the same value.
            vec![(swap(0, 1), 0, Some(5)), (swap(0, 2), 0, Some(5))],
            // Refused without reason.
            vec![(Refused(0), 0, Some(1)), (swap(0, 1), 2, Some(3))],
            // What was never answered is seen before it was asked for.
            vec![(Read(1), 0, Some(1)), (swap(0, 1), 2, None)],
        ] {
            assert!(history(&operations).is_err(), "{operations:?}");
        }
    }
}

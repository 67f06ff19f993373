//! Runs the bodies of fuzz targets on changed seeds: the same few thousand inputs in every test run, more on demand.
//!
//! Start reading at [`explore`]. A body takes bytes and panics when something is wrong; it stands in the crate whose code it
//! tries (`src/fuzz.rs` there), and libFuzzer runs the same body (`libfuzzer/`). Nothing is measured here: which parts of the
//! code an input reaches is libFuzzer's business. Why it is done so: docs/decisions/2026-11-22-fuzzing.md.

mod mutation;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use mutation::Mutator;

/// How many inputs a run of the tests tries.
const INPUTS: usize = 4_000;
/// The longest input; what a parser does with more it does with less.
const MAX_LEN: usize = 16 << 10;
/// For how many seconds to go on instead; inputs then differ from run to run.
const SECONDS: &str = "SHOAL_FUZZ_SECONDS";
/// Below which directory to write the seeds, each target's in a directory of its own, instead of trying anything.
const CORPUS: &str = "SHOAL_FUZZ_CORPUS";
/// The only target that does anything.
const TARGET: &str = "SHOAL_FUZZ_TARGET";

/// Makes the tests of a crate's targets: each line names the test, the target and the seeds.
#[macro_export]
macro_rules! explored {
    ($($test:ident: $target:ident($seeds:ident);)*) => {
        mod tests {
            $(
                #[test]
                fn $test() {
                    $crate::explore(stringify!($target), super::$seeds, super::$target);
                }
            )*
        }
    };
}

/// Tries the seeds of a target as they are and then changed in many ways.
///
/// # Panics
///
/// When the body does. The input that made it panic is printed in a form that can be pasted into a test.
#[expect(clippy::print_stderr, reason = "tells the reader of a test's output how to repeat a failure")]
pub fn explore(name: &str, seeds: &[&[u8]], body: fn(&[u8])) {
    if std::env::var_os(TARGET).is_some_and(|only| only != name) {
        return;
    }
    if let Some(directory) = std::env::var_os(CORPUS) {
        write_seeds(&Path::new(&directory).join(name), seeds);
        return;
    }
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok());
    let started = Instant::now();
    let mut mutator = Mutator::new(seeds, seconds.map_or(1, |_: u64| now()));
    let mut n_tried = 0;
    for seed in seeds {
        attempt(name, seed, body);
    }
    while seconds.map_or(n_tried < INPUTS, |seconds| started.elapsed() < Duration::from_secs(seconds)) {
        attempt(name, mutator.next_input(MAX_LEN), body);
        n_tried += 1;
    }
    eprintln!("{name}: {n_tried} inputs in {:.1} s", started.elapsed().as_secs_f64());
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() ^ u64::from(since.subsec_nanos())
}

#[expect(clippy::print_stderr, reason = "tells the reader of a test's output how to repeat a failure")]
fn attempt(name: &str, input: &[u8], body: fn(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        eprintln!("{name} fails on b\"{}\"", input.escape_ascii());
        resume_unwind(panic);
    }
}

#[expect(clippy::panic, reason = "the caller is a test")]
fn write_seeds(directory: &Path, seeds: &[&[u8]]) {
    let written = std::fs::create_dir_all(directory).and_then(|()| {
        seeds
            .iter()
            .enumerate()
            .try_for_each(|(number, seed)| std::fs::write(directory.join(format!("seed-{number:03}")), seed))
    });
    if let Err(error) = written {
        panic!("write seeds below {}: {error}", directory.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_behind_a_small_change_is_found() {
        let body = |input: &[u8]| assert!(!input.starts_with(b"ab\xff"));
        let found = catch_unwind(|| explore("fault", &[b"abc"], body));
        assert!(found.is_err());
    }

    #[test]
    fn a_body_without_fault_is_left_in_peace() {
        explore("peace", &[b"abc", b""], |input| assert!(input.len() <= MAX_LEN));
    }
}

//! Prints what became of the cases, in the form people know from `cargo test`, and writes a table for machines.
//!
//! The only module that prints. The table (`SHOAL_TEST_REPORT=FILE`) has a line `result<TAB>case<TAB>seconds<TAB>reason`.
#![expect(clippy::print_stdout, reason = "a test runner reports on standard output")]

use std::fmt::Write as _;
use std::time::Duration;

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It held.
    Passed,
    /// It does not apply here, for this reason.
    Skipped(String),
    /// It did not hold; the message says how.
    Failed(String),
}

/// A finished case.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Full name.
    pub name: String,
    /// Outcome.
    pub verdict: Verdict,
    /// Wall time.
    pub took: Duration,
}

impl Finished {
    /// Prints the line of this case.
    pub fn print(&self) {
        let word = match &self.verdict {
            Verdict::Passed => "ok".to_owned(),
            Verdict::Skipped(reason) => format!("skipped: {reason}"),
            Verdict::Failed(_) => "FAILED".to_owned(),
        };
        println!("test {} ... {word} ({:.2}s)", self.name, self.took.as_secs_f64());
    }
}

/// Prints one line about the run itself.
pub fn note(text: &str) {
    println!("{text}");
}

/// Prints failures in full, the slowest cases, and the totals; writes the table. Returns whether nothing failed.
#[must_use]
pub fn summarise(finished: &[Finished], took: Duration) -> bool {
    let count = |wanted: fn(&Verdict) -> bool| finished.iter().filter(|case| wanted(&case.verdict)).count();
    let passed = count(|verdict| matches!(verdict, Verdict::Passed));
    let skipped = count(|verdict| matches!(verdict, Verdict::Skipped(_)));
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    for case in finished {
        if let Verdict::Failed(message) = &case.verdict {
            println!("\n---- {} ----\n{message}", case.name);
        }
    }
    let mut slowest: Vec<&Finished> = finished.iter().collect();
    slowest.sort_by_key(|case| std::cmp::Reverse(case.took));
    let slow = slowest.iter().take(5).map(|case| format!("{} {:.1}s", case.name, case.took.as_secs_f64()));
    println!("\nslowest: {}", slow.collect::<Vec<_>>().join(", "));
    for case in finished.iter().filter(|case| matches!(case.verdict, Verdict::Failed(_))) {
        println!("failed: {}", case.name);
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; {skipped} skipped; finished in {:.1}s\n",
        took.as_secs_f64()
    );
    write_table(finished);
    failed == 0
}

fn write_table(finished: &[Finished]) {
    let Some(path) = std::env::var_os("SHOAL_TEST_REPORT") else { return };
    let mut table = String::new();
    for case in finished {
        let (word, reason) = match &case.verdict {
            Verdict::Passed => ("PASS", ""),
            Verdict::Skipped(reason) => ("SKIP", reason.as_str()),
            Verdict::Failed(message) => ("FAIL", message.lines().next().unwrap_or_default()),
        };
        writeln!(table, "{word}\t{}\t{:.2}\t{reason}", case.name, case.took.as_secs_f64()).unwrap();
    }
    std::fs::write(&path, table).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}

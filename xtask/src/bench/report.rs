//! What comes out: a table for the terminal, one for docs/benchmarks.md, and JSON with every value.
//!
//! Start reading at [`print()`].

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::metrics::{Better, Target};
use super::options::Kind;
use super::samples::{Ratio, Row, Samples, Summary, ratio, summary};

/// Prints the tables and the notes.
pub(super) fn print(samples: &Samples, floors: &Samples, versions: &[String]) {
    for (engine, version) in samples.engines().iter().zip(versions) {
        println!("{engine} {version}");
    }
    // Without floors, or with nothing but floors, one of them is a heading alone.
    let mut tables = vec![table(samples), table(floors)];
    tables.retain(|table| table.len() > 1);
    for table in &tables {
        println!("\n{}", aligned(table));
    }
    for note in &samples.notes {
        println!("! {note}");
    }
    println!("\nFor docs/benchmarks.md:");
    for table in &tables {
        println!("\n{}", markdown(table));
    }
}

/// All values of all rounds.
pub(super) fn json(samples: &Samples, floors: &Samples, versions: &[String]) -> Result<Value> {
    let (engines, floors) = (json_rows(samples)?, json_rows(floors)?);
    Ok(json!({"versions": versions, "rows": engines, "floors": floors, "notes": samples.notes}))
}

fn json_rows(samples: &Samples) -> Result<Vec<Value>> {
    let row = |row: &Row| -> Result<Value> {
        let mut engines = serde_json::Map::new();
        for (index, name) in samples.engines().iter().enumerate() {
            let values = row.values.get(index).context("a row lacks an engine")?;
            let Some(summary) = summary(values) else { continue };
            let each: Vec<Value> = values.iter().map(|sample| json!([sample.round, sample.value])).collect();
            let value = json!({
                "median": summary.median, "min": summary.min, "p95": summary.p95,
                "ratio": ratio_to_reference(row, index).map(json_ratio), "values": each,
            });
            engines.insert(name.clone(), value);
        }
        let metric = row.metric;
        let target = metric.target.to_string();
        Ok(json!({"name": metric.name, "unit": metric.unit, "target": target, "engines": engines}))
    };
    samples.rows().map(row).collect()
}

fn json_ratio(ratio: Ratio) -> Value {
    json!({"median": ratio.median, "p5": ratio.p5, "p95": ratio.p95})
}

fn ratio_to_reference(row: &Row, index: usize) -> Option<Ratio> {
    if index == 0 { None } else { ratio(row.values.get(index)?, row.values.first()?) }
}

/// Cells of the table, the heading first.
fn table(samples: &Samples) -> Vec<Vec<String>> {
    let mut heading = vec!["metric".to_owned(), "unit".to_owned()];
    for (index, engine) in samples.engines().iter().enumerate() {
        heading.push(format!("{engine} (min / p95)"));
        if index > 0 {
            heading.push("ratio (p5 - p95)".to_owned());
        }
    }
    heading.extend(["target".to_owned(), "verdict".to_owned(), "meaning".to_owned()]);
    std::iter::once(heading).chain(samples.rows().map(|row| cells(row, samples.engines()))).collect()
}

fn cells(row: &Row, engines: &[String]) -> Vec<String> {
    let metric = row.metric;
    let unit =
        if metric.better == Better::Higher { format!("{} ^", metric.unit) } else { metric.unit.to_owned() };
    let mut cells = vec![metric.name.to_owned(), unit];
    for (index, values) in row.values.iter().enumerate() {
        cells.push(summary(values).map(|summary| figures(&summary)).unwrap_or_default());
        if index > 0 {
            let ratio = ratio_to_reference(row, index);
            cells.push(ratio.map(|ratio| factor(ratio, summary(values))).unwrap_or_default());
        }
    }
    cells.push(metric.target.to_string());
    cells.push(verdict(row, engines).to_owned());
    cells.push(metric.meaning.to_owned());
    cells
}

/// Targets are Shoal's; a run without it judges nobody.
fn verdict(row: &Row, engines: &[String]) -> &'static str {
    let Some(index) = engines.iter().position(|engine| engine == Kind::Shoal.name()) else { return "" };
    let Some(summary) = row.values.get(index).and_then(|values| summary(values)) else {
        return if row.metric.target == Target::Open { "" } else { "not measured" };
    };
    let ratio = ratio_to_reference(row, index).map(|ratio| ratio.median);
    match row.metric.target.is_met(summary.median, ratio) {
        None => "",
        Some(true) => "met",
        Some(false) => "MISSED",
    }
}

fn figures(summary: &Summary) -> String {
    let median = number(summary.median);
    if summary.count == 1 {
        return median;
    }
    format!("{median} ({} / {})", number(summary.min), number(summary.p95))
}

/// Three figures, whatever the size.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A ratio of one value has no range.
fn factor(ratio: Ratio, of: Option<Summary>) -> String {
    let median = number(ratio.median);
    if of.is_none_or(|summary| summary.count == 1) {
        return format!("x{median}");
    }
    format!("x{median} ({} - {})", number(ratio.p5), number(ratio.p95))
}

fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn markdown(table: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>| format!("| {} |", row.join(" | "));
    let mut lines: Vec<String> = table.iter().map(line).collect();
    let columns = table.first().map_or(0, Vec::len);
    lines.insert(1.min(lines.len()), format!("|{}", "---|".repeat(columns)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples::Sample;

    fn measured(engines: &[&str], name: &str, values: &[f64]) -> Samples {
        let mut samples = Samples::new(&engines.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        for (engine, value) in values.iter().enumerate() {
            samples.record(name, engine, Sample { round: 0, value: *value }).unwrap();
        }
        samples
    }

    #[test]
    fn shoal_is_judged_by_the_ratio_to_the_first_engine() {
        let row = |ours: f64| {
            let samples = measured(&["dockerd", "shoal"], "run.bridge", &[400.0, ours]);
            cells(samples.rows().next().unwrap(), samples.engines())
        };
        assert_eq!(row(40.0)[2..7], ["400", "40.0", "x0.100", "x <= 0.15", "met"]);
        assert_eq!(row(80.0)[6], "MISSED");
    }

    #[test]
    fn a_ratio_of_several_rounds_is_shown_with_its_range() {
        let mut samples = measured(&["dockerd", "shoal"], "run.bridge", &[400.0, 40.0]);
        for (engine, value) in [(0, 400.0), (1, 80.0)] {
            samples.record("run.bridge", engine, Sample { round: 1, value }).unwrap();
        }
        let row = cells(samples.rows().next().unwrap(), samples.engines());
        assert_eq!(row[4], "x0.150 (0.105 - 0.195)");
    }

    #[test]
    fn a_peer_is_not_judged() {
        let samples = measured(&["dockerd", "podman"], "run.bridge", &[400.0, 4.0]);
        assert_eq!(cells(samples.rows().next().unwrap(), samples.engines())[6], "");
    }

    #[test]
    fn a_metric_that_shoal_lacks_is_shown_as_such() {
        let samples = measured(&["dockerd", "shoal"], "cp.file.in", &[400.0]);
        assert_eq!(cells(samples.rows().next().unwrap(), samples.engines())[6], "not measured");
    }

    #[test]
    fn numbers_keep_three_figures() {
        for (value, text) in [(0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1234")] {
            assert_eq!(number(value), text);
        }
    }
}

//! Values as they were measured, and what they say together.
//!
//! Start reading at [`Samples`] and [`ratio`]. No IO.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::metrics::{self, Metric};

/// A duration as it stands in the tables.
pub(super) type Milliseconds = f64;

/// Measures the parts of something that happens in steps.
#[derive(Debug)]
pub(super) struct Clock {
    since: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { since: Instant::now() }
    }

    /// Time since the start or the last lap.
    pub(super) fn lap(&mut self) -> Milliseconds {
        let now = Instant::now();
        let took = now.duration_since(self.since).as_secs_f64() * 1e3;
        self.since = now;
        took
    }
}

/// One value of one round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    pub(super) round: usize,
    pub(super) value: f64,
}

/// One metric: what each engine had, in the order of the engines.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) metric: &'static Metric,
    pub(super) values: Vec<Vec<Sample>>,
}

/// All that was measured.
#[derive(Debug)]
pub(super) struct Samples {
    engines: Vec<String>,
    rows: Vec<Row>,
    /// What went wrong or was left out, as lines for the reader.
    pub(super) notes: Vec<String>,
}

impl Samples {
    pub(super) fn new(engines: &[String]) -> Self {
        Self { engines: engines.to_owned(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a value of the engine at `engine`.
    pub(super) fn record(&mut self, name: &str, engine: usize, sample: Sample) -> Result<()> {
        let metric = metrics::find(name).with_context(|| format!("{name} is not in the list of metrics"))?;
        let known = self.rows.iter().position(|row| row.metric.name == name);
        let index = known.unwrap_or_else(|| {
            self.rows.push(Row { metric, values: vec![Vec::new(); self.engines.len()] });
            self.rows.len() - 1
        });
        let values = self.rows.get_mut(index).and_then(|row| row.values.get_mut(engine));
        values.context("no such engine")?.push(sample);
        Ok(())
    }

    pub(super) fn engines(&self) -> &[String] {
        &self.engines
    }

    /// Rows in the order of the list of metrics, whatever order the cases had.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        let all = metrics::METRICS.iter().chain(metrics::FLOORS);
        all.filter_map(|metric| self.rows.iter().find(|row| row.metric.name == metric.name))
    }
}

/// What a series of values says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    pub(super) count: usize,
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) p95: f64,
}

/// `None` for no values.
pub(super) fn summary(samples: &[Sample]) -> Option<Summary> {
    let mut values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    values.sort_by(f64::total_cmp);
    Some(Summary {
        count: values.len(),
        min: *values.first()?,
        median: quantile(&values, 0.5)?,
        p95: quantile(&values, 0.95)?,
    })
}

/// The value below which a part of the sorted values lies, between neighbours in proportion.
pub(super) fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = last as f64 * part;
    let below = sorted.iter().enumerate().rev().find(|(index, _)| *index as f64 <= position);
    let (index, value) = below?;
    let next = sorted.get(index + 1).unwrap_or(value);
    Some(value + (next - value) * (position - index as f64))
}

/// How one engine relates to another, by round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    pub(super) median: f64,
    /// Nine of ten rounds lie between these two; with few rounds they are close to the extremes.
    pub(super) p5: f64,
    pub(super) p95: f64,
}

/// How `ours` relates to `theirs`: the ratios within rounds. Slow phases of the machine hit both sides of a round.
pub(super) fn ratio(ours: &[Sample], theirs: &[Sample]) -> Option<Ratio> {
    let (ours, theirs) = (by_round(ours), by_round(theirs));
    let mut ratios: Vec<f64> = ours
        .iter()
        .filter_map(|(round, ours)| Some((ours, theirs.get(round)?)))
        .filter(|(_, theirs)| **theirs != 0.0)
        .map(|(ours, theirs)| ours / theirs)
        .collect();
    ratios.sort_by(f64::total_cmp);
    let at = |part| quantile(&ratios, part);
    Some(Ratio { median: at(0.5)?, p5: at(0.05)?, p95: at(0.95)? })
}

/// The median of each round.
fn by_round(samples: &[Sample]) -> BTreeMap<usize, f64> {
    let mut rounds: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for sample in samples {
        rounds.entry(sample.round).or_default().push(sample.value);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        quantile(&values, 0.5)
    };
    rounds.into_iter().filter_map(|(round, values)| Some((round, median(values)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Vec<Sample> {
        values.iter().enumerate().map(|(round, value)| Sample { round, value: *value }).collect()
    }

    #[test]
    fn quantiles_lie_between_neighbours_in_proportion() {
        let sorted = [1.0, 2.0, 3.0, 10.0];
        assert_eq!(quantile(&sorted, 0.0), Some(1.0));
        assert_eq!(quantile(&sorted, 0.5), Some(2.5));
        assert_eq!(quantile(&sorted, 1.0), Some(10.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_ratio_compares_within_rounds() {
        // The machine was ten times slower in the last round; the medians alone would say 0.2.
        let (ours, theirs) = (series(&[1.0, 2.0, 10.0]), series(&[10.0, 10.0, 100.0]));
        let ratio = ratio(&ours, &theirs).unwrap();
        assert_eq!(ratio.median, 0.1);
        assert!(ratio.p5 < 0.11 && ratio.p95 > 0.18 && ratio.p95 <= 0.2, "{ratio:?}");
    }

    #[test]
    fn there_is_no_ratio_without_a_common_round() {
        let later = [Sample { round: 7, value: 1.0 }];
        assert_eq!(ratio(&series(&[1.0, 2.0]), &later), None);
        assert_eq!(ratio(&series(&[1.0]), &series(&[0.0])), None);
    }

    #[test]
    fn only_listed_metrics_can_be_recorded() {
        let mut samples = Samples::new(&["one".to_owned()]);
        let sample = Sample { round: 0, value: 1.0 };
        assert!(samples.record("run.bridge", 0, sample).is_ok());
        assert!(samples.record("run.bridge", 1, sample).is_err());
        assert!(samples.record("no.such", 0, sample).is_err());
    }
}

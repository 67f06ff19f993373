//! `bench scale` and `bench cluster`: what managers can take, and how long their users wait.
//!
//! Start reading at [`scale`]. What is measured is written where it can be tested too (`manager/tests/scale`,
//! `integration-cli/tests/cluster/latency.rs`); here the long forms are run from release builds, and the growth is drawn.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

use crate::{call_with, dist, read_with, root, setup};

/// What is tried unless `SHOAL_SCALE` says otherwise.
const SCALE: &str = "managers=3 nodes=1000 tasks=50 steps=4";
/// What is tried unless `SHOAL_LATENCY` says otherwise.
const LATENCY: &str = "creations=1000 failovers=5";
/// What the first line of the figures begins with.
const COLUMNS: &str = "nodes,";
/// What is drawn over the number of nodes: a column and what it is called.
const DRAWN: [(&str, &str); 3] = [
    ("change_p50_ms", "one service of one task until its node is told, median, ms"),
    ("repair_ms", "tasks of a lost node until others are told, ms"),
    ("managers_cpu_ms_per_task", "processor time of all managers for each task until it runs, ms"),
];

/// A cluster that grows to a thousand nodes; the figures are left in `docs/scale.csv`, their drawing in `docs/scale.svg`.
pub(super) fn scale() -> Result<()> {
    let plan = std::env::var("SHOAL_SCALE");
    let plan = plan.as_deref().unwrap_or(SCALE);
    let test = [
        "test",
        "--release",
        "--package",
        "manager",
        "--test",
        "main",
        "--locked",
        "--",
        "scale::",
        "--nocapture",
    ];
    let printed = read_with("cargo", &test, &[("SHOAL_SCALE", plan)])?;
    print!("{printed}");
    let figures = figures_of(&printed);
    ensure!(figures.len() > 1, "the run has printed no figures");
    let docs = root()?.join("docs");
    std::fs::write(docs.join("scale.csv"), figures.join("\n") + "\n").context("write docs/scale.csv")?;
    std::fs::write(docs.join("scale.svg"), draw(&figures)?).context("write docs/scale.svg")
}

/// The lines of figures of a run, and before them that of their columns. The test harness may say something in between.
fn figures_of(printed: &str) -> Vec<&str> {
    let lines = printed.lines().skip_while(|line| !line.starts_with(COLUMNS));
    lines.filter(|line| line.contains(',') && !line.contains(' ')).collect()
}

/// Three managers: how long creations take until they are answered, and how long it takes until another leads.
pub(super) fn latency() -> Result<()> {
    setup::require_root()?;
    setup::for_tests()?;
    let daemon = dist::build()?.display().to_string();
    let plan = std::env::var("SHOAL_LATENCY");
    let plan = plan.as_deref().unwrap_or(LATENCY);
    let test = ["test", "--package", "integration-cli", "--locked", "--", "cluster::latency"];
    call_with("cargo", &test, &[("SHOAL_LATENCY", plan), ("SHOAL_TEST_DAEMON", &daemon)])
}

/// Figures as a drawing: a small chart for each column of [`DRAWN`] over the number of nodes, from zero.
fn draw(figures: &[&str]) -> Result<String> {
    let columns: Vec<&str> = figures.first().context("no columns")?.split(',').collect();
    let rows: Vec<Vec<f64>> = figures
        .iter()
        .skip(1)
        .map(|line| line.split(',').map(|value| value.parse().unwrap_or(f64::NAN)).collect())
        .collect();
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 600\" font-family=\"sans-serif\" font-size=\"12\">\n",
    );
    for (place, (column, title)) in DRAWN.iter().enumerate() {
        let index =
            columns.iter().position(|name| name == column).with_context(|| format!("no column {column}"))?;
        let points = rows.iter().filter_map(|row| Some((*row.first()?, *row.get(index)?)));
        chart(&mut svg, place as f64 * 200.0, title, &points.collect::<Vec<_>>())?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// One chart of 640 by 200 that begins at `top`.
fn chart(svg: &mut String, top: f64, title: &str, points: &[(f64, f64)]) -> Result<()> {
    let most = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(0.0, f64::max);
    let (widest, highest) = (most(|point| point.0), most(|point| point.1).max(f64::MIN_POSITIVE));
    let at = |(x, y): (f64, f64)| (60.0 + x / widest * 540.0, top + 160.0 - y / (highest * 1.2) * 130.0);
    writeln!(svg, "<text x=\"60\" y=\"{}\">{title}</text>", top + 18.0)?;
    let base = top + 160.0;
    writeln!(svg, "<path d=\"M60 {} V{base} H600\" fill=\"none\" stroke=\"#888\"/>", top + 30.0)?;
    let line: Vec<String> =
        points.iter().map(|&point| at(point)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"2\"/>",
        line.join(" ")
    )?;
    for &point in points {
        let (x, y) = at(point);
        writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"#06c\"/>")?;
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", y - 8.0, point.1)?;
        writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#888\">{}</text>",
            base + 16.0,
            point.0
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_between_figures_is_left_out() {
        let printed = "Plan { nodes: 9, steps: 2 }\nnodes,tasks\n4,8\ntest scale::a has been running\n9,18\nmost: 9, in all\n";
        assert_eq!(figures_of(printed), ["nodes,tasks", "4,8", "9,18"]);
    }

    #[test]
    fn a_drawing_has_every_figure() {
        let figures =
            ["nodes,change_p50_ms,repair_ms,managers_cpu_ms_per_task", "10,41.5,300,2.25", "20,42,310,2.5"];
        let svg = draw(&figures).unwrap();
        for figure in ["41.5", "310", "2.25", "2.5"] {
            assert!(svg.contains(&format!(">{figure}</text>")), "{svg}");
        }
        assert!(draw(&figures[..1]).is_ok(), "no steps, no points");
        assert!(draw(&["nodes"]).is_err(), "columns are missing");
    }
}

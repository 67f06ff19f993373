//! `bench`: Shoal beside a peer, measured in turns on one machine, as ratios that anybody can repeat.
//!
//! `bench scale` and `bench cluster` measure clusters of their own and no peer ([`cluster`]).
//! Start reading at [`inside`], then `cases/mod.rs` for what is measured and `metrics.rs` for the targets. The run happens in
//! namespaces of its own (`sandbox.rs`): nothing that it makes has a name outside, and what has one (cgroups, a directory) is
//! removed at the end, on Ctrl-C, and by the next run. Nothing here is a test: it judges no time, it prints them.
//!
//! Why in turns and as ratios: a slow phase of a shared machine hits every engine of the round, so that the ratio within a round
//! means something where the two times alone do not.

mod accounting;
mod api;
mod cases;
mod cluster;
mod engine;
mod fixtures;
mod floors;
mod http;
mod load;
mod machine;
mod metrics;
mod netlink;
mod nobody;
mod options;
mod podman;
mod program;
mod registry;
mod report;
mod rounds;
mod runtimes;
mod samples;
mod sandbox;

use std::time::Instant;

use anyhow::{Context as _, Result};

use engine::Engine;
use options::Options;
use rounds::Bench;
use samples::Samples;

/// How the part of the run that happens inside the sandbox is told apart. Not for people.
const INSIDE: &str = "inside-the-sandbox";

/// Measures, or says how to.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    match arguments.first().map(String::as_str) {
        Some("scale") => return cluster::scale(),
        Some("cluster") => return cluster::latency(),
        _ => {}
    }
    let is_inside = arguments.first().is_some_and(|first| first == INSIDE);
    let options = Options::parse(if is_inside { &arguments[1..] } else { arguments })?;
    if options.is_help {
        println!("{}", options::usage(&cases::help()));
        return Ok(());
    }
    cases::check_names(&options.only)?;
    if is_inside { inside(&options) } else { sandbox::supervise(&options, arguments) }
}

/// The run itself: starts the engines, goes through the cases, prints and writes what came out.
fn inside(options: &Options) -> Result<()> {
    sandbox::enter()?;
    let engines = start_engines(options)?;
    let versions: Vec<String> = engines
        .iter()
        .map(|engine| engine.api().version())
        .collect::<Result<_>>()
        .context("ask for versions")?;
    let names: Vec<String> = engines.iter().map(|engine| engine.name().to_owned()).collect();
    let mut bench = Bench::new(options, &engines, Samples::new(&names));
    for case in cases::selected(&options.only) {
        let started = Instant::now();
        let before = machine::ticks();
        println!("== {}", case.name);
        bench.begin(case.name);
        if let Err(error) = (case.run)(&mut bench) {
            bench.fail(&error);
        }
        bench.clean();
        println!(
            "   {:.0} s, machine {:.0} % busy, {} of {} rounds began while something else ran",
            started.elapsed().as_secs_f64(),
            machine::busy_since(before) * 100.0,
            bench.loud_rounds(),
            bench.counted_rounds(),
        );
        write_json(options, &bench, &versions)?;
    }
    println!("\n{}", machine::description()?);
    if options.scale < 1.0 {
        let factor = options.scale;
        bench
            .note(&format!("--scale {factor}: fewer repetitions and fewer containers than the meanings say"));
    }
    report::print(bench.samples(), bench.floors(), &versions);
    Ok(())
}

fn start_engines(options: &Options) -> Result<Vec<Engine>> {
    let engines: Vec<Engine> = options
        .engines()
        .into_iter()
        .enumerate()
        .map(|(index, kind)| Engine::new(kind, index, options))
        .collect::<Result<_>>()?;
    for engine in &engines {
        println!("starting {}", engine.name());
        engine.start()?;
        engine.prepare(&fixtures::box_archive(&options.directory)?)?;
    }
    Ok(engines)
}

/// After every case, so that an interrupted run leaves what it has.
fn write_json(options: &Options, bench: &Bench<'_>, versions: &[String]) -> Result<()> {
    let Some(path) = &options.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(&report::json(bench.samples(), bench.floors(), versions)?)?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

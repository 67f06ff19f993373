//! `fuzz`: the long form of what the tests try with a few thousand inputs each.
//!
//! Start reading at [`command`]. With a nightly compiler and cargo-fuzz, libFuzzer runs the targets; without them, the harness of
//! the tests goes on for as long (docs/decisions/2026-11-22-fuzzing.md).

use anyhow::{Context as _, Result, bail};

use crate::dist::target_directory;
use crate::{call, call_with, read, root};

/// A target: its name, and the package whose tests run it.
struct Target {
    name: &'static str,
    package: &'static str,
}

const fn target(name: &'static str, package: &'static str) -> Target {
    Target { name, package }
}

const TARGETS: &[Target] = &[
    target("archives", "node-agent"),
    target("options", "node-agent"),
    target("shim_frames", "node-agent"),
    target("log_entries", "node-shim"),
    target("manifests", "registry-client"),
    target("challenges", "registry-client"),
    target("references", "shoal-types"),
    target("words", "shoal-types"),
    target("create_bodies", "api-compat"),
    target("filters", "api-compat"),
    target("stdcopy", "api-compat"),
    target("daemon_json", "shoald"),
    target("command_lines", "shoald"),
];

const USAGE: &str = "cargo xtask fuzz [TARGET ...] [--seconds N] [--harness]\n
Runs every target, or those named, for 120 seconds each; --harness does without libFuzzer.";

/// Reads the arguments and runs the targets one after the other.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let (mut names, mut seconds, mut has_libfuzzer) = (Vec::new(), 120_u64, has_cargo_fuzz());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let number = arguments.next().context("--seconds wants a number")?;
                seconds = number.parse().with_context(|| format!("--seconds {number}"))?;
            }
            "--harness" => has_libfuzzer = false,
            "--help" | "-h" => {
                println!("{USAGE}\n");
                TARGETS.iter().for_each(|target| println!("  {:<14}{}", target.name, target.package));
                return Ok(());
            }
            name if TARGETS.iter().any(|target| target.name == name) => names.push(name),
            unknown => bail!("there is no target {unknown}; `cargo xtask fuzz --help` lists them"),
        }
    }
    if !has_libfuzzer {
        eprintln!(
            "without libFuzzer (it needs a nightly toolchain and cargo-fuzz): the tests' harness goes on instead"
        );
    }
    for target in TARGETS.iter().filter(|target| names.is_empty() || names.contains(&target.name)) {
        eprintln!("== {}", target.name);
        if has_libfuzzer {
            with_libfuzzer(target, seconds)?;
        } else {
            harness(target, &[("SHOAL_FUZZ_SECONDS", &seconds.to_string())])?;
        }
    }
    Ok(())
}

fn has_cargo_fuzz() -> bool {
    read("cargo", &["+nightly", "fuzz", "--version"]).is_ok()
}

fn harness(target: &Target, environment: &[(&str, &str)]) -> Result<()> {
    // A crate is a library or a program.
    let kind = if target.package == "shoald" { "--bins" } else { "--lib" };
    let run = ["test", "--package", target.package, kind, "--locked", "--", "fuzz::", "--nocapture"];
    call_with("cargo", &run, &[environment, &[("SHOAL_FUZZ_TARGET", target.name)]].concat())
}

/// Begins with the seeds of the tests and with what earlier runs have found.
fn with_libfuzzer(target: &Target, seconds: u64) -> Result<()> {
    let state = target_directory()?.join("fuzz");
    let corpus = state.join("corpus");
    harness(target, &[("SHOAL_FUZZ_CORPUS", &corpus.display().to_string())])?;
    let text = |path: std::path::PathBuf| path.display().to_string();
    let artifacts = state.join("artifacts").join(target.name);
    std::fs::create_dir_all(&artifacts).with_context(|| format!("create {}", artifacts.display()))?;
    let directory = text(root()?.join("integration-cli/fuzz/libfuzzer"));
    let (built, corpus) = (text(state.join("target")), text(corpus.join(target.name)));
    let (limit, prefix) =
        (format!("-max_total_time={seconds}"), format!("-artifact_prefix={}/", artifacts.display()));
    let run =
        ["+nightly", "fuzz", "run", "--fuzz-dir", &directory, "--target-dir", &built, target.name, &corpus];
    call("cargo", &[run.as_slice(), &["--", &limit, &prefix, "-max_len=16384", "-timeout=25"]].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_target_has_a_program_of_libfuzzer_and_no_other_has() {
        let programs = root().unwrap().join("integration-cli/fuzz/libfuzzer/fuzz_targets");
        let stem = |path: std::path::PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        let found: BTreeSet<String> =
            std::fs::read_dir(programs).unwrap().map(|entry| stem(entry.unwrap().path())).collect();
        let listed: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        assert_eq!(found, listed);
    }

    /// Nothing but a nightly compiler would tell otherwise.
    #[test]
    fn programs_of_libfuzzer_have_the_crates_of_the_modules_that_are_compiled_into_them() {
        let read = |path: &str| std::fs::read_to_string(root().unwrap().join(path)).unwrap();
        let (daemon, programs) =
            (read("shoald/Cargo.toml"), read("integration-cli/fuzz/libfuzzer/Cargo.toml"));
        let names = |manifest: &str| -> BTreeSet<String> {
            let dependencies = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
            let name = |line: &str| line.split(['.', ' ']).next().map(str::to_owned);
            dependencies.take_while(|line| !line.starts_with('[')).filter_map(name).collect()
        };
        let mut sources = Vec::new();
        for entry in std::fs::read_dir(root().unwrap().join("shoald/src/config")).unwrap() {
            sources.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
        }
        let is_used = |name: &String| {
            let path = format!("{}::", name.replace('-', "_"));
            let is_path = |(at, _): (usize, &str), text: &str| {
                !text[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before))
            };
            sources.iter().any(|text| text.match_indices(&path).any(|found| is_path(found, text)))
        };
        let used: BTreeSet<String> =
            names(&daemon).into_iter().filter(|name| !name.is_empty() && is_used(name)).collect();
        assert!(used.contains("overlay-net"), "{used:?}");
        let missing: Vec<_> = used.difference(&names(&programs)).cloned().collect();
        assert_eq!(missing, [""; 0]);
    }
}

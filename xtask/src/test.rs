//! `test`: the parts of the tests, one by one or all.
//!
//! Start reading at [`PARTS`]. `make test` and CI run `test all`; long fuzzing, scale and virtual machine runs are commands of
//! their own.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::dist::target_directory;
use crate::{call, call_with, check, root, setup};

/// One part: its name, whether `all` includes it, and what it runs.
struct Part {
    name: &'static str,
    in_all: bool,
    help: &'static str,
    run: fn() -> Result<()>,
}

const PARTS: &[Part] = &[
    Part {
        name: "check",
        in_all: true,
        help: "formatting, lints, layering, documentation",
        run: || check::check(&[]),
    },
    Part { name: "unit", in_all: true, help: "everything but the black-box suites", run: unit },
    Part { name: "cli", in_all: true, help: "the stock docker client against a daemon of our own", run: cli },
    Part { name: "compose", in_all: true, help: "docker-compose projects", run: compose },
    Part {
        name: "clients",
        in_all: true,
        help: "libraries from their registries: SDKs and testcontainers for Python, Node and Rust",
        run: clients,
    },
    Part {
        name: "schema",
        in_all: true,
        help: "requests that schemathesis makes from our description of the API",
        run: schema,
    },
    Part {
        name: "differential",
        in_all: false,
        help: "the same requests to the reference dockerd and to Shoal; what differs must be known",
        run: differential,
    },
    Part {
        name: "crash",
        in_all: false,
        help: "the long sweep of deaths of the daemon: every operation, every point, every other millisecond",
        run: crash,
    },
    Part {
        name: "faults",
        in_all: false,
        help: "five minutes of a cluster of 3 managers and 4 workers that are cut off, stopped and killed",
        run: faults,
    },
    Part {
        name: "rolling",
        in_all: false,
        help: "five rolling updates of a stack under 500 requests a second from outside, none of which may fail",
        run: rolling,
    },
    Part {
        name: "churn",
        in_all: false,
        help: "a thousand tasks on five nodes are replaced while names are asked for; none may be wrong",
        run: churn,
    },
    Part {
        name: "leaks",
        in_all: false,
        help: "a thousand operations on networks and deaths of daemons, after which machines must be as before",
        run: leaks,
    },
    Part {
        name: "convergence",
        in_all: false,
        help: "how soon 100 nodes, simulated, know that a task has moved; 250 moves",
        run: convergence,
    },
    Part {
        name: "simulate",
        in_all: false,
        help: "10,000 seeds of the deterministic simulation of a cluster",
        run: simulate,
    },
    Part {
        name: "vm",
        in_all: false,
        help: "the core cases on a stock Debian kernel in QEMU",
        run: crate::vm::smoke,
    },
    Part {
        name: "vm-pair",
        in_all: false,
        help: "two of them at one cable form a cluster: overlays, WireGuard of the kernel, published ports",
        run: crate::vm::pair_smoke,
    },
];

/// Runs the named parts; `all` for those of CI.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    if arguments.is_empty() {
        for part in PARTS {
            println!("  {:<10}{}", part.name, part.help);
        }
        return Ok(());
    }
    let wanted =
        |part: &&Part| arguments.iter().any(|name| name == part.name || (name == "all" && part.in_all));
    if let Some(unknown) =
        arguments.iter().find(|name| *name != "all" && !PARTS.iter().any(|part| part.name == *name))
    {
        bail!("there is no part {unknown}");
    }
    setup::require_root()?;
    setup::for_tests()?;
    let mut times = Vec::new();
    for part in PARTS.iter().filter(wanted) {
        let started = Instant::now();
        eprintln!("== {}", part.name);
        (part.run)()?;
        times.push(format!("{} {} s", part.name, started.elapsed().as_secs()));
    }
    eprintln!("== passed: {}", times.join(", "));
    Ok(())
}

/// Unit, property, conformance and kernel tests of all crates. The kernel tests make namespaces of their own.
fn unit() -> Result<()> {
    let black_box = ["--exclude", "integration-cli", "--exclude", "compose-tests"];
    // One run tells of every failure, not only of those of the first crate that has one.
    let all = ["test", "--workspace", "--locked", "--all-features", "--no-fail-fast"];
    call("cargo", &[all.as_slice(), &black_box].concat())
}

fn cli() -> Result<()> {
    build_daemon()?;
    call("cargo", &["test", "--package", "integration-cli", "--locked"])
}

fn schema() -> Result<()> {
    build_daemon()?;
    crate::clients::schema()
}

/// `SHOAL_TEST_REFERENCE` names another reference: a program, or `unix://SOCKET`.
fn differential() -> Result<()> {
    build_daemon()?;
    let scripts = root()?.join("integration-cli/diff-scripts");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&scripts)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            names.push(path.display().to_string());
        }
    }
    names.sort();
    let accepted = scripts.join("accepted.list").display().to_string();
    let mut run =
        vec!["run", "--quiet", "--package", "integration-cli", "--locked", "--bin", "shoal-diff", "--"];
    run.extend(["--accepted", &accepted]);
    run.extend(names.iter().map(String::as_str));
    call("cargo", &run)
}

fn crash() -> Result<()> {
    build_daemon()?;
    let test = ["test", "--package", "integration-cli", "--locked", "--", "main::crash"];
    call_with("cargo", &test, &[("SHOAL_CRASH_SWEEP", "long")])
}

/// Runs the cases of a module by a plan; the variable, if it is set, takes the place of the usual one.
fn long_form(cases: &str, variable: &str, usual: &str) -> Result<()> {
    build_daemon()?;
    let plan = std::env::var(variable);
    let plan = plan.as_deref().unwrap_or(usual);
    let test = ["test", "--package", "integration-cli", "--locked", "--", cases];
    call_with("cargo", &test, &[(variable, plan)])
}

fn faults() -> Result<()> {
    long_form("cluster::faults", "SHOAL_FAULTS", "seconds=300 managers=3 workers=4 seed=1")
}

fn rolling() -> Result<()> {
    long_form("cluster::rolling", "SHOAL_ROLLING", "requests=500 updates=5")
}

fn churn() -> Result<()> {
    long_form("cluster::churn", "SHOAL_CHURN", "nodes=5 replacements=1000")
}

fn leaks() -> Result<()> {
    long_form("cluster::leaks", "SHOAL_LEAKS", "nodes=3 operations=1000 seed=1")
}

/// `SHOAL_CONVERGENCE` in the environment takes the place of the usual plan.
fn convergence() -> Result<()> {
    let plan = std::env::var("SHOAL_CONVERGENCE");
    let plan = plan.as_deref().unwrap_or("nodes=100 moves=250");
    let test = ["test", "--release", "--package", "manager", "--test", "main", "--locked", "--"];
    let which = ["convergence::", "--nocapture"];
    call_with("cargo", &[test.as_slice(), &which].concat(), &[("SHOAL_CONVERGENCE", plan)])
}

/// Optimised, because it is long; `SHOAL_SIM_SEEDS` in the environment takes the place of the usual number.
fn simulate() -> Result<()> {
    let seeds = std::env::var("SHOAL_SIM_SEEDS");
    let seeds = seeds.as_deref().unwrap_or("10000");
    let test = [
        "test",
        "--release",
        "--package",
        "manager",
        "--lib",
        "--locked",
        "--",
        "simulation::whatever",
        "--nocapture",
    ];
    call_with("cargo", &test, &[("SHOAL_SIM_SEEDS", seeds)])
}

fn compose() -> Result<()> {
    build_daemon()?;
    call("cargo", &["test", "--package", "compose-tests", "--locked"])
}

fn clients() -> Result<()> {
    build_daemon()?;
    crate::clients::suites()
}

/// The black-box suites start the daemon that was built last.
fn build_daemon() -> Result<()> {
    // With the features of the unit tests, so that nothing is compiled twice.
    call("cargo", &["build", "--workspace", "--bins", "--locked", "--all-features"])?;
    let binary = target_directory()?.join("debug/shoald");
    anyhow::ensure!(binary.exists(), "{} was not built", binary.display());
    Ok(())
}

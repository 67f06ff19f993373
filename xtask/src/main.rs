//! Commands for those who work on Shoal: `cargo xtask COMMAND`.
//!
//! Start reading at [`COMMANDS`]. No other place defines checks; the Makefile and CI call these.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program talks on its standard streams"
)]

mod bench;
mod check;
mod clients;
mod dist;
mod fuzz;
mod run;
mod setup;
mod start;
mod test;
mod tidy;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

/// One command: its name, what `--help` says of it, and what it does with its arguments.
struct Command {
    name: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "check",
        help: "formatting, clippy, tidy, documentation; writes nothing",
        run: check::check,
    },
    Command { name: "fix", help: "formats, and applies what clippy can apply", run: check::fix },
    Command { name: "tidy", help: "layering, file length, headers, unsafe list, pages", run: tidy::command },
    Command {
        name: "dist",
        help: "builds the static release binary and prints its path",
        run: dist::command,
    },
    Command { name: "start", help: "installs what is missing, builds, starts the daemon", run: start::start },
    Command { name: "stop", help: "stops the daemon; containers go on", run: start::stop },
    Command {
        name: "uninstall",
        help: "removes containers, rules, state and the binary",
        run: start::uninstall,
    },
    Command {
        name: "run",
        help: "starts a daemon on a temporary root: run [FLAGS OF SHOALD]",
        run: run::command,
    },
    Command {
        name: "bench",
        help: "Shoal beside a peer, in turns, as ratios; bench --help; bench scale, bench cluster",
        run: bench::command,
    },
    Command {
        name: "fuzz",
        help: "input from nowhere for parsers, for longer than in the tests: fuzz [TARGET] [--seconds N]",
        run: fuzz::command,
    },
    Command {
        name: "swagger",
        help: "the API's description: swagger generate, or swagger compare DIR",
        run: swagger,
    },
    Command {
        name: "test",
        help: "tests: test all, or test PART ...; without arguments lists the parts",
        run: test::command,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        print_usage();
        return Ok(());
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print_usage();
        return Ok(());
    }
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(command) => (command.run)(rest),
        None => bail!("unknown command {name}; `cargo xtask help` lists them"),
    }
}

fn print_usage() {
    println!("cargo xtask COMMAND\n");
    for command in COMMANDS {
        println!("  {:<10}{}", command.name, command.help);
    }
}

/// Runs the program of the crate `swagger`, which links the API; the commands here stay quick to build without it.
fn swagger(arguments: &[String]) -> Result<()> {
    let mut all = vec!["run", "--quiet", "--package", "swagger", "--"];
    all.extend(arguments.iter().map(String::as_str));
    call("cargo", &all)
}

/// The root of the workspace.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_owned).context("xtask is not inside the workspace")
}

/// Runs a program in the workspace and fails when it fails. Its output goes where ours goes.
fn call(program: &str, arguments: &[&str]) -> Result<()> {
    call_with(program, arguments, &[])
}

/// The same with more in its environment.
#[expect(clippy::disallowed_methods, reason = "helper programs of developers, not of the daemon")]
fn call_with(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let status = std::process::Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root()?)
        .status()
        .with_context(|| format!("start {program}"))?;
    if status.success() { Ok(()) } else { bail!("{program} {} failed: {status}", arguments.join(" ")) }
}

/// Runs a program in the workspace and returns what it writes.
fn read(program: &str, arguments: &[&str]) -> Result<String> {
    read_with(program, arguments, &[])
}

/// The same with more in its environment.
#[expect(clippy::disallowed_methods, reason = "helper programs of developers, not of the daemon")]
fn read_with(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<String> {
    let output = std::process::Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root()?)
        .output()
        .with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program} {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

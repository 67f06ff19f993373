//! All black-box cases of the docker command line and the raw API; see `integration_cli::runner` for how they run.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "cases report failure by panicking; without the standard harness the lints do not know these are tests"
)]

mod cluster;
mod containers;
mod crash;
mod daemon;
mod harness;
mod images;
mod networks;
mod plugins;
mod process;
mod system;
mod volumes;

use std::path::PathBuf;
use std::process::ExitCode;

use integration_cli::{Case, Session, Suite, runner};

fn main() -> ExitCode {
    runner::main(Suite { cases: cases(), prober: Some(PathBuf::from(env!("CARGO_BIN_EXE_prober"))), prepare })
}

fn cases() -> Vec<Case> {
    [
        cluster::cases(),
        containers::cases(),
        crash::cases(),
        daemon::cases(),
        harness::cases(),
        images::cases(),
        networks::cases(),
        plugins::cases(),
        process::cases(),
        system::cases(),
        volumes::cases(),
    ]
    .concat()
}

fn prepare(session: &Session) {
    session.load(&[integration_cli::images::busybox()]);
}

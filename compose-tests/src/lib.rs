//! Runs compose projects as people do and compares what happens with what their authors expect.
//!
//! A project is a directory with a `compose.yaml` and an `expect.toml`: a list of steps, each a command and what has to
//! come of it. Start reading at [`expect`] for the form of a step and at [`project`] for how one is run. How a daemon is
//! chosen, started and taken down is the business of `integration_cli`.
#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a test harness reports every failure by panicking; the runner turns the panic into a failed case"
)]

pub mod expect;
pub mod project;

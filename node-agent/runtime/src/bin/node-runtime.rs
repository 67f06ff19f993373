//! The OCI command line of the embedded runtime as a program of its own, for its tests.
//!
//! In the product the same command line is `shoald runtime`.

use std::process::ExitCode;

fn main() -> ExitCode {
    node_runtime::cli::main(std::env::args_os().skip(1))
}

//! The shim as a program of its own, for the tests of this crate; the product runs it as `shoald shim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    node_shim::main(std::env::args_os().skip(1))
}

//! netd as a program of its own: what `shoald netd` runs, for the tests of this crate. Not installed.

fn main() -> std::process::ExitCode {
    overlay_net::netd::main(std::env::args_os().skip(1))
}

//! The one binary of Shoal.
//!
//! Start reading at [`main`].

mod config;
mod listen;
mod pidfile;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    match config::read_command_line(std::env::args_os().skip(1)) {
        Ok(config::Invocation::Run(line) | config::Invocation::Validate(line)) => match config::load(&line) {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

//! `cargo xtask swagger`: writes the description of the API, or compares it with others.
//!
//! Start reading at [`main`]. What is written and compared is the library's.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program talks on its standard streams"
)]

use std::path::Path;
use std::process::ExitCode;

use swagger::SwaggerError;

const USAGE: &str = "usage: cargo xtask swagger generate | compare DIR";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["generate"] => swagger::generate(swagger::home()).map(|file| println!("{}", file.display())),
        ["compare", dir] => compare(Path::new(dir)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            eprintln!("error: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the differences from the descriptions in a directory that have no reason in `coverage.toml`.
fn compare(references: &Path) -> Result<(), SwaggerError> {
    let found = swagger::compare(references)?;
    for (minor, differences) in &found {
        println!("1.{minor}: {} differences without a reason", differences.len());
        for difference in differences {
            println!("  {difference}");
        }
    }
    if found.is_empty() {
        println!("no v1.NN.yaml in {}", references.display());
    }
    Ok(())
}

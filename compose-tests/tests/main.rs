//! All compose projects below `projects/`, each a case; see `compose_tests` for their form.

use std::path::Path;
use std::process::ExitCode;

use compose_tests::project;
use integration_cli::{Session, Suite, images, runner};

fn main() -> ExitCode {
    let projects = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/projects"));
    runner::main(Suite { cases: project::cases(projects), prober: None, prepare })
}

fn prepare(session: &Session) {
    session.load(&[images::busybox()]);
}

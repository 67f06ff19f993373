//! What the differential runner finds between two kinds of daemon is real, and what it finds here is known.

use integration_cli::diff::{Accepted, Script, compare};
use integration_cli::{Daemon, DaemonOptions, Implementation, Session, Test, cases, images, skip};

cases![two_daemons_of_one_kind_answer_alike, what_differs_from_the_reference_is_known];

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/diff-scripts");

fn script(name: &str) -> Script {
    Script::parse(&std::fs::read_to_string(format!("{SCRIPTS}/{name}.txt")).unwrap())
}

fn two_daemons_of_one_kind_answer_alike(t: &Test) {
    let daemons = [t.own_daemon(&DaemonOptions::default()), t.own_daemon(&DaemonOptions::default())];
    for name in ["containers", "errors", "networks", "system", "volumes"] {
        let differences = compare(&script(name), &daemons[0], &daemons[1]);
        let shown: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{name}:\n{}", shown.join("\n"));
    }
}

/// The short form of `cargo xtask test differential`, which runs every script.
fn what_differs_from_the_reference_is_known(t: &Test) {
    let reference = Implementation::named("dockerd");
    if t.implementation().is_reference() || !std::path::Path::new("/usr/sbin/dockerd").exists() {
        skip("needs the reference beside another daemon");
    }
    let accepted = Accepted::parse(&std::fs::read_to_string(format!("{SCRIPTS}/accepted.list")).unwrap());
    let reference = Daemon::start(reference, &DaemonOptions::default());
    let session = Session::new(reference.clone(), "diff");
    session.load(&[images::busybox()]);
    let own = t.own_daemon(&DaemonOptions::default());
    for name in ["errors", "networks"] {
        let differences = compare(&script(name), &session, &own);
        let new = differences.iter().filter(|difference| !accepted.has(difference));
        let shown: Vec<String> = new.map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{name}:\n{}", shown.join("\n"));
    }
    drop(session);
    let problems = reference.teardown();
    assert!(problems.is_empty(), "{problems:?}");
}

//! The differential runner finds nothing between two daemons of one kind, so what it finds between two kinds is real.

use integration_cli::diff::{Script, compare};
use integration_cli::{DaemonOptions, Test, cases};

cases![two_daemons_of_one_kind_answer_alike];

fn two_daemons_of_one_kind_answer_alike(t: &Test) {
    let daemons = [t.own_daemon(&DaemonOptions::default()), t.own_daemon(&DaemonOptions::default())];
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/diff-scripts");
    let mut names: Vec<_> = std::fs::read_dir(scripts).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        let script = Script::parse(&std::fs::read_to_string(&name).unwrap());
        let differences = compare(&script, &daemons[0], &daemons[1]);
        let shown: Vec<String> = differences.iter().map(ToString::to_string).collect();
        assert!(shown.is_empty(), "{}:\n{}", name.display(), shown.join("\n"));
    }
}

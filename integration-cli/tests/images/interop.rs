//! Images go back and forth between this daemon and the reference, by archive and by registry.

use std::path::Path;

use integration_cli::http::Request;
use integration_cli::registry::{Guarding, Registry};
use integration_cli::{Daemon, DaemonOptions, Implementation, Session, Test, cases, skip};
use serde_json::{Value, json};

use super::{inspect, own_image};

cases![archives_are_understood_both_ways, a_registry_serves_both];

/// A reference daemon beside the one under test.
struct Reference {
    session: Option<Session>,
}

impl Reference {
    fn start() -> Self {
        let program = Path::new("/usr/sbin/dockerd");
        if !program.exists() {
            skip("there is no reference dockerd on this machine");
        }
        let daemon = Daemon::start(Implementation::Dockerd(program.to_owned()), &DaemonOptions::default());
        Self { session: Some(Session::new(daemon, "reference")) }
    }

    fn session(&self) -> &Session {
        self.session.as_ref().unwrap()
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let daemon = session.daemon().clone();
            drop(session);
            daemon.teardown().clear();
        }
    }
}

/// What must be the same of an image wherever it is.
fn essence(s: &Session, image: &str) -> Value {
    let described = inspect(s, image);
    let keep = ["RootFS", "Created", "Architecture", "Os"].map(|key| described[key].clone());
    json!({"keep": keep, "cmd": described["Config"]["Cmd"], "labels": described["Config"]["Labels"]})
}

fn carry(from: &Session, to: &Session, image: &str) {
    let archive = from.get(&format!("/images/{image}/get")).expect(200).body;
    let request = Request::new("POST", "/images/load?quiet=1").header("Content-Type", "application/x-tar");
    let said = to.send(request.bytes(archive)).expect(200).text();
    assert!(said.contains(&format!("Loaded image: {image}")), "{said}");
}

fn archives_are_understood_both_ways(t: &Test) {
    let reference = Reference::start();
    let r = reference.session();
    let (ours, theirs) = (format!("{}:v1", t.name("img")), format!("{}:v1", t.name("img")));
    t.load(&[own_image(t, &ours)]);
    r.load(&[own_image(r, &theirs)]);
    carry(t, r, &ours);
    carry(r, t, &theirs);
    for image in [&ours, &theirs] {
        assert_eq!(essence(t, image), essence(r, image), "{image}");
    }
    // There and back again.
    let before = essence(t, &ours);
    t.docker(&format!("rmi {ours}")).ok();
    carry(r, t, &ours);
    assert_eq!(essence(t, &ours), before);
}

fn a_registry_serves_both(t: &Test) {
    let reference = Reference::start();
    let r = reference.session();
    // One set of files, a registry beside each daemon: what one pushes the other finds.
    let ours = Registry::start(t.daemon().machine(), Guarding::Open);
    let theirs = Registry::start_on_files_of(&ours, r.daemon().machine());
    let repository = t.name("repo");
    let (here, there) =
        (format!("{}/{repository}:v1", ours.name), format!("{}/{repository}:v1", theirs.name));
    t.load(&[own_image(t, &here)]);
    t.docker(&format!("push -q {here}")).ok();
    r.docker(&format!("pull -q {there}")).ok();
    assert_eq!(essence(t, &here), essence(r, &there));
    let (here2, there2) =
        (format!("{}/{repository}:v2", ours.name), format!("{}/{repository}:v2", theirs.name));
    r.load(&[own_image(r, &there2)]);
    r.docker(&format!("push -q {there2}")).ok();
    t.docker(&format!("pull -q {here2}")).ok();
    assert_eq!(essence(t, &here2), essence(r, &there2));
    t.docker(&format!("rmi {here} {here2}")).ok();
}

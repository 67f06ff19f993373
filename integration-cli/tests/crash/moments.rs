//! Operations in the middle of which the daemon is killed, some time after they have begun.

use std::time::Duration;

use integration_cli::images::{file, tar_of};
use integration_cli::net::Place;
use integration_cli::registry::fake::{FakeRegistry, Form};
use integration_cli::{Test, cases};

use super::points::{at_rest, ended_well, known, remove_all, status};
use super::wreck::{Operation, Wreck, is_long};

cases![a_run_that_writes_much, a_removal, a_network_with_a_container, a_pull];

/// How many moments, and how far apart: few in the short version, every two milliseconds in the long one.
fn moments(until: Duration) -> (u32, Duration) {
    let n_short = 6;
    if is_long() {
        let step = Duration::from_millis(2);
        (u32::try_from(until.as_millis() / step.as_millis()).unwrap(), step)
    } else {
        (n_short, until / n_short)
    }
}

fn a_run_that_writes_much(t: &Test) {
    let (n, step) = moments(Duration::from_millis(600));
    Wreck::new(t).at_moments(
        n,
        step,
        &Operation {
            prepare: |_, _| {},
            act: |d, name| {
                let line =
                    format!("run --name {name} -p 7310:80 -v /anon busybox sh -c 'seq 1 3000; exit 5'");
                d.docker(&line).code == 5
            },
            check: |d, name, told| match at_rest(d, name) {
                Some(found) => {
                    let lines: Vec<String> = (1..=3000).map(|number: u32| number.to_string()).collect();
                    ended_well(d, name, &found, 5, &lines.join("\n"));
                }
                None => assert!(!told, "a container is lost"),
            },
            remove: remove_all,
        },
    );
}

fn a_removal(t: &Test) {
    let (n, step) = moments(Duration::from_millis(200));
    Wreck::new(t).at_moments(
        n,
        step,
        &Operation {
            prepare: |d, name| {
                d.docker(&format!("run -d --name {name} -p 7311:80 -v /anon busybox park")).ok();
            },
            act: |d, name| d.docker(&format!("rm -f -v {name}")).code == 0,
            check: |d, name, told| assert!(!told || known(d, name).is_none(), "a removed container is there"),
            remove: remove_all,
        },
    );
}

fn a_network_with_a_container(t: &Test) {
    let (n, step) = moments(Duration::from_millis(500));
    Wreck::new(t).at_moments(
        n,
        step,
        &Operation {
            prepare: |_, _| {},
            act: |d, name| {
                d.docker(&format!("network create {name}-net")).code == 0
                    && d.docker(&format!("run -d --name {name} --network {name}-net -p 7312:80 busybox park"))
                        .code
                        == 0
            },
            check: |d, name, told| {
                let found = known(d, name);
                let runs = found.as_ref().is_some_and(|found| status(found) == "running");
                assert!(!told || runs, "a running container is lost: {found:?}");
                if runs {
                    assert_eq!(d.docker(&format!("exec {name} nslookup -type=a {name} 127.0.0.11")).code, 0);
                }
            },
            remove: remove_all,
        },
    );
}

fn a_pull(t: &Test) {
    let (n, step) = moments(Duration::from_millis(400));
    let mut wreck = Wreck::new(t);
    let registry = FakeRegistry::start(Place::inside(wreck.daemon().machine()));
    let mut image = integration_cli::images::busybox();
    image.layers.push(tar_of(&[file("big", 0o644, vec![b'x'; 3_000_000])]));
    registry.put_image("crash/image", "v1", &image, Form::Docker);
    std::fs::write(
        wreck.daemon().machine().root().join("pulled"),
        format!("{}/crash/image:v1", registry.name),
    )
    .unwrap();
    wreck.accept_what_is_there();
    let operation = Operation {
        prepare: |_, _| {},
        act: |d, _| d.docker(&format!("pull -q {}", pulled(d))).code == 0,
        check: |d, _, told| {
            let image = pulled(d);
            let there = d.docker(&format!("image ls -q {image}")).ok();
            assert!(!told || !there.is_empty(), "a pulled image is lost");
            // A pull that was cut short is taken up again.
            d.docker(&format!("pull -q {image}")).ok();
            assert_eq!(d.docker(&format!("run --rm {image} sh -c 'wc -c < /big'")).ok(), "3000000");
        },
        remove: |d, _| {
            d.docker(&format!("rmi {}", pulled(d))).ok();
        },
    };
    wreck.at_moments(n, step, &operation);
}

fn pulled(d: &Wreck) -> String {
    std::fs::read_to_string(d.daemon().machine().root().join("pulled")).unwrap()
}

//! Networks: their API, what containers on them reach, names, published ports.

mod api;
mod bridge;
mod connect;
mod dns;
mod ipv6;
mod isolation;
mod links;
mod modes;
mod options;
mod pools;
mod prune;
mod publish;
mod publish_errors;

use integration_cli::{Case, Container, Session};

pub(crate) fn cases() -> Vec<Case> {
    [
        api::cases(),
        bridge::cases(),
        connect::cases(),
        dns::cases(),
        ipv6::cases(),
        isolation::cases(),
        links::cases(),
        modes::cases(),
        options::cases(),
        pools::cases(),
        prune::cases(),
        publish::cases(),
        publish_errors::cases(),
    ]
    .concat()
}

/// `docker network create OPTIONS NEW`; the name.
#[track_caller]
fn network(t: &Session, options: &str) -> String {
    let name = t.name("net");
    t.docker(&format!("network create {options} {name}")).ok();
    name
}

/// A container that answers every connection to port 80 with `word` and a newline.
#[track_caller]
fn server(t: &Session, options: &str, word: &str) -> Container {
    t.start(&format!("{options} busybox nc -ll -p 80 -e echo {word}"))
}

/// What the container reads from `address:port`, or nothing when it cannot connect within two seconds.
#[track_caller]
fn read_from(t: &Session, container: &Container, address: &str, port: u16) -> String {
    t.exec(container, &format!("nc -w 2 {address} {port}")).stdout.trim_end().to_owned()
}

/// Waits until the container reads `word` from `address:port`.
#[track_caller]
fn reads(t: &Session, container: &Container, address: &str, port: u16, word: &str) {
    integration_cli::condition::eventually(
        &format!("{container} reads {word} from {address}:{port}"),
        || (read_from(t, container, address, port) == word).then_some(()),
    );
}

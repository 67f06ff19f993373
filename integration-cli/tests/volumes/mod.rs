//! Volumes, binds and other mounts.

mod api;
mod binds;
mod copy_up;
mod in_use;
mod local_driver;
mod mount_option;
mod propagation;
mod prune;
mod volumes_from;

use integration_cli::{Case, Session};

pub(crate) fn cases() -> Vec<Case> {
    [
        api::cases(),
        binds::cases(),
        copy_up::cases(),
        in_use::cases(),
        local_driver::cases(),
        mount_option::cases(),
        propagation::cases(),
        prune::cases(),
        volumes_from::cases(),
    ]
    .concat()
}

/// `docker volume create OPTIONS NEW`; the name.
#[track_caller]
fn volume(t: &Session, options: &str) -> String {
    let name = t.name("vol");
    assert_eq!(t.docker(&format!("volume create {options} {name}")).ok(), name);
    name
}

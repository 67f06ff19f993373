//! The same where crun makes the containers.

use std::path::Path;

use integration_cli::{DaemonOptions, OwnDaemon, Test, cases};

cases![
    ids_inside_are_others_outside,
    what_is_the_hosts_cannot_be_shared,
    files_go_in_and_out_with_the_ids_of_the_container,
    the_network_belongs_to_the_container,
    streams_can_be_opened_anew,
    namespaces_of_other_containers_can_be_joined,
    remapped_containers_survive_the_daemon,
];

const CRUN: &str = "/usr/bin/crun";

fn options(t: &Test) -> DaemonOptions {
    if !Path::new(CRUN).exists() {
        integration_cli::skip("needs crun");
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        integration_cli::skip("crun does not work beside cgroups of version 1");
    }
    super::remapping_under(t, CRUN)
}

fn start(t: &Test) -> OwnDaemon {
    t.own_daemon(&options(t))
}

fn ids_inside_are_others_outside(t: &Test) {
    super::check_ids(&start(t));
}

fn what_is_the_hosts_cannot_be_shared(t: &Test) {
    super::check_what_is_the_hosts(&start(t));
}

fn files_go_in_and_out_with_the_ids_of_the_container(t: &Test) {
    super::check_files(t, &start(t));
}

fn the_network_belongs_to_the_container(t: &Test) {
    super::check_network(&start(t));
}

fn streams_can_be_opened_anew(t: &Test) {
    super::check_streams(&start(t));
}

fn namespaces_of_other_containers_can_be_joined(t: &Test) {
    super::check_namespaces(&start(t));
}

fn remapped_containers_survive_the_daemon(t: &Test) {
    super::check_survival(t, options(t));
}

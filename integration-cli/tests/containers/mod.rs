//! The life of a container, from create to prune, and what clients see of it.

mod attach;
mod create;
mod devices_by_name;
mod exec;
mod health;
mod inspect;
mod kill;
mod list;
mod log_files;
mod log_receivers;
mod logs;
mod merge;
mod pause;
mod prune;
mod rename;
mod restart;
mod restart_policy;
mod rm;
mod run;
mod start;
mod stop;
mod top;
mod tty;
mod validation;
mod wait;

use integration_cli::Case;

pub(crate) fn cases() -> Vec<Case> {
    [
        attach::cases(),
        create::cases(),
        devices_by_name::cases(),
        exec::cases(),
        health::cases(),
        inspect::cases(),
        kill::cases(),
        list::cases(),
        log_files::cases(),
        log_receivers::cases(),
        logs::cases(),
        merge::cases(),
        pause::cases(),
        prune::cases(),
        rename::cases(),
        restart::cases(),
        restart_policy::cases(),
        rm::cases(),
        run::cases(),
        start::cases(),
        stop::cases(),
        top::cases(),
        tty::cases(),
        validation::cases(),
        wait::cases(),
    ]
    .concat()
}

/// The set of all capabilities this kernel and this machine grant to root, as a mask.
///
/// A privileged container gets what the daemon may give, which on a confined machine is not every bit there is.
pub(crate) fn all_capabilities() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim();
    u64::from_str_radix(mask, 16).unwrap()
}

/// Skips where the machine withholds a capability and the daemon is the reference, which asks for every one by name.
pub(crate) fn skip_where_the_reference_cannot_be_privileged(t: &integration_cli::Test) {
    let last =
        std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse::<u32>().unwrap();
    if t.implementation().is_reference() && all_capabilities().count_ones() != last + 1 {
        integration_cli::skip("this machine withholds capabilities, which the reference does not expect");
    }
}

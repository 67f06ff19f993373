//! The daemon as a program: configuration, signals, listeners, and what survives it.

mod cgroups;
mod config;
mod listeners;
mod live_restore;
mod metrics;
mod reload;
mod restart;
mod signals;
mod stability;
mod storage_limits;
mod uninstall;
mod userns;

use integration_cli::{Case, DaemonOptions, OwnDaemon};

pub(crate) fn cases() -> Vec<Case> {
    [
        cgroups::cases(),
        config::cases(),
        listeners::cases(),
        live_restore::cases(),
        metrics::cases(),
        reload::cases(),
        restart::cases(),
        signals::cases(),
        stability::cases(),
        storage_limits::cases(),
        uninstall::cases(),
        userns::cases(),
        userns::under_crun::cases(),
    ]
    .concat()
}

/// Options under which containers live on without the daemon: a flag for the reference, a matter of course for Shoal.
fn surviving() -> DaemonOptions {
    DaemonOptions::flags("--live-restore")
}

/// Stops the daemon in the usual way and starts it again on the same roots.
fn restart(d: &OwnDaemon, options: &DaemonOptions) {
    d.daemon().stop();
    d.daemon().start_again(options);
}

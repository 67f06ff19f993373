//! Transport, versions, errors, events, and what a daemon says about itself.

mod auth;
mod df;
mod differential;
mod errors;
mod events;
mod filters;
mod info;
mod ping;
mod refusals;
mod version;

use integration_cli::Case;

pub(crate) fn cases() -> Vec<Case> {
    [
        auth::cases(),
        df::cases(),
        differential::cases(),
        errors::cases(),
        events::cases(),
        filters::cases(),
        info::cases(),
        ping::cases(),
        refusals::cases(),
        version::cases(),
    ]
    .concat()
}

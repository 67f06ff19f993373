//! Transport, versions, errors, and what a daemon says about itself.

mod ping;

use integration_cli::Case;

pub(crate) fn cases() -> Vec<Case> {
    [ping::cases()].concat()
}

//! Plugins of the old kind, found by a file and spoken to over a socket.

mod authorization;
mod volumes;

use integration_cli::Case;

pub(crate) fn cases() -> Vec<Case> {
    [authorization::cases(), volumes::cases()].concat()
}

//! The daemon dies at every point of what it does, and the next one must find its way.
//!
//! Start reading at [`wreck::Wreck::at_every_point`]. `points.rs` lets the daemon die at each commit and each effect, one
//! after the other; `moments.rs` kills it at increasing moments, for what happens between the points. After each death a
//! daemon starts on the same files; then nothing may be lost that a client was told, nothing may be there twice, and when
//! the objects are removed, the machine must look as it did before (`inventory.rs`). `power.rs`
//! takes the whole machine away, and not the daemon alone.
//!
//! In `make test` every point of the most important operations is tried once, and few moments. `SHOAL_CRASH_SWEEP=long`
//! (`cargo xtask test crash`) tries every operation, many moments, and a second death while the next daemon boots.

pub(crate) mod inventory;
mod moments;
mod points;
mod power;
mod wreck;

use integration_cli::Case;

pub(crate) fn cases() -> Vec<Case> {
    [points::cases(), moments::cases(), power::cases()].concat()
}

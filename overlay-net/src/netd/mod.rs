//! netd: the small process that keeps name servers, held ports and splice proxies alive while the daemon is away.
//!
//! Start reading at [`main`]. It decides nothing: the daemon tells it the whole state once and changes after that.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs netd until it is told to stop; the daemon's binary calls this for `shoald netd`.
///
/// `args` are the arguments after `netd`, as [`crate::host::SpawnNetd`] received them.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}

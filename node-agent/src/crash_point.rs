//! Places at which a test may let the whole daemon die, as `kill -9` would: every commit and every effect.
//!
//! Start reading at [`crash_point`]. Release builds have nothing of it. In debug builds the environment variable
//! [`FUSE`] names a file with the number of places that the daemon still passes; at the last of them it kills itself. A
//! file that is missing, empty or at zero lets it live. The black-box suite `crash` is what uses this (docs/testing.md).

/// The environment variable with the path of the file that counts.
#[cfg(debug_assertions)]
const FUSE: &str = "SHOAL_CRASH_FUSE";

/// Ends the process here if a test has asked for it. `name` is what the test is told of the place.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn crash_point(_name: &str) {}

/// Ends the process here if a test has asked for it. `name` is what the test is told of the place.
#[cfg(debug_assertions)]
pub(crate) fn crash_point(name: &str) {
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock, PoisonError};

    /// One place is passed at a time, so that the count has one order.
    static PASSING: Mutex<()> = Mutex::new(());
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();

    let Some(path) = PATH.get_or_init(|| std::env::var_os(FUSE).map(PathBuf::from)) else { return };
    let _passing = PASSING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let left = text.split(' ').next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0);
    let Some(left) = left.checked_sub(1) else { return };
    // A count that cannot be written down would let the test run for ever; dying early is only a shorter test.
    let written = std::fs::write(path, format!("{left} {name}"));
    if left == 0 || written.is_err() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

//! Reading and writing the small files of a cgroup, with errors that name the file.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Context, Result};

/// Writes a value; the kernel judges it at once, so the error is about the value.
pub(crate) fn write(directory: &Path, file: &str, value: &str) -> Result<()> {
    try_write(directory, file, value)
        .step(|| format!("write {value:?} to {}", directory.join(file).display()))
}

/// Writes a value and leaves the judgement of a failure to the caller.
pub(crate) fn try_write(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let path = directory.join(file);
    // Not truncated and not created: a missing file must be an error, and truncation means nothing here.
    let fd = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fd, value.as_bytes())?;
    Ok(())
}

/// Reads a whole file.
pub(crate) fn read(directory: &Path, file: &str) -> Result<String> {
    let path = directory.join(file);
    fs::read_to_string(&path).step(|| format!("read {}", path.display()))
}

/// Reads a file that this host may not have.
pub(crate) fn read_if_present(directory: &Path, file: &str) -> Option<String> {
    fs::read_to_string(directory.join(file)).ok()
}

/// Reads a single number; `max` and numbers out of range are `None`.
pub(crate) fn number(directory: &Path, file: &str) -> Option<u64> {
    read_if_present(directory, file)?.trim().parse().ok()
}

/// Reads a table of `key value` lines.
pub(crate) fn table(directory: &Path, file: &str) -> Vec<(String, u64)> {
    let text = read_if_present(directory, file).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// Finds a key in such a table.
pub(crate) fn entry(table: &[(String, u64)], key: &str) -> u64 {
    table.iter().find(|(name, _)| name == key).map_or(0, |(_, value)| *value)
}

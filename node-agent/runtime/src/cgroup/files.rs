//! Reading and writing the small files of a cgroup, with errors that name the file.
//!
//! Start reading at [`read`] and [`write()`] for what happens once; [`OpenFiles`] is for counters that are read every second.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::table::{CounterTable, Names, entry};
use crate::error::{Context, Result};

/// Writes a value; the kernel judges it at once, so the error is about the value.
pub(crate) fn write(directory: &Path, file: &str, value: &str) -> Result<()> {
    try_write(directory, file, value)
        .step(|| format!("write {value:?} to {}", directory.join(file).display()))
}

/// Writes a value and leaves the judgement of a failure to the caller.
pub(crate) fn try_write(directory: &Path, file: &str, value: &str) -> io::Result<()> {
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

/// Finds a key in a file of `key value` lines; zero without it.
pub(crate) fn entry_of(directory: &Path, file: &str, key: &str) -> u64 {
    entry(&read_if_present(directory, file).unwrap_or_default(), key)
}

/// How much is asked of a file at once; the kernel gives the whole of a counter's file when there is room for it.
const READ_LEN: usize = 8 << 10;

/// Files of one directory, each opened at its first reading and kept open: resolving a path costs more than reading.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    directory: PathBuf,
    /// `None` for a file that this host does not have.
    files: Vec<(&'static str, Option<OwnedFd>)>,
    /// The names of the last table.
    names: Names,
}

impl OpenFiles {
    /// Opens nothing yet.
    pub(crate) fn of(directory: PathBuf) -> Self {
        Self { directory, files: Vec::new(), names: Names::default() }
    }

    /// Reads a file as it is now and takes from it what is asked. `None` if the host does not have it or the directory has
    /// been removed.
    pub(crate) fn read<T>(&mut self, file: &'static str, parse: impl FnOnce(&str) -> T) -> Option<T> {
        read_from_start(self.opened(file)?, parse)
    }

    fn opened(&mut self, file: &'static str) -> Option<&OwnedFd> {
        let at = self.files.iter().position(|(name, _)| *name == file).unwrap_or_else(|| {
            self.files.push((file, open(&self.directory.join(file))));
            self.files.len() - 1
        });
        self.files.get(at)?.1.as_ref()
    }

    /// Reads a table of `key value` lines; empty where [`OpenFiles::read`] gives nothing.
    pub(crate) fn table(&mut self, file: &'static str) -> CounterTable {
        let mut names = std::mem::take(&mut self.names);
        let table = self.read(file, |text| CounterTable::parse(text, &mut names)).unwrap_or_default();
        self.names = names;
        table
    }

    /// Reads a single number; `max` and numbers out of range are `None`.
    pub(crate) fn number(&mut self, file: &'static str) -> Option<u64> {
        self.read(file, |text| text.trim().parse().ok())?
    }
}

fn open(path: &Path) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Nothing is allocated for a file that fits.
fn read_from_start<T>(file: &OwnedFd, parse: impl FnOnce(&str) -> T) -> Option<T> {
    let mut room = [MaybeUninit::uninit(); READ_LEN];
    let (text, rest) = rustix::io::pread(file, &mut room[..], 0).ok()?;
    // Less than there was room for: a counter's file is made in one piece.
    if !rest.is_empty() {
        return str::from_utf8(text).ok().map(parse);
    }
    let mut text = text.to_vec();
    loop {
        text.reserve(READ_LEN);
        let (at, room) = (text.len(), text.capacity() - text.len());
        let n = rustix::io::pread(file, rustix::buffer::spare_capacity(&mut text), at as u64).ok()?;
        if n < room {
            return str::from_utf8(&text).ok().map(parse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_read_anew_each_time_and_a_missing_one_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("counter");
        fs::write(&path, "1\n").unwrap();
        let mut files = OpenFiles::of(directory.path().to_owned());
        assert_eq!(files.number("counter"), Some(1));
        fs::write(&path, "22\n").unwrap();
        assert_eq!(files.number("counter"), Some(22));
        fs::write(&path, "max\n").unwrap();
        assert_eq!(files.number("counter"), None);
        assert_eq!(files.read("missing", str::len), None);
    }

    #[test]
    fn a_file_longer_than_the_buffer_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let long = "x".repeat(3 * READ_LEN + 17);
        fs::write(directory.path().join("long"), &long).unwrap();
        assert_eq!(OpenFiles::of(directory.path().to_owned()).read("long", str::to_owned), Some(long));
    }
}

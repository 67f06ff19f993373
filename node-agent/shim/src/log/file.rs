//! Appends entries to the current log file, in big writes, and survives what disks do.
//!
//! Start reading at [`LogFile::append`] and [`LogFile::flush`]. A write that fails loses the entries it was for and is
//! reported once until a write succeeds again; a write that is cut short leaves whole entries only. What a kill -9
//! cuts short is removed when the file is opened the next time. The file is never synced: a log is not worth the disk's
//! time, and the kernel keeps it when the process dies.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::rotation::Rotation;
use crate::protocol::LogFileConfig;

/// How many bytes are collected for one write.
const WRITE_LEN: usize = 256 * 1024;

/// How the end of the last whole entry is found in a format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryEnds {
    /// The length of the whole entries at the beginning of bytes that start with an entry.
    pub(crate) whole_entries: fn(&[u8]) -> usize,
    /// The length of a file of this size without an entry that was cut short.
    pub(crate) sound_len: fn(&File, u64) -> io::Result<u64>,
}

/// The current file of a log.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
    ends: EntryEnds,
    rotation: Rotation,
    /// Bytes in the file.
    size: u64,
    /// Whole entries on their way to the file.
    pending: Vec<u8>,
    trouble: Trouble,
}

/// What is known about failing writes.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// To be reported.
    Fresh(String),
    /// Reported; silent until a write succeeds.
    Known,
}

impl LogFile {
    /// Opens the file for appending, made if it does not exist.
    pub(crate) fn open(config: &LogFileConfig, ends: EntryEnds) -> io::Result<Self> {
        let file = open(&config.path)?;
        let mut size = file.metadata()?.len();
        let sound = (ends.sound_len)(&file, size)?;
        if sound < size {
            file.set_len(sound)?;
            size = sound;
        }
        let rotation = Rotation::new(config);
        Ok(Self { file, ends, rotation, size, pending: Vec::new(), trouble: Trouble::None })
    }

    /// Adds one entry, which `write` appends to what it is given. It is in the file after the next flush at the latest.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let len_so_far = self.size + self.pending.len() as u64;
        if self.rotation.is_due(len_so_far) {
            self.flush();
            self.rotate();
        }
        write(&mut self.pending);
        if self.pending.len() >= WRITE_LEN {
            self.flush();
        }
    }

    /// Writes what was added.
    pub(crate) fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let mut n_written = 0;
        let outcome = loop {
            match self.file.write(&self.pending[n_written..]) {
                Ok(0) => break Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(n) => n_written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if n_written == self.pending.len() {
                break Ok(());
            }
        };
        self.size += n_written as u64;
        match outcome {
            Ok(()) => self.trouble = Trouble::None,
            Err(error) => {
                self.report(&error);
                self.drop_torn_entry(n_written);
            }
        }
        self.pending.clear();
    }

    /// Leaves only whole entries of a write that was cut short.
    fn drop_torn_entry(&mut self, n_written: usize) {
        let n_whole = (self.ends.whole_entries)(&self.pending[..n_written]);
        let sound = self.size - (n_written - n_whole) as u64;
        // Should this fail as well, the next one who opens the file does it.
        if self.file.set_len(sound).is_ok() {
            self.size = sound;
        }
    }

    fn rotate(&mut self) {
        let rotated = self.rotation.rotate(&self.file).and_then(|reopen| match reopen {
            super::rotation::Current::Emptied => Ok(()),
            super::rotation::Current::Moved => {
                self.file = open(self.rotation.path())?;
                Ok(())
            }
        });
        match rotated {
            Ok(()) => self.size = 0,
            // Goes on in the old file, and tries again once it has grown by as much again.
            Err(error) => {
                self.report(&error);
                self.rotation.postpone(self.size);
            }
        }
    }

    fn report(&mut self, error: &io::Error) {
        if self.trouble == Trouble::None {
            self.trouble = Trouble::Fresh(error.to_string());
        }
    }

    /// What went wrong, if it has not been told yet.
    pub(crate) fn take_trouble(&mut self) -> Option<String> {
        if !matches!(self.trouble, Trouble::Fresh(_)) {
            return None;
        }
        match std::mem::replace(&mut self.trouble, Trouble::Known) {
            Trouble::Fresh(message) => Some(message),
            Trouble::None | Trouble::Known => None,
        }
    }

    /// The files that were current before.
    pub(crate) fn rotation(&mut self) -> &mut Rotation {
        &mut self.rotation
    }

    /// Gives the write buffer back.
    pub(crate) fn trim(&mut self) {
        self.pending = Vec::new();
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::json;

    fn config(path: &Path, max_size: Option<u64>, max_files: u32) -> LogFileConfig {
        let attrs = std::collections::BTreeMap::new();
        LogFileConfig { path: path.to_owned(), max_size, max_files, compress: false, attrs }
    }

    fn append_line(log: &mut LogFile, line: &[u8]) {
        log.append(|out| {
            out.extend_from_slice(line);
            out.push(b'\n');
        });
        log.flush();
    }

    #[test]
    fn an_entry_cut_short_by_a_kill_is_gone_after_the_next_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, b"whole\nto").unwrap();
        let mut log = LogFile::open(&config(&path, None, 1), json::ENDS).unwrap();
        append_line(&mut log, b"next");
        assert_eq!(std::fs::read(&path).unwrap(), b"whole\nnext\n");
    }

    #[test]
    fn files_rotate_between_entries_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&config(&path, Some(8), 3), json::ENDS).unwrap();
        for n in 0..10 {
            append_line(&mut log, format!("line{n}").as_bytes());
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).ok();
        // Two entries of six bytes reach the limit of eight.
        assert_eq!(read("log").as_deref(), Some("line8\nline9\n"));
        assert_eq!(read("log.1").as_deref(), Some("line6\nline7\n"));
        assert_eq!(read("log.2").as_deref(), Some("line4\nline5\n"));
        assert_eq!(read("log.3"), None);
    }

    #[test]
    fn a_single_file_starts_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&config(&path, Some(8), 1), json::ENDS).unwrap();
        for n in 0..5 {
            append_line(&mut log, format!("line{n}").as_bytes());
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line4\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_reported_once_and_leaves_whole_entries() {
        // /dev/full takes no byte and cannot be truncated: the write fails, the log goes on.
        let mut log = LogFile::open(&config(Path::new("/dev/full"), None, 1), json::ENDS).unwrap();
        append_line(&mut log, b"lost");
        assert!(log.take_trouble().is_some());
        append_line(&mut log, b"lost too");
        assert_eq!(log.take_trouble(), None);
    }
}

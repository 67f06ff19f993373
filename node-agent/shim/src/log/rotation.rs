//! Renames full log files, forgets the oldest, and compresses the others in a child process.
//!
//! Start reading at [`Rotation::rotate`]. Names are dockerd's: `PATH.1` is the newest rotated file, `.gz` is appended
//! when it is compressed. Compression happens in a forked child that knows nothing but its two files, so that the shim
//! needs no thread and no output waits for it; the result is put in place by the shim when the child has ended. A
//! compressed file says which file it was made from ([`Origin`]): a reader may meet both, and what was written in one
//! moment may fill several files, so times do not tell them apart.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use rustix::process::{Pid, Signal};

use crate::protocol::LogFileConfig;
use crate::sys::{self, Forked};

/// What became of the current file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Current {
    /// It has another name now; a new one must be opened.
    Moved,
    /// It is empty again.
    Emptied,
}

/// The files of one log beside the current one.
#[derive(Debug)]
pub(crate) struct Rotation {
    path: PathBuf,
    max_size: Option<u64>,
    max_files: u32,
    compresses: bool,
    /// After a failed rotation: the size at which to try again.
    postponed_to: u64,
    /// Counts rotations, to find a file that was renamed while it was compressed.
    n_rotations: u32,
    job: Option<Job>,
    /// Whether there may be a file to compress.
    has_news: bool,
}

/// A compression under way.
#[derive(Debug)]
struct Job {
    child: Pid,
    /// The number that the file had, and the count of rotations then.
    index: u32,
    n_rotations: u32,
}

impl Rotation {
    pub(crate) fn new(config: &LogFileConfig) -> Self {
        Self {
            path: config.path.clone(),
            max_size: config.max_size,
            max_files: config.max_files.max(1),
            compresses: config.compress,
            postponed_to: 0,
            n_rotations: 0,
            job: None,
            has_news: true,
        }
    }

    /// The current file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a file of this size takes no further entry.
    pub(crate) fn is_due(&self, size: u64) -> bool {
        self.max_size.is_some_and(|max_size| size >= max_size.max(self.postponed_to).max(1))
    }

    /// Gives up for now; a log that cannot be rotated goes on in its file.
    pub(crate) fn postpone(&mut self, size: u64) {
        self.postponed_to = size + self.max_size.unwrap_or_default();
    }

    /// Makes room for a new current file.
    pub(crate) fn rotate(&mut self, current: &File) -> io::Result<Current> {
        self.postponed_to = 0;
        if self.max_files == 1 {
            current.set_len(0)?;
            return Ok(Current::Emptied);
        }
        let oldest = self.max_files - 1;
        remove_if_any(&self.raw(oldest))?;
        remove_if_any(&self.compressed(oldest))?;
        let is_taken = |index: &u32| self.raw(*index).exists() || self.compressed(*index).exists();
        let first_free = (1..oldest).find(|index| !is_taken(index)).unwrap_or(oldest);
        for index in (1..first_free).rev() {
            rename_if_any(&self.raw(index), &self.raw(index + 1))?;
            rename_if_any(&self.compressed(index), &self.compressed(index + 1))?;
        }
        fs::rename(&self.path, self.raw(1))?;
        self.n_rotations = self.n_rotations.wrapping_add(1);
        self.has_news = true;
        Ok(Current::Moved)
    }

    /// Starts to compress a rotated file that is not, unless that is going on. Cheap when there is nothing new.
    pub(crate) fn compress_next(&mut self) -> io::Result<()> {
        if !self.compresses || !self.has_news || self.job.is_some() {
            return Ok(());
        }
        self.has_news = false;
        // The oldest first: it has the least time before it is renamed away.
        for index in (1..self.max_files).rev() {
            if self.compressed(index).exists() {
                // A finished compression whose source was not removed any more.
                remove_if_any(&self.raw(index))?;
            } else if let Ok(source) = File::open(self.raw(index)) {
                let target = File::create(self.unfinished())?;
                match sys::fork()? {
                    Forked::Child => compress_and_exit(&source, &target),
                    Forked::Parent(child) => {
                        self.job = Some(Job { child, index, n_rotations: self.n_rotations });
                    }
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Told of every child that ended; `true` when it was the one that compressed.
    pub(crate) fn child_ended(&mut self, child: Pid, is_success: bool) -> bool {
        let Some(job) = self.job.take_if(|job| job.child == child) else { return false };
        self.has_news = true;
        let index = job.index + self.n_rotations.wrapping_sub(job.n_rotations);
        let unfinished = self.unfinished();
        let has_place = is_success && index < self.max_files;
        if has_place && fs::rename(&unfinished, self.compressed(index)).is_ok() {
            // Kept at worst: then both are there, which `compress_next` mends.
            let _ = remove_if_any(&self.raw(index));
        } else {
            let _ = remove_if_any(&unfinished);
            // A file that cannot be compressed stays as it is; trying for ever would not help.
            self.compresses &= is_success;
        }
        true
    }

    /// Whether a compression is going on.
    pub(crate) fn is_compressing(&self) -> bool {
        self.job.is_some()
    }

    fn raw(&self, index: u32) -> PathBuf {
        self.with_suffix(&format!(".{index}"))
    }

    fn compressed(&self, index: u32) -> PathBuf {
        self.with_suffix(&format!(".{index}.gz"))
    }

    fn unfinished(&self) -> PathBuf {
        self.with_suffix(".compressing")
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }
}

/// The life of the child. It keeps no copy of any other descriptor of the shim: the end of the container's input, or
/// of a client's stream, must not wait for it.
fn compress_and_exit(source: &File, target: &File) -> ! {
    // A shim that is killed takes the child along, so that its successor can use the same unfinished file.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = rustix::process::nice(10);
    let run = || -> io::Result<()> {
        rustix::stdio::dup2_stdin(source)?;
        rustix::stdio::dup2_stdout(target)?;
        sys::close_descriptors_from(3);
        let source = rustix::stdio::stdin().try_clone_to_owned()?;
        let target = rustix::stdio::stdout().try_clone_to_owned()?;
        compress(File::from(source), File::from(target))
    };
    sys::exit_now(i32::from(run().is_err()))
}

/// Device and inode of a log file. Kept beyond its end in a field of the header of the compressed file (RFC 1952,
/// section 2.3.1.1), where other programs pass over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    device: u64,
    inode: u64,
}

/// The two letters of our field, and its length.
const FIELD_HEAD: [u8; 4] = [b'S', b'L', 16, 0];

impl Origin {
    /// The identity of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|metadata| Self::of_metadata(&metadata))
    }

    /// The identity of a file that was looked at.
    pub(crate) fn of_metadata(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    fn to_field(self) -> Vec<u8> {
        [&FIELD_HEAD[..], &self.device.to_le_bytes(), &self.inode.to_le_bytes()].concat()
    }

    /// Reads the field back; `None` for a file that another program has compressed.
    pub(crate) fn from_field(field: &[u8]) -> Option<Self> {
        let (device, inode) = field.strip_prefix(&FIELD_HEAD)?.split_at_checked(8)?;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        Some(Self { device: number(device)?, inode: number(inode)? })
    }
}

/// Compresses a whole log file.
pub(crate) fn compress(mut source: File, target: File) -> io::Result<()> {
    let header = GzBuilder::new().extra(Origin::of(&source)?.to_field());
    let mut encoder = header.write(target, Compression::fast());
    io::copy(&mut source, &mut encoder)?;
    encoder.finish()?;
    Ok(())
}

fn remove_if_any(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn rename_if_any(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

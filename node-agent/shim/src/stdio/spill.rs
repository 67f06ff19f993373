//! Output that waits on disk for a client which stands still.
//!
//! Start reading at [`Spill`]: a ring in a file without a name, which is gone with its descriptor. When a client's output
//! comes here, and when it is held up instead, is decided by the session.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

/// How much waits on disk for one client: more than a log holds by default, and little beside what images take.
const CAPACITY: u64 = 256 * 1024 * 1024;

/// A queue of bytes in a file.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    capacity: u64,
    /// Bytes that were ever put in and taken out; where they are in the file is the rest of the division by its capacity.
    n_put: u64,
    n_taken: u64,
    /// What the file had no room for, or the disk: at most what was put in once, because the process is held up then.
    rest: Vec<u8>,
}

impl Spill {
    /// An empty queue in a file of this directory. Fails where the file system has no files without names.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        Self::with_capacity(directory, CAPACITY)
    }

    fn with_capacity(directory: &Path, capacity: u64) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Self { file: File::from(file), capacity, n_put: 0, n_taken: 0, rest: Vec::new() })
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.n_put == self.n_taken && self.rest.is_empty()
    }

    /// Whether it takes no more for now.
    pub(super) fn is_full(&self) -> bool {
        !self.rest.is_empty() || self.n_put - self.n_taken == self.capacity
    }

    /// Puts bytes at the end. None is lost: what cannot be written is kept in memory, and the queue is full.
    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_full() {
            let (offset, len) = self.stretch(self.n_put, self.capacity - (self.n_put - self.n_taken));
            let Some(piece) = bytes.get(..len.min(bytes.len())) else { break };
            match self.file.write_at(piece, offset) {
                Ok(n_written) if n_written > 0 => {
                    self.n_put += n_written as u64;
                    bytes = bytes.get(n_written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        self.rest.extend_from_slice(bytes);
    }

    /// Takes bytes from the front; 0 when nothing waits.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.n_put == self.n_taken {
            let n_taken = self.rest.len().min(buffer.len());
            for (place, byte) in buffer.iter_mut().zip(self.rest.drain(..n_taken)) {
                *place = byte;
            }
            return Ok(n_taken);
        }
        let (offset, len) = self.stretch(self.n_taken, self.n_put - self.n_taken);
        let len = len.min(buffer.len());
        let n_read = self.file.read_at(buffer.get_mut(..len).unwrap_or_default(), offset)?;
        if n_read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.n_taken += n_read as u64;
        Ok(n_read)
    }

    /// Where a position is in the file, and how many of the bytes from there lie together.
    fn stretch(&self, position: u64, n_bytes: u64) -> (u64, usize) {
        let offset = position % self.capacity;
        let len = n_bytes.min(self.capacity - offset);
        (offset, usize::try_from(len).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(spill: &mut Spill, n_bytes: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        while taken.len() < n_bytes {
            let mut buffer = [0; 3];
            let wanted = buffer.len().min(n_bytes - taken.len());
            let n_read = spill.take(&mut buffer[..wanted]).unwrap();
            assert!(n_read > 0, "only {taken:?}");
            taken.extend_from_slice(&buffer[..n_read]);
        }
        taken
    }

    #[test]
    fn bytes_come_out_in_order_also_around_the_end_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::with_capacity(dir.path(), 10).unwrap();
        let (mut next_in, mut next_out) = (0_u8, 0_u8);
        for n_bytes in [4, 9, 10, 1, 7, 3, 10] {
            let bytes: Vec<u8> = (0..n_bytes).map(|step| next_in.wrapping_add(step)).collect();
            next_in = next_in.wrapping_add(n_bytes);
            spill.put(&bytes);
            assert_eq!(spill.is_full(), n_bytes == 10);
            for byte in take(&mut spill, usize::from(n_bytes)) {
                assert_eq!(byte, next_out);
                next_out = next_out.wrapping_add(1);
            }
            assert!(spill.is_empty());
        }
    }

    #[test]
    fn what_has_no_room_is_kept_and_makes_the_queue_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::with_capacity(dir.path(), 4).unwrap();
        spill.put(b"abcdefg");
        assert!(spill.is_full());
        assert_eq!(take(&mut spill, 2), b"ab");
        assert!(spill.is_full(), "what came later must not overtake the rest");
        spill.put(b"h");
        assert_eq!(take(&mut spill, 6), b"cdefgh");
        assert!(spill.is_empty() && !spill.is_full());
    }
}

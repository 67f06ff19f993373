//! Compresses layers with gzip, on several processors, always to the same bytes.
//!
//! Start reading at [`GzipWriter`]. The stream is cut into pieces of a fixed size and each becomes a member of its own
//! (RFC 1952, section 2.2, allows any number of them), so that the result does not depend on how many threads worked or
//! in which order they finished. Reading is in `compression.rs`.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use flate2::{Compression, GzBuilder};

/// Size of the pieces. Matches do not reach over their borders, which costs less than half a percent at this size.
const PIECE_LEN: usize = 1 << 20;
/// Between gzip's 1 and 9: twice as fast as the usual 6 for four percent more bytes (measured on a Debian root).
const LEVEL: u32 = 4;
/// The operating system in the header of a member: unknown, so that it does not depend on where we run.
const UNKNOWN_OS: u8 = 255;
/// More threads than this do not get work fast enough from one reader.
const MAX_THREADS: usize = 4;

type Job = (Vec<u8>, SyncSender<io::Result<Vec<u8>>>);

/// Compresses what is written to it into another writer.
#[derive(Debug)]
pub struct GzipWriter<W: Write> {
    sink: W,
    piece: Vec<u8>,
    jobs: Option<SyncSender<Job>>,
    /// Results in the order of the pieces.
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
    n_pieces: u64,
}

impl<W: Write> GzipWriter<W> {
    /// Starts the threads.
    pub fn new(sink: W) -> io::Result<Self> {
        let n_threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
        let (jobs, queue) = sync_channel::<Job>(n_threads);
        let queue = Arc::new(Mutex::new(queue));
        let mut writer = Self {
            sink,
            piece: Vec::with_capacity(PIECE_LEN),
            jobs: Some(jobs),
            pending: VecDeque::new(),
            threads: Vec::with_capacity(n_threads),
            n_pieces: 0,
        };
        for _ in 0..n_threads {
            let queue = Arc::clone(&queue);
            let thread = thread::Builder::new()
                .name("layer-gzip".to_owned())
                .spawn(move || compress_until_closed(&queue))?;
            writer.threads.push(thread);
        }
        Ok(writer)
    }

    /// Compresses the rest and gives the sink back.
    pub fn finish(mut self) -> io::Result<W> {
        // An empty stream is one empty member.
        if !self.piece.is_empty() || self.n_pieces == 0 {
            self.dispatch()?;
        }
        while !self.pending.is_empty() {
            self.write_next()?;
        }
        self.jobs = None;
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| io::Error::other("a compressing thread panicked"))?;
        }
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn dispatch(&mut self) -> io::Result<()> {
        // As many wait as are worked on, so that no thread runs out of work and memory stays small.
        while self.pending.len() >= 2 * self.threads.len() {
            self.write_next()?;
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_LEN));
        let (done, result) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        jobs.send((piece, done)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.pending.push_back(result);
        self.n_pieces += 1;
        Ok(())
    }

    fn write_next(&mut self) -> io::Result<()> {
        let Some(next) = self.pending.pop_front() else { return Ok(()) };
        let member = next.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
        self.sink.write_all(&member)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE_LEN - self.piece.len());
        self.piece.extend_from_slice(&bytes[..n]);
        if self.piece.len() == PIECE_LEN {
            self.dispatch()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        // A piece must be full: flushing would make the result depend on when it was called.
        Ok(())
    }
}

/// A thread: ends when the writer is finished or dropped.
fn compress_until_closed(queue: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is released before the work begins.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((piece, done)) = job else { return };
        // Nobody waits if the writer was dropped.
        let _ = done.send(compress(&piece));
    }
}

fn compress(piece: &[u8]) -> io::Result<Vec<u8>> {
    let room = Vec::with_capacity(piece.len() / 2);
    let mut encoder =
        GzBuilder::new().operating_system(UNKNOWN_OS).mtime(0).write(room, Compression::new(LEVEL));
    encoder.write_all(piece)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::compression::decompress;
    use std::io::Read as _;

    fn pack(bytes: &[u8], step: usize) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new()).unwrap();
        for chunk in bytes.chunks(step) {
            writer.write_all(chunk).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same_however_it_was_written() {
        let bytes: Vec<u8> = (0..5_300_000u32).flat_map(|i| (i / 7).to_le_bytes()).take(5_300_000).collect();
        for length in [0, 1, PIECE_LEN, PIECE_LEN + 1, bytes.len()] {
            let packed = pack(&bytes[..length], 77_777);
            assert_eq!(packed, pack(&bytes[..length], 4096), "the same bytes whatever the steps");
            let mut unpacked = Vec::new();
            decompress(packed.as_slice()).unwrap().1.read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == bytes[..length], "{length} bytes");
        }
    }

    #[test]
    fn a_writer_that_is_dropped_ends_its_threads() {
        let mut writer = GzipWriter::new(Vec::new()).unwrap();
        writer.write_all(&vec![7; 3 * PIECE_LEN]).unwrap();
        let threads = std::mem::take(&mut writer.threads);
        drop(writer);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

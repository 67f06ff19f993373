//! Makes layers: the compressed blob and the unpacked directory at the same time.
//!
//! Start reading at [`pack`] for a container's changes and at [`compress`] for an archive that somebody sends. The archive
//! exists only as a stream: one thread makes it, others compress, hash and unpack it.

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::{Buf as _, Bytes};

use super::apply::Limits;
use super::diff::write_layer;
use super::gzip::GzipWriter;
use super::unpack::{Unpacked, unpack_plain};
use super::{LayerError, Stack};
use crate::userns::IdMapping;

/// Size of the pieces that go from thread to thread.
const CHUNK_LEN: usize = 128 << 10;
/// How many pieces may wait.
const QUEUE_LEN: usize = 4;

/// Packs what is in a stack's upper directory into `blob`, compressed, and unpacks it into the empty directory `stage`.
/// Blocks.
pub fn pack<W: Write>(stack: &Stack, stage: &Path, blob: W) -> Result<(Unpacked, W), LayerError> {
    thread::scope(|scope| {
        let (sender, chunks) = sync_channel(QUEUE_LEN);
        let packer = thread::Builder::new()
            .name("layer-pack".to_owned())
            .spawn_scoped(scope, move || {
                let pipe = BufWriter::with_capacity(CHUNK_LEN, PipeWriter { chunks: sender });
                write_layer(stack, pipe).map(drop)
            })
            .map_err(LayerError::io("start a thread for", stage))?;
        let mut archive = PipeReader { chunks, current: Bytes::new() };
        let made = compress(&mut archive, stage, blob, &stack.ids);
        drop(archive);
        let packed = packer
            .join()
            .unwrap_or_else(|_| Err(LayerError::io("pack", stage)(io::Error::other("a thread panicked"))));
        // If packing failed, the archive seems cut; if unpacking failed, the packer found nobody to write to.
        match (packed, made) {
            (Err(LayerError::Io { source, .. }), Err(error))
                if source.kind() == io::ErrorKind::BrokenPipe =>
            {
                Err(error)
            }
            (Err(error), _) => Err(error),
            (Ok(()), made) => made,
        }
    })
}

/// Compresses an uncompressed archive into `blob` and unpacks it into the empty directory `stage`. Blocks.
pub fn compress<W: Write>(
    archive: &mut dyn Read,
    stage: &Path,
    blob: W,
    ids: &IdMapping,
) -> Result<(Unpacked, W), LayerError> {
    let io = |source: io::Error| LayerError::io("compress a layer for", stage)(source);
    let mut tee = Tee { source: archive, copy: GzipWriter::new(blob).map_err(io)? };
    let unpacked = unpack_plain(&mut tee, stage, Limits::default(), ids)?;
    let blob = tee.copy.finish().map_err(io)?;
    Ok((unpacked, blob))
}

/// Hands on what is read, and writes it somewhere too.
#[derive(Debug)]
pub struct Tee<R, W> {
    /// Where bytes come from.
    pub source: R,
    /// What gets a copy of them.
    pub copy: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.copy.write_all(&buffer[..n])?;
        Ok(n)
    }
}

struct PipeWriter {
    chunks: SyncSender<Bytes>,
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunks.send(Bytes::copy_from_slice(bytes)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PipeReader {
    chunks: Receiver<Bytes>,
    current: Bytes,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.recv() {
                Ok(chunk) => self.current = chunk,
                Err(_) => return Ok(0),
            }
        }
        let n = self.current.as_ref().read(buffer)?;
        self.current.advance(n);
        Ok(n)
    }
}

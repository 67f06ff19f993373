//! What a blocking thread writes, as a stream for a client.
//!
//! Start reading at [`produce`]. The thread waits while the client is behind, and ends when the client goes away.

use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use crate::api::ByteStream;
use crate::error::NodeError;

/// Size of the pieces.
const CHUNK_LEN: usize = 128 << 10;
/// How many pieces may wait for the client.
const QUEUE_LEN: usize = 8;

/// Where the thread writes.
pub(super) type Sink = BufWriter<ChunkSink>;

/// Runs `work` on a blocking thread. Its failure is the stream's last item.
pub(super) fn produce(work: impl FnOnce(Sink) -> Result<(), NodeError> + Send + 'static) -> ByteStream {
    let (sender, received) = mpsc::channel(QUEUE_LEN);
    tokio::task::spawn_blocking(move || {
        let sink = ChunkSink { chunks: sender.clone(), free: Arc::default() };
        let sink = BufWriter::with_capacity(CHUNK_LEN, sink);
        if let Err(error) = work(sink) {
            // A client that went away does not need to be told.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let chunks = futures_util::stream::unfold(received, |mut received| async move {
        received.recv().await.map(|chunk| (chunk, received))
    });
    chunks.boxed()
}

/// Sends what is written in pieces, whose memory comes back when the client has them: new memory for each would have to be
/// cleared by the kernel.
#[derive(Debug)]
pub(super) struct ChunkSink {
    chunks: mpsc::Sender<Result<Bytes, NodeError>>,
    free: Arc<FreeBuffers>,
}

/// Buffers that nobody uses at the moment.
#[derive(Debug, Default)]
struct FreeBuffers(Mutex<Vec<Vec<u8>>>);

impl FreeBuffers {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece on its way; gives its buffer back.
struct Piece {
    buffer: Vec<u8>,
    free: Arc<FreeBuffers>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.free.lock().push(std::mem::take(&mut self.buffer));
    }
}

impl Write for ChunkSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.free.lock().pop();
        let mut buffer = taken.unwrap_or_else(|| Vec::with_capacity(CHUNK_LEN));
        buffer.clear();
        buffer.extend_from_slice(bytes);
        let piece = Bytes::from_owner(Piece { buffer, free: Arc::clone(&self.free) });
        self.chunks.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

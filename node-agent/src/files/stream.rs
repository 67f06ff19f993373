//! What a blocking thread writes, as a stream for a client.
//!
//! Start reading at [`produce`]. The thread waits while the client is behind, and ends when the client goes away.

use std::io::{self, BufWriter, Write};

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
        let sink = BufWriter::with_capacity(CHUNK_LEN, ChunkSink { chunks: sender.clone() });
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

/// Sends what is written in pieces.
#[derive(Debug)]
pub(super) struct ChunkSink {
    chunks: mpsc::Sender<Result<Bytes, NodeError>>,
}

impl Write for ChunkSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Bytes::copy_from_slice(bytes);
        self.chunks.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

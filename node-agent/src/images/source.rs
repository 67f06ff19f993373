//! What a client sends, as something that a blocking thread can read.
//!
//! Start reading at [`SourceReader::start`]. Whatever has come by the time the thread asks goes to it at once: being woken for
//! each piece costs more than the bytes do.

use std::io::{self, BufRead, Read};

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use crate::api::ByteSource;

/// How many pieces go to the thread together, at most.
const BATCH_LEN: usize = 8;
/// How many batches may wait for the thread; the client waits when there are more.
const QUEUE_LEN: usize = 4;

type Batch = Vec<Result<Bytes, io::Error>>;

/// Reads a client's bytes. The task behind it ends with the client's bytes or with this reader.
pub(crate) struct SourceReader {
    batches: mpsc::Receiver<Batch>,
    batch: std::vec::IntoIter<Result<Bytes, io::Error>>,
    current: Bytes,
}

impl SourceReader {
    /// Begins to take bytes from the client.
    pub(crate) fn start(source: ByteSource) -> Self {
        let (sender, batches) = mpsc::channel(QUEUE_LEN);
        tokio::spawn(async move {
            let mut ready = source.ready_chunks(BATCH_LEN);
            while let Some(batch) = ready.next().await {
                let is_last = batch.iter().any(Result::is_err);
                if sender.send(batch).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self { batches, batch: Vec::new().into_iter(), current: Bytes::new() }
    }
}

impl BufRead for SourceReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            if let Some(piece) = self.batch.next() {
                self.current = piece?;
            } else {
                let Some(batch) = self.batches.blocking_recv() else { break };
                self.batch = batch.into_iter();
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, n: usize) {
        self.current.advance(n);
    }
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(pieces: Vec<io::Result<&'static [u8]>>) -> ByteSource {
        Box::pin(futures_util::stream::iter(pieces).map(|piece| piece.map(Bytes::from_static)))
    }

    async fn read(pieces: Vec<io::Result<&'static [u8]>>) -> io::Result<Vec<u8>> {
        let mut reader = SourceReader::start(source(pieces));
        let work = move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    #[tokio::test]
    async fn pieces_are_read_in_their_order_and_empty_ones_are_no_end() {
        let pieces = (0..100).map(|n| Ok(if n % 3 == 0 { &b""[..] } else { &b"ab"[..] })).collect();
        assert_eq!(read(pieces).await.unwrap(), b"ab".repeat(66));
        assert_eq!(read(Vec::new()).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_an_error_after_what_came() {
        let pieces = vec![Ok(&b"a"[..]), Err(io::ErrorKind::ConnectionReset.into())];
        assert_eq!(read(pieces).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

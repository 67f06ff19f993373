//! What a client sends, as something that a blocking thread can read.
//!
//! Start reading at [`SourceReader::start`].

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use crate::api::ByteSource;

/// How many pieces may wait for the thread; the client waits when there are more.
const QUEUE_LEN: usize = 32;

/// Reads a client's bytes. The task behind it ends with the client's bytes or with this reader.
pub(crate) struct SourceReader {
    pieces: mpsc::Receiver<Result<Bytes, io::Error>>,
    current: Bytes,
}

impl SourceReader {
    /// Begins to take bytes from the client.
    pub(crate) fn start(mut source: ByteSource) -> Self {
        let (sender, pieces) = mpsc::channel(QUEUE_LEN);
        tokio::spawn(async move {
            while let Some(piece) = source.next().await {
                let is_last = piece.is_err();
                if sender.send(piece).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self { pieces, current: Bytes::new() }
    }
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let n = self.current.as_ref().read(buffer)?;
        self.current.advance(n);
        Ok(n)
    }
}

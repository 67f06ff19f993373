//! Hashing a blob beside its download.
//!
//! Start reading at [`Hasher`]. Small blobs are hashed in place; large ones on a blocking thread, fed by a short queue,
//! so that hashing, reading from the network and the sink's work overlap. Every byte is hashed exactly once.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use shoal_types::Digest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Up to here hashing takes less time than handing it over to a thread.
const SMALL: u64 = 64 << 10;
/// Chunks between the download and the hashing thread: at most some MiB, as one is at most 400 KiB.
const QUEUE_LEN: usize = 8;
/// Buffer for reading what an earlier attempt has left.
const PREFIX_BUFFER: usize = 256 << 10;

/// Computes the digest of a blob that arrives in chunks.
pub(crate) enum Hasher {
    InPlace(Box<Context>),
    Thread { chunks: mpsc::Sender<Bytes>, thread: JoinHandle<io::Result<Digest>>, owner: Owner },
}

/// Tells the thread by its end that nobody waits for the digest any more.
pub(crate) struct Owner(Arc<AtomicBool>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes that are there before the first chunk.
pub(crate) struct Prefix {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) len: u64,
}

impl Hasher {
    /// Starts with nothing, or with the bytes of an earlier attempt, for a blob of `size` bytes.
    pub(crate) fn start(size: u64, prefix: Option<Prefix>) -> Self {
        if size <= SMALL && prefix.is_none() {
            return Self::InPlace(Box::new(Context::new(&SHA256)));
        }
        let (chunks, mut queue) = mpsc::channel::<Bytes>(QUEUE_LEN);
        let is_abandoned = Arc::new(AtomicBool::new(false));
        let owner = Owner(Arc::clone(&is_abandoned));
        let thread = tokio::task::spawn_blocking(move || {
            let mut context = Context::new(&SHA256);
            if let Some(prefix) = prefix {
                hash_prefix(&mut context, prefix, &is_abandoned)?;
            }
            while let Some(chunk) = queue.blocking_recv() {
                context.update(&chunk);
            }
            Ok(finish(context))
        });
        Self::Thread { chunks, thread, owner }
    }

    /// Takes the next chunk. A thread that has given up is reported by [`Hasher::finish`].
    pub(crate) async fn update(&mut self, chunk: &Bytes) {
        match self {
            Self::InPlace(context) => context.update(chunk),
            Self::Thread { chunks, .. } => {
                let _ = chunks.send(chunk.clone()).await;
            }
        }
    }

    /// The digest of everything. An error means that the prefix could not be read.
    pub(crate) async fn finish(self) -> io::Result<Digest> {
        match self {
            Self::InPlace(context) => Ok(finish(*context)),
            Self::Thread { chunks, thread, owner } => {
                drop(chunks);
                let digest = thread.await.map_err(io::Error::other)?;
                drop(owner);
                digest
            }
        }
    }
}

/// Reading some gigabytes takes a while: stops when nobody waits for the digest any more.
fn hash_prefix(context: &mut Context, mut prefix: Prefix, is_abandoned: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0u8; PREFIX_BUFFER];
    let mut reader = prefix.reader.by_ref().take(prefix.len);
    let mut len = 0;
    while len < prefix.len {
        if is_abandoned.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = match reader.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        context.update(&buffer[..n]);
        len += n as u64;
    }
    Ok(())
}

fn finish(context: Context) -> Digest {
    let mut sha256 = [0u8; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    Digest::from_sha256(sha256)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::digest_of;

    fn prefix(bytes: &[u8], len: u64) -> Option<Prefix> {
        Some(Prefix { reader: Box::new(io::Cursor::new(bytes.to_vec())), len })
    }

    #[tokio::test]
    async fn the_digest_covers_the_prefix_and_all_chunks() {
        let bytes: Vec<u8> = (0..600_000u32).map(|n| n.to_le_bytes()[0]).collect();
        for split in [0usize, 1, 300_000, 600_000] {
            let with_prefix = if split == 0 { None } else { prefix(&bytes, split as u64) };
            let mut hasher = Hasher::start(bytes.len() as u64, with_prefix);
            for chunk in bytes[split..].chunks(70_001) {
                hasher.update(&Bytes::copy_from_slice(chunk)).await;
            }
            assert_eq!(hasher.finish().await.unwrap(), digest_of(&bytes), "{split}");
        }
        let mut small = Hasher::start(3, None);
        small.update(&Bytes::from_static(b"abc")).await;
        assert_eq!(small.finish().await.unwrap(), digest_of(b"abc"));
    }

    #[tokio::test]
    async fn a_prefix_that_is_shorter_than_promised_is_an_error() {
        let mut hasher = Hasher::start(1 << 20, prefix(b"short", 100));
        hasher.update(&Bytes::from_static(b"more")).await;
        assert_eq!(hasher.finish().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}

//! Bodies that are refused before they are read: taken from the client all the same, so that it gets to see the reason.
//!
//! Start reading at [`lend`]. A connection that is closed with bytes of the client still unread is reset by the kernel, and what was
//! answered before is lost with it; Docker's client then shows `connection reset by peer`. What is taken is thrown away,
//! within limits: whoever sends more, or stands still, is cut off.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use node_agent::api::ByteSource;
use tokio::sync::oneshot;

/// How much is thrown away for one request: more than any context that people wait for.
const MOST: u64 = 1 << 30;
/// How long.
const LONGEST: Duration = Duration::from_secs(30);

/// A body that comes back when its reader drops it.
pub(crate) struct Lent {
    body: Option<ByteSource>,
    back: Option<oneshot::Sender<ByteSource>>,
}

/// What is left of a body, once its reader is gone.
pub(crate) struct Rest(oneshot::Receiver<ByteSource>);

/// Lends a body to somebody who may not want it.
pub(crate) fn lend(body: ByteSource) -> (Lent, Rest) {
    let (back, rest) = oneshot::channel();
    (Lent { body: Some(body), back: Some(back) }, Rest(rest))
}

impl Rest {
    /// Takes what is left and throws it away. To be called when the reader has refused; one that still reads is not waited for.
    pub(crate) async fn discard(mut self) {
        let Ok(mut body) = self.0.try_recv() else { return };
        let taken = async {
            let mut taken: u64 = 0;
            while let Some(Ok(piece)) = body.next().await {
                taken += piece.len() as u64;
                if taken > MOST {
                    return;
                }
            }
        };
        // Being cut off is what would have happened at once.
        let _ = tokio::time::timeout(LONGEST, taken).await;
    }
}

impl Stream for Lent {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.body {
            Some(body) => body.poll_next_unpin(context),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Nobody may care.
            let _ = back.send(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;

    use super::*;

    fn body(read: &Arc<AtomicUsize>) -> ByteSource {
        let read = Arc::clone(read);
        Box::pin(stream::iter(0..5).map(move |_| {
            read.fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::from_static(b"piece"))
        }))
    }

    #[tokio::test]
    async fn what_a_reader_leaves_is_taken_and_what_it_holds_is_not() {
        let read = Arc::new(AtomicUsize::new(0));
        let (mut lent, rest) = lend(body(&read));
        assert!(lent.next().await.is_some());
        drop(lent);
        rest.discard().await;
        assert_eq!(read.load(Ordering::Relaxed), 5);

        let read = Arc::new(AtomicUsize::new(0));
        let (lent, rest) = lend(body(&read));
        rest.discard().await;
        assert_eq!(read.load(Ordering::Relaxed), 0, "somebody else reads it");
        assert_eq!(lent.count().await, 5);
    }
}

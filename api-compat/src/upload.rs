//! What an operation leaves of a request's body: taken from the client all the same, so that it gets to see the answer.
//!
//! Start reading at [`lend`]. A connection that is closed with bytes of the client still unread is reset by the kernel, and what was
//! answered before is lost with it; Docker's client then shows `broken pipe` in place of the reason why an archive was
//! refused. What is taken is thrown away, within limits: whoever sends more, or stands still, is cut off. Go's
//! server, for comparison, takes a quarter of a mebibyte and leaves half of the connection open for half a second.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Request, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;

use crate::reply::{Body, Reply};

/// How much is thrown away for one request: more than any context that people wait for.
const MOST: u64 = 1 << 30;
/// How long.
const LONGEST: Duration = Duration::from_secs(30);
/// How long nothing may come, from the client or back from who read the body. Some clients keep a body open that they add nothing to.
const SILENCE: Duration = Duration::from_secs(1);

/// A body that comes back when its reader drops it.
struct Lent {
    body: Option<Body>,
    back: Option<oneshot::Sender<Body>>,
}

/// What is left of a body, once its reader is gone.
pub(crate) struct Rest(oneshot::Receiver<Body>);

/// Lends a request's body to the operation, if there is one. Whoever takes the connection over speaks on it as he likes, and whoever waits to
/// be told to send will not send what is refused.
pub(crate) fn lend(request: Request<Body>) -> (Request<Body>, Option<Rest>) {
    let headers = request.headers();
    if !has_body(headers) || headers.contains_key(UPGRADE) || headers.contains_key(EXPECT) {
        return (request, None);
    }
    let (back, rest) = oneshot::channel();
    let lent = request.map(|body| Body::new(Lent { body: Some(body), back: Some(back) }));
    (lent, Some(Rest(rest)))
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

impl Rest {
    /// The operation's answer, which ends when what it has left was taken. An answer that goes on while the body is read is given at
    /// once, and so is one that the end of the connection ends.
    pub(crate) async fn before_end_of(self, reply: Reply) -> Reply {
        if reply.version() == Version::HTTP_10 {
            return reply;
        }
        if reply.body().size_hint().exact().is_some() {
            self.discard().await;
            return reply;
        }
        reply.map(|body| {
            let taken = stream::once(self.discard()).filter_map(async |()| None);
            Body::from_stream(body.into_data_stream().chain(taken))
        })
    }

    /// Takes what is left and throws it away.
    async fn discard(self) {
        let taken = async {
            let Ok(Ok(mut body)) = tokio::time::timeout(SILENCE, self.0).await else { return };
            let mut taken: u64 = 0;
            while let Ok(Some(Ok(frame))) = tokio::time::timeout(SILENCE, body.frame()).await {
                taken += frame.data_ref().map_or(0, |data| data.len() as u64);
                if taken > MOST {
                    return;
                }
            }
        };
        // Being cut off is what would have happened at once.
        let _ = tokio::time::timeout(LONGEST, taken).await;
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
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

    use futures_util::Stream;

    use super::*;

    /// Pieces, of which it is counted how many were taken.
    fn pieces(taken: &Arc<AtomicUsize>) -> impl Stream<Item = Result<Bytes, axum::Error>> + use<> {
        let taken = Arc::clone(taken);
        stream::iter(0..5).map(move |_| {
            taken.fetch_add(1, Ordering::Relaxed);
            Ok(Bytes::from_static(b"piece"))
        })
    }

    fn request(body: Body, headers: &[&'static str]) -> Request<Body> {
        let with = |request: http::request::Builder, name: &&'static str| request.header(*name, "5");
        headers.iter().fold(Request::builder(), with).body(body).unwrap()
    }

    #[tokio::test]
    async fn what_an_operation_leaves_is_taken_before_the_answer() {
        let taken = Arc::new(AtomicUsize::new(0));
        let (lent, rest) = lend(request(Body::from_stream(pieces(&taken)), &["Transfer-Encoding"]));
        let mut body = lent.into_body();
        assert!(body.frame().await.is_some());
        drop(body);
        let answer = rest.unwrap().before_end_of(Reply::new(Body::from("refused"))).await;
        assert_eq!(taken.load(Ordering::Relaxed), 5);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "refused");
    }

    #[tokio::test]
    async fn an_answer_that_goes_on_while_the_body_is_read_ends_with_it() {
        let taken = Arc::new(AtomicUsize::new(0));
        let (lent, rest) = lend(request(Body::from_stream(pieces(&taken)), &["Content-Length"]));
        let lines = stream::iter([Ok::<_, axum::Error>("line")]);
        let answer = rest.unwrap().before_end_of(Reply::new(Body::from_stream(lines))).await;
        let mut lines = answer.into_body();
        assert_eq!(lines.frame().await.unwrap().unwrap().into_data().unwrap(), "line");
        assert_eq!(taken.load(Ordering::Relaxed), 0);
        drop(lent);
        assert!(lines.frame().await.is_none());
        assert_eq!(taken.load(Ordering::Relaxed), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_a_client_that_stands_still_nor_for_a_reader_that_goes_on() {
        let silent = stream::pending::<Result<Bytes, axum::Error>>();
        let (lent, rest) = lend(request(Body::from_stream(silent), &["Transfer-Encoding"]));
        drop(lent);
        let began = tokio::time::Instant::now();
        rest.unwrap().before_end_of(Reply::default()).await;
        assert_eq!(began.elapsed(), SILENCE);

        let taken = Arc::new(AtomicUsize::new(0));
        let (lent, rest) = lend(request(Body::from_stream(pieces(&taken)), &["Transfer-Encoding"]));
        let began = tokio::time::Instant::now();
        rest.unwrap().before_end_of(Reply::default()).await;
        assert_eq!(began.elapsed(), SILENCE);
        assert_eq!(lent.into_body().collect().await.unwrap().to_bytes().len(), 25);
    }

    #[test]
    fn requests_without_a_body_and_connections_that_are_taken_over_are_left_alone() {
        for headers in [&[][..], &["Transfer-Encoding", "Upgrade"], &["Content-Length", "Expect"]] {
            assert!(lend(request(Body::empty(), headers)).1.is_none(), "{headers:?}");
        }
    }
}

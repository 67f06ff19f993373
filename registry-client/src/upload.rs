//! One blob's upload: begin, send, break, find out where it stopped, go on, finish.
//!
//! Start reading at [`Upload::run`]. Small blobs go in one PUT. Larger ones are streamed by PATCH, because a registry
//! keeps what it has got of a PATCH when the line breaks; then GET on the upload tells how much that is (distribution
//! spec, "Pushing a blob in chunks").

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use http::{HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use crate::client::Repository;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::failure::Failure;
use crate::manifest::Descriptor;
use crate::net::transport::{Payload, Request, Response, StreamBody as Body};
use crate::net::url::{resolve_location, with_query};
use crate::progress::{Progress, ProgressSink};
use crate::push::{invalid_location, nothing};
use crate::retry::{Patience, Retries, jitter};
use crate::sink::{BlobReader, BlobSource};

/// Up to here a blob is sent in one request: repeating it costs less than asking how far it came.
const MONOLITHIC: u64 = 1 << 20;
/// Read from the source at once.
const BUFFER: usize = 128 << 10;
/// How often the progress of the running request is looked at.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// One blob's way into a repository.
pub(crate) struct Upload<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) blob: &'a Descriptor,
    pub(crate) source: &'a dyn BlobSource,
    pub(crate) progress: &'a dyn ProgressSink,
}

/// Where an upload stands.
struct Session {
    /// Where the next request goes; every answer names the next address.
    location: Uri,
    /// Bytes that the registry has.
    offset: u64,
}

/// Why an upload did not get on.
enum Interruption {
    /// The source does not supply the blob.
    Source(io::Error),
    Failed(Box<Failure>),
}

impl From<Failure> for Interruption {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<RegistryError> for Interruption {
    fn from(error: RegistryError) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

/// What a streamed body has to tell beside its bytes.
#[derive(Default)]
struct Tally {
    sent: Arc<AtomicU64>,
    /// The source's error, which hyper would take for one of the connection.
    broken: Mutex<Option<io::Error>>,
}

impl Upload<'_> {
    /// Uploads the blob. `begun` is an upload that the registry has begun already.
    pub(crate) async fn run(&self, begun: Option<Uri>) -> Result<(), RegistryError> {
        let config = &self.repository.directory.config;
        let mut retries = Retries::new(Patience::Transfer, &config.limits, &config.timeouts);
        let mut session = begun.map(|location| Session { location, offset: 0 });
        let mut has_begun_anew = false;
        loop {
            let before = session.as_ref().map_or(0, |session| session.offset);
            let failure = match self.attempt(&mut session).await {
                Ok(()) => return Ok(()),
                Err(Interruption::Source(source)) => {
                    self.cancel(session).await;
                    return Err(RegistryError::Source { digest: self.blob.digest, source });
                }
                Err(Interruption::Failed(failure)) => *failure,
            };
            // The registry may have forgotten the upload, or want another token than the one that a stream was sent
            // with; both are mended by beginning anew.
            let is_lost = matches!(
                failure.status,
                Some(StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::RANGE_NOT_SATISFIABLE)
            );
            if is_lost && session.is_some() && !has_begun_anew {
                has_begun_anew = true;
                session = None;
                continue;
            }
            let kept = self.find_out_offset(&mut session).await;
            let Some(delay) = retries.after(&failure, kept.saturating_sub(before), jitter()) else {
                self.cancel(session).await;
                return Err(failure.error);
            };
            tracing::info!(blob = %self.blob.digest, kept, error = %failure.error, "upload broke, going on");
            self.report(Progress::Retrying { attempt: retries.failed(), delay });
            // The pause is the point: only time makes a registry better.
            tokio::time::sleep(delay).await;
        }
    }

    async fn attempt(&self, session: &mut Option<Session>) -> Result<(), Interruption> {
        let session = match session {
            Some(session) => session,
            None => session.insert(self.begin().await?),
        };
        if self.blob.size <= MONOLITHIC && session.offset == 0 {
            let bytes = self.read_all().await.map_err(Interruption::Source)?;
            self.report_sent(0);
            self.finish(session, Payload::Bytes(bytes)).await?;
            self.report_sent(self.blob.size);
            return Ok(());
        }
        if session.offset < self.blob.size {
            self.stream(session).await?;
        }
        self.finish(session, nothing()).await
    }

    async fn begin(&self) -> Result<Session, Interruption> {
        let uri = self.repository.uploads_uri(self.endpoint).await?;
        let response = self.exchange(Request::new(Method::POST, uri)).await?;
        Ok(Session { location: next_location(&response)?, offset: 0 })
    }

    /// Sends everything that the registry has not got.
    async fn stream(&self, session: &mut Session) -> Result<(), Interruption> {
        let reader = self.source.open(session.offset).await.map_err(Interruption::Source)?;
        let remaining = self.blob.size - session.offset;
        let tally = Arc::new(Tally::default());
        let mut request = Request::new(Method::PATCH, session.location.clone());
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from(remaining));
        if session.offset > 0
            && let Ok(range) = HeaderValue::try_from(format!("{}-{}", session.offset, self.blob.size - 1))
        {
            request.headers.insert(CONTENT_RANGE, range);
        }
        request.payload = Payload::Stream {
            body: body_of(reader, remaining, Arc::clone(&tally)),
            sent: Arc::clone(&tally.sent),
        };
        let sent = self.watch(session.offset, &tally.sent, self.exchange(request)).await;
        if let Some(error) = tally.broken.lock().ok().and_then(|mut broken| broken.take()) {
            return Err(Interruption::Source(error));
        }
        session.location = next_location(&sent?)?;
        session.offset = self.blob.size;
        Ok(())
    }

    /// Reports progress while the request runs.
    async fn watch<T>(&self, offset: u64, sent: &AtomicU64, request: impl Future<Output = T>) -> T {
        let mut request = std::pin::pin!(request);
        let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
        let mut last = None;
        loop {
            tokio::select! {
                answer = &mut request => {
                    self.report_sent(offset + sent.load(Ordering::Relaxed));
                    return answer;
                }
                // A tick that is lost is followed by the next.
                _ = ticks.tick() => {
                    let now = sent.load(Ordering::Relaxed);
                    if last.replace(now) != Some(now) {
                        self.report_sent(offset + now);
                    }
                }
            }
        }
    }

    /// Names the digest; the registry compares and the blob is there.
    async fn finish(&self, session: &Session, payload: Payload) -> Result<(), Interruption> {
        let digest = self.blob.digest.to_string();
        let uri = with_query(&session.location, &[("digest", &digest)]);
        let uri = uri.ok_or_else(|| invalid_location(&session.location))?;
        let mut request = Request::new(Method::PUT, uri);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request.payload = payload;
        self.exchange(request).await?;
        Ok(())
    }

    /// Asks the registry how much it has got; an upload of which it knows nothing is given up. Returns the offset.
    async fn find_out_offset(&self, session: &mut Option<Session>) -> u64 {
        let Some(known) = session.take() else { return 0 };
        if let Ok(response) = self.exchange(Request::new(Method::GET, known.location.clone())).await {
            let offset = response.header(RANGE).map_or(0, received_len).min(self.blob.size);
            let location = next_location(&response).unwrap_or(known.location);
            *session = Some(Session { location, offset });
            return offset;
        }
        0
    }

    /// Tells the registry to forget what it has got. If that fails, the registry forgets by itself some day.
    async fn cancel(&self, session: Option<Session>) {
        if let Some(session) = session {
            let _ = self.exchange(Request::new(Method::DELETE, session.location)).await;
        }
    }

    async fn exchange(&self, request: Request) -> Result<Response, Failure> {
        let access = self.repository.push_access();
        self.endpoint.exchange(&self.repository.directory.auth, &access, request).await
    }

    async fn read_all(&self) -> io::Result<Bytes> {
        let mut reader = self.source.open(0).await?.take(self.blob.size);
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await?;
        let is_whole = bytes.len() as u64 == self.blob.size;
        if is_whole { Ok(Bytes::from(bytes)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn report_sent(&self, current: u64) {
        self.report(Progress::Pushing { current: current.min(self.blob.size), total: self.blob.size });
    }

    fn report(&self, progress: Progress) {
        self.progress.report(&self.blob.digest, progress);
    }
}

/// Exactly `remaining` bytes of the reader.
fn body_of(reader: BlobReader, remaining: u64, tally: Arc<Tally>) -> Body {
    let chunks = ReaderStream::with_capacity(reader.take(remaining), BUFFER);
    let frames = stream::unfold((chunks, remaining, tally), |(mut chunks, remaining, tally)| async move {
        let chunk = match chunks.next().await {
            Some(chunk) => chunk,
            None if remaining == 0 => return None,
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let remaining = match &chunk {
            Ok(chunk) => {
                tally.sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                remaining.saturating_sub(chunk.len() as u64)
            }
            Err(error) => {
                if let Ok(mut broken) = tally.broken.lock() {
                    *broken = Some(io::Error::new(error.kind(), error.to_string()));
                }
                0
            }
        };
        Some((chunk.map(Frame::data), (chunks, remaining, tally)))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn next_location(response: &Response) -> Result<Uri, RegistryError> {
    let location = response.header(LOCATION).and_then(|text| resolve_location(&response.uri, text));
    location.ok_or_else(|| response.invalid("no upload location"))
}

/// `0-<last>`, in which `0-0` means nothing, as an upload of one byte is never asked for.
fn received_len(range: &str) -> u64 {
    let last = range
        .trim()
        .trim_start_matches("bytes=")
        .split_once('-')
        .and_then(|(_, last)| last.parse::<u64>().ok());
    last.filter(|last| *last > 0).map_or(0, |last| last.saturating_add(1))
}

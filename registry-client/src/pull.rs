//! Downloading one blob: over any number of connections and endpoints, verified, in order.
//!
//! Start reading at [`Repository::fetch_blob`]; [`Download::run`] is the loop and [`Download::attempt`] one connection.
//! Whatever breaks, the bytes that the sink has are kept and the next attempt asks for the rest. Only a wrong digest
//! throws them away. What an attempt costs and when the next one starts is `retry.rs`; unpacking is the sink's.

use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderValue, Method, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::Repository;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::failure::Failure;
use crate::hosts::{Purpose, Role};
use crate::manifest::Descriptor;
use crate::net::connect::cut_short;
use crate::net::transport::{Request, Response};
use crate::progress::{Progress, ProgressSink};
use crate::resolve::{in_order_of_health, note_mirror_failure};
use crate::retry::{Patience, Retries, jitter};
use crate::sink::{BlobSink, Leftover};
use crate::verify::{Hasher, Prefix};

impl Repository {
    /// Downloads a blob into `sink`, resuming what it has, and commits or aborts it. See [`BlobSink`].
    ///
    /// Returns after the sink's `commit`. Dropping the future stops the download and leaves a valid prefix.
    pub async fn fetch_blob(
        &self,
        blob: &Descriptor,
        sink: &mut dyn BlobSink,
        progress: &dyn ProgressSink,
    ) -> Result<(), RegistryError> {
        let outcome = self.fetch_blob_into(blob, sink, progress).await;
        match &outcome {
            Ok(()) => progress.report(&blob.digest, Progress::Downloaded),
            Err(RegistryError::BlobDigestMismatch { .. } | RegistryError::BlobLength { .. }) => {
                sink.abort(Leftover::Discard).await;
            }
            Err(_) => sink.abort(Leftover::Keep).await,
        }
        outcome
    }

    async fn fetch_blob_into(
        &self,
        blob: &Descriptor,
        sink: &mut dyn BlobSink,
        progress: &dyn ProgressSink,
    ) -> Result<(), RegistryError> {
        let wait = || progress.report(&blob.digest, Progress::Waiting);
        let _of_this_pull = take_turn(&self.downloads, wait).await;
        let _of_all_pulls = take_turn(&self.directory.downloads, wait).await;
        let endpoints = self.endpoints(Purpose::Pull).await?;
        let mut download = Download::start(self, blob, sink, progress).await?;
        download.run(&in_order_of_health(endpoints)).await
    }
}

/// Waits for a place among the transfers, and says so if there is none at once.
pub(crate) async fn take_turn(
    places: &Arc<Semaphore>,
    on_wait: impl FnOnce(),
) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(places).try_acquire_owned() {
        return Some(permit);
    }
    on_wait();
    // The semaphores are never closed.
    Arc::clone(places).acquire_owned().await.ok()
}

/// One blob on its way.
struct Download<'a> {
    repository: &'a Repository,
    blob: &'a Descriptor,
    sink: &'a mut dyn BlobSink,
    progress: &'a dyn ProgressSink,
    /// Bytes that the sink has.
    position: u64,
    hasher: Hasher,
    ranges: Ranges,
}

/// Whether a server is asked for the rest of a blob, or for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ranges {
    Ask,
    /// It has answered nonsense to a range: fetch everything and skip what is there.
    Avoid,
}

/// Why one attempt did not bring the whole blob.
enum Interruption {
    /// The sink does not take it.
    Sink(std::io::Error),
    /// The endpoint has other content under this digest than the manifest says.
    Unfit(RegistryError),
    /// Anything else; perhaps worth another attempt.
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

impl<'a> Download<'a> {
    async fn start(
        repository: &'a Repository,
        blob: &'a Descriptor,
        sink: &'a mut dyn BlobSink,
        progress: &'a dyn ProgressSink,
    ) -> Result<Self, RegistryError> {
        let hasher = Hasher::start(blob.size, None);
        let mut download =
            Self { repository, blob, sink, progress, position: 0, hasher, ranges: Ranges::Ask };
        let offset = download.sink.offset().await.map_err(|error| download.sink_error(error))?;
        if offset > blob.size {
            download.restart().await?;
        } else if offset > 0 {
            let reader = download.sink.open_prefix().map_err(|error| download.sink_error(error))?;
            download.hasher = Hasher::start(blob.size, Some(Prefix { reader, len: offset }));
            download.position = offset;
        }
        Ok(download)
    }

    /// Tries the endpoints, and the last one of them repeatedly, until the blob is whole and right.
    async fn run(&mut self, endpoints: &[&Endpoint]) -> Result<(), RegistryError> {
        let config = &self.repository.directory.config;
        let mut retries = Retries::new(Patience::Transfer, &config.limits, &config.timeouts);
        let mut remaining = endpoints.iter().peekable();
        // Bytes of an earlier attempt may have rotted on disk, so the first wrong digest is nobody's fault.
        let mut blameless = u32::from(self.position > 0) + 1;
        while let Some(endpoint) = remaining.peek().copied() {
            let is_last = endpoint.role == Role::Registry;
            let before = self.position;
            let failure = match self.attempt(endpoint).await {
                Ok(()) if self.finish().await? => return Ok(()),
                Ok(()) => {
                    let error = RegistryError::BlobDigestMismatch { digest: self.blob.digest };
                    self.give_another_chance(endpoint, error, &mut blameless).await?;
                    if !is_last {
                        remaining.next();
                    }
                    continue;
                }
                Err(Interruption::Sink(error)) => return Err(self.sink_error(error)),
                Err(Interruption::Unfit(error)) => {
                    self.give_another_chance(endpoint, error, &mut blameless).await?;
                    if !is_last {
                        remaining.next();
                    }
                    continue;
                }
                Err(Interruption::Failed(failure)) => *failure,
            };
            if !is_last {
                note_mirror_failure(endpoint, &failure, config.timeouts.mirror_rest);
                remaining.next();
                continue;
            }
            let gained = self.position - before;
            let Some(delay) = retries.after(&failure, gained, jitter()) else {
                return Err(self.translate(failure));
            };
            tracing::info!(blob = %self.blob.digest, kept = self.position, error = %failure.error, "download broke, resuming");
            self.report(Progress::Retrying { attempt: retries.failed(), delay });
            tokio::time::sleep(delay).await;
        }
        Err(RegistryError::InvalidRequest("no registry endpoint".to_owned()))
    }

    /// Starts over after wrong content, from the next mirror or once more from the registry.
    async fn give_another_chance(
        &mut self,
        endpoint: &Endpoint,
        error: RegistryError,
        blameless: &mut u32,
    ) -> Result<(), RegistryError> {
        tracing::warn!(blob = %self.blob.digest, endpoint = %endpoint.authority, error = %error, "wrong content, starting over");
        if endpoint.role == Role::Registry {
            if *blameless == 0 {
                return Err(error);
            }
            *blameless -= 1;
        }
        self.restart().await
    }

    /// Asks one endpoint for the rest of the blob and hands it to the sink.
    async fn attempt(&mut self, endpoint: &Endpoint) -> Result<(), Interruption> {
        if self.position == self.blob.size {
            return Ok(());
        }
        let (mut response, mut skip) = self.open(endpoint).await?;
        while let Some(mut chunk) = response.chunk().await? {
            let skipped = usize::try_from(skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
            let _ = chunk.split_to(skipped);
            skip -= skipped as u64;
            if chunk.is_empty() {
                continue;
            }
            if self.position + chunk.len() as u64 > self.blob.size {
                return Err(Interruption::Unfit(self.wrong_length()));
            }
            self.hasher.update(&chunk).await;
            self.position += chunk.len() as u64;
            self.sink.write(chunk).await.map_err(Interruption::Sink)?;
            self.report(Progress::Downloading { current: self.position, total: self.blob.size });
        }
        if self.position < self.blob.size {
            Err(cut_short(&response.method, &response.uri).into())
        } else {
            Ok(())
        }
    }

    /// Opens the blob at the present position; the number is how many bytes of the body are here already.
    async fn open(&mut self, endpoint: &Endpoint) -> Result<(Response, u64), Interruption> {
        loop {
            let path = format!("/{}/blobs/{}", self.repository.image.path(), self.blob.digest);
            let mut request = Request::new(Method::GET, endpoint.uri(&path).await?);
            // The digest is of the blob itself, not of some encoding of it.
            request.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            let asks_for_range = self.position > 0 && self.ranges == Ranges::Ask;
            if asks_for_range && let Ok(range) = HeaderValue::try_from(format!("bytes={}-", self.position)) {
                request.headers.insert(RANGE, range);
            }
            let access = self.repository.pull_access();
            let answer = endpoint.exchange(&self.repository.directory.auth, &access, request).await;
            let response = match answer {
                Ok(response) => response,
                Err(failure)
                    if asks_for_range && failure.status == Some(StatusCode::RANGE_NOT_SATISFIABLE) =>
                {
                    self.ranges = Ranges::Avoid;
                    continue;
                }
                Err(failure) => return Err(failure.into()),
            };
            if response.status() != StatusCode::PARTIAL_CONTENT {
                self.check_length(&response, self.blob.size)?;
                return Ok((response, self.position));
            }
            if asks_for_range && self.is_wanted_range(&response) {
                self.check_length(&response, self.blob.size - self.position)?;
                return Ok((response, 0));
            }
            if self.ranges == Ranges::Avoid || !asks_for_range {
                return Err(response.invalid("unasked-for partial content").into());
            }
            self.ranges = Ranges::Avoid;
        }
    }

    /// `bytes <first>-<last>/<size or *>` (RFC 9110, section 14.4).
    fn is_wanted_range(&self, response: &Response) -> bool {
        let parsed = response.header(CONTENT_RANGE).and_then(|text| {
            let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
            let first = range.split_once('-')?.0.trim().parse::<u64>().ok()?;
            Some((first, size.trim().parse::<u64>().ok()))
        });
        parsed.is_some_and(|(first, size)| {
            first == self.position && size.is_none_or(|size| size == self.blob.size)
        })
    }

    fn check_length(&self, response: &Response, expected: u64) -> Result<(), Interruption> {
        let announced = response.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        match announced {
            Some(announced) if announced != expected => Err(Interruption::Unfit(self.wrong_length())),
            _ => Ok(()),
        }
    }

    /// Whether all bytes are the right ones; if so the sink has taken note of it.
    async fn finish(&mut self) -> Result<bool, RegistryError> {
        self.report(Progress::Verifying);
        let hasher = std::mem::replace(&mut self.hasher, Hasher::start(0, None));
        let is_right = match hasher.finish().await {
            Ok(computed) => computed == self.blob.digest,
            Err(error) => {
                tracing::warn!(blob = %self.blob.digest, error = %error, "kept bytes cannot be read");
                false
            }
        };
        if is_right {
            self.sink.commit().await.map_err(|error| self.sink_error(error))?;
        }
        Ok(is_right)
    }

    async fn restart(&mut self) -> Result<(), RegistryError> {
        self.sink.restart().await.map_err(|error| self.sink_error(error))?;
        self.position = 0;
        self.hasher = Hasher::start(self.blob.size, None);
        Ok(())
    }

    fn report(&self, progress: Progress) {
        self.progress.report(&self.blob.digest, progress);
    }

    fn sink_error(&self, source: std::io::Error) -> RegistryError {
        RegistryError::Sink { digest: self.blob.digest, source }
    }

    fn wrong_length(&self) -> RegistryError {
        RegistryError::BlobLength { digest: self.blob.digest, size: self.blob.size }
    }

    fn translate(&self, failure: Failure) -> RegistryError {
        if failure.status == Some(StatusCode::NOT_FOUND) {
            return RegistryError::BlobNotFound { digest: self.blob.digest };
        }
        match failure.error {
            RegistryError::Refused(refusal) if refusal.code == "DENIED" => {
                RegistryError::PullAccessDenied { name: self.repository.image.familiar_name(), refusal }
            }
            error => error,
        }
    }
}

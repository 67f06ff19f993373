//! Downloading one blob: over any number of connections and endpoints, verified, in order.
//!
//! Start reading at [`Repository::fetch_blob`]; [`Download::run`] is the loop and [`Download::attempt`] one try. Whatever
//! breaks, the bytes that the sink has are kept and the next attempt asks for the rest. Only a wrong digest throws them
//! away. Asking for a blob or a part of it is `blob.rs`; what an attempt costs and when the next one starts is
//! `retry.rs`; unpacking is the sink's.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::blob::{BlobRequest, Interruption, Opened, Ranges, parts_of};
use crate::client::Repository;
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::failure::Failure;
use crate::hosts::{Purpose, Role};
use crate::manifest::Descriptor;
use crate::net::connect::cut_short;
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

/// What came of fetching in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    Everything,
    /// Nothing more than before: the endpoint does not serve parts.
    NoRanges,
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
            // The pause is the point: only time makes a registry better.
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
        tracing::info!(blob = %self.blob.digest, endpoint = %endpoint.authority, error = %error, "wrong content, starting over");
        if endpoint.role == Role::Registry {
            if *blameless == 0 {
                return Err(error);
            }
            *blameless -= 1;
        }
        self.restart().await
    }

    /// Gets the rest of the blob from one endpoint and hands it to the sink.
    async fn attempt(&mut self, endpoint: &Endpoint) -> Result<(), Interruption> {
        let limits = &self.repository.directory.config.limits;
        let rest = self.blob.size - self.position;
        if rest == 0 {
            return Ok(());
        }
        let in_parts =
            rest > limits.split_above && limits.connections_per_blob > 1 && self.ranges == Ranges::Ask;
        if in_parts
            && self.receive_parts(endpoint, limits.connections_per_blob).await? == Received::Everything
        {
            return Ok(());
        }
        self.receive(endpoint).await
    }

    /// Over one connection.
    async fn receive(&mut self, endpoint: &Endpoint) -> Result<(), Interruption> {
        let request = BlobRequest { repository: self.repository, blob: self.blob };
        let Opened { mut response, mut skip } =
            request.open(endpoint, self.position, &mut self.ranges).await?;
        while let Some(mut chunk) = response.chunk().await? {
            let skipped = usize::try_from(skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
            let _ = chunk.split_to(skipped);
            skip -= skipped as u64;
            if chunk.is_empty() {
                continue;
            }
            if self.position + chunk.len() as u64 > self.blob.size {
                return Err(Interruption::Unfit(request.wrong_length()));
            }
            self.deliver(chunk).await?;
        }
        if self.position < self.blob.size {
            Err(cut_short(&response.method, &response.uri).into())
        } else {
            Ok(())
        }
    }

    /// Over several connections: the next parts are fetched into memory while the sink gets one after the other.
    async fn receive_parts(
        &mut self,
        endpoint: &Endpoint,
        connections: usize,
    ) -> Result<Received, Interruption> {
        let request = BlobRequest { repository: self.repository, blob: self.blob };
        let parts = parts_of(self.position, self.blob.size).map(|part| request.fetch_part(endpoint, part));
        let mut parts = std::pin::pin!(stream::iter(parts).buffered(connections));
        while let Some(part) = parts.next().await {
            let Some(chunks) = part? else {
                self.ranges = Ranges::Avoid;
                return Ok(Received::NoRanges);
            };
            for chunk in chunks {
                self.deliver(chunk).await?;
            }
        }
        Ok(Received::Everything)
    }

    async fn deliver(&mut self, chunk: Bytes) -> Result<(), Interruption> {
        self.hasher.update(&chunk).await;
        self.position += chunk.len() as u64;
        self.sink.write(chunk).await.map_err(Interruption::Sink)?;
        self.report(Progress::Downloading { current: self.position, total: self.blob.size });
        Ok(())
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

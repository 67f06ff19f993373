//! Uploading blobs and manifests.
//!
//! Start reading at [`Repository::push_blob`]. A blob that the registry has is not sent; one that it has elsewhere is
//! linked; the rest is streamed, and an upload that breaks goes on where the registry says it stopped. One upload is
//! `upload.rs`. The order (blobs before the manifest that names them) is the caller's.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode, Uri};

use shoal_types::Digest;

use crate::auth::Access;
use crate::client::{ManifestTarget, PushedBlob, Repository};
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::failure::Failure;
use crate::hosts::Purpose;
use crate::manifest::{Descriptor, Manifest};
use crate::net::transport::{Payload, Request};
use crate::net::url::{resolve_location, with_query};
use crate::progress::{Progress, ProgressSink};
use crate::pull::take_turn;
use crate::resolve::CONTENT_DIGEST;
use crate::retry::{Patience, Retries, jitter};
use crate::sink::BlobSource;
use crate::upload::Upload;

/// Repositories that are tried as origins of a link (moby, distribution/push_v2.go has four).
const MAX_MOUNT_ATTEMPTS: usize = 4;

impl Repository {
    /// Makes sure that the repository has a blob: asks for it, tries to link it from the repositories `mount_from` of
    /// the same registry (paths such as `library/busybox`), else uploads it from `source`.
    pub async fn push_blob(
        &self,
        blob: &Descriptor,
        source: &dyn BlobSource,
        mount_from: &[String],
        progress: &dyn ProgressSink,
    ) -> Result<PushedBlob, RegistryError> {
        self.try_push_blob(blob, source, mount_from, progress).await.map_err(without_request)
    }

    async fn try_push_blob(
        &self,
        blob: &Descriptor,
        source: &dyn BlobSource,
        mount_from: &[String],
        progress: &dyn ProgressSink,
    ) -> Result<PushedBlob, RegistryError> {
        let _turn = take_turn(&self.uploads, || progress.report(&blob.digest, Progress::Waiting)).await;
        let endpoint = self.push_endpoint().await?;
        if self.has_blob(endpoint, blob).await? {
            progress.report(&blob.digest, Progress::AlreadyExists);
            return Ok(PushedBlob::Existed);
        }
        let mut session = None;
        for from in mount_from.iter().filter(|from| *from != self.image.path()).take(MAX_MOUNT_ATTEMPTS) {
            match self.mount(endpoint, blob, from).await {
                Ok(Mount::Linked) => {
                    progress.report(&blob.digest, Progress::Mounted { from: from.clone() });
                    return Ok(PushedBlob::Mounted { from: from.clone() });
                }
                // The registry has begun an upload instead; the last of them is used.
                Ok(Mount::Upload(location)) => session = Some(location),
                Err(failure) => {
                    tracing::debug!(blob = %blob.digest, from, error = %failure.error, "cannot link a blob");
                }
            }
        }
        Upload { repository: self, endpoint, blob, source, progress }.run(session).await?;
        progress.report(&blob.digest, Progress::Pushed);
        Ok(PushedBlob::Uploaded)
    }

    /// Stores a manifest, byte for byte, under a tag or under its digest. Its blobs (or manifests) must be there.
    ///
    /// Returns its descriptor; `digest` and `size` are what `docker push` prints.
    pub async fn push_manifest(
        &self,
        manifest: &Manifest,
        target: &ManifestTarget,
    ) -> Result<Descriptor, RegistryError> {
        let endpoint = self.push_endpoint().await?;
        let uri = endpoint.uri(&format!("/{}/manifests/{target}", self.image.path())).await?;
        let media_type = HeaderValue::try_from(manifest.descriptor.media_type.as_str())
            .map_err(|_| RegistryError::InvalidRequest("invalid media type".to_owned()))?;
        let make = || {
            let mut request = Request::new(Method::PUT, uri.clone());
            request.headers.insert(CONTENT_TYPE, media_type.clone());
            request.payload = Payload::Bytes(manifest.bytes.clone());
            request
        };
        let response =
            self.patiently(endpoint, &self.push_access(), make).await.map_err(|failure| failure.error)?;
        let stored = response.header(CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
        if stored.is_some_and(|stored| stored != manifest.digest()) {
            return Err(response
                .invalid(format!("the registry has stored another manifest than {}", manifest.digest())));
        }
        Ok(manifest.descriptor.clone())
    }

    /// The registry itself; mirrors are never written to.
    async fn push_endpoint(&self) -> Result<&Endpoint, RegistryError> {
        let endpoints = self.endpoints(Purpose::Push).await?;
        let first = endpoints.first().map(AsRef::as_ref);
        first.ok_or_else(|| RegistryError::InvalidRequest("no registry endpoint".to_owned()))
    }

    async fn has_blob(&self, endpoint: &Endpoint, blob: &Descriptor) -> Result<bool, RegistryError> {
        let uri = endpoint.uri(&format!("/{}/blobs/{}", self.image.path(), blob.digest)).await?;
        let asked =
            self.patiently(endpoint, &self.push_access(), || Request::new(Method::HEAD, uri.clone())).await;
        match asked {
            Ok(_) => Ok(true),
            Err(failure) if failure.status == Some(StatusCode::NOT_FOUND) => Ok(false),
            Err(failure) => Err(failure.error),
        }
    }

    async fn mount(&self, endpoint: &Endpoint, blob: &Descriptor, from: &str) -> Result<Mount, Failure> {
        let start = self.uploads_uri(endpoint).await?;
        let digest = blob.digest.to_string();
        let uri = with_query(&start, &[("mount", &digest), ("from", from)])
            .ok_or_else(|| invalid_location(&start))?;
        let mut access = self.push_access();
        access.scopes.push(format!("repository:{from}:pull"));
        let response =
            endpoint.exchange(&self.directory.auth, &access, Request::new(Method::POST, uri)).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(Mount::Linked);
        }
        let location =
            response.header(http::header::LOCATION).and_then(|text| resolve_location(&response.uri, text));
        Ok(Mount::Upload(location.ok_or_else(|| response.invalid("no upload location"))?))
    }

    /// Where uploads begin.
    pub(crate) async fn uploads_uri(&self, endpoint: &Endpoint) -> Result<Uri, RegistryError> {
        endpoint.uri(&format!("/{}/blobs/uploads/", self.image.path())).await
    }

    /// Sends a small request, more than once if need be.
    pub(crate) async fn patiently(
        &self,
        endpoint: &Endpoint,
        access: &Access,
        make: impl Fn() -> Request,
    ) -> Result<crate::net::transport::Response, Failure> {
        let config = &self.directory.config;
        let mut retries = Retries::new(Patience::Question, &config.limits, &config.timeouts);
        loop {
            let failure = match endpoint.exchange(&self.directory.auth, access, make()).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let Some(pause) = retries.after(&failure, 0, jitter()) else { return Err(failure) };
            // The pause is the point: only time makes a registry better.
            tokio::time::sleep(pause).await;
        }
    }
}

/// In pushes, dockerd tells refusals without the request that was refused.
fn without_request(error: RegistryError) -> RegistryError {
    match error {
        RegistryError::NoBasicCredentials { .. } => {
            RegistryError::NoBasicCredentials { request: String::new() }
        }
        RegistryError::Unauthorized { refusal, .. } => RegistryError::Refused(refusal),
        other => other,
    }
}

/// What came of asking for a link.
enum Mount {
    Linked,
    Upload(Uri),
}

/// The error of a registry that sends uploads nowhere.
pub(crate) fn invalid_location(uri: &Uri) -> RegistryError {
    crate::net::transport::invalid(&Method::POST, uri, "invalid upload location".to_owned())
}

/// An empty body.
pub(crate) fn nothing() -> Payload {
    Payload::Bytes(Bytes::new())
}

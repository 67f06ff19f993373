//! From a tag or digest to manifests.
//!
//! Start reading at [`Repository::resolve`]. Manifests are small and everybody waits for them, so endpoints are asked
//! one after the other with little patience. What a manifest's bytes mean is `manifest/`.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use shoal_types::{Digest, ImageRef, Platform};

use crate::client::{DistributionInfo, ManifestTarget, Repository, ResolvedImage};
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::failure::{Failure, refusal};
use crate::hosts::{Purpose, Role};
use crate::manifest::{
    Descriptor, MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, Manifest, ManifestContent, ManifestError, PlatformSpec,
};
use crate::net::transport::{Request, Response};
use crate::retry::{Patience, Retries, jitter};
use crate::sink::MemorySink;

/// The header in which registries announce a manifest's digest.
pub(crate) const CONTENT_DIGEST: &str = "docker-content-digest";
/// All kinds that are read; schema 1 is not among them, so that registries convert to it no longer.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1";
/// Indexes within indexes; real ones have at most one inside another.
const MAX_NESTING: usize = 3;

impl Repository {
    /// Fetches a manifest or an index, verified: against the digest if that is the target, else against the digest
    /// that the registry announces.
    pub async fn fetch_manifest(&self, target: &ManifestTarget) -> Result<Manifest, RegistryError> {
        self.fetch_manifest_raw(target).await.map_err(|failure| self.translate(failure, target))
    }

    async fn fetch_manifest_raw(&self, target: &ManifestTarget) -> Result<Manifest, Failure> {
        self.on_each_endpoint(Purpose::Pull, |endpoint| Box::pin(self.fetch_manifest_from(endpoint, target)))
            .await
    }

    /// Asks only for the descriptor of a tag, which costs no pull at registries that count them. Unverified.
    pub async fn head_manifest(&self, target: &ManifestTarget) -> Result<Descriptor, RegistryError> {
        let found = self
            .on_each_endpoint(Purpose::Pull, |endpoint| Box::pin(self.head_manifest_at(endpoint, target)))
            .await;
        match found {
            Ok(Some(descriptor)) => Ok(descriptor),
            // Registries that do not announce digests, or answer HEAD with an error that has no body to tell why.
            Ok(None) | Err(Failure { status: Some(_), .. }) => {
                Ok(self.fetch_manifest(target).await?.descriptor)
            }
            Err(failure) => Err(self.translate(failure, target)),
        }
    }

    /// Follows a reference to the image manifest that runs best on `machine`.
    ///
    /// An image without an index is returned whatever it is built for; that is in its config.
    pub async fn resolve(
        &self,
        target: &ManifestTarget,
        machine: &Platform,
    ) -> Result<ResolvedImage, RegistryError> {
        let mut indexes = Vec::new();
        let mut platform = None;
        let mut manifest = self.fetch_manifest(target).await?;
        while let ManifestContent::Index(index) = &manifest.content {
            if indexes.len() == MAX_NESTING {
                return Err(RegistryError::NestedTooDeep(MAX_NESTING));
            }
            let chosen = index.choose(machine)?;
            platform.clone_from(&chosen.platform);
            let next = self.fetch_manifest(&ManifestTarget::Digest(chosen.digest)).await?;
            indexes.push(std::mem::replace(&mut manifest, next));
        }
        Ok(ResolvedImage { indexes, manifest, platform })
    }

    /// Fetches an image config into memory, verified.
    pub async fn fetch_config(&self, config: &Descriptor) -> Result<Bytes, RegistryError> {
        let limit = MAX_CONFIG_SIZE as u64;
        if config.size > limit {
            return Err(RegistryError::ConfigTooLarge { digest: config.digest, size: config.size, limit });
        }
        let mut sink = MemorySink::default();
        self.fetch_blob(config, &mut sink, &()).await?;
        sink.into_verified().ok_or(RegistryError::BlobDigestMismatch { digest: config.digest })
    }

    /// Tells what GET /distribution/{name}/json tells, without pulling. Refusals are in the registry's own words, as
    /// dockerd's are here.
    pub async fn inspect(&self, target: &ManifestTarget) -> Result<DistributionInfo, RegistryError> {
        let manifest = self.fetch_manifest_raw(target).await.map_err(|failure| failure.error)?;
        let platforms = match &manifest.content {
            ManifestContent::Index(index) => {
                index.manifests.iter().filter_map(|entry| entry.platform.clone()).collect()
            }
            ManifestContent::Image(image) => {
                self.platform_in_config(&image.config).await.into_iter().collect()
            }
        };
        Ok(DistributionInfo { descriptor: manifest.descriptor, platforms })
    }

    /// An artifact's config may be anything; like dockerd, no platform is then told of.
    async fn platform_in_config(&self, config: &Descriptor) -> Option<PlatformSpec> {
        let bytes = self.fetch_config(config).await.ok()?;
        let spec: PlatformSpec = serde_json::from_slice(&bytes).ok()?;
        (!spec.os.is_empty() || !spec.architecture.is_empty()).then_some(spec)
    }

    async fn fetch_manifest_from(
        &self,
        endpoint: &Endpoint,
        target: &ManifestTarget,
    ) -> Result<Manifest, Failure> {
        let mut response = self.request_manifest(endpoint, Method::GET, target).await?;
        let announced_len = response.header(CONTENT_LENGTH).and_then(|text| text.parse::<usize>().ok());
        if let Some(len) = announced_len.filter(|len| *len > MAX_MANIFEST_SIZE) {
            return Err(RegistryError::from(ManifestError::TooLarge(len)).into());
        }
        let declared = response.header(CONTENT_TYPE).map(str::to_owned);
        let announced = announced_digest(&response);
        let bytes = response.read_at_most(MAX_MANIFEST_SIZE).await?;
        let bytes = bytes.ok_or(RegistryError::Manifest(ManifestError::TooLarge(MAX_MANIFEST_SIZE + 1)))?;
        let expected = match target {
            ManifestTarget::Digest(digest) => Some(*digest),
            ManifestTarget::Tag(_) => announced,
        };
        let computed = crate::manifest::digest_of(&bytes);
        match expected {
            Some(expected) if expected != computed => {
                Err(RegistryError::ManifestDigestMismatch { expected }.into())
            }
            _ => Ok(Manifest::parse(declared.as_deref(), bytes).map_err(RegistryError::from)?),
        }
    }

    async fn head_manifest_at(
        &self,
        endpoint: &Endpoint,
        target: &ManifestTarget,
    ) -> Result<Option<Descriptor>, Failure> {
        let response = self.request_manifest(endpoint, Method::HEAD, target).await?;
        let size = response.header(CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let media_type = response.header(CONTENT_TYPE).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        Ok(announced_digest(&response)
            .zip(size)
            .map(|(digest, size)| Descriptor::new(media_type, digest, size)))
    }

    async fn request_manifest(
        &self,
        endpoint: &Endpoint,
        method: Method,
        target: &ManifestTarget,
    ) -> Result<Response, Failure> {
        let uri = endpoint.uri(&format!("/{}/manifests/{target}", self.image.path())).await?;
        let mut request = Request::new(method, uri);
        request.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        endpoint.exchange(&self.directory.auth, &self.pull_access(), request).await
    }

    /// Asks the endpoints in turn until one gives an answer. The last one, which is the registry itself, has the last
    /// word on why there is none.
    pub(crate) async fn on_each_endpoint<'a, T>(
        &'a self,
        purpose: Purpose,
        ask: impl Fn(&'a Endpoint) -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let endpoints = self.endpoints(purpose).await?;
        let timeouts = &self.directory.config.timeouts;
        let mut last = None;
        for endpoint in in_order_of_health(endpoints) {
            let mut retries = Retries::new(Patience::Question, &self.directory.config.limits, timeouts);
            let failure = loop {
                let failure = match ask(endpoint).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                };
                // A mirror that stumbles is not waited for: there is another place to ask.
                if endpoint.role == Role::Mirror {
                    break failure;
                }
                let Some(pause) = retries.after(&failure, 0, jitter()) else { break failure };
                tracing::debug!(registry = %endpoint.authority, error = %failure.error, "asking again after a pause");
                // The pause is the point: only time makes a registry better.
                tokio::time::sleep(pause).await;
            };
            if endpoint.role == Role::Mirror {
                note_mirror_failure(endpoint, &failure, timeouts.mirror_rest);
            }
            last = Some(failure);
        }
        Err(last.unwrap_or_else(|| RegistryError::InvalidRequest("no registry endpoint".to_owned()).into()))
    }

    /// The error in dockerd's words, which name the image as the user does.
    fn translate(&self, failure: Failure, target: &ManifestTarget) -> RegistryError {
        let name = self.image.familiar_name();
        let reference = || familiar_reference(&self.image, target);
        match failure.error {
            RegistryError::Refused(refusal) => match refusal.code.as_str() {
                "DENIED" => RegistryError::PullAccessDenied { name, refusal },
                "MANIFEST_UNKNOWN" | "NOT_FOUND" => {
                    RegistryError::ManifestNotFound { reference: reference(), refusal }
                }
                "NAME_UNKNOWN" => RegistryError::RepositoryNotFound { name, refusal },
                _ => RegistryError::Refused(refusal),
            },
            RegistryError::UnexpectedStatus(StatusCode::NOT_FOUND) => RegistryError::ManifestNotFound {
                reference: reference(),
                refusal: refusal("MANIFEST_UNKNOWN", ""),
            },
            RegistryError::Manifest(ManifestError::Schema1) => {
                RegistryError::Schema1 { reference: complete_reference(&self.image, target).to_string() }
            }
            error => error,
        }
    }
}

/// Endpoints that failed a moment ago go to the end, but the registry itself stays last.
pub(crate) fn in_order_of_health<E: AsRef<Endpoint>>(endpoints: &[E]) -> Vec<&Endpoint> {
    let mut ordered: Vec<&Endpoint> = endpoints.iter().map(AsRef::as_ref).collect();
    ordered.retain(|endpoint| endpoint.role == Role::Registry || !endpoint.is_resting());
    ordered
}

/// Remembers that a mirror is in trouble. That it has not got something is no trouble.
pub(crate) fn note_mirror_failure(endpoint: &Endpoint, failure: &Failure, rest: std::time::Duration) {
    let is_in_trouble = failure.status.is_none_or(|status| status.is_server_error());
    tracing::info!(mirror = %endpoint.authority, error = %failure.error, "mirror has no answer, asking the next");
    if is_in_trouble {
        endpoint.rest(rest);
    }
}

fn announced_digest(response: &Response) -> Option<Digest> {
    response.header(CONTENT_DIGEST)?.parse().ok()
}

fn complete_reference(image: &ImageRef, target: &ManifestTarget) -> ImageRef {
    match target {
        ManifestTarget::Digest(digest) => image.with_digest(*digest),
        ManifestTarget::Tag(tag) => image.with_tag(tag).unwrap_or_else(|_| image.clone()),
    }
}

fn familiar_reference(image: &ImageRef, target: &ManifestTarget) -> String {
    complete_reference(image, target).familiar()
}

//! Lists that a registry gives in pages: tags and referrers.
//!
//! Start reading at [`Repository::tags`]. Pages follow each other by `Link` headers (distribution spec, "Listing tags").
//! The number of pages and of entries is bounded, and a page never leads to another party's address.

use http::header::{ACCEPT, LINK};
use http::{HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;
use shoal_types::Digest;

use crate::client::{ManifestTarget, Repository};
use crate::endpoint::Endpoint;
use crate::error::RegistryError;
use crate::failure::Failure;
use crate::hosts::Purpose;
use crate::manifest::{Descriptor, MAX_MANIFEST_SIZE, Manifest, ManifestError, media_type};
use crate::net::transport::{Request, Response};
use crate::net::url::{is_same_origin, resolve_location};

/// Tags of one repository; the largest on Docker Hub have some ten thousand.
const MAX_ENTRIES: usize = 200_000;
const MAX_PAGES: usize = 2000;
const MAX_PAGE_LEN: usize = 8 << 20;
/// Entries per page that are asked for; registries may give fewer.
const PAGE_SIZE: &str = "1000";

#[derive(Deserialize)]
struct TagPage {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    /// Lists all tags, following the registry's pages.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        let listed = self.on_each_endpoint(Purpose::Pull, |endpoint| Box::pin(self.tags_at(endpoint))).await;
        listed.map_err(|failure| match failure.error {
            RegistryError::Refused(refusal) if refusal.code == "NAME_UNKNOWN" => {
                RegistryError::RepositoryNotFound { name: self.image.familiar_name(), refusal }
            }
            RegistryError::Refused(refusal) if refusal.code == "DENIED" => {
                RegistryError::PullAccessDenied { name: self.image.familiar_name(), refusal }
            }
            error => error,
        })
    }

    async fn tags_at(&self, endpoint: &Endpoint) -> Result<Vec<String>, Failure> {
        let mut tags = Vec::new();
        let mut next = Some(endpoint.uri(&format!("/{}/tags/list?n={PAGE_SIZE}", self.image.path())).await?);
        for _ in 0..MAX_PAGES {
            let Some(uri) = next else { return Ok(tags) };
            let (page, following) = self.page::<TagPage>(endpoint, uri).await?;
            tags.extend(page.tags.unwrap_or_default());
            if tags.len() > MAX_ENTRIES {
                break;
            }
            next = following;
        }
        Err(RegistryError::InvalidRequest(format!("repository {} has too many tags to list", self.image))
            .into())
    }

    /// Lists the manifests that are about `subject`, such as signatures; all of them, or of one artifact type.
    pub async fn referrers(
        &self,
        subject: Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let listed = self
            .on_each_endpoint(Purpose::Pull, |endpoint| Box::pin(self.referrers_at(endpoint, subject)))
            .await;
        let mut referrers = listed.map_err(|failure| failure.error)?;
        referrers.retain(|it| artifact_type.is_none_or(|wanted| it.artifact_type.as_deref() == Some(wanted)));
        Ok(referrers)
    }

    async fn referrers_at(&self, endpoint: &Endpoint, subject: Digest) -> Result<Vec<Descriptor>, Failure> {
        let mut next = Some(endpoint.uri(&format!("/{}/referrers/{subject}", self.image.path())).await?);
        let mut referrers = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(uri) = next else { return Ok(referrers) };
            let response = match self.open_page(endpoint, uri, media_type::OCI_INDEX).await {
                Err(failure) if failure.status == Some(StatusCode::NOT_FOUND) => {
                    return self.referrers_by_tag(subject).await;
                }
                other => other?,
            };
            let following = next_page(&response)?;
            let bytes = read_page(response, MAX_MANIFEST_SIZE).await?;
            let index =
                Manifest::parse(Some(media_type::OCI_INDEX), bytes.into()).map_err(RegistryError::from)?;
            referrers.extend(index.as_index().map(|index| index.manifests.clone()).unwrap_or_default());
            next = following;
        }
        Err(RegistryError::Manifest(ManifestError::TooLarge(MAX_MANIFEST_SIZE)).into())
    }

    /// Registries without a referrers API have an index under a tag made of the digest (distribution spec, "Referrers
    /// Tag Schema"). No such tag means no referrers.
    async fn referrers_by_tag(&self, subject: Digest) -> Result<Vec<Descriptor>, Failure> {
        let tag = ManifestTarget::Tag(format!("sha256-{}", subject.hex()));
        match self.fetch_manifest(&tag).await {
            Ok(manifest) => Ok(manifest.as_index().map(|index| index.manifests.clone()).unwrap_or_default()),
            Err(RegistryError::ManifestNotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    async fn page<T: serde::de::DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        uri: Uri,
    ) -> Result<(T, Option<Uri>), Failure> {
        let response = self.open_page(endpoint, uri, "application/json").await?;
        let following = next_page(&response)?;
        let invalid = response.invalid("invalid JSON in the list");
        let bytes = read_page(response, MAX_PAGE_LEN).await?;
        let page = serde_json::from_slice(&bytes).map_err(|_| invalid)?;
        Ok((page, following))
    }

    async fn open_page(
        &self,
        endpoint: &Endpoint,
        uri: Uri,
        accept: &'static str,
    ) -> Result<Response, Failure> {
        let mut request = Request::new(Method::GET, uri);
        request.headers.insert(ACCEPT, HeaderValue::from_static(accept));
        endpoint.exchange(&self.directory.auth, &self.pull_access(), request).await
    }
}

async fn read_page(mut response: Response, limit: usize) -> Result<Vec<u8>, RegistryError> {
    match response.read_at_most(limit).await? {
        Some(bytes) => Ok(bytes.into()),
        None => Err(response.invalid(format!("list is longer than {limit} bytes"))),
    }
}

/// The address of the next page: `Link: </v2/x/tags/list?last=y>; rel="next"` (RFC 8288).
fn next_page(response: &Response) -> Result<Option<Uri>, RegistryError> {
    let Some(target) = response.header(LINK).and_then(next_link) else { return Ok(None) };
    let is_another_page_of_ours = |uri: &Uri| is_same_origin(uri, &response.uri) && *uri != response.uri;
    let uri = resolve_location(&response.uri, target).filter(is_another_page_of_ours);
    uri.map(Some).ok_or_else(|| response.invalid("invalid link to the next page"))
}

fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let parameters = after.split('<').next().unwrap_or_default();
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            name.trim().eq_ignore_ascii_case("rel")
                && value.trim().trim_matches('"').eq_ignore_ascii_case("next")
        });
        if is_next {
            return Some(target);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_link_to_the_next_page_is_found() {
        for (header, expected) in [
            (r#"</v2/x/tags/list?last=b&n=2>; rel="next""#, Some("/v2/x/tags/list?last=b&n=2")),
            (r#"<a>; rel="prev", <b>; title=x; rel=next"#, Some("b")),
            (r#"<a>; rel="prev""#, None),
            ("<a", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_link_header_makes_the_reader_panic(text in "[<>;,=\" a-z]{0,40}") {
            let _ = next_link(&text);
        }
    }
}

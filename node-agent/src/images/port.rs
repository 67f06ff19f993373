//! The node's ports for images.
//!
//! Start reading at the two implementations; each method is one call, on a blocking thread if it looks at the disk.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use registry_client::{Credentials, ManifestTarget, SearchQuery};
use shoal_types::{ImageRef, Platform};

use super::tree::describe;
use super::{ImageStore, import, load, pull, push, save, stream};
use crate::api::images::{
    AttestationQuery, AttestationStatement, Distribution, HistoryEntry, ImagePruneFilter, ImageQuery,
    ImageSummary, ImageTransfers, ImageView, Images, ImportRequest, LoadRequest, ProgressStream, PullRequest,
    PushRequest, Removal, RemoveImage, SearchRequest, SearchResult,
};
use crate::api::{ByteSource, ByteStream};
use crate::error::NodeError;
use crate::figures::Action;

#[async_trait]
impl Images for ImageStore {
    async fn list(&self, query: ImageQuery) -> Result<Vec<ImageSummary>, NodeError> {
        self.shared.block("list images", move |shared| shared.list(&query)).await
    }

    async fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageView, NodeError> {
        let (name, platform) = (name.to_owned(), platform.cloned());
        self.shared.block("inspect an image", move |shared| shared.inspect(&name, platform.as_ref())).await
    }

    async fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryEntry>, NodeError> {
        let start = Instant::now();
        let (name, platform) = (name.to_owned(), platform.cloned());
        let history = self
            .shared
            .block("read an image's history", move |shared| shared.history(&name, platform.as_ref()))
            .await;
        self.shared.figures.noted(Action::ImageHistory, start, history)
    }

    async fn attestations(&self, query: AttestationQuery) -> Result<Vec<AttestationStatement>, NodeError> {
        self.shared
            .block("read what is stated about an image", move |shared| shared.attestations(&query))
            .await
    }

    async fn tag(&self, name: &str, reference: &ImageRef) -> Result<(), NodeError> {
        self.shared.tag(name.to_owned(), reference.clone()).await
    }

    async fn remove(&self, name: &str, options: RemoveImage) -> Result<Vec<Removal>, NodeError> {
        let start = Instant::now();
        let removed = self.shared.remove(name.to_owned(), options).await;
        self.shared.figures.noted(Action::ImageDelete, start, removed)
    }

    async fn layers_size(&self) -> Result<u64, NodeError> {
        self.shared.block("measure content and layers", super::Shared::layers_size).await
    }

    async fn prune(&self, filter: ImagePruneFilter) -> Result<(Vec<Removal>, u64), NodeError> {
        self.shared.prune(filter).await
    }
}

#[async_trait]
impl ImageTransfers for ImageStore {
    async fn pull(&self, request: PullRequest) -> Result<ProgressStream, NodeError> {
        let shared = Arc::clone(&self.shared);
        let (figures, start) = (shared.figures.clone(), Instant::now());
        stream::run(|out| async move {
            figures.noted(Action::ImagePull, start, pull::pull(shared, request, out).await)
        })
        .await
    }

    async fn push(&self, request: PushRequest) -> Result<ProgressStream, NodeError> {
        let shared = Arc::clone(&self.shared);
        let (figures, start) = (shared.figures.clone(), Instant::now());
        stream::run(|out| async move {
            figures.noted(Action::ImagePush, start, push::push(shared, request, out).await)
        })
        .await
    }

    async fn load(&self, request: LoadRequest, archive: ByteSource) -> Result<ProgressStream, NodeError> {
        let shared = Arc::clone(&self.shared);
        stream::run(|out| load::load(shared, request, archive, out)).await
    }

    async fn save(&self, names: &[String], platforms: &[Platform]) -> Result<ByteStream, NodeError> {
        save::save(&self.shared, names, platforms).await
    }

    async fn import(&self, request: ImportRequest, archive: ByteSource) -> Result<ProgressStream, NodeError> {
        let shared = Arc::clone(&self.shared);
        stream::run(|out| import::import(shared, request, archive, out)).await
    }

    async fn distribution(
        &self,
        reference: &ImageRef,
        credentials: Option<Credentials>,
    ) -> Result<Distribution, NodeError> {
        let repository = self.shared.registries.repository(reference, credentials.unwrap_or_default());
        let info = repository.inspect(&ManifestTarget::of(reference)).await?;
        let platforms = info.platforms.iter().map(registry_client::PlatformSpec::platform).collect();
        Ok(Distribution { descriptor: describe(&info.descriptor), platforms })
    }

    async fn search(&self, request: SearchRequest) -> Result<Vec<SearchResult>, NodeError> {
        let query = SearchQuery { term: request.term.clone(), limit: request.limit };
        let credentials = request.credentials.clone().unwrap_or_default();
        let found = self.shared.registries.search(&query, &credentials).await?;
        let wanted = found.into_iter().map(search_result).filter(|result| {
            result.stars >= u64::from(request.stars)
                && request.is_official.is_none_or(|wanted| wanted == result.is_official)
                && request.is_automated.is_none_or(|wanted| wanted == result.is_automated)
        });
        Ok(wanted.collect())
    }
}

fn search_result(found: registry_client::SearchResult) -> SearchResult {
    SearchResult {
        name: found.name,
        description: found.description,
        stars: u64::try_from(found.star_count).unwrap_or(0),
        is_official: found.is_official,
        is_automated: found.is_automated,
    }
}

//! The node's ports for images.
//!
//! Start reading at the two implementations; each method is one call, on a blocking thread if it looks at the disk.

use std::sync::Arc;

use async_trait::async_trait;
use registry_client::Credentials;
use shoal_types::{ImageRef, Platform};

use super::{ImageStore, pull, stream, unfinished};
use crate::api::images::{
    Distribution, HistoryEntry, ImagePruneFilter, ImageQuery, ImageSummary, ImageTransfers, ImageView,
    Images, ImportRequest, LoadRequest, ProgressStream, PullRequest, PushRequest, Removal, RemoveImage,
    SearchRequest, SearchResult,
};
use crate::api::{ByteSource, ByteStream};
use crate::error::NodeError;

#[async_trait]
impl Images for ImageStore {
    async fn list(&self, query: ImageQuery) -> Result<Vec<ImageSummary>, NodeError> {
        self.shared.block("list images", move |shared| shared.list(query)).await
    }

    async fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageView, NodeError> {
        let (name, platform) = (name.to_owned(), platform.cloned());
        self.shared.block("inspect an image", move |shared| shared.inspect(&name, platform.as_ref())).await
    }

    async fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryEntry>, NodeError> {
        let (name, platform) = (name.to_owned(), platform.cloned());
        self.shared
            .block("read an image's history", move |shared| shared.history(&name, platform.as_ref()))
            .await
    }

    async fn tag(&self, name: &str, reference: &ImageRef) -> Result<(), NodeError> {
        self.shared.tag(name.to_owned(), reference.clone()).await
    }

    async fn remove(&self, name: &str, options: RemoveImage) -> Result<Vec<Removal>, NodeError> {
        self.shared.remove(name.to_owned(), options).await
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
        stream::run(|out| pull::pull(shared, request, out)).await
    }

    async fn push(&self, _request: PushRequest) -> Result<ProgressStream, NodeError> {
        Err(unfinished())
    }

    async fn load(&self, _request: LoadRequest, _archive: ByteSource) -> Result<ProgressStream, NodeError> {
        Err(unfinished())
    }

    async fn save(&self, _names: &[String], _platforms: &[Platform]) -> Result<ByteStream, NodeError> {
        Err(unfinished())
    }

    async fn import(
        &self,
        _request: ImportRequest,
        _archive: ByteSource,
    ) -> Result<ProgressStream, NodeError> {
        Err(unfinished())
    }

    async fn distribution(
        &self,
        _reference: &ImageRef,
        _credentials: Option<Credentials>,
    ) -> Result<Distribution, NodeError> {
        Err(unfinished())
    }

    async fn search(&self, _request: SearchRequest) -> Result<Vec<SearchResult>, NodeError> {
        Err(unfinished())
    }
}

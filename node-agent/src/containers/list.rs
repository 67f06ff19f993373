//! The node's port for what can be seen of containers.
//!
//! Start reading at the implementation of [`ContainerViews`]. Which containers pass a query is decided in `filter.rs`; the
//! processes of a container are `top.rs`'s. Nothing here asks an owner.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::Engine;
use super::filter::Filter;
use super::slot::Presence;
use crate::api::containers::{ContainerView, ContainerViews, ListQuery, Listed, ProcessTable, RootSizes};
use crate::error::NodeError;

#[async_trait]
impl ContainerViews for Engine {
    async fn list(&self, query: ListQuery) -> Result<Vec<Listed>, NodeError> {
        let mut views: Vec<Arc<ContainerView>> = self.shared.slots().iter().map(|slot| slot.view()).collect();
        // Newest first; the id decides between those of one moment, so that lists do not flicker.
        views.sort_by(|one, other| other.created.cmp(&one.created).then_with(|| one.id.cmp(&other.id)));
        let filter = Filter::compile(&query, |name| self.find(name).map(|handle| handle.view()))?;
        let ancestors = self.ancestors(&query).await;
        let limit = query.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let passing = views.into_iter().filter(|view| filter.passes(view, &ancestors)).take(limit);
        let mut listed = Vec::new();
        for view in passing {
            let sizes = if query.with_sizes {
                Some(self.shared.seams.images.rootfs_sizes(view.id).await?)
            } else {
                None
            };
            listed.push(Listed { view: self.shared.listed(view), sizes });
        }
        Ok(listed)
    }

    async fn inspect(&self, name: &str) -> Result<Arc<ContainerView>, NodeError> {
        let view = self.find(name)?.view();
        Ok(Arc::new(self.shared.complete(&view).await))
    }

    async fn follow(&self, name: &str) -> Result<BoxStream<'static, Arc<ContainerView>>, NodeError> {
        let mut published = self.find(name)?.subscribe();
        // What is there already is the first item.
        published.mark_changed();
        let stream = stream::unfold(published, async |mut published| {
            published.changed().await.ok()?;
            let now = published.borrow_and_update().clone();
            (now.presence == Presence::Here).then_some((now.view, published))
        });
        Ok(stream.boxed())
    }

    async fn sizes(&self, name: &str) -> Result<RootSizes, NodeError> {
        let id = self.find(name)?.id();
        self.shared.seams.images.rootfs_sizes(id).await
    }

    async fn top(&self, name: &str, ps_args: &str) -> Result<ProcessTable, NodeError> {
        self.processes(name, ps_args).await
    }
}

impl Engine {
    /// The images that the query's `ancestor` filters mean; names that mean none are kept as texts by the filter.
    async fn ancestors(&self, query: &ListQuery) -> Vec<shoal_types::ImageId> {
        let mut ids = Vec::new();
        for name in &query.filter.ancestors {
            ids.extend(self.shared.seams.images.descendants(name).await);
        }
        ids
    }
}

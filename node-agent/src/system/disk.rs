//! What takes up disk.
//!
//! Start reading at [`usage`]. Walking file systems takes long; only what was asked for is walked.

use super::Counted;
use crate::api::containers::ListQuery;
use crate::api::images::ImageQuery;
use crate::api::system::{DiskUsage, UsageKinds};
use crate::error::NodeError;

/// Adds up the kinds that were asked for.
pub(super) async fn usage(counted: &Counted, what: UsageKinds) -> Result<DiskUsage, NodeError> {
    let mut usage = DiskUsage::default();
    if what.containers {
        let query = ListQuery { all: true, with_sizes: true, ..ListQuery::default() };
        usage.containers = Some(counted.views.list(query).await?);
    }
    if what.images {
        let query =
            ImageQuery { all: false, with_shared_size: true, with_containers: true, ..ImageQuery::default() };
        usage.images = Some(counted.images.list(query).await?);
        usage.layers_size = counted.images.layers_size().await?;
    }
    if what.volumes {
        usage.volumes = Some(counted.volumes.usage().await?);
    }
    if what.build_cache {
        // The builder keeps its cache among the images' layers until it has one of its own.
        usage.build_cache = Some(Vec::new());
    }
    Ok(usage)
}

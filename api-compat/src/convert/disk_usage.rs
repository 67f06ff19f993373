//! What takes up disk, in both shapes.
//!
//! Start reading at [`legacy`] and [`sums`].

use jiff::Timestamp;
use node_agent::api::containers::Listed;
use node_agent::api::images as node;
use node_agent::api::system::{CacheRecord, DiskUsage};
use node_agent::api::volumes::VolumeUsage;

use super::{image, volume};
use crate::compat;
use crate::model::container_summary::ContainerSummary;
use crate::model::disk_usage::{BuildCache, KindUsage, LegacyUsage, UsageSums};
use crate::model::image::ImageSummary;
use crate::model::volume::Volume;
use crate::routes::containers::summary;
use crate::version::ApiVersion;

/// Whether the objects themselves are told with their sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Items {
    /// They are.
    Listed,
    /// They are not.
    Omitted,
}

/// Everything, object by object.
pub(crate) fn legacy(usage: &DiskUsage, now: Timestamp, version: ApiVersion) -> LegacyUsage {
    LegacyUsage {
        layers_size: usage.layers_size,
        images: usage.images.as_ref().map(|list| images(list, version)),
        containers: usage.containers.as_ref().map(|list| containers(list, now, version)),
        volumes: usage.volumes.as_ref().map(|list| volumes(list)),
        build_cache: usage.build_cache.as_ref().map(|list| records(list, version)),
        builder_size: version.is_below(42).then_some(0),
    }
}

/// Sums by kind.
pub(crate) fn sums(usage: &DiskUsage, now: Timestamp, version: ApiVersion, items: Items) -> UsageSums {
    UsageSums {
        image_usage: usage.images.as_ref().map(|list| KindUsage {
            items: some_items(items, || images(list, version)),
            ..image_sums(list, usage.layers_size)
        }),
        container_usage: usage.containers.as_ref().map(|list| KindUsage {
            items: some_items(items, || containers(list, now, version)),
            ..container_sums(list)
        }),
        volume_usage: usage
            .volumes
            .as_ref()
            .map(|list| KindUsage { items: some_items(items, || volumes(list)), ..volume_sums(list) }),
        build_cache_usage: usage.build_cache.as_ref().map(|list| KindUsage {
            items: some_items(items, || records(list, version)),
            ..record_sums(list)
        }),
    }
}

/// The objects, if they are wanted and there are any: Docker leaves an empty list out.
fn some_items<T>(wanted: Items, list: impl FnOnce() -> Vec<T>) -> Option<Vec<T>> {
    (wanted == Items::Listed).then(list).filter(|list| !list.is_empty())
}

fn images(list: &[node::ImageSummary], version: ApiVersion) -> Vec<ImageSummary> {
    let shown = |one| {
        let mut shown = image::summary(one);
        compat::images::summary(&mut shown, version);
        shown
    };
    list.iter().map(shown).collect()
}

fn containers(list: &[Listed], now: Timestamp, version: ApiVersion) -> Vec<ContainerSummary> {
    let shown = |one| {
        let mut shown = summary(one, now, version);
        // Docker tells the manifest in lists of containers, but not here.
        shown.facts.image_manifest_descriptor = None;
        shown
    };
    list.iter().map(shown).collect()
}

fn volumes(list: &[VolumeUsage]) -> Vec<Volume> {
    list.iter().map(volume::shown_usage).collect()
}

fn records(list: &[CacheRecord], version: ApiVersion) -> Vec<BuildCache> {
    let shown = |record: &CacheRecord| BuildCache {
        id: record.id.clone(),
        parent: version.is_below(42).then(|| record.parents.first().cloned().unwrap_or_default()),
        parents: version.is_from(42).then(|| record.parents.clone()).filter(|list| !list.is_empty()),
        r#type: record.kind.clone(),
        description: record.description.clone(),
        in_use: record.in_use,
        shared: record.shared,
        size: record.size,
        created_at: record.created.into(),
        last_used_at: record.last_used.map(Into::into),
        usage_count: record.usage_count,
    };
    list.iter().map(shown).collect()
}

/// Sums over objects of which some are in use; `size` counts, unless an object's cannot be told.
fn sum<T, I>(list: &[T], is_active: impl Fn(&T) -> bool, size: impl Fn(&T) -> u64) -> KindUsage<I> {
    let total = |objects: &mut dyn Iterator<Item = &T>| objects.map(&size).fold(0, u64::saturating_add);
    KindUsage {
        active_count: list.iter().filter(|one| is_active(one)).count() as u64,
        total_count: list.len() as u64,
        reclaimable: total(&mut list.iter().filter(|one| !is_active(one))),
        total_size: total(&mut list.iter()),
        items: None,
    }
}

fn image_sums(list: &[node::ImageSummary], layers_size: u64) -> KindUsage<ImageSummary> {
    let is_active = |image: &node::ImageSummary| image.containers.is_some_and(|count| count > 0);
    // Layers that images share are on disk once, so the sum of the images is not what they take up.
    let used = list.iter().filter(|image| is_active(image));
    let used = used.map(|image| image.size.saturating_sub(image.shared_size.unwrap_or(0)));
    let used = used.fold(0, u64::saturating_add);
    let sums = sum(list, is_active, |image| image.size);
    KindUsage { total_size: layers_size, reclaimable: layers_size.saturating_sub(used), ..sums }
}

fn container_sums(list: &[Listed]) -> KindUsage<ContainerSummary> {
    let size = |one: &Listed| one.sizes.map_or(0, |sizes| sizes.writable);
    sum(list, |one| one.view.state.run().is_some(), size)
}

fn volume_sums(list: &[VolumeUsage]) -> KindUsage<Volume> {
    sum(list, |one| one.references > 0, |one| u64::try_from(one.size).unwrap_or(0))
}

fn record_sums(list: &[CacheRecord]) -> KindUsage<BuildCache> {
    sum(list, |record| record.in_use, |record| record.size)
}

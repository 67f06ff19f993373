//! Lists images, with their sizes.
//!
//! Start reading at [`Shared::list`]. Reads the catalog, asks the disk for the sizes of blobs, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shoal_types::{ChainId, ContainerId, Digest, ImageId, ImageRef};

use super::Shared;
use super::catalog::Catalog;
use super::filter::{Filter, passing_names};
use super::tree::{ConfigFacts, Fit, ImageTree, Part};
use crate::api::images::{ImageQuery, ImageSummary, ManifestKind, ManifestSummary};
use crate::error::NodeError;
use crate::layers::SnapshotName;

/// What a listing needs of one image, taken out of the catalog so that the disk is asked without its lock.
struct Listed {
    id: ImageId,
    tags: Vec<ImageRef>,
    digests: Vec<ImageRef>,
    repositories: BTreeSet<String>,
    tree: Arc<ImageTree>,
}

impl Shared {
    /// The images that pass, newest first.
    pub(super) fn list(&self, query: &ImageQuery) -> Result<Vec<ImageSummary>, NodeError> {
        let listed = {
            let catalog = self.catalog();
            let filter = Filter::new(query.filter.clone(), &catalog, &self.platform)?;
            let ids =
                catalog.targets().map(|(id, _)| *id).filter(|id| query.all || !is_intermediate(&catalog, id));
            let passing = ids.filter_map(|id| {
                let names = passing_names(&filter, &catalog, &id, &self.platform)?;
                let (tags, digests) = references(&catalog, &id, &names);
                let target = catalog.target(&id)?;
                let (repositories, tree) = (target.record.sources.clone(), Arc::clone(&target.tree));
                Some(Listed { id, tags, digests, repositories, tree })
            });
            passing.collect::<Vec<_>>()
        };
        let mut summaries: Vec<ImageSummary> =
            listed.iter().map(|image| self.summarise(image, query)).collect();
        if query.with_shared_size {
            let trees: Vec<&ImageTree> = listed.iter().map(|image| image.tree.as_ref()).collect();
            for (summary, size) in summaries.iter_mut().zip(self.shared_sizes(&trees)) {
                summary.shared_size = Some(size);
            }
        }
        summaries.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(summaries)
    }

    /// One image under all its names, with its manifests.
    pub(super) fn summary(&self, id: &ImageId) -> Result<ImageSummary, NodeError> {
        let image = {
            let catalog = self.catalog();
            let (tags, digests) = catalog.references(id);
            let tree = self.tree(&catalog, id)?;
            let repositories = catalog.target(id).map(|target| target.record.sources.clone());
            Listed { id: *id, tags, digests, repositories: repositories.unwrap_or_default(), tree }
        };
        let query = ImageQuery { with_manifests: true, with_containers: true, ..ImageQuery::default() };
        Ok(self.summarise(&image, &query))
    }

    fn summarise(&self, image: &Listed, query: &ImageQuery) -> ImageSummary {
        let manifests: Vec<ManifestSummary> =
            image.tree.parts.iter().map(|part| self.describe_part(part)).collect();
        let best = image.tree.choose(&self.platform, Fit::Any).map(|(_, facts)| facts);
        let indexes: u64 = image.tree.indexes.iter().map(|(_, size)| size).sum();
        let containers = manifests.iter().map(|manifest| containers_of(&manifest.kind).len()).sum();
        ImageSummary {
            id: image.id,
            tags: image.tags.clone(),
            digests: image.digests.clone(),
            created: best.and_then(|facts| facts.created),
            size: indexes + manifests.iter().map(total_size).sum::<u64>(),
            shared_size: None,
            containers: query.with_containers.then_some(containers),
            labels: best.map(|facts| facts.labels.clone()).unwrap_or_default(),
            target: image.tree.target.clone(),
            repositories: image.repositories.iter().cloned().collect(),
            manifests: if query.with_manifests { manifests } else { Vec::new() },
        }
    }

    /// One part of an image, with its sizes.
    pub(super) fn describe_part(&self, part: &Part) -> ManifestSummary {
        let kind = match (&part.facts, part.attestation_of, &part.descriptor.platform) {
            (_, Some(of), _) => ManifestKind::Attestation { of },
            (Some(facts), None, _) => ManifestKind::Image {
                platform: part.descriptor.platform.clone().unwrap_or_else(|| facts.platform.clone()),
                containers: self.users.of_manifest(&part.descriptor.digest),
                unpacked_size: self.unpacked_size(facts),
            },
            (None, None, Some(platform)) if part.manifest.is_none() => {
                ManifestKind::Image { platform: platform.clone(), containers: Vec::new(), unpacked_size: 0 }
            }
            (None, None, _) => ManifestKind::Unknown,
        };
        ManifestSummary {
            descriptor: part.descriptor.clone(),
            available: part.is_available(&self.content),
            content_size: part.content_size(&self.content),
            kind,
        }
    }

    fn unpacked_size(&self, facts: &ConfigFacts) -> u64 {
        facts.chains.iter().map(|chain| self.layer_size(*chain)).sum()
    }

    /// Bytes of an unpacked layer; 0 if it is not unpacked.
    pub(super) fn layer_size(&self, chain: ChainId) -> u64 {
        let snapshot = self.snapshots.stat(&SnapshotName::Committed(chain));
        snapshot.and_then(|snapshot| snapshot.usage).map_or(0, |usage| usage.bytes)
    }

    /// Bytes of all content and all unpacked layers.
    pub(super) fn layers_size(&self) -> Result<u64, NodeError> {
        let content: u64 = self.content.list()?.into_iter().map(|(_, size)| size).sum();
        let unpacked = self.snapshots.list().into_iter().filter_map(|(_, snapshot)| snapshot.usage);
        Ok(content + unpacked.map(|usage| usage.bytes).sum::<u64>())
    }

    /// For each image the bytes that another one of them has too.
    fn shared_sizes(&self, trees: &[&ImageTree]) -> Vec<u64> {
        let mut blobs: BTreeMap<Digest, usize> = BTreeMap::new();
        let mut chains: BTreeMap<ChainId, usize> = BTreeMap::new();
        for tree in trees {
            tree.blobs().into_iter().for_each(|blob| *blobs.entry(blob).or_default() += 1);
            tree.chains().into_iter().for_each(|chain| *chains.entry(chain).or_default() += 1);
        }
        let shared = |tree: &&ImageTree| {
            let shared_blobs: BTreeSet<Digest> =
                tree.blobs().into_iter().filter(|blob| blobs[blob] > 1).collect();
            let content: u64 = shared_blobs.into_iter().filter_map(|blob| self.content.size(blob)).sum();
            let shared_chains = tree.chains().into_iter().filter(|chain| chains[chain] > 1);
            content + shared_chains.map(|chain| self.layer_size(chain)).sum::<u64>()
        };
        trees.iter().map(shared).collect()
    }
}

/// Whether it is only a step of a build: it has no name, and another image was made from it.
fn is_intermediate(catalog: &Catalog, id: &ImageId) -> bool {
    catalog.names_of(id).is_empty() && !catalog.children(id).is_empty()
}

/// The references of an image among these names.
fn references(catalog: &Catalog, id: &ImageId, names: &[ImageRef]) -> (Vec<ImageRef>, Vec<ImageRef>) {
    let (tags, digests) = catalog.references(id);
    let repositories: BTreeSet<ImageRef> = names.iter().map(ImageRef::repository).collect();
    let tags = tags.into_iter().filter(|tag| names.contains(tag)).collect();
    let digests = digests.into_iter().filter(|digest| repositories.contains(&digest.repository())).collect();
    (tags, digests)
}

fn containers_of(kind: &ManifestKind) -> &[ContainerId] {
    match kind {
        ManifestKind::Image { containers, .. } => containers,
        ManifestKind::Attestation { .. } | ManifestKind::Unknown => &[],
    }
}

/// Content and unpacked layers of one part.
pub(super) fn total_size(manifest: &ManifestSummary) -> u64 {
    let unpacked = match &manifest.kind {
        ManifestKind::Image { unpacked_size, .. } => *unpacked_size,
        ManifestKind::Attestation { .. } | ManifestKind::Unknown => 0,
    };
    manifest.content_size + unpacked
}

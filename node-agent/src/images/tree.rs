//! What an image consists of: its index, its manifests, their configs and layers, as far as they are here.
//!
//! Start reading at [`ImageTree::read`]. A tree is read once, when the image comes or the daemon starts, and kept in
//! memory; whether the layers' blobs are here is asked when it matters.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use registry_client::{
    Descriptor as RegistryDescriptor, ImageManifest, MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, Manifest,
    ManifestContent,
};
use shoal_types::{ChainId, DiffId, Digest, ImageId, Platform};

use super::config::ImageConfig;
use crate::api::images::Descriptor;
use crate::content::ContentStore;
use crate::error::NodeError;
use crate::layers::chain::chain_ids;

/// Annotations by which BuildKit marks attestations.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const ATTESTATION: &str = "attestation-manifest";
/// How deep indexes may name indexes, as in registry-client.
const MAX_NESTING: usize = 4;

/// What an image consists of.
#[derive(Debug, Clone)]
pub(super) struct ImageTree {
    /// What its names point to.
    pub(super) target: Descriptor,
    /// Every index of it that is here.
    pub(super) indexes: Vec<(Digest, u64)>,
    /// Its manifests in the order of the index; one if there is no index.
    pub(super) parts: Vec<Part>,
}

/// A manifest of an image.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// As the index describes it.
    pub(super) descriptor: Descriptor,
    /// What it says; `None` if it is not here.
    pub(super) manifest: Option<ImageManifest>,
    /// What its config says; `None` if that is not here or no image config.
    pub(super) facts: Option<ConfigFacts>,
    /// The manifest that this one is a statement about.
    pub(super) attestation_of: Option<Digest>,
}

/// What is often asked of a config.
#[derive(Debug, Clone)]
pub(super) struct ConfigFacts {
    /// When the image was made.
    pub(super) created: Option<Timestamp>,
    /// Its labels.
    pub(super) labels: BTreeMap<String, String>,
    /// What it is built for.
    pub(super) platform: Platform,
    /// Its layers, bottom first.
    pub(super) diff_ids: Vec<DiffId>,
    /// The stack up to and with each layer.
    pub(super) chains: Vec<ChainId>,
}

impl ImageTree {
    /// Reads what is here of a target. Fails only if the target itself cannot be read.
    pub(super) fn read(content: &ContentStore, id: ImageId, media_type: &str) -> Result<Self, NodeError> {
        let manifest = read_manifest(content, id.0, Some(media_type))?;
        let target = describe(&manifest.descriptor);
        let mut tree = Self { target: target.clone(), indexes: Vec::new(), parts: Vec::new() };
        tree.add(content, target, Some(manifest), 0);
        Ok(tree)
    }

    fn add(
        &mut self,
        content: &ContentStore,
        descriptor: Descriptor,
        manifest: Option<Manifest>,
        depth: usize,
    ) {
        match manifest.map(|manifest| manifest.content) {
            Some(ManifestContent::Index(index)) => {
                self.indexes.push((descriptor.digest, descriptor.size));
                for entry in index.manifests.iter().filter(|_| depth < MAX_NESTING) {
                    let child = read_manifest(content, entry.digest, Some(&entry.media_type)).ok();
                    self.add(content, describe(entry), child, depth + 1);
                }
            }
            Some(ManifestContent::Image(image)) => {
                let facts = ConfigFacts::read(content, &image).ok();
                self.parts.push(Part::new(descriptor, Some(*image), facts));
            }
            None => self.parts.push(Part::new(descriptor, None, None)),
        }
    }

    /// The part that runs best on `machine`; with [`Fit::Any`], any that runs at all somewhere if none does. Only parts
    /// whose manifest and config are here.
    pub(super) fn choose(&self, machine: &Platform, fit: Fit) -> Option<(&Part, &ConfigFacts)> {
        let runnable = || self.parts.iter().filter_map(|part| part.facts.as_ref().map(|facts| (part, facts)));
        let suits = |platform: &Platform| {
            let is_strict = fit == Fit::Exact && platform.architecture != machine.architecture;
            if is_strict { None } else { platform.rank_on(machine) }
        };
        runnable()
            .filter_map(|(part, facts)| suits(&facts.platform).map(|rank| (rank, part, facts)))
            .min_by_key(|(rank, ..)| *rank)
            .map(|(_, part, facts)| (part, facts))
            .or_else(|| if fit == Fit::Any { runnable().next() } else { None })
    }

    /// The part with this manifest.
    pub(super) fn part(&self, manifest: Digest) -> Option<&Part> {
        self.parts.iter().find(|part| part.descriptor.digest == manifest)
    }

    /// Every blob that belongs to it and could be here.
    pub(super) fn blobs(&self) -> BTreeSet<Digest> {
        let indexes = self.indexes.iter().map(|(digest, _)| *digest);
        indexes.chain(self.parts.iter().flat_map(Part::blobs)).chain([self.target.digest]).collect()
    }

    /// Every stack of layers that belongs to it, those with parents after their parents.
    pub(super) fn chains(&self) -> Vec<ChainId> {
        let facts = self.parts.iter().filter_map(|part| part.facts.as_ref());
        let mut seen = BTreeSet::new();
        facts.flat_map(|facts| facts.chains.iter().copied()).filter(|chain| seen.insert(*chain)).collect()
    }

    /// Labels of the part that suits this machine best.
    pub(super) fn labels(&self, machine: &Platform) -> Option<&BTreeMap<String, String>> {
        self.choose(machine, Fit::Any).map(|(_, facts)| &facts.labels)
    }
}

/// How strictly a platform is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// The architecture that was asked for.
    Exact,
    /// What runs best here, and anything if nothing does.
    Any,
}

impl Part {
    fn new(descriptor: Descriptor, manifest: Option<ImageManifest>, facts: Option<ConfigFacts>) -> Self {
        let attestation_of = subject(&descriptor.annotations);
        // The config of an attestation is one only by its form.
        let facts = if is_attestation(&descriptor.annotations) { None } else { facts };
        Self { descriptor, manifest, facts, attestation_of }
    }

    /// Manifest, config and layers.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Digest> {
        let manifest = self.manifest.iter();
        let below = manifest.flat_map(|manifest| {
            std::iter::once(manifest.config.digest).chain(manifest.layers.iter().map(|layer| layer.digest))
        });
        std::iter::once(self.descriptor.digest).chain(below)
    }

    /// Whether all of it is here.
    pub(super) fn is_available(&self, content: &ContentStore) -> bool {
        self.manifest.is_some() && self.blobs().all(|digest| content.size(digest).is_some())
    }

    /// Bytes of it that are here.
    pub(super) fn content_size(&self, content: &ContentStore) -> u64 {
        let blobs: BTreeSet<Digest> = self.blobs().collect();
        blobs.into_iter().filter_map(|digest| content.size(digest)).sum()
    }
}

impl ConfigFacts {
    pub(super) fn new(config: &ImageConfig) -> Self {
        let diff_ids = config.rootfs.diff_ids.clone();
        Self {
            created: config.created,
            labels: config.run_config().ok().and_then(|run| run.labels).unwrap_or_default(),
            platform: config.platform(),
            chains: chain_ids(&diff_ids),
            diff_ids,
        }
    }

    fn read(content: &ContentStore, manifest: &ImageManifest) -> Result<Self, NodeError> {
        let config = read_config(content, manifest.config.digest)?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(NodeError::invalid("mismatched image rootfs and manifest layers"));
        }
        Ok(Self::new(&config))
    }
}

fn is_attestation(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(REFERENCE_TYPE).is_some_and(|kind| kind == ATTESTATION)
}

/// The manifest that an entry of an index is a statement about; `None` if it is something else.
pub(super) fn subject(annotations: &BTreeMap<String, String>) -> Option<Digest> {
    let digest = annotations.get(REFERENCE_DIGEST).filter(|_| is_attestation(annotations))?;
    digest.parse().ok()
}

/// Reads a manifest or index.
pub(super) fn read_manifest(
    content: &ContentStore,
    digest: Digest,
    media_type: Option<&str>,
) -> Result<Manifest, NodeError> {
    let bytes = content.read(digest, MAX_MANIFEST_SIZE)?;
    let media_type = media_type.filter(|media_type| !media_type.is_empty());
    Manifest::parse(media_type, bytes)
        .map_err(|source| NodeError::Registry(registry_client::RegistryError::Manifest(source)))
}

/// Reads an image config.
pub(super) fn read_config(content: &ContentStore, digest: Digest) -> Result<ImageConfig, NodeError> {
    let bytes = content.read(digest, MAX_CONFIG_SIZE)?;
    ImageConfig::parse(&bytes).map_err(|source| NodeError::failed("read an image config", source))
}

/// The engine's form of a registry's descriptor.
pub(super) fn describe(descriptor: &RegistryDescriptor) -> Descriptor {
    Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest,
        size: descriptor.size,
        annotations: descriptor.annotations.clone(),
        platform: descriptor.platform.as_ref().map(registry_client::PlatformSpec::platform),
    }
}

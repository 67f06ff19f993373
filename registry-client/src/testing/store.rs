//! What the test registry holds.
//!
//! Start reading at [`Store`]. All in memory, by repository; an upload keeps what it has got when its line breaks, as
//! Debian's docker-registry does.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::json;
use shoal_types::Digest;

use crate::manifest::{Descriptor, Manifest, digest_of, media_type};

/// A stored manifest with its media type.
#[derive(Debug, Clone)]
pub(super) struct StoredManifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) blobs: HashMap<Digest, Bytes>,
    pub(super) manifests: HashMap<Digest, StoredManifest>,
    pub(super) tags: BTreeMap<String, Digest>,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) repositories: HashMap<String, Repository>,
    pub(super) uploads: HashMap<u64, Vec<u8>>,
    pub(super) n_uploads: u64,
}

impl Store {
    pub(super) fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    pub(super) fn begin_upload(&mut self) -> u64 {
        self.n_uploads += 1;
        self.uploads.insert(self.n_uploads, Vec::new());
        self.n_uploads
    }

    /// The manifest that a tag or digest names.
    pub(super) fn manifest(&self, name: &str, reference: &str) -> Option<(Digest, StoredManifest)> {
        let repository = self.repositories.get(name)?;
        let digest = match reference.parse::<Digest>() {
            Ok(digest) => digest,
            Err(_) => *repository.tags.get(reference)?,
        };
        repository.manifests.get(&digest).map(|manifest| (digest, manifest.clone()))
    }
}

/// A small image made of arbitrary blobs. The layers need not be archives for registries to carry them.
#[derive(Debug, Clone)]
pub struct TestImage {
    /// The layers, bottom first.
    pub layers: Vec<Bytes>,
    /// The config.
    pub config: Bytes,
    /// The manifest.
    pub manifest: Manifest,
}

impl TestImage {
    /// An OCI image for `linux/<architecture>` with these layers, called gzip layers.
    pub fn new(architecture: &str, layers: Vec<Bytes>) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest_of(layer).to_string()).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Bytes::from(config.to_string());
        let descriptor = |media_type: &str, bytes: &Bytes| {
            Descriptor::new(media_type, digest_of(bytes), bytes.len() as u64)
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor(media_type::OCI_CONFIG, &config),
            "layers": layers.iter().map(|layer| descriptor(media_type::OCI_LAYER_GZIP, layer)).collect::<Vec<_>>(),
        });
        let manifest = Manifest::parse(None, Bytes::from(manifest.to_string())).unwrap();
        Self { layers, config, manifest }
    }

    /// An index of images, each by its architecture.
    pub fn index(images: &[(&str, &TestImage)]) -> Manifest {
        let entry = |(architecture, image): &(&str, &TestImage)| {
            let mut entry = json!(image.manifest.descriptor);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        };
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": images.iter().map(entry).collect::<Vec<_>>(),
        });
        Manifest::parse(None, Bytes::from(index.to_string())).unwrap()
    }

    /// The descriptors of the layers.
    pub fn layer_descriptors(&self) -> &[Descriptor] {
        &self.manifest.as_image().unwrap().layers
    }
}

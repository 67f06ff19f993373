//! Statements about images (in-toto attestations): fetched with the image that they are about, read when they are asked for.
//!
//! Start reading at [`Shared::attestations`]. BuildKit keeps them beside the image, in the same index: a manifest that says by
//! an annotation which manifest it is about, and has a layer for each statement. Nothing is verified here.

use std::sync::Arc;

use registry_client::{
    Descriptor as RegistryDescriptor, ImageManifest, ManifestContent, ManifestTarget, Repository,
    ResolvedImage,
};
use shoal_types::{Digest, ErrorKind, Platform};

use super::holds::{Hold, Item};
use super::sink::LayerSink;
use super::tree::{ImageTree, describe, read_manifest, subject};
use super::{Shared, refs};
use crate::api::images::{AttestationQuery, AttestationStatement, StatementBody};
use crate::error::{ErrorChain, NodeError};
use crate::userns::IdMapping;

/// The annotation by which BuildKit says of what kind a statement is.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// The most that the statements about one image may take in memory; larger ones are not fetched either.
const MAX_STATEMENT_BYTES: u64 = 64 << 20;

impl Shared {
    /// What is stated about the manifest for a platform. Empty if nothing is.
    pub(super) fn attestations(
        &self,
        query: &AttestationQuery,
    ) -> Result<Vec<AttestationStatement>, NodeError> {
        let tree = {
            let catalog = self.catalog();
            let id = refs::find(&catalog, &query.name)?.id;
            self.tree(&catalog, &id)?
        };
        if tree.indexes.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = query.platform.as_ref().unwrap_or(&self.platform);
        let about = manifest_for(&tree, wanted)
            .ok_or_else(|| not_found(format!("no manifest for platform {wanted}: not found")))?;
        let Some(part) = tree.parts.iter().find(|part| part.attestation_of == Some(about)) else {
            return Ok(Vec::new());
        };
        let manifest = part.manifest.as_ref().ok_or_else(|| {
            not_found(format!("attestation manifest {} is not available locally", part.descriptor.digest))
        })?;
        let mut statements = Vec::new();
        let mut room = MAX_STATEMENT_BYTES;
        for (layer, predicate_type) in statement_layers(manifest) {
            let types = &query.predicate_types;
            if !types.is_empty() && !types.iter().any(|wanted| wanted == predicate_type) {
                continue;
            }
            let statement = match query.body {
                StatementBody::Omitted => None,
                StatementBody::Included => Some(self.read_statement(layer.digest, &mut room)?),
            };
            let predicate_type = predicate_type.to_owned();
            statements.push(AttestationStatement { descriptor: describe(layer), predicate_type, statement });
        }
        Ok(statements)
    }

    fn read_statement(
        &self,
        digest: Digest,
        room: &mut u64,
    ) -> Result<Box<serde_json::value::RawValue>, NodeError> {
        let size = self
            .content
            .size(digest)
            .ok_or_else(|| not_found(format!("attestation statement {digest} is not available locally")))?;
        *room = room.checked_sub(size).ok_or_else(|| {
            NodeError::invalid(format!("the statements take more than {MAX_STATEMENT_BYTES} bytes"))
        })?;
        let bytes = self.content.read(digest, usize::try_from(size).unwrap_or(usize::MAX))?;
        serde_json::from_slice(&bytes)
            .map_err(|source| NodeError::failed(format!("read attestation statement {digest}"), source))
    }

    /// Brings the statements about a manifest that is pulled. Nothing needs them to run, so what cannot be had is left out
    /// with a warning. What is here is held until the result is dropped.
    pub(super) async fn fetch_attestations(
        self: &Arc<Self>,
        repository: &Repository,
        resolved: &ResolvedImage,
    ) -> Vec<Hold> {
        let about = Some(resolved.manifest.digest());
        let mut holds = Vec::new();
        for index in &resolved.indexes {
            let ManifestContent::Index(index) = &index.content else { continue };
            for entry in index.manifests.iter().filter(|entry| subject(&entry.annotations) == about) {
                if let Err(error) = self.fetch_attestation(repository, entry, &mut holds).await {
                    let error = ErrorChain(&error);
                    tracing::warn!(manifest = %entry.digest, %error, "statements about an image cannot be had");
                }
            }
        }
        holds
    }

    async fn fetch_attestation(
        self: &Arc<Self>,
        repository: &Repository,
        entry: &RegistryDescriptor,
        holds: &mut Vec<Hold>,
    ) -> Result<(), NodeError> {
        let digest = entry.digest;
        holds.push(self.holds.hold([Item::Blob(digest)]));
        if self.content.size(digest).is_none() {
            let manifest = repository.fetch_manifest(&ManifestTarget::Digest(digest)).await?;
            self.block("store a manifest", move |shared| Ok(shared.content.put(&manifest.bytes)?)).await?;
        }
        let media_type = entry.media_type.clone();
        let manifest = self
            .block("read a manifest", move |shared| read_manifest(&shared.content, digest, Some(&media_type)))
            .await?;
        let Some(manifest) = manifest.as_image() else { return Ok(()) };
        let blobs = || std::iter::once(&manifest.config).chain(&manifest.layers);
        holds.push(self.holds.hold(blobs().map(|blob| Item::Blob(blob.digest))));
        for blob in blobs().filter(|blob| blob.size <= MAX_STATEMENT_BYTES) {
            // Waits as long as another pull brings the same.
            let partial = self.content.resume(blob.digest).await;
            if self.content.size(blob.digest).is_none() {
                let mut sink = LayerSink::new(partial, None, IdMapping::default());
                repository.fetch_blob(blob, &mut sink, &()).await?;
            }
        }
        Ok(())
    }
}

/// The manifest that runs best on a machine, whether it is here or not.
fn manifest_for(tree: &ImageTree, machine: &Platform) -> Option<Digest> {
    let images = tree.parts.iter().filter(|part| part.attestation_of.is_none());
    let ranked = images.filter_map(|part| {
        let of_config = part.facts.as_ref().map(|facts| &facts.platform);
        let rank = part.descriptor.platform.as_ref().or(of_config)?.rank_on(machine)?;
        Some((rank, part.descriptor.digest))
    });
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, digest)| digest)
}

/// The statements of an attestation manifest, with their types. Other layers are something else.
fn statement_layers(manifest: &ImageManifest) -> impl Iterator<Item = (&RegistryDescriptor, &str)> {
    let layers = manifest.layers.iter();
    layers.filter_map(|layer| {
        let predicate_type = layer.annotations.get(PREDICATE_TYPE).filter(|kind| !kind.is_empty())?;
        Some((layer, predicate_type.as_str()))
    })
}

fn not_found(message: String) -> NodeError {
    NodeError::Refused { kind: ErrorKind::NotFound, message }
}

//! Sends images to registries.
//!
//! Start reading at [`push`]. Blobs that the registry has, or can link from another repository, are not sent. What is
//! pushed is what a name points to, byte for byte, with one exception: a layer that came here uncompressed is sent
//! compressed, so the manifest that names it is another one.

use std::collections::BTreeSet;
use std::io::SeekFrom;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::{FuturesUnordered, TryStreamExt as _};
use registry_client::{
    BlobReader, BlobSource, Descriptor, LayerCompression, Manifest, ManifestTarget, Progress as BlobProgress,
    PushedBlob, Repository, media_type,
};
use shoal_types::{Digest, ErrorKind, ImageId, ImageRef, Platform};
use tokio::io::AsyncSeekExt as _;

use super::Shared;
use super::catalog::{Catalog, Change, Target};
use super::holds::Item;
use super::make::manifest_bytes;
use super::record::CompressedLayer;
use super::stream::Out;
use super::tree::{Fit, ImageTree, Part, read_manifest};
use crate::api::images::{LayerPhase, Progress, PushRequest};
use crate::content::ContentStore;
use crate::error::NodeError;
use crate::layers::gzip::GzipWriter;
use crate::store::Batch;

/// How often the number of bytes is told, as in Docker.
const INTERVAL: Duration = Duration::from_millis(100);

/// Sends one image, or all tags of a repository.
pub(super) async fn push(shared: Arc<Shared>, request: PushRequest, out: Out) -> Result<(), NodeError> {
    let PushRequest { reference, platform, credentials } = request;
    out.tell(Progress::PushingTo { repository: reference.full_name() }).await?;
    let repository = shared.registries.repository(&reference, credentials.unwrap_or_default());
    let references = references(&shared.catalog(), &reference)?;
    for reference in references {
        push_one(&shared, &repository, &reference, platform.as_ref(), &out).await?;
    }
    Ok(())
}

/// The reference, or the tags of a repository.
fn references(catalog: &Catalog, reference: &ImageRef) -> Result<Vec<ImageRef>, NodeError> {
    if reference.tag().is_some() || reference.digest().is_some() {
        return Ok(vec![reference.clone()]);
    }
    let tags: Vec<ImageRef> = catalog
        .names()
        .map(|(name, _)| name)
        .filter(|name| name.digest().is_none() && name.repository() == *reference)
        .cloned()
        .collect();
    if tags.is_empty() {
        let message = format!("An image does not exist locally with the tag: {}", reference.familiar_name());
        return Err(NodeError::Refused { kind: ErrorKind::NotFound, message });
    }
    Ok(tags)
}

/// What is sent for one name.
struct Parcel {
    /// Blobs, each once, layers marked.
    blobs: Vec<(Descriptor, BlobRole)>,
    /// Manifests that an index names; they go before it.
    parts: Vec<Manifest>,
    /// What the name will point to.
    target: Manifest,
    /// Layers that were compressed for this push.
    compressed: Vec<(Digest, CompressedLayer)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlobRole {
    /// Shown to the user, by this digest: a layer that is compressed for the push is shown as the user knows it.
    Layer(Digest),
    /// Not shown.
    Config,
}

async fn push_one(
    shared: &Arc<Shared>,
    repository: &Repository,
    reference: &ImageRef,
    platform: Option<&Platform>,
    out: &Out,
) -> Result<(), NodeError> {
    let (id, target) = {
        let catalog = shared.catalog();
        let known = catalog.named(reference).map(|record| record.target);
        let found = known.and_then(|id| catalog.target(&id).cloned().map(|target| (id, target)));
        found.ok_or_else(|| NodeError::Refused {
            kind: ErrorKind::NotFound,
            message: format!("tag does not exist: {}", reference.familiar()),
        })?
    };
    let _lease = shared.lease(&target.tree);
    let chosen = choose(&target.tree, shared, platform, reference)?;
    let parcel = pack_parcel(shared, &target, chosen, out).await?;
    let _compressed = shared.holds.hold(parcel.compressed.iter().map(|(_, layer)| Item::Blob(layer.digest)));
    push_blobs(shared, repository, reference, &parcel, out).await?;
    for part in &parcel.parts {
        repository.push_manifest(part, &ManifestTarget::Digest(part.digest())).await?;
    }
    let pushed = repository.push_manifest(&parcel.target, &ManifestTarget::of(reference)).await?;
    remember(shared, id, reference, &parcel).await?;
    shared.tell_transfer("push", &id, reference);
    if let (Some(tag), None) = (reference.tag(), reference.digest()) {
        out.tell(Progress::Pushed { tag: tag.to_owned(), digest: pushed.digest, size: pushed.size }).await?;
    }
    Ok(())
}

/// Which manifest or index is sent: all of it if all of it is here, else the part for this machine or for the platform
/// that was asked for. The rules are those of Docker's containerd store.
fn choose(
    tree: &ImageTree,
    shared: &Shared,
    platform: Option<&Platform>,
    reference: &ImageRef,
) -> Result<Digest, NodeError> {
    let has_all = tree.parts.iter().all(|part| part.is_available(&shared.content));
    if platform.is_none() && has_all {
        return Ok(tree.target.digest);
    }
    let chosen = match platform {
        Some(platform) => tree.choose(platform, Fit::Exact),
        None => tree.choose(&shared.platform, Fit::Any),
    };
    match chosen {
        Some((part, _)) if part.is_available(&shared.content) => Ok(part.descriptor.digest),
        _ => {
            let wanted = platform.map_or_else(
                || "any platform".to_owned(),
                |platform| format!("the specified platform ({platform})"),
            );
            let message = format!(
                "image with reference {} was found but does not provide {wanted}",
                reference.familiar()
            );
            Err(NodeError::Refused { kind: ErrorKind::NotFound, message })
        }
    }
}

/// Collects what must be sent, and compresses what came uncompressed.
async fn pack_parcel(
    shared: &Arc<Shared>,
    target: &Target,
    chosen: Digest,
    out: &Out,
) -> Result<Parcel, NodeError> {
    let tree = &target.tree;
    if let Some(part) = tree.part(chosen) {
        return pack_part(shared, target, part, out).await;
    }
    let media_type = tree.target.media_type.clone();
    let blobs = unique_blobs(tree.parts.iter());
    tell_preparing(&blobs, out).await?;
    let parts: Vec<(Digest, String)> =
        tree.parts.iter().map(|part| (part.descriptor.digest, part.descriptor.media_type.clone())).collect();
    let nested: Vec<Digest> =
        tree.indexes.iter().map(|(digest, _)| *digest).filter(|digest| *digest != chosen).collect();
    shared
        .block("read manifests", move |shared| {
            let mut manifests = Vec::new();
            for (digest, media_type) in &parts {
                manifests.push(read_manifest(&shared.content, *digest, Some(media_type))?);
            }
            for digest in nested {
                manifests.push(read_manifest(&shared.content, digest, None)?);
            }
            let target = read_manifest(&shared.content, chosen, Some(&media_type))?;
            Ok(Parcel { blobs, parts: manifests, target, compressed: Vec::new() })
        })
        .await
}

async fn tell_preparing(blobs: &[(Descriptor, BlobRole)], out: &Out) -> Result<(), NodeError> {
    for (_, role) in blobs {
        if let BlobRole::Layer(shown) = role {
            out.tell_layer(&shown.short(), LayerPhase::Preparing).await?;
        }
    }
    Ok(())
}

fn unique_blobs<'a>(parts: impl Iterator<Item = &'a Part>) -> Vec<(Descriptor, BlobRole)> {
    let mut seen = BTreeSet::new();
    let mut blobs = Vec::new();
    for manifest in parts.filter_map(|part| part.manifest.as_ref()) {
        let layers = manifest.layers.iter().map(|layer| (layer, BlobRole::Layer(layer.digest)));
        for (blob, role) in layers.chain([(&manifest.config, BlobRole::Config)]) {
            if seen.insert(blob.digest) {
                blobs.push((blob.clone(), role));
            }
        }
    }
    blobs
}

/// One manifest. If it names uncompressed layers, another one is made that names their compressed forms.
async fn pack_part(
    shared: &Arc<Shared>,
    target: &Target,
    part: &Part,
    out: &Out,
) -> Result<Parcel, NodeError> {
    let image =
        part.manifest.clone().ok_or_else(|| NodeError::NoSuchImage(part.descriptor.digest.to_string()))?;
    let mut blobs = unique_blobs([part].into_iter());
    tell_preparing(&blobs, out).await?;
    let (digest, media_type) = (part.descriptor.digest, part.descriptor.media_type.clone());
    if image.layers.iter().all(|layer| layer.compression() != LayerCompression::None) {
        let read = move |shared: &Shared| {
            let target = read_manifest(&shared.content, digest, Some(&media_type))?;
            Ok(Parcel { blobs, parts: Vec::new(), target, compressed: Vec::new() })
        };
        return shared.block("read a manifest", read).await;
    }
    let mut layers = Vec::new();
    let mut compressed = Vec::new();
    for layer in &image.layers {
        if layer.compression() != LayerCompression::None {
            layers.push(layer.clone());
            continue;
        }
        let known = target.record.compressed.get(&layer.digest).cloned();
        let known = known.filter(|known| shared.content.size(known.digest).is_some());
        let digest = layer.digest;
        let form = match known {
            Some(known) => known,
            None => shared.block("compress a layer", move |shared| compress(&shared.content, digest)).await?,
        };
        layers.push(Descriptor::new(media_type::OCI_LAYER_GZIP, form.digest, form.size));
        compressed.push((layer.digest, form));
    }
    let config = Descriptor { media_type: media_type::OCI_CONFIG.to_owned(), ..image.config.clone() };
    // Only the registry keeps it; here the image stays what it is.
    let bytes = manifest_bytes(media_type::OCI_MANIFEST, &config, &layers)?;
    let target = Manifest::parse(Some(media_type::OCI_MANIFEST), bytes.into())
        .map_err(|source| NodeError::failed("write a manifest", source))?;
    for (blob, role) in &mut blobs {
        match role {
            BlobRole::Config => blob.clone_from(&config),
            BlobRole::Layer(shown) => {
                let form = image.layers.iter().position(|layer| layer.digest == *shown);
                if let Some(form) = form.and_then(|place| layers.get(place)) {
                    blob.clone_from(form);
                }
            }
        }
    }
    Ok(Parcel { blobs, parts: Vec::new(), target, compressed })
}

fn compress(content: &ContentStore, layer: Digest) -> Result<CompressedLayer, NodeError> {
    let failed = |source: std::io::Error| NodeError::failed(format!("compress layer {layer}"), source);
    let mut plain = content.open_blob(layer)?;
    let mut packer = GzipWriter::new(content.draft()?).map_err(failed)?;
    std::io::copy(&mut plain, &mut packer).map_err(failed)?;
    let draft = packer.finish().map_err(failed)?;
    let size = draft.length();
    Ok(CompressedLayer { digest: draft.commit(None)?, size })
}

async fn push_blobs(
    shared: &Arc<Shared>,
    repository: &Repository,
    reference: &ImageRef,
    parcel: &Parcel,
    out: &Out,
) -> Result<(), NodeError> {
    let sending: FuturesUnordered<_> = parcel
        .blobs
        .iter()
        .map(|(blob, role)| {
            let mounts = shared.mount_sources(blob.digest, reference);
            push_blob(shared, repository, (blob, *role), mounts, out)
        })
        .collect();
    sending.try_collect().await
}

async fn push_blob(
    shared: &Arc<Shared>,
    repository: &Repository,
    (blob, role): (&Descriptor, BlobRole),
    mounts: Vec<String>,
    out: &Out,
) -> Result<(), NodeError> {
    let source = FileSource { content: shared.content.clone(), digest: blob.digest };
    let shown = match role {
        BlobRole::Layer(shown) => Some(shown.short()),
        BlobRole::Config => None,
    };
    let told_at: Mutex<Option<Instant>> = Mutex::new(None);
    let progress = |_: &Digest, progress: BlobProgress| {
        let phase = match progress {
            BlobProgress::Waiting => LayerPhase::Waiting,
            BlobProgress::Pushing { current, total } => LayerPhase::Pushing(current, total),
            _ => return,
        };
        let mut told_at = told_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told_at.is_none_or(|told_at| told_at.elapsed() >= INTERVAL);
        if let Some(shown) = &shown
            && (is_due || phase == LayerPhase::Waiting)
        {
            *told_at = Some(Instant::now());
            out.tell_if_room(shown, phase);
        }
    };
    let pushed = repository.push_blob(blob, &source, &mounts, &progress).await?;
    let Some(shown) = shown else { return Ok(()) };
    let phase = match pushed {
        PushedBlob::Existed => LayerPhase::LayerAlreadyExists,
        PushedBlob::Mounted { from } => LayerPhase::MountedFrom(from),
        PushedBlob::Uploaded => LayerPhase::Pushed,
    };
    out.tell_layer(&shown, phase).await
}

/// Records where the content is now, for later mounts, and under which digest if it is another one.
async fn remember(
    shared: &Arc<Shared>,
    id: ImageId,
    reference: &ImageRef,
    parcel: &Parcel,
) -> Result<(), NodeError> {
    let repository = reference.full_name();
    let compressed = parcel.compressed.clone();
    let pushed = parcel.target.digest();
    shared
        .change(move |catalog| {
            // Removed meanwhile: there is nothing to remember it for.
            let Some(target) = catalog.target(&id) else { return Ok((Vec::new(), Batch::new(), ())) };
            let mut target = target.clone();
            target.record.sources.insert(repository.clone());
            if !compressed.is_empty() {
                target.record.pushed_as.insert((repository, pushed));
                target.record.compressed.extend(compressed);
            }
            Ok((vec![Change::Target(id, Box::new(target))], Batch::new(), ()))
        })
        .await
}

impl Shared {
    /// Repositories of the same registry that are known to have a blob.
    fn mount_sources(&self, blob: Digest, reference: &ImageRef) -> Vec<String> {
        let catalog = self.catalog();
        let holders = catalog.targets().map(|(_, target)| target).filter(|target| {
            !target.record.sources.is_empty()
                && (target.tree.blobs().contains(&blob)
                    || target.record.compressed.values().any(|layer| layer.digest == blob))
        });
        let sources =
            holders.flat_map(|target| &target.record.sources).filter_map(|name| ImageRef::parse(name).ok());
        let mut paths: Vec<String> = sources
            .filter(|source| source.domain() == reference.domain() && source.path() != reference.path())
            .map(|source| source.path().to_owned())
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

/// A blob of the content store.
struct FileSource {
    content: ContentStore,
    digest: Digest,
}

#[async_trait]
impl BlobSource for FileSource {
    async fn open(&self, offset: u64) -> std::io::Result<BlobReader> {
        let (content, digest) = (self.content.clone(), self.digest);
        let opened =
            tokio::task::spawn_blocking(move || content.open_blob(digest).map_err(std::io::Error::other));
        let mut file = tokio::fs::File::from_std(opened.await.map_err(std::io::Error::other)??);
        file.seek(SeekFrom::Start(offset)).await?;
        // tokio's own default of 2 MiB at a time would make progress jump.
        file.set_max_buf_size(256 << 10);
        Ok(Box::new(file))
    }
}

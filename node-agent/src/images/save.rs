//! Packs images as one archive that every engine reads: an OCI layout that is Docker's own format as well.
//!
//! Start reading at [`save`]. The same images give the same bytes: entries are sorted, times are zero. Blobs are what they
//! are in the content store, so digests survive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_client::media_type;
use serde::Serialize;
use shoal_types::{Digest, ErrorKind, ImageId, ImageRef, Platform};
use tokio::sync::mpsc;

use super::catalog::Catalog;
use super::resolve::choose;
use super::tree::{Fit, ImageTree, Part};
use super::usage::Lease;
use super::{Shared, refs};
use crate::api::ByteStream;
use crate::api::images::Descriptor;
use crate::error::NodeError;
use crate::layers::archive::{ArchiveWriter, Entry, EntryKind};

/// Annotations by which engines find the name of an image in an index.
const IMAGE_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Size of the pieces in which the archive is sent.
const CHUNK_LEN: usize = 128 << 10;
/// How many pieces may wait for the client.
const QUEUE_LEN: usize = 8;

/// What the archive will hold.
struct Archive {
    /// Descriptors for `index.json`.
    index: Vec<IndexEntry>,
    /// Entries for `manifest.json`, by config so that an image with several names is one.
    legacy: Vec<LegacyImage>,
    /// Entries for `repositories`.
    repositories: BTreeMap<String, BTreeMap<String, String>>,
    /// Blobs that are here.
    blobs: BTreeSet<Digest>,
    _leases: Vec<Lease>,
}

/// One image to pack.
struct Wanted {
    id: ImageId,
    name: Option<ImageRef>,
    tree: Arc<ImageTree>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexDocument<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'a [IndexEntry],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LegacyImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Packs images. Fails before the first byte if one of them does not exist.
pub(super) async fn save(
    shared: &Arc<Shared>,
    names: &[String],
    platforms: &[Platform],
) -> Result<ByteStream, NodeError> {
    let archive = plan(shared, names, platforms)?;
    let (sender, received) = mpsc::channel(QUEUE_LEN);
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || {
        let sink = io::BufWriter::with_capacity(CHUNK_LEN, ChunkSink { chunks: sender.clone() });
        if let Err(error) = write(&shared, &archive, sink) {
            // A client that went away does not need to be told.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let chunks = futures_util::stream::unfold(received, |mut received| async move {
        received.recv().await.map(|chunk| (chunk, received))
    });
    Ok(chunks.boxed())
}

fn plan(shared: &Shared, names: &[String], platforms: &[Platform]) -> Result<Archive, NodeError> {
    let wanted = {
        let catalog = shared.catalog();
        let mut wanted = Vec::new();
        for name in names {
            wanted.extend(find(&catalog, name)?);
        }
        wanted
    };
    let mut archive = Archive {
        index: Vec::new(),
        legacy: Vec::new(),
        repositories: BTreeMap::new(),
        blobs: BTreeSet::new(),
        _leases: wanted.iter().map(|image| shared.lease(&image.tree)).collect(),
    };
    for image in &wanted {
        archive.add(shared, image, platforms)?;
        shared.tell("save", &image.id, &image.id.to_string());
    }
    archive.blobs.retain(|digest| shared.content.size(*digest).is_some());
    Ok(archive)
}

/// The images of a name: an id or digest without a name, a tag, or all tags of a repository.
fn find(catalog: &Catalog, text: &str) -> Result<Vec<Wanted>, NodeError> {
    let wanted = |id: ImageId, name: Option<ImageRef>| -> Result<Wanted, NodeError> {
        let target = catalog.target(&id).ok_or_else(|| NodeError::NoSuchImage(text.to_owned()))?;
        Ok(Wanted { id, name, tree: Arc::clone(&target.tree) })
    };
    let found = refs::find(catalog, text);
    if let Ok(found) = &found
        && found.name.is_none()
    {
        return Ok(vec![wanted(found.id, None)?]);
    }
    let reference = ImageRef::parse(text)?;
    if reference.tag().is_none() {
        let tags: Vec<(&ImageRef, ImageId)> = catalog
            .names()
            .filter(|(name, _)| name.digest().is_none() && name.repository() == reference)
            .map(|(name, record)| (name, record.target))
            .collect();
        if !tags.is_empty() {
            return tags.into_iter().map(|(name, id)| wanted(id, Some(name.clone()))).collect();
        }
    }
    let found = found?;
    Ok(vec![wanted(found.id, found.name)?])
}

impl Archive {
    fn add(&mut self, shared: &Shared, image: &Wanted, platforms: &[Platform]) -> Result<(), NodeError> {
        let name = image.name.as_ref().map_or_else(|| image.id.to_string(), ImageRef::familiar);
        let chosen: Vec<&Part> = match platforms {
            [] => image.tree.parts.iter().collect(),
            wanted => {
                let parts = wanted.iter().map(|platform| {
                    choose(&image.tree, &shared.platform, Some(platform), &name).map(|(part, _)| part)
                });
                parts.collect::<Result<_, _>>()?
            }
        };
        if !platforms.is_empty() && chosen.iter().any(|part| !part.is_available(&shared.content)) {
            let message = format!("no suitable export target found for image {name}");
            return Err(NodeError::Refused { kind: ErrorKind::NotFound, message });
        }
        // One platform is exported by its own manifest, anything else by what the name points to.
        let target = match (platforms, chosen.as_slice()) {
            ([_], [part]) => &part.descriptor,
            _ => &image.tree.target,
        };
        self.blobs.extend(chosen.iter().flat_map(|part| part.blobs()));
        if target.digest == image.tree.target.digest {
            self.blobs.insert(target.digest);
            self.blobs.extend(image.tree.indexes.iter().map(|(digest, _)| *digest));
        }
        let entry = index_entry(target, image.name.as_ref());
        if !self.index.contains(&entry) {
            self.index.push(entry);
        }
        let best = image
            .tree
            .choose(&shared.platform, Fit::Any)
            .map(|(part, _)| part)
            .filter(|best| chosen.iter().any(|part| part.descriptor.digest == best.descriptor.digest))
            .or_else(|| chosen.iter().copied().find(|part| part.facts.is_some()));
        if let Some(part) = best {
            self.add_legacy(part, image.name.as_ref());
        }
        Ok(())
    }

    fn add_legacy(&mut self, part: &Part, name: Option<&ImageRef>) {
        let Some(manifest) = &part.manifest else { return };
        let path = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
        let config = path(manifest.config.digest);
        let layers: Vec<String> = manifest.layers.iter().map(|layer| path(layer.digest)).collect();
        let tag = name.map(ImageRef::familiar);
        match self.legacy.iter_mut().find(|image| image.config == config && image.layers == layers) {
            Some(image) => image.repo_tags.get_or_insert_default().extend(tag),
            None => {
                let top = manifest.layers.last().map_or(manifest.config.digest, |layer| layer.digest);
                if let Some((name, tag)) = name.and_then(|name| name.tag().map(|tag| (name, tag))) {
                    let tags = self.repositories.entry(name.familiar_name()).or_default();
                    tags.insert(tag.to_owned(), top.hex());
                }
                self.legacy.push(LegacyImage { config, repo_tags: tag.map(|tag| vec![tag]), layers });
            }
        }
    }
}

fn index_entry(target: &Descriptor, name: Option<&ImageRef>) -> IndexEntry {
    let mut annotations = target.annotations.clone();
    annotations.remove(IMAGE_NAME);
    annotations.remove(REF_NAME);
    if let Some(name) = name {
        annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
        annotations.extend(name.tag().map(|tag| (REF_NAME.to_owned(), tag.to_owned())));
    }
    IndexEntry {
        media_type: target.media_type.clone(),
        digest: target.digest,
        size: target.size,
        annotations,
        platform: target.platform.clone(),
    }
}

fn write(shared: &Shared, archive: &Archive, sink: impl Write) -> Result<(), NodeError> {
    let failed = |source: io::Error| NodeError::failed("write an image archive", source);
    let mut tar = ArchiveWriter::new(sink);
    for dir in ["blobs/", "blobs/sha256/"] {
        let entry = Entry { path: dir.into(), kind: EntryKind::Directory, mode: 0o755, ..Entry::default() };
        tar.append(&entry, &mut io::empty()).map_err(failed)?;
    }
    for digest in &archive.blobs {
        let mut blob = shared.content.open_blob(*digest)?;
        let size = shared.content.size(*digest).unwrap_or(0);
        let path = format!("blobs/sha256/{}", digest.hex()).into();
        let entry = Entry { path, size, mode: 0o644, ..Entry::default() };
        tar.append(&entry, &mut blob).map_err(failed)?;
    }
    let index =
        IndexDocument { schema_version: 2, media_type: media_type::OCI_INDEX, manifests: &archive.index };
    let json =
        |document: Result<Vec<u8>, serde_json::Error>| document.map_err(|source| failed(source.into()));
    let mut documents = vec![
        ("index.json", json(serde_json::to_vec(&index))?),
        ("manifest.json", json(serde_json::to_vec(&archive.legacy))?),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ];
    if !archive.repositories.is_empty() {
        documents.push(("repositories", json(serde_json::to_vec(&archive.repositories))?));
    }
    for (name, bytes) in documents {
        let entry = Entry { path: name.into(), size: bytes.len() as u64, mode: 0o644, ..Entry::default() };
        tar.append(&entry, &mut bytes.as_slice()).map_err(failed)?;
    }
    tar.finish().map(drop).map_err(failed)
}

struct ChunkSink {
    chunks: mpsc::Sender<Result<Bytes, NodeError>>,
}

impl Write for ChunkSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Bytes::copy_from_slice(bytes);
        self.chunks.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

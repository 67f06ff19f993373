//! New images from the changes of a container.
//!
//! Start reading at [`ImageStore::commit_layer`]. The container's own side (freezing it, its `commit` event) is the
//! containers' business.

use std::sync::Arc;

use jiff::Timestamp;
use registry_client::{Descriptor, PlatformSpec, media_type};
use serde_json::value::to_raw_value;
use shoal_types::{ChainId, Digest, ImageId, ImageRef};

use super::config::{HistoryItem, ImageConfig, RootFs};
use super::holds::{Hold, Item};
use super::make::store_image;
use super::record::TargetRecord;
use super::tree::{ImageTree, read_config};
use super::{ImageStore, Shared, instructions};
use crate::api::images::ImageRunConfig;
use crate::error::NodeError;
use crate::layers::SnapshotKey;
use crate::layers::chain::extend;
use crate::layers::pack::pack;
use crate::layers::unpack::Unpacked;

/// Length of an archive with nothing in it.
const EMPTY_ARCHIVE_LEN: u64 = 1024;

/// What a new image is made of.
#[derive(Debug, Clone)]
pub struct CommitLayer {
    /// The image that the container stands on; `None` if it has none (a build from scratch).
    pub parent: Option<ImageId>,
    /// The manifest of the parent's platform.
    pub parent_manifest: Option<Digest>,
    /// The container's writable layer; `None` makes an image that adds only configuration.
    pub snapshot: Option<SnapshotKey>,
    /// The new image's configuration, before `changes`.
    pub config: ImageRunConfig,
    /// Dockerfile instructions that change it.
    pub changes: Vec<String>,
    /// What is filled in where `config` and `changes` say nothing: the container's own configuration.
    pub underlying: ImageRunConfig,
    /// Who made it; empty takes the parent's.
    pub author: String,
    /// Why.
    pub comment: String,
    /// By which command, for the history.
    pub created_by: String,
    /// The name it gets; `None` leaves it dangling.
    pub reference: Option<ImageRef>,
}

/// A layer that was made here and belongs to no image yet.
pub(super) struct NewLayer {
    pub(super) blob: Descriptor,
    pub(super) unpacked: Unpacked,
    /// Keeps it until the image is recorded.
    pub(super) _hold: Hold,
}

/// What a new image stands on.
struct Parent {
    config: ImageConfig,
    layers: Vec<Descriptor>,
    chain: Option<ChainId>,
    _hold: Hold,
}

impl ImageStore {
    /// Makes an image: packs the writable layer, writes config and manifest, names it. Publishes `create`, and `tag` if it
    /// gets a name.
    pub async fn commit_layer(&self, wish: CommitLayer) -> Result<ImageId, NodeError> {
        let shared = &self.shared;
        let config = instructions::apply(wish.config.clone(), &wish.changes)?;
        let config = fill_in(config, &wish.underlying);
        let mut parent = shared.parent(wish.parent, wish.parent_manifest).await?;
        let layer = match wish.snapshot.clone() {
            Some(snapshot) => shared.pack_snapshot(snapshot, parent.chain).await?,
            None => None,
        };
        let now = Timestamp::now();
        let document = &mut parent.config;
        if !wish.author.is_empty() {
            document.author = wish.author;
        }
        document.created = Some(now);
        document.docker_version = String::new();
        let raw =
            to_raw_value(&config).map_err(|source| NodeError::failed("write an image config", source))?;
        document.config = Some(raw);
        document.history.push(HistoryItem {
            created: Some(now),
            created_by: wish.created_by,
            author: document.author.clone(),
            comment: wish.comment,
            empty_layer: layer.is_none(),
        });
        if let Some(layer) = &layer {
            document.rootfs.diff_ids.push(layer.unpacked.diff_id);
            parent.layers.push(layer.blob.clone());
        }
        let id =
            shared.record_new(parent.config, parent.layers, (wish.parent, wish.reference.clone())).await?;
        shared.tell("create", &id, &id.to_string());
        if let Some(reference) = wish.reference {
            shared.tell("tag", &id, &reference.with_default_tag().familiar());
        }
        Ok(id)
    }
}

impl Shared {
    async fn parent(
        self: &Arc<Self>,
        id: Option<ImageId>,
        manifest: Option<Digest>,
    ) -> Result<Parent, NodeError> {
        let Some(id) = id else {
            return Ok(Parent {
                config: new_config(&self.platform),
                layers: Vec::new(),
                chain: None,
                _hold: self.holds.hold([]),
            });
        };
        let (tree, hold) = {
            let catalog = self.catalog();
            let tree = self.tree(&catalog, &id)?;
            let items =
                tree.blobs().into_iter().map(Item::Blob).chain(tree.chains().into_iter().map(Item::Layer));
            let hold = self.holds.hold(items);
            (tree, hold)
        };
        let part = tree.part(manifest.unwrap_or(id.0));
        let found = part.and_then(|part| part.manifest.clone().zip(part.facts.clone()));
        let (manifest, facts) = found.ok_or_else(|| NodeError::NoSuchImage(id.to_string()))?;
        let digest = manifest.config.digest;
        let config = self
            .block("read an image's configuration", move |shared| read_config(&shared.content, digest))
            .await?;
        Ok(Parent { config, layers: manifest.layers, chain: facts.chains.last().copied(), _hold: hold })
    }

    /// Makes a layer of a container's changes; `None` if there are none.
    async fn pack_snapshot(
        self: &Arc<Self>,
        key: SnapshotKey,
        parent: Option<ChainId>,
    ) -> Result<Option<NewLayer>, NodeError> {
        let staged = self.stage().await?;
        let dir = staged.dir.clone();
        let (unpacked, draft) = self
            .block("pack a container's changes", move |shared| {
                let stack = shared.snapshots.stack(&key)?;
                Ok(pack(&stack, &dir, shared.content.draft()?)?)
            })
            .await?;
        if unpacked.archive_len <= EMPTY_ARCHIVE_LEN {
            return Ok(None);
        }
        self.adopt_layer(staged, unpacked, draft, (parent, media_type::OCI_LAYER_GZIP)).await.map(Some)
    }

    /// Gives a layer that was made here, blob and directory, its names.
    pub(super) async fn adopt_layer(
        self: &Arc<Self>,
        staged: super::fetch::Staged,
        unpacked: Unpacked,
        draft: crate::content::Draft,
        (parent, media_type): (Option<ChainId>, &'static str),
    ) -> Result<NewLayer, NodeError> {
        let chain = extend(parent, unpacked.diff_id);
        let (blob, hold) = self
            .block("store a layer", move |shared| {
                let (digest, length) = (draft.digest(), draft.length());
                // Held before it is there, or a prune could take it at once.
                let hold = shared.holds.hold([Item::Blob(digest), Item::Layer(chain)]);
                draft.commit(Some(digest))?;
                Ok((Descriptor::new(media_type, digest, length), hold))
            })
            .await?;
        self.commit_layer_dir(staged, unpacked.clone(), chain, parent).await?;
        Ok(NewLayer { blob, unpacked, _hold: hold })
    }

    /// Stores and records an image that was made here, all of whose layers are held.
    pub(super) async fn record_new(
        self: &Arc<Self>,
        config: ImageConfig,
        layers: Vec<Descriptor>,
        (parent, reference): (Option<ImageId>, Option<ImageRef>),
    ) -> Result<ImageId, NodeError> {
        let (record, tree, hold) = self
            .block("store an image", move |shared| {
                let stored = store_image(&mut |bytes| Ok(shared.content.put(bytes)?), &config, &layers)?;
                let id = ImageId(stored.manifest);
                let tree = ImageTree::read(&shared.content, id, media_type::OCI_MANIFEST)?;
                let hold = shared.holds.hold(tree.blobs().into_iter().map(Item::Blob));
                let record =
                    TargetRecord { parent, ..TargetRecord::new(media_type::OCI_MANIFEST, stored.size) };
                Ok((record, tree, hold))
            })
            .await?;
        let id = ImageId(tree.target.digest);
        let names = reference.into_iter().map(ImageRef::with_default_tag).collect();
        self.record_image(record, tree, names).await?;
        drop(hold);
        Ok(id)
    }
}

/// The config of an image that stands on nothing.
pub(super) fn new_config(platform: &shoal_types::Platform) -> ImageConfig {
    let variant = Some(platform.variant.clone()).filter(|variant| !variant.is_empty());
    ImageConfig {
        platform: PlatformSpec {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant,
            ..PlatformSpec::default()
        },
        created: None,
        author: String::new(),
        docker_version: String::new(),
        config: None,
        rootfs: RootFs::default(),
        history: Vec::new(),
    }
}

/// Fills in from the container what the new configuration leaves open, as Docker's commit does.
fn fill_in(mut config: ImageRunConfig, below: &ImageRunConfig) -> ImageRunConfig {
    let known: Vec<String> =
        config.env.iter().flatten().filter_map(|pair| pair.split('=').next()).map(str::to_owned).collect();
    let missing = below
        .env
        .iter()
        .flatten()
        .filter(|pair| !known.iter().any(|key| pair.split('=').next() == Some(key)));
    let missing: Vec<String> = missing.cloned().collect();
    if !missing.is_empty() {
        config.env.get_or_insert_default().extend(missing);
    }
    for (key, value) in below.labels.iter().flatten() {
        config.labels.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
    }
    for port in below.exposed_ports.iter().flatten() {
        config.exposed_ports.get_or_insert_default().entry(port.0.clone()).or_insert(*port.1);
    }
    for volume in below.volumes.iter().flatten() {
        config.volumes.get_or_insert_default().entry(volume.0.clone()).or_insert(*volume.1);
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&below.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&below.entrypoint);
        }
    }
    for (text, default) in [
        (&mut config.user, &below.user),
        (&mut config.working_dir, &below.working_dir),
        (&mut config.stop_signal, &below.stop_signal),
    ] {
        if text.is_empty() {
            text.clone_from(default);
        }
    }
    config.healthcheck = config.healthcheck.or_else(|| below.healthcheck.clone());
    config.shell = config.shell.or_else(|| below.shell.clone());
    config.stop_timeout = config.stop_timeout.or(below.stop_timeout);
    config
}

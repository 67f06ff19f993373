//! Images against a registry in memory, a real store and real directories. Root is needed where layers have devices.

mod archives;
mod boot;
mod pull;
mod push;
mod remove;

use std::path::PathBuf;

use bytes::Bytes;
use futures_util::StreamExt as _;
use registry_client::testing::{FaultyRegistry, TestImage};
use registry_client::{Descriptor, Manifest, RegistryConfig, digest_of, media_type};
use serde_json::json;
use shoal_types::{ContainerId, ImageId, ImageRef, Platform};

use super::*;
use crate::api::ByteSource;
use crate::api::events::{Event, EventWindow, Events as _};
use crate::api::images::{
    ImageQuery, ImageTransfers as _, Images as _, LoadRequest, Progress, ProgressStream, PullRequest,
    Removal, RemoveImage,
};
use crate::layers::archive::{Entry, EntryKind};
use crate::layers::testing::{dir, file, is_root, link, pack, tree};
use crate::userns::IdMapping;

/// A node's images on a temporary disk, and what is needed to open them again.
struct Node {
    images: ImageStore,
    store: Store,
    events: EventLog,
    dir: tempfile::TempDir,
}

impl Node {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("engine.redb")).unwrap();
        let events = EventLog::new();
        let images = Self::open(&dir, &store, &events).await;
        Self { images, store, events, dir }
    }

    async fn open(dir: &tempfile::TempDir, store: &Store, events: &EventLog) -> ImageStore {
        let mut registries = RegistryConfig::default();
        registries.limits.attempts = 1;
        registries.timeouts.first_retry = Duration::from_millis(1);
        let settings = ImageSettings {
            figures: Figures::default(),
            ids: IdMapping::default(),
            container_size: None,
            data_root: dir.path().to_owned(),
            registries,
            platform: Platform::new("linux", "amd64", ""),
        };
        ImageStore::open(settings, store.clone(), events.clone()).await.unwrap()
    }

    /// What the next daemon finds. What the last one has in memory is lost; what it is doing goes on in vain.
    async fn reopened(self) -> Self {
        let Self { images, store, events, dir } = self;
        drop(images);
        let images = Self::open(&dir, &store, &events).await;
        Self { images, store, events, dir }
    }

    async fn pull(&self, reference: &ImageRef) -> Result<Vec<Progress>, NodeError> {
        drain(self.images.pull(request(reference)).await?).await
    }

    async fn list(&self) -> Vec<crate::api::images::ImageSummary> {
        self.images.list(ImageQuery { all: true, ..ImageQuery::default() }).await.unwrap()
    }

    async fn tags(&self) -> Vec<String> {
        let tags = self.list().await.into_iter().flat_map(|image| image.tags);
        let mut tags: Vec<String> = tags.map(|tag| tag.familiar()).collect();
        tags.sort();
        tags
    }

    async fn remove(&self, name: &str, force: bool) -> Result<Vec<Removal>, NodeError> {
        self.images.remove(name, RemoveImage { force, ..RemoveImage::default() }).await
    }

    /// A prune leaves nothing. Work that was cancelled may still be finishing its last step, so it is repeated a while.
    async fn assert_nothing_left(&self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            self.images.shared.collect_all().await.unwrap();
            let is_clean = self.images.shared.content.list().unwrap().is_empty()
                && self.images.shared.snapshots.list().is_empty()
                && self.names_in("content/ingest").is_empty();
            if is_clean || std::time::Instant::now() > deadline {
                return self.assert_empty();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Nothing of any image is on disk or in the tables.
    fn assert_empty(&self) {
        let blobs = self.images.shared.content.list().unwrap();
        assert!(blobs.is_empty(), "blobs are left: {blobs:?}");
        let snapshots = self.images.shared.snapshots.list();
        assert!(snapshots.is_empty(), "snapshots are left: {snapshots:?}");
        for table in ["ingests", "snapshots"] {
            let left = match table {
                "ingests" => self.names_in("content/ingest"),
                _ => self.names_in("overlayfs").into_iter().filter(|name| name != "trash").collect(),
            };
            assert!(left.is_empty(), "{table} are left: {left:?}");
        }
        assert!(self.store.load::<NameRecord>().unwrap().is_empty());
        assert!(self.store.load::<TargetRecord>().unwrap().is_empty());
        assert!(self.store.load::<GarbageRecord>().unwrap().is_empty());
        assert!(self.store.load::<crate::layers::SnapshotRecord>().unwrap().is_empty());
    }

    fn names_in(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join(path)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    async fn events_of(&self, action: &str) -> Vec<Arc<Event>> {
        let window =
            EventWindow { since: Some(jiff::Timestamp::UNIX_EPOCH), until: Some(jiff::Timestamp::now()) };
        let events: Vec<_> = self.events.subscribe(window).await.collect().await;
        events.into_iter().filter(|event| event.action == action).collect()
    }

    fn use_by(&self, image: ImageId, name: &str, container: ContainerUse) -> ContainerId {
        let id = ContainerId::random();
        let used =
            ImageUse { image, manifest: image.0, name: name.to_owned(), container, part: UsedPart::Root };
        self.images.use_by(id, vec![used]);
        id
    }
}

fn request(reference: &ImageRef) -> PullRequest {
    PullRequest { reference: reference.clone(), platform: None, credentials: None }
}

async fn drain(mut stream: ProgressStream) -> Result<Vec<Progress>, NodeError> {
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        items.push(item?);
    }
    Ok(items)
}

fn source(bytes: impl Into<Bytes>) -> ByteSource {
    let bytes = bytes.into();
    let pieces: Vec<_> = bytes.chunks(10_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    futures_util::stream::iter(pieces).boxed()
}

type Files = Vec<(Entry, Vec<u8>)>;

fn gzip(bytes: &[u8]) -> Bytes {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}

/// An image of these layers, with the diff ids that they have.
fn image(layers: &[Files]) -> TestImage {
    let archives: Vec<Vec<u8>> = layers.iter().map(|files| pack(files)).collect();
    image_of("amd64", &archives, &archives)
}

/// An image of one layer for an architecture.
fn image_for(architecture: &str, files: &[(Entry, Vec<u8>)]) -> TestImage {
    let archives = vec![pack(files)];
    image_of(architecture, &archives, &archives)
}

/// An image whose config claims that its layers are `claimed`.
fn image_of(architecture: &str, archives: &[Vec<u8>], claimed: &[Vec<u8>]) -> TestImage {
    let diff_ids: Vec<String> = claimed.iter().map(|archive| digest_of(archive).to_string()).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2024-05-06T07:08:09Z",
        "config": {"Cmd": ["true"], "Labels": {"made": "here"}, "User": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|_| json!({"created_by": "a step"})).collect::<Vec<_>>(),
    });
    let config = Bytes::from(config.to_string());
    let layers: Vec<Bytes> = archives.iter().map(|archive| gzip(archive)).collect();
    let describe =
        |media_type: &str, bytes: &Bytes| Descriptor::new(media_type, digest_of(bytes), bytes.len() as u64);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": describe(media_type::OCI_CONFIG, &config),
        "layers": layers.iter().map(|layer| describe(media_type::OCI_LAYER_GZIP, layer)).collect::<Vec<_>>(),
    });
    let manifest = Manifest::parse(None, Bytes::from(manifest.to_string())).unwrap();
    TestImage { layers, config, manifest }
}

/// Two layers: the second replaces, deletes, and adds below a directory that it does not have itself.
fn two_layers() -> Vec<Files> {
    let tmp = Entry { mode: 0o1777, uid: 7, ..dir("tmp").0 };
    vec![
        vec![
            (tmp, Vec::new()),
            dir("etc"),
            file("etc/name", "first"),
            file("etc/gone", "x"),
            file("big", &noise(300_000)),
        ],
        vec![
            file("etc/name", "second"),
            file("etc/.wh.gone", ""),
            file("tmp/added", "y"),
            link(EntryKind::HardLink, "hard", "big"),
        ],
    ]
}

/// Text that does not compress well.
fn noise(length: usize) -> String {
    let mut state = 1u64;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from((state >> 33) % 75).unwrap())
    };
    (0..length).map(|_| step()).collect()
}

async fn registry_with(name: &str, tag: &str, image: &TestImage) -> (FaultyRegistry, ImageRef) {
    let registry = FaultyRegistry::start().await;
    registry.put_image(name, tag, image);
    let reference = registry.image_ref(&format!("{name}:{tag}"));
    (registry, reference)
}

fn phases(items: &[Progress], layer: &Descriptor) -> Vec<String> {
    let id = layer.digest.short();
    let mut phases: Vec<String> = items
        .iter()
        .filter_map(|item| match item {
            Progress::Layer { id: other, phase } if *other == id => {
                Some(format!("{phase:?}").split('(').next().unwrap().to_owned())
            }
            _ => None,
        })
        .collect();
    phases.dedup();
    phases
}

fn upper(resolved: &Resolved, layer_idx_from_top: usize) -> PathBuf {
    resolved.layer_dirs[layer_idx_from_top].clone()
}

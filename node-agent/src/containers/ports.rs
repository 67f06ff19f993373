//! The seams of the container engine: what it needs of networks, volumes, images and host mounts.
//!
//! Start reading at [`Seams`], the bundle that the engine is made with. The traits are declared here, by the one who
//! calls, because each has a second implementation for tests (`fakes/`); the real ones live with their owners in
//! `networks/`, `volumes/` and `images/`. Shims have a seam of their own, [`crate::shim_client::Shims`].
//!
//! Rules for every implementation:
//!
//! - Calls for one container never overlap: its actor makes them, one after the other, except where a method says so.
//! - Every method may be repeated after a crash or a failure and then completes what is missing.
//! - A method that fails has undone what it did. Teardown never stops at the first error; it returns the list.
//! - Events about single containers (`connect`, `disconnect`, `mount`, `unmount`) are published by the engine, which
//!   knows their order. Events about the objects themselves (`create`, `destroy`) are the implementation's.
//! - Futures are never dropped half-way: the actor awaits them to the end.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shoal_types::container::mounts::{MountAccess, MountSpec};
use shoal_types::container::networking::{EndpointSpec, NetworkingSpec};
use shoal_types::container::state::{EndpointStatus, MountPoint, PublishedPort};
use shoal_types::{ChainId, ContainerId, Digest, ImageId, NetworkId, Platform, SandboxId};

use crate::api::containers::RootSizes;
use crate::api::images::{Descriptor, ImageRunConfig};
use crate::error::NodeError;
use crate::events::EventLog;
use crate::figures::Figures;
use crate::shim_client::Shims;
use crate::store::{Batch, Store};
use crate::userns::IdMapping;

/// Everything that the engine calls. Made once, at boot.
#[derive(Debug, Clone)]
pub struct Seams {
    /// The state database.
    pub store: Store,
    /// The event log.
    pub events: EventLog,
    /// Shims.
    pub shims: Arc<dyn Shims>,
    /// Images and root file systems.
    pub images: Arc<dyn ContainerImages>,
    /// Networks.
    pub networks: Arc<dyn ContainerNetworks>,
    /// Volumes and other mounts.
    pub volumes: Arc<dyn ContainerVolumes>,
    /// Mounts that the engine itself makes on the host.
    pub mounter: Arc<dyn HostMounter>,
    /// Where what is done is counted and timed.
    pub figures: Figures,
}

/// What containers need of networks: policy and records of endpoints, and the kernel's state behind them.
///
/// A start calls [`plan`](Self::plan), then, while the shim prepares the process, [`connect`](Self::connect), and
/// exactly one [`disconnect`](Self::disconnect) after the exit or on failure. A container that shares another's
/// namespace (`container:ID`) never comes here after [`prepare`](Self::prepare).
#[async_trait]
pub trait ContainerNetworks: Send + Sync + fmt::Debug {
    /// Checks the wishes when a container is made or changed, without touching the kernel, and completes them: keys
    /// become names of networks, and the network of the mode is always there. A network that does not exist (yet) is
    /// kept as it was written; the start will refuse it. Must not fail with kind *not found*.
    async fn prepare(&self, request: &NetworkRequest) -> Result<PreparedNetworks, NodeError>;

    /// Decides everything that the container's files and runtime spec depend on: allocates addresses and makes the
    /// empty network namespace. A network that does not exist is [`NodeError::NoSuchNetwork`].
    async fn plan(&self, request: &NetworkRequest) -> Result<NetworkPlan, NodeError>;

    /// Plumbs what [`plan`](Self::plan) has decided: interfaces, routes, rules, published ports, names. When it
    /// fails the plan still stands and [`disconnect`](Self::disconnect) follows.
    async fn connect(&self, container: ContainerId) -> Result<NetworkRun, NodeError>;

    /// Gives back everything since the plan: names, ports, rules, interfaces, namespace, addresses. Succeeds when
    /// there is nothing.
    async fn disconnect(&self, container: ContainerId) -> Vec<NodeError>;

    /// Connects a running container to one more network.
    async fn join(
        &self,
        request: &NetworkRequest,
        network: &str,
        endpoint: &EndpointSpec,
    ) -> Result<NetworkRun, NodeError>;

    /// Disconnects a running container from one network.
    async fn leave(&self, request: &NetworkRequest, network: &str) -> Result<NetworkRun, NodeError>;

    /// What stands in the files of a container that is planned or connected, as things are now. The engine asks again
    /// whenever the container's networks or the containers it links to have changed.
    async fn files(&self, request: &NetworkRequest) -> Result<NetworkFiles, NodeError>;

    /// Tells that a running container has another name, under which it shall be found from now on.
    async fn rename(&self, request: &NetworkRequest) -> Result<NetworkRun, NodeError>;

    /// Brings the kernel to what these running containers had when the daemon went, and nothing else. Called once,
    /// at boot, before any other method but `prepare`. Those whose namespace is gone are left out of the result. Fails
    /// only if the settings of the predefined networks cannot be followed.
    async fn restore(
        &self,
        running: Vec<(NetworkRequest, NetworkRun)>,
    ) -> Result<BTreeMap<ContainerId, NetworkRun>, NodeError>;

    /// Ends everything that is kept of a container, because it is being removed.
    async fn forget(&self, container: ContainerId);
}

/// What networks are told about a container.
#[derive(Debug, Clone)]
pub struct NetworkRequest {
    /// The container.
    pub container: ContainerId,
    /// Its name, without slash.
    pub name: String,
    /// Its host name, never empty unless it has none of its own.
    pub hostname: String,
    /// Its NIS domain name, mostly empty.
    pub domainname: String,
    /// The wishes: as the client sent them for `prepare`, as `prepare` completed them afterwards.
    pub networking: NetworkingSpec,
    /// Kernel parameters of the network namespace (`net.*`).
    pub sysctls: Vec<(String, String)>,
    /// Whose the network namespace is.
    pub owner: NamespaceOwner,
    /// Containers that it links to in the old way.
    pub links: Vec<LinkTarget>,
}

/// Whose root has a network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamespaceOwner {
    /// The host's.
    #[default]
    Host,
    /// That of a user namespace of the container's own.
    Container,
    /// That of the user namespace of the process with this id, of which more is shared.
    Peer(u32),
}

/// A container that another one links to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTarget {
    /// The container.
    pub container: ContainerId,
    /// Its name, without slash.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// What the linking container calls it.
    pub alias: String,
}

/// The wishes of a container about networks, checked and completed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PreparedNetworks {
    /// What is asked for at each network, by the network's name.
    pub endpoints: BTreeMap<String, EndpointSpec>,
    /// What inspect shows of each while the container does not run: the network's id and nothing else.
    pub statuses: BTreeMap<String, EndpointStatus>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// What a container's files and runtime spec need to know of its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    /// The namespace.
    pub sandbox: SandboxRecord,
    /// What stands in the container's files.
    pub files: NetworkFiles,
}

/// The files by which a container's programs find names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkFiles {
    /// Content of /etc/hosts.
    pub hosts: String,
    /// Content of /etc/resolv.conf.
    pub resolv_conf: String,
}

/// The network namespace of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its id.
    pub id: SandboxId,
    /// Where it is pinned; `None` is the host's own namespace.
    pub netns: Option<PathBuf>,
}

/// What became of a plan. The engine keeps it with the run and hands it back after a restart of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRun {
    /// The namespace.
    pub sandbox: SandboxRecord,
    /// The networks, in the order in which they were joined.
    pub joined: Vec<JoinedNetwork>,
    /// Ports that lead to the container.
    pub published: Vec<PublishedPort>,
    /// What the implementation must remember; opaque to the engine.
    pub memory: serde_json::Value,
}

/// One network that a running container has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedNetwork {
    /// The network.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Name of its driver, which events show as its type.
    pub driver: String,
    /// The endpoint.
    pub status: EndpointStatus,
}

/// What containers need of volumes, binds, tmpfs and image mounts.
///
/// A container *refers* to its volumes from [`resolve`](Self::resolve) to [`release`](Self::release) and *uses* them
/// from [`mount`](Self::mount) to [`unmount`](Self::unmount).
#[async_trait]
pub trait ContainerVolumes: Send + Sync + fmt::Debug {
    /// Turns wishes into mounts when a container is made: looks up or makes volumes, names anonymous ones, checks
    /// sources of binds. Overrides are settled: destinations differ, and `VolumesFrom` does not occur.
    async fn resolve(
        &self,
        container: ContainerId,
        wishes: Vec<MountWish>,
    ) -> Result<Vec<ResolvedMount>, NodeError>;

    /// Fills volumes that [`resolve`](Self::resolve) said to fill and that are empty from the container's root file
    /// system: files, owners, modes, and the directory's own. `rootfs` is the root directory, for reading; paths are
    /// resolved below it.
    async fn fill(
        &self,
        container: ContainerId,
        mounts: &[ResolvedMount],
        rootfs: OwnedFd,
    ) -> Result<(), NodeError>;

    /// Makes the content available on the host and says where, for everything but tmpfs, in the order of `mounts`.
    /// Makes missing directories of binds whose spec says so; resolves subpaths without leaving the volume.
    async fn mount(
        &self,
        container: ContainerId,
        mounts: &[ResolvedMount],
    ) -> Result<Vec<HostMount>, NodeError>;

    /// Ends a use.
    async fn unmount(&self, container: ContainerId, mounts: &[MountPoint]) -> Vec<NodeError>;

    /// Ends a reference; removes the volumes that were made for this container alone, if that is wanted.
    async fn release(
        &self,
        container: ContainerId,
        mounts: &[MountPoint],
        volumes: crate::api::containers::OfVolumes,
    ) -> Vec<NodeError>;

    /// Tells which containers refer to and use what. Called once, at boot, before any other method; what nobody uses
    /// is unmounted.
    async fn restore(&self, holders: Vec<VolumeHolder>);
}

/// A mount that a container shall have.
#[derive(Debug, Clone, PartialEq)]
pub struct MountWish {
    /// What is wished for.
    pub spec: MountSpec,
    /// Where the wish stands in the container's spec; `None` for what came from another container or the image.
    pub spec_index: Option<usize>,
    /// The mount that is taken over, when it came from another container.
    pub inherited: Option<MountPoint>,
}

/// A mount that a container has.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedMount {
    /// What inspect shows, and what is persisted.
    pub point: MountPoint,
    /// The wish behind it, for what only the wish knows.
    pub spec: Option<MountSpec>,
    /// Whether an empty volume shall be filled from the image.
    pub fill: Fill,
}

/// Whether a volume is filled from the image when it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// It is.
    IfEmpty,
    /// It is not.
    Never,
}

/// Where a mount's content is on the host while it is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMount {
    /// Path inside the container.
    pub destination: String,
    /// Path on the host to bind.
    pub source: PathBuf,
    /// Whether it can be written to.
    pub access: MountAccess,
}

/// What a container holds at boot.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeHolder {
    /// The container.
    pub container: ContainerId,
    /// Its mounts.
    pub mounts: Vec<MountPoint>,
    /// Whether it runs, and so uses them.
    pub hold: Hold,
}

/// How a container holds what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It names it.
    Refers,
    /// It runs with it.
    Uses,
}

/// What containers need of images: what to run, and a root file system to run it in.
#[async_trait]
pub trait ContainerImages: Send + Sync + fmt::Debug {
    /// Finds an image by reference, id or id prefix. A missing one is [`NodeError::NoSuchImage`] and the only failure
    /// of kind *not found*, beside that of a platform which the image does not have.
    async fn resolve(&self, image: &str, platform: Option<&Platform>) -> Result<ResolvedImage, NodeError>;

    /// Whether a text still names the image. Cheap: asked for each container of a list.
    fn still_names(&self, image: &str, id: &ImageId) -> bool;

    /// The images that a name means: the one it names, and those that were built on it.
    async fn descendants(&self, image: &str) -> Vec<ImageId>;

    /// Makes the writable layer of a container on top of an image and adds its record to the batch, so that container
    /// and layer become durable together. `None` is an empty root.
    async fn create_rootfs(
        &self,
        container: ContainerId,
        image: Option<&ResolvedImage>,
        options: &BTreeMap<String, String>,
        batch: Batch,
    ) -> Result<(Rootfs, Batch), NodeError>;

    /// Where the root file system is. Directories may have moved since the daemon was last started.
    async fn rootfs(&self, container: ContainerId) -> Result<Rootfs, NodeError>;

    /// Keeps the layers of a mounted image as long as the container has its writable layer, even if the image is
    /// removed meanwhile; adds the record of that to the batch. `place` is the mount's among those of the container.
    async fn pin(
        &self,
        container: ContainerId,
        place: usize,
        chain: ChainId,
        batch: Batch,
    ) -> Result<Batch, NodeError>;

    /// The directories of a mounted image's layers, topmost first. As with [`rootfs`](Self::rootfs), they may have moved.
    async fn layers(&self, chain: ChainId) -> Result<Vec<PathBuf>, NodeError>;

    /// Removes the writable layer and what was pinned with it, and adds the deletion of their records to the batch;
    /// succeeds when there is none.
    async fn remove_rootfs(&self, container: ContainerId, batch: Batch) -> Result<Batch, NodeError>;

    /// How large the writable layer and the whole are.
    async fn rootfs_sizes(&self, container: ContainerId) -> Result<RootSizes, NodeError>;

    /// Registers which image a container uses and whether it runs, replacing what was registered before. Called at
    /// creation, start, exit and boot.
    fn hold(&self, container: ContainerId, hold: ImageHold);

    /// Forgets what a container uses.
    fn release(&self, container: ContainerId);

    /// Removes writable layers of containers that are not among these. Called once, at boot.
    async fn retain_rootfs(&self, containers: &[ContainerId]);

    /// Name of the storage driver.
    fn storage_driver(&self) -> &str;
}

/// An image that was found.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// Its identity.
    pub id: ImageId,
    /// The manifest of its platform.
    pub manifest: Option<Descriptor>,
    /// Its stack of layers; `None` without layers.
    pub chain: Option<ChainId>,
    /// What it runs on.
    pub platform: Platform,
    /// How it is run.
    pub config: ImageRunConfig,
    /// What the user should know.
    pub warning: Option<String>,
    /// Keeps the image from being removed as long as it lives; opaque.
    pub lease: Option<Arc<dyn fmt::Debug + Send + Sync>>,
}

/// How a container uses images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHold {
    /// The image that its root file system stands on.
    pub root: Option<HeldImage>,
    /// The images that it mounts.
    pub mounted: Vec<HeldImage>,
    /// Whether the container runs.
    pub hold: Hold,
}

/// An image that a container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldImage {
    /// The image.
    pub image: ImageId,
    /// The manifest of its platform.
    pub manifest: Option<Digest>,
    /// What the user called it.
    pub name: String,
}

/// What a root file system is made of: an overlay's directories on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rootfs {
    /// Read-only layers, topmost first; at least one.
    pub lowers: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// Overlayfs's scratch directory.
    pub work: PathBuf,
    /// Further mount options, `key` or `key=value`.
    pub options: Vec<String>,
    /// Whose ids the owners of its files are.
    pub ids: IdMapping,
}

/// Mounts that the engine makes on the host itself. Blocking work happens elsewhere than on the caller's thread.
#[async_trait]
pub trait HostMounter: Send + Sync + fmt::Debug {
    /// Mounts a root file system where only the holder of the descriptor sees it, and returns its root directory.
    async fn open_rootfs(&self, rootfs: &Rootfs) -> Result<OwnedFd, NodeError>;

    /// Reads small files of a root file system that is not mounted, each path resolved below its root. What does not
    /// exist, or is no regular file, is `None`; what is larger than any such file is cut off.
    async fn read_files(&self, rootfs: &Rootfs, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>, NodeError>;

    /// The same for the root that a running process sees.
    async fn read_files_of(&self, pid: u32, paths: &[&str]) -> Result<Vec<Option<Vec<u8>>>, NodeError>;

    /// Makes sure that a directory exists below a root file system, with its parents, mode 0755 and this user and group
    /// as owners. A path that is something else is an error of kind *invalid argument*.
    async fn make_directory(&self, rootfs: &OwnedFd, path: &str, owner: (u32, u32)) -> Result<(), NodeError>;

    /// Mounts memory of this many bytes at a directory, for `/dev/shm` that several containers share.
    async fn mount_shm(&self, target: &Path, size: u64, owner: (u32, u32)) -> Result<(), NodeError>;

    /// Unmounts a directory; succeeds when nothing is mounted there.
    async fn unmount(&self, target: &Path) -> Result<(), NodeError>;
}

//! A node that answers every port from a few fixed objects and keeps a list of what it was asked.
//!
//! Start reading at [`Fake`]. It checks nothing: what the engine would refuse is tested with the engine.
#![cfg(test)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use node_agent::NodeError;
use node_agent::api::checkpoints::*;
use node_agent::api::containers::*;
use node_agent::api::events::*;
use node_agent::api::execs::*;
use node_agent::api::files::*;
use node_agent::api::images::*;
use node_agent::api::networks::*;
use node_agent::api::streams::*;
use node_agent::api::system::*;
use node_agent::api::volumes::*;
use node_agent::api::{ByteSource, ByteStream, Node, Pruned};
use registry_client::Credentials;
use shoal_types::container::networking::EndpointSpec;
use shoal_types::network::{Network, NetworkSpec};
use shoal_types::volume::{Volume, VolumeSpec};
use shoal_types::{ContainerId, ExecId, ImageId, ImageRef, NetworkId, Platform};

use crate::objects;

/// The id of the one command that there is.
pub(crate) const EXEC: [u8; 32] = [9; 32];

/// A node made of fixed objects.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    calls: Mutex<Vec<String>>,
    views: Mutex<Vec<Arc<ContainerView>>>,
    failure: Mutex<Option<NodeError>>,
}

impl Fake {
    /// A node with these containers, newest first.
    pub(crate) fn with(views: Vec<ContainerView>) -> Arc<Self> {
        let fake = Self::default();
        *fake.views.lock().unwrap() = views.into_iter().map(Arc::new).collect();
        Arc::new(fake)
    }

    /// The ports.
    pub(crate) fn node(self: &Arc<Self>) -> Node {
        Node {
            containers: self.clone(),
            views: self.clone(),
            streams: self.clone(),
            files: self.clone(),
            checkpoints: self.clone(),
            execs: self.clone(),
            images: self.clone(),
            transfers: self.clone(),
            networks: self.clone(),
            volumes: self.clone(),
            system: self.clone(),
            events: self.clone(),
        }
    }

    /// What was asked, oldest first.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Lets the next call fail.
    pub(crate) fn fail_next(&self, error: NodeError) {
        *self.failure.lock().unwrap() = Some(error);
    }

    fn note(&self, call: impl Into<String>) -> Result<(), NodeError> {
        self.calls.lock().unwrap().push(call.into());
        match self.failure.lock().unwrap().take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Result<Arc<ContainerView>, NodeError> {
        let bare = name.trim_start_matches('/');
        let views = self.views.lock().unwrap();
        let found = views.iter().find(|view| view.name == bare || view.id.to_string().starts_with(bare));
        found.cloned().ok_or_else(|| NodeError::NoSuchContainer(name.to_owned()))
    }
}

#[async_trait]
impl Containers for Fake {
    async fn create(&self, request: CreateContainer) -> Result<Created, NodeError> {
        self.note(format!("create {request:?}"))?;
        let mut view = objects::created(request.name.as_deref().unwrap_or("invented"));
        view.spec = Arc::new(request.spec);
        view.requested = request.requested;
        let id = view.id;
        self.views.lock().unwrap().insert(0, Arc::new(view));
        Ok(Created { id, warnings: Vec::new() })
    }

    async fn start(&self, name: &str) -> Result<(), NodeError> {
        self.note(format!("start {name}"))?;
        self.find(name).map(drop)
    }

    async fn stop(&self, name: &str, options: StopOptions) -> Result<(), NodeError> {
        self.note(format!("stop {name} {options:?}"))?;
        self.find(name).map(drop)
    }

    async fn restart(&self, name: &str, options: StopOptions) -> Result<(), NodeError> {
        self.note(format!("restart {name} {options:?}"))?;
        self.find(name).map(drop)
    }

    async fn kill(&self, name: &str, signal: Option<&str>) -> Result<(), NodeError> {
        self.note(format!("kill {name} {signal:?}"))?;
        self.find(name).map(drop)
    }

    async fn pause(&self, name: &str) -> Result<(), NodeError> {
        self.note(format!("pause {name}"))?;
        self.find(name).map(drop)
    }

    async fn unpause(&self, name: &str) -> Result<(), NodeError> {
        self.note(format!("unpause {name}"))?;
        self.find(name).map(drop)
    }

    async fn rename(&self, name: &str, new_name: &str) -> Result<(), NodeError> {
        self.note(format!("rename {name} {new_name}"))?;
        self.find(name).map(drop)
    }

    async fn update(&self, name: &str, update: ContainerUpdate) -> Result<Vec<String>, NodeError> {
        self.note(format!("update {name} {update:?}"))?;
        self.find(name).map(|_| Vec::new())
    }

    async fn remove(&self, name: &str, options: RemoveOptions) -> Result<(), NodeError> {
        self.note(format!("remove {name} {options:?}"))?;
        self.find(name).map(drop)
    }

    async fn wait(&self, name: &str, condition: WaitCondition) -> Result<ExitFuture, NodeError> {
        self.note(format!("wait {name} {condition:?}"))?;
        self.find(name)?;
        if condition == WaitCondition::NextExit {
            return Ok(Box::pin(std::future::pending()));
        }
        Ok(Box::pin(async { Ok(ExitReport { code: 137, error: None }) }))
    }

    async fn prune(&self, filter: PruneFilter) -> Result<Pruned, NodeError> {
        self.note(format!("prune containers {filter:?}"))?;
        Ok(Pruned::default())
    }
}

#[async_trait]
impl ContainerViews for Fake {
    async fn list(&self, query: ListQuery) -> Result<Vec<Listed>, NodeError> {
        self.note(format!("list {query:?}"))?;
        let sizes = query.with_sizes.then_some(RootSizes { writable: 0, total: 1_982_312 });
        let views = self.views.lock().unwrap();
        Ok(views.iter().map(|view| Listed { view: Arc::clone(view), sizes }).collect())
    }

    async fn inspect(&self, name: &str) -> Result<Arc<ContainerView>, NodeError> {
        self.find(name)
    }

    async fn follow(&self, name: &str) -> Result<BoxStream<'static, Arc<ContainerView>>, NodeError> {
        let view = self.find(name)?;
        Ok(stream::iter([view]).boxed())
    }

    async fn sizes(&self, name: &str) -> Result<RootSizes, NodeError> {
        self.find(name).map(|_| RootSizes { writable: 0, total: 1_982_312 })
    }

    async fn top(&self, name: &str, ps_args: &str) -> Result<ProcessTable, NodeError> {
        self.note(format!("top {name} {ps_args}"))?;
        self.find(name)?;
        Ok(ProcessTable {
            titles: vec!["UID".into(), "PID".into()],
            processes: vec![vec!["root".into(), "1".into()]],
        })
    }
}

#[async_trait]
impl ContainerStreams for Fake {
    async fn attach(&self, name: &str, request: AttachRequest) -> Result<Attachment, NodeError> {
        self.note(format!("attach {name} {request:?}"))?;
        let view = self.find(name)?;
        Ok(echo(view.spec.process.tty))
    }

    async fn resize(&self, name: &str, height: u16, width: u16) -> Result<(), NodeError> {
        self.note(format!("resize {name} {height} {width}"))?;
        self.find(name).map(drop)
    }

    async fn logs(&self, name: &str, query: LogQuery) -> Result<Logs, NodeError> {
        self.note(format!("logs {name} {query:?}"))?;
        let view = self.find(name)?;
        let time: Timestamp = "2026-08-23T10:00:00.000000001Z".parse().unwrap();
        let attributes: Arc<[(String, String)]> = Arc::from([("a".to_owned(), "b".to_owned())]);
        let entry =
            |start, end, source| LogEntry { start, end, source, time, attributes: attributes.clone() };
        let batch = LogBatch {
            data: Bytes::from_static(b"out\nerr\n"),
            entries: vec![entry(0, 4, LogSource::Stdout), entry(4, 8, LogSource::Stderr)],
        };
        Ok(Logs { tty: view.spec.process.tty, batches: stream::iter([Ok(batch)]).boxed() })
    }

    async fn stats(
        &self,
        name: &str,
        mode: StatsMode,
    ) -> Result<BoxStream<'static, Result<StatsSample, NodeError>>, NodeError> {
        self.note(format!("stats {name} {mode:?}"))?;
        let view = self.find(name)?;
        let sample = objects::sample(view.id, &view.name);
        Ok(stream::iter([Ok(sample)]).boxed())
    }
}

/// An attachment that answers every byte, and ends when its input ends.
fn echo(tty: bool) -> Attachment {
    let (near, far) = tokio::io::duplex(64);
    let (output, input) = tokio::io::split(near);
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(far);
        let copied = tokio::io::copy(&mut from, &mut to).await;
        // The answer comes after the input has ended, as of `wc -c`.
        if let Ok(count) = copied {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut to, format!("[{count}]").as_bytes()).await;
        }
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
    });
    Attachment { tty, output: Box::new(output), input: Some(Box::new(input)) }
}

fn bytes(text: &'static str) -> ByteStream {
    Box::pin(stream::iter([Ok(Bytes::from_static(text.as_bytes()))]))
}

async fn drain(mut source: ByteSource) -> usize {
    let mut size = 0;
    while let Some(Ok(chunk)) = source.next().await {
        size += chunk.len();
    }
    size
}

fn path_stat() -> PathStat {
    PathStat {
        name: "etc".into(),
        size: 4096,
        mode: 0o040_755,
        modified: "2026-08-23T10:00:00Z".parse().unwrap(),
        link_target: String::new(),
    }
}

#[async_trait]
impl ContainerFiles for Fake {
    async fn stat(&self, name: &str, path: &str) -> Result<PathStat, NodeError> {
        self.note(format!("stat {name} {path}"))?;
        self.find(name).map(|_| path_stat())
    }

    async fn read_archive(&self, name: &str, path: &str) -> Result<(PathStat, ByteStream), NodeError> {
        self.note(format!("read {name} {path}"))?;
        self.find(name).map(|_| (path_stat(), bytes("archive")))
    }

    async fn write_archive(
        &self,
        name: &str,
        path: &str,
        options: UnpackOptions,
        archive: ByteSource,
    ) -> Result<(), NodeError> {
        let size = drain(archive).await;
        self.note(format!("write {name} {path} {options:?} {size}"))?;
        self.find(name).map(drop)
    }

    async fn export(&self, name: &str) -> Result<ByteStream, NodeError> {
        self.find(name).map(|_| bytes("export"))
    }

    async fn changes(&self, name: &str) -> Result<Vec<PathChange>, NodeError> {
        self.find(name).map(|_| Vec::new())
    }

    async fn commit(&self, name: &str, request: CommitRequest) -> Result<ImageId, NodeError> {
        self.note(format!("commit {name} {request:?}"))?;
        self.find(name).map(|_| objects::image_id())
    }
}

#[async_trait]
impl Execs for Fake {
    async fn create(&self, container: &str, spec: ExecSpec) -> Result<ExecId, NodeError> {
        self.note(format!("exec {container} {spec:?}"))?;
        self.find(container).map(|_| ExecId::from_bytes(EXEC))
    }

    async fn check_start(&self, id: &str) -> Result<(), NodeError> {
        Execs::inspect(self, id).await.map(drop)
    }

    async fn start(&self, id: &str, options: ExecStart) -> Result<Attachment, NodeError> {
        self.note(format!("exec start {id} {options:?}"))?;
        Execs::inspect(self, id).await?;
        Ok(echo(false))
    }

    async fn start_detached(&self, id: &str) -> Result<(), NodeError> {
        self.note(format!("exec detached {id}"))?;
        Execs::inspect(self, id).await.map(drop)
    }

    async fn inspect(&self, id: &str) -> Result<ExecView, NodeError> {
        if id != ExecId::from_bytes(EXEC).to_string() {
            return Err(NodeError::NoSuchExec(id.to_owned()));
        }
        Ok(ExecView {
            id: ExecId::from_bytes(EXEC),
            container: ContainerId::from_bytes([1; 32]),
            spec: ExecSpec { command: vec!["echo".into(), "hi".into()], tty: true, ..ExecSpec::default() },
            running: false,
            exit_code: None,
            pid: 0,
        })
    }

    async fn resize(&self, id: &str, height: u16, width: u16) -> Result<(), NodeError> {
        self.note(format!("exec resize {height} {width}"))?;
        Execs::inspect(self, id).await.map(drop)
    }
}

#[async_trait]
impl Checkpoints for Fake {
    async fn checkpoint(&self, name: &str, wish: CheckpointWish) -> Result<(), NodeError> {
        let CheckpointWish { checkpoint, after } = wish;
        self.note(format!("checkpoint {name} {} {:?} {after:?}", checkpoint.name, checkpoint.root))
    }

    async fn checkpoints(&self, name: &str, root: Option<PathBuf>) -> Result<Vec<String>, NodeError> {
        self.note(format!("checkpoints {name} {root:?}"))?;
        Ok(vec!["first".to_owned()])
    }

    async fn remove_checkpoint(&self, name: &str, checkpoint: CheckpointName) -> Result<(), NodeError> {
        self.note(format!("remove checkpoint {name} {} {:?}", checkpoint.name, checkpoint.root))
    }

    async fn restore(&self, name: &str, checkpoint: CheckpointName) -> Result<(), NodeError> {
        self.note(format!("restore {name} {} {:?}", checkpoint.name, checkpoint.root))
    }
}

#[async_trait]
impl Images for Fake {
    async fn list(&self, query: ImageQuery) -> Result<Vec<ImageSummary>, NodeError> {
        self.note(format!("images {query:?}"))?;
        Ok(vec![objects::image()])
    }

    async fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageView, NodeError> {
        self.note(format!("image {name} {platform:?}"))?;
        if name != "busybox" {
            return Err(NodeError::NoSuchImage(name.to_owned()));
        }
        Ok(objects::image_view())
    }

    async fn history(&self, name: &str, _: Option<&Platform>) -> Result<Vec<HistoryEntry>, NodeError> {
        self.note(format!("history {name}"))?;
        Ok(vec![HistoryEntry {
            id: None,
            created: None,
            created_by: "sh".into(),
            tags: Vec::new(),
            size: 5,
            comment: String::new(),
        }])
    }

    async fn attestations(&self, query: AttestationQuery) -> Result<Vec<AttestationStatement>, NodeError> {
        self.note(format!("attestations {query:?}"))?;
        let statement = serde_json::value::RawValue::from_string("{\"b\":1,\"a\": 2}".to_owned()).unwrap();
        Ok(vec![AttestationStatement {
            descriptor: objects::descriptor(),
            predicate_type: "https://slsa.dev/provenance/v0.2".to_owned(),
            statement: (query.body == StatementBody::Included).then_some(statement),
        }])
    }

    async fn tag(&self, name: &str, reference: &ImageRef) -> Result<(), NodeError> {
        self.note(format!("tag {name} {reference}"))
    }

    async fn remove(&self, name: &str, options: RemoveImage) -> Result<Vec<Removal>, NodeError> {
        self.note(format!("rmi {name} {options:?}"))?;
        Ok(vec![Removal::Untagged(name.to_owned()), Removal::Deleted("sha256:1".into())])
    }

    async fn layers_size(&self) -> Result<u64, NodeError> {
        Ok(1_982_312)
    }

    async fn prune(&self, filter: ImagePruneFilter) -> Result<(Vec<Removal>, u64), NodeError> {
        self.note(format!("prune images {filter:?}"))?;
        Ok((Vec::new(), 0))
    }
}

fn progress(steps: Vec<Result<Progress, NodeError>>) -> ProgressStream {
    stream::iter(steps).boxed()
}

#[async_trait]
impl ImageTransfers for Fake {
    async fn pull(&self, request: PullRequest) -> Result<ProgressStream, NodeError> {
        self.note(format!(
            "pull {} {:?} {}",
            request.reference,
            request.platform,
            request.credentials.is_some()
        ))?;
        if request.reference.familiar_name() == "missing" {
            return Ok(progress(vec![Err(NodeError::NoSuchImage("missing".into()))]));
        }
        Ok(progress(vec![
            Ok(Progress::PullingFrom { repository: "library/busybox".into(), tag: "latest".into() }),
            Err(NodeError::failed("pull", std::io::Error::other("cut"))),
        ]))
    }

    async fn push(&self, request: PushRequest) -> Result<ProgressStream, NodeError> {
        self.note(format!("push {}", request.reference))?;
        Ok(progress(vec![Ok(Progress::PushingTo { repository: "docker.io/library/busybox".into() })]))
    }

    async fn load(&self, request: LoadRequest, archive: ByteSource) -> Result<ProgressStream, NodeError> {
        let size = drain(archive).await;
        self.note(format!("load {request:?} {size}"))?;
        Ok(progress(vec![Err(NodeError::invalid("invalid archive"))]))
    }

    async fn save(&self, names: &[String], platforms: &[Platform]) -> Result<ByteStream, NodeError> {
        self.note(format!("save {names:?} {platforms:?}"))?;
        Ok(bytes("tar"))
    }

    async fn import(&self, request: ImportRequest, archive: ByteSource) -> Result<ProgressStream, NodeError> {
        let size = drain(archive).await;
        self.note(format!("import {request:?} {size}"))?;
        Ok(progress(vec![Ok(Progress::Imported(objects::image_id()))]))
    }

    async fn distribution(
        &self,
        reference: &ImageRef,
        _: Option<Credentials>,
    ) -> Result<Distribution, NodeError> {
        self.note(format!("distribution {reference}"))?;
        Ok(Distribution {
            descriptor: objects::descriptor(),
            platforms: vec![Platform::new("linux", "amd64", "")],
        })
    }

    async fn search(&self, request: SearchRequest) -> Result<Vec<SearchResult>, NodeError> {
        self.note(format!("search {request:?}"))?;
        Ok(Vec::new())
    }
}

#[async_trait]
impl Networks for Fake {
    async fn create(&self, spec: NetworkSpec) -> Result<(NetworkId, String), NodeError> {
        self.note(format!("network {spec:?}"))?;
        Ok((NetworkId::new("c1c2"), String::new()))
    }

    async fn list(&self, filter: NetworkFilter) -> Result<Vec<Network>, NodeError> {
        self.note(format!("networks {filter:?}"))?;
        Ok(vec![objects::network()])
    }

    async fn inspect(&self, name: &str) -> Result<NetworkView, NodeError> {
        if name != "bridge" {
            return Err(NodeError::NoSuchNetwork(name.to_owned()));
        }
        let endpoint = objects::endpoint();
        Ok(NetworkView {
            overlay: None,
            network: objects::network(),
            containers: BTreeMap::from([(ContainerId::from_bytes([1; 32]), ("one".to_owned(), endpoint))]),
            address_use: BTreeMap::from([(
                "172.17.0.0/16".to_owned(),
                AddressUse { in_use: 3, available: 9 },
            )]),
        })
    }

    async fn remove(&self, name: &str) -> Result<(), NodeError> {
        self.note(format!("network rm {name}"))
    }

    async fn connect(&self, network: &str, container: &str, endpoint: EndpointSpec) -> Result<(), NodeError> {
        self.note(format!("connect {network} {container} {endpoint:?}"))
    }

    async fn disconnect(
        &self,
        network: &str,
        container: &str,
        force: DisconnectForce,
    ) -> Result<(), NodeError> {
        self.note(format!("disconnect {network} {container} {force:?}"))
    }

    async fn prune(&self, filter: NetworkPruneFilter) -> Result<Pruned, NodeError> {
        self.note(format!("prune networks {filter:?}"))?;
        Ok(Pruned::default())
    }
}

#[async_trait]
impl Volumes for Fake {
    async fn create(&self, spec: VolumeSpec) -> Result<Volume, NodeError> {
        self.note(format!("volume {spec:?}"))?;
        Ok(objects::volume())
    }

    async fn list(&self, filter: VolumeFilter) -> Result<(Vec<Volume>, Vec<String>), NodeError> {
        self.note(format!("volumes {filter:?}"))?;
        Ok((vec![objects::volume()], Vec::new()))
    }

    async fn inspect(&self, name: &str) -> Result<(Volume, BTreeMap<String, serde_json::Value>), NodeError> {
        if name != "vol" {
            return Err(NodeError::NoSuchVolume(name.to_owned()));
        }
        Ok((objects::volume(), BTreeMap::new()))
    }

    async fn remove(&self, name: &str, missing: OfMissing) -> Result<(), NodeError> {
        self.note(format!("volume rm {name} {missing:?}"))
    }

    async fn prune(&self, filter: VolumePruneFilter) -> Result<Pruned, NodeError> {
        self.note(format!("prune volumes {filter:?}"))?;
        Ok(Pruned::default())
    }

    async fn usage(&self) -> Result<Vec<VolumeUsage>, NodeError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl System for Fake {
    async fn info(&self) -> Result<SystemInfo, NodeError> {
        Ok(objects::system_info())
    }

    async fn disk_usage(&self, what: UsageKinds) -> Result<DiskUsage, NodeError> {
        self.note(format!("df {what:?}"))?;
        let listed =
            ContainerViews::list(self, ListQuery { with_sizes: true, ..ListQuery::default() }).await?;
        let usage = VolumeUsage { volume: objects::volume(), size: 10, references: 1 };
        Ok(DiskUsage {
            containers: what.containers.then_some(listed),
            images: what.images.then(|| vec![objects::image()]),
            layers_size: 1_982_312,
            volumes: what.volumes.then(|| vec![usage]),
            build_cache: what.build_cache.then(Vec::new),
        })
    }

    async fn login(&self, registry: &str, credentials: Credentials) -> Result<String, NodeError> {
        self.note(format!("login {registry} {}", matches!(credentials, Credentials::Basic { .. })))?;
        Ok(String::new())
    }
}

#[async_trait]
impl Events for Fake {
    async fn subscribe(&self, window: EventWindow) -> BoxStream<'static, Arc<Event>> {
        self.calls.lock().unwrap().push(format!("events {window:?}"));
        stream::iter(objects::events().into_iter().map(Arc::new)).boxed()
    }

    fn subscribers(&self) -> usize {
        0
    }
}

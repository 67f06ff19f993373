//! Starting a container: acquire everything, start the program, or leave nothing behind.
//!
//! Start reading at [`Actor::launch`]. What takes time runs side by side: the shim is started while addresses are
//! chosen, volumes mounted and the runtime spec made; the network is plumbed while the shim creates the container. Each
//! acquisition is noted before it is made, so that a failure gives back exactly what may be there (`teardown.rs`), and a
//! crash is cleared away by the next boot.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use node_shim::protocol::{Failure, FailureKind, RuntimeChoice};
use overlay_net::netns::Netns;
use shoal_types::ErrorKind;
use shoal_types::container::security::IpcMode;
use shoal_types::container::state::{Run, StartFailure};

use super::actor::{Actor, Holding, LiveRun};
use super::logging;
use super::peers::Peers;
use super::ports::{HostMount, NetworkPlan, NetworkRequest, NetworkRun, ResolvedMount};
use super::run::RunRecord;
use crate::crash_point::crash_point;
use crate::error::{ErrorChain, NodeError};
use crate::figures::Action;
use crate::runtime::inputs::{NetworkNamespace, SpecInputs};
use crate::runtime::{bundle, cdi, files, launch, spec, texts, user};
use crate::shim_client::{FoundShim, Shim, ShimError};

/// Refuses a runtime whose program is not there. A bare name is looked up in the daemon's search path.
fn require_runtime(program: &Path) -> Result<(), Failed> {
    let is_bare = program.components().nth(1).is_none() && program.is_relative();
    let found = if is_bare {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there = std::env::split_paths(&path).any(|directory| directory.join(program).exists());
        if is_there { Ok(()) } else { Err(rustix::io::Errno::NOENT) }
    } else {
        rustix::fs::access(program, rustix::fs::Access::EXEC_OK)
    };
    found.map_err(|errno| {
        let reason = node_runtime::errno_text(errno.raw_os_error());
        let message = format!("cannot run the runtime {}: {reason}", program.display());
        let message = texts::create_failure(&Failure::new(FailureKind::Runtime, message));
        let (error, code) = (NodeError::invalid(message), FailureKind::CommandNotFound.exit_code());
        Failed { error, code, is_fault: false }
    })
}

/// Docker's exit code of a container that could not be started for another reason than its program.
const EXIT_UNKNOWN: i32 = 128;

/// Docker's words before any failure of the network; clients look for them.
const NETWORK_FAILED: &str = "failed to set up container networking";

impl Actor {
    /// Acquires everything and starts the program. On failure nothing is left of the attempt.
    pub(super) async fn launch(&mut self) -> Result<Run, StartFailure> {
        self.core.run = Some(Box::default());
        match self.try_launch().await {
            Ok(run) => Ok(run),
            Err(failed) => {
                self.tear_down().await;
                self.discard_bundle().await;
                let (id, error) = (self.core.id, failed.error.message());
                if failed.is_fault {
                    tracing::error!(container.id = %id, error, "start failed");
                } else {
                    tracing::info!(container.id = %id, error, "start failed");
                }
                Err(StartFailure {
                    code: failed.code,
                    kind: failed.error.kind(),
                    error: failed.error.message(),
                })
            }
        }
    }

    async fn try_launch(&mut self) -> Result<Run, Failed> {
        let peers = self.peers()?;
        let request = self.network_request(&peers);
        let id = self.core.id;
        let forwarding = logging::open(&self.core.record.spec).await?;
        let path = self.make_bundle().await?;
        crash_point("start: bundle made");
        let shm = self.shared_memory().await?;
        crash_point("start: shared memory mounted");
        for holding in [Holding::Mounts, Holding::Network, Holding::Shim] {
            self.hold(holding);
        }
        let prepared = async {
            let (plan, mounts) = tokio::join!(self.plan_network(request.as_ref()), self.mount_volumes());
            let (plan, mounts) = (plan?, mounts?);
            crash_point("start: network planned, volumes mounted");
            let user = self.user_namespace(&peers, plan.as_ref()).await?;
            let found = Found { plan: plan.as_ref(), mounts: &mounts, shm, user: user.as_ref() };
            self.write_config(&peers, found, path.clone()).await?;
            Ok::<_, NodeError>((plan, mounts, user))
        };
        let (shim, prepared) = tokio::join!(self.shared.seams.shims.spawn(&path), prepared);
        // A shim that was spawned must be known before anything else can fail.
        let shim = self.keep_shim(shim);
        // The runtime opens the user namespace through this process.
        let (plan, mounts, _user) = prepared?;
        let shim = shim?;
        crash_point("start: shim runs");
        self.attach_those_who_wait(shim.as_ref()).await;
        let network = async {
            match &plan {
                Some(_) => self.connect_network().await.map(Some),
                None => Ok(None),
            }
        };
        let (network, pid) = if self.core.restore_from.is_some() {
            // It runs as soon as it is made, and expects its network to be there.
            let network = network.await.map_err(network_failed)?;
            (network, shim.create().await.map_err(Failed::to_create)?)
        } else {
            let (created, network) = tokio::join!(shim.create(), network);
            // The network's failure is the better explanation of two.
            let network = network.map_err(network_failed)?;
            (network, created.map_err(Failed::to_create)?)
        };
        crash_point("start: container created and connected");
        let run_record = RunRecord { network, mounts, files: plan.map(|plan| plan.files) };
        run_record.write(&path).map_err(|source| NodeError::failed("write the run's record", source))?;
        self.live_run().record = run_record;
        crash_point("start: run recorded");
        self.tell_of_acquisitions();
        if let Some(forwarding) = forwarding {
            self.shared.forward_log(id, &self.core.record, forwarding);
        }
        let started_at = shim.start().await.map_err(Failed::to_create)?;
        crash_point("start: program runs");
        self.shared.renew_files_of_those_who_link_to(id);
        Ok(Run { pid, started_at, oom_killed: false, previous_end: None })
    }

    async fn make_bundle(&mut self) -> Result<PathBuf, Failed> {
        let launch_file = self.launch_file().await?;
        self.hold(Holding::Bundle);
        let (bundles, id) = (self.shared.bundles.clone(), self.core.id);
        super::run_blocking(move || {
            // Before there is a shim, which could not even clean up without its runtime.
            if let RuntimeChoice::CommandLine { program, .. } = &launch_file.runtime {
                require_runtime(program)?;
            }
            let made = bundles.create(id, &launch_file);
            made.map_err(|source| NodeError::failed("make the bundle", source).into())
        })
        .await?
    }

    fn live_run(&mut self) -> &mut LiveRun {
        self.core.run.get_or_insert_default()
    }

    fn hold(&mut self, holding: Holding) {
        self.live_run().holdings.push(holding);
    }

    fn keep_shim(&mut self, spawned: Result<FoundShim, ShimError>) -> Result<Arc<dyn Shim>, Failed> {
        let found = spawned.map_err(|source| NodeError::failed("start the shim of the container", source))?;
        let run = self.live_run();
        run.shim = Some(Arc::clone(&found.shim));
        run.events = Some(found.events);
        Ok(found.shim)
    }

    async fn plan_network(&self, request: Option<&NetworkRequest>) -> Result<Option<NetworkPlan>, NodeError> {
        let Some(request) = request else { return Ok(None) };
        let (seams, start) = (&self.shared.seams, Instant::now());
        let plan = seams.figures.noted(Action::NetworkAllocate, start, seams.networks.plan(request).await);
        plan.map(Some).map_err(network_failed)
    }

    async fn connect_network(&self) -> Result<NetworkRun, NodeError> {
        let (seams, start) = (&self.shared.seams, Instant::now());
        let run = seams.networks.connect(self.core.id).await;
        seams.figures.noted(Action::NetworkConnect, start, run)
    }

    async fn mount_volumes(&self) -> Result<Vec<HostMount>, NodeError> {
        if self.core.record.mounts.is_empty() {
            return Ok(Vec::new());
        }
        let mounts: Vec<ResolvedMount> = self.core.record.mounts.iter().map(ResolvedMount::from).collect();
        self.shared.seams.volumes.mount(self.core.id, &mounts).await
    }

    /// Mounts `/dev/shm` on the host when other containers may share it. Otherwise the runtime mounts one inside.
    async fn shared_memory(&mut self) -> Result<Option<PathBuf>, NodeError> {
        if self.core.record.spec.namespaces.ipc != IpcMode::Shareable {
            return Ok(None);
        }
        let target = self.shared.shm_path(self.core.id);
        let size = self.core.record.spec.shm_size.unwrap_or(self.shared.config().shm_size);
        self.hold(Holding::SharedMemory);
        let owner = self.shared.ids_of(&self.core.record.spec).root();
        self.shared.seams.mounter.mount_shm(&target, size, owner).await?;
        Ok(Some(target))
    }

    /// What the shim is told before it is told to create.
    async fn launch_file(&self) -> Result<node_shim::protocol::Launch, NodeError> {
        let rootfs = self.shared.seams.images.rootfs(self.core.id).await?;
        let config = self.shared.config();
        launch::describe(launch::Inputs {
            id: self.core.id,
            name: &self.core.record.name,
            image_id: self.core.record.image_id,
            spec: &self.core.record.spec,
            rootfs,
            log_path: self.shared.log_path(self.core.id),
            stdio_owner: self.shared.ids_of(&self.core.record.spec).root(),
            restore_from: self.core.restore_from.clone(),
            config: &config,
        })
    }

    /// The user namespace of a container whose ids are mapped: that of those whose namespaces it shares, else the one that
    /// its network namespace was made in.
    async fn user_namespace(
        &self,
        peers: &Peers,
        plan: Option<&NetworkPlan>,
    ) -> Result<Option<UserNamespace>, NodeError> {
        if self.shared.ids_of(&self.core.record.spec).is_identity() {
            return Ok(None);
        }
        if let Some(process) = peers.namespaces().any() {
            return Ok(Some(UserNamespace::Peer(process)));
        }
        let Some(path) = plan.and_then(|plan| plan.sandbox.netns.clone()) else { return Ok(None) };
        let opened = super::run_blocking(move || Netns::open(&path)?.owner()).await??;
        Ok(Some(UserNamespace::Held(opened)))
    }

    /// Makes the runtime spec and the files that are bound into the container.
    async fn write_config(&self, peers: &Peers, found: Found<'_>, path: PathBuf) -> Result<(), NodeError> {
        let Found { plan, mounts, shm, user: user_namespace } = found;
        let record = &self.core.record;
        let ids = self.shared.ids_of(&record.spec);
        let rootfs = self.shared.seams.images.rootfs(self.core.id).await?;
        let accounts = self.shared.seams.mounter.read_files(&rootfs, &user::FILES).await?;
        let user = user::resolve(
            &record.spec.process.user,
            &record.spec.process.groups,
            &user::Accounts::parse(&accounts),
        )?;
        let files = self.network_files(peers, plan)?;
        let inputs = SpecInputs {
            id: self.core.id,
            spec: Arc::clone(&record.spec),
            command: record.command.clone(),
            user,
            hostname: peers.hostname(&self.shared.hostname(&record.spec)),
            mounts: record.mounts.iter().map(ResolvedMount::from).collect(),
            host_mounts: mounts.to_vec(),
            files: files.paths.clone(),
            shm,
            peers: peers.namespaces(),
            network: match plan.map(|plan| plan.sandbox.netns.clone()) {
                Some(Some(path)) => NetworkNamespace::At(path),
                Some(None) => NetworkNamespace::Host,
                None => NetworkNamespace::Peer,
            },
            user_namespace: user_namespace.map(UserNamespace::path),
            ids: ids.clone(),
            links: peers.environment(&record.name),
            config: self.shared.config(),
            host: Arc::clone(&self.shared.host),
        };
        let shared = Arc::clone(&self.shared);
        super::run_blocking(move || {
            files
                .write(ids.root())
                .map_err(|source| NodeError::failed("write the container's files", source))?;
            let mut devices = crate::runtime::devices::find(&inputs)?;
            let named = std::mem::take(&mut devices.named);
            let seccomp = shared.filters.resolve(&inputs)?;
            let mut spec = spec::build(&inputs, devices, seccomp)?;
            cdi::apply(&mut spec, &named)?;
            let json = serde_json::to_vec(&spec)
                .map_err(|source| NodeError::failed("write the runtime spec", source))?;
            bundle::write_config(&path, &json)
                .map_err(|source| NodeError::failed("write the runtime spec", source))
        })
        .await?
    }

    /// /etc/hosts, /etc/hostname and /etc/resolv.conf: its own, or those of the container whose network it shares.
    fn network_files(&self, peers: &Peers, plan: Option<&NetworkPlan>) -> Result<files::Files, NodeError> {
        let own = self.shared.directory(self.core.id);
        if let Some(directory) = &peers.network_directory {
            return Ok(files::Files::of(directory));
        }
        let hostname = self.shared.hostname(&self.core.record.spec);
        Ok(match plan {
            Some(plan) => files::Files::with(&own, &plan.files, &hostname),
            None => files::Files::none(),
        })
    }

    /// Gives their sockets to clients that attached before the start, before the program can write anything.
    async fn attach_those_who_wait(&mut self, shim: &dyn Shim) {
        for pending in std::mem::take(&mut self.core.attaching) {
            if pending.socket.is_closed() {
                continue;
            }
            match shim.attach(pending.request).await {
                // A client that goes away at this moment closes its socket by that.
                Ok(socket) => drop(pending.socket.send(socket)),
                Err(error) => {
                    let error = ErrorChain(&error);
                    tracing::warn!(container.id = %self.core.id, %error, "a client could not be attached");
                }
            }
        }
    }

    /// Tells listeners what the run has been connected to and has mounted, in Docker's order.
    fn tell_of_acquisitions(&self) {
        let Some(run) = self.core.run.as_deref() else { return };
        for joined in run.record.network.iter().flat_map(|network| &network.joined) {
            self.shared.emit_network("connect", joined, self.core.id);
        }
        self.shared.tell_of_mounts(self.core.id, &self.core.record.mounts);
    }
}

/// What was found out and made for a start.
struct Found<'a> {
    plan: Option<&'a NetworkPlan>,
    mounts: &'a [HostMount],
    shm: Option<PathBuf>,
    user: Option<&'a UserNamespace>,
}

/// The user namespace of a container.
#[derive(Debug)]
enum UserNamespace {
    /// That of another container's process.
    Peer(u32),
    /// One that this process holds open until the runtime has joined it.
    Held(OwnedFd),
}

impl UserNamespace {
    /// Where other processes find it.
    fn path(&self) -> PathBuf {
        PathBuf::from(match self {
            Self::Peer(process) => format!("/proc/{process}/ns/user"),
            Self::Held(fd) => format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()),
        })
    }
}

fn network_failed(error: NodeError) -> NodeError {
    if error.is_fault() {
        return NodeError::failed(NETWORK_FAILED, error);
    }
    NodeError::Refused { kind: error.kind(), message: format!("{NETWORK_FAILED}: {}", error.message()) }
}

/// Why a start failed, and the exit code that the container gets.
#[derive(Debug)]
pub(super) struct Failed {
    error: NodeError,
    code: i32,
    /// Whether the operator has to know; else what was asked for is wrong.
    is_fault: bool,
}

impl From<NodeError> for Failed {
    fn from(error: NodeError) -> Self {
        Self { is_fault: error.is_fault(), error, code: EXIT_UNKNOWN }
    }
}

impl Failed {
    /// The shim or the runtime refused: whether the program was at fault decides the exit code.
    fn to_create(error: ShimError) -> Self {
        let ShimError::Refused(failure) = error else {
            return NodeError::failed("failed to create task for container", error).into();
        };
        let code = failure.kind.exit_code();
        let kind = match failure.kind {
            FailureKind::CommandNotFound | FailureKind::NotExecutable => ErrorKind::InvalidArgument,
            FailureKind::Runtime
            | FailureKind::WrongPhase
            | FailureKind::NotRunning
            | FailureKind::NoSuchExec
            | FailureKind::AlreadyExists
            | FailureKind::Invalid
            | FailureKind::Internal => ErrorKind::Internal,
        };
        let message = texts::create_failure(&failure);
        // A container that the runtime finds wrong is told as a failure, but is the client's mistake.
        let is_fault = kind == ErrorKind::Internal && failure.kind != FailureKind::Invalid;
        Self { error: NodeError::Refused { kind, message }, code, is_fault }
    }
}

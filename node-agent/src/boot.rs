//! Starting where the last daemon ended: from the database and from what still runs to containers with owners.
//!
//! Start reading at [`boot`], which lists the steps. Nothing here decides: each container's machine is fed with what was
//! found of it ([`Observed`]) and reacts as it always does. What belongs to no record is removed. The API is opened
//! when this returns.
//!
//! Order: records -> bundles and shims (in parallel) -> networks, volumes and images learn who runs -> machines -> orphans
//! -> restart policies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use node_shim::protocol::{EXIT_FILE, ExitRecord, Phase};
use shoal_types::container::networking::NetworkMode;
use shoal_types::container::state::{MountPoint, Run};
use shoal_types::{ContainerId, ErrorKind};
use tokio::sync::{Semaphore, watch};

use crate::api::containers::{OfRunning, OfVolumes};
use crate::containers::Engine;
use crate::containers::boot_access::{
    Actor, BootWish, ContainerRecord, Core, Holding, Input, LifeWish, Lifecycle, LiveRun, Observed, Refusal,
    RunRecord, Shared, Slot, StateRecord, ended, run_blocking, view,
};
use crate::containers::ports::{Hold, VolumeHolder};
use crate::error::{ErrorChain, NodeError};
use crate::shim_client::FoundShim;
use crate::store::Batch;

/// How many shims are asked at once, and how many containers are started at once. Enough to hide waiting, few enough to
/// leave the machine to those that run.
const PARALLEL: usize = 16;
/// How long a container waits for those it depends on.
const DEPENDENCY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a boot has found and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootReport {
    /// Containers with a record.
    pub n_containers: usize,
    /// Those that were found running.
    pub n_running: usize,
    /// Those that were started by their policy.
    pub n_started: usize,
    /// Leftovers without a record that were removed.
    pub n_orphans: usize,
}

/// A container that has been found but has no owner yet.
#[derive(Debug)]
struct Found {
    core: Box<Core>,
    observed: Observed,
}

/// Whether the restart policies of containers are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policies {
    /// They are: a daemon starts.
    Follow,
    /// They are not: what is found is about to be removed.
    LeaveAlone,
}

/// Fills an engine from the database and the world, and starts what the restart policies want. Called once.
pub async fn boot(engine: &Engine, policies: Policies) -> Result<BootReport, NodeError> {
    let shared = engine.boot_access();
    let records = load(&shared).await?;
    let bundles = list_bundles(&shared).await?;
    let n_orphans = remove_orphans(&shared, &records, &bundles).await;
    let mut found = observe_all(&shared, records, &bundles).await;
    tell_the_seams(&shared, &mut found).await?;
    let n_containers = found.len();
    let n_running = found.iter().filter(|found| matches!(found.observed, Observed::Running(_))).count();
    for found in &found {
        know(&shared, &found.core);
    }
    let wishes = reconcile(&shared, found).await;
    let n_started = match policies {
        Policies::Follow => follow_policies(engine, wishes).await,
        Policies::LeaveAlone => 0,
    };
    let report = BootReport { n_containers, n_running, n_started, n_orphans };
    tracing::info!(
        containers = n_containers,
        running = n_running,
        started = n_started,
        orphans = n_orphans,
        "containers restored"
    );
    Ok(report)
}

type Records = BTreeMap<ContainerId, (ContainerRecord, StateRecord)>;

async fn load(shared: &Arc<Shared>) -> Result<Records, NodeError> {
    let store = shared.seams.store.clone();
    let (containers, mut states) = run_blocking(move || {
        let states: BTreeMap<String, StateRecord> = store.load()?.into_iter().collect();
        Ok::<_, NodeError>((store.load::<ContainerRecord>()?, states))
    })
    .await??;
    let mut records = BTreeMap::new();
    for (key, record) in containers {
        match (key.parse::<ContainerId>(), states.remove(&key)) {
            (Ok(id), Some(state)) => {
                records.insert(id, (record, state));
            }
            _ => tracing::error!(container.id = key, "record of a container is incomplete and is left alone"),
        }
    }
    Ok(records)
}

async fn list_bundles(shared: &Arc<Shared>) -> Result<BTreeSet<ContainerId>, NodeError> {
    let bundles = shared.bundles.clone();
    let listed = run_blocking(move || {
        bundles.prepare()?;
        bundles.list()
    });
    let listed = listed.await?.map_err(|source| NodeError::failed("list the bundles", source))?;
    Ok(listed.into_iter().collect())
}

/// Removes what belongs to no record: bundles with whatever runs in them, and directories of containers.
async fn remove_orphans(shared: &Arc<Shared>, records: &Records, bundles: &BTreeSet<ContainerId>) -> usize {
    let mut n_orphans = 0;
    for id in bundles.iter().filter(|id| !records.contains_key(id)) {
        tracing::warn!(container.id = %id, "removing what is left of a container that has no record");
        n_orphans += 1;
        let path = shared.bundles.path(*id);
        let cleaned = shared.seams.shims.clean_up(&path).await.map(drop);
        let cleaned = cleaned.map_err(|source| NodeError::failed("clean up after the shim", source));
        let unmounted = shared.seams.mounter.unmount(&shared.shm_path(*id)).await;
        let (bundles, orphan) = (shared.bundles.clone(), *id);
        let deleted = run_blocking(move || bundles.delete(orphan)).await;
        let deleted = deleted
            .and_then(|deleted| deleted.map_err(|source| NodeError::failed("delete the bundle", source)));
        for error in [cleaned.err(), unmounted.err(), deleted.err()].into_iter().flatten() {
            let error = ErrorChain(&error);
            tracing::error!(container.id = %id, %error, "leftover of a container could not be removed");
        }
    }
    let known: BTreeSet<ContainerId> = records.keys().copied().collect();
    let root = shared.directories_root();
    let removed = run_blocking(move || remove_unknown_directories(&root, &known)).await;
    n_orphans + removed.unwrap_or(0)
}

fn remove_unknown_directories(root: &Path, known: &BTreeSet<ContainerId>) -> usize {
    let Ok(entries) = std::fs::read_dir(root) else { return 0 };
    let mut n_removed = 0;
    for path in entries.flatten().map(|entry| entry.path()) {
        let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        if id.is_some_and(|id: ContainerId| !known.contains(&id)) {
            match std::fs::remove_dir_all(&path) {
                Ok(()) => n_removed += 1,
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "leftover directory could not be removed");
                }
            }
        }
    }
    n_removed
}

async fn observe_all(shared: &Arc<Shared>, records: Records, bundles: &BTreeSet<ContainerId>) -> Vec<Found> {
    let observing = stream::iter(records).map(|(id, (record, state))| {
        let shared = Arc::clone(shared);
        let has_bundle = bundles.contains(&id);
        async move {
            let rules = shared.rules(&record.spec);
            let was_running = state.condition.state.run().is_some();
            let mut core = Core::new(id, record, Lifecycle::booting(id, state.condition, rules));
            let observed =
                if has_bundle { observe(&shared, &mut core, was_running).await } else { Observed::Gone };
            Found { core, observed }
        }
    });
    observing.buffer_unordered(PARALLEL).collect().await
}

/// Looks at a container that has a bundle: asks its shim, or finds out what happened when there is none any more.
async fn observe(shared: &Arc<Shared>, core: &mut Core, was_running: bool) -> Observed {
    let path = shared.bundles.path(core.id);
    let record = RunRecord::read(&path).unwrap_or_else(|error| {
        tracing::warn!(container.id = %core.id, %error, "record of a run cannot be read");
        None
    });
    let mut run =
        LiveRun { record: record.unwrap_or_default(), holdings: Holding::ALL.into(), ..LiveRun::default() };
    let observed = match shared.seams.shims.find(&path).await {
        Ok(Some(FoundShim { shim, state, events })) => {
            run.shim = Some(shim);
            run.events = Some(events);
            match state.phase {
                Phase::Running { pid, started_at } => Observed::Running(Run {
                    pid,
                    started_at,
                    oom_killed: state.oom_kills > 0,
                    previous_end: None,
                }),
                Phase::Exited(exit) if was_running || !exit.unstarted => Observed::Exited(ended(exit), None),
                Phase::Idle
                | Phase::Creating
                | Phase::Created { .. }
                | Phase::Exited(_)
                | Phase::Failed(_) => Observed::Unstarted,
            }
        }
        Ok(None) => bury(shared, core.id, was_running).await,
        Err(error) => {
            let error = ErrorChain(&error);
            tracing::warn!(container.id = %core.id, %error, "a shim does not answer; killing what it runs");
            bury(shared, core.id, was_running).await
        }
    };
    core.run = Some(Box::new(run));
    observed
}

/// The shim is dead. Its cleanup kills what is left and tells how the container ended; one that had not been started did
/// not end.
async fn bury(shared: &Arc<Shared>, id: ContainerId, was_running: bool) -> Observed {
    let path = shared.bundles.path(id);
    let had_ended = has_run(&path);
    match shared.seams.shims.clean_up(&path).await {
        Ok(exit) if was_running || had_ended => Observed::Exited(ended(exit), None),
        Ok(_) => Observed::Unstarted,
        Err(error) => {
            let error = ErrorChain(&error);
            tracing::error!(container.id = %id, %error, "cannot clean up after a dead shim");
            Observed::Gone
        }
    }
}

/// Whether a container has run and ended. One that was killed before it was started, by an earlier boot that did not get
/// further, has left a record of its end as well.
fn has_run(bundle: &Path) -> bool {
    let exit = std::fs::read(bundle.join(EXIT_FILE)).ok();
    let exit = exit.and_then(|exit| serde_json::from_slice::<ExitRecord>(&exit).ok());
    exit.is_some_and(|exit| !exit.unstarted)
}

/// Tells networks, volumes and images which containers there are and which of them run.
async fn tell_the_seams(shared: &Arc<Shared>, found: &mut [Found]) -> Result<(), NodeError> {
    let runs = |found: &Found| matches!(found.observed, Observed::Running(_));
    let mut requests = Vec::new();
    for found in found.iter().filter(|found| runs(found)) {
        let network = found.core.run.as_deref().and_then(|run| run.record.network.clone());
        if let Some(network) = network
            && let Some(request) = shared.network_request_of(found.core.id, &found.core.record)
        {
            requests.push((request, network));
        }
    }
    let mut restored = shared.seams.networks.restore(requests).await?;
    for found in found.iter_mut() {
        let Some(run) = found.core.run.as_deref_mut() else { continue };
        if run.record.network.is_some() {
            run.record.network = restored.remove(&found.core.id);
            if run.record.network.is_none() && matches!(found.observed, Observed::Running(_)) {
                tracing::error!(container.id = %found.core.id, "the network of a running container is lost");
            }
        }
        drop_half_made_endpoints(shared, &mut found.core).await;
    }
    let holders = found.iter().map(|found| VolumeHolder {
        container: found.core.id,
        mounts: found.core.record.mounts.iter().map(|mount| mount.point.clone()).collect::<Vec<MountPoint>>(),
        hold: if runs(found) { Hold::Uses } else { Hold::Refers },
    });
    shared.seams.volumes.restore(holders.collect()).await;
    let ids: Vec<ContainerId> = found.iter().map(|found| found.core.id).collect();
    shared.seams.images.retain_rootfs(&ids).await;
    Ok(())
}

/// Forgets the networks that a running container was being connected to or disconnected from when the daemon died: the kernel
/// has been brought to what both the container's record and its run know.
async fn drop_half_made_endpoints(shared: &Arc<Shared>, core: &mut Core) {
    let Some(run) = core.run.as_deref() else { return };
    let Some(network) = &run.record.network else { return };
    let joined: BTreeSet<&str> = network.joined.iter().map(|joined| joined.name.as_str()).collect();
    if core.record.endpoints.keys().all(|name| joined.contains(name.as_str())) {
        return;
    }
    core.record.endpoints.retain(|name, _| joined.contains(name.as_str()));
    let spec = Arc::make_mut(&mut core.record.spec);
    spec.networking.endpoints.retain(|name, _| joined.contains(name.as_str()));
    let (path, record) = (shared.bundles.path(core.id), run.record.clone());
    let written = run_blocking(move || record.write(&path)).await;
    let written = written
        .and_then(|written| written.map_err(|source| NodeError::failed("write the run's record", source)));
    let stored = match Batch::new().put(core.id.to_string(), &core.record) {
        Ok(batch) => shared.commit(batch).await,
        Err(error) => Err(error.into()),
    };
    for error in [written.err(), stored.err()].into_iter().flatten() {
        let error = ErrorChain(&error);
        tracing::error!(container.id = %core.id, %error, "networks of a container cannot be stored");
    }
}

fn know(shared: &Arc<Shared>, core: &Core) {
    if let Err(error) = shared.reserve_name(&core.record.name, core.id) {
        // Two records cannot have one name unless the database was tampered with.
        tracing::error!(container.id = %core.id, error = %error, "name of a container is taken");
    }
    shared.links().insert(core.id, &core.record.links);
    shared.hold_image(core);
}

/// Feeds every machine with what was found, and gives each container its place. Returns what the policies want.
async fn reconcile(shared: &Arc<Shared>, found: Vec<Found>) -> Vec<(Arc<Slot>, BootWish)> {
    let feeding = stream::iter(found).map(|Found { core, observed }| {
        let shared = Arc::clone(shared);
        async move {
            let published = view::publish(&core, &shared);
            let slot = Slot::new(core, published);
            shared.know(Arc::clone(&slot));
            let core = slot.take_core()?;
            // Before the machine moves: what it removes has its log sent first.
            shared.resume_log(core.id, &core.record, matches!(observed, Observed::Running(_)));
            let mut actor = Actor::new(shared, Arc::clone(&slot), core);
            actor.settle(Input::Observed(observed)).await?;
            let wish = actor.boot_wish();
            actor.serve();
            Some((slot, wish))
        }
    });
    feeding.buffer_unordered(PARALLEL).filter_map(std::future::ready).collect().await
}

/// Containers that are being started, and whether they have been.
type Starting = BTreeMap<ContainerId, watch::Sender<bool>>;

/// Starts and removes what the policies want: those that others depend on first. Returns how many were started.
async fn follow_policies(engine: &Engine, wishes: Vec<(Arc<Slot>, BootWish)>) -> usize {
    let to_start = wishes.iter().filter(|(_, wish)| *wish == BootWish::Start);
    let starting: Starting = to_start.map(|(slot, _)| (slot.id(), watch::Sender::new(false))).collect();
    let places = Semaphore::new(PARALLEL);
    let following = wishes.iter().map(|(slot, wish)| async {
        match wish {
            BootWish::Rest => false,
            BootWish::Remove => {
                remove_leftover(engine, slot.id()).await;
                false
            }
            BootWish::Start => {
                // Before taking a place, so that one that waits does not keep away the one it waits for.
                wait_for_dependencies(&engine.boot_access(), slot, &starting).await;
                let _place = places.acquire().await;
                let started = start_again(engine, slot.id()).await;
                if let Some(done) = starting.get(&slot.id()) {
                    done.send_replace(true);
                }
                started
            }
        }
    });
    join_all(following).await.into_iter().filter(|started| *started).count()
}

async fn start_again(engine: &Engine, id: ContainerId) -> bool {
    let outcome = match engine.find(&id.to_string()) {
        Ok(handle) => handle.ask(LifeWish::BootStart).await,
        Err(error) => Err(error),
    };
    match &outcome {
        Ok(Ok(())) => return true,
        Ok(Err(Refusal::StartFailed(failure))) if failure.kind == ErrorKind::Unavailable => {
            tracing::info!(container.id = %id, error = failure.error, "container is started again later");
        }
        _ => tracing::error!(container.id = %id, ?outcome, "container could not be started again"),
    }
    false
}

/// Removes a container that was to be removed at its exit.
async fn remove_leftover(engine: &Engine, id: ContainerId) {
    let wish = LifeWish::Remove(OfRunning::Kill, OfVolumes::RemoveAnonymous);
    let outcome = match engine.find(&id.to_string()) {
        Ok(handle) => handle.ask(wish).await,
        Err(error) => Err(error),
    };
    if !matches!(outcome, Ok(Ok(()))) {
        tracing::error!(container.id = %id, ?outcome, "leftover container could not be removed");
    }
}

/// Waits a little for containers that this one links to or whose network it shares.
async fn wait_for_dependencies(shared: &Arc<Shared>, slot: &Arc<Slot>, starting: &Starting) {
    let view = slot.view();
    let mut dependencies: Vec<ContainerId> =
        shared.links().of(slot.id()).iter().map(|link| link.target).collect();
    if let NetworkMode::Container(id) = &view.spec.networking.mode {
        dependencies.extend(id.parse::<ContainerId>().ok());
    }
    let waiting = async {
        for done in dependencies.iter().filter_map(|id| starting.get(id)) {
            // The sender lives as long as this borrow.
            let _ = done.subscribe().wait_for(|done| *done).await;
        }
    };
    if tokio::time::timeout(DEPENDENCY_TIMEOUT, waiting).await.is_err() {
        tracing::warn!(container.id = %slot.id(), "starting without waiting longer for what it depends on");
    }
}

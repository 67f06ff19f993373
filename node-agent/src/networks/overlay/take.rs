//! What managers tell becomes what the kernel, the names and the services of containers are.
//!
//! Start reading at the implementation of [`Overlays`]. [`State::take_news`] decides (no IO), [`carry_out`] acts. What fails is
//! said in the log and given whole at the next repair; a manager need not know.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use overlay_net::{Host, NetError, OverlaySpec, ServiceChange, VirtualService};
use shoal_types::cluster::node::DataPathKey;
use shoal_types::cluster::overlay::{EntryKey, OverlayEntry, OverlayNetwork};
use shoal_types::network::Network;
use shoal_types::protocol::{Assignment, AssignmentChange};
use shoal_types::{NetworkId, SandboxId};
use tokio::sync::watch;

use super::encryption::EncryptionStep;
use super::form::{Form, FormChanges, overlay_spec};
use super::{Overlay, Standing};
use crate::error::{ErrorChain, NodeError};
use crate::networks::plans::Plan;
use crate::networks::{NetworkStore, State, run_blocking};
use crate::store::Batch;
use crate::worker::overlays::Extent;
use crate::worker::{OverlayMember, OverlayNews, Overlays};

/// What has to be done in the kernel.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) encryption: Option<EncryptionStep>,
    pub(super) whole: Vec<Whole>,
    changed: Vec<(NetworkId, FormChanges)>,
    pub(super) removed: Vec<NetworkId>,
    pub(super) services: Vec<(SandboxId, Vec<VirtualService>)>,
    service_changes: Vec<(SandboxId, Vec<ServiceChange>)>,
}

/// A network that is given whole.
#[derive(Debug)]
pub(super) struct Whole {
    id: NetworkId,
    name: String,
    spec: OverlaySpec,
    form: Form,
}

#[async_trait]
impl Overlays for NetworkStore {
    async fn begin(&self, member: OverlayMember) {
        let vtep = member.vtep;
        *self.shared.overlay.member.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(member);
        self.with_state(|state| {
            // The node may have another address than when the networks were written down.
            let told: Vec<OverlayNetwork> =
                state.board.networks.values().map(|overlay| overlay.told.clone()).collect();
            for told in told {
                if let Err(error) = state.put_overlay_network(&told, vtep) {
                    tracing::warn!(network.id = %told.network.id, error = error.message(), "network cannot be made");
                }
            }
        });
        self.publish_keys().await;
    }

    fn data_path_keys(&self) -> watch::Receiver<Vec<DataPathKey>> {
        self.shared.overlay.keys.subscribe()
    }

    fn renew_keys(&self) {
        self.shared.overlay.rotation.notify_one();
    }

    async fn take(&self, news: OverlayNews) {
        let Some(member) = self.shared.overlay.member() else { return };
        let turn = self.shared.overlay.turn.lock().await;
        let steps = self.with_state(|state| state.take_news(&news, &member));
        let new: BTreeSet<NetworkId> = steps.whole.iter().map(|whole| whole.id.clone()).collect();
        self.save_overlays(|id, _| new.contains(id)).await;
        self.forget_overlays(&steps.removed).await;
        self.carry_out(steps).await;
        if news.extent == Extent::Whole {
            self.retain_overlays().await;
        }
        self.sync_ingress().await;
        drop(turn);
        self.let_go(&news).await;
        if news.extent == Extent::Whole {
            self.settle_attachments().await;
        }
        self.shared.overlay.unsaved.notify_one();
    }

    async fn make(&self, network: &Network) -> Result<(), NodeError> {
        self.make_for_cluster(network).await
    }

    async fn leave(&self) {
        self.remove_of_nodes(|_| true).await;
        let _turn = self.shared.overlay.turn.lock().await;
        let removed = self.with_state(|state| {
            let all: Vec<NetworkId> = std::mem::take(&mut state.board.networks).into_keys().collect();
            state.board.attached.clear();
            state.board.owed.clear();
            state.board.encryption = None;
            all.iter().for_each(|id| drop(state.networks.remove(id)));
            all
        });
        self.sync_ingress().await;
        self.forget_overlays(&removed).await;
        let encryption = Some(EncryptionStep::Remove);
        self.carry_out(Steps { removed, encryption, ..Steps::default() }).await;
        self.forget_keys().await;
        *self.shared.overlay.member.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }
}

impl NetworkStore {
    /// Brings the kernel to the board. To be called in turn.
    pub(super) async fn carry_out(&self, steps: Steps) {
        let host = self.shared.host.clone();
        let failed = match run_blocking(move || carry_out(&host, steps)).await {
            Ok(failed) => failed,
            Err(error) => {
                tracing::error!(error = error.message(), "networks that span nodes are not as told");
                return;
            }
        };
        self.with_state(|state| state.note_failures(failed));
    }

    /// Tells the sandbox of a container which services it reaches. To be called once its interfaces are there.
    pub(in crate::networks) async fn give_services(&self, container: shoal_types::ContainerId) {
        let concerns = self
            .with_state(|state| state.plans.get(&container).is_some_and(|plan| state.is_in_overlay(plan)));
        if !concerns {
            return;
        }
        let _turn = self.shared.overlay.turn.lock().await;
        let services = self.with_state(|state| {
            let plan = state.plans.get(&container)?;
            let given = (plan.sandbox_id()?, state.services_of(plan));
            state.board.served.insert(given.0);
            Some(given)
        });
        self.carry_out(Steps { services: services.into_iter().collect(), ..Steps::default() }).await;
    }

    /// Removes networks that managers want no more and that have no member.
    pub(in crate::networks) async fn drop_unwanted_overlays(&self) {
        self.remove_let_go().await;
        if !self.with_state(|state| state.board.networks.values().any(|o| o.standing == Standing::Unwanted)) {
            return;
        }
        let _turn = self.shared.overlay.turn.lock().await;
        let (removed, encryption) = self.with_state(|state| (state.take_unwanted(), state.encryption_step()));
        self.forget_overlays(&removed).await;
        self.carry_out(Steps { removed, encryption, ..Steps::default() }).await;
    }

    async fn forget_overlays(&self, removed: &[NetworkId]) {
        let mut batch = Batch::new();
        for id in removed {
            batch = batch.delete::<super::OverlayRecord>(id.as_str());
        }
        if let Err(error) = self.shared.store.commit(batch).await {
            // It is told again that it is unwanted after the next start.
            tracing::error!(error = %ErrorChain(&error), "record of a network cannot be removed");
        }
    }

    async fn retain_overlays(&self) {
        let kept: Vec<NetworkId> = self.with_state(|state| state.board.networks.keys().cloned().collect());
        let host = self.shared.host.clone();
        let Ok(report) = run_blocking(move || host.retain_overlays(&kept)).await else { return };
        for what in report.removed {
            tracing::info!(what, "removed a leftover of networking");
        }
        for error in report.errors {
            tracing::warn!(error = %ErrorChain(&error), "leftover of networking cannot be removed");
        }
    }
}

impl State {
    /// Takes in what managers tell, and says what follows for the kernel.
    pub(super) fn take_news(&mut self, news: &OverlayNews, member: &OverlayMember) -> Steps {
        let (mut anew, mut touched) = (BTreeSet::new(), BTreeSet::new());
        if news.extent == Extent::Whole {
            for overlay in self.board.networks.values_mut() {
                overlay.standing = Standing::Unwanted;
                overlay.entries.clear();
            }
        }
        for change in &news.changes {
            self.take_change(change, &mut anew, &mut touched);
        }
        if news.extent == Extent::Whole {
            anew.clone_from(&touched);
        }
        touched.retain(|id| {
            self.board.networks.get(id).is_some_and(|overlay| overlay.standing == Standing::Wanted)
        });
        let mut steps = Steps::default();
        let mut service_changes = BTreeMap::new();
        for id in &touched {
            if anew.contains(id) {
                steps.whole.extend(self.renew_whole(id, member));
            } else if let Some(changes) = self.renew_form(id) {
                service_changes.insert(id.clone(), changes.services.clone());
                steps.changed.push((id.clone(), changes));
            }
        }
        self.note_services(&anew, &service_changes, &mut steps);
        steps.removed = self.take_unwanted();
        steps.encryption = self.encryption_step();
        if news.extent == Extent::Whole && self.board.encryption.is_none() {
            // A daemon before this one may have left something.
            steps.encryption = Some(EncryptionStep::Remove);
        }
        let living: BTreeSet<SandboxId> = self.plans.values().filter_map(Plan::sandbox_id).collect();
        self.board.served.retain(|id| living.contains(id));
        steps
    }

    fn take_change(
        &mut self,
        change: &AssignmentChange,
        anew: &mut BTreeSet<NetworkId>,
        touched: &mut BTreeSet<NetworkId>,
    ) {
        match change {
            AssignmentChange::Update(Assignment::Overlay(told)) => {
                let id = told.network.id.clone();
                let known = self.board.networks.get(&id);
                if known.is_none_or(|known| known.standing != Standing::Wanted || known.told != **told) {
                    anew.insert(id.clone());
                }
                let new = || Overlay::new(told.as_ref().clone(), Standing::Wanted);
                let overlay = self.board.networks.entry(id.clone()).or_insert_with(new);
                overlay.standing = Standing::Wanted;
                overlay.told = told.as_ref().clone();
                touched.insert(id);
            }
            AssignmentChange::Update(Assignment::Entry(id, entry)) => {
                self.set_entry(id, entry.key(), Some(entry.as_ref()));
                touched.insert(id.clone());
            }
            AssignmentChange::RemoveEntry(id, key) => {
                self.set_entry(id, *key, None);
                touched.insert(id.clone());
            }
            AssignmentChange::RemoveOverlay(id) => {
                if let Some(overlay) = self.board.networks.get_mut(id) {
                    overlay.standing = Standing::Unwanted;
                    overlay.entries.clear();
                }
            }
            _ => {}
        }
    }

    fn set_entry(&mut self, network: &NetworkId, key: EntryKey, entry: Option<&OverlayEntry>) {
        let Some(overlay) = self.board.networks.get_mut(network) else { return };
        match entry {
            Some(entry) => drop(overlay.entries.insert(key, entry.clone())),
            None => drop(overlay.entries.remove(&key)),
        }
    }

    fn renew_whole(&mut self, id: &NetworkId, member: &OverlayMember) -> Option<Whole> {
        let overlay = self.board.networks.get_mut(id)?;
        overlay.form = Form::of(&overlay.entries, overlay.role());
        (overlay.is_unsaved, overlay.has_failed) = (true, false);
        let (told, form) = (overlay.told.clone(), overlay.form.clone());
        let made = overlay_spec(&told, member.vtep)
            .and_then(|spec| self.put_overlay_network(&told, member.vtep).map(|()| spec));
        match made {
            Ok(spec) => Some(Whole { id: id.clone(), name: told.network.spec.name, spec, form }),
            Err(error) => {
                tracing::error!(network.id = %id, error = error.message(), "network cannot be made");
                None
            }
        }
    }

    fn renew_form(&mut self, id: &NetworkId) -> Option<FormChanges> {
        let overlay = self.board.networks.get_mut(id)?;
        let form = Form::of(&overlay.entries, overlay.role());
        let changes = overlay.form.changes_to(&form);
        (overlay.form, overlay.is_unsaved) = (form, true);
        Some(changes)
    }

    /// What the sandboxes of containers in these networks are told.
    fn note_services(
        &self,
        anew: &BTreeSet<NetworkId>,
        changes: &BTreeMap<NetworkId, Vec<ServiceChange>>,
        steps: &mut Steps,
    ) {
        for plan in self.plans.values() {
            let Some(sandbox) = plan.sandbox_id().filter(|id| self.board.served.contains(id)) else {
                continue;
            };
            if plan.networks().any(|id| anew.contains(id)) {
                steps.services.push((sandbox, self.services_of(plan)));
                continue;
            }
            let concerned: Vec<ServiceChange> =
                plan.networks().filter_map(|id| changes.get(id)).flatten().cloned().collect();
            if !concerned.is_empty() {
                steps.service_changes.push((sandbox, concerned));
            }
        }
    }

    /// Remembers what has to be given whole again at the next repair.
    ///
    /// What is told may meet a container that is being removed: its plan is gone before its namespace, and then there is nobody left
    /// to be told.
    fn note_failures(&mut self, failures: Failures) {
        let Failures { mut networks, sandboxes } = failures;
        for (sandbox, error) in sandboxes {
            let Some(plan) = self.plans.values().find(|plan| plan.sandbox_id() == Some(sandbox)) else {
                tracing::debug!(sandbox.id = %sandbox, error = %ErrorChain(&error), "a container left while it was told");
                continue;
            };
            tracing::error!(sandbox.id = %sandbox, error = %ErrorChain(&error), "services of a container are not as told");
            networks.extend(plan.networks().cloned());
        }
        for id in networks {
            if let Some(overlay) = self.board.networks.get_mut(&id) {
                overlay.has_failed = true;
            }
        }
    }

    /// Forgets networks that nobody wants and nobody is in.
    pub(super) fn take_unwanted(&mut self) -> Vec<NetworkId> {
        let networks = &mut self.networks;
        let is_free = |id: &NetworkId| networks.get(id).is_none_or(|entry| entry.members.is_empty());
        let is_gone =
            |id: &NetworkId, overlay: &mut Overlay| overlay.standing == Standing::Unwanted && is_free(id);
        let gone: Vec<NetworkId> = self.board.networks.extract_if(.., is_gone).map(|(id, _)| id).collect();
        gone.iter().for_each(|id| drop(networks.remove(id)));
        gone
    }

    /// Forgets what a container was to have, and that it is told of services: one of the same id is told anew.
    pub(in crate::networks) fn take_plan(&mut self, container: &shoal_types::ContainerId) -> Option<Plan> {
        let plan = self.plans.remove(container)?;
        self.board.served.remove(&plan.id);
        Some(plan)
    }

    /// Counts every container that runs as one that is told its services; for a start of the daemon.
    pub(super) fn serve_all(&mut self) {
        let overlays = &self.board.networks;
        let plans = self.plans.values().filter(|plan| plan.networks().any(|id| overlays.contains_key(id)));
        self.board.served.extend(plans.filter_map(Plan::sandbox_id));
    }

    /// The whole of networks and services, as it was taken in last; for a start of the daemon and after failures.
    pub(super) fn all_steps(&self, which: impl Fn(&Overlay) -> bool) -> Steps {
        let mut steps = Steps::default();
        let mut given = BTreeSet::new();
        for (id, overlay) in self.board.networks.iter().filter(|(_, overlay)| which(overlay)) {
            let Some(entry) = self.networks.get(id) else { continue };
            let overlay_net::DriverSpec::Overlay(spec) = &entry.kernel.driver else { continue };
            let name = overlay.told.network.spec.name.clone();
            steps.whole.push(Whole { id: id.clone(), name, spec: spec.clone(), form: overlay.form.clone() });
            given.insert(id.clone());
        }
        self.note_services(&given, &BTreeMap::new(), &mut steps);
        steps
    }
}

/// What went wrong.
#[derive(Debug, Default)]
struct Failures {
    networks: BTreeSet<NetworkId>,
    sandboxes: Vec<(SandboxId, NetError)>,
}

/// Does what follows from news.
fn carry_out(host: &Host, steps: Steps) -> Failures {
    let mut failures = Failures::default();
    let mut check = |id: &NetworkId, what: &'static str, outcome: Result<(), NetError>| {
        if let Err(error) = outcome {
            tracing::error!(network.id = %id, error = %ErrorChain(&error), what, "network is not as told");
            failures.networks.insert(id.clone());
        }
    };
    if let Some(Err(error)) = steps.encryption.as_ref().map(|step| step.prepare(host)) {
        // Nothing leaves in the clear meanwhile: peers of encrypted networks are not reached.
        tracing::error!(error = %ErrorChain(&error), "encrypted data path is not as told");
    }
    for Whole { id, name, spec, form } in steps.whole {
        check(&id, "tunnels", host.apply_overlay(&id, &spec, &form.tables()).map(drop));
        check(&id, "names", host.set_names(&id, &name, form.names.into_values().collect()));
    }
    for (id, changes) in steps.changed {
        if !changes.names.is_empty() {
            check(&id, "names", host.change_names(&id, changes.names));
        }
        if !changes.peers.is_empty() {
            check(&id, "tunnels", host.change_overlay(&id, &changes.peers));
        }
    }
    for (sandbox, services) in steps.services {
        failures.sandboxes.extend(host.set_services(&sandbox, &services).err().map(|error| (sandbox, error)));
    }
    for (sandbox, changes) in steps.service_changes {
        failures
            .sandboxes
            .extend(host.change_services(&sandbox, &changes).err().map(|error| (sandbox, error)));
    }
    for id in steps.removed {
        for error in host.remove_overlay(&id) {
            tracing::warn!(network.id = %id, error = %ErrorChain(&error), "part of a network could not be removed");
        }
    }
    if let Some(step) = steps.encryption {
        step.finish(host);
    }
    failures
}

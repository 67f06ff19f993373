//! What everybody sees of a container, made by its owner after every change.
//!
//! Start reading at [`publish`]. What is the same for most containers is shared, and what can be computed from the id
//! (paths, names of others) is added when somebody inspects, so that a published view stays small.

use std::collections::BTreeMap;
use std::sync::Arc;

use shoal_types::ContainerId;
use shoal_types::container::security::SecuritySpec;
use shoal_types::container::state::{EndpointStatus, PublishedPort};

use super::Shared;
use super::actor::Core;
use super::health::monitor::Monitor;
use super::slot::{Presence, Published};
use crate::api::containers::{ContainerPaths, ContainerView, EffectiveSettings, LinkView, SandboxView};
use crate::logs::settings;
use crate::runtime::masks;

/// Makes the view of a container as it is now.
pub(crate) fn publish(core: &Core, shared: &Shared) -> Published {
    let condition = core.life.condition();
    let record = &core.record;
    let network = core.run.as_deref().and_then(|run| run.record.network.as_ref());
    let view = ContainerView {
        version: shared.next_version(),
        id: core.id,
        name: record.name.clone(),
        link_names: Vec::new(),
        links: Vec::new(),
        created: record.created,
        image_id: record.image_id,
        image_manifest: record.image_manifest.clone(),
        image_shown: record.spec.image.clone(),
        spec: Arc::clone(&record.spec),
        requested: Arc::clone(&record.requested),
        command: record.command.clone(),
        state: condition.state.clone(),
        start_failure: condition.start_failure.clone(),
        restart_count: condition.restart_count,
        health: core.health.as_deref().map(Monitor::health).cloned(),
        sandbox: network.map(|network| SandboxView {
            id: network.sandbox.id,
            key: network.sandbox.netns.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        }),
        endpoints: endpoints(core),
        published: network.map_or_else(Vec::<PublishedPort>::new, |network| network.published.clone()),
        mounts: record.mounts.iter().map(|mount| mount.point.clone()).collect(),
        exec_ids: Vec::new(),
        paths: ContainerPaths::default(),
        effective: EffectiveSettings::default(),
    };
    Published {
        view: Arc::new(view),
        n_exits: core.n_exits,
        last_exit: core.last_exit.clone(),
        presence: Presence::Here,
        shim: core.run.as_deref().and_then(|run| run.shim.clone()),
    }
}

/// Endpoints as they are now, or as they will be asked for.
fn endpoints(core: &Core) -> BTreeMap<String, EndpointStatus> {
    let mut endpoints = core.record.endpoints.clone();
    let joined = core.run.iter().flat_map(|run| &run.record.network).flat_map(|network| &network.joined);
    for joined in joined {
        endpoints.insert(joined.name.clone(), joined.status.clone());
    }
    endpoints
}

impl Shared {
    /// Adds to a view what only an inspection needs: paths, settings in effect, names of linked containers, commands.
    pub(crate) async fn complete(&self, view: &Arc<ContainerView>) -> ContainerView {
        let mut complete = ContainerView::clone(view);
        self.add_names(&mut complete);
        if view.state.run().is_some() {
            complete.exec_ids = self.execs.unfinished_of(view.id);
        }
        complete.paths = self.paths(view).await;
        complete.effective = self.effective(view);
        complete
    }

    /// The view for a list: the published one unless something must be added to it.
    pub(crate) fn listed(&self, view: Arc<ContainerView>) -> Arc<ContainerView> {
        let is_plain = !self.has_links() && self.is_image_name_current(&view);
        if is_plain {
            return view;
        }
        let mut complete = ContainerView::clone(&view);
        self.add_names(&mut complete);
        if complete.links == view.links
            && complete.link_names == view.link_names
            && complete.image_shown == view.image_shown
        {
            return view;
        }
        // Names change without a change of the container, so nothing may be kept of what this shows.
        complete.version = self.next_version();
        Arc::new(complete)
    }

    fn add_names(&self, view: &mut ContainerView) {
        if !self.is_image_name_current(view)
            && let Some(id) = view.image_id
        {
            view.image_shown = id.to_string();
        }
        let links = self.links_of(view.id);
        view.link_names = links.incoming;
        view.links = links.outgoing.into_iter().map(|(target, alias)| LinkView { target, alias }).collect();
    }

    fn is_image_name_current(&self, view: &ContainerView) -> bool {
        view.image_id.is_none_or(|id| self.seams.images.still_names(&view.spec.image, &id))
    }

    async fn paths(&self, view: &ContainerView) -> ContainerPaths {
        let directory = self.directory(view.id);
        let file = |name: &str| directory.join(name).display().to_string();
        let shown = |path: &std::path::Path| path.display().to_string();
        let rootfs = self.seams.images.rootfs(view.id).await.unwrap_or_default();
        let merged = rootfs.upper.parent().map(|parent| shown(&parent.join("merged"))).unwrap_or_default();
        ContainerPaths {
            resolv_conf: file("resolv.conf"),
            hostname: file("hostname"),
            hosts: file("hosts"),
            log: match view.spec.logging.driver.as_str() {
                settings::JSON_FILE => shown(&self.log_path(view.id)),
                _ => String::new(),
            },
            upper_dir: shown(&rootfs.upper),
            lower_dirs: rootfs.lowers.iter().map(|lower| shown(lower)).collect(),
            work_dir: shown(&rootfs.work),
            merged_dir: merged,
        }
    }

    fn effective(&self, view: &ContainerView) -> EffectiveSettings {
        let spec = &view.spec;
        let config = self.config();
        let (masked_paths, readonly_paths) = masks::of(&spec.security);
        EffectiveSettings {
            runtime: spec.runtime.clone().unwrap_or_else(|| config.default_runtime.clone()),
            log_driver: spec.logging.driver.clone(),
            log_options: spec.logging.options.clone(),
            storage_driver: self.seams.images.storage_driver().to_owned(),
            apparmor_profile: self.apparmor_profile(&spec.security),
            process_label: String::new(),
            mount_label: String::new(),
            masked_paths,
            readonly_paths,
            shm_size: spec.shm_size.unwrap_or(config.shm_size),
            stop_timeout: config.stop_timeout,
        }
    }

    /// The AppArmor profile in effect; empty where the kernel has none.
    pub(crate) fn apparmor_profile(&self, security: &SecuritySpec) -> String {
        crate::runtime::apparmor::profile_of(security, self.host.apparmor).unwrap_or_default()
    }

    /// Who a container links to and who links to it.
    fn links_of(&self, id: ContainerId) -> super::links::Named {
        self.links().named(id, |id| self.slot(id).map(|slot| slot.view().name.clone()))
    }
}

//! A container in detail: what was asked for, with what came out laid over it.
//!
//! Start reading at [`inspect`].

use std::collections::BTreeMap;

use node_agent::api::containers::{ContainerPaths, ContainerView, LinkView, RootSizes};
use shoal_types::container::health::Health as ObservedHealth;
use shoal_types::container::state as observed;

use super::image::descriptor;
use super::requested::Requested;
use super::{container_config, container_summary, host_config, mount, network_settings};
use crate::model::container_inspect::{
    ContainerInspect, ContainerState, DriverData, Health, HealthcheckResult,
};
use crate::model::host_config::HostConfig;
use crate::model::network_settings::NetworkSettings;
use crate::model::time::Time;

/// A container in detail, in the newest shape.
pub(crate) fn inspect(view: &ContainerView, sizes: Option<RootSizes>) -> ContainerInspect {
    let Requested { mut config, mut host_config } = Requested::from_text(&view.requested);
    container_config::lay_over(&mut config, &view.spec);
    config.mac_address = network_settings::wished_mac_address(&view.spec.networking);
    lay_over_host(&mut host_config, view);
    let (path, args) = match view.command.split_first() {
        Some((path, args)) => (path.clone(), args.to_vec()),
        None => (String::new(), Vec::new()),
    };
    let exec_ids: Vec<String> = view.exec_ids.iter().map(ToString::to_string).collect();
    let sandbox = view.sandbox.as_ref();
    ContainerInspect {
        id: view.id.to_string(),
        created: view.created.into(),
        path,
        args,
        state: state(view),
        image: view.image_id.map(|id| id.to_string()).unwrap_or_default(),
        resolv_conf_path: view.paths.resolv_conf.clone(),
        hostname_path: view.paths.hostname.clone(),
        hosts_path: view.paths.hosts.clone(),
        log_path: view.paths.log.clone(),
        name: format!("/{}", view.name),
        restart_count: view.restart_count,
        driver: view.effective.storage_driver.clone(),
        platform: "linux".to_owned(),
        image_manifest_descriptor: view.image_manifest.as_ref().map(descriptor),
        mount_label: view.effective.mount_label.clone(),
        process_label: view.effective.process_label.clone(),
        app_armor_profile: view.effective.apparmor_profile.clone(),
        exec_ids: Some(exec_ids).filter(|ids| !ids.is_empty()),
        host_config,
        graph_driver: Some(driver_data(&view.effective.storage_driver, &view.paths)),
        storage: None,
        size_rw: sizes.map(|sizes| sizes.writable),
        size_root_fs: sizes.map(|sizes| sizes.total),
        mounts: mount::shown_of(view),
        config,
        network_settings: NetworkSettings {
            sandbox_id: sandbox.map(|sandbox| sandbox.id.to_string()).unwrap_or_default(),
            sandbox_key: sandbox.map(|sandbox| sandbox.key.clone()).unwrap_or_default(),
            ports: network_settings::ports(view),
            networks: network_settings::shown_endpoints(view),
            ..NetworkSettings::default()
        },
    }
}

fn lay_over_host(shown: &mut HostConfig, view: &ContainerView) {
    let (spec, effective) = (&view.spec, &view.effective);
    host_config::lay_over(&mut shown.resources, &spec.resources);
    let options = &mut shown.options;
    host_config::lay_over_namespaces(options, &spec.namespaces);
    options.network_mode = network_settings::shown_network_mode(&spec.networking.mode);
    options.restart_policy = host_config::shown_restart_policy(spec.restart);
    options.auto_remove = spec.auto_remove;
    options.log_config.r#type.clone_from(&effective.log_driver);
    options.log_config.config = Some(effective.log_options.clone());
    options.runtime.clone_from(&effective.runtime);
    options.shm_size = i64::try_from(effective.shm_size).unwrap_or(i64::MAX);
    options.oom_score_adj = spec.resources.oom_score_adj;
    if !view.links.is_empty() {
        let link = |link: &LinkView| format!("/{}:/{}/{}", link.target, view.name, link.alias);
        options.links = Some(view.links.iter().map(link).collect());
    }
    // A privileged container hides nothing, which is shown as null; an empty list was asked for as such.
    if !options.privileged {
        options.masked_paths = Some(effective.masked_paths.clone());
        options.readonly_paths = Some(effective.readonly_paths.clone());
    }
}

/// The state in Docker's flat form. A container that waits for its restart counts as running.
fn state(view: &ContainerView) -> ContainerState {
    use observed::ContainerState as S;
    let state = &view.state;
    let (run, last) = (state.run(), state.last_exit());
    let is_restarting = matches!(state, S::Restarting { .. });
    let failure = view.start_failure.as_ref();
    let error = match (state, failure, last) {
        (S::Dead { reason, .. }, _, _) => reason.clone(),
        (_, Some(failure), _) => failure.error.clone(),
        (_, None, Some(last)) => last.error.clone(),
        (_, None, None) => String::new(),
    };
    let exit_code = match (run, last) {
        (Some(_), _) => 0,
        (None, Some(last)) => last.code,
        (None, None) => failure.map_or(0, |failure| failure.code),
    };
    ContainerState {
        status: state.name().to_owned(),
        running: run.is_some() || is_restarting,
        paused: matches!(state, S::Paused(_)),
        restarting: is_restarting,
        oom_killed: run.map_or_else(|| last.is_some_and(|last| last.oom_killed), |run| run.oom_killed),
        dead: matches!(state, S::Dead { .. }),
        pid: run.map_or(0, |run| run.pid),
        exit_code,
        error,
        started_at: Time(run.map(|run| run.started_at).or_else(|| last.and_then(|last| last.started_at))),
        finished_at: Time(run.map_or_else(|| last.map(|last| last.finished_at), |run| run.previous_end)),
        health: view.health.as_ref().map(health),
    }
}

fn health(health: &ObservedHealth) -> Health {
    let log = health.log.iter().map(|probe| HealthcheckResult {
        start: probe.start.into(),
        end: probe.end.into(),
        exit_code: probe.exit_code,
        output: probe.output.clone(),
    });
    Health {
        status: container_summary::health_name(Some(health)).to_owned(),
        failing_streak: health.failing_streak,
        log: log.collect(),
    }
}

/// Where the root file system is, under the names that the overlay driver gives.
fn driver_data(driver: &str, paths: &ContainerPaths) -> DriverData {
    let entries = [
        ("LowerDir", paths.lower_dirs.join(":")),
        ("MergedDir", paths.merged_dir.clone()),
        ("UpperDir", paths.upper_dir.clone()),
        ("WorkDir", paths.work_dir.clone()),
    ];
    let data: BTreeMap<String, String> = entries
        .into_iter()
        .filter(|(_, path)| !path.is_empty())
        .map(|(name, path)| (name.to_owned(), path))
        .collect();
    DriverData { data: Some(data).filter(|data| !data.is_empty()), name: driver.to_owned() }
}

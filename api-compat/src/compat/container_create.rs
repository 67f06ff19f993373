//! A request to create a container, as older versions send it.
//!
//! Start reading at [`upgrade`].

use std::collections::BTreeMap;

use node_agent::containers::host::CgroupVersion;
use shoal_types::container::mounts::{MountAccess, MountSource};
use shoal_types::container::spec::ContainerSpec;

use crate::error::ApiError;
use crate::model::container_create::ContainerCreate;
use crate::model::host_config::{HostOptions, PortBinding};
use crate::model::mount::{BindOptions, Mount};
use crate::model::network_settings::EndpointSettings;
use crate::version::ApiVersion;

/// The driver option that carries kernel parameters of one interface.
const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Brings a request to the newest shape. Returns warnings for the client. On hosts with cgroup version 1 containers of old
/// clients keep the host's view of cgroups, whatever the daemon's default is.
pub(crate) fn upgrade(
    create: &mut ContainerCreate,
    version: ApiVersion,
    host: CgroupVersion,
) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    normalise_network_mode(create);
    drop_unknown(create, version);
    let options = &mut create.host_config.options;
    if version.is_below(41) && host == CgroupVersion::V1 && options.cgroupns_mode.is_empty() {
        "host".clone_into(&mut options.cgroupns_mode);
    }
    check_mounts(&mut create.host_config.options, version)?;
    if version.is_below(44) {
        check_single_endpoint(create)?;
    }
    warnings.extend(move_mac_address(create, version)?);
    warnings.extend(move_interface_sysctls(create, version)?);
    warnings.extend(fill_empty_bindings(&mut create.host_config.options, version));
    warnings.extend(ignored_volume_driver(&create.host_config.options, version));
    Ok(warnings)
}

/// Brings what was read of a request to its newest meaning: before 1.44 what is mounted below a read-only bind stayed
/// writable.
pub(crate) fn upgrade_spec(spec: &mut ContainerSpec, version: ApiVersion) {
    if !version.is_below(44) {
        return;
    }
    for mount in &mut spec.mounts {
        let is_path = matches!(mount.source, MountSource::Bind { .. });
        if is_path && mount.access == MountAccess::ReadOnly {
            mount.access = MountAccess::ReadOnlyNonRecursive;
        }
    }
}

/// `default` and nothing mean the default bridge, in the mode and among the endpoints.
fn normalise_network_mode(create: &mut ContainerCreate) {
    let mode = &mut create.host_config.options.network_mode;
    if matches!(mode.as_str(), "" | "default") {
        "bridge".clone_into(mode);
    }
    if let Some(endpoints) = &mut create.networking_config.endpoints_config
        && let Some(settings) = endpoints.remove("default")
    {
        endpoints.entry("bridge".to_owned()).or_insert(settings);
    }
}

/// Drops what a version did not know and would have ignored.
fn drop_unknown(create: &mut ContainerCreate, version: ApiVersion) {
    let options = &mut create.host_config.options;
    if version.is_below(40) && options.ipc_mode.is_empty() {
        "shareable".clone_into(&mut options.ipc_mode);
    }
    if version.is_below(42) {
        options.console_size = [0, 0];
    }
    if version.is_below(43) {
        options.annotations = None;
    }
    if version.is_below(44)
        && let Some(health) = &mut create.config.healthcheck
    {
        health.start_interval = 0;
    }
    if version.is_below(48) {
        for settings in create.networking_config.endpoints_config.iter_mut().flatten() {
            if let Some(settings) = settings.1 {
                settings.gw_priority = None;
            }
        }
    }
    if version.is_from(52) {
        create.config.mac_address.clear();
    }
}

/// Options that belong to another kind of mount were ignored below 1.42 and are errors since; newer kinds and options
/// need their version.
fn check_mounts(options: &mut HostOptions, version: ApiVersion) -> Result<(), ApiError> {
    for mount in options.mounts.iter_mut().flatten() {
        let kind = mount.r#type.clone();
        let misfit = |name: &str, belongs: &str, is_there: bool| {
            if !is_there || kind == belongs {
                return Ok(false);
            }
            if version.is_below(42) {
                return Ok(true);
            }
            Err(ApiError::invalid(format!("{name} must not be specified on mount type {kind:?}")))
        };
        if misfit("BindOptions", "bind", mount.bind_options.is_some())? {
            mount.bind_options = None;
        }
        if misfit("VolumeOptions", "volume", mount.volume_options.is_some())? {
            mount.volume_options = None;
        }
        if misfit("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some())? {
            mount.tmpfs_options = None;
        }
        if misfit("ImageOptions", "image", mount.image_options.is_some())? {
            mount.image_options = None;
        }
        check_mount_version(mount, version)?;
    }
    Ok(())
}

fn check_mount_version(mount: &mut Mount, version: ApiVersion) -> Result<(), ApiError> {
    if version.is_below(42)
        && let Some(bind) = &mut mount.bind_options
    {
        bind.create_mountpoint = false;
    }
    if version.is_below(44) && mount.r#type == "bind" && mount.read_only {
        let bind = mount.bind_options.get_or_insert_with(BindOptions::default);
        bind.read_only_non_recursive = true;
        bind.read_only_force_recursive = false;
    }
    let has_subpath = mount.volume_options.as_ref().is_some_and(|options| !options.subpath.is_empty());
    if version.is_below(45) && has_subpath {
        return Err(ApiError::invalid("VolumeOptions.Subpath needs API v1.45 or newer"));
    }
    if version.is_below(48) && mount.r#type == "image" {
        return Err(ApiError::invalid("Mount type \"Image\" needs API v1.48 or newer"));
    }
    Ok(())
}

fn check_single_endpoint(create: &ContainerCreate) -> Result<(), ApiError> {
    let names: Vec<&str> =
        create.networking_config.endpoints_config.iter().flatten().map(|(name, _)| name.as_str()).collect();
    if names.len() > 1 {
        return Err(ApiError::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    Ok(())
}

/// Whether a container with this mode has a network of its own that can carry an address.
fn has_own_network(mode: &str) -> bool {
    !matches!(mode, "host" | "none") && !mode.starts_with("container:")
}

/// The endpoint of the network that the mode names.
fn main_endpoint(create: &mut ContainerCreate) -> &mut EndpointSettings {
    let mode = create.host_config.options.network_mode.clone();
    let endpoints = create.networking_config.endpoints_config.get_or_insert_default();
    // A network may be named by name in one place and by id in the other; with one endpoint there is no doubt.
    let only = (endpoints.len() == 1).then(|| endpoints.keys().next().cloned()).flatten();
    let key = if endpoints.contains_key(&mode) { mode } else { only.unwrap_or(mode) };
    endpoints.entry(key).or_default().get_or_insert_default()
}

/// Moves the container-wide hardware address to its endpoint, where it belongs since 1.44.
fn move_mac_address(create: &mut ContainerCreate, version: ApiVersion) -> Result<Option<String>, ApiError> {
    let address = std::mem::take(&mut create.config.mac_address);
    if version.is_below(44) && address.is_empty() {
        // Older versions ignored the endpoint's own; a client that echoes an inspect may send one.
        for settings in create.networking_config.endpoints_config.iter_mut().flatten() {
            if let Some(settings) = settings.1 {
                settings.mac_address.clear();
            }
        }
    }
    if address.is_empty() {
        return Ok(None);
    }
    if !has_own_network(&create.host_config.options.network_mode) {
        if version.is_below(44) {
            return Err(ApiError::invalid("conflicting options: mac-address and the network mode"));
        }
    } else {
        let endpoint = main_endpoint(create);
        if version.is_from(44) && !endpoint.mac_address.is_empty() && endpoint.mac_address != address {
            return Err(ApiError::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
            ));
        }
        endpoint.mac_address = address;
    }
    let warning = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";
    Ok(version.is_from(44).then(|| warning.to_owned()))
}

/// Moves kernel parameters of one interface (`net.ipv4.conf.eth0.…`) to its endpoint, where they belong since 1.46.
fn move_interface_sysctls(
    create: &mut ContainerCreate,
    version: ApiVersion,
) -> Result<Option<String>, ApiError> {
    if !has_own_network(&create.host_config.options.network_mode) {
        return Ok(None);
    }
    let is_of_interface = |name: &str| {
        let parts: Vec<&str> = name.split('.').collect();
        parts.len() == 5
            && parts.first() == Some(&"net")
            && parts.get(3).is_some_and(|p| p.starts_with("eth"))
    };
    let sysctls = create.host_config.options.sysctls.clone().unwrap_or_default();
    let (moved, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
        sysctls.into_iter().partition(|(name, _)| is_of_interface(name));
    let Some(first) = moved.keys().next() else { return Ok(None) };
    if version.is_from(48) {
        return Err(ApiError::internal(format!(
            "interface specific sysctl setting {first:?} must be supplied using driver option '{ENDPOINT_SYSCTLS}'"
        )));
    }
    let settings: Vec<String> = moved
        .iter()
        .map(|(name, value)| {
            let parts: Vec<&str> = name.split('.').collect();
            let part = |place: usize| parts.get(place).copied().unwrap_or_default();
            format!("net.{}.{}.IFNAME.{}={value}", part(1), part(2), part(4))
        })
        .collect();
    let names: Vec<&str> = moved.keys().map(String::as_str).collect();
    let joined = settings.join(",");
    let warning =
        format!("Migrated sysctl {:?} to DriverOpts{{{ENDPOINT_SYSCTLS:?}:{joined:?}}}.", names.join(","));
    create.host_config.options.sysctls = Some(kept);
    let options = main_endpoint(create).driver_opts.get_or_insert_default();
    options
        .entry(ENDPOINT_SYSCTLS.to_owned())
        .and_modify(|present| *present = format!("{present},{joined}"))
        .or_insert(joined);
    Ok(Some(warning))
}

/// A port without any binding gets an empty one, which draws a port at random.
fn fill_empty_bindings(options: &mut HostOptions, version: ApiVersion) -> Option<String> {
    let mut ports: Vec<&str> = Vec::new();
    for (port, list) in options.port_bindings.iter_mut().flatten() {
        if list.as_ref().is_none_or(Vec::is_empty) {
            *list = Some(vec![PortBinding::default()]);
            ports.push(port);
        }
    }
    (version.is_from(52) && !ports.is_empty()).then(|| {
        format!(
            "Following container port(s) have an empty list of port-bindings: {}. Such bindings will be discarded in a future version.",
            ports.join(", ")
        )
    })
}

fn ignored_volume_driver(options: &HostOptions, version: ApiVersion) -> Option<String> {
    let has_volume = options.mounts.iter().flatten().any(|mount| mount.r#type == "volume");
    (version.is_from(48) && !options.volume_driver.is_empty() && has_volume).then(|| {
        "WARNING: the container-wide VolumeDriver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn upgraded(body: &Value, minor: u16) -> Result<(ContainerCreate, Vec<String>), ApiError> {
        let mut create = ContainerCreate::from_json(body).unwrap().unwrap();
        let warnings = upgrade(&mut create, ApiVersion::v1(minor), CgroupVersion::V1)?;
        Ok((create, warnings))
    }

    #[test]
    fn old_clients_keep_the_hosts_cgroups_and_writable_mounts_below_read_only_ones() {
        let seen = |minor: u16, host: CgroupVersion| {
            let body = json!({"Image": "i", "HostConfig": {"Binds": ["/a:/b:ro"]}});
            let mut create = ContainerCreate::from_json(&body).unwrap().unwrap();
            upgrade(&mut create, ApiVersion::v1(minor), host).unwrap();
            let mut spec = crate::convert::container_create::spec(&create, None).unwrap();
            upgrade_spec(&mut spec, ApiVersion::v1(minor));
            (create.host_config.options.cgroupns_mode, spec.mounts[0].access)
        };
        let (shallow, deep) = (MountAccess::ReadOnlyNonRecursive, MountAccess::ReadOnly);
        assert_eq!(seen(40, CgroupVersion::V1), ("host".to_owned(), shallow));
        assert_eq!(seen(40, CgroupVersion::V2), (String::new(), shallow));
        assert_eq!(seen(43, CgroupVersion::V1), (String::new(), shallow));
        assert_eq!(seen(44, CgroupVersion::V1), (String::new(), deep));
    }

    #[test]
    fn what_a_version_did_not_know_is_dropped() {
        let body = json!({
            "Image": "i",
            "Healthcheck": {"Test": ["NONE"], "StartInterval": 5_000_000},
            "HostConfig": {"ConsoleSize": [1, 2], "Annotations": {"a": "b"}},
            "NetworkingConfig": {"EndpointsConfig": {"n": {"GwPriority": 5}}},
        });
        let seen = |minor: u16| {
            let (create, _) = upgraded(&body, minor).unwrap();
            let endpoint = create.networking_config.endpoints_config.unwrap()["n"].clone().unwrap();
            (
                create.host_config.options.console_size,
                create.host_config.options.annotations.is_some(),
                create.config.healthcheck.unwrap().start_interval,
                endpoint.gw_priority,
                create.host_config.options.ipc_mode,
            )
        };
        assert_eq!(seen(39), ([0, 0], false, 0, None, "shareable".to_owned()));
        assert_eq!(seen(41), ([0, 0], false, 0, None, String::new()));
        assert_eq!(seen(42), ([1, 2], false, 0, None, String::new()));
        assert_eq!(seen(43), ([1, 2], true, 0, None, String::new()));
        assert_eq!(seen(44), ([1, 2], true, 5_000_000, None, String::new()));
        assert_eq!(seen(48), ([1, 2], true, 5_000_000, Some(5), String::new()));
    }

    #[test]
    fn newer_things_need_their_version() {
        let mount = |mount: Value| json!({"Image": "i", "HostConfig": {"Mounts": [mount]}});
        let subpath = mount(
            json!({"Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {"Subpath": "s"}}),
        );
        let image = mount(json!({"Type": "image", "Source": "v", "Target": "/v"}));
        let misfit = mount(json!({"Type": "bind", "Source": "/v", "Target": "/v", "VolumeOptions": {}}));
        let endpoints = json!({"Image": "i", "NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}});
        for (body, minor, message) in [
            (&subpath, 44, "VolumeOptions.Subpath needs API v1.45 or newer"),
            (&image, 47, "Mount type \"Image\" needs API v1.48 or newer"),
            (&misfit, 42, "VolumeOptions must not be specified on mount type \"bind\""),
            (&endpoints, 43, "Container cannot be created with multiple network endpoints: a, b"),
        ] {
            assert_eq!(upgraded(body, minor).unwrap_err().message(), message);
        }
        assert!(upgraded(&subpath, 45).is_ok());
        assert!(upgraded(&image, 48).is_ok());
        assert!(upgraded(&endpoints, 44).is_ok());
        let (dropped, _) = upgraded(&misfit, 41).unwrap();
        assert_eq!(dropped.host_config.options.mounts.unwrap()[0].volume_options, None);
    }

    #[test]
    fn the_container_wide_mac_address_moves_to_its_endpoint() {
        let body =
            json!({"Image": "i", "MacAddress": "02:00:00:00:00:01", "HostConfig": {"NetworkMode": "n"}});
        let seen = |minor: u16| {
            let (create, warnings) = upgraded(&body, minor).unwrap();
            let endpoints = create.networking_config.endpoints_config.unwrap_or_default();
            let mac = endpoints.get("n").cloned().flatten().map(|settings| settings.mac_address);
            (mac, warnings.len(), create.config.mac_address)
        };
        let mac = Some("02:00:00:00:00:01".to_owned());
        assert_eq!(seen(43), (mac.clone(), 0, String::new()));
        assert_eq!(seen(44), (mac, 1, String::new()));
        assert_eq!(seen(52), (None, 0, String::new()));
    }

    #[test]
    fn kernel_parameters_of_an_interface_move_to_its_endpoint() {
        let body = json!({"Image": "i", "HostConfig": {"Sysctls": {"net.ipv4.conf.eth0.log_martians": "1", "net.core.somaxconn": "5"}}});
        let (create, warnings) = upgraded(&body, 47).unwrap();
        assert_eq!(
            warnings,
            [
                r#"Migrated sysctl "net.ipv4.conf.eth0.log_martians" to DriverOpts{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.log_martians=1"}."#
            ]
        );
        let sysctls = create.host_config.options.sysctls.unwrap();
        assert_eq!(sysctls.keys().collect::<Vec<_>>(), ["net.core.somaxconn"]);
        let error = upgraded(&body, 48).unwrap_err();
        assert_eq!(
            error.message(),
            "interface specific sysctl setting \"net.ipv4.conf.eth0.log_martians\" must be supplied using driver option 'com.docker.network.endpoint.sysctls'"
        );
    }

    #[test]
    fn read_only_binds_reached_no_deeper_below_1_44() {
        let body = json!({"Image": "i", "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true}]}});
        let non_recursive = |minor: u16| {
            let (create, _) = upgraded(&body, minor).unwrap();
            let mounts = create.host_config.options.mounts.unwrap();
            mounts[0].bind_options.as_ref().is_some_and(|options| options.read_only_non_recursive)
        };
        assert!(non_recursive(43));
        assert!(!non_recursive(44));
    }

    #[test]
    fn the_default_network_mode_is_the_bridge() {
        for mode in ["", "default", "bridge"] {
            let body = json!({"Image": "i", "HostConfig": {"NetworkMode": mode}});
            assert_eq!(upgraded(&body, 41).unwrap().0.host_config.options.network_mode, "bridge");
        }
    }
}

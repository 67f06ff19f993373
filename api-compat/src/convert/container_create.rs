//! A request for a container, as a spec.
//!
//! Start reading at [`spec`]. The parts are in the files beside this one; here are the rules that concern several of
//! them.

use shoal_types::Platform;
use shoal_types::container::networking::NetworkMode;
use shoal_types::container::spec::{ContainerSpec, LoggingSpec};

use super::{container_config, host_config, mount, network_settings, security_opt};
use crate::error::ApiError;
use crate::model::container_create::ContainerCreate;
use crate::model::host_config::HostOptions;

/// The spec that a request describes.
pub(crate) fn spec(create: &ContainerCreate, platform: Option<Platform>) -> Result<ContainerSpec, ApiError> {
    let ContainerCreate { config, host_config, networking_config } = create;
    let options = &host_config.options;
    let restart = host_config::restart_policy(&options.restart_policy, options.auto_remove)?;
    host_config::check(host_config)?;
    let networking = network_settings::spec(config, options, networking_config)?;
    check_combinations(create, &networking.mode)?;
    let mut process = container_config::process(config)?;
    process.groups = options.group_add.clone().unwrap_or_default();
    process.console_size = (options.console_size != [0, 0]).then(|| options.console_size.into());
    Ok(ContainerSpec {
        image: config.image.clone(),
        platform,
        process,
        labels: config.labels.clone().unwrap_or_default(),
        annotations: annotations(options)?,
        resources: host_config::new_resources(&host_config.resources, options.oom_score_adj),
        mounts: mount::specs(config, options)?,
        networking,
        namespaces: host_config::namespaces(options)?,
        security: security_opt::spec(options)?,
        health: config.healthcheck.as_ref().map(container_config::health).transpose()?,
        logging: LoggingSpec {
            driver: options.log_config.r#type.clone(),
            options: options.log_config.config.clone().unwrap_or_default(),
        },
        restart,
        auto_remove: options.auto_remove,
        runtime: Some(options.runtime.clone()).filter(|name| !name.is_empty()),
        storage_options: options.storage_opt.clone().unwrap_or_default(),
        shm_size: u64::try_from(options.shm_size).ok().filter(|&size| size > 0),
        sysctls: options.sysctls.clone().unwrap_or_default(),
        init: options.init,
        on_build: config.on_build.clone().unwrap_or_default(),
    })
}

fn annotations(options: &HostOptions) -> Result<std::collections::BTreeMap<String, String>, ApiError> {
    let annotations = options.annotations.clone().unwrap_or_default();
    if annotations.keys().any(String::is_empty) {
        return Err(ApiError::invalid(
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ));
    }
    Ok(annotations)
}

/// What contradicts the mode of the network.
fn check_combinations(create: &ContainerCreate, mode: &NetworkMode) -> Result<(), ApiError> {
    let options = &create.host_config.options;
    let has = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let conflict = |what: &str| Err(ApiError::invalid(format!("conflicting options: {what}")));
    if options.uts_mode == "host" && !create.config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    match mode {
        NetworkMode::Container(_) => {
            if !create.config.hostname.is_empty() {
                return conflict("hostname and the network mode");
            }
            if has(&options.links) {
                return conflict(
                    "container type network can't be used with links. This would result in undefined behavior",
                );
            }
            if has(&options.dns) {
                return conflict("dns and the network mode");
            }
            if has(&options.extra_hosts) {
                return conflict("custom host-to-IP mapping and the network mode");
            }
            if options.port_bindings.as_ref().is_some_and(|map| !map.is_empty()) || options.publish_all_ports
            {
                return conflict("port publishing and the container type network mode");
            }
            if create.config.exposed_ports.as_ref().is_some_and(|set| !set.is_empty()) {
                return conflict("port exposing and the container type network mode");
            }
        }
        NetworkMode::Host if has(&options.links) => {
            return conflict(
                "host type networking can't be used with links. This would result in undefined behavior",
            );
        }
        NetworkMode::Host | NetworkMode::DefaultBridge | NetworkMode::None | NetworkMode::Network(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shoal_types::container::restart::RestartPolicy;

    use super::*;

    fn create(body: &Value) -> Result<ContainerSpec, ApiError> {
        spec(&ContainerCreate::from_json(body).unwrap().unwrap(), None)
    }

    #[test]
    fn a_plain_request_becomes_a_plain_spec() {
        let found = create(&json!({"Image": "busybox", "Cmd": "true"})).unwrap();
        assert_eq!(found.image, "busybox");
        assert_eq!(found.process.cmd, Some(vec!["true".to_owned()]));
        assert_eq!(found.networking.mode, NetworkMode::DefaultBridge);
        assert_eq!(found.restart, RestartPolicy::No);
    }

    #[test]
    fn wrong_requests_are_refused_with_dockers_texts() {
        let host = |host: Value| json!({"Image": "i", "HostConfig": host});
        let cases = [
            (
                json!({"Image": "i", "WorkingDir": "rel"}),
                "the working directory 'rel' is invalid, it needs to be an absolute path",
            ),
            (
                json!({"Image": "i", "Hostname": "h".repeat(65)}),
                &*format!("hostname \"{}\" is too long (maximum 64 bytes)", "h".repeat(65)),
            ),
            (
                host(json!({"AutoRemove": true, "RestartPolicy": {"Name": "always"}})),
                "can't create 'AutoRemove' container with restart policy",
            ),
            (
                host(json!({"RestartPolicy": {"Name": "x"}})),
                "invalid restart policy: unknown policy 'x'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            ),
            (
                host(json!({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 1}})),
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ),
            (
                host(json!({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}})),
                "invalid restart policy: maximum retry count cannot be negative",
            ),
            (
                host(json!({"NetworkMode": "container:"})),
                "invalid network mode: invalid container format container:<name|id>",
            ),
            (
                json!({"Image": "i", "Hostname": "h", "HostConfig": {"NetworkMode": "container:a"}}),
                "conflicting options: hostname and the network mode",
            ),
            (
                host(json!({"NetworkMode": "container:a", "Links": ["b"]})),
                "conflicting options: container type network can't be used with links. This would result in undefined behavior",
            ),
            (
                host(json!({"NetworkMode": "container:a", "Dns": ["1.1.1.1"]})),
                "conflicting options: dns and the network mode",
            ),
            (
                host(json!({"NetworkMode": "container:a", "ExtraHosts": ["a:1.1.1.1"]})),
                "conflicting options: custom host-to-IP mapping and the network mode",
            ),
            (
                host(json!({"NetworkMode": "container:a", "PublishAllPorts": true})),
                "conflicting options: port publishing and the container type network mode",
            ),
            (
                json!({"Image": "i", "ExposedPorts": {"1/tcp": {}}, "HostConfig": {"NetworkMode": "container:a"}}),
                "conflicting options: port exposing and the container type network mode",
            ),
            (
                host(json!({"NetworkMode": "host", "Links": ["b"]})),
                "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
            ),
            (
                json!({"Image": "i", "Hostname": "h", "HostConfig": {"UTSMode": "host"}}),
                "conflicting options: hostname and the UTS mode",
            ),
            (
                host(json!({"Annotations": {"": "x"}})),
                "invalid Annotations: the empty string is not permitted as an annotation key",
            ),
        ];
        for (body, message) in cases {
            assert_eq!(create(&body).unwrap_err().message(), message, "{body}");
        }
    }
}

//! What each task of a service runs and where, both ways.
//!
//! Start reading at [`template`] and [`shown`]. The container in it is in `service_container`.

use std::time::Duration;

use shoal_types::Platform as ImagePlatform;
use shoal_types::cluster::service::{
    NetworkWish, Placement as Wanted, RestartCondition, RestartRule, ServiceResources, TaskTemplate,
};

use super::cluster::{duration, logging, nanoseconds, shown_logging};
use super::node::{generic, shown_generic};
use super::service_container;
use crate::error::ApiError;
use crate::model::node::{Platform, ResourceObject};
use crate::model::task_spec::{
    Limit, NetworkAttachmentConfig, Placement, PlacementPreference, ResourceRequirements, RestartPolicy,
    SpreadOver, TaskSpec,
};
#[cfg(test)]
pub(in crate::convert) use tests::full_template;

/// Time between stop signal and SIGKILL when nothing was said.
const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);

/// Whether what nobody has said is shown with the value that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defaults {
    /// It is left out.
    Omitted,
    /// It is shown.
    Inserted,
}

/// What each task runs, as a request describes it.
pub(super) fn template(asked: TaskSpec) -> Result<TaskTemplate, ApiError> {
    match asked.runtime.as_str() {
        "" | "container" => {}
        "plugin" => {
            return Err(ApiError::not_implemented("services of plugins are not supported by this engine"));
        }
        _ => return Err(ApiError::invalid("unsupported runtime")),
    }
    if asked.plugin_spec.is_some() {
        return Err(ApiError::not_implemented("services of plugins are not supported by this engine"));
    }
    if asked.network_attachment_spec.is_some() {
        return Err(ApiError::invalid("unsupported runtime"));
    }
    let Some(container) = asked.container_spec else {
        return Err(ApiError::invalid("mismatched Runtime and *Spec fields"));
    };
    Ok(TaskTemplate {
        container: service_container::spec(container)?,
        resources: resources(asked.resources.unwrap_or_default())?,
        restart: restart(&asked.restart_policy.unwrap_or_default())?,
        placement: placement(asked.placement.unwrap_or_default()),
        networks: asked.networks.into_iter().map(network).collect(),
        logging: asked.log_driver.map(logging),
        force_update: asked.force_update,
        // One word for one thing: what is shown and sent back must not look like a change, or every task would be replaced.
        runtime: String::new(),
        credentials: None,
    })
}

fn resources(asked: ResourceRequirements) -> Result<ServiceResources, ApiError> {
    let limits = asked.limits.unwrap_or_default();
    let reserved = asked.reservations.unwrap_or_default();
    if asked.swap_bytes.is_some_and(|bytes| bytes < -1) {
        return Err(ApiError::invalid("invalid SwapBytes: must be -1 or more"));
    }
    if asked.swap_bytes.is_some() && limits.memory_bytes == 0 {
        return Err(ApiError::invalid("memory swap provided, but no memory-limit was set"));
    }
    if asked.memory_swappiness.is_some_and(|readiness| !(-1..=100).contains(&readiness)) {
        return Err(ApiError::invalid("invalid MemorySwappiness: must be between -1 and 100"));
    }
    Ok(ServiceResources {
        limit_nano_cpus: limits.nano_cpus,
        limit_memory: limits.memory_bytes,
        limit_pids: limits.pids,
        reserved_nano_cpus: reserved.nano_cpus,
        reserved_memory: reserved.memory_bytes,
        reserved_generic: generic(reserved.generic_resources)?,
        swap: asked.swap_bytes,
        swappiness: asked.memory_swappiness,
    })
}

fn restart(asked: &RestartPolicy) -> Result<RestartRule, ApiError> {
    let default = RestartRule::default();
    let condition = match asked.condition.as_str() {
        "none" => RestartCondition::None,
        "on-failure" => RestartCondition::OnFailure,
        "any" | "" => RestartCondition::Any,
        other => return Err(ApiError::invalid(format!("invalid RestartCondition: {other:?}"))),
    };
    let delay = asked.delay.map(|span| duration(span, "TaskSpec: restart-delay cannot be negative"));
    let window = asked.window.map(|span| duration(span, "TaskSpec: restart-window cannot be negative"));
    Ok(RestartRule {
        condition,
        delay: delay.transpose()?.unwrap_or(default.delay),
        max_attempts: asked.max_attempts.unwrap_or(default.max_attempts),
        window: window.transpose()?,
    })
}

fn placement(asked: Placement) -> Wanted {
    Wanted {
        constraints: asked.constraints,
        spread_over: asked
            .preferences
            .into_iter()
            .filter_map(|preference| Some(preference.spread?.spread_descriptor))
            .collect(),
        max_per_node: asked.max_replicas,
        platforms: asked.platforms.into_iter().map(platform).collect(),
    }
}

/// In the words of who asked: they are shown again. What they mean is found out where a node is looked for.
fn platform(asked: Platform) -> ImagePlatform {
    ImagePlatform { os: asked.os, architecture: asked.architecture, variant: String::new() }
}

fn network(asked: NetworkAttachmentConfig) -> NetworkWish {
    NetworkWish { target: asked.target, aliases: asked.aliases, driver_options: asked.driver_opts }
}

/// What each task runs, as Docker shows it.
pub(super) fn shown(template: &TaskTemplate, defaults: Defaults) -> TaskSpec {
    let is_inserted = defaults == Defaults::Inserted;
    let grace = is_inserted.then_some(DEFAULT_STOP_GRACE);
    let restart = shown_restart(&template.restart);
    TaskSpec {
        container_spec: Some(service_container::shown(&template.container, grace)),
        plugin_spec: None,
        network_attachment_spec: None,
        resources: Some(shown_resources(&template.resources)),
        restart_policy: (is_inserted || template.restart != RestartRule::default()).then_some(restart),
        placement: Some(shown_placement(&template.placement)),
        networks: template.networks.iter().map(shown_network).collect(),
        log_driver: template.logging.as_ref().map(shown_logging),
        force_update: template.force_update,
        runtime: if template.runtime.is_empty() { "container".to_owned() } else { template.runtime.clone() },
    }
}

fn shown_resources(resources: &ServiceResources) -> ResourceRequirements {
    ResourceRequirements {
        limits: Some(Limit {
            nano_cpus: resources.limit_nano_cpus,
            memory_bytes: resources.limit_memory,
            pids: resources.limit_pids,
        }),
        reservations: Some(ResourceObject {
            nano_cpus: resources.reserved_nano_cpus,
            memory_bytes: resources.reserved_memory,
            generic_resources: shown_generic(&resources.reserved_generic),
        }),
        swap_bytes: resources.swap,
        memory_swappiness: resources.swappiness,
    }
}

fn shown_restart(restart: &RestartRule) -> RestartPolicy {
    let condition = match restart.condition {
        RestartCondition::None => "none",
        RestartCondition::OnFailure => "on-failure",
        RestartCondition::Any => "any",
    };
    RestartPolicy {
        condition: condition.to_owned(),
        delay: Some(nanoseconds(restart.delay)),
        max_attempts: Some(restart.max_attempts),
        window: restart.window.map(nanoseconds),
    }
}

fn shown_placement(placement: &Wanted) -> Placement {
    let preference = |label: &String| PlacementPreference {
        spread: Some(SpreadOver { spread_descriptor: label.clone() }),
    };
    let platform = |platform: &ImagePlatform| Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
    };
    Placement {
        constraints: placement.constraints.clone(),
        preferences: placement.spread_over.iter().map(preference).collect(),
        max_replicas: placement.max_per_node,
        platforms: placement.platforms.iter().map(platform).collect(),
    }
}

fn shown_network(wish: &NetworkWish) -> NetworkAttachmentConfig {
    NetworkAttachmentConfig {
        target: wish.target.clone(),
        aliases: wish.aliases.clone(),
        driver_opts: wish.driver_options.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Result<TaskTemplate, ApiError> {
        template(crate::json::decode_value(value).unwrap())
    }

    /// A template with a value in every field.
    pub(in crate::convert) fn full_template() -> Value {
        json!({
            "ContainerSpec": service_container::full(),
            "Resources": {
                "Limits": {"NanoCPUs": 1_000_000_000, "MemoryBytes": 8 << 20, "Pids": 100},
                "Reservations": {"NanoCPUs": 500_000_000, "MemoryBytes": 4 << 20, "GenericResources": [
                    {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 3}},
                    {"NamedResourceSpec": {"Kind": "GPU", "Value": "UUID1"}},
                ]},
                "SwapBytes": -1, "MemorySwappiness": 60,
            },
            "RestartPolicy": {"Condition": "on-failure", "Delay": 1_000_000_000, "MaxAttempts": 3, "Window": 60_000_000_000_i64},
            "Placement": {
                "Constraints": ["node.role==worker"], "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.rack"}}],
                "MaxReplicas": 2, "Platforms": [{"Architecture": "amd64", "OS": "linux"}],
            },
            "Networks": [{"Target": "n", "Aliases": ["a"], "DriverOpts": {"o": "p"}}],
            "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}},
            "ForceUpdate": 4, "Runtime": "container",
        })
    }

    #[test]
    fn a_template_with_every_field_goes_both_ways() {
        for defaults in [Defaults::Omitted, Defaults::Inserted] {
            let template = read(&full_template()).unwrap();
            assert_eq!(serde_json::to_value(shown(&template, defaults)).unwrap(), full_template());
        }
    }

    #[test]
    fn a_bare_template_that_is_shown_and_sent_back_is_the_same() {
        let bare = read(&json!({"ContainerSpec": {"Image": "i"}})).unwrap();
        let again = read(&serde_json::to_value(shown(&bare, Defaults::Omitted)).unwrap()).unwrap();
        assert_eq!(again, bare);
    }

    #[test]
    fn what_nobody_has_said_is_shown_when_it_is_asked_for() {
        let template = read(&json!({"ContainerSpec": {"Image": "i"}})).unwrap();
        let show = |defaults| serde_json::to_value(shown(&template, defaults)).unwrap();
        let (bare, full) = (show(Defaults::Omitted), show(Defaults::Inserted));
        assert_eq!(bare.get("RestartPolicy"), None);
        assert_eq!(
            full["RestartPolicy"],
            json!({"Condition": "any", "Delay": 5_000_000_000_i64, "MaxAttempts": 0})
        );
        assert_eq!(full["ContainerSpec"]["StopGracePeriod"], json!(10_000_000_000_i64));
        assert_eq!(bare["Resources"], json!({"Limits": {}, "Reservations": {}}));
    }

    #[test]
    fn wrong_templates_are_refused() {
        let rpc = |text: &str| format!("rpc error: code = InvalidArgument desc = {text}");
        let with = |key: &str, value: Value| json!({"ContainerSpec": {"Image": "i"}, key: value});
        for (asked, status, message) in [
            (json!({}), 400, "mismatched Runtime and *Spec fields".to_owned()),
            (
                with("Runtime", json!("plugin")),
                501,
                "services of plugins are not supported by this engine".to_owned(),
            ),
            (with("Runtime", json!("x")), 400, "unsupported runtime".to_owned()),
            (
                with("RestartPolicy", json!({"Condition": "x"})),
                400,
                "invalid RestartCondition: \"x\"".to_owned(),
            ),
            (
                with("RestartPolicy", json!({"Delay": -1})),
                400,
                rpc("TaskSpec: restart-delay cannot be negative"),
            ),
            (
                with("Resources", json!({"SwapBytes": 1 << 30, "Limits": {"NanoCPUs": 1}})),
                400,
                "memory swap provided, but no memory-limit was set".to_owned(),
            ),
            (
                with("Resources", json!({"MemorySwappiness": 101})),
                400,
                "invalid MemorySwappiness: must be between -1 and 100".to_owned(),
            ),
        ] {
            let error = read(&asked).unwrap_err();
            assert_eq!((error.status().as_u16(), error.message()), (status, message.as_str()), "{asked}");
        }
    }
}

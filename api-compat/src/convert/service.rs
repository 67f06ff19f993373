//! Services, both ways.
//!
//! Start reading at [`spec`] and [`shown`]. What is shown and sent back is the same again, field by field, because clients
//! change services so.

use manager::api::services::TaskCounts;
use shoal_types::cluster::service::{
    EndpointSpec as Wanted, FailureAction, JobStatus as Run, PublishMode, PublishedServicePort,
    ResolutionMode, Service as Stored, ServiceMode as Mode, ServiceSpec as Spec, UpdateOrder, UpdatePolicy,
    UpdateState, UpdateStatus as Progress,
};
use shoal_types::container::networking::Protocol;

use super::cluster::{duration, nanoseconds, version};
use super::task_spec::{self, Defaults};
use crate::error::ApiError;
use crate::model::Empty;
use crate::model::cluster::ObjectVersion;
use crate::model::service::{
    Endpoint, EndpointSpec, JobStatus, PortConfig, ReplicatedJob, ReplicatedService, Service, ServiceMode,
    ServiceSpec, ServiceStatus, UpdateConfig, UpdateStatus, VirtualIp,
};

/// The service that a request describes.
pub(crate) fn spec(asked: ServiceSpec) -> Result<Spec, ApiError> {
    Ok(Spec {
        name: asked.name,
        labels: asked.labels,
        template: task_spec::template(asked.task_template)?,
        mode: mode(&asked.mode)?,
        update: asked.update_config.map(|config| policy(&config)).transpose()?,
        rollback: asked.rollback_config.map(|config| policy(&config)).transpose()?,
        endpoint: endpoint(asked.endpoint_spec.unwrap_or_default())?,
    })
}

fn mode(asked: &ServiceMode) -> Result<Mode, ApiError> {
    match (&asked.replicated, &asked.global, &asked.replicated_job, &asked.global_job) {
        (None, None, None, None) => Ok(Mode::default()),
        (Some(replicated), None, None, None) => {
            Ok(Mode::Replicated { replicas: replicated.replicas.unwrap_or(1) })
        }
        (None, Some(_), None, None) => Ok(Mode::Global),
        (None, None, Some(job), None) => {
            let max_concurrent = job.max_concurrent.unwrap_or(1);
            let total_completions = job.total_completions.unwrap_or(max_concurrent);
            Ok(Mode::ReplicatedJob { max_concurrent, total_completions })
        }
        (None, None, None, Some(_)) => Ok(Mode::GlobalJob),
        _ => Err(ApiError::invalid("must specify only one service mode")),
    }
}

fn policy(asked: &UpdateConfig) -> Result<UpdatePolicy, ApiError> {
    let on_failure = match asked.failure_action.as_str() {
        "" | "pause" => FailureAction::Pause,
        "continue" => FailureAction::Continue,
        "rollback" => FailureAction::Rollback,
        other => return Err(ApiError::invalid(format!("unrecognized update failure action {other}"))),
    };
    let order = match asked.order.as_str() {
        "" | "stop-first" => UpdateOrder::StopFirst,
        "start-first" => UpdateOrder::StartFirst,
        other => return Err(ApiError::invalid(format!("unrecognized update order {other}"))),
    };
    let monitor = duration(asked.monitor, "TaskSpec: update-monitor cannot be negative")?;
    Ok(UpdatePolicy {
        parallelism: asked.parallelism,
        delay: duration(asked.delay, "TaskSpec: update-delay cannot be negative")?,
        on_failure,
        monitor: if monitor.is_zero() { UpdatePolicy::default().monitor } else { monitor },
        max_failure_ratio: asked.max_failure_ratio,
        order,
    })
}

fn endpoint(asked: EndpointSpec) -> Result<Wanted, ApiError> {
    let resolution = match asked.mode.to_ascii_lowercase().as_str() {
        "" | "vip" => ResolutionMode::Vip,
        "dnsrr" => ResolutionMode::Dnsrr,
        _ => return Err(ApiError::invalid(format!("invalid resolution mode: {:?}", asked.mode))),
    };
    let ports = asked.ports.into_iter().map(port).collect::<Result<_, _>>()?;
    Ok(Wanted { resolution, ports })
}

fn port(asked: PortConfig) -> Result<PublishedServicePort, ApiError> {
    let number = |port: u32| {
        u16::try_from(port).map_err(|_| ApiError::invalid(format!("invalid port number: {port}")))
    };
    let protocol = match asked.protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(ApiError::invalid(format!("invalid protocol: {:?}", asked.protocol))),
    };
    let mode = match asked.publish_mode.to_ascii_lowercase().as_str() {
        "" | "ingress" => PublishMode::Ingress,
        "host" => PublishMode::Host,
        _ => return Err(ApiError::invalid(format!("invalid publish mode: {:?}", asked.publish_mode))),
    };
    Ok(PublishedServicePort {
        name: asked.name,
        protocol,
        target: number(asked.target_port)?,
        published: number(asked.published_port)?,
        mode,
    })
}

/// A service as Docker shows it. What its tasks do is shown if it is given.
pub(crate) fn shown(service: &Stored, defaults: Defaults, counts: Option<TaskCounts>) -> Service {
    let virtual_ip = |(network, address): &(shoal_types::NetworkId, ipnet::IpNet)| VirtualIp {
        network_id: network.as_str().to_owned(),
        addr: address.to_string(),
    };
    Service {
        id: service.id.to_string(),
        version: version(&service.meta),
        created_at: service.meta.created.into(),
        updated_at: service.meta.updated.into(),
        spec: shown_spec(&service.spec, defaults),
        previous_spec: service.previous.as_ref().map(|previous| shown_spec(previous, Defaults::Omitted)),
        endpoint: Endpoint {
            spec: shown_endpoint(&service.spec.endpoint),
            ports: service.endpoint.ports.iter().map(shown_port).collect(),
            virtual_ips: service.endpoint.virtual_ips.iter().map(virtual_ip).collect(),
        },
        update_status: service.update.as_ref().map(shown_progress),
        service_status: counts.map(|counts| ServiceStatus {
            running_tasks: counts.running,
            desired_tasks: counts.desired,
            completed_tasks: counts.completed,
        }),
        job_status: service.job.as_ref().map(shown_run),
    }
}

/// What is asked of a service, as Docker shows it.
pub(crate) fn shown_spec(spec: &Spec, defaults: Defaults) -> ServiceSpec {
    let is_job = matches!(spec.mode, Mode::ReplicatedJob { .. } | Mode::GlobalJob);
    let inserted = (defaults == Defaults::Inserted && !is_job).then(UpdatePolicy::default);
    ServiceSpec {
        name: spec.name.clone(),
        labels: spec.labels.clone(),
        task_template: task_spec::shown(&spec.template, defaults),
        mode: shown_mode(&spec.mode),
        update_config: spec.update.as_ref().or(inserted.as_ref()).map(shown_policy),
        rollback_config: spec.rollback.as_ref().or(inserted.as_ref()).map(shown_policy),
        networks: Vec::new(),
        endpoint_spec: Some(shown_endpoint(&spec.endpoint)),
    }
}

fn shown_mode(mode: &Mode) -> ServiceMode {
    let none = ServiceMode::default();
    match mode {
        Mode::Replicated { replicas } => {
            ServiceMode { replicated: Some(ReplicatedService { replicas: Some(*replicas) }), ..none }
        }
        Mode::Global => ServiceMode { global: Some(Empty {}), ..none },
        Mode::ReplicatedJob { max_concurrent, total_completions } => ServiceMode {
            replicated_job: Some(ReplicatedJob {
                max_concurrent: Some(*max_concurrent),
                total_completions: Some(*total_completions),
            }),
            ..none
        },
        Mode::GlobalJob => ServiceMode { global_job: Some(Empty {}), ..none },
    }
}

fn shown_policy(policy: &UpdatePolicy) -> UpdateConfig {
    let failure_action = match policy.on_failure {
        FailureAction::Pause => "pause",
        FailureAction::Continue => "continue",
        FailureAction::Rollback => "rollback",
    };
    let order = match policy.order {
        UpdateOrder::StopFirst => "stop-first",
        UpdateOrder::StartFirst => "start-first",
    };
    UpdateConfig {
        parallelism: policy.parallelism,
        delay: nanoseconds(policy.delay),
        failure_action: failure_action.to_owned(),
        monitor: nanoseconds(policy.monitor),
        max_failure_ratio: policy.max_failure_ratio,
        order: order.to_owned(),
    }
}

fn shown_endpoint(endpoint: &Wanted) -> EndpointSpec {
    let mode = match endpoint.resolution {
        ResolutionMode::Vip => "vip",
        ResolutionMode::Dnsrr => "dnsrr",
    };
    EndpointSpec { mode: mode.to_owned(), ports: endpoint.ports.iter().map(shown_port).collect() }
}

/// A published port as Docker shows it.
pub(super) fn shown_port(port: &PublishedServicePort) -> PortConfig {
    let mode = match port.mode {
        PublishMode::Ingress => "ingress",
        PublishMode::Host => "host",
    };
    PortConfig {
        name: port.name.clone(),
        protocol: port.protocol.to_string(),
        target_port: u32::from(port.target),
        published_port: u32::from(port.published),
        publish_mode: mode.to_owned(),
    }
}

fn shown_progress(progress: &Progress) -> UpdateStatus {
    let state = match progress.state {
        UpdateState::Updating => "updating",
        UpdateState::Paused => "paused",
        UpdateState::Completed => "completed",
        UpdateState::RollbackStarted => "rollback_started",
        UpdateState::RollbackPaused => "rollback_paused",
        UpdateState::RollbackCompleted => "rollback_completed",
    };
    UpdateStatus {
        state: state.to_owned(),
        started_at: Some(progress.started.into()),
        completed_at: progress.completed.map(Into::into),
        message: progress.message.clone(),
    }
}

fn shown_run(run: &Run) -> JobStatus {
    JobStatus {
        job_iteration: ObjectVersion { index: run.iteration },
        last_execution: run.last_execution.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shoal_types::cluster::Meta;
    use shoal_types::cluster::service::ServiceEndpoint;
    use shoal_types::{NetworkId, ServiceId};

    use super::*;

    fn read(value: &Value) -> Result<Spec, ApiError> {
        spec(crate::json::decode_value(value).unwrap())
    }

    fn full() -> Value {
        let policy = |action: &str| {
            json!({"Parallelism": 2, "Delay": 1_000_000_000, "FailureAction": action, "Monitor": 2_000_000_000,
                   "MaxFailureRatio": 0.5, "Order": "start-first"})
        };
        json!({
            "Name": "web", "Labels": {"a": "b"}, "TaskTemplate": task_spec::full_template(),
            "Mode": {"Replicated": {"Replicas": 3}},
            "UpdateConfig": policy("rollback"), "RollbackConfig": policy("continue"),
            "EndpointSpec": {"Mode": "dnsrr", "Ports": [
                {"Name": "p", "Protocol": "udp", "TargetPort": 53, "PublishedPort": 5353, "PublishMode": "host"}]},
        })
    }

    fn stored(spec: Spec) -> Stored {
        let at = "2026-11-21T08:44:01Z".parse().unwrap();
        Stored {
            id: ServiceId::from_u128(1),
            meta: Meta { version: 5, created: at, updated: at },
            previous: Some(Box::new(spec.clone())),
            spec,
            spec_version: 1,
            endpoint: ServiceEndpoint {
                ports: vec![PublishedServicePort {
                    name: String::new(),
                    protocol: Protocol::Tcp,
                    target: 80,
                    published: 30000,
                    mode: PublishMode::Ingress,
                }],
                virtual_ips: vec![(NetworkId::new("n"), "10.0.0.5/24".parse().unwrap())],
            },
            update: Some(Progress {
                state: UpdateState::RollbackStarted,
                started: at,
                completed: None,
                message: "manually requested rollback".into(),
            }),
            job: Some(Run { iteration: 2, last_execution: at }),
        }
    }

    #[test]
    fn a_service_with_every_field_goes_both_ways() {
        let spec = read(&full()).unwrap();
        assert_eq!(serde_json::to_value(shown_spec(&spec, Defaults::Omitted)).unwrap(), full());
        let again = read(&serde_json::to_value(shown_spec(&spec, Defaults::Inserted)).unwrap()).unwrap();
        assert_eq!(again, spec);
    }

    #[test]
    fn modes_go_both_ways_and_take_swarms_defaults() {
        for (asked, expected) in [
            (json!({}), json!({"Replicated": {"Replicas": 1}})),
            (json!({"Replicated": {}}), json!({"Replicated": {"Replicas": 1}})),
            (json!({"Replicated": {"Replicas": 0}}), json!({"Replicated": {"Replicas": 0}})),
            (json!({"Global": {}}), json!({"Global": {}})),
            (
                json!({"ReplicatedJob": {}}),
                json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}),
            ),
            (
                json!({"ReplicatedJob": {"MaxConcurrent": 3}}),
                json!({"ReplicatedJob": {"MaxConcurrent": 3, "TotalCompletions": 3}}),
            ),
            (json!({"GlobalJob": {}}), json!({"GlobalJob": {}})),
        ] {
            let read = mode(&crate::json::decode_value(&asked).unwrap()).unwrap();
            assert_eq!(serde_json::to_value(shown_mode(&read)).unwrap(), expected, "{asked}");
        }
    }

    #[test]
    fn what_a_service_was_given_is_shown() {
        let shown = shown(&stored(read(&full()).unwrap()), Defaults::Omitted, Some(TaskCounts::default()));
        let shown = serde_json::to_value(shown).unwrap();
        assert_eq!(shown["Version"], json!({"Index": 5}));
        assert_eq!(shown["PreviousSpec"], full());
        assert_eq!(shown["Endpoint"]["Spec"], full()["EndpointSpec"]);
        assert_eq!(shown["Endpoint"]["Ports"][0]["PublishedPort"], json!(30000));
        assert_eq!(shown["Endpoint"]["VirtualIPs"], json!([{"NetworkID": "n", "Addr": "10.0.0.5/24"}]));
        assert_eq!(
            shown["UpdateStatus"],
            json!({"State": "rollback_started", "StartedAt": "2026-11-21T08:44:01Z",
                   "Message": "manually requested rollback"})
        );
        assert_eq!(
            shown["ServiceStatus"],
            json!({"RunningTasks": 0, "DesiredTasks": 0, "CompletedTasks": 0})
        );
        assert_eq!(
            shown["JobStatus"],
            json!({"JobIteration": {"Index": 2}, "LastExecution": "2026-11-21T08:44:01Z"})
        );
    }

    #[test]
    fn credentials_are_never_shown() {
        let mut spec = read(&full()).unwrap();
        let credentials = shoal_types::cluster::service::RegistryCredentials(b"hidden".to_vec());
        spec.template.credentials = Some(credentials);
        assert_eq!(serde_json::to_value(shown_spec(&spec, Defaults::Inserted)).unwrap(), full());
    }

    #[test]
    fn wrong_services_are_refused_in_swarms_words() {
        let with =
            |key: &str, value: Value| json!({"TaskTemplate": {"ContainerSpec": {"Image": "i"}}, key: value});
        let rpc = |text: &str| format!("rpc error: code = InvalidArgument desc = {text}");
        for (asked, message) in [
            (
                with("Mode", json!({"Replicated": {}, "Global": {}})),
                "must specify only one service mode".to_owned(),
            ),
            (
                with("UpdateConfig", json!({"FailureAction": "x"})),
                "unrecognized update failure action x".to_owned(),
            ),
            (with("RollbackConfig", json!({"Order": "x"})), "unrecognized update order x".to_owned()),
            (with("UpdateConfig", json!({"Delay": -1})), rpc("TaskSpec: update-delay cannot be negative")),
            (with("EndpointSpec", json!({"Mode": "x"})), "invalid resolution mode: \"x\"".to_owned()),
            (
                with("EndpointSpec", json!({"Ports": [{"TargetPort": 70000}]})),
                "invalid port number: 70000".to_owned(),
            ),
        ] {
            assert_eq!(read(&asked).unwrap_err().message(), message, "{asked}");
        }
    }
}

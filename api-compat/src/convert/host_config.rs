//! The part of a container that depends on the host: limits, restart policy, namespaces; and the way back.
//!
//! Start reading at [`resources`] and [`check`]. Ranges that no host changes are checked here; what depends on the
//! kernel or the number of processors is checked by the engine.

use shoal_types::container::resources as spec;
use shoal_types::container::restart::RestartPolicy;
use shoal_types::container::security::{CgroupMode, IpcMode, NamespacesSpec, PidMode, UserMode, UtsMode};

use crate::error::ApiError;
use crate::model::host_config::{self as model, HostConfig, HostOptions, Resources};

/// Least memory limit in bytes.
const MIN_MEMORY: i64 = 6 << 20;

/// The limits that a request describes.
pub(crate) fn resources(asked: &Resources, oom_score_adj: i32) -> spec::Resources {
    let rates = |list: &Option<Vec<model::ThrottleDevice>>| {
        let device = |device: &model::ThrottleDevice| spec::ThrottleDevice {
            path: device.path.clone(),
            rate: device.rate,
        };
        list.iter().flatten().map(device).collect()
    };
    spec::Resources {
        cpu_shares: asked.cpu_shares,
        nano_cpus: asked.nano_cpus,
        cpu_period: asked.cpu_period,
        cpu_quota: asked.cpu_quota,
        cpu_realtime_period: asked.cpu_realtime_period,
        cpu_realtime_runtime: asked.cpu_realtime_runtime,
        cpuset_cpus: asked.cpuset_cpus.clone(),
        cpuset_mems: asked.cpuset_mems.clone(),
        memory: asked.memory,
        memory_reservation: asked.memory_reservation,
        memory_swap: asked.memory_swap,
        memory_swappiness: asked.memory_swappiness.filter(|&value| value != -1),
        oom_kill_disable: asked.oom_kill_disable,
        oom_score_adj,
        pids_limit: asked.pids_limit,
        blkio_weight: asked.blkio_weight,
        blkio_weight_device: asked
            .blkio_weight_device
            .iter()
            .flatten()
            .map(|device| spec::WeightDevice { path: device.path.clone(), weight: device.weight })
            .collect(),
        blkio_read_bps: rates(&asked.blkio_device_read_bps),
        blkio_write_bps: rates(&asked.blkio_device_write_bps),
        blkio_read_iops: rates(&asked.blkio_device_read_iops),
        blkio_write_iops: rates(&asked.blkio_device_write_iops),
        ulimits: asked.ulimits.iter().flatten().map(ulimit).collect(),
        devices: asked.devices.iter().flatten().map(device_mapping).collect(),
        device_cgroup_rules: asked.device_cgroup_rules.clone().unwrap_or_default(),
        device_requests: asked.device_requests.iter().flatten().map(device_request).collect(),
        cgroup_parent: asked.cgroup_parent.clone(),
    }
}

/// The limits of a new container: as much swap as memory, unless something else was asked for.
pub(crate) fn new_resources(asked: &Resources, oom_score_adj: i32) -> spec::Resources {
    let mut limits = resources(asked, oom_score_adj);
    if limits.memory > 0 && limits.memory_swap == 0 {
        limits.memory_swap = limits.memory.saturating_mul(2);
    }
    limits
}

/// A limit of processes as a client asks for it.
pub(crate) fn ulimit(asked: &model::Ulimit) -> spec::Ulimit {
    spec::Ulimit { name: asked.name.clone(), soft: asked.soft, hard: asked.hard }
}

fn device_mapping(device: &model::DeviceMapping) -> spec::DeviceMapping {
    spec::DeviceMapping {
        path_on_host: device.path_on_host.clone(),
        path_in_container: device.path_in_container.clone(),
        cgroup_permissions: device.cgroup_permissions.clone(),
    }
}

fn device_request(request: &model::DeviceRequest) -> spec::DeviceRequest {
    spec::DeviceRequest {
        driver: request.driver.clone(),
        count: request.count,
        device_ids: request.device_ids.clone().unwrap_or_default(),
        capabilities: request.capabilities.clone().unwrap_or_default(),
        options: request.options.clone().unwrap_or_default(),
    }
}

/// Lays the limits in force over those asked for: defaults have been filled in, and updates may have changed them.
pub(crate) fn lay_over(shown: &mut Resources, real: &spec::Resources) {
    shown.cpu_shares = real.cpu_shares;
    shown.nano_cpus = real.nano_cpus;
    shown.cpu_period = real.cpu_period;
    shown.cpu_quota = real.cpu_quota;
    shown.cpu_realtime_period = real.cpu_realtime_period;
    shown.cpu_realtime_runtime = real.cpu_realtime_runtime;
    shown.cpuset_cpus.clone_from(&real.cpuset_cpus);
    shown.cpuset_mems.clone_from(&real.cpuset_mems);
    shown.memory = real.memory;
    shown.memory_reservation = real.memory_reservation;
    shown.memory_swap = real.memory_swap;
    shown.memory_swappiness = real.memory_swappiness;
    shown.oom_kill_disable = real.oom_kill_disable;
    // An update that lifts the limit leaves 0; a container that never had one shows none.
    shown.pids_limit = real.pids_limit.map(|limit| limit.max(0));
    shown.blkio_weight = real.blkio_weight;
    shown.cgroup_parent.clone_from(&real.cgroup_parent);
    let weights = real.blkio_weight_device.iter();
    let weights =
        weights.map(|device| model::WeightDevice { path: device.path.clone(), weight: device.weight });
    replace_unless_empty(&mut shown.blkio_weight_device, weights.collect());
    for (shown, real) in [
        (&mut shown.blkio_device_read_bps, &real.blkio_read_bps),
        (&mut shown.blkio_device_write_bps, &real.blkio_write_bps),
        (&mut shown.blkio_device_read_iops, &real.blkio_read_iops),
        (&mut shown.blkio_device_write_iops, &real.blkio_write_iops),
    ] {
        let rates = real.iter();
        let rates =
            rates.map(|device| model::ThrottleDevice { path: device.path.clone(), rate: device.rate });
        replace_unless_empty(shown, rates.collect());
    }
    let ulimits = real.ulimits.iter();
    let ulimits =
        ulimits.map(|limit| model::Ulimit { name: limit.name.clone(), hard: limit.hard, soft: limit.soft });
    replace_unless_empty(&mut shown.ulimits, ulimits.collect());
}

/// Replaces a list; an empty one leaves what was asked for, which tells `null` from `[]`.
fn replace_unless_empty<T>(shown: &mut Option<Vec<T>>, real: Vec<T>) {
    if !real.is_empty() {
        *shown = Some(real);
    }
}

/// The restart policy that a request describes.
pub(crate) fn restart_policy(
    asked: &model::RestartPolicy,
    auto_remove: bool,
) -> Result<RestartPolicy, ApiError> {
    let invalid = |what: String| Err(ApiError::invalid(format!("invalid restart policy: {what}")));
    let retries = asked.maximum_retry_count;
    let policy = match asked.name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => match u32::try_from(retries) {
            Ok(max_retries) => RestartPolicy::OnFailure { max_retries },
            Err(_) => return invalid("maximum retry count cannot be negative".to_owned()),
        },
        other => {
            return invalid(format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    };
    if retries != 0 && !matches!(policy, RestartPolicy::OnFailure { .. }) {
        let negative = if retries < 0 { " and cannot be negative" } else { "" };
        return invalid(format!("maximum retry count can only be used with 'on-failure'{negative}"));
    }
    if auto_remove && policy != RestartPolicy::No {
        return Err(ApiError::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(policy)
}

/// A restart policy as Docker writes it.
pub(crate) fn shown_restart_policy(policy: RestartPolicy) -> model::RestartPolicy {
    let (name, count) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max_retries } => ("on-failure", i64::from(max_retries)),
    };
    model::RestartPolicy { name: name.to_owned(), maximum_retry_count: count }
}

/// The namespaces that a request describes.
pub(crate) fn namespaces(options: &HostOptions) -> Result<NamespacesSpec, ApiError> {
    let invalid = |what: &str, mode: &str| Err(ApiError::invalid(format!("invalid {what} mode: {mode}")));
    let pid = match options.pid_mode.as_str() {
        "" => PidMode::Private,
        "host" => PidMode::Host,
        other => match other.strip_prefix("container:") {
            Some(name) if !name.is_empty() => PidMode::Container(name.to_owned()),
            _ => return invalid("PID", other),
        },
    };
    let ipc = match options.ipc_mode.as_str() {
        "" => IpcMode::DaemonDefault,
        "none" => IpcMode::None,
        "private" => IpcMode::Private,
        "shareable" => IpcMode::Shareable,
        "host" => IpcMode::Host,
        other => match other.strip_prefix("container:") {
            Some(name) if !name.is_empty() => IpcMode::Container(name.to_owned()),
            _ => return invalid("IPC", other),
        },
    };
    let uts = match options.uts_mode.as_str() {
        "" => UtsMode::Private,
        "host" => UtsMode::Host,
        other => return invalid("UTS", other),
    };
    let user = match options.userns_mode.as_str() {
        "" => UserMode::DaemonDefault,
        "host" => UserMode::Host,
        other => return invalid("user namespace", other),
    };
    let cgroup = match options.cgroupns_mode.as_str() {
        "" => None,
        "private" => Some(CgroupMode::Private),
        "host" => Some(CgroupMode::Host),
        other => return invalid("cgroup namespace", other),
    };
    Ok(NamespacesSpec { pid, ipc, uts, user, cgroup })
}

/// Lays the namespaces in force over those asked for.
pub(crate) fn lay_over_namespaces(options: &mut HostOptions, real: &NamespacesSpec) {
    if let PidMode::Container(id) = &real.pid {
        options.pid_mode = format!("container:{id}");
    }
    options.ipc_mode = match &real.ipc {
        IpcMode::DaemonDefault | IpcMode::Private => "private".to_owned(),
        IpcMode::None => "none".to_owned(),
        IpcMode::Shareable => "shareable".to_owned(),
        IpcMode::Host => "host".to_owned(),
        IpcMode::Container(id) => format!("container:{id}"),
    };
    match real.cgroup {
        Some(CgroupMode::Private) => "private".clone_into(&mut options.cgroupns_mode),
        Some(CgroupMode::Host) => "host".clone_into(&mut options.cgroupns_mode),
        None => {}
    }
}

/// Refuses values that no host takes.
pub(crate) fn check(config: &HostConfig) -> Result<(), ApiError> {
    let options = &config.options;
    check_resources(&config.resources, Purpose::Create)?;
    if options.shm_size < 0 {
        return Err(ApiError::invalid("SHM size can not be less than 0"));
    }
    if !(-1000..=1000).contains(&options.oom_score_adj) {
        return Err(ApiError::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            options.oom_score_adj
        )));
    }
    if !matches!(options.isolation.as_str(), "" | "default") {
        return Err(ApiError::invalid(format!(
            "invalid isolation ({}): linux only supports 'default'",
            options.isolation
        )));
    }
    Ok(())
}

/// What limits are checked for: an update may set swap alone, because the memory limit is set already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Create,
    Update,
}

/// Refuses limits that contradict each other or lie out of range.
pub(crate) fn check_resources(asked: &Resources, purpose: Purpose) -> Result<(), ApiError> {
    let swappiness = asked.memory_swappiness.unwrap_or(-1);
    let rules = [
        (asked.memory != 0 && asked.memory < MIN_MEMORY, "Minimum memory limit allowed is 6MB"),
        (
            asked.memory > 0 && asked.memory_swap > 0 && asked.memory_swap < asked.memory,
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (
            asked.memory == 0 && asked.memory_swap > 0 && purpose == Purpose::Create,
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (
            asked.memory_reservation > 0 && asked.memory_reservation < MIN_MEMORY,
            "Minimum memory reservation allowed is 6MB",
        ),
        (
            asked.memory > 0 && asked.memory_reservation > 0 && asked.memory < asked.memory_reservation,
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        ),
        (
            asked.nano_cpus > 0 && asked.cpu_period > 0,
            "Conflicting options: Nano CPUs and CPU Period cannot both be set",
        ),
        (
            asked.nano_cpus > 0 && asked.cpu_quota > 0,
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
        ),
        (
            asked.cpu_period != 0 && !(1_000..=1_000_000).contains(&asked.cpu_period),
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        ),
        (
            asked.cpu_quota > 0 && asked.cpu_quota < 1_000,
            "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        ),
        (
            asked.blkio_weight != 0 && !(10..=1000).contains(&asked.blkio_weight),
            "Range of blkio weight is from 10 to 1000",
        ),
        (
            asked.io_maximum_bandwidth != 0 || asked.io_maximum_iops != 0,
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        ),
    ];
    if let Some((_, message)) = rules.iter().find(|(is_wrong, _)| *is_wrong) {
        return Err(ApiError::invalid(*message));
    }
    if !(-1..=100).contains(&swappiness) {
        return Err(ApiError::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn message(host: &Value) -> String {
        let config: HostConfig = crate::json::decode_value(host).unwrap();
        let error = check(&config).err().or_else(|| namespaces(&config.options).err());
        error.map_or(String::new(), |error| error.message().to_owned())
    }

    #[test]
    fn values_out_of_range_are_refused_with_dockers_texts() {
        let cases = [
            (json!({"Memory": 1000}), "Minimum memory limit allowed is 6MB"),
            (
                json!({"Memory": 8 << 20, "MemorySwap": 7 << 20}),
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                json!({"MemorySwap": 7 << 20}),
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (
                json!({"Memory": 7 << 20, "MemoryReservation": 8 << 20}),
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            ),
            (json!({"MemorySwappiness": 101}), "Invalid value: 101, valid memory swappiness range is 0-100"),
            (
                json!({"NanoCpus": 1, "CpuPeriod": 1000}),
                "Conflicting options: Nano CPUs and CPU Period cannot both be set",
            ),
            (
                json!({"NanoCpus": 1, "CpuQuota": 1000}),
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            ),
            (
                json!({"CpuPeriod": 10}),
                "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            ),
            (json!({"CpuQuota": 10}), "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
            (json!({"BlkioWeight": 5}), "Range of blkio weight is from 10 to 1000"),
            (json!({"ShmSize": -1}), "SHM size can not be less than 0"),
            (json!({"OomScoreAdj": 1001}), "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
            (json!({"Isolation": "hyperv"}), "invalid isolation (hyperv): linux only supports 'default'"),
            (json!({"IpcMode": "x"}), "invalid IPC mode: x"),
            (json!({"PidMode": "container:"}), "invalid PID mode: container:"),
            (json!({"UTSMode": "x"}), "invalid UTS mode: x"),
            (json!({"CgroupnsMode": "x"}), "invalid cgroup namespace mode: x"),
            (json!({"Memory": 8 << 20, "MemorySwap": -1, "MemorySwappiness": -1}), ""),
        ];
        for (host, expected) in cases {
            assert_eq!(message(&host), expected, "{host}");
        }
    }

    #[test]
    fn swap_defaults_to_as_much_as_memory() {
        let asked = Resources { memory: 100, ..Resources::default() };
        assert_eq!(new_resources(&asked, 0).memory_swap, 200);
        assert_eq!(resources(&asked, 0).memory_swap, 0);
        let unlimited = Resources { memory: 100, memory_swap: -1, ..Resources::default() };
        assert_eq!(new_resources(&unlimited, 0).memory_swap, -1);
    }
}

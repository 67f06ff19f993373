//! From limits to the runtime spec's resources.
//!
//! Start reading at [`all`] (a new container) and [`changeable`] (an update). Values have been checked when the container was
//! made; only numbers of block devices are looked up here.

use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDevice, LinuxWeightDeviceBuilder,
};
use rustix::fs::{major, minor};
use shoal_types::container::resources::{Resources, ThrottleDevice, WeightDevice};

use crate::error::NodeError;

/// Length of the scheduler's period in microseconds when only a number of processors is given.
const PERIOD: u64 = 100_000;

/// Everything that the controllers are told of a new container.
pub(crate) fn all(
    resources: &Resources,
    devices: Vec<LinuxDeviceCgroup>,
) -> Result<LinuxResources, NodeError> {
    let mut limits = changeable(resources)?;
    limits.set_devices(Some(devices));
    Ok(limits)
}

/// What can be changed while a container runs.
pub(crate) fn changeable(resources: &Resources) -> Result<LinuxResources, NodeError> {
    let mut limits = LinuxResources::default();
    limits
        .set_memory(memory(resources))
        .set_cpu(cpu(resources))
        .set_pids(pids(resources))
        .set_block_io(block_io(resources)?);
    // The library's default carries an empty list of devices, which would deny them all.
    limits.set_devices(None);
    Ok(limits)
}

fn memory(resources: &Resources) -> Option<LinuxMemory> {
    let positive = |value: i64| (value > 0).then_some(value);
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(positive(resources.memory))
        .set_reservation(positive(resources.memory_reservation))
        .set_swap(if resources.memory_swap == -1 && resources.memory > 0 {
            Some(-1)
        } else {
            positive(resources.memory_swap)
        })
        .set_swappiness(resources.memory_swappiness.and_then(|value| u64::try_from(value).ok()))
        .set_disable_oom_killer(resources.oom_kill_disable);
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu(resources: &Resources) -> Option<LinuxCpu> {
    let unsigned = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let set = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(unsigned(resources.cpu_shares))
        .set_cpus(set(&resources.cpuset_cpus))
        .set_mems(set(&resources.cpuset_mems))
        .set_period(unsigned(resources.cpu_period))
        .set_quota((resources.cpu_quota != 0).then_some(resources.cpu_quota))
        .set_realtime_period(unsigned(resources.cpu_realtime_period))
        .set_realtime_runtime(
            (resources.cpu_realtime_runtime != 0).then_some(resources.cpu_realtime_runtime),
        );
    if resources.nano_cpus > 0 {
        let quota = i128::from(resources.nano_cpus) * i128::from(PERIOD) / 1_000_000_000;
        cpu.set_period(Some(PERIOD)).set_quota(i64::try_from(quota).ok());
    }
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn pids(resources: &Resources) -> Option<LinuxPids> {
    resources.pids_limit.map(|limit| {
        let mut pids = LinuxPids::default();
        pids.set_limit(if limit > 0 { limit } else { -1 });
        pids
    })
}

fn block_io(resources: &Resources) -> Result<Option<LinuxBlockIo>, NodeError> {
    let mut block_io = LinuxBlockIo::default();
    block_io
        .set_weight((resources.blkio_weight > 0).then_some(resources.blkio_weight))
        .set_weight_device(list(&resources.blkio_weight_device, weight)?)
        .set_throttle_read_bps_device(list(&resources.blkio_read_bps, throttle)?)
        .set_throttle_write_bps_device(list(&resources.blkio_write_bps, throttle)?)
        .set_throttle_read_iops_device(list(&resources.blkio_read_iops, throttle)?)
        .set_throttle_write_iops_device(list(&resources.blkio_write_iops, throttle)?);
    Ok((block_io != LinuxBlockIo::default()).then_some(block_io))
}

fn list<T, U>(items: &[T], convert: fn(&T) -> Result<U, NodeError>) -> Result<Option<Vec<U>>, NodeError> {
    if items.is_empty() {
        return Ok(None);
    }
    items.iter().map(convert).collect::<Result<Vec<_>, _>>().map(Some)
}

fn weight(device: &WeightDevice) -> Result<LinuxWeightDevice, NodeError> {
    let (major, minor) = numbers(&device.path)?;
    let built = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(device.weight).build();
    built.map_err(|source| NodeError::failed("describe a device's weight", source))
}

fn throttle(device: &ThrottleDevice) -> Result<LinuxThrottleDevice, NodeError> {
    let (major, minor) = numbers(&device.path)?;
    let built = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(device.rate).build();
    built.map_err(|source| NodeError::failed("describe a device's rate", source))
}

fn numbers(path: &str) -> Result<(i64, i64), NodeError> {
    let stat = rustix::fs::stat(Path::new(path))
        .map_err(|source| NodeError::failed(format!("stat {path}"), std::io::Error::from(source)))?;
    Ok((i64::from(major(stat.st_rdev)), i64::from(minor(stat.st_rdev))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limits_are_no_resources() {
        let limits = changeable(&Resources::default()).unwrap();
        assert_eq!(serde_json::to_value(limits).unwrap(), serde_json::json!({}));
    }

    #[test]
    fn processors_become_a_quota() {
        let resources = Resources { nano_cpus: 1_500_000_000, ..Resources::default() };
        let limits = serde_json::to_value(changeable(&resources).unwrap()).unwrap();
        assert_eq!(limits, serde_json::json!({"cpu": {"period": 100_000, "quota": 150_000}}));
    }

    #[test]
    fn an_unlimited_number_of_processes_is_said_and_a_missing_one_is_not() {
        let with = |limit| {
            let resources = Resources { pids_limit: limit, ..Resources::default() };
            serde_json::to_value(changeable(&resources).unwrap()).unwrap()["pids"]["limit"].clone()
        };
        assert_eq!(with(None), serde_json::Value::Null);
        assert_eq!(with(Some(0)), serde_json::json!(-1));
        assert_eq!(with(Some(7)), serde_json::json!(7));
    }
}

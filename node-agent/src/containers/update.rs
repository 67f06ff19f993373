//! Changing a container that exists: its limits, its restart policy, its name, its links.
//!
//! Start reading at [`Actor::update`], [`Actor::rename`] and [`Actor::unlink`].

use std::path::Path;
use std::sync::Arc;

use node_runtime::cgroup::Cgroup;
use shoal_types::container::resources::Resources;
use shoal_types::container::restart::RestartPolicy;
use shoal_types::container::state::ContainerState;

use super::actor::Actor;
use super::{defaults, validate};
use crate::api::containers::ContainerUpdate;
use crate::error::{ErrorChain, NodeError};
use crate::runtime::{cgroup, resources};

impl Actor {
    /// Changes limits and the restart policy, in a running container at once. Returns warnings.
    pub(super) async fn update(&mut self, update: ContainerUpdate) -> Result<Vec<String>, NodeError> {
        let ContainerUpdate { resources: mut wished, restart, requested } = update;
        let state = &self.core.life.condition().state;
        if matches!(state, ContainerState::Removing { .. } | ContainerState::Dead { .. }) {
            return Err(NodeError::conflict(
                "container is marked for removal and cannot be \"update\"".to_owned(),
            ));
        }
        if restart.is_some_and(|policy| policy != RestartPolicy::No) && self.core.record.spec.auto_remove {
            return Err(NodeError::conflict(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        let warnings = validate::check_update(&mut wished, &self.shared.host)?;
        let before = self.core.record.clone();
        let mut merged = before.spec.resources.clone();
        merge(&mut merged, wished)?;
        defaults::fill_resources(&mut merged, &self.shared.host);
        let spec = Arc::make_mut(&mut self.core.record.spec);
        spec.resources = merged;
        spec.restart = restart.unwrap_or(spec.restart);
        if let Some(requested) = requested {
            self.core.record.requested = requested;
        }
        self.store_record().await?;
        if self.core.life.condition().state.run().is_some()
            && let Err(error) = self.apply_limits().await
        {
            self.core.record = before;
            self.store_record().await?;
            return Err(error);
        }
        let rules = self.shared.rules(&self.core.record.spec);
        self.core.life.set_rules(rules);
        self.publish();
        self.shared.emit(&self.slot.view(), "update", []);
        Ok(warnings)
    }

    async fn apply_limits(&self) -> Result<(), NodeError> {
        let spec = Arc::clone(&self.core.record.spec);
        let path = cgroup::path_of(self.core.id, &spec.resources, &self.shared.config());
        let id = self.core.id;
        super::run_blocking(move || {
            let limits = resources::changeable(&spec.resources)?;
            let failed = |source| NodeError::failed(format!("change the limits of container {id}"), source);
            let cgroup = Cgroup::at(Path::new(&path)).map_err(failed)?;
            for warning in cgroup.apply(&limits).map_err(failed)? {
                tracing::warn!(container.id = %id, %warning, "a limit is not in force");
            }
            Ok(())
        })
        .await?
    }

    /// Gives the container another name, which is reserved already. The old one is free afterwards.
    pub(super) async fn rename(&mut self, name: String) -> Result<(), NodeError> {
        let id = self.core.id;
        if self.core.record.name == name {
            return Err(NodeError::invalid("Renaming a container with the same name as its current name"));
        }
        self.shared
            .reserve_name(&name, id)
            .map_err(|error| NodeError::conflict(format!("Error when allocating new name: {error}")))?;
        let old = std::mem::replace(&mut self.core.record.name, name.clone());
        if let Err(error) = self.store_record().await {
            self.shared.release_name(&name, id);
            self.core.record.name = old;
            return Err(error);
        }
        self.shared.release_name(&old, id);
        self.rename_in_networks().await;
        self.publish();
        self.shared.emit(&self.slot.view(), "rename", [("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// Forgets a link to another container, which the running container cannot reach by it any more; the variables it was
    /// given stay until its next start.
    pub(super) async fn unlink(&mut self, alias: &str) -> Result<(), NodeError> {
        let id = self.core.id;
        let before = self.core.record.links.clone();
        self.core.record.links.retain(|link| link.alias != alias);
        if self.core.record.links.len() == before.len() {
            return Err(NodeError::NoSuchContainer(format!("{}/{alias}", self.core.record.name)));
        }
        if let Err(error) = self.store_record().await {
            self.core.record.links = before;
            return Err(error);
        }
        self.shared.links().unlink(id, alias);
        self.publish();
        let has_network = self.core.run.as_deref().is_some_and(|run| run.record.network.is_some());
        if let Some(request) = self.linked_network_request().filter(|_| has_network) {
            self.renew_links(&request).await?;
        }
        self.renew_files().await;
        Ok(())
    }

    /// Lets a running container be found under its new name. Failing that, the next start does.
    async fn rename_in_networks(&mut self) {
        let has_network = self.core.run.as_deref().is_some_and(|run| run.record.network.is_some());
        let Some(request) = self.linked_network_request().filter(|_| has_network) else { return };
        let renamed = match self.shared.seams.networks.rename(&request).await {
            Ok(run) => self.note_network(run, "rename", "").await,
            Err(error) => Err(error),
        };
        if let Err(error) = renamed {
            let error = ErrorChain(&error);
            tracing::warn!(container.id = %self.core.id, %error, "networks do not know the new name yet");
        }
    }
}

/// Lays wishes over limits; a field that is zero or absent in the wishes is left as it is.
fn merge(limits: &mut Resources, wished: Resources) -> Result<(), NodeError> {
    if wished.nano_cpus > 0 && (limits.cpu_period > 0 || limits.cpu_quota > 0) {
        let what = if limits.cpu_period > 0 { "Period" } else { "Quota" };
        return Err(NodeError::conflict(format!(
            "Conflicting options: Nano CPUs cannot be updated as CPU {what} has already been set"
        )));
    }
    for (what, value) in [("Quota", wished.cpu_quota), ("Period", wished.cpu_period)] {
        if value > 0 && limits.nano_cpus > 0 {
            return Err(NodeError::conflict(format!(
                "Conflicting options: CPU {what} cannot be updated as NanoCPUs has already been set"
            )));
        }
    }
    // Docker takes a container without a limit, and one whose swap is unlimited, for one with less swap than any memory.
    if wished.memory != 0 && wished.memory_swap == 0 && wished.memory > limits.memory_swap {
        return Err(NodeError::conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    let set = |field: &mut i64, value: i64| {
        if value != 0 {
            *field = value;
        }
    };
    set(&mut limits.cpu_shares, wished.cpu_shares);
    set(&mut limits.nano_cpus, wished.nano_cpus);
    set(&mut limits.cpu_period, wished.cpu_period);
    set(&mut limits.cpu_quota, wished.cpu_quota);
    set(&mut limits.cpu_realtime_period, wished.cpu_realtime_period);
    set(&mut limits.cpu_realtime_runtime, wished.cpu_realtime_runtime);
    set(&mut limits.memory, wished.memory);
    set(&mut limits.memory_reservation, wished.memory_reservation);
    set(&mut limits.memory_swap, wished.memory_swap);
    let set_text = |field: &mut String, value: String| {
        if !value.is_empty() {
            *field = value;
        }
    };
    set_text(&mut limits.cpuset_cpus, wished.cpuset_cpus);
    set_text(&mut limits.cpuset_mems, wished.cpuset_mems);
    if wished.blkio_weight != 0 {
        limits.blkio_weight = wished.blkio_weight;
    }
    limits.pids_limit = wished.pids_limit.map(|limit| limit.max(0)).or(limits.pids_limit);
    let devices = [
        (&mut limits.blkio_read_bps, wished.blkio_read_bps),
        (&mut limits.blkio_write_bps, wished.blkio_write_bps),
        (&mut limits.blkio_read_iops, wished.blkio_read_iops),
        (&mut limits.blkio_write_iops, wished.blkio_write_iops),
    ];
    for (present, wished) in devices {
        if !wished.is_empty() {
            *present = wished;
        }
    }
    if !wished.blkio_weight_device.is_empty() {
        limits.blkio_weight_device = wished.blkio_weight_device;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_leaves_a_limit_as_it_is() {
        let mut limits = Resources {
            memory: 10,
            memory_swap: 20,
            cpu_shares: 5,
            pids_limit: Some(7),
            ..Resources::default()
        };
        let wished = Resources { memory: 20, cpuset_cpus: "0".to_owned(), ..Resources::default() };
        merge(&mut limits, wished).unwrap();
        assert_eq!((limits.memory, limits.cpu_shares, limits.pids_limit), (20, 5, Some(7)));
        assert_eq!(limits.cpuset_cpus, "0");
    }

    #[test]
    fn contradictions_with_present_limits_are_refused_with_dockers_words() {
        let present = Resources { nano_cpus: 1, memory: 10, memory_swap: 20, ..Resources::default() };
        let cases = [
            (
                Resources { cpu_quota: 1000, ..Resources::default() },
                "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
            ),
            (
                Resources { cpu_period: 1000, ..Resources::default() },
                "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
            ),
            (
                Resources { memory: 30, ..Resources::default() },
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            ),
        ];
        for (wished, message) in cases {
            let error = merge(&mut present.clone(), wished).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        for (memory_swap, is_taken) in [(0, false), (-1, false), (29, false), (30, true), (60, true)] {
            let mut present = Resources { memory_swap, ..Resources::default() };
            let merged = merge(&mut present, Resources { memory: 30, ..Resources::default() });
            assert_eq!(merged.is_ok(), is_taken, "{memory_swap}");
            let both = Resources { memory: 30, memory_swap: 60, ..Resources::default() };
            assert!(merge(&mut present, both).is_ok(), "{memory_swap}");
        }
        let mut quota = Resources { cpu_quota: 1, ..Resources::default() };
        let error = merge(&mut quota, Resources { nano_cpus: 1, ..Resources::default() }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set"
        );
    }
}

//! The engine's port: from a container's wishes to a connected namespace, and back.
//!
//! Start reading at the implementation of [`ContainerNetworks`]. A start makes a [`Plan`] (addresses, empty namespace;
//! `plans.rs`), then connects it; both are kept in memory and, as [`Memory`], with the container, so that a restarted
//! daemon finds them again. Kernel work happens on blocking threads and never under the state's lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use overlay_net::dns::files::LoopbackServers;
use overlay_net::{Desired, Sandbox, SandboxMode, SandboxSpec};
use shoal_types::container::networking::EndpointSpec;
use shoal_types::{ContainerId, SandboxId};

use super::files::{self, Resolver};
use super::plans::{Assignment, Memory, Plan, Purpose};
use super::sandbox_spec::sandbox_mode;
use super::{NetworkStore, run_blocking, wishes};
use crate::containers::ports::{
    ContainerNetworks, NetworkFiles, NetworkPlan, NetworkRequest, NetworkRun, PreparedNetworks, SandboxRecord,
};
use crate::error::NodeError;

#[async_trait]
impl ContainerNetworks for NetworkStore {
    async fn prepare(&self, request: &NetworkRequest) -> Result<PreparedNetworks, NodeError> {
        let has_bridge = self.shared.config.default_bridge.is_some();
        self.with_state(|state| wishes::prepare(state, request, has_bridge))
    }

    async fn plan(&self, request: &NetworkRequest) -> Result<NetworkPlan, NodeError> {
        // What a start that failed half-way has left.
        let _ = self.disconnect(request.container).await;
        let planned = async {
            self.attach(request).await?;
            let gateway = self.gateway_for(request).await?;
            self.with_state(|state| state.plan(request, gateway.as_ref()))
        };
        let plan = match planned.await {
            Ok(plan) => plan,
            Err(error) => {
                self.detach(request.container, None);
                return Err(error);
            }
        };
        let made = self.make_namespace(&plan).await;
        let files = match made {
            Ok(sandbox) => {
                self.with_state(|state| state.set_sandbox(request.container, sandbox));
                self.texts(request).await
            }
            Err(error) => Err(error),
        };
        if files.is_err() {
            let _ = self.disconnect(request.container).await;
        }
        Ok(NetworkPlan { sandbox: self.sandbox_record(request.container), files: files? })
    }

    async fn connect(&self, container: ContainerId) -> Result<NetworkRun, NodeError> {
        self.apply(container).await
    }

    async fn disconnect(&self, container: ContainerId) -> Vec<NodeError> {
        self.detach(container, None);
        let Some(plan) = self.with_state(|state| state.take_plan(&container)) else { return Vec::new() };
        let mut errors = Vec::new();
        if let Some(sandbox) = plan.sandbox {
            match self.remove_sandbox(sandbox).await {
                Ok(failures) => errors.extend(failures.into_iter().map(NodeError::from)),
                Err(error) => errors.push(error),
            }
        }
        // Only now: an address must not be given out while an interface still has it.
        self.with_state(|state| plan.assignments.iter().for_each(|given| state.take_back(container, given)));
        self.drop_unwanted_overlays().await;
        errors
    }

    async fn join(
        &self,
        request: &NetworkRequest,
        network: &str,
        endpoint: &EndpointSpec,
    ) -> Result<NetworkRun, NodeError> {
        self.attach_to(request, network, endpoint).await?;
        let gateway = self.gateway_for(request).await?;
        let assignments = self.with_state(|state| {
            let name = state.find(network)?.network.spec.name.clone();
            let mut assignments = vec![state.assign(request, &name, endpoint)?];
            let has_one =
                |plan: &Plan| plan.assignments.iter().any(|given| given.purpose == Purpose::Gateway);
            if let Some(gateway) = &gateway
                && !state.plans.get(&request.container).is_some_and(has_one)
            {
                assignments.push(state.assign_gateway(request, gateway)?);
            }
            if let Some(plan) = state.plans.get_mut(&request.container) {
                plan.request = request.clone();
                plan.assignments.extend_from_slice(&assignments);
            }
            Ok::<_, NodeError>(assignments)
        })?;
        let joined = self.apply(request.container).await;
        if joined.is_err() {
            let is_new = |given: &Assignment| assignments.iter().any(|new| new.endpoint == given.endpoint);
            self.with_state(|state| {
                if let Some(plan) = state.plans.get_mut(&request.container) {
                    plan.assignments.retain(|given| !is_new(given));
                }
                assignments.iter().for_each(|given| state.take_back(request.container, given));
            });
            for given in &assignments {
                self.detach(request.container, Some(&given.network));
            }
        }
        joined
    }

    async fn leave(&self, request: &NetworkRequest, network: &str) -> Result<NetworkRun, NodeError> {
        let left = self.with_state(|state| {
            let id = state.find(network)?.network.id.clone();
            let Some(plan) = state.plans.get_mut(&request.container) else { return Ok(None) };
            plan.request = request.clone();
            let place = plan.assignments.iter().position(|given| given.network == id);
            Ok::<_, NodeError>(place.map(|place| (place, plan.assignments.remove(place))))
        })?;
        let run = self.apply(request.container).await;
        if let Some((place, assignment)) = left {
            if run.is_ok() {
                self.detach(request.container, Some(&assignment.network));
            }
            self.with_state(|state| match (&run, state.plans.get_mut(&request.container)) {
                (Err(_), Some(plan)) => plan.assignments.insert(place, assignment),
                _ => state.take_back(request.container, &assignment),
            });
            self.drop_unwanted_overlays().await;
        }
        run
    }

    async fn files(&self, request: &NetworkRequest) -> Result<NetworkFiles, NodeError> {
        self.texts(request).await
    }

    async fn rename(&self, request: &NetworkRequest) -> Result<NetworkRun, NodeError> {
        self.with_state(|state| {
            if let Some(plan) = state.plans.get_mut(&request.container) {
                plan.request = request.clone();
            }
        });
        self.apply(request.container).await
    }

    async fn restore(
        &self,
        running: Vec<(NetworkRequest, NetworkRun)>,
    ) -> Result<BTreeMap<ContainerId, NetworkRun>, NodeError> {
        self.ensure_predefined().await?;
        let mut runs = BTreeMap::new();
        for (request, run) in running {
            let container = request.container;
            let Ok(mut memory) = serde_json::from_value::<Memory>(run.memory.clone()) else {
                tracing::warn!(container.id = %container, "network memory of a container cannot be read");
                continue;
            };
            let is_whole = memory.keep_only(&request);
            self.with_state(|state| {
                state.adopt(request, memory);
                state.adopt_attachments(container);
            });
            let run = if is_whole { Ok(run) } else { self.with_state(|state| state.run(container)) };
            match run {
                Ok(run) => drop(runs.insert(container, run)),
                Err(error) => {
                    tracing::error!(container.id = %container, error = %error.message(), "network of a container cannot be told");
                }
            }
        }
        let desired = self.desired(&runs);
        let host = self.shared.host.clone();
        let report = match run_blocking(move || {
            warn_of_foreign_drops(&host);
            host.restore(&desired)
        })
        .await
        {
            Ok(report) => report,
            Err(error) => {
                tracing::error!(error = %error.message(), "networking cannot be restored");
                return Ok(BTreeMap::new());
            }
        };
        for what in report.removed {
            tracing::info!(what, "removed a leftover of networking");
        }
        for error in report.errors {
            tracing::error!(error = %crate::error::ErrorChain(&error), "networking is not as it should be");
        }
        runs.retain(|_, run| !report.lost.contains(&run.sandbox.id));
        self.with_state(|state| {
            state.lose_ingress(&report.lost);
            let lost: Vec<ContainerId> =
                state.plans.keys().filter(|container| !runs.contains_key(container)).copied().collect();
            for container in lost {
                let Some(plan) = state.take_plan(&container) else { continue };
                plan.assignments.iter().for_each(|given| state.take_back(container, given));
            }
        });
        self.restore_overlays().await;
        Ok(runs)
    }

    async fn forget(&self, container: ContainerId) {
        for error in self.disconnect(container).await {
            tracing::warn!(container.id = %container, error = %error.message(), "network of a removed container");
        }
    }
}

impl NetworkStore {
    /// Makes the namespace of a plan, without any interface. The host's own needs no making.
    async fn make_namespace(&self, plan: &Plan) -> Result<Sandbox, NodeError> {
        let spec = SandboxSpec {
            id: plan.id,
            mode: sandbox_mode(&plan.request),
            endpoints: Vec::new(),
            publish: Vec::new(),
            sysctls: plan.request.sysctls.clone(),
            resolver: None,
        };
        let host = self.shared.host.clone();
        Ok(run_blocking(move || host.ensure_sandbox(&spec, None)).await??)
    }

    /// Brings the kernel to what a container's plan says now.
    async fn apply(&self, container: ContainerId) -> Result<NetworkRun, NodeError> {
        let conf = files::host_resolv_conf();
        let resolver =
            |request: &NetworkRequest| Resolver::new(conf, &self.shared.config.resolver, &request.networking);
        let (spec, previous) = self
            .with_state(|state| state.sandbox_spec(container, resolver))
            .ok_or_else(|| NodeError::failed("connect the container", "its network was not planned"))?;
        let host = self.shared.host.clone();
        let sandbox = run_blocking(move || host.ensure_sandbox(&spec, previous.as_ref())).await??;
        self.with_state(|state| state.set_sandbox(container, sandbox));
        self.give_services(container).await;
        self.with_state(|state| state.run(container))
    }

    fn sandbox_record(&self, container: ContainerId) -> SandboxRecord {
        self.with_state(|state| {
            let plan = state.plans.get(&container);
            let netns = plan.and_then(|plan| plan.sandbox.as_ref()).and_then(|sandbox| sandbox.netns.clone());
            SandboxRecord { id: plan.map_or_else(SandboxId::random, |plan| plan.id), netns }
        })
    }

    /// The texts of hosts and resolv.conf.
    async fn texts(&self, request: &NetworkRequest) -> Result<NetworkFiles, NodeError> {
        let conf = run_blocking(files::host_resolv_conf).await?;
        let resolver = Resolver::new(conf, &self.shared.config.resolver, &request.networking);
        let (own, linked, is_embedded, bridge_gateways) = self.with_state(|state| {
            let own = state.plans.get(&request.container).map(Plan::addresses).unwrap_or_default();
            (own, state.linked(request), state.has_resolver(request.container), state.default_gateways())
        });
        let configured = &self.shared.config.host_gateway;
        let gateways = if configured.is_empty() { &bridge_gateways } else { configured };
        if sandbox_mode(request) == SandboxMode::Host {
            let hosts = files::host_mode_hosts(request, gateways)?;
            return Ok(NetworkFiles { hosts, resolv_conf: resolver.plain_file(LoopbackServers::Kept) });
        }
        let hosts = files::hosts(request, &own, linked, gateways)?;
        let resolv_conf = if is_embedded {
            resolver.embedded_file()
        } else {
            resolver.plain_file(LoopbackServers::Dropped)
        };
        Ok(NetworkFiles { hosts, resolv_conf })
    }

    /// Everything that shall exist, for the mechanism's restore.
    fn desired(&self, runs: &BTreeMap<ContainerId, NetworkRun>) -> Desired {
        let conf = files::host_resolv_conf();
        self.with_state(|state| {
            let networks = state
                .networks
                .values()
                .filter(|entry| !entry.network.spec.config_only)
                .map(|entry| Arc::clone(&entry.kernel))
                .collect();
            let sandbox = |container: &ContainerId| {
                let resolver = |request: &NetworkRequest| {
                    Resolver::new(conf.clone(), &self.shared.config.resolver, &request.networking)
                };
                let (spec, sandbox) = state.sandbox_spec(*container, resolver)?;
                Some((spec, sandbox?))
            };
            let sandboxes = runs.keys().filter_map(sandbox).chain(state.ingress_desired()).collect();
            Desired { networks, sandboxes }
        })
    }
}

/// Rules of others that drop forwarded packets cut containers off; no rule of ours can let in what they drop.
fn warn_of_foreign_drops(host: &overlay_net::Host) {
    match host.foreign_drops() {
        Ok(chains) if chains.is_empty() => {}
        Ok(chains) => tracing::warn!(
            chains = chains.join(", "),
            "firewall chains of others drop forwarded packets; containers may not reach the network"
        ),
        Err(error) => {
            tracing::debug!(error = %crate::error::ErrorChain(&error), "firewall rules of others cannot be read");
        }
    }
}

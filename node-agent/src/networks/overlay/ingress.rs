//! This node's part in the ports that are published on every node.
//!
//! Start reading at [`NetworkStore::sync_ingress`]. The sandbox between the node's ports and the ingress network is written down
//! like a container's, so that a daemon that comes back takes it up.

use std::sync::Arc;

use ipnet::IpNet;
use overlay_net::ipam::Family;
use overlay_net::{EndpointSpec as NetEndpoint, IngressPort, IngressSpec, NetworkSpec, Sandbox, SandboxSpec};
use serde::{Deserialize, Serialize};
use shoal_types::{EndpointId, NetworkId, SandboxId};

use super::gateway::GATEWAY_BRIDGE;
use crate::error::{ErrorChain, NodeError};
use crate::networks::{NetworkStore, State, run_blocking};
use crate::store::{Batch, Record};

/// Key of the one record.
const KEY: &str = "ingress";

/// The sandbox of published ports, as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::networks) struct IngressRecord {
    network: NetworkId,
    /// The node's own addresses in the ingress network.
    inside: (EndpointId, Vec<IpNet>),
    /// What it has on the gateway bridge.
    outside: (EndpointId, Vec<IpNet>),
    sandbox: SandboxId,
    /// What is there in the kernel; `None` before that.
    made: Option<Sandbox>,
}

impl Record for IngressRecord {
    const TABLE: &'static str = "ingress";
}

/// The sandbox of published ports.
#[derive(Debug, Clone)]
pub(super) struct Ingress {
    record: IngressRecord,
    /// What was published last; empty when nothing was in this life of the daemon.
    ports: Vec<IngressPort>,
}

/// What the ingress network says that this node shall have.
struct Wish {
    network: Arc<NetworkSpec>,
    addresses: Vec<IpNet>,
    ports: Vec<IngressPort>,
}

impl NetworkStore {
    /// Brings the ports that are published on every node to what the ingress network's table says. To be called in turn.
    pub(super) async fn sync_ingress(&self) {
        let (wish, current) = self.with_state(|state| (state.ingress_wish(), state.board.ingress.clone()));
        let outcome = match (wish, current) {
            (None, None) => return,
            (None, Some(current)) => self.remove_ingress(current).await,
            (Some(wish), current) => self.publish(wish, current).await,
        };
        if let Err(error) = outcome {
            tracing::error!(error = error.message(), "ports of services are not published as told");
        }
    }

    async fn publish(&self, wish: Wish, current: Option<Ingress>) -> Result<(), NodeError> {
        let gateway = self.ensure_gateway_bridge().await?;
        let current = match current {
            Some(other)
                if other.record.network != wish.network.id || other.record.inside.1 != wish.addresses =>
            {
                self.remove_ingress(other).await?;
                None
            }
            current => current,
        };
        let ingress = match current {
            Some(ingress) => ingress,
            None => self.begin_ingress(&wish, &gateway).await?,
        };
        let Some(spec) = self.with_state(|state| state.ingress_spec(&ingress.record, wish.ports.clone()))
        else {
            return Err(NodeError::failed("publish ports", "the gateway bridge is gone"));
        };
        let host = self.shared.host.clone();
        let (given, made) = (ingress.ports.clone(), ingress.record.made.clone());
        let sandbox = run_blocking(move || match made {
            Some(made) if are_alike(&given, &spec.ports) => {
                let changed: Vec<IngressPort> =
                    spec.ports.iter().filter(|port| !given.contains(port)).cloned().collect();
                if !changed.is_empty() {
                    host.change_ingress(&spec.sandbox, &changed)?;
                }
                Ok(made)
            }
            made => host.ensure_ingress(&spec, made.as_ref()),
        })
        .await??;
        let record = IngressRecord { made: Some(sandbox), ..ingress.record };
        let is_new = ingress.ports.is_empty() || !are_alike(&ingress.ports, &wish.ports);
        self.with_state(|state| {
            state.board.ingress = Some(Ingress { record: record.clone(), ports: wish.ports });
        });
        if is_new {
            self.shared.store.commit(Batch::new().put(KEY, &record)?).await?;
        }
        Ok(())
    }

    /// Chooses names and an address, and writes them down before anything is made.
    async fn begin_ingress(&self, wish: &Wish, gateway: &NetworkId) -> Result<Ingress, NodeError> {
        let outside = self.with_state(|state| state.space.allocate(gateway, Family::V4))?;
        let record = IngressRecord {
            network: wish.network.id.clone(),
            inside: (EndpointId::random(), wish.addresses.clone()),
            outside: (EndpointId::random(), vec![outside]),
            sandbox: SandboxId::random(),
            made: None,
        };
        self.shared.store.commit(Batch::new().put(KEY, &record)?).await?;
        let ingress = Ingress { record, ports: Vec::new() };
        self.with_state(|state| state.board.ingress = Some(ingress.clone()));
        Ok(ingress)
    }

    async fn remove_ingress(&self, ingress: Ingress) -> Result<(), NodeError> {
        if let Some(made) = ingress.record.made {
            for error in self.remove_sandbox(made).await? {
                tracing::warn!(error = %ErrorChain(&error), "part of the published ports could not be removed");
            }
        }
        self.with_state(|state| {
            state.board.ingress = None;
            if let Some(gateway) = state.by_name(GATEWAY_BRIDGE).map(|entry| entry.network.id.clone()) {
                ingress.record.outside.1.iter().for_each(|net| state.space.release(&gateway, net.addr()));
            }
        });
        Ok(self.shared.store.commit(Batch::new().delete::<IngressRecord>(KEY)).await?)
    }
}

impl State {
    /// Takes over the sandbox that was written down.
    pub(in crate::networks) fn restore_ingress(&mut self, record: IngressRecord) {
        if let Some(gateway) = self.by_name(GATEWAY_BRIDGE).map(|entry| entry.network.id.clone()) {
            for net in &record.outside.1 {
                // Taken already only if two remember one address; the kernel will tell.
                let _ = self.space.take(&gateway, net.addr());
            }
        }
        self.board.ingress = Some(Ingress { record, ports: Vec::new() });
    }

    /// The sandbox of published ports, as the mechanism's restore wants it.
    pub(in crate::networks) fn ingress_desired(&self) -> Option<(SandboxSpec, Sandbox)> {
        let ingress = self.board.ingress.as_ref()?;
        let made = ingress.record.made.clone()?;
        let ports = self.ingress_wish().map(|wish| wish.ports).unwrap_or_default();
        Some((self.ingress_spec(&ingress.record, ports)?.sandbox_spec(), made))
    }

    /// Notes that the sandbox is gone, so that it is made anew.
    pub(in crate::networks) fn lose_ingress(&mut self, lost: &[SandboxId]) {
        if let Some(ingress) = &mut self.board.ingress
            && lost.contains(&ingress.record.sandbox)
        {
            ingress.record.made = None;
        }
    }

    /// The sandbox's id, if there is one.
    pub(in crate::networks) fn ingress_sandbox(&self) -> Option<SandboxId> {
        self.board
            .ingress
            .as_ref()
            .filter(|ingress| ingress.record.made.is_some())
            .map(|ingress| ingress.record.sandbox)
    }

    /// Whether the gateway bridge has the sandbox of published ports on it.
    pub(in crate::networks) fn has_ingress(&self) -> bool {
        self.board.ingress.is_some()
    }

    fn ingress_wish(&self) -> Option<Wish> {
        let mut overlays = self.board.networks.iter();
        let (id, overlay) = overlays.find(|(_, overlay)| {
            overlay.told.network.spec.ingress && overlay.standing != super::Standing::Unwanted
        })?;
        let addresses = overlay.told.node_addresses.clone();
        let ports: Vec<IngressPort> = overlay.form.ports.values().cloned().collect();
        if addresses.is_empty() || ports.is_empty() {
            return None;
        }
        let network = Arc::clone(&self.networks.get(id)?.kernel);
        Some(Wish { network, addresses, ports })
    }

    fn ingress_spec(&self, record: &IngressRecord, ports: Vec<IngressPort>) -> Option<IngressSpec> {
        let endpoint = |(id, addresses): &(EndpointId, Vec<IpNet>), network: &Arc<NetworkSpec>| NetEndpoint {
            id: *id,
            network: Arc::clone(network),
            addresses: addresses.clone(),
            mac: None,
            ifname: None,
            gateway_priority: 0,
            sysctls: Vec::new(),
            names: Vec::new(),
            links: Vec::new(),
        };
        Some(IngressSpec {
            sandbox: record.sandbox,
            inside: endpoint(&record.inside, &self.networks.get(&record.network)?.kernel),
            outside: endpoint(&record.outside, &self.by_name(GATEWAY_BRIDGE)?.kernel),
            ports,
        })
    }
}

/// Whether the same ports are published, wherever they lead.
fn are_alike(before: &[IngressPort], after: &[IngressPort]) -> bool {
    let shape = |port: &IngressPort| (port.protocol, port.published, port.target, port.host_ip, port.client);
    before.len() == after.len() && before.iter().zip(after).all(|(one, other)| shape(one) == shape(other))
}

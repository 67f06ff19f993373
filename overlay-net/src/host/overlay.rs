//! What the engine can do with overlay networks: tables, services, names, the routing mesh.
//!
//! Start reading at [`Host::apply_overlay`]. The rule for every table: give it whole once after a start of the daemon
//! (and whenever in doubt), give changes after that; both are idempotent. Until it is given whole, what the kernel has
//! from before is left as it is, so that nothing stops while the daemon is away.

use shoal_types::{NetworkId, SandboxId};

use super::{Host, RestoreReport};
use crate::error::{NetError, Result};
use crate::netd::protocol::{Change, NetworkNames};
use crate::overlay::segment;
use crate::overlay::spec::{
    IngressPort, IngressSpec, NameChange, NameEntry, OverlaySpec, OverlayTables, Repaired, ServiceChange,
    TableChange, VirtualService,
};
use crate::spec::Sandbox;

impl Host {
    /// Makes a network's namespace, tunnels and tables on this node exactly what is given, whatever was there before.
    ///
    /// Endpoints join by [`Host::ensure_sandbox`] with [`crate::DriverSpec::Overlay`], which makes the namespace and
    /// the tunnels by itself when they are missing, without tables. Frames keep flowing meanwhile.
    pub fn apply_overlay(
        &self,
        network: &NetworkId,
        spec: &OverlaySpec,
        tables: &OverlayTables,
    ) -> Result<Repaired> {
        self.shared.overlays.apply(network, spec, tables)
    }

    /// Changes a network's tables; the network must have been given whole since the start of the daemon.
    pub fn change_overlay(&self, network: &NetworkId, changes: &[TableChange]) -> Result<()> {
        self.shared.overlays.change(network, changes)
    }

    /// Compares a network's tunnels and tables with what they should be and puts right what somebody changed.
    ///
    /// Costs a few dumps of the kernel's tables; nothing for a network that was not given whole yet.
    pub fn repair_overlay(&self, network: &NetworkId) -> Result<Repaired> {
        self.shared.overlays.repair(network)
    }

    /// Removes a network's namespace with everything in it and forgets its tables and names; fine when it is gone.
    ///
    /// Interfaces of containers that are still in it vanish.
    pub fn remove_overlay(&self, network: &NetworkId) -> Vec<NetError> {
        let mut errors = self.shared.overlays.remove(network);
        let mut named = self.shared.netd.named_networks();
        if named.contains(network) {
            named.retain(|other| other != network);
            errors.extend(self.retain_names(named).err());
        }
        errors
    }

    /// The overlay networks that this node has, from whichever daemon.
    pub fn overlays(&self) -> Result<Vec<NetworkId>> {
        segment::list(self.shared.overlays.dir())
    }

    /// Removes every overlay network of this node but these, with its names; for after the first full set of a
    /// manager.
    pub fn retain_overlays(&self, networks: &[NetworkId]) -> RestoreReport {
        let mut report = RestoreReport::default();
        report.errors.extend(self.retain_names(networks.to_vec()).err());
        let present = match self.overlays() {
            Ok(present) => present,
            Err(error) => {
                report.errors.push(error);
                return report;
            }
        };
        for leftover in present.into_iter().filter(|network| !networks.contains(network)) {
            report.errors.extend(self.remove_overlay(&leftover));
            report.removed.push(format!("overlay network {leftover}"));
        }
        report
    }

    /// Makes the virtual services that the processes of a sandbox can reach exactly these.
    ///
    /// Give it all services of all overlay networks that the sandbox is joined to. Established connections go on.
    pub fn set_services(&self, sandbox: &SandboxId, services: &[VirtualService]) -> Result<Repaired> {
        self.shared.balancer.set(sandbox, &self.netns_path(sandbox), services)
    }

    /// Changes single services of a sandbox, in one transaction that concerns nothing else.
    ///
    /// The services must have been given whole since the start of the daemon. Connections to backends that are left
    /// out are forgotten; those to draining ones go on.
    pub fn change_services(&self, sandbox: &SandboxId, changes: &[ServiceChange]) -> Result<()> {
        self.shared.balancer.change(sandbox, changes)
    }

    /// Compares the services of a sandbox with what they should be and puts right what somebody changed.
    ///
    /// Costs one small request when nothing was changed. Covers the sandbox of the routing mesh, too.
    pub fn repair_services(&self, sandbox: &SandboxId) -> Result<Repaired> {
        self.shared.balancer.repair(sandbox)
    }

    /// Makes this node's part in the routing mesh what `spec` says: publishes ports and leads them to their tasks.
    ///
    /// `previous` is what an earlier call answered. A port that somebody else holds is an error, and nothing has
    /// changed then. Removed by [`Host::remove_sandbox`].
    pub fn ensure_ingress(&self, spec: &IngressSpec, previous: Option<&Sandbox>) -> Result<Sandbox> {
        let sandbox = self.ensure_sandbox(&spec.sandbox_spec(), previous)?;
        let path = self.netns_path(&spec.sandbox);
        match self.shared.balancer.set_ports(&spec.sandbox, &path, &spec.ports) {
            Ok(_) => Ok(sandbox),
            Err(cause) if previous.is_none() => {
                for error in self.remove_sandbox(&sandbox) {
                    tracing::warn!(sandbox.id = %spec.sandbox, %error, "could not take back a routing mesh");
                }
                Err(cause)
            }
            Err(cause) => Err(cause),
        }
    }

    /// Gives published ports other backends; the ports themselves must be published already.
    pub fn change_ingress(&self, sandbox: &SandboxId, ports: &[IngressPort]) -> Result<()> {
        self.shared.balancer.change_ports(sandbox, ports)
    }

    /// Makes the names that the cluster knows of in a network exactly these; those of local containers that were
    /// given with their endpoints are another matter and stay.
    ///
    /// `network_name` is what stands behind a dot after each name.
    pub fn set_names(&self, network: &NetworkId, network_name: &str, entries: Vec<NameEntry>) -> Result<()> {
        let names = NetworkNames { network: network.clone(), name: network_name.to_owned(), entries };
        self.shared.netd.apply(vec![Change::Names(names)]).map(|_| ())
    }

    /// Changes single names of a network, which must have been given whole since the start of the daemon.
    pub fn change_names(&self, network: &NetworkId, changes: Vec<NameChange>) -> Result<()> {
        if !self.shared.netd.knows_names(network) {
            return Err(NetError::TablesUnknown(network.to_string()));
        }
        self.shared.netd.apply(vec![Change::SomeNames(network.clone(), changes)]).map(|_| ())
    }

    fn retain_names(&self, networks: Vec<NetworkId>) -> Result<()> {
        self.shared.netd.apply(vec![Change::RetainNames(networks)]).map(|_| ())
    }
}

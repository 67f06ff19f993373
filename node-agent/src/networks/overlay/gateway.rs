//! The bridge by which containers of networks that span nodes reach the world.
//!
//! Start reading at [`NetworkStore::ensure_gateway_bridge`]. It is an ordinary bridge network of the node, by the name that Docker
//! gives it; containers on it do not see each other.

use std::collections::BTreeMap;

use overlay_net::{DriverSpec, Reach};
use shoal_types::network::NetworkSpec;
use shoal_types::{ErrorKind, NetworkId};

use crate::containers::ports::NetworkRequest;
use crate::error::NodeError;
use crate::networks::{NetworkStore, State};

/// Name of the bridge, which is also the interface's.
pub(in crate::networks) const GATEWAY_BRIDGE: &str = "docker_gwbridge";

impl NetworkStore {
    /// The bridge, made if it is not there.
    pub(super) async fn ensure_gateway_bridge(&self) -> Result<NetworkId, NodeError> {
        let find =
            || self.with_state(|state| state.by_name(GATEWAY_BRIDGE).map(|entry| entry.network.id.clone()));
        if let Some(id) = find() {
            return Ok(id);
        }
        let option = |key: &str, value: &str| (format!("com.docker.network.bridge.{key}"), value.to_owned());
        let options = [
            option("name", GATEWAY_BRIDGE),
            option("enable_icc", "false"),
            option("enable_ip_masquerade", "true"),
        ];
        let spec = NetworkSpec {
            name: GATEWAY_BRIDGE.to_owned(),
            driver: "bridge".to_owned(),
            options: BTreeMap::from(options),
            ..NetworkSpec::default()
        };
        match self.create_network(spec).await {
            // Somebody else was faster.
            Err(error) if error.kind() == ErrorKind::Conflict => find().ok_or(error),
            made => made,
        }
    }

    /// The bridge, if a container needs it: it is in a network that spans nodes and leads outside, and in none that gives it a
    /// way out.
    pub(in crate::networks) async fn gateway_for(
        &self,
        request: &NetworkRequest,
    ) -> Result<Option<NetworkId>, NodeError> {
        match self.with_state(|state| state.needs_gateway(request)) {
            true => self.ensure_gateway_bridge().await.map(Some),
            false => Ok(None),
        }
    }
}

impl State {
    fn needs_gateway(&self, request: &NetworkRequest) -> bool {
        let drivers = || {
            let names = request.networking.endpoints.keys();
            names.filter_map(|name| self.find(name).ok()).map(|entry| &entry.kernel.driver)
        };
        let wants = |driver: &DriverSpec| matches!(driver, DriverSpec::Overlay(overlay) if overlay.reach == Reach::External);
        let has = |driver: &DriverSpec| match driver {
            DriverSpec::Bridge(bridge) => bridge.reach == Reach::External,
            DriverSpec::Macvlan(macvlan) => macvlan.reach == Reach::External,
            DriverSpec::Overlay(_) | DriverSpec::Host | DriverSpec::None => false,
        };
        drivers().any(wants) && !drivers().any(has)
    }
}

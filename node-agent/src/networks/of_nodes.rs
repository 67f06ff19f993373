//! Networks of the cluster that every node makes for itself, mostly by a configuration that it has (`--config-from`).
//!
//! Start reading at [`NetworkStore::make_for_cluster`]. Such a network has the cluster's name and id and the node's own subnets; it
//! is made before the first task that is in it, and goes when managers tell that no task of the node is in it any more.

use shoal_types::NetworkId;
use shoal_types::cluster::overlay::OVERLAY_DRIVER;
use shoal_types::network::{Network, NetworkScope, NetworkSpec};
use shoal_types::protocol::{Assignment, AssignmentChange};

use super::{Entry, NetworkStore, predefined};
use crate::error::NodeError;
use crate::worker::OverlayNews;
use crate::worker::overlays::Extent;

/// Whether each node makes a network of the cluster with these properties for itself.
fn is_of_nodes(spec: &NetworkSpec) -> bool {
    spec.scope == NetworkScope::Swarm && spec.driver != OVERLAY_DRIVER && !predefined::is_name(&spec.name)
}

/// Which networks news tell to let go. Pure.
fn is_let_go(news: &OverlayNews, network: &NetworkId) -> bool {
    match news.extent {
        Extent::Changes => {
            news.changes.iter().any(|change| matches!(change, AssignmentChange::RemoveNetwork(id) if id == network))
        }
        Extent::Whole => !news.changes.iter().any(|change| {
            matches!(change, AssignmentChange::Update(Assignment::Network(told)) if told.id == *network)
        }),
    }
}

impl NetworkStore {
    /// Makes a network of the cluster unless it is there, or is one that every node has anyway.
    pub(super) async fn make_for_cluster(&self, network: &Network) -> Result<(), NodeError> {
        let is_there = || {
            self.with_state(|state| {
                state.board.let_go.remove(&network.id);
                state.networks.contains_key(&network.id)
            })
        };
        if !is_of_nodes(&network.spec) || is_there() {
            return Ok(());
        }
        match self.create_as(network.spec.clone(), network.id.clone()).await {
            // Another task was faster.
            Err(_) if is_there() => Ok(()),
            made => made.map(drop),
        }
    }

    /// Lets networks go of which managers tell no more. Those with a container in them go with the last.
    pub(super) async fn let_go(&self, news: &OverlayNews) {
        self.with_state(|state| {
            let of_nodes = state.networks.values().filter(|entry| is_of_nodes(&entry.network.spec));
            let let_go = of_nodes.map(|entry| &entry.network.id).filter(|id| is_let_go(news, id));
            state.board.let_go.extend(let_go.cloned());
        });
        self.remove_let_go().await;
    }

    /// Removes networks that were let go and that no container is in any more.
    pub(super) async fn remove_let_go(&self) {
        let let_go = self.with_state(|state| state.board.let_go.clone());
        if !let_go.is_empty() {
            self.remove_of_nodes(|id| let_go.contains(id)).await;
        }
    }

    /// Removes those that are meant and that no container is in.
    pub(super) async fn remove_of_nodes(&self, is_meant: impl Fn(&NetworkId) -> bool) {
        let is_free = |entry: &&Entry| is_of_nodes(&entry.network.spec) && entry.members.is_empty();
        let free: Vec<NetworkId> = self.with_state(|state| {
            let free = state.networks.values().filter(is_free).map(|entry| entry.network.id.clone());
            free.filter(|id| is_meant(id)).collect()
        });
        for id in free {
            match self.remove_as(id.as_str(), NetworkScope::Swarm).await {
                Ok(()) => {
                    self.with_state(|state| state.board.let_go.remove(&id));
                }
                Err(error) => {
                    tracing::warn!(network.id = %id, error = error.message(), "network cannot be removed");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(id: &str) -> Network {
        let spec = NetworkSpec {
            name: "net".to_owned(),
            driver: "bridge".to_owned(),
            scope: NetworkScope::Swarm,
            ..NetworkSpec::default()
        };
        Network { id: NetworkId::new(id), spec, created: jiff::Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn only_networks_that_are_no_overlay_and_not_always_there_are_the_nodes() {
        let of = |name: &str, driver: &str, scope: NetworkScope| NetworkSpec {
            name: name.to_owned(),
            driver: driver.to_owned(),
            scope,
            ..NetworkSpec::default()
        };
        assert!(is_of_nodes(&of("net", "bridge", NetworkScope::Swarm)));
        assert!(is_of_nodes(&of("net", "macvlan", NetworkScope::Swarm)));
        assert!(!is_of_nodes(&of("net", "overlay", NetworkScope::Swarm)));
        assert!(!is_of_nodes(&of("bridge", "bridge", NetworkScope::Swarm)));
        assert!(!is_of_nodes(&of("net", "bridge", NetworkScope::Local)));
    }

    #[test]
    fn a_network_goes_when_it_is_taken_back_or_told_no_more() {
        let told = AssignmentChange::Update(Assignment::Network(Box::new(network("a"))));
        let news = |extent, changes| OverlayNews { extent, changes };
        let id = |id: &str| NetworkId::new(id);
        let whole = news(Extent::Whole, vec![told.clone()]);
        assert!(!is_let_go(&whole, &id("a")) && is_let_go(&whole, &id("b")));
        let changes = news(Extent::Changes, vec![told, AssignmentChange::RemoveNetwork(id("b"))]);
        assert!(!is_let_go(&changes, &id("a")) && is_let_go(&changes, &id("b")));
        assert!(!is_let_go(&changes, &id("c")), "it was not mentioned");
    }
}

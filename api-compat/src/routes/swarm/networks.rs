//! Networks of the cluster, for the operations on networks, which show both kinds together.
//!
//! Start reading at [`listed`]. A network of the cluster that a node takes part in is known to both; the cluster's word counts: what
//! it has removed is not there, although the node keeps its part until the last container has left. A
//! machine that is no manager, or a cluster that does not answer, has none to show.

use jiff::Timestamp;
use manager::Cluster;
use manager::api::membership::Standing;
use node_agent::api::networks::{NetworkFilter, NetworkOrigin, NetworkPruneFilter};
use shoal_types::ErrorKind;
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::network::{Network, NetworkScope, NetworkSpec};

use crate::error::ApiError;

/// Whether this machine may speak for the cluster.
fn is_manager(cluster: &Cluster) -> bool {
    matches!(cluster.membership.standing(), Standing::Manager(_))
}

/// Whether a network that is wished for would be the cluster's.
pub(crate) fn is_of_cluster(spec: &NetworkSpec) -> bool {
    spec.scope == NetworkScope::Swarm || spec.driver == "overlay" || spec.ingress
}

/// Whether a network of this node is one that the cluster has removed, if the cluster has said that it has none of that name.
pub(crate) fn is_removed(cluster: &Cluster, network: &Network) -> bool {
    network.spec.scope == NetworkScope::Swarm && is_manager(cluster)
}

/// What the cluster says of its networks.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Those that pass the filter.
    pub(crate) passing: Vec<ClusterNetwork>,
    /// Whether somebody has spoken for the cluster.
    is_heard: bool,
}

impl Listed {
    /// Whether a network of this node has to be shown beside these: it is the node's own, or nobody speaks for the cluster. One of the
    /// cluster is among these, does not pass, or was removed.
    pub(crate) fn lacks(&self, network: &Network) -> bool {
        !self.is_heard || network.spec.scope == NetworkScope::Local
    }
}

/// Networks of the cluster.
pub(crate) async fn listed(cluster: &Cluster, filter: &NetworkFilter) -> Result<Listed, ApiError> {
    let is_named = filter.by_name()?;
    if !is_manager(cluster) {
        return Ok(Listed::default());
    }
    let mut passing = match cluster.networks.list().await {
        Ok(networks) => networks,
        Err(error) => {
            // The node's own networks are shown all the same, as Docker does.
            tracing::debug!(error = %error, "networks of the cluster are left out of a list");
            return Ok(Listed::default());
        }
    };
    passing.retain(|network| is_named(&network.spec.name) && passes(network, filter));
    Ok(Listed { passing, is_heard: true })
}

/// Whether a network passes what is no name. Whether something uses it only its nodes know together, so a filter for that lets
/// all pass.
fn passes(network: &ClusterNetwork, filter: &NetworkFilter) -> bool {
    let spec = &network.spec;
    let any = |wanted: &[String], fits: &dyn Fn(&str) -> bool| {
        wanted.is_empty() || wanted.iter().any(|wanted| fits(wanted))
    };
    any(&filter.drivers, &|driver| spec.driver == driver)
        && any(&filter.ids, &|id| network.id.as_str().starts_with(id))
        && (filter.scopes.is_empty() || filter.scopes.contains(&NetworkScope::Swarm))
        && filter.origin.is_none_or(|origin| origin == NetworkOrigin::Custom)
        && filter.labels.matches(|key| spec.labels.get(key).map(String::as_str))
}

/// One network of the cluster, if there is one of that name or id.
pub(crate) async fn found(cluster: &Cluster, name: &str) -> Result<Option<ClusterNetwork>, ApiError> {
    if !is_manager(cluster) {
        return Ok(None);
    }
    match cluster.networks.inspect(name).await {
        Ok(network) => Ok(Some(network)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a network of the cluster. Who is no manager is forbidden to, with the words that tell why.
pub(crate) async fn create(cluster: &Cluster, spec: NetworkSpec) -> Result<String, ApiError> {
    super::ports_of_manager(cluster).map_err(|error| ApiError::new(ErrorKind::Forbidden, error.message()))?;
    let id = cluster.networks.create(spec).await?;
    Ok(id.as_str().to_owned())
}

/// Removes networks of the cluster that nothing uses; the names of those that are gone.
pub(crate) async fn prune(cluster: &Cluster, filter: &NetworkPruneFilter) -> Result<Vec<String>, ApiError> {
    let labelled = NetworkFilter { labels: filter.labels.clone(), ..NetworkFilter::default() };
    let Listed { passing, .. } = listed(cluster, &labelled).await?;
    let mut removed = Vec::new();
    for network in passing.iter().filter(|network| is_prunable(network, filter.until)) {
        match cluster.networks.remove(network.id.as_str()).await {
            Ok(()) => removed.push(network.spec.name.clone()),
            Err(error) => {
                // Mostly it is in use, which only the managers can tell.
                tracing::debug!(network.id = %network.id, error = %error, "a network is not pruned");
            }
        }
    }
    Ok(removed)
}

fn is_prunable(network: &ClusterNetwork, until: Option<Timestamp>) -> bool {
    !network.spec.ingress && until.is_none_or(|until| network.meta.created <= until)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use node_agent::api::LabelFilter;
    use shoal_types::NetworkId;
    use shoal_types::cluster::Meta;

    use super::*;

    fn network() -> ClusterNetwork {
        let at = "2026-11-21T08:44:01Z".parse().unwrap();
        ClusterNetwork {
            id: NetworkId::new("abc1"),
            meta: Meta { version: 1, created: at, updated: at },
            spec: NetworkSpec {
                name: "front".into(),
                driver: "overlay".into(),
                labels: BTreeMap::from([("a".into(), "b".into())]),
                scope: NetworkScope::Swarm,
                ..NetworkSpec::default()
            },
            allocation: None,
            error: String::new(),
        }
    }

    #[test]
    fn filters_choose_networks_as_they_do_a_nodes() {
        let labels = |key: &str| LabelFilter { required: vec![(key.into(), None)], ..LabelFilter::default() };
        let none = NetworkFilter::default;
        for (filter, passing) in [
            (none(), true),
            (NetworkFilter { drivers: vec!["bridge".into()], ..none() }, false),
            (NetworkFilter { drivers: vec!["bridge".into(), "overlay".into()], ..none() }, true),
            (NetworkFilter { ids: vec!["ab".into()], ..none() }, true),
            (NetworkFilter { ids: vec!["c1".into()], ..none() }, false),
            (NetworkFilter { scopes: vec![NetworkScope::Local], ..none() }, false),
            (NetworkFilter { scopes: vec![NetworkScope::Swarm], ..none() }, true),
            (NetworkFilter { origin: Some(NetworkOrigin::Builtin), ..none() }, false),
            (NetworkFilter { labels: labels("a"), ..none() }, true),
            (NetworkFilter { labels: labels("b"), ..none() }, false),
        ] {
            assert_eq!(passes(&network(), &filter), passing, "{filter:?}");
        }
    }

    #[test]
    fn what_the_cluster_has_removed_is_not_shown_by_its_node() {
        let of_node = |scope: NetworkScope| Network {
            id: network().id,
            spec: NetworkSpec { scope, ..network().spec },
            created: network().meta.created,
        };
        let heard = Listed { passing: Vec::new(), is_heard: true };
        for (scope, is_shown) in [(NetworkScope::Swarm, false), (NetworkScope::Local, true)] {
            assert_eq!(heard.lacks(&of_node(scope)), is_shown, "{scope:?}");
            assert!(Listed::default().lacks(&of_node(scope)), "nobody speaks for the cluster: {scope:?}");
        }
    }

    #[test]
    fn ingress_and_younger_networks_are_not_pruned() {
        let ingress = || {
            let mut network = network();
            network.spec.ingress = true;
            network
        };
        let before = "2026-11-21T08:44:00Z".parse().unwrap();
        assert!(is_prunable(&network(), None) && !is_prunable(&ingress(), None));
        assert!(!is_prunable(&network(), Some(before)));
    }
}

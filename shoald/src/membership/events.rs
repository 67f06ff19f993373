//! What happens to objects of the cluster, as events of this node while it is a manager.
//!
//! Start reading at [`relay`]. Put into the node's log they have one history and one order with everything else that clients
//! watch, and `docker events --since` finds them.

use std::sync::Arc;

use futures_util::StreamExt as _;
use manager::api::events::{ClusterAction, ClusterEvent, ClusterEventKind};
use node_agent::api::events::{Event, EventKind, EventScope};
use node_agent::events::EventLog;
use tokio::sync::watch;

use super::Published;

/// Writes events of the cluster into the node's log, whenever there is a manager on this machine, until the membership ends.
/// The daemon runs it as a keeper; it may be dropped at any time.
pub(super) async fn relay(mut published: watch::Receiver<Published>, log: EventLog) {
    loop {
        let (manager, cluster) = match published.wait_for(|published| published.cluster.is_some()).await {
            // Held longer, the view would keep the membership from publishing.
            Ok(now) => (now.manager.clone(), now.cluster.clone()),
            Err(_) => return,
        };
        let Some(cluster) = cluster else { continue };
        let mut events = match cluster.events.subscribe().await {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "events of the cluster cannot be watched");
                futures_util::stream::pending().boxed()
            }
        };
        let is_other = |published: &Published| match (&published.manager, &manager) {
            (Some(present), Some(watched)) => !Arc::ptr_eq(present, watched),
            (None, None) => published.cluster.is_none(),
            _ => true,
        };
        loop {
            tokio::select! {
                // Dropped, an event stays in the stream.
                event = events.next() => match event {
                    Some(event) => log.publish_event(translated(event)),
                    // The manager has ended, which the membership is about to say.
                    None => events = futures_util::stream::pending().boxed(),
                },
                // Dropped, it waits again.
                changed = published.wait_for(is_other) => match changed {
                    Ok(_) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

/// An event of the cluster as one of the node.
fn translated(event: ClusterEvent) -> Event {
    let kind = match event.kind {
        ClusterEventKind::Service => EventKind::Service,
        ClusterEventKind::Node => EventKind::Node,
        ClusterEventKind::Network => EventKind::Network,
        ClusterEventKind::Secret => EventKind::Secret,
        ClusterEventKind::Config => EventKind::Config,
    };
    let action = match event.action {
        ClusterAction::Create => "create",
        ClusterAction::Update => "update",
        ClusterAction::Remove => "remove",
    };
    Event {
        kind,
        action: action.to_owned(),
        actor: event.id,
        attributes: event.attributes,
        time: event.time,
        scope: EventScope::Swarm,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn events_of_the_cluster_are_swarms() {
        let event = translated(ClusterEvent {
            kind: ClusterEventKind::Node,
            action: ClusterAction::Update,
            id: "n".to_owned(),
            attributes: BTreeMap::from([("state.new".to_owned(), "down".to_owned())]),
            time: "2026-11-21T08:44:01Z".parse().unwrap(),
        });
        assert_eq!(
            (event.kind.name(), event.action.as_str(), event.scope),
            ("node", "update", EventScope::Swarm)
        );
        assert_eq!((event.actor.as_str(), event.attributes["state.new"].as_str()), ("n", "down"));
    }
}

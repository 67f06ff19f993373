//! What has happened to the cluster's objects, for `docker events`.
//!
//! Start reading at [`between`], which compares two views of the store. The stream of a manager is made of this and the store's
//! wake-ups; who is slow sees two changes of one object as one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use shoal_types::cluster::node::Node;
use shoal_types::cluster::service::{Service, ServiceMode};

use super::Control;
use crate::api::events::{ClusterAction, ClusterEvent, ClusterEventKind, Events};
use crate::error::ClusterError;
use crate::store::{Key, Object, ObjectKind, Snapshot, Store};

#[async_trait]
impl Events for Control {
    async fn subscribe(&self) -> Result<BoxStream<'static, ClusterEvent>, ClusterError> {
        Ok(events(Arc::clone(&self.store)))
    }
}

/// Everything that happens to a store from now on, until it is closed.
pub(crate) fn events(store: Arc<dyn Store>) -> BoxStream<'static, ClusterEvent> {
    let (seen, changed) = (store.snapshot(), store.changed());
    let state = (store, seen, changed, VecDeque::new());
    stream::unfold(state, |(store, mut seen, mut changed, mut waiting)| async move {
        loop {
            if let Some(event) = waiting.pop_front() {
                return Some((event, (store, seen, changed, waiting)));
            }
            changed.changed().await.ok()?;
            let newest = store.snapshot();
            waiting.extend(between(&seen, &newest));
            seen = newest;
        }
    })
    .boxed()
}

/// What has happened between two views, in order of first change. Nothing if too much has.
fn between(before: &Snapshot, after: &Snapshot) -> Vec<ClusterEvent> {
    let Some(keys) = after.changed_since(before.index()) else { return Vec::new() };
    let mut told = BTreeSet::new();
    keys.filter(|key| event_kind(key.kind()).is_some() && told.insert((*key).clone()))
        .filter_map(|key| event(key, before.get(key).as_ref(), after.get(key).as_ref()))
        .collect()
}

fn event_kind(kind: ObjectKind) -> Option<ClusterEventKind> {
    match kind {
        ObjectKind::Service => Some(ClusterEventKind::Service),
        ObjectKind::Node => Some(ClusterEventKind::Node),
        ObjectKind::Network => Some(ClusterEventKind::Network),
        ObjectKind::Secret => Some(ClusterEventKind::Secret),
        ObjectKind::Config => Some(ClusterEventKind::Config),
        ObjectKind::Cluster
        | ObjectKind::Authority
        | ObjectKind::Task
        | ObjectKind::Revocation
        | ObjectKind::Attachment => None,
    }
}

fn event(key: &Key, before: Option<&Object>, after: Option<&Object>) -> Option<ClusterEvent> {
    let kind = event_kind(key.kind())?;
    let action = match (before, after) {
        (None, Some(_)) => ClusterAction::Create,
        (Some(_), Some(_)) => ClusterAction::Update,
        (Some(_), None) => ClusterAction::Remove,
        (None, None) => return None,
    };
    let newest = after.or(before)?;
    let time = match action {
        ClusterAction::Remove => Timestamp::now(),
        ClusterAction::Create | ClusterAction::Update => newest.meta().updated,
    };
    let mut attributes = BTreeMap::from([("name".to_owned(), name_of(newest))]);
    if action == ClusterAction::Update {
        match (before, after) {
            (Some(Object::Service(before)), Some(Object::Service(after))) => {
                service_changes(before, after, &mut attributes);
            }
            (Some(Object::Node(before)), Some(Object::Node(after))) => {
                node_changes(before, after, &mut attributes);
            }
            _ => {}
        }
    }
    let text = key.to_string();
    let id = text.split_once('/').map_or(text.as_str(), |(_, id)| id).to_owned();
    Some(ClusterEvent { kind, action, id, attributes, time })
}

fn name_of(object: &Object) -> String {
    match object {
        Object::Node(node) => {
            node.description.as_ref().map(|description| description.hostname.clone()).unwrap_or_default()
        }
        _ => object.unique_name().unwrap_or_default().to_owned(),
    }
}

/// Notes a value that has changed, as `<key>.old` and `<key>.new`.
fn note(attributes: &mut BTreeMap<String, String>, key: &str, old: Option<String>, new: Option<String>) {
    if old == new {
        return;
    }
    for (when, value) in [("old", old), ("new", new)] {
        if let Some(value) = value {
            attributes.insert(format!("{key}.{when}"), value);
        }
    }
}

fn service_changes(before: &Service, after: &Service, attributes: &mut BTreeMap<String, String>) {
    let state = |service: &Service| service.update.as_ref().map(|update| word(&update.state));
    note(attributes, "updatestate", state(before), state(after));
    let replicas = |service: &Service| match service.spec.mode {
        ServiceMode::Replicated { replicas } => Some(replicas.to_string()),
        ServiceMode::Global | ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => None,
    };
    note(attributes, "replicas", replicas(before), replicas(after));
    let image = |service: &Service| Some(service.spec.template.container.image.clone());
    note(attributes, "image", image(before), image(after));
}

fn node_changes(before: &Node, after: &Node, attributes: &mut BTreeMap<String, String>) {
    note(attributes, "state", Some(word(&before.status.state)), Some(word(&after.status.state)));
    let availability = |node: &Node| Some(word(&node.spec.availability));
    note(attributes, "availability", availability(before), availability(after));
    note(attributes, "role", Some(word(&before.spec.role)), Some(word(&after.spec.role)));
    let leader = |node: &Node| node.manager.as_ref().map(|manager| manager.leader.to_string());
    note(attributes, "leader", leader(before), leader(after));
    let reachability = |node: &Node| {
        node.manager
            .as_ref()
            .map(|manager| if manager.reachable { "reachable" } else { "unreachable" }.to_owned())
    };
    note(attributes, "reachability", reachability(before), reachability(after));
}

/// The word that a plain enum has in records, which is swarm's.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::service;
    use crate::store::Change;

    #[test]
    fn an_update_says_what_has_changed() {
        let before = Snapshot::from_objects(1, [service(1, 1).into()]);
        let mut after = before.clone();
        let mut changed = service(1, 4);
        changed.spec.template.container.image = "nginx".to_owned();
        after.apply(2, &[Change::Update(changed.into()), Change::Create(service(2, 1).into())]).unwrap();
        let events = between(&before, &after);
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].action, ClusterAction::Update);
        let text: Vec<String> =
            events[0].attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            text,
            ["image.new=nginx", "image.old=busybox", "name=service1", "replicas.new=4", "replicas.old=1"]
        );
        assert_eq!(
            (events[1].action, events[1].id.as_str()),
            (ClusterAction::Create, "0000000000000000000000002")
        );
        assert!(between(&after, &after).is_empty());
    }
}

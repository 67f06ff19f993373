//! Events: which a client wants, and how they are written.
//!
//! Start reading at [`EventFilter::passes`] and [`message`].

use node_agent::api::LabelFilter;
use node_agent::api::events::{Event, EventKind, EventScope};

use crate::filters::Filters;
use crate::model::events::{EventActor, EventMessage};
use crate::version::ApiVersion;

/// Kinds whose events are chosen by the id or name of the object, or by a beginning of it.
const OBJECTS: [&str; 9] =
    ["config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"];

/// Actions with a detail after a colon, which a filter without one matches too.
const DETAILED: [&str; 3] = ["exec_create", "exec_start", "health_status"];

/// Which events a client wants.
#[derive(Debug, Clone)]
pub(crate) struct EventFilter {
    filters: Filters,
    labels: LabelFilter,
}

impl EventFilter {
    /// The events that these filters let pass.
    pub(crate) fn new(filters: Filters) -> Self {
        let labels = filters.labels();
        Self { filters, labels }
    }

    /// Whether a client wants an event. Filters of different names must all match, of one name any value.
    pub(crate) fn passes(&self, event: &Event) -> bool {
        let attribute = |name: &str| event.attributes.get(name).map(String::as_str);
        self.exactly("type", event.kind.name())
            && self.exactly("scope", scope(event.scope))
            && self.action_passes(&event.action)
            && OBJECTS.iter().all(|kind| self.object_passes(kind, event, attribute("name")))
            && self.image_passes(event)
            && self.labels.matches(attribute)
    }

    fn exactly(&self, name: &str, value: &str) -> bool {
        !self.filters.has(name) || self.filters.get(name).iter().any(|wanted| wanted == value)
    }

    fn action_passes(&self, action: &str) -> bool {
        let wanted = self.filters.get("event");
        if wanted.is_empty() {
            return true;
        }
        let is_fuzzy = wanted.iter().any(|wanted| DETAILED.contains(&wanted.as_str()));
        wanted.iter().any(|wanted| wanted == action || (is_fuzzy && action.starts_with(wanted.as_str())))
    }

    fn object_passes(&self, kind: &str, event: &Event, name: Option<&str>) -> bool {
        if !self.filters.has(kind) {
            return true;
        }
        // An attached container is an attribute of a network's event, and a client that watches it wants that too.
        let container = (kind == "container").then(|| event.attributes.get("container")).flatten();
        let values = [Some(event.actor.as_str()), name, container.map(String::as_str)];
        let is_kind = event.kind.name() == kind || container.is_some();
        is_kind
            && self
                .filters
                .get(kind)
                .iter()
                .any(|wanted| values.iter().flatten().any(|value| value.starts_with(wanted.as_str())))
    }

    fn image_passes(&self, event: &Event) -> bool {
        if !self.filters.has("image") {
            return true;
        }
        let attribute = if event.kind == EventKind::Image { "name" } else { "image" };
        let name = event.attributes.get(attribute).map_or("", String::as_str);
        let names = [event.actor.as_str(), name, without_tag(&event.actor), without_tag(name)];
        self.filters.get("image").iter().any(|wanted| names.contains(&wanted.as_str()))
    }
}

/// A reference without its tag; anything else as it is.
fn without_tag(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    }
}

fn scope(scope: EventScope) -> &'static str {
    match scope {
        EventScope::Local => "local",
        EventScope::Swarm => "swarm",
    }
}

/// An event in the shape of a version.
pub(crate) fn message(event: &Event, version: ApiVersion) -> EventMessage {
    let is_legacy = version.is_below(52) && matches!(event.kind, EventKind::Container | EventKind::Image);
    let from = event.attributes.get("image").filter(|_| event.kind == EventKind::Container);
    EventMessage {
        status: is_legacy.then(|| event.action.clone()),
        id: is_legacy.then(|| event.actor.clone()).filter(|id| !id.is_empty()),
        from: from.filter(|_| is_legacy).cloned(),
        kind: event.kind.name().to_owned(),
        action: event.action.clone(),
        actor: EventActor { id: event.actor.clone(), attributes: event.attributes.clone() },
        scope: scope(event.scope).to_owned(),
        time: event.time.as_second(),
        time_nano: i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Query;

    fn event(kind: EventKind, action: &str, actor: &str, attributes: &[(&str, &str)]) -> Event {
        Event {
            kind,
            action: action.to_owned(),
            actor: actor.to_owned(),
            attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            time: "2026-11-21T08:44:02.000000005Z".parse().unwrap(),
            scope: EventScope::Local,
        }
    }

    fn passes(filters: &str, event: &Event) -> bool {
        let encoded: String = form_urlencoded::byte_serialize(filters.as_bytes()).collect();
        let filters = Filters::any(&Query::parse(&format!("filters={encoded}"))).unwrap();
        EventFilter::new(filters).passes(event)
    }

    #[test]
    fn filters_choose_as_docker_does() {
        let container = event(
            EventKind::Container,
            "exec_create: sh",
            "4ed162",
            &[("name", "one"), ("image", "busybox:1"), ("a", "b")],
        );
        let image = event(EventKind::Image, "pull", "busybox:latest", &[("name", "busybox")]);
        let network =
            event(EventKind::Network, "connect", "c1c2", &[("container", "4ed162"), ("name", "bridge")]);
        for (filters, wanted) in [
            ("{}", [true, true, true]),
            (r#"{"type":["container"]}"#, [true, false, false]),
            (r#"{"event":["exec_create"]}"#, [true, false, false]),
            (r#"{"event":["exec_"]}"#, [false, false, false]),
            (r#"{"event":["pull","connect"]}"#, [false, true, true]),
            (r#"{"container":["one"]}"#, [true, false, false]),
            (r#"{"container":["4ed"]}"#, [true, false, true]),
            (r#"{"image":["busybox"]}"#, [true, true, false]),
            (r#"{"network":["bridge"]}"#, [false, false, true]),
            (r#"{"label":["a=b"]}"#, [true, false, false]),
            (r#"{"scope":["swarm"]}"#, [false, false, false]),
        ] {
            let found = [&container, &image, &network].map(|event| passes(filters, event));
            assert_eq!(found, wanted, "{filters}");
        }
    }

    #[test]
    fn older_versions_see_status_id_and_from() {
        let event = event(EventKind::Container, "start", "4ed1", &[("image", "busybox"), ("name", "one")]);
        let text = |minor| serde_json::to_string(&message(&event, ApiVersion::v1(minor))).unwrap();
        assert_eq!(
            text(41),
            r#"{"status":"start","id":"4ed1","from":"busybox","Type":"container","Action":"start","Actor":{"ID":"4ed1","Attributes":{"image":"busybox","name":"one"}},"scope":"local","time":1795250642,"timeNano":1795250642000000005}"#
        );
        assert!(text(52).starts_with(r#"{"Type":"container""#));
    }
}

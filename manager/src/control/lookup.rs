//! Finding an object by what a user has typed: its id, its name, or the beginning of its id, in that order.
//!
//! Start reading at [`find`]. Filters of lists are [`matches()`].

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::node::Node;
use shoal_types::cluster::secret::{Config, Secret};
use shoal_types::cluster::service::Service;
use shoal_types::cluster::task::Task;
use shoal_types::{ErrorKind, NetworkId};

use super::Control;
use super::refusal::refuse;
use crate::api::ObjectFilter;
use crate::error::ClusterError;
use crate::store::{Key, ObjectKind, Snapshot};

/// How many ids that begin alike are counted before it is merely said that there are several.
const MOST_COUNTED: usize = 100;

/// What a look-up needs to know of a kind.
struct Kind<'a, T> {
    name: &'static str,
    by_id: &'a dyn Fn(&str) -> Option<T>,
    by_name: &'a dyn Fn(&str) -> Vec<T>,
    all: &'a mut dyn Iterator<Item = T>,
    id_of: &'a dyn Fn(&T) -> String,
}

/// Finds the one object that `text` means.
fn find<T>(text: &str, kind: Kind<'_, T>) -> Result<T, ClusterError> {
    let Kind { name, by_id, by_name, all, id_of } = kind;
    if let Some(object) = by_id(text) {
        return Ok(object);
    }
    let mut found = by_name(text);
    if found.is_empty() && !text.is_empty() {
        found = all.filter(|object| id_of(object).starts_with(text)).take(MOST_COUNTED).collect();
    }
    match found.len() {
        0 => Err(refuse(ErrorKind::NotFound, format!("{name} {text} not found"))),
        1 => found.pop().ok_or_else(|| refuse(ErrorKind::NotFound, format!("{name} {text} not found"))),
        n => {
            Err(refuse(ErrorKind::InvalidArgument, format!("{name} {text} is ambiguous ({n} matches found)")))
        }
    }
}

/// The id that `text` is in full.
fn id<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

/// The objects of a kind with unique names that have this one: one or none.
fn named<T>(view: &Snapshot, kind: ObjectKind, name: &str, get: impl Fn(&Key) -> Option<T>) -> Vec<T> {
    view.by_name(kind, name).and_then(get).into_iter().collect()
}

impl Control {
    /// The service that `text` means.
    pub(super) fn find_service(&self, view: &Snapshot, text: &str) -> Result<Arc<Service>, ClusterError> {
        find(
            text,
            Kind {
                name: "service",
                by_id: &|text| view.service(id(text)?).cloned(),
                by_name: &|text| {
                    named(view, ObjectKind::Service, text, |key| match key {
                        Key::Service(id) => view.service(*id).cloned(),
                        _ => None,
                    })
                },
                all: &mut view.services().cloned(),
                id_of: &|service| service.id.to_string(),
            },
        )
    }

    /// The node that `text` means; `self` is this one.
    pub(super) fn find_node(&self, view: &Snapshot, text: &str) -> Result<Arc<Node>, ClusterError> {
        if text == "self"
            && let Some(node) = view.node(self.this_node)
        {
            return Ok(Arc::clone(node));
        }
        find(
            text,
            Kind {
                name: "node",
                by_id: &|text| view.node(id(text)?).cloned(),
                by_name: &|text| view.nodes_by_hostname(text).cloned().collect(),
                all: &mut view.nodes().cloned(),
                id_of: &|node| node.id.to_string(),
            },
        )
    }

    /// The task that `text` means.
    pub(super) fn find_task(&self, view: &Snapshot, text: &str) -> Result<Arc<Task>, ClusterError> {
        find(
            text,
            Kind {
                name: "task",
                by_id: &|text| view.task(id(text)?).cloned(),
                by_name: &|text| {
                    // The last part of a task's name is its id.
                    let id = text.rsplit('.').next().and_then(id);
                    id.and_then(|id| view.task(id))
                        .filter(|task| task.name() == text)
                        .cloned()
                        .into_iter()
                        .collect()
                },
                all: &mut view.tasks().cloned(),
                id_of: &|task| task.id.to_string(),
            },
        )
    }

    /// The secret that `text` means.
    pub(super) fn find_secret(&self, view: &Snapshot, text: &str) -> Result<Arc<Secret>, ClusterError> {
        find(
            text,
            Kind {
                name: "secret",
                by_id: &|text| view.secret(id(text)?).cloned(),
                by_name: &|text| {
                    named(view, ObjectKind::Secret, text, |key| match key {
                        Key::Secret(id) => view.secret(*id).cloned(),
                        _ => None,
                    })
                },
                all: &mut view.secrets().cloned(),
                id_of: &|secret| secret.id.to_string(),
            },
        )
    }

    /// The config that `text` means.
    pub(super) fn find_config(&self, view: &Snapshot, text: &str) -> Result<Arc<Config>, ClusterError> {
        find(
            text,
            Kind {
                name: "config",
                by_id: &|text| view.config(id(text)?).cloned(),
                by_name: &|text| {
                    named(view, ObjectKind::Config, text, |key| match key {
                        Key::Config(id) => view.config(*id).cloned(),
                        _ => None,
                    })
                },
                all: &mut view.configs().cloned(),
                id_of: &|config| config.id.to_string(),
            },
        )
    }

    /// The network that `text` means.
    pub(super) fn find_network(
        &self,
        view: &Snapshot,
        text: &str,
    ) -> Result<Arc<ClusterNetwork>, ClusterError> {
        find(
            text,
            Kind {
                name: "network",
                by_id: &|text| view.network(&NetworkId::new(text)).cloned(),
                by_name: &|text| {
                    named(view, ObjectKind::Network, text, |key| match key {
                        Key::Network(id) => view.network(id).cloned(),
                        _ => None,
                    })
                },
                all: &mut view.networks().cloned(),
                id_of: &|network| network.id.to_string(),
            },
        )
    }
}

/// Whether an object passes a filter by id, name and label. Ids and names may be given by their beginning.
pub(super) fn matches(
    filter: &ObjectFilter,
    id: &dyn Display,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    let has_id = filter.ids.is_empty() || {
        let id = id.to_string();
        filter.ids.iter().any(|prefix| id.starts_with(prefix.as_str()))
    };
    let has_name =
        filter.names.is_empty() || filter.names.iter().any(|prefix| name.starts_with(prefix.as_str()));
    has_id && has_name && has_labels(&filter.labels, labels)
}

/// Whether all wanted labels are there, with the wanted values.
pub(super) fn has_labels(wanted: &[(String, Option<String>)], labels: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| {
        labels.get(key).is_some_and(|has| value.as_ref().is_none_or(|value| value == has))
    })
}

//! PURE. Which containers a list shows.
//!
//! Start reading at [`Filter::passes`]. Within a field one value must match, and all fields must,
//! of the two kinds of ports one. Only a filter by state, and
//! a limit, widen a list to containers that do not run.

use std::sync::Arc;

use jiff::Timestamp;
use regex_lite::Regex;
use shoal_types::ImageId;
use shoal_types::container::health::HealthStatus;
use shoal_types::container::networking::PortSpec;
use shoal_types::container::state::{ContainerState, PublishedPort};

use crate::api::containers::{ContainerFilter, ContainerView, ListQuery, PortRange};
use crate::error::NodeError;

/// Names of states, as Docker lists them in its complaint.
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// A query whose patterns are compiled and whose names are looked up.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    filter: &'a ContainerFilter,
    names: Vec<Regex>,
    ids: Vec<Regex>,
    shows_all: bool,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl<'a> Filter<'a> {
    /// Compiles a query; `find` looks up the containers that it names.
    pub(crate) fn compile(
        query: &'a ListQuery,
        find: impl Fn(&str) -> Result<Arc<ContainerView>, NodeError>,
    ) -> Result<Self, NodeError> {
        let filter = &query.filter;
        for state in &filter.statuses {
            if !STATES.contains(&state.as_str()) {
                return Err(NodeError::invalid(format!(
                    "invalid filter 'status={state}': invalid value for state ({state}): must be one of {}",
                    STATES.join(", ")
                )));
            }
        }
        // A pattern that cannot be compiled matches itself, as with dockerd.
        let compile = |patterns: &[String]| {
            let compiled =
                patterns.iter().map(|pattern| Regex::new(pattern).or_else(|_| Regex::new(&escape(pattern))));
            compiled.collect::<Result<Vec<_>, _>>().map_err(|error| NodeError::invalid(error.to_string()))
        };
        let created = |names: &[String], pick: fn(Timestamp, Timestamp) -> Timestamp| {
            let mut times = names.iter().map(|name| find(name).map(|view| view.created));
            times.try_fold(None, |chosen: Option<Timestamp>, time| {
                let time = time?;
                Ok::<_, NodeError>(Some(chosen.map_or(time, |chosen| pick(chosen, time))))
            })
        };
        Ok(Self {
            filter,
            names: compile(&filter.names)?,
            ids: compile(&filter.ids)?,
            shows_all: query.all || query.limit.is_some_and(|limit| limit > 0) || !filter.statuses.is_empty(),
            before: created(&filter.before, Timestamp::min)?,
            since: created(&filter.since, Timestamp::max)?,
        })
    }

    /// Whether a container is shown. `ancestors` are the images that the query's ancestors mean.
    pub(crate) fn passes(&self, view: &ContainerView, ancestors: &[ImageId]) -> bool {
        (self.shows_all || runs(&view.state))
            && self.before.is_none_or(|before| view.created < before)
            && self.since.is_none_or(|since| view.created > since)
            && self.passes_names(view)
            && self.passes_state(view)
            && self.passes_image(view, ancestors)
            && self.passes_volumes(view)
            && self.passes_networks(view)
            && self.filter.labels.matches(|key| view.spec.labels.get(key).map(String::as_str))
            && self.passes_ports(view)
            && self.filter.is_task.is_none_or(|wanted| wanted == is_task(view))
    }

    fn passes_names(&self, view: &ContainerView) -> bool {
        let matches =
            |pattern: &Regex, name: &str| pattern.is_match(name) || pattern.is_match(&format!("/{name}"));
        let has_name = self.names.is_empty()
            || self.names.iter().any(|pattern| {
                matches(pattern, &view.name) || view.link_names.iter().any(|name| matches(pattern, name))
            });
        let id = view.id.to_string();
        let has_id = self.filter.ids.is_empty()
            || self.filter.ids.iter().any(|prefix| id.starts_with(prefix.as_str()))
            || self.ids.iter().any(|pattern| pattern.is_match(&id));
        has_name && has_id
    }

    fn passes_state(&self, view: &ContainerView) -> bool {
        let filter = self.filter;
        let has_status =
            filter.statuses.is_empty() || filter.statuses.iter().any(|name| name == view.state.name());
        let has_exited = filter.exited.is_empty()
            || matches!(&view.state, ContainerState::Exited(exit) if filter.exited.contains(&exit.code));
        let health: Option<HealthStatus> = view.health.as_ref().map(|health| health.status);
        let has_health = filter.health.is_empty() || filter.health.contains(&health);
        has_status && has_exited && has_health
    }

    fn passes_image(&self, view: &ContainerView, ancestors: &[ImageId]) -> bool {
        self.filter.ancestors.is_empty()
            || view.image_id.is_some_and(|id| ancestors.contains(&id))
            || self.filter.ancestors.contains(&view.spec.image)
    }

    fn passes_volumes(&self, view: &ContainerView) -> bool {
        self.filter.volumes.is_empty()
            || view.mounts.iter().any(|mount| {
                let wanted = &self.filter.volumes;
                wanted.contains(&mount.destination)
                    || (!mount.name.is_empty() && wanted.contains(&mount.name))
                    || (!mount.source.is_empty() && wanted.contains(&mount.source))
            })
    }

    fn passes_networks(&self, view: &ContainerView) -> bool {
        self.filter.networks.is_empty()
            || view.endpoints.iter().any(|(name, endpoint)| {
                let id = endpoint.network_id.as_str();
                self.filter
                    .networks
                    .iter()
                    .any(|wanted| wanted == name || (!id.is_empty() && id.starts_with(wanted.as_str())))
            })
    }

    /// A port of the host that is published, or a port of the container that is exposed: with both filters one of them
    /// is enough, as dockerd has it. A container that does not run has neither.
    fn passes_ports(&self, view: &ContainerView) -> bool {
        let (published, exposed) = (&self.filter.published, &self.filter.exposed);
        if published.is_empty() && exposed.is_empty() {
            return true;
        }
        let is_published = |port: &PublishedPort| {
            port.host_port.is_some_and(|on_host| {
                is_within(PortSpec { port: on_host, ..port.container_port }, published)
            })
        };
        view.state.run().is_some()
            && (view.published.iter().any(is_published)
                || view.spec.networking.exposed.iter().any(|port| is_within(*port, exposed)))
    }
}

fn is_within(port: PortSpec, ranges: &[PortRange]) -> bool {
    ranges.iter().any(|range| {
        port.protocol == range.first.protocol && (range.first.port..=range.last).contains(&port.port)
    })
}

/// Whether a container counts as running for a list that shows only those.
fn runs(state: &ContainerState) -> bool {
    match state {
        ContainerState::Running(_) | ContainerState::Paused(_) | ContainerState::Restarting { .. } => true,
        ContainerState::Created
        | ContainerState::Exited(_)
        | ContainerState::Removing { .. }
        | ContainerState::Dead { .. } => false,
    }
}

/// Tasks of the cluster are marked by the label that Docker gives them.
fn is_task(view: &ContainerView) -> bool {
    view.spec.labels.contains_key("com.docker.swarm.task.id")
}

fn escape(text: &str) -> String {
    regex_lite::escape(text)
}

#[cfg(test)]
mod tests;

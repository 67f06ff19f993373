//! Listing containers, fast: entries are encoded once for each published version of a container.
//!
//! Start reading at [`list`] and [`ListCache`]. What changes with the clock, the state in words, is put between the two
//! encoded halves of an entry at every question. Filters become the port's typed query here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use node_agent::api::containers::{ContainerFilter, ContainerView, ListQuery, Listed, PortRange};
use serde::Serialize;
use shoal_types::ContainerId;
use shoal_types::container::health::HealthStatus;
use shoal_types::container::networking::PortSpec;

use crate::compat;
use crate::convert::container_summary;
use crate::error::ApiError;
use crate::extract::{Call, parse_integer};
use crate::filters::Filters;
use crate::model::container_summary::ContainerSummary;
use crate::reply::{self, Outcome};
use crate::version::ApiVersion;

const FILTERS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

pub(super) async fn list(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &FILTERS)?;
    let limit = call.query.integer("limit")?;
    let query = ListQuery {
        all: call.query.flag("all"),
        limit: limit.and_then(|limit| usize::try_from(limit).ok()).filter(|&limit| limit > 0),
        with_sizes: call.query.flag("size"),
        filter: container_filter(&filters)?,
    };
    let with_sizes = query.with_sizes;
    let listed = call.shared.state.node.views.list(query).await?;
    let now = Timestamp::now();
    if with_sizes {
        let summaries: Vec<ContainerSummary> =
            listed.iter().map(|one| summary(one, now, call.version)).collect();
        return reply::json(&summaries);
    }
    let text = call
        .shared
        .lists
        .render(&listed, now, call.version)
        .map_err(|error| ApiError::internal(format!("encode the list: {error}")))?;
    Ok(reply::json_bytes(StatusCode::OK, text))
}

/// One entry in the shape of a version.
pub(crate) fn summary(listed: &Listed, now: Timestamp, version: ApiVersion) -> ContainerSummary {
    let view = &listed.view;
    let mut summary = container_summary::summary(view, listed.sizes, now);
    let hostname = &view.spec.process.hostname;
    compat::containers::facts(&mut summary.facts, version);
    compat::containers::details(&mut summary.details, &view.id.short(), hostname, version);
    summary
}

fn container_filter(filters: &Filters) -> Result<ContainerFilter, ApiError> {
    let state = |value: &str| match STATES.iter().find(|state| **state == value) {
        Some(state) => Ok((*state).to_owned()),
        None => Err(format!("invalid value for state ({value}): must be one of {}", STATES.join(", "))),
    };
    let health = |value: &str| match value {
        "none" => Ok(None),
        "starting" => Ok(Some(HealthStatus::Starting)),
        "healthy" => Ok(Some(HealthStatus::Healthy)),
        "unhealthy" => Ok(Some(HealthStatus::Unhealthy)),
        other => Err(format!(
            "invalid value for health ({other}): must be one of none, starting, healthy, unhealthy"
        )),
    };
    let code = |value: &str| {
        let code = parse_integer(value)?;
        i32::try_from(code).map_err(|_| format!("strconv.Atoi: parsing {value:?}: value out of range"))
    };
    Ok(ContainerFilter {
        ids: filters.get("id"),
        names: filters.get("name"),
        labels: filters.labels(),
        statuses: filters.each("status", state)?,
        exited: filters.each("exited", code)?,
        ancestors: filters.get("ancestor"),
        before: filters.get("before"),
        since: filters.get("since"),
        volumes: filters.get("volume"),
        networks: filters.get("network"),
        published: filters.each("publish", port_range)?,
        exposed: filters.each("expose", port_range)?,
        health: filters.each("health", health)?,
        is_task: filters.truth("is-task")?,
    })
}

/// Reads `80`, `80/tcp`, `80-90/udp`.
fn port_range(value: &str) -> Result<PortRange, String> {
    let (numbers, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let first: PortSpec = format!("{first}/{protocol}").parse().map_err(|_| String::new())?;
    let last = last.parse().ok().filter(|&last| last >= first.port).ok_or_else(String::new)?;
    Ok(PortRange { first, last })
}

/// Encoded entries, by container and shape. Only the newest version of each is kept.
#[derive(Debug, Default)]
pub(crate) struct ListCache {
    entries: Mutex<HashMap<(ContainerId, usize), Entry>>,
}

/// The two halves of an encoded entry: `{…,"State":"running","Status":` and `,"HostConfig":…}`.
type Halves = Arc<(Vec<u8>, Vec<u8>)>;

/// Two halves, and the version of the container that they show.
#[derive(Debug, Clone)]
struct Entry {
    version: u64,
    halves: Halves,
}

/// Entries of containers that are gone are dropped when there are so many more entries than containers.
const SLACK: usize = 1024;

impl ListCache {
    /// The list as JSON.
    fn render(&self, listed: &[Listed], now: Timestamp, version: ApiVersion) -> serde_json::Result<Bytes> {
        let shape = compat::containers::summary_shape(version);
        let halves = self.halves(listed, shape, version)?;
        let size = halves.iter().map(|halves| halves.0.len() + halves.1.len() + 64).sum::<usize>() + 3;
        let mut text = Vec::with_capacity(size);
        text.push(b'[');
        for (place, (one, halves)) in listed.iter().zip(&halves).enumerate() {
            if place > 0 {
                text.push(b',');
            }
            text.extend_from_slice(&halves.0);
            text.push(b'"');
            // No state in words needs escaping: they are made of our own words and numbers.
            text.extend_from_slice(container_summary::status(&one.view, now).as_bytes());
            text.push(b'"');
            text.extend_from_slice(&halves.1);
        }
        text.extend_from_slice(b"]\n");
        Ok(text.into())
    }

    fn halves(
        &self,
        listed: &[Listed],
        shape: usize,
        version: ApiVersion,
    ) -> serde_json::Result<Vec<Halves>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::with_capacity(listed.len());
        for one in listed {
            let key = (one.view.id, shape);
            let halves = match entries.get(&key).filter(|entry| entry.version == one.view.version) {
                Some(entry) => Arc::clone(&entry.halves),
                None => {
                    let halves = Arc::new(encode_halves(&one.view, version)?);
                    let entry = Entry { version: one.view.version, halves: Arc::clone(&halves) };
                    entries.insert(key, entry);
                    halves
                }
            };
            found.push(halves);
        }
        if entries.len() > listed.len() * 8 + SLACK {
            entries.clear();
        }
        Ok(found)
    }
}

fn encode_halves(view: &ContainerView, version: ApiVersion) -> serde_json::Result<(Vec<u8>, Vec<u8>)> {
    let mut facts = container_summary::facts(view, None);
    compat::containers::facts(&mut facts, version);
    let mut first = encode_object(&facts)?;
    first.pop();
    first.extend_from_slice(b",\"Status\":");
    let mut details = container_summary::details(view);
    compat::containers::details(&mut details, &view.id.short(), &view.spec.process.hostname, version);
    let mut second = encode_object(&details)?;
    if let Some(brace) = second.first_mut() {
        *brace = b',';
    }
    Ok((first, second))
}

fn encode_object<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(value)
}

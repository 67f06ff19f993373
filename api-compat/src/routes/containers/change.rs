//! Update, resize, prune, commit.
//!
//! Start reading at [`update`].

use http::StatusCode;
use jiff::Timestamp;
use node_agent::api::containers::{ContainerUpdate, PruneFilter};
use node_agent::api::files::CommitRequest;
use serde_json::{Map, Value};

use crate::convert;
use crate::convert::host_config::Purpose;
use crate::error::ApiError;
use crate::extract::{Call, shape};
use crate::filters::Filters;
use crate::model::IdResponse;
use crate::model::container_config::ContainerConfig;
use crate::model::container_summary::{ContainerPruneResponse, ContainerUpdateResponse};
use crate::model::host_config::{ContainerUpdate as UpdateBody, Resources};
use crate::reply::{self, Outcome};

pub(super) async fn update(mut call: Call) -> Outcome {
    let value = call.optional_json_value().await?.unwrap_or_default();
    let mut resources: Resources = shape(&value)?;
    let UpdateBody { restart_policy } = shape(&value)?;
    if call.version.is_below(40) {
        resources.pids_limit = None;
    }
    if call.version.is_below(55) {
        resources.blkio_weight_device = None;
        resources.blkio_device_read_bps = None;
        resources.blkio_device_write_bps = None;
        resources.blkio_device_read_iops = None;
        resources.blkio_device_write_iops = None;
    }
    convert::host_config::check_resources(&resources, Purpose::Update)?;
    let restart = match restart_policy.name.as_str() {
        "" => None,
        _ => Some(convert::host_config::restart_policy(&restart_policy, false)?),
    };
    let update = ContainerUpdate {
        resources: convert::host_config::resources(&resources, 0),
        restart,
        requested: None,
    };
    let warnings = call.shared.state.node.containers.update(call.name(), update).await?;
    reply::json(&ContainerUpdateResponse { warnings: Some(warnings).filter(|list| !list.is_empty()) })
}

pub(super) async fn resize(call: Call) -> Outcome {
    let (height, width) = terminal_size(&call)?;
    call.shared.state.node.streams.resize(call.name(), height, width).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// The height and width of a terminal. What no terminal can be is cut to what one can.
pub(crate) fn terminal_size(call: &Call) -> Result<(u16, u16), ApiError> {
    let size = |name: &str, what: &str| {
        let text = call.query.text(name);
        // A negative number is well formed, but out of range, as one that is too large is.
        let (digits, is_negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
        let fault = match digits.parse::<u32>() {
            Ok(size) if !is_negative && !digits.starts_with('+') => {
                return Ok(u16::try_from(size).unwrap_or(u16::MAX));
            }
            Ok(_) if is_negative && !digits.starts_with('+') => "value out of range",
            Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Err(ApiError::invalid(format!("invalid resize {what} {text:?}: {fault}")))
    };
    Ok((size("h", "height")?, size("w", "width")?))
}

pub(super) async fn prune(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &["label", "label!", "until"])?;
    let filter = PruneFilter { labels: filters.labels(), until: filters.until(Timestamp::now())? };
    let pruned = call.shared.state.node.containers.prune(filter).await?;
    reply::json(&ContainerPruneResponse {
        containers_deleted: Some(pruned.removed).filter(|list| !list.is_empty()),
        space_reclaimed: pruned.reclaimed,
    })
}

pub(super) async fn commit(mut call: Call) -> Outcome {
    let value = call.optional_json_value().await?;
    // A body that says nothing is none: clients send `null` or `{}`.
    let is_empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
    let config = match value.filter(|value| !is_empty(value)) {
        Some(value) => Some(convert::image::run_config(&shape::<ContainerConfig>(&value)?)?),
        None => None,
    };
    let query = &call.query;
    let request = CommitRequest {
        reference: convert::image::repo_tag(query.text("repo"), query.text("tag"))?,
        author: query.text("author").to_owned(),
        comment: query.text("comment").to_owned(),
        pause: query.flag_unless_absent("pause"),
        changes: convert::image::changes(&query.texts("changes")),
        config,
    };
    let container = query.text("container").to_owned();
    let id = call.shared.state.node.files.commit(&container, request).await?;
    reply::json_with(StatusCode::CREATED, &IdResponse { id: id.to_string() })
}

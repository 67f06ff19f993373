//! Creating a container.
//!
//! Start reading at [`create`].

use http::StatusCode;
use node_agent::api::containers::CreateContainer;
use shoal_types::Platform;

use crate::compat;
use crate::convert;
use crate::convert::requested::Requested;
use crate::error::ApiError;
use crate::extract::{Call, EMPTY_BODY};
use crate::model::container_create::{ContainerCreate, ContainerCreateResponse};
use crate::reply::{self, Outcome};

/// What a body that says nothing about the container is answered with.
const EMPTY_CONFIG: &str = "config cannot be empty in order to create a container";

pub(super) async fn create(mut call: Call) -> Outcome {
    let value = match call.json_value().await {
        // Docker's decoder of containers says it in fewer words than that of everything else.
        Err(error) if error.message() == EMPTY_BODY => Err(ApiError::invalid("invalid JSON: EOF"))?,
        value => value?,
    };
    let mut create = ContainerCreate::from_json(&value)?.ok_or_else(|| ApiError::invalid(EMPTY_CONFIG))?;
    let platform = platform(&call)?;
    let cgroups = call.shared.state.daemon.cgroup_version;
    let mut warnings = compat::container_create::upgrade(&mut create, call.version, cgroups)?;
    let mut spec = convert::container_create::spec(&create, platform)?;
    compat::container_create::upgrade_spec(&mut spec, call.version);
    let requested = Requested::of(&create)
        .to_text()
        .map_err(|error| ApiError::internal(format!("keep the request: {error}")))?;
    let request = CreateContainer { name: call.query.some_text("name"), spec, requested: requested.into() };
    let created = call.shared.state.node.containers.create(request).await?;
    warnings.extend(created.warnings);
    let reply = ContainerCreateResponse { id: created.id.to_string(), warnings };
    reply::json_with(StatusCode::CREATED, &reply)
}

fn platform(call: &Call) -> Result<Option<Platform>, ApiError> {
    match call.query.text("platform") {
        "" => Ok(None),
        _ if call.version.is_below(41) => Ok(None),
        text => text.parse().map(Some).map_err(|error| ApiError::invalid(format!("{error}"))),
    }
}

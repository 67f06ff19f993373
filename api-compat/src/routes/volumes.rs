//! Volumes.
//!
//! Start reading at [`routes`].

use http::StatusCode;
use manager::ClusterError;
use node_agent::api::volumes::{OfMissing, PruneScope, VolumeFilter, VolumePruneFilter};
use shoal_types::ErrorKind;

use crate::convert;
use crate::error::ApiError;
use crate::extract::Call;
use crate::filters::Filters;
use crate::model::volume::{Volume, VolumeCreate, VolumeListResponse, VolumePruneResponse};
use crate::reply::{self, Outcome};
use crate::route::ParamKind::Integer;
use crate::route::{Route, delete, get, post, put};

/// The operations on volumes.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        get("/volumes", list)
            .about("VolumeList", "Lists volumes.")
            .filters("Which: dangling, driver, label, name.")
            .gives::<VolumeListResponse>(200)
            .fails(&[400]),
        get("/volumes/{name}", inspect)
            .about("VolumeInspect", "Shows a volume.")
            .gives::<Volume>(200)
            .fails(&[404]),
        post("/volumes/create", create)
            .about("VolumeCreate", "Makes a volume, or gives back the one that has the name.")
            .takes::<VolumeCreate>()
            .gives::<Volume>(201)
            .fails(&[400, 404, 409, 503]),
        post("/volumes/prune", prune)
            .about("VolumePrune", "Removes volumes that no container refers to.")
            .filters("Which: all, label, label!.")
            .gives::<VolumePruneResponse>(200)
            .fails(&[400, 409]),
        put("/volumes/{name}", update)
            .about("VolumeUpdate", "Changes a volume of the cluster.")
            .since(42)
            .query("version", Integer, "The version that the client has seen.")
            .fails(&[503])
            .refused(),
        delete("/volumes/{name}", remove)
            .about("VolumeDelete", "Removes a volume that no container refers to.")
            .flag("force", "A volume that does not exist is no failure.")
            .gives_nothing(204)
            .fails(&[404, 409]),
    ]
}

async fn list(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &["dangling", "driver", "label", "name"])?;
    let filter = VolumeFilter {
        dangling: filters.truth("dangling")?,
        names: filters.get("name"),
        drivers: filters.get("driver"),
        labels: filters.labels(),
    };
    let (volumes, warnings) = call.shared.state.node.volumes.list(filter).await?;
    reply::json(&VolumeListResponse {
        volumes: volumes.iter().map(convert::volume::shown).collect(),
        warnings: Some(warnings).filter(|list| !list.is_empty()),
    })
}

async fn inspect(call: Call) -> Outcome {
    let (volume, status) = call.shared.state.node.volumes.inspect(call.name()).await?;
    reply::json(&Volume { status, ..convert::volume::shown(&volume) })
}

async fn create(mut call: Call) -> Outcome {
    let body: VolumeCreate = call.json().await?;
    if call.version.is_from(42) && body.cluster_volume_spec.is_some() {
        return Err(ClusterError::NotAMember.into());
    }
    let volume = call.shared.state.node.volumes.create(convert::volume::spec(body)).await?;
    reply::json_with(StatusCode::CREATED, &convert::volume::shown(&volume))
}

async fn update(_call: Call) -> Outcome {
    Err(ApiError::new(
        ErrorKind::Unavailable,
        "volume update only valid for cluster volumes, but swarm is unavailable",
    ))
}

async fn remove(call: Call) -> Outcome {
    let missing = if call.query.flag("force") { OfMissing::Succeed } else { OfMissing::Fail };
    call.shared.state.node.volumes.remove(call.name(), missing).await?;
    Ok(reply::no_content())
}

/// Since 1.42 only anonymous volumes go, unless `all` is asked for; before, all that were unused went.
async fn prune(call: Call) -> Outcome {
    let is_new = call.version.is_from(42);
    let accepted: &[&str] = if is_new { &["all", "label", "label!"] } else { &["label", "label!"] };
    let filters = Filters::of(&call.query, accepted)?;
    let is_all = !is_new || filters.truth("all")? == Some(true);
    let filter = VolumePruneFilter {
        labels: filters.labels(),
        scope: if is_all { PruneScope::All } else { PruneScope::Anonymous },
        until: None,
    };
    let pruned = call.shared.state.node.volumes.prune(filter).await?;
    reply::json(&VolumePruneResponse { volumes_deleted: pruned.removed, space_reclaimed: pruned.reclaimed })
}

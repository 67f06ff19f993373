//! The images that are here: list, inspect, history, names, removal.
//!
//! Start reading at [`list`].

use http::StatusCode;
use jiff::Timestamp;
use node_agent::api::images::{
    AttestationQuery, ImageFilter, ImagePruneFilter, ImageQuery, PruneNamed, RemoveImage, StatementBody,
};
use shoal_types::{ImageRef, Platform};

use crate::compat;
use crate::convert::image as convert;
use crate::error::ApiError;
use crate::extract::Call;
use crate::filters::Filters;
use crate::model::image::{AttestationStatement, ImagePruneResponse, ImageSummary};
use crate::reply::{self, Outcome};

/// The name of a digest algorithm, which as a repository could be taken for a digest.
const DIGEST_ALGORITHM: &str = "sha256";

pub(super) async fn list(call: Call) -> Outcome {
    let query = &call.query;
    let mut filters = Filters::of(query, &["before", "dangling", "label", "reference", "since", "until"])?;
    if let Some(pattern) = query.some_text("filter").filter(|_| call.version.is_below(41)) {
        filters.add("reference", pattern);
    }
    let with_manifests = call.version.is_from(47) && query.flag("manifests");
    let with_identity = call.version.is_from(54) && query.flag("identity");
    if with_identity && !with_manifests {
        return Err(ApiError::invalid("conflicting options: identity requires manifests=1"));
    }
    let wanted = ImageQuery {
        all: query.flag("all"),
        with_shared_size: call.version.is_from(42) && query.flag("shared-size"),
        with_containers: call.version.is_from(51) && with_manifests,
        with_manifests,
        filter: ImageFilter {
            dangling: filters.truth("dangling")?,
            labels: filters.labels(),
            before: filters.get("before"),
            since: filters.get("since"),
            until: filters.earliest_until(Timestamp::now())?,
            references: filters.get("reference"),
        },
    };
    let images = call.shared.state.node.images.list(wanted).await?;
    let shown = images.iter().map(|image| {
        let mut shown = convert::summary(image);
        if with_identity {
            convert::identify(&mut shown, image);
        }
        compat::images::summary(&mut shown, call.version);
        shown
    });
    reply::json(&shown.collect::<Vec<ImageSummary>>())
}

/// The platform that the query names, if the version knew of the parameter.
pub(super) fn platform(call: &Call, since: u16) -> Result<Option<Platform>, ApiError> {
    match call.query.text("platform") {
        "" => Ok(None),
        _ if call.version.is_below(since) => Ok(None),
        text => convert::json_platform(text).map(Some),
    }
}

pub(super) async fn inspect(call: Call) -> Outcome {
    let with_manifests = call.version.is_from(48) && call.query.flag("manifests");
    let platform = platform(&call, 49)?;
    if with_manifests && platform.is_some() {
        return Err(ApiError::invalid(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let node = &call.shared.state.node;
    let view = node.images.inspect(call.name(), platform.as_ref()).await?;
    let driver = node.system.info().await?.storage_driver;
    let mut shown = convert::inspect(&view, &driver, with_manifests);
    compat::images::inspect(&mut shown, call.version);
    reply::json(&shown)
}

pub(super) async fn history(call: Call) -> Outcome {
    let platform = platform(&call, 48)?;
    let entries = call.shared.state.node.images.history(call.name(), platform.as_ref()).await?;
    reply::json(&convert::history(&entries))
}

pub(super) async fn attestations(call: Call) -> Outcome {
    let platform = match call.query.texts("platform").as_slice() {
        [] | [""] => None,
        [platform] => Some(convert::json_platform(platform)?),
        _ => return Err(ApiError::invalid("only one platform value is currently supported")),
    };
    let types = call.query.texts("type").into_iter().map(str::trim);
    let query = AttestationQuery {
        name: call.name().to_owned(),
        platform,
        predicate_types: types.filter(|kind| !kind.is_empty()).map(str::to_owned).collect(),
        body: if call.query.flag("statement") { StatementBody::Included } else { StatementBody::Omitted },
    };
    let statements = call.shared.state.node.images.attestations(query).await?;
    reply::json(&statements.into_iter().map(convert::attestation).collect::<Vec<AttestationStatement>>())
}

pub(super) async fn tag(call: Call) -> Outcome {
    let reference = convert::repo_tag(call.query.text("repo"), call.query.text("tag"))?
        .ok_or_else(|| ApiError::invalid("invalid reference format"))?;
    if is_digest_algorithm(&reference) {
        return Err(ApiError::invalid("refusing to create an ambiguous tag using digest algorithm as name"));
    }
    call.shared.state.node.images.tag(call.name(), &reference).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

fn is_digest_algorithm(reference: &ImageRef) -> bool {
    reference.familiar_name() == DIGEST_ALGORITHM
}

pub(super) async fn remove(call: Call) -> Outcome {
    let query = &call.query;
    let platforms: Vec<Platform> = if call.version.is_from(50) {
        query.texts("platforms").into_iter().map(convert::json_platform).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let options = RemoveImage { force: query.flag("force"), keep_parents: query.flag("noprune"), platforms };
    let removals = call.shared.state.node.images.remove(call.name(), options).await?;
    reply::json(&convert::removals(removals))
}

pub(super) async fn prune(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &["dangling", "label", "label!", "until"])?;
    let filter = ImagePruneFilter {
        named: match filters.truth("dangling")? {
            Some(false) => PruneNamed::Remove,
            Some(true) | None => PruneNamed::Keep,
        },
        labels: filters.labels(),
        until: filters.until(Timestamp::now())?,
    };
    let (removals, reclaimed) = call.shared.state.node.images.prune(filter).await?;
    let items = convert::removals(removals);
    reply::json(&ImagePruneResponse {
        images_deleted: Some(items).filter(|list| !list.is_empty()),
        space_reclaimed: reclaimed,
    })
}

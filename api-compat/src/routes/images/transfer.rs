//! Images that come and go: pull, push, save, load, import; and what registries say.
//!
//! Start reading at [`create`].

use node_agent::api::images::{ImportRequest, LoadRequest, PullRequest, PushRequest, SearchRequest};
use shoal_types::{ImageRef, Platform};

use super::list::platform;
use crate::convert::image as convert;
use crate::error::ApiError;
use crate::extract::Call;
use crate::filters::Filters;
use crate::model::image::{DistributionInspect, ImageSearchResponseItem};
use crate::reply::{self, Outcome};
use crate::routes::containers::bytes_reply;
use crate::stream::progress::{self, EarlyFailure};

/// How many results a search gives when nothing is said.
const DEFAULT_SEARCH_LIMIT: i64 = 25;

pub(super) async fn create(call: Call) -> Outcome {
    if call.query.some_text("fromImage").is_some() { pull(call).await } else { import(call).await }
}

/// The platform as pull and import take it: `os[/arch[/variant]]`.
fn written_platform(call: &Call) -> Result<Option<Platform>, ApiError> {
    match call.query.text("platform") {
        "" => Ok(None),
        _ if call.version.is_below(32) => Ok(None),
        text => text.parse().map(Some).map_err(|error| ApiError::invalid(format!("{error}"))),
    }
}

async fn pull(call: Call) -> Outcome {
    let request = PullRequest {
        reference: convert::reference_with(call.query.text("fromImage"), call.query.text("tag"))?,
        platform: written_platform(&call)?,
        credentials: call.credentials(),
    };
    let progress = call.shared.state.node.transfers.pull(request).await;
    progress::reply(progress, EarlyFailure::IsStatus, call.version).await
}

async fn import(mut call: Call) -> Outcome {
    let request = ImportRequest {
        source: call.query.text("fromSrc").to_owned(),
        reference: convert::repo_tag(call.query.text("repo"), call.query.text("tag"))?,
        message: call.query.text("message").to_owned(),
        changes: convert::changes(&call.query.texts("changes")),
        platform: written_platform(&call)?,
    };
    let archive = call.stream();
    let progress = call.shared.state.node.transfers.import(request, archive).await;
    progress::reply(progress, EarlyFailure::IsStatus, call.version).await
}

pub(super) async fn push(call: Call) -> Outcome {
    let request = PushRequest {
        reference: convert::reference_with(call.name(), call.query.text("tag"))?,
        platform: platform(&call, 46)?,
        credentials: call.credentials(),
    };
    let progress = call.shared.state.node.transfers.push(request).await;
    progress::reply(progress, EarlyFailure::IsStatus, call.version).await
}

pub(super) async fn load(mut call: Call) -> Outcome {
    let request = LoadRequest { platforms: platforms(&call)?, quiet: call.query.flag_unless_absent("quiet") };
    let archive = call.stream();
    let progress = call.shared.state.node.transfers.load(request, archive).await;
    progress::reply(progress, EarlyFailure::IsLine, call.version).await
}

pub(super) async fn save(call: Call) -> Outcome {
    let names = [call.name().to_owned()];
    save_names(call, &names).await
}

pub(super) async fn save_all(call: Call) -> Outcome {
    let names: Vec<String> = call.query.texts("names").into_iter().map(str::to_owned).collect();
    save_names(call, &names).await
}

async fn save_names(call: Call, names: &[String]) -> Outcome {
    let platforms = platforms(&call)?;
    let archive = call.shared.state.node.transfers.save(names, &platforms).await?;
    Ok(bytes_reply("application/x-tar", archive))
}

/// The platforms of a save or load: one from 1.48 on, several from 1.52 on.
fn platforms(call: &Call) -> Result<Vec<Platform>, ApiError> {
    let given: Vec<&str> = call.query.texts("platform").into_iter().filter(|text| !text.is_empty()).collect();
    if call.version.is_below(48) {
        return Ok(Vec::new());
    }
    if call.version.is_below(52) && given.len() > 1 {
        return Err(ApiError::invalid(
            "multiple platform parameters are not supported in this API version; use API version 1.52 or later",
        ));
    }
    given.into_iter().map(convert::json_platform).collect()
}

pub(super) async fn search(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &["is-automated", "is-official", "stars"])?;
    let limit = match call.query.integer("limit")? {
        None | Some(0) => DEFAULT_SEARCH_LIMIT,
        Some(limit) if (1..=100).contains(&limit) => limit,
        Some(limit) => {
            return Err(ApiError::invalid(format!("limit {limit} is outside the range of [1, 100]")));
        }
    };
    let stars = filters.each("stars", |text| text.parse::<u32>().map_err(|_| String::new()))?;
    let request = SearchRequest {
        term: call.query.text("term").to_owned(),
        limit: u32::try_from(limit).unwrap_or_default(),
        stars: stars.into_iter().max().unwrap_or_default(),
        is_official: filters.truth("is-official")?,
        is_automated: filters.truth("is-automated")?,
        credentials: call.credentials(),
    };
    let found = call.shared.state.node.transfers.search(request).await?;
    let items = found.into_iter().map(|result| ImageSearchResponseItem {
        star_count: result.stars,
        is_official: result.is_official,
        name: result.name,
        is_automated: result.is_automated,
        description: result.description,
    });
    reply::json(&items.collect::<Vec<_>>())
}

pub(super) async fn distribution(call: Call) -> Outcome {
    let reference = ImageRef::parse(call.name())
        .map_err(|error| ApiError::invalid(error.to_string()))?
        .with_default_tag();
    let found = call.shared.state.node.transfers.distribution(&reference, call.credentials()).await?;
    reply::json(&DistributionInspect {
        descriptor: convert::descriptor(&found.descriptor),
        platforms: found.platforms.iter().map(convert::platform).collect(),
    })
}

//! The daemon itself: ping, version, information, disk use, logins, events.
//!
//! Start reading at [`routes`].

use std::time::Duration;

use futures_util::{StreamExt as _, future};
use http::header::{CACHE_CONTROL, HeaderName, PRAGMA};
use http::{HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use manager::Cluster;
use manager::api::membership::Standing;
use manager::api::nodes::NodeFilter;
use node_agent::api::events::EventWindow;
use node_agent::api::system::UsageKinds;
use registry_client::AuthConfig as RegistryAuth;

use crate::convert::system::ClusterView;
use crate::convert::{self, disk_usage::Items};
use crate::error::ApiError;
use crate::extract::{Call, parse_unix_time};
use crate::filters::Filters;
use crate::model::disk_usage::DiskUsage;
use crate::model::events::EventMessage;
use crate::model::system::{AuthConfig, AuthResponse, SystemInfo, SystemVersion};
use crate::reply::{self, Body, Outcome};
use crate::route::ParamKind::Texts;
use crate::route::{BodyKind, Route, get, head, post};
use crate::stream::JsonFraming;
use crate::stream::events::{self, EventFilter};
use crate::{compat, json};

/// How long the cluster has to say something about itself.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(3);

/// The operations on the daemon.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        get("/_ping", ping)
            .about("SystemPing", "Says that the daemon is there, and which version of the API it speaks.")
            .gives_body(200, BodyKind::Text),
        head("/_ping", ping).about("SystemPingHead", "The same without a body.").gives_nothing(200),
        get("/version", version)
            .about("SystemVersion", "Tells the versions of the daemon and its parts.")
            .gives::<SystemVersion>(200),
        get("/info", info)
            .about("SystemInfo", "Tells of the machine, the daemon's settings and counters.")
            .gives::<SystemInfo>(200),
        get("/system/df", disk_usage)
            .about("SystemDataUsage", "Tells what takes up disk.")
            .query("type", Texts, "Only these kinds: build-cache, container, image, volume.")
            .from(42)
            .flag("verbose", "The objects too, not only sums.")
            .from(52)
            .gives::<DiskUsage>(200)
            .fails(&[400]),
        post("/auth", login)
            .about("SystemAuth", "Tries credentials on a registry.")
            .takes::<AuthConfig>()
            .gives::<AuthResponse>(200)
            .fails(&[400, 401]),
        get("/events", watch)
            .about("SystemEvents", "Tells what has happened and what happens.")
            .text("since", "Also what has happened since then, in seconds since 1970.")
            .text("until", "Only until then, in seconds since 1970.")
            .filters("Which: config, container, daemon, event, image, label, network, node, plugin, scope, secret, service, type, volume.")
            .streams::<EventMessage>()
            .fails(&[400]),
    ]
}

async fn ping(call: Call) -> Outcome {
    const BUILDER_VERSION: HeaderName = HeaderName::from_static("builder-version");
    const SWARM: HeaderName = HeaderName::from_static("swarm");
    let body = if call.method == Method::HEAD { "" } else { "OK" };
    let mut reply = reply::text(StatusCode::OK, body);
    let swarm = match call.shared.state.cluster.membership.standing() {
        Standing::Inactive => "inactive",
        Standing::Pending => "pending",
        Standing::Error(_) => "error",
        Standing::Locked => "locked",
        Standing::Worker(_) => "active/worker",
        Standing::Manager(_) => "active/manager",
    };
    let headers = reply.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    let builder = call.shared.state.daemon.builder.version();
    headers.insert(BUILDER_VERSION, HeaderValue::from_static(builder));
    headers.insert(SWARM, HeaderValue::from_static(swarm));
    Ok(reply)
}

async fn version(call: Call) -> Outcome {
    let info = call.shared.state.node.system.info().await?;
    reply::json(&convert::system::version(&call.shared.state.daemon, &info))
}

async fn info(call: Call) -> Outcome {
    let state = &call.shared.state;
    let info = state.node.system.info().await?;
    let listeners = state.node.events.subscribers();
    let view = cluster_view(&state.cluster).await;
    let mut shown = convert::system::info(&state.daemon, &info, listeners, &view);
    compat::system::info(&mut shown, call.version);
    reply::json(&shown)
}

/// What this machine knows of its cluster. A cluster that does not answer at once is left out: it must not hold up `docker info`,
/// which is how administrators find out.
async fn cluster_view(cluster: &Cluster) -> ClusterView {
    let membership = &cluster.membership;
    let mut view = ClusterView {
        standing: membership.standing(),
        surroundings: membership.surroundings(),
        ..ClusterView::default()
    };
    if !matches!(view.standing, Standing::Manager(_)) {
        return view;
    }
    let asking = future::join(membership.inspect(), cluster.nodes.list(NodeFilter::default()));
    let Ok((inspected, nodes)) = tokio::time::timeout(CLUSTER_PATIENCE, asking).await else { return view };
    view.cluster = inspected.ok().map(|(cluster, _)| cluster);
    view.counts = nodes.ok().map(|nodes| {
        let managers = nodes.iter().filter(|node| node.manager.is_some()).count();
        (nodes.len(), managers)
    });
    view
}

async fn disk_usage(call: Call) -> Outcome {
    let kinds = usage_kinds(&call)?;
    let usage = call.shared.state.node.system.disk_usage(kinds).await?;
    let (now, version) = (Timestamp::now(), call.version);
    // From 1.52 on sums are told; the older shape beside them unless the client has said that it wants the objects.
    let is_verbose = version.is_from(52) && call.query.flag("verbose");
    let items = if is_verbose { Items::Listed } else { Items::Omitted };
    reply::json(&DiskUsage {
        legacy: (!is_verbose).then(|| convert::disk_usage::legacy(&usage, now, version)),
        sums: version.is_from(52).then(|| convert::disk_usage::sums(&usage, now, version, items)),
    })
}

fn usage_kinds(call: &Call) -> Result<UsageKinds, ApiError> {
    let all = UsageKinds { containers: true, images: true, volumes: true, build_cache: true };
    let wanted = call.query.texts("type");
    if call.version.is_below(42) || wanted.is_empty() {
        return Ok(all);
    }
    let mut kinds = UsageKinds { containers: false, images: false, volumes: false, build_cache: false };
    for kind in wanted {
        match kind {
            "container" => kinds.containers = true,
            "image" => kinds.images = true,
            "volume" => kinds.volumes = true,
            "build-cache" => kinds.build_cache = true,
            other => return Err(ApiError::invalid(format!("unknown object type: {other}"))),
        }
    }
    Ok(kinds)
}

async fn login(mut call: Call) -> Outcome {
    let value = call.json_value().await?;
    let text = json::encode(&value).map_err(|error| ApiError::internal(error.to_string()))?;
    let auth = RegistryAuth::from_json(&text).map_err(|error| ApiError::invalid(error.to_string()))?;
    let system = &call.shared.state.node.system;
    let identity_token = system.login(&auth.server_address, auth.credentials()).await?;
    reply::json(&AuthResponse { status: "Login Succeeded".to_owned(), identity_token })
}

async fn watch(call: Call) -> Outcome {
    let filter = EventFilter::new(Filters::any(&call.query)?);
    let time = |name: &str| call.query.some_text(name).map(|text| parse_unix_time(&text)).transpose();
    let window = EventWindow { since: time("since")?, until: time("until")? };
    if let (Some(since), Some(until)) = (window.since, window.until)
        && until < since
    {
        let (since, until) = (call.query.text("since"), call.query.text("until"));
        return Err(ApiError::invalid(format!(
            "`since` time ({since}) cannot be after `until` time ({until})"
        )));
    }
    let version = call.version;
    let framing = if version.is_below(52) {
        JsonFraming::Plain
    } else {
        JsonFraming::accepted(&call, JsonFraming::Lines)
    };
    let events = call.shared.state.node.events.subscribe(window).await;
    let body = events
        .filter(move |event| future::ready(filter.passes(event)))
        .map(move |event| framing.frame(&events::message(&event, version)));
    Ok(reply::with_type(StatusCode::OK, framing.content_type(), Body::from_stream(body)))
}

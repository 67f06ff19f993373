//! Networks.
//!
//! Start reading at [`routes`].

use http::StatusCode;
use jiff::Timestamp;
use node_agent::api::networks::{DisconnectForce, NetworkFilter, NetworkOrigin, NetworkPruneFilter};
use shoal_types::network::NetworkScope;

use crate::compat::networks::{self as compat, Told};
use crate::convert::{self, network_settings};
use crate::error::ApiError;
use crate::extract::Call;
use crate::filters::Filters;
use crate::model::network::{
    Network, NetworkConnect, NetworkCreate, NetworkCreateResponse, NetworkDisconnect, NetworkPruneResponse,
};
use crate::reply::{self, Outcome};
use crate::route::{Route, delete, get, post};

/// What is said of a truth that is none. Networks have words of their own for it.
const WRONG_DANGLING: &str =
    "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")";

/// The operations on networks.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        get("/networks", list)
            .about("NetworkList", "Lists networks.")
            .filters("Which: dangling, driver, id, label, name, scope, type.")
            .gives::<Vec<Network>>(200)
            .fails(&[400]),
        get("/networks/", list)
            .about("NetworkListSlash", "The same under the path that older clients use.")
            .filters("Which: dangling, driver, id, label, name, scope, type.")
            .gives::<Vec<Network>>(200)
            .fails(&[400]),
        get("/networks/{id}", inspect)
            .about("NetworkInspect", "Shows a network with the running containers in it.")
            .flag("verbose", "Also services of the cluster.")
            .from(28)
            .text("scope", "Only if it is of this scope.")
            .from(31)
            .gives::<Network>(200)
            .fails(&[400, 404]),
        post("/networks/create", create)
            .about("NetworkCreate", "Makes a network.")
            .takes::<NetworkCreate>()
            .gives::<NetworkCreateResponse>(201)
            .fails(&[400, 403, 404, 409]),
        post("/networks/{id}/connect", connect)
            .about("NetworkConnect", "Connects a container.")
            .takes::<NetworkConnect>()
            .gives_nothing(200)
            .fails(&[400, 403, 404, 409]),
        post("/networks/{id}/disconnect", disconnect)
            .about("NetworkDisconnect", "Disconnects a container.")
            .takes::<NetworkDisconnect>()
            .gives_nothing(200)
            .fails(&[400, 403, 404]),
        post("/networks/prune", prune)
            .about("NetworkPrune", "Removes networks that no container is connected to.")
            .filters("Which: label, label!, until.")
            .gives::<NetworkPruneResponse>(200)
            .fails(&[400, 409]),
        delete("/networks/{id}", remove)
            .about("NetworkDelete", "Removes a network without endpoints.")
            .gives_nothing(204)
            .fails(&[403, 404]),
    ]
}

async fn list(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let origin = filters.each("type", |value| match value {
        "builtin" => Ok(NetworkOrigin::Builtin),
        "custom" => Ok(NetworkOrigin::Custom),
        _ => Err(String::new()),
    })?;
    let filter = NetworkFilter {
        dangling: filters.truth("dangling").map_err(|_| ApiError::invalid(WRONG_DANGLING))?,
        drivers: filters.get("driver"),
        ids: filters.get("id"),
        labels: filters.labels(),
        names: filters.get("name"),
        scopes: filters.each("scope", scope)?,
        // Both kinds at once are all networks.
        origin: if origin.len() == 1 { origin.first().copied() } else { None },
    };
    let networks = call.shared.state.node.networks.list(filter).await?;
    let shown = networks.iter().map(|network| {
        let mut shown = convert::network::shown(network);
        compat::shown(&mut shown, call.version, Told::InList);
        shown
    });
    reply::json(&shown.collect::<Vec<Network>>())
}

fn scope(value: &str) -> Result<NetworkScope, String> {
    match value {
        "local" => Ok(NetworkScope::Local),
        "swarm" => Ok(NetworkScope::Swarm),
        _ => Err(String::new()),
    }
}

async fn inspect(call: Call) -> Outcome {
    if let Some(verbose) = call.query.some_text("verbose") {
        check_bool("verbose", &verbose)?;
    }
    let view = call.shared.state.node.networks.inspect(call.name()).await?;
    let wanted = call.query.some_text("scope").filter(|_| call.version.is_from(31));
    if wanted.is_some_and(|wanted| scope(&wanted) != Ok(view.network.spec.scope)) {
        return Err(node_agent::NodeError::NoSuchNetwork(call.name().to_owned()).into());
    }
    let mut shown = convert::network::shown_view(&view);
    compat::shown(&mut shown, call.version, Told::Alone);
    reply::json(&shown)
}

/// Refuses what Go's `strconv.ParseBool` does not take.
fn check_bool(name: &str, value: &str) -> Result<(), ApiError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(()),
        _ => Err(ApiError::invalid(format!(
            "invalid value for {name}: {value}: strconv.ParseBool: parsing {value:?}: invalid syntax"
        ))),
    }
}

async fn create(mut call: Call) -> Outcome {
    let mut body: NetworkCreate = call.json().await?;
    compat::create(&mut body, call.version);
    let spec = convert::network::spec(body)?;
    let (id, warning) = call.shared.state.node.networks.create(spec).await?;
    let reply = NetworkCreateResponse { id: id.as_str().to_owned(), warning };
    reply::json_with(StatusCode::CREATED, &reply)
}

async fn connect(mut call: Call) -> Outcome {
    let mut body: NetworkConnect = call.json().await?;
    compat::connect(&mut body, call.version);
    let settings = body.endpoint_config.unwrap_or_default();
    let endpoint = network_settings::endpoint(call.name(), &settings)?;
    call.shared.state.node.networks.connect(call.name(), &body.container, endpoint).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn disconnect(mut call: Call) -> Outcome {
    let body: NetworkDisconnect = call.json().await?;
    let force = if body.force { DisconnectForce::Yes } else { DisconnectForce::No };
    call.shared.state.node.networks.disconnect(call.name(), &body.container, force).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn remove(call: Call) -> Outcome {
    call.shared.state.node.networks.remove(call.name()).await?;
    Ok(reply::no_content())
}

async fn prune(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &["label", "label!", "until"])?;
    let filter = NetworkPruneFilter { labels: filters.labels(), until: filters.until(Timestamp::now())? };
    let pruned = call.shared.state.node.networks.prune(filter).await?;
    reply::json(&NetworkPruneResponse {
        networks_deleted: Some(pruned.removed).filter(|list| !list.is_empty()),
    })
}

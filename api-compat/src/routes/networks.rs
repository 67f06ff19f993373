//! Networks.
//!
//! Start reading at [`routes`].

use http::StatusCode;
use jiff::Timestamp;
use node_agent::NodeError;
use node_agent::api::networks::{
    DisconnectForce, NetworkFilter, NetworkOrigin, NetworkPruneFilter, NetworkView,
};
use shoal_types::ErrorKind;
use shoal_types::network::NetworkScope;

use crate::compat::networks::{self as compat, Told};
use crate::convert::network::Detail;
use crate::convert::{self, network_settings};
use crate::error::ApiError;
use crate::extract::Call;
use crate::filters::Filters;
use crate::model::network::{
    Network, NetworkConnect, NetworkCreate, NetworkCreateResponse, NetworkDisconnect, NetworkPruneResponse,
};
use crate::reply::{self, Outcome};
use crate::route::{Route, delete, get, post};
use crate::routes::swarm::networks as cluster_networks;

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
            .fails(&[400, 404, 503]),
        post("/networks/create", create)
            .about("NetworkCreate", "Makes a network.")
            .takes::<NetworkCreate>()
            .gives::<NetworkCreateResponse>(201)
            .fails(&[400, 403, 404, 409, 503]),
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
            .fails(&[400, 403, 404, 503]),
    ]
}

async fn list(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let origin = filters.each("type", |value| match value {
        "builtin" => Ok(NetworkOrigin::Builtin),
        "custom" => Ok(NetworkOrigin::Custom),
        _ => Err(String::new()),
    })?;
    let scopes: Vec<_> = filters.get("scope").iter().filter_map(|name| scope(name)).collect();
    if scopes.is_empty() && filters.has("scope") {
        // Docker checks no such names: what does not exist is the scope of no network.
        return reply::json::<[Network]>(&[]);
    }
    let filter = NetworkFilter {
        dangling: filters.truth("dangling").map_err(|_| ApiError::invalid(WRONG_DANGLING))?,
        drivers: filters.get("driver"),
        ids: filters.get("id"),
        labels: filters.labels(),
        names: filters.get("name"),
        scopes,
        // Both kinds at once are all networks.
        origin: if origin.len() == 1 { origin.first().copied() } else { None },
    };
    let of_cluster = cluster_networks::listed(&call.shared.state.cluster, &filter).await?;
    let networks = call.shared.state.node.networks.list(filter).await?;
    let of_node = networks.iter().filter(|network| of_cluster.lacks(network));
    let shown = of_cluster
        .passing
        .iter()
        .map(convert::network::shown_of_cluster)
        .chain(of_node.map(convert::network::shown))
        .map(|mut shown| {
            compat::shown(&mut shown, call.version, Told::InList);
            shown
        });
    reply::json(&shown.collect::<Vec<Network>>())
}

fn scope(value: &str) -> Option<NetworkScope> {
    match value {
        "local" => Some(NetworkScope::Local),
        "swarm" => Some(NetworkScope::Swarm),
        _ => None,
    }
}

async fn inspect(call: Call) -> Outcome {
    let detail = match call.query.some_text("verbose") {
        Some(verbose) => {
            check_bool("verbose", &verbose)?;
            let is_verbose = matches!(verbose.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True");
            if is_verbose { Detail::Verbose } else { Detail::Usual }
        }
        None => Detail::Usual,
    };
    let name = call.name().to_owned();
    let missing = || ApiError::from(NodeError::NoSuchNetwork(name.clone()));
    let wanted = call.query.some_text("scope").filter(|_| call.version.is_from(31));
    let wanted = wanted.map(|wanted| scope(&wanted).ok_or_else(missing)).transpose()?;
    let state = &call.shared.state;
    let of_node = match state.node.networks.inspect(call.name()).await {
        Ok(view) => Some(view).filter(|view| wanted.is_none_or(|wanted| wanted == view.network.spec.scope)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    // A name that both know is the node's, unless the client asks for the cluster's.
    let is_local = of_node.as_ref().is_some_and(|view| view.network.spec.scope == NetworkScope::Local);
    let of_cluster = if is_local || wanted == Some(NetworkScope::Local) {
        None
    } else {
        cluster_networks::found(&state.cluster, call.name()).await?
    };
    // What the node is only leaving may have the name of another that has come after it.
    let is_meant =
        |view: &NetworkView| of_cluster.as_ref().is_none_or(|network| network.id == view.network.id);
    let of_node = of_node.filter(is_meant);
    let overlay = of_node.as_ref().and_then(|view| view.overlay.clone());
    let mut shown = match (of_cluster, of_node) {
        (None, None) => return Err(missing()),
        (None, Some(view)) if cluster_networks::is_removed(&state.cluster, &view.network) => {
            return Err(missing());
        }
        (None, Some(view)) => convert::network::shown_view(&view),
        (Some(network), None) => convert::network::shown_of_cluster(&network),
        (Some(network), Some(view)) => {
            let here = convert::network::shown_view(&view);
            Network {
                containers: here.containers,
                status: here.status,
                ..convert::network::shown_of_cluster(&network)
            }
        }
    };
    if let Some(overlay) = overlay {
        convert::network::add_overlay(&mut shown, &overlay, detail);
    }
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
    let state = &call.shared.state;
    let (id, warning) = if cluster_networks::is_of_cluster(&spec) {
        let is_taken = state.node.networks.inspect(&spec.name).await.is_ok_and(|view| {
            view.network.spec.name == spec.name && view.network.spec.scope == NetworkScope::Local
        });
        if is_taken {
            let message = format!("network with name {} already exists", spec.name);
            return Err(ApiError::new(ErrorKind::Conflict, message));
        }
        (cluster_networks::create(&state.cluster, spec).await?, String::new())
    } else {
        let (id, warning) = state.node.networks.create(spec).await?;
        (id.as_str().to_owned(), warning)
    };
    let reply = NetworkCreateResponse { id, warning };
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
    let state = &call.shared.state;
    // What the node has of a network of the cluster goes when the cluster says so.
    let of_node = state.node.networks.inspect(call.name()).await.ok();
    let is_local = of_node.as_ref().is_some_and(|view| view.network.spec.scope == NetworkScope::Local);
    let is_removed = of_node.is_some_and(|view| cluster_networks::is_removed(&state.cluster, &view.network));
    match cluster_networks::found(&state.cluster, call.name()).await {
        Ok(Some(network)) if !is_local => state.cluster.networks.remove(network.id.as_str()).await?,
        Err(error) if !is_local => return Err(error),
        Ok(None) if is_removed => return Err(NodeError::NoSuchNetwork(call.name().to_owned()).into()),
        _ => state.node.networks.remove(call.name()).await?,
    }
    Ok(reply::no_content())
}

async fn prune(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &["label", "label!", "until"])?;
    let filter = NetworkPruneFilter { labels: filters.labels(), until: filters.until(Timestamp::now())? };
    let state = &call.shared.state;
    let mut removed = cluster_networks::prune(&state.cluster, &filter).await?;
    removed.extend(state.node.networks.prune(filter).await?.removed);
    reply::json(&NetworkPruneResponse { networks_deleted: Some(removed).filter(|list| !list.is_empty()) })
}

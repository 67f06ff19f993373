//! Services.
//!
//! Start reading at [`routes`]. Their logs are in `logs`.

use std::sync::Arc;

use http::StatusCode;
use manager::ClusterError;
use manager::api::services::{CredentialsOf, ServiceFilter, ServiceUpdate, UpdateTarget};
use node_agent::api::images::ImageTransfers;
use node_agent::api::networks::Networks;
use node_agent::worker::check_templates;
use registry_client::Credentials;
use shoal_types::cluster::service::{RegistryCredentials, ServiceSpec as Wanted};
use shoal_types::network::NetworkScope;
use shoal_types::{ErrorKind, ImageRef};

use super::{managers, object_filter, parsed_truth, seen_version};
use crate::convert::task_spec::Defaults;
use crate::error::ApiError;
use crate::extract::{Call, REGISTRY_AUTH};
use crate::filters::Filters;
use crate::model::service::{Service, ServiceCreateResponse, ServiceSpec, ServiceUpdateResponse};
use crate::reply::{self, Outcome};
use crate::route::{Route, delete, get, post};
use crate::{compat, convert};

/// The version from which on clients find out by themselves which digest a tag stands for.
const CLIENTS_PIN_IMAGES: u16 = 30;
/// Why a network of one node is none for services, after its name.
const NOT_FOR_SERVICES: &str = "cannot be used with services. Only networks scoped to the swarm can be used, such as those \
                                created with the overlay driver.";

/// The operations on services.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/services", list)
            .about("ServiceList", "Lists services.")
            .filters("Which: id, label, mode, name, runtime.")
            .flag("status", "Also what their tasks do.")
            .from(41)
            .gives::<Vec<Service>>(200)
            .fails(&[400, 503]),
        post("/services/create", create)
            .about("ServiceCreate", "Makes a service.")
            .header("X-Registry-Auth", "Credentials for nodes to pull the image with, as JSON in base64url.")
            .takes::<ServiceSpec>()
            .gives::<ServiceCreateResponse>(201)
            .fails(&[400, 403, 404, 409, 501, 503]),
        get("/services/{id}", inspect)
            .about("ServiceInspect", "Shows a service.")
            .flag("insertDefaults", "With the values that take effect where nothing was said.")
            .from(29)
            .gives::<Service>(200)
            .fails(&[400, 404, 503]),
        post("/services/{id}/update", update)
            .about("ServiceUpdate", "Changes a service.")
            .versioned()
            .text(
                "registryAuthFrom",
                "Whose credentials are kept if none are sent: `spec` or `previous-spec`.",
            )
            .text("rollback", "`previous` goes back to the spec before the last update.")
            .from(28)
            .header("X-Registry-Auth", "Credentials for nodes to pull the image with, as JSON in base64url.")
            .takes::<ServiceSpec>()
            .gives::<ServiceUpdateResponse>(200)
            .fails(&[400, 404, 409, 501, 503]),
        delete("/services/{id}", remove)
            .about("ServiceDelete", "Ends a service and its tasks.")
            .gives_nothing(200)
            .fails(&[400, 404, 503]),
    ]
}

async fn list(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &["id", "label", "mode", "name", "runtime"])?;
    let with_status = call.version.is_from(41) && parsed_truth(&call.query, "status")?;
    let filter = ServiceFilter { object: object_filter(&filters), modes: filters.get("mode") };
    let services = managers(&call)?.services.list(filter).await?;
    let runs_containers = runs_containers(&filters);
    let shown = services.iter().filter(|_| runs_containers).map(|(service, counts)| {
        let counts = with_status.then_some(*counts);
        let mut shown = convert::service::shown(service, Defaults::Omitted, counts);
        compat::service::shown(&mut shown, call.version);
        shown
    });
    reply::json(&shown.collect::<Vec<Service>>())
}

/// Whether a list by runtime is one of containers, the only runtime there is.
pub(super) fn runs_containers(filters: &Filters) -> bool {
    !filters.has("runtime") || filters.get("runtime").iter().any(|name| name == "container")
}

async fn create(mut call: Call) -> Outcome {
    let body: ServiceSpec = call.json().await?;
    managers(&call)?;
    let mut spec = read_spec(body, &call)?;
    let warnings = pin_image(&mut spec, Pinning::of(&call)).await;
    let networks = targets(&spec);
    let created = call.shared.state.cluster.services.create(spec, credentials(&call)).await;
    let id = match created {
        Ok(id) => id,
        Err(error) => return Err(refused(&call.shared.state.node.networks, &networks, error).await),
    };
    let response = ServiceCreateResponse { id: id.to_string(), warnings };
    reply::json_with(StatusCode::CREATED, &response)
}

async fn inspect(call: Call) -> Outcome {
    let is_full = parsed_truth(&call.query, "insertDefaults")?;
    let service = managers(&call)?.services.inspect(call.name()).await?;
    let defaults = if is_full { Defaults::Inserted } else { Defaults::Omitted };
    let mut shown = convert::service::shown(&service, defaults, None);
    compat::service::shown(&mut shown, call.version);
    reply::json(&shown)
}

async fn update(mut call: Call) -> Outcome {
    let body: ServiceSpec = call.json().await?;
    let version = seen_version(&call.query, "service")?;
    managers(&call)?;
    let credentials_of = match call.query.text("registryAuthFrom") {
        "" | "spec" => CredentialsOf::Spec,
        "previous-spec" => CredentialsOf::PreviousSpec,
        _ => return Err(ApiError::invalid("unsupported registryAuthFrom value")),
    };
    let (target, warnings) = match call.query.text("rollback") {
        "" | "none" => {
            let mut spec = read_spec(body, &call)?;
            let warnings = pin_image(&mut spec, Pinning::of(&call)).await;
            (UpdateTarget::Spec(Box::new(spec)), warnings)
        }
        "previous" => (UpdateTarget::Previous, None),
        other => return Err(ApiError::invalid(format!("unrecognized rollback option {other}"))),
    };
    let networks = match &target {
        UpdateTarget::Spec(spec) => targets(spec),
        UpdateTarget::Previous => Vec::new(),
    };
    let update = ServiceUpdate { version, target, credentials: credentials(&call), credentials_of };
    let told = match call.shared.state.cluster.services.update(call.name(), update).await {
        Ok(told) => told,
        Err(error) => return Err(refused(&call.shared.state.node.networks, &networks, error).await),
    };
    let warnings: Vec<String> = warnings.into_iter().flatten().chain(told).collect();
    let warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
    reply::json(&ServiceUpdateResponse { warnings })
}

async fn remove(call: Call) -> Outcome {
    managers(&call)?.services.remove(call.name()).await?;
    Ok(reply::empty(StatusCode::OK))
}

fn read_spec(mut body: ServiceSpec, call: &Call) -> Result<Wanted, ApiError> {
    compat::service::asked(&mut body, call.version);
    let spec = convert::service::spec(body)?;
    check_templates(&spec)
        .map_err(|reason| ApiError::invalid(format!("rpc error: code = InvalidArgument desc = {reason}")))?;
    Ok(spec)
}

/// The networks that a service asks for.
fn targets(spec: &Wanted) -> Vec<String> {
    spec.template.networks.iter().map(|wish| wish.target.clone()).collect()
}

/// What a client is told of a service that was refused: whether a network that the cluster does not know is one of this node.
async fn refused(here: &Arc<dyn Networks>, networks: &[String], error: ClusterError) -> ApiError {
    let error = ApiError::from(error);
    let is_missing = |network: &&String| error.message().ends_with(&format!("network {network} not found"));
    let Some(missing) = networks.iter().find(is_missing) else { return error };
    match here.inspect(missing).await {
        Ok(view) if view.network.spec.scope == NetworkScope::Local => {
            let name = view.network.spec.name;
            let words = format!("The network {name} {NOT_FOR_SERVICES}");
            ApiError::new(ErrorKind::Forbidden, words)
        }
        _ => error,
    }
}

/// The header as it came: it is handed on to the nodes, which read it when they pull.
fn credentials(call: &Call) -> Option<RegistryCredentials> {
    Some(call.header(REGISTRY_AUTH))
        .filter(|header| !header.is_empty())
        .map(|header| RegistryCredentials(header.as_bytes().to_vec()))
}

/// What it takes to find out which digest a tag stands for.
struct Pinning {
    /// The registries.
    transfers: Arc<dyn ImageTransfers>,
    /// Who asks.
    credentials: Option<Credentials>,
}

impl Pinning {
    /// What it takes, for a client that does not do so itself.
    fn of(call: &Call) -> Option<Self> {
        call.version.is_below(CLIENTS_PIN_IMAGES).then(|| Self {
            transfers: Arc::clone(&call.shared.state.node.transfers),
            credentials: call.credentials(),
        })
    }
}

/// Puts the digest that a tag stands for beside it, so that all nodes run the same. A registry that does not answer is no
/// failure; the user is told.
async fn pin_image(spec: &mut Wanted, pinning: Option<Pinning>) -> Option<Vec<String>> {
    let Pinning { transfers, credentials } = pinning?;
    let image = &mut spec.template.container.image;
    // What is no reference is refused by the managers.
    let reference = ImageRef::parse(image).ok().filter(|reference| reference.digest().is_none())?;
    let reference = reference.with_default_tag();
    match transfers.distribution(&reference, credentials).await {
        Ok(found) => {
            *image = format!("{}@{}", reference.familiar(), found.descriptor.digest);
            None
        }
        Err(error) => {
            Some(vec![format!("unable to pin image {image} to digest: {}", ApiError::from(error).message())])
        }
    }
}

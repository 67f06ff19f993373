//! Secrets and configs.
//!
//! Start reading at [`secret_routes`]; [`config_routes`] are the same for files that are no secret.

use http::StatusCode;

use super::{managers, object_filter, seen_version};
use crate::convert;
use crate::error::ApiError;
use crate::extract::Call;
use crate::filters::Filters;
use crate::model::secret::{Config, ConfigSpec, FileCreateResponse, Secret, SecretSpec};
use crate::reply::{self, Outcome};
use crate::route::{Route, delete, get, post};
use crate::version::ApiVersion;

/// Filters of both.
const FILTERS: [&str; 4] = ["id", "label", "name", "names"];

/// The operations on secrets.
pub(super) fn secret_routes() -> Vec<Route> {
    vec![
        get("/secrets", list_secrets)
            .about("SecretList", "Lists secrets.")
            .since(25)
            .filters("Which: id, label, name, names.")
            .gives::<Vec<Secret>>(200)
            .fails(&[400, 503]),
        post("/secrets/create", create_secret)
            .about("SecretCreate", "Makes a secret.")
            .since(25)
            .takes::<SecretSpec>()
            .gives::<FileCreateResponse>(201)
            .fails(&[400, 409, 501, 503]),
        get("/secrets/{id}", inspect_secret)
            .about("SecretInspect", "Shows a secret without its content.")
            .since(25)
            .gives::<Secret>(200)
            .fails(&[400, 404, 503]),
        delete("/secrets/{id}", remove_secret)
            .about("SecretDelete", "Removes a secret that no service uses.")
            .since(25)
            .gives_nothing(204)
            .fails(&[400, 404, 503]),
        post("/secrets/{id}/update", update_secret)
            .about("SecretUpdate", "Changes labels of a secret.")
            .since(25)
            .versioned()
            .takes::<SecretSpec>()
            .gives_nothing(200)
            .fails(&[400, 404, 503]),
    ]
}

/// The operations on configs.
pub(super) fn config_routes() -> Vec<Route> {
    vec![
        get("/configs", list_configs)
            .about("ConfigList", "Lists configs.")
            .since(30)
            .filters("Which: id, label, name, names.")
            .gives::<Vec<Config>>(200)
            .fails(&[400, 503]),
        post("/configs/create", create_config)
            .about("ConfigCreate", "Makes a config.")
            .since(30)
            .takes::<ConfigSpec>()
            .gives::<FileCreateResponse>(201)
            .fails(&[400, 409, 503]),
        get("/configs/{id}", inspect_config)
            .about("ConfigInspect", "Shows a config.")
            .since(30)
            .gives::<Config>(200)
            .fails(&[400, 404, 503]),
        delete("/configs/{id}", remove_config)
            .about("ConfigDelete", "Removes a config that no service uses.")
            .since(30)
            .gives_nothing(204)
            .fails(&[400, 404, 503]),
        post("/configs/{id}/update", update_config)
            .about("ConfigUpdate", "Changes labels of a config.")
            .since(30)
            .versioned()
            .takes::<ConfigSpec>()
            .gives_nothing(200)
            .fails(&[400, 404, 503]),
    ]
}

/// Whether an object passes the filter for whole names.
fn has_name(filters: &Filters, name: &str) -> bool {
    !filters.has("names") || filters.get("names").iter().any(|wanted| wanted == name)
}

async fn list_secrets(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &FILTERS)?;
    let secrets = managers(&call)?.secrets.list(object_filter(&filters)).await?;
    let wanted = secrets.iter().filter(|secret| has_name(&filters, &secret.spec.name));
    reply::json(&wanted.map(convert::secret::shown_secret).collect::<Vec<Secret>>())
}

async fn create_secret(mut call: Call) -> Outcome {
    let body: SecretSpec = call.json().await?;
    if call.version.is_below(37) && body.templating.is_some() {
        return Err(templates_are_too_new("secret", call.version));
    }
    let id = managers(&call)?.secrets.create(convert::secret::secret(body)?).await?;
    reply::json_with(StatusCode::CREATED, &FileCreateResponse { id: id.to_string() })
}

async fn inspect_secret(call: Call) -> Outcome {
    let secret = managers(&call)?.secrets.inspect(call.name()).await?;
    reply::json(&convert::secret::shown_secret(&secret))
}

async fn remove_secret(call: Call) -> Outcome {
    managers(&call)?.secrets.remove(call.name()).await?;
    Ok(reply::no_content())
}

async fn update_secret(mut call: Call) -> Outcome {
    let body: SecretSpec = call.json().await?;
    let version = seen_file_version(&call, "secret")?;
    let secrets = &managers(&call)?.secrets;
    let spec = convert::secret::secret(body)?;
    secrets.update(call.name(), version, spec).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn list_configs(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &FILTERS)?;
    let configs = managers(&call)?.configs.list(object_filter(&filters)).await?;
    let wanted = configs.iter().filter(|config| has_name(&filters, &config.spec.name));
    reply::json(&wanted.map(convert::secret::shown_config).collect::<Vec<Config>>())
}

async fn create_config(mut call: Call) -> Outcome {
    let body: ConfigSpec = call.json().await?;
    if call.version.is_below(37) && body.templating.is_some() {
        return Err(templates_are_too_new("config", call.version));
    }
    let id = managers(&call)?.configs.create(convert::secret::config(body)?).await?;
    reply::json_with(StatusCode::CREATED, &FileCreateResponse { id: id.to_string() })
}

async fn inspect_config(call: Call) -> Outcome {
    let config = managers(&call)?.configs.inspect(call.name()).await?;
    reply::json(&convert::secret::shown_config(&config))
}

async fn remove_config(call: Call) -> Outcome {
    managers(&call)?.configs.remove(call.name()).await?;
    Ok(reply::no_content())
}

async fn update_config(mut call: Call) -> Outcome {
    let body: ConfigSpec = call.json().await?;
    let version = seen_file_version(&call, "config")?;
    let configs = &managers(&call)?.configs;
    let spec = convert::secret::config(body)?;
    configs.update(call.name(), version, spec).await?;
    Ok(reply::empty(StatusCode::OK))
}

fn templates_are_too_new(noun: &str, version: ApiVersion) -> ApiError {
    ApiError::invalid(format!("{noun} templating is not supported on the specified API version: {version}"))
}

/// The version of a file that the client has seen. Of files Docker does not say what is wrong with it.
fn seen_file_version(call: &Call, noun: &str) -> Result<u64, ApiError> {
    seen_version(&call.query, noun).map_err(|_| ApiError::invalid(format!("invalid {noun} version")))
}

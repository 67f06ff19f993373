//! Builds: reads what a client says of one, hands it to the builder, and passes on what the builder tells.
//!
//! Start reading at [`build`]. Whether the parameters make sense is checked by the `builder` crate; here they are only read,
//! with Docker's defaults for what is absent and its texts for what cannot be read.

use builder::{BuildError, BuildParameters, BuildProgress, Experimental, Output};
use futures_util::StreamExt as _;
use http::StatusCode;
use registry_client::AuthConfig;
use serde::de::DeserializeOwned;
use shoal_types::container::resources::Resources;

use crate::convert::host_config::ulimit;
use crate::error::ApiError;
use crate::extract::{Call, Query};
use crate::model::host_config;
use crate::model::progress::{Aux, BuildResult, ProgressMessage};
use crate::reply::{self, Body, JSON, Outcome};
use crate::route::ParamKind::{Integer, Texts};
use crate::route::{Route, post};
use crate::stream::progress;

/// The header with credentials for several registries.
const REGISTRY_CONFIG: &str = "x-registry-config";

/// The operations on builds that are in progress.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        build_route(),
        post("/build/cancel", cancel)
            .about("BuildCancel", "Ends a build.")
            .text("id", "Which build.")
            .gives_nothing(204)
            .fails(&[400, 501])
            .refused(),
    ]
}

fn build_route() -> Route {
    post("/build", build)
        .about("ImageBuild", "Builds an image from a Dockerfile.")
        .text("dockerfile", "Path of the Dockerfile in the context; `Dockerfile` by default.")
        .query("t", Texts, "Names for the image.")
        .text("extrahosts", "Pairs for /etc/hosts of steps.")
        .text("remote", "Where the context is, if it is not the body.")
        .flag("q", "Tells only the id.")
        .flag("nocache", "Uses no earlier results.")
        .text("cachefrom", "Images whose layers may be used, as a JSON array.")
        .flag("pull", "Asks for base images although they are here.")
        .flag("rm", "Removes containers of steps after a success; true by default.")
        .flag("forcerm", "Removes them after a failure too.")
        .query("memory", Integer, "Bytes of memory for steps.")
        .query("memswap", Integer, "Bytes of memory and swap; -1 is no limit.")
        .query("cpushares", Integer, "Relative weight of steps.")
        .text("cpusetcpus", "Processors for steps.")
        .text("cpusetmems", "Memory nodes for steps.")
        .query("cpuperiod", Integer, "Microseconds of a period.")
        .query("cpuquota", Integer, "Microseconds in each period.")
        .text("cgroupparent", "Parent of the cgroups of steps.")
        .text("ulimits", "Limits of processes, as a JSON array.")
        .text("buildargs", "Build arguments, as a JSON object.")
        .query("shmsize", Integer, "Bytes of /dev/shm.")
        .flag("squash", "Makes one layer of all; experimental.")
        .text("labels", "Labels for the image, as a JSON object.")
        .text("networkmode", "Network of steps.")
        .text("platform", "For which platform, `os[/arch[/variant]]`.")
        .text("target", "Stage to build.")
        .text("outputs", "Places for the result, as a JSON array.")
        .text("version", "Which builder: 1 or 2.")
        .text("session", "Session of the client.")
        .text("buildid", "Name of the build for its cancellation.")
        .text("isolation", "`default`, or nothing.")
        .query("securityopt", Texts, "Refused: for Windows alone.")
        .header("X-Registry-Config", "Credentials by registry, as a JSON object in base64url.")
        .takes_bytes("application/x-tar")
        .gives::<ProgressMessage>(200)
        .fails(&[400, 501])
        .refused()
}

async fn build(mut call: Call) -> Outcome {
    let experimental =
        if call.shared.state.daemon.experimental { Experimental::On } else { Experimental::Off };
    let request = builder::check(parameters(&call)?, experimental)?;
    let context = call.stream();
    let mut stream = call.shared.state.builder.build(request, context).await?;
    // Docker answers a failure before the first line with a status.
    let first = match stream.next().await {
        Some(Err(error)) => return Err(error.into()),
        first => futures_util::stream::iter(first),
    };
    let body = first.chain(stream).map(|step| progress::encode(&[line(step)]));
    Ok(reply::with_type(StatusCode::OK, JSON, Body::from_stream(body)))
}

async fn cancel(call: Call) -> Outcome {
    let Some(id) = call.query.some_text("id") else {
        return Err(ApiError::invalid("build ID not provided"));
    };
    call.shared.state.builder.cancel(&id).await?;
    Ok(reply::no_content())
}

fn line(step: Result<BuildProgress, BuildError>) -> ProgressMessage {
    match step {
        Ok(BuildProgress::Text(stream)) => ProgressMessage { stream, ..ProgressMessage::default() },
        Ok(BuildProgress::Built(id)) => {
            let aux = Some(Aux::Build(BuildResult { id: id.to_string() }));
            ProgressMessage { aux, ..ProgressMessage::default() }
        }
        Err(error) => progress::failure(&error.into()),
    }
}

/// Everything that the client says of the build.
fn parameters(call: &Call) -> Result<BuildParameters, ApiError> {
    let query = &call.query;
    let text = |name: &str| query.text(name).to_owned();
    let texts = |name: &str| query.texts(name).into_iter().map(str::to_owned).collect();
    Ok(BuildParameters {
        version: text("version"),
        session: text("session"),
        build_id: text("buildid"),
        remote: text("remote"),
        dockerfile: text("dockerfile"),
        target: text("target"),
        tags: texts("t"),
        labels: json_or_default(query, "labels", "error reading labels")?,
        args: json_or_default(query, "buildargs", "error reading build args")?,
        platform: if call.version.is_below(32) { String::new() } else { text("platform") },
        credentials: credentials(call.header(REGISTRY_CONFIG)),
        always_pulls: query.flag("pull"),
        ignores_cache: query.flag("nocache"),
        cache_from: json_or_default(query, "cachefrom", "error reading cache-from")?,
        is_quiet: query.flag("q"),
        removes_containers: query.flag_unless_absent("rm"),
        always_removes_containers: query.flag("forcerm"),
        resources: resources(query)?,
        shm_size: number(query, "shmsize"),
        network: text("networkmode"),
        extra_hosts: texts("extrahosts"),
        squashes: query.flag("squash"),
        isolation: text("isolation"),
        security_options: texts("securityopt"),
        outputs: outputs(query)?,
    })
}

fn resources(query: &Query) -> Result<Resources, ApiError> {
    let limits: Vec<host_config::Ulimit> =
        json_or_default(query, "ulimits", "error reading ulimit settings")?;
    Ok(Resources {
        memory: number(query, "memory"),
        memory_swap: number(query, "memswap"),
        cpu_shares: number(query, "cpushares"),
        cpu_period: number(query, "cpuperiod"),
        cpu_quota: number(query, "cpuquota"),
        cpuset_cpus: query.text("cpusetcpus").to_owned(),
        cpuset_mems: query.text("cpusetmems").to_owned(),
        cgroup_parent: query.text("cgroupparent").to_owned(),
        ulimits: limits.iter().map(ulimit).collect(),
        ..Resources::default()
    })
}

/// An output as BuildKit's clients write it.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WrittenOutput {
    r#type: String,
    attrs: std::collections::BTreeMap<String, String>,
}

fn outputs(query: &Query) -> Result<Vec<Output>, ApiError> {
    let written: Vec<WrittenOutput> = json_or_default(query, "outputs", "invalid outputs specified")?;
    Ok(written.into_iter().map(|output| Output { kind: output.r#type, attributes: output.attrs }).collect())
}

/// A number; one that cannot be read counts as none, as Docker has it.
fn number(query: &Query, name: &str) -> i64 {
    query.integer(name).ok().flatten().unwrap_or_default()
}

fn json_or_default<T: DeserializeOwned + Default>(
    query: &Query,
    name: &str,
    fault: &str,
) -> Result<T, ApiError> {
    let Some(text) = query.some_text(name) else { return Ok(T::default()) };
    let read: Result<Option<T>, _> = serde_json::from_str(&text);
    read.map(Option::unwrap_or_default).map_err(|error| ApiError::invalid(format!("{fault}: {error}")))
}

/// Credentials by registry. What cannot be read counts as none, as Docker has it.
fn credentials(header: &str) -> std::collections::BTreeMap<String, registry_client::Credentials> {
    let by_registry = AuthConfig::by_registry(header).unwrap_or_default();
    by_registry.into_iter().map(|(registry, auth)| (registry, auth.credentials())).collect()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn parameters_that_cannot_be_read_are_named() {
        let query =
            Query::parse("labels={&ulimits=[{\"Name\":\"nofile\",\"Hard\":2,\"Soft\":1}]&cachefrom=null");
        let labels: Result<std::collections::BTreeMap<String, String>, _> =
            json_or_default(&query, "labels", "error reading labels");
        assert!(labels.unwrap_err().message().starts_with("error reading labels: "));
        let limits = resources(&query).unwrap().ulimits;
        assert_eq!((limits[0].name.as_str(), limits[0].hard, limits[0].soft), ("nofile", 2, 1));
        let none: Vec<String> = json_or_default(&query, "cachefrom", "").unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn numbers_that_cannot_be_read_count_as_none() {
        let query = Query::parse("memory=12&cpushares=x");
        assert_eq!((number(&query, "memory"), number(&query, "cpushares")), (12, 0));
    }

    #[test]
    fn credentials_come_by_registry() {
        let json = r#"{"r.example":{"username":"u","password":"p"}}"#;
        for header in [URL_SAFE.encode(json), URL_SAFE_NO_PAD.encode(json)] {
            assert_eq!(credentials(&header).len(), 1, "{header}");
        }
        assert!(credentials("%%%").is_empty());
    }
}

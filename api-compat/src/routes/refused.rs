//! What this engine does not do yet, or never will: answered with the status and reason that clients understand.
//!
//! Start reading at [`build_cache_routes`]. Nothing here pretends to have done anything. What each answer means for clients is
//! said in `swagger/coverage.toml`.

use http::StatusCode;
use shoal_types::ErrorKind;

use crate::error::ApiError;
use crate::extract::Call;
use crate::filters::Filters;
use crate::model::image::BuildPruneResponse;
use crate::reply::{self, Outcome};
use crate::route::ParamKind::Integer;
use crate::route::{Route, delete, get, post};

/// The build cache.
pub(crate) fn build_cache_routes() -> Vec<Route> {
    vec![
        post("/build/prune", prune_builds)
            .about("BuildPrune", "Empties the build cache, of which there is none.")
            .since(31)
            .flag("all", "Records in use by images too.")
            .from(39)
            .query("keep-storage", Integer, "Bytes to keep.")
            .from(39)
            .query("reserved-space", Integer, "Bytes to keep.")
            .from(48)
            .query("max-used-space", Integer, "Bytes to use at most.")
            .from(48)
            .query("min-free-space", Integer, "Bytes to leave free.")
            .from(48)
            .filters("Which records.")
            .from(39)
            .gives::<BuildPruneResponse>(200)
            .fails(&[400]),
    ]
}

/// Connections for BuildKit.
pub(crate) fn session_routes() -> Vec<Route> {
    vec![
        post("/session", no_builds)
            .about("Session", "Takes the connection over for the services of a building client.")
            .since(31)
            .fails(&[501])
            .refused(),
        post("/grpc", no_builds)
            .about("Grpc", "Takes the connection over for BuildKit's control interface.")
            .fails(&[501])
            .refused(),
    ]
}

/// Plugins that the engine manages. There are none, so their list is empty and none of them is found.
pub(crate) fn plugin_routes() -> Vec<Route> {
    let named = |route: Route, id, summary| route.about(id, summary).fails(&[404]).refused();
    let other = |route: Route, id, summary| route.about(id, summary).fails(&[501]).refused();
    vec![
        get("/plugins", list_plugins)
            .about("PluginList", "Lists plugins, of which there are none.")
            .filters("Which: capability, enabled.")
            .from(28)
            .gives::<Vec<crate::model::Empty>>(200)
            .fails(&[400]),
        other(get("/plugins/privileges", no_plugins), "GetPluginPrivileges", "Tells what a plugin asks for."),
        other(post("/plugins/pull", no_plugins), "PluginPull", "Fetches a plugin."),
        other(post("/plugins/create", no_plugins), "PluginCreate", "Makes a plugin."),
        named(get("/plugins/{name}/json", no_such_plugin), "PluginInspect", "Shows a plugin."),
        named(post("/plugins/{name}/enable", no_such_plugin), "PluginEnable", "Starts a plugin."),
        named(post("/plugins/{name}/disable", no_such_plugin), "PluginDisable", "Stops a plugin."),
        named(post("/plugins/{name}/set", no_such_plugin), "PluginSet", "Configures a plugin."),
        named(post("/plugins/{name}/push", no_such_plugin), "PluginPush", "Sends a plugin to its registry."),
        named(post("/plugins/{name}/upgrade", no_such_plugin), "PluginUpgrade", "Exchanges a plugin."),
        named(delete("/plugins/{name}", no_such_plugin), "PluginDelete", "Removes a plugin."),
    ]
}

/// Inspection of a Go program, which this is not.
pub(crate) fn debug_routes() -> Vec<Route> {
    let refuse = |route: Route, id| {
        route.about(id, "Inspects the daemon as a Go program, which it is not.").fails(&[501]).refused()
    };
    vec![
        refuse(get("/debug/vars", no_go), "DebugVars"),
        refuse(get("/debug/pprof/", no_go), "DebugPprof"),
        refuse(get("/debug/pprof/{name}", no_go), "DebugPprofProfile"),
    ]
}

async fn no_builds(_call: Call) -> Outcome {
    Err(ApiError::not_implemented(
        "this release of shoald does not build images; build elsewhere and push or load the result",
    ))
}

/// There is no cache, so emptying it removes nothing; `docker system prune` relies on the answer.
async fn prune_builds(_call: Call) -> Outcome {
    reply::json_with(StatusCode::OK, &BuildPruneResponse { caches_deleted: None, space_reclaimed: 0 })
}

async fn list_plugins(call: Call) -> Outcome {
    Filters::of(&call.query, &["capability", "enabled"])?.truth("enabled")?;
    reply::json::<[crate::model::Empty]>(&[])
}

async fn no_plugins(_call: Call) -> Outcome {
    Err(ApiError::not_implemented("this release of shoald does not manage plugins"))
}

async fn no_such_plugin(call: Call) -> Outcome {
    Err(ApiError::new(ErrorKind::NotFound, format!("plugin {:?} not found", call.name())))
}

async fn no_go(_call: Call) -> Outcome {
    Err(ApiError::not_implemented("the daemon is not a Go program; its metrics and logs say what it does"))
}

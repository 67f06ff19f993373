//! The cluster: what a machine outside of one, or a worker, answers; and joining and leaving.
//!
//! Start reading at [`routes`]. Objects of the cluster are asked of the cluster's ports, which say why they cannot be
//! had; their JSON comes with the managers.

use http::StatusCode;
use manager::ClusterError;
use manager::api::membership::{InitRequest, JoinRequest, LeaveForce, Standing};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::extract::Call;
use crate::reply::{self, Outcome};
use crate::route::{Route, delete, get, post};

/// The operations on the cluster, by noun.
pub(crate) fn routes() -> Vec<(&'static str, Vec<Route>)> {
    vec![
        ("Swarm", swarm_routes()),
        ("Node", object_routes(&NODE)),
        ("Service", service_routes()),
        ("Task", task_routes()),
        ("Secret", object_routes(&SECRET)),
        ("Config", object_routes(&CONFIG)),
    ]
}

/// The paths and the names of the operations on one kind of object.
struct Kind {
    list: (&'static str, &'static str),
    inspect: (&'static str, &'static str),
    update: (&'static str, &'static str),
    delete: &'static str,
    create: Option<(&'static str, &'static str)>,
}

const NODE: Kind = Kind {
    list: ("/nodes", "NodeList"),
    inspect: ("/nodes/{id}", "NodeInspect"),
    update: ("/nodes/{id}/update", "NodeUpdate"),
    delete: "NodeDelete",
    create: None,
};
const SERVICE: Kind = Kind {
    list: ("/services", "ServiceList"),
    inspect: ("/services/{id}", "ServiceInspect"),
    update: ("/services/{id}/update", "ServiceUpdate"),
    delete: "ServiceDelete",
    create: Some(("/services/create", "ServiceCreate")),
};
const SECRET: Kind = Kind {
    list: ("/secrets", "SecretList"),
    inspect: ("/secrets/{id}", "SecretInspect"),
    update: ("/secrets/{id}/update", "SecretUpdate"),
    delete: "SecretDelete",
    create: Some(("/secrets/create", "SecretCreate")),
};
const CONFIG: Kind = Kind {
    list: ("/configs", "ConfigList"),
    inspect: ("/configs/{id}", "ConfigInspect"),
    update: ("/configs/{id}/update", "ConfigUpdate"),
    delete: "ConfigDelete",
    create: Some(("/configs/create", "ConfigCreate")),
};

fn refused(route: Route, id: &'static str, summary: &'static str) -> Route {
    route.about(id, summary).fails(&[503]).refused()
}

fn object_routes(kind: &Kind) -> Vec<Route> {
    let mut routes = vec![
        refused(get(kind.list.0, ask), kind.list.1, "Lists objects of the cluster."),
        refused(get(kind.inspect.0, ask), kind.inspect.1, "Shows an object of the cluster."),
        refused(post(kind.update.0, ask), kind.update.1, "Changes an object of the cluster."),
        refused(delete(kind.inspect.0, ask), kind.delete, "Removes an object of the cluster."),
    ];
    if let Some((path, id)) = kind.create {
        routes.push(refused(post(path, ask), id, "Makes an object of the cluster."));
    }
    routes
}

fn service_routes() -> Vec<Route> {
    let logs = refused(get("/services/{id}/logs", ask), "ServiceLogs", "Reads the logs of a service.");
    let mut routes = vec![logs];
    routes.extend(object_routes(&SERVICE));
    routes
}

fn task_routes() -> Vec<Route> {
    vec![
        refused(get("/tasks", ask), "TaskList", "Lists tasks."),
        refused(get("/tasks/{id}/logs", ask), "TaskLogs", "Reads the logs of a task."),
        refused(get("/tasks/{id}", ask), "TaskInspect", "Shows a task."),
    ]
}

fn swarm_routes() -> Vec<Route> {
    vec![
        refused(get("/swarm", ask), "SwarmInspect", "Shows the cluster."),
        post("/swarm/init", init)
            .about("SwarmInit", "Begins a cluster.")
            .takes::<SwarmInit>()
            .gives::<String>(200)
            .fails(&[400, 501, 503])
            .refused(),
        post("/swarm/join", join)
            .about("SwarmJoin", "Joins a cluster.")
            .takes::<SwarmJoin>()
            .gives_nothing(200)
            .fails(&[400, 501, 503])
            .refused(),
        post("/swarm/leave", leave)
            .about("SwarmLeave", "Leaves the cluster.")
            .flag("force", "Even if that hurts it.")
            .gives_nothing(200)
            .fails(&[503]),
        refused(post("/swarm/update", ask), "SwarmUpdate", "Changes settings of the cluster."),
        refused(get("/swarm/unlockkey", ask), "SwarmUnlockkey", "Shows the key that unlocks managers."),
        post("/swarm/unlock", unlock)
            .about("SwarmUnlock", "Unlocks a manager.")
            .takes::<SwarmUnlock>()
            .gives_nothing(200)
            .fails(&[400, 401, 409, 503]),
    ]
}

/// What a machine outside the managers says when it is asked for their objects.
async fn ask(call: Call) -> Outcome {
    Err(match call.shared.state.cluster.membership.standing() {
        Standing::Inactive | Standing::Pending | Standing::Error(_) => ClusterError::NotAMember.into(),
        Standing::Locked => ClusterError::Locked.into(),
        Standing::Worker(_) => ClusterError::Worker.into(),
        Standing::Manager(_) => ApiError::not_implemented("objects of the cluster cannot be shown yet"),
    })
}

/// A wish for a new cluster, as far as it can be granted.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "SwarmInitRequest")]
struct SwarmInit {
    /// Where to listen.
    listen_addr: String,
    /// Where others reach this machine.
    advertise_addr: String,
    /// Where the overlay's data path is.
    data_path_addr: String,
    /// UDP port of the data path.
    data_path_port: u16,
    /// Whether to go on alone with the state of a cluster that has lost its quorum.
    force_new_cluster: bool,
}

async fn init(mut call: Call) -> Outcome {
    let body: SwarmInit = call.json().await?;
    let request = InitRequest {
        listen: body.listen_addr,
        advertise: body.advertise_addr,
        data_path: body.data_path_addr,
        data_path_port: body.data_path_port,
        force_new_cluster: body.force_new_cluster,
        ..InitRequest::default()
    };
    let id = call.shared.state.cluster.membership.init(request).await?;
    reply::json(&id.to_string())
}

/// A wish to join a cluster.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "SwarmJoinRequest")]
struct SwarmJoin {
    /// Where to listen.
    listen_addr: String,
    /// Where others reach this machine.
    advertise_addr: String,
    /// Where the overlay's data path is.
    data_path_addr: String,
    /// Managers.
    remote_addrs: Vec<String>,
    /// What lets this machine in.
    join_token: String,
}

async fn join(mut call: Call) -> Outcome {
    let body: SwarmJoin = call.json().await?;
    let request = JoinRequest {
        listen: body.listen_addr,
        advertise: body.advertise_addr,
        data_path: body.data_path_addr,
        remotes: body.remote_addrs,
        token: body.join_token,
        ..JoinRequest::default()
    };
    call.shared.state.cluster.membership.join(request).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn leave(call: Call) -> Outcome {
    let force = if call.query.flag("force") { LeaveForce::Yes } else { LeaveForce::No };
    call.shared.state.cluster.membership.leave(force).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// The key that unlocks a manager.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase", rename = "SwarmUnlockRequest")]
struct SwarmUnlock {
    /// The key.
    unlock_key: String,
}

async fn unlock(mut call: Call) -> Outcome {
    let body: SwarmUnlock = call.json().await?;
    call.shared.state.cluster.membership.unlock(&body.unlock_key).await?;
    Ok(reply::empty(StatusCode::OK))
}

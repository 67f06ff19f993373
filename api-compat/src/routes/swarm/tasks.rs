//! Tasks.
//!
//! Start reading at [`routes`]. Their logs are in `logs`.

use std::collections::BTreeMap;

use manager::Cluster;
use manager::api::tasks::TaskFilter;
use shoal_types::cluster::network::ClusterNetwork;
use shoal_types::cluster::task::Task as Stored;
use shoal_types::cluster::task_state::TaskState;
use shoal_types::{ErrorKind, NetworkId};

use super::services::runs_containers;
use super::{each, managers, object_filter};
use crate::error::ApiError;
use crate::extract::Call;
use crate::filters::Filters;
use crate::model::task::Task;
use crate::reply::{self, Outcome};
use crate::route::{Route, get};
use crate::version::ApiVersion;
use crate::{compat, convert};

/// Filters of tasks; the last is private to Docker's own clients.
const FILTERS: [&str; 8] =
    ["desired-state", "id", "label", "name", "node", "runtime", "service", "_up-to-date"];

/// The operations on tasks.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/tasks", list)
            .about("TaskList", "Lists tasks.")
            .filters("Which: desired-state, id, label, name, node, runtime, service, _up-to-date.")
            .gives::<Vec<Task>>(200)
            .fails(&[400, 404, 503]),
        get("/tasks/{id}", inspect)
            .about("TaskInspect", "Shows a task.")
            .gives::<Task>(200)
            .fails(&[400, 404, 503]),
    ]
}

async fn list(call: Call) -> Outcome {
    let filters = Filters::of(&call.query, &FILTERS)?;
    let filter = TaskFilter {
        object: object_filter(&filters),
        services: filters.get("service"),
        nodes: filters.get("node"),
        desired: each(&filters, "desired-state", state)?,
        up_to_date: filters.truth("_up-to-date")?,
    };
    let cluster = managers(&call)?;
    let mut tasks = cluster.tasks.list(filter).await?;
    if !runs_containers(&filters) {
        tasks.clear();
    }
    reply::json(&shown(&tasks, cluster, call.version).await?)
}

/// Tasks with the networks that they are in. Only tasks that are in some need the networks to be asked for; those that no list
/// has, because every node has them by itself, are asked for by id.
async fn shown(tasks: &[Stored], cluster: &Cluster, version: ApiVersion) -> Result<Vec<Task>, ApiError> {
    let mut networks: BTreeMap<NetworkId, ClusterNetwork> = BTreeMap::new();
    if tasks.iter().any(|task| !task.networks.is_empty()) {
        let all = cluster.networks.list().await?;
        networks.extend(all.into_iter().map(|network| (network.id.clone(), network)));
    }
    for attachment in tasks.iter().flat_map(|task| &task.networks) {
        if networks.contains_key(&attachment.network) {
            continue;
        }
        match cluster.networks.inspect(attachment.network.as_str()).await {
            Ok(network) => drop(networks.insert(network.id.clone(), network)),
            // A network that is gone is shown by its id.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    let shown = tasks.iter().map(|task| {
        let mut shown = convert::task::shown(task, &networks);
        compat::service::task(&mut shown, version);
        shown
    });
    Ok(shown.collect())
}

fn state(name: &str) -> Option<TaskState> {
    use TaskState::{
        Accepted, Assigned, Complete, Failed, New, Orphaned, Pending, Preparing, Ready, Rejected, Remove,
        Running, Shutdown, Starting,
    };
    let states = [
        New, Pending, Assigned, Accepted, Preparing, Ready, Starting, Running, Complete, Shutdown, Failed,
        Rejected, Remove, Orphaned,
    ];
    states.into_iter().find(|state| state.to_string() == name)
}

async fn inspect(call: Call) -> Outcome {
    let cluster = managers(&call)?;
    let task = cluster.tasks.inspect(call.name()).await?;
    match shown(&[task], cluster, call.version).await?.as_slice() {
        [task] => reply::json(task),
        _ => Err(ApiError::internal("one task is shown as several")),
    }
}

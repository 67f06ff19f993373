//! Containers.
//!
//! Start reading at [`routes`].

mod create;
mod inspect;
mod lifecycle;
mod list;
mod wait;

pub(crate) use list::ListCache;

use crate::model::container_create::{ContainerCreate, ContainerCreateResponse};
use crate::model::container_inspect::ContainerInspect;
use crate::model::container_summary::{ContainerSummary, ContainerWaitResponse};
use crate::route::ParamKind::{Integer, Text};
use crate::route::{Route, delete, get, post};

/// The operations on containers.
pub(crate) fn routes() -> Vec<Route> {
    let mut routes = vec![
        get("/containers/json", list::list)
            .about("ContainerList", "Lists containers, newest first.")
            .flag("all", "Also those that do not run.")
            .query("limit", Integer, "Only so many of the newest, whatever their state.")
            .flag("size", "Also how much disk they take up.")
            .filters("Which: ancestor, before, exited, expose, health, id, is-task, label, name, network, publish, since, status, volume.")
            .gives::<Vec<ContainerSummary>>(200)
            .fails(&[400]),
        get("/containers/{id}/json", inspect::inspect)
            .about("ContainerInspect", "Shows a container in detail.")
            .flag("size", "Also how much disk it takes up.")
            .gives::<ContainerInspect>(200)
            .fails(&[404]),
        post("/containers/create", create::create)
            .about("ContainerCreate", "Makes a container that does not run yet.")
            .text("name", "Its name; invented if there is none.")
            .text("platform", "Which platform's image, as `os[/arch[/variant]]`.")
            .from(41)
            .takes::<ContainerCreate>()
            .gives::<ContainerCreateResponse>(201)
            .fails(&[400, 404, 409]),
        post("/containers/{id}/wait", wait::wait)
            .about("ContainerWait", "Answers when a container has ended; its headers are sent at once.")
            .query("condition", Text, "What to wait for: `not-running`, `next-exit` or `removed`.")
            .from(30)
            .gives::<ContainerWaitResponse>(200)
            .fails(&[400, 404]),
    ];
    routes.extend(lifecycle_routes());
    routes
}

fn lifecycle_routes() -> Vec<Route> {
    vec![
        post("/containers/{id}/start", lifecycle::start)
            .about("ContainerStart", "Starts a container.")
            .text("detachKeys", "Ignored: attaching is an operation of its own.")
            .text("checkpoint", "Name of the checkpoint to start from (experimental).")
            .text("checkpoint-dir", "Not supported.")
            .gives_nothing(204)
            .gives_nothing(304)
            .fails(&[400, 403, 404, 409]),
        post("/containers/{id}/stop", lifecycle::stop)
            .about("ContainerStop", "Stops a container, by a signal and then by force.")
            .text("signal", "Signal instead of the container's own.")
            .from(42)
            .query("t", Integer, "Seconds until it is killed; negative waits for ever.")
            .gives_nothing(204)
            .gives_nothing(304)
            .fails(&[400, 404]),
        post("/containers/{id}/restart", lifecycle::restart)
            .about("ContainerRestart", "Stops a container if it runs, and starts it.")
            .text("signal", "Signal instead of the container's own.")
            .from(42)
            .query("t", Integer, "Seconds until it is killed; negative waits for ever.")
            .gives_nothing(204)
            .fails(&[400, 404]),
        post("/containers/{id}/kill", lifecycle::kill)
            .about("ContainerKill", "Sends a signal to a container.")
            .text("signal", "Name or number; SIGKILL by default.")
            .gives_nothing(204)
            .fails(&[400, 404, 409]),
        post("/containers/{id}/pause", lifecycle::pause)
            .about("ContainerPause", "Freezes all processes of a container.")
            .gives_nothing(204)
            .fails(&[404, 409]),
        post("/containers/{id}/unpause", lifecycle::unpause)
            .about("ContainerUnpause", "Thaws the processes of a container.")
            .gives_nothing(204)
            .fails(&[404]),
        post("/containers/{id}/rename", lifecycle::rename)
            .about("ContainerRename", "Gives a container another name.")
            .text("name", "The new name.")
            .gives_nothing(204)
            .fails(&[400, 404, 409]),
        delete("/containers/{id}", lifecycle::remove)
            .about("ContainerDelete", "Removes a container.")
            .flag("v", "Also its anonymous volumes.")
            .flag("force", "Even if it runs.")
            .flag("link", "Only the link of this name.")
            .from(27)
            .gives_nothing(204)
            .fails(&[400, 404, 409]),
    ]
}

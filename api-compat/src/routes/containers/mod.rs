//! Containers.
//!
//! Start reading at [`routes`].

mod archive;
mod attach;
mod change;
pub(crate) mod checkpoints;
mod create;
mod inspect;
mod lifecycle;
mod list;
mod logs;
mod stats;
mod wait;

pub(crate) use archive::bytes_reply;
pub(crate) use attach::stream_type;
pub(crate) use change::terminal_size;
pub(crate) use list::{ListCache, summary};

use crate::model::IdResponse;
use crate::model::container_config::ContainerConfig;
use crate::model::container_create::{ContainerCreate, ContainerCreateResponse};
use crate::model::container_inspect::ContainerInspect;
use crate::model::container_stats::ContainerStats;
use crate::model::container_summary::{
    ContainerPruneResponse, ContainerSummary, ContainerTopResponse, ContainerUpdateResponse,
    ContainerWaitResponse, FilesystemChange,
};
use crate::model::host_config::ContainerUpdateRequest;
use crate::route::ParamKind::{Integer, Text, Texts};
use crate::route::{BodyKind, Route, delete, get, head, post, put};

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
    routes.extend(stream_routes());
    routes.extend(file_routes());
    routes
}

fn lifecycle_routes() -> Vec<Route> {
    vec![
        post("/containers/{id}/start", lifecycle::start)
            .about("ContainerStart", "Starts a container.")
            .text("detachKeys", "Ignored: attaching is an operation of its own.")
            .text("checkpoint", "Name of the checkpoint to start from (experimental).")
            .text("checkpoint-dir", "Where the checkpoint is, if not with the container.")
            .gives_nothing(204)
            .gives_nothing(304)
            .fails(&[400, 403, 404, 409, 501]),
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

fn stream_routes() -> Vec<Route> {
    vec![
        post("/containers/{id}/attach", attach::attach)
            .about("ContainerAttach", "Takes the connection over for the standard streams of a container.")
            .text("detachKeys", "Keys that end the attachment.")
            .flag("logs", "The log so far comes first.")
            .flag("stream", "What is written from now on follows.")
            .flag("stdin", "Standard input.")
            .flag("stdout", "Standard output.")
            .flag("stderr", "Standard error.")
            .gives_body(101, BodyKind::Hijack)
            .gives_body(200, BodyKind::Bytes(crate::hijack::RAW_STREAM))
            .fails(&[400, 404, 409]),
        get("/containers/{id}/attach/ws", attach::attach_websocket)
            .about(
                "ContainerAttachWebsocket",
                "Attaches to the standard streams of a container by websocket.",
            )
            .text("detachKeys", "Keys that end the attachment.")
            .flag("logs", "The log so far comes first.")
            .flag("stream", "What is written from now on follows.")
            .flag("stdin", "Standard input.")
            .from(42)
            .flag("stdout", "Standard output.")
            .from(42)
            .flag("stderr", "Standard error.")
            .from(42)
            .gives_nothing(101)
            .gives_nothing(200)
            .fails(&[400, 404, 409]),
        get("/containers/{id}/logs", logs::logs)
            .about("ContainerLogs", "Reads the log of a container.")
            .flag("follow", "New lines follow until the container stops.")
            .flag("stdout", "Lines of standard output.")
            .flag("stderr", "Lines of standard error.")
            .text("since", "Only lines of this time or later, in seconds since 1970.")
            .text("until", "Only lines of this time or earlier, in seconds since 1970.")
            .from(35)
            .flag("timestamps", "Each line begins with its time.")
            .text("tail", "Only so many of the last lines, or `all`.")
            .flag("details", "Each line carries the attributes that log options add.")
            .text("format", "`json` for objects instead of lines.")
            .from(54)
            .gives_body(200, BodyKind::Bytes(crate::hijack::MULTIPLEXED_STREAM))
            .fails(&[400, 404, 409, 501]),
        get("/containers/{id}/stats", stats::stats)
            .about("ContainerStats", "Measures what a container uses, once a second or once.")
            .flag("stream", "Again and again, which is the default.")
            .flag("one-shot", "One reading at once, without the reading before.")
            .from(41)
            .streams::<ContainerStats>()
            .fails(&[400, 404]),
        get("/containers/{id}/top", stats::top)
            .about("ContainerTop", "Lists the processes of a container.")
            .text("ps_args", "Arguments of ps; `-ef` by default.")
            .gives::<ContainerTopResponse>(200)
            .fails(&[404, 409]),
        post("/containers/{id}/resize", change::resize)
            .about("ContainerResize", "Sets the size of a container's terminal.")
            .query("h", Integer, "Height in characters.")
            .query("w", Integer, "Width in characters.")
            .gives_nothing(200)
            .fails(&[400, 404, 409]),
        post("/containers/{id}/update", change::update)
            .about("ContainerUpdate", "Changes limits and the restart policy.")
            .takes::<ContainerUpdateRequest>()
            .gives::<ContainerUpdateResponse>(200)
            .fails(&[400, 404, 409]),
        post("/containers/prune", change::prune)
            .about("ContainerPrune", "Removes containers that do not run.")
            .filters("Which: label, label!, until.")
            .gives::<ContainerPruneResponse>(200)
            .fails(&[400, 409]),
    ]
}

fn file_routes() -> Vec<Route> {
    vec![
        head("/containers/{id}/archive", archive::read)
            .about("ContainerArchiveInfo", "Says what a path in a container is, in a header.")
            .text("path", "The path.")
            .gives_nothing(200)
            .fails(&[400, 404]),
        get("/containers/{id}/archive", archive::read)
            .about("ContainerArchive", "Sends a path of a container as a tar archive.")
            .text("path", "The path.")
            .gives_body(200, BodyKind::Bytes("application/x-tar"))
            .fails(&[400, 404]),
        put("/containers/{id}/archive", archive::write)
            .about("PutContainerArchive", "Unpacks a tar archive, plain or compressed, in a container.")
            .text("path", "An existing directory.")
            .flag("noOverwriteDirNonDir", "A directory does not replace a file, nor the reverse.")
            .flag("copyUIDGID", "What is unpacked belongs to the container's user.")
            .from(39)
            .takes_bytes("application/x-tar")
            .gives_nothing(200)
            .fails(&[400, 403, 404]),
        get("/containers/{id}/export", archive::export)
            .about("ContainerExport", "Sends the root file system as a tar archive.")
            .gives_body(200, BodyKind::Bytes("application/octet-stream"))
            .fails(&[404]),
        get("/containers/{id}/changes", archive::changes)
            .about("ContainerChanges", "Lists what a container has changed against its image.")
            .gives::<Option<Vec<FilesystemChange>>>(200)
            .fails(&[404]),
    ]
}

/// Making an image of a container. It belongs to the images, but works on a container.
pub(crate) fn commit_route() -> Route {
    post("/commit", change::commit)
        .about("ImageCommit", "Makes an image of a container.")
        .text("container", "The container.")
        .text("repo", "Name of the image.")
        .text("tag", "Tag of the image.")
        .text("comment", "Why.")
        .text("author", "Who.")
        .flag("pause", "Processes are frozen meanwhile, which is the default.")
        .query("changes", Texts, "Dockerfile instructions that change the configuration.")
        .takes::<ContainerConfig>()
        .gives::<IdResponse>(201)
        .fails(&[400, 404, 409])
}

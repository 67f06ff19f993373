//! bollard: what it has for one node.
//!
//! Start reading at [`running`]. Cases run at the same time; each has names of its own and takes away what it made. Builds are left
//! out until there are any.

use std::collections::HashMap;

use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointSettings, HostConfig, NetworkConnectRequest,
    NetworkCreateRequest, NetworkDisconnectRequest, VolumeCreateRequest,
};
use bollard::query_parameters as query;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;

const IMAGE: &str = "busybox:latest";

/// A client that speaks the newest version that both know.
async fn docker() -> Docker {
    Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap()
}

fn body(command: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        ..ContainerCreateBody::default()
    }
}

async fn create(docker: &Docker, name: &str, body: ContainerCreateBody) -> String {
    let options = query::CreateContainerOptionsBuilder::default().name(name).build();
    docker.create_container(Some(options), body).await.unwrap().id
}

/// A container that runs until it is removed.
async fn running(docker: &Docker, name: &str) -> String {
    let id = create(docker, name, body(&["sleep", "1000"])).await;
    docker.start_container(&id, None).await.unwrap();
    id
}

async fn remove(docker: &Docker, id: &str) {
    let options = query::RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    docker.remove_container(id, Some(options)).await.unwrap();
}

async fn exec(docker: &Docker, id: &str, command: &[&str]) -> (Vec<LogOutput>, Option<i64>) {
    let options = CreateExecOptions {
        cmd: Some(command.to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(id, options).await.unwrap().id;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&exec, None).await.unwrap() else {
        panic!("a detached command was not asked for")
    };
    let output = output.try_collect().await.unwrap();
    (output, docker.inspect_exec(&exec).await.unwrap().exit_code)
}

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

#[tokio::test]
async fn the_daemon_says_what_it_is() {
    let docker = docker().await;
    assert_eq!(docker.ping().await.unwrap(), "OK");
    assert!(docker.version().await.unwrap().api_version.is_some());
    let info = docker.info().await.unwrap();
    assert_eq!(info.os_type.as_deref(), Some("linux"));
    assert!(docker.df(None::<query::DataUsageOptions>).await.is_ok());
}

#[tokio::test]
async fn a_life_from_create_to_remove() {
    let docker = docker().await;
    let id = running(&docker, "bollard-life").await;
    docker.pause_container(&id).await.unwrap();
    docker.unpause_container(&id).await.unwrap();
    let rename = query::RenameContainerOptionsBuilder::default().name("bollard-lived").build();
    docker.rename_container(&id, rename).await.unwrap();
    docker.restart_container(&id, None).await.unwrap();
    let limit = Some(64 << 20);
    let update = ContainerUpdateBody { memory: limit, memory_swap: limit, ..ContainerUpdateBody::default() };
    docker.update_container(&id, update).await.unwrap();
    let shown = docker.inspect_container("bollard-lived", None).await.unwrap();
    assert_eq!(shown.host_config.unwrap().memory, limit);
    let top =
        docker.top_processes(&id, Some(query::TopOptionsBuilder::default().ps_args("aux").build())).await;
    assert!(!top.unwrap().processes.unwrap().is_empty());
    docker
        .kill_container(&id, Some(query::KillContainerOptionsBuilder::default().signal("KILL").build()))
        .await
        .unwrap();
    let waited: Vec<_> = docker.wait_container(&id, None).collect().await;
    assert!(
        matches!(waited.as_slice(), [Err(Error::DockerContainerWaitError { code: 137, .. })]),
        "{waited:?}"
    );
    docker.start_container(&id, None).await.unwrap();
    docker
        .stop_container(&id, Some(query::StopContainerOptionsBuilder::default().t(0).build()))
        .await
        .unwrap();
    remove(&docker, &id).await;
    let gone = docker.inspect_container(&id, None).await.unwrap_err();
    assert_eq!(status(&gone), Some(404));
}

#[tokio::test]
async fn logs_tell_output_and_error_apart() {
    let docker = docker().await;
    let id = create(&docker, "bollard-logs", body(&["sh", "-c", "echo out; echo err >&2"])).await;
    docker.start_container(&id, None).await.unwrap();
    let options =
        query::LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).tail("all").build();
    let mut lines: Vec<LogOutput> = docker.logs(&id, Some(options)).try_collect().await.unwrap();
    // Which of two pipes is read first is nobody's promise.
    lines.sort_by_key(ToString::to_string);
    let out = LogOutput::StdOut { message: "out\n".into() };
    let err = LogOutput::StdErr { message: "err\n".into() };
    assert_eq!(lines, [err, out]);
    let stamped = query::LogsOptionsBuilder::default().stdout(true).timestamps(true).tail("1").build();
    let lines: Vec<LogOutput> = docker.logs(&id, Some(stamped)).try_collect().await.unwrap();
    assert!(lines.iter().all(|line| line.to_string().starts_with("20")), "{lines:?}");
    remove(&docker, &id).await;
}

#[tokio::test]
async fn exec_gives_streams_and_the_exit_code() {
    let docker = docker().await;
    let id = running(&docker, "bollard-exec").await;
    let (output, code) = exec(&docker, &id, &["sh", "-c", "echo out; exit 4"]).await;
    assert_eq!((output, code), (vec![LogOutput::StdOut { message: "out\n".into() }], Some(4)));
    let options = CreateExecOptions { cmd: Some(vec!["true"]), ..CreateExecOptions::default() };
    let detached = docker.create_exec(&id, options).await.unwrap().id;
    let options = StartExecOptions { detach: true, ..StartExecOptions::default() };
    assert!(matches!(docker.start_exec(&detached, Some(options)).await.unwrap(), StartExecResults::Detached));
    let options = CreateExecOptions {
        cmd: Some(vec!["cat"]),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        tty: Some(true),
        ..CreateExecOptions::default()
    };
    let terminal = docker.create_exec(&id, options).await.unwrap().id;
    let StartExecResults::Attached { mut output, mut input } =
        docker.start_exec(&terminal, None).await.unwrap()
    else {
        panic!("a detached command was not asked for")
    };
    let size = bollard::exec::ResizeExecOptions { height: 40, width: 100 };
    docker.resize_exec(&terminal, size).await.unwrap();
    input.write_all(b"typed\n").await.unwrap();
    let first = output.next().await.unwrap().unwrap();
    assert!(first.to_string().contains("typed"), "{first:?}");
    input.write_all(&[4]).await.unwrap();
    drop(output.collect::<Vec<_>>().await);
    remove(&docker, &id).await;
}

#[tokio::test]
async fn input_reaches_an_attached_container() {
    let docker = docker().await;
    let open = ContainerCreateBody {
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        ..body(&["cat"])
    };
    let id = create(&docker, "bollard-attach", open).await;
    let options =
        query::AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).build();
    let AttachContainerResults { output, mut input } =
        docker.attach_container(&id, Some(options)).await.unwrap();
    docker.start_container(&id, None).await.unwrap();
    input.write_all(b"typed\n").await.unwrap();
    input.shutdown().await.unwrap();
    let texts: Vec<LogOutput> = output.try_collect().await.unwrap();
    assert_eq!(texts, [LogOutput::StdOut { message: "typed\n".into() }]);
    let ended: Vec<_> = docker.wait_container(&id, None).try_collect().await.unwrap();
    assert_eq!(ended[0].status_code, 0);
    remove(&docker, &id).await;
}

#[tokio::test]
async fn a_websocket_carries_both_ways() {
    let docker = docker().await;
    let open = ContainerCreateBody { open_stdin: Some(true), tty: Some(true), ..body(&["cat"]) };
    let id = create(&docker, "bollard-websocket", open).await;
    docker.start_container(&id, None).await.unwrap();
    docker
        .resize_container_tty(&id, query::ResizeContainerTTYOptionsBuilder::default().h(40).w(100).build())
        .await
        .unwrap();
    let options =
        query::AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).build();
    let mut attached = docker.attach_container_websocket(&id, Some(options)).await.unwrap();
    attached.input.write_all(b"typed\n").await.unwrap();
    attached.input.flush().await.unwrap();
    let first = attached.output.next().await.unwrap().unwrap();
    assert!(first.to_string().contains("typed"), "{first:?}");
    remove(&docker, &id).await;
}

#[tokio::test]
async fn archives_go_in_and_come_out() {
    let docker = docker().await;
    let id = running(&docker, "bollard-archive").await;
    let options = query::UploadToContainerOptionsBuilder::default().path("/tmp").build();
    let sent = bollard::body_full(archive("note", b"content").into());
    docker.upload_to_container(&id, Some(options), sent).await.unwrap();
    let (output, _) = exec(&docker, &id, &["cat", "/tmp/note"]).await;
    assert_eq!(output, [LogOutput::StdOut { message: "content".into() }]);
    let options = query::ContainerArchiveInfoOptionsBuilder::default().path("/tmp/note").build();
    let info = docker.get_container_archive_info(&id, Some(options)).await.unwrap();
    assert_eq!((info.name.as_str(), info.size), ("note", 7));
    let options = query::DownloadFromContainerOptionsBuilder::default().path("/tmp/note").build();
    let parts: Vec<_> = docker.download_from_container(&id, Some(options)).try_collect().await.unwrap();
    let bytes = parts.concat();
    let mut read = tar::Archive::new(bytes.as_slice());
    let names: Vec<_> =
        read.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(names, [std::path::Path::new("note")]);
    let changes = docker.container_changes(&id).await.unwrap().unwrap();
    assert!(changes.iter().any(|change| change.path == "/tmp/note"), "{changes:?}");
    let exported: Vec<_> = docker.export_container(&id).try_collect().await.unwrap();
    assert!(exported.iter().map(|part| part.len()).sum::<usize>() > 10_000);
    remove(&docker, &id).await;
}

#[tokio::test]
async fn statistics_once_and_again() {
    let docker = docker().await;
    let id = running(&docker, "bollard-stats").await;
    let options = query::StatsOptionsBuilder::default().stream(false).build();
    let once: Vec<_> = docker.stats(&id, Some(options)).try_collect().await.unwrap();
    assert_eq!(once[0].name.as_deref(), Some("/bollard-stats"));
    let streamed: Vec<_> = docker.stats(&id, None).take(3).try_collect().await.unwrap();
    let usage = |at: usize| streamed[at].cpu_stats.as_ref().unwrap().cpu_usage.as_ref().unwrap().total_usage;
    assert!(usage(2) >= usage(0) && usage(0) > Some(0));
    let before = streamed[2].precpu_stats.as_ref().unwrap().cpu_usage.as_ref().unwrap().total_usage;
    assert_eq!(before, usage(1));
    remove(&docker, &id).await;
}

#[tokio::test]
async fn lists_and_prunes_follow_their_filters() {
    let docker = docker().await;
    let labelled = ContainerCreateBody {
        labels: Some(HashMap::from([("case".to_owned(), "bollard-lists".to_owned())])),
        ..body(&["true"])
    };
    let id = create(&docker, "bollard-lists", labelled).await;
    let filters = HashMap::from([("label", vec!["case=bollard-lists"])]);
    let options = query::ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let listed = docker.list_containers(Some(options)).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.id.as_deref()).collect::<Vec<_>>(), [Some(id.as_str())]);
    let options = query::PruneContainersOptionsBuilder::default().filters(&filters).build();
    let pruned = docker.prune_containers(Some(options)).await.unwrap();
    assert_eq!(pruned.containers_deleted, Some(vec![id]));
}

#[tokio::test]
async fn images_are_committed_tagged_saved_loaded_removed() {
    let docker = docker().await;
    let id = create(&docker, "bollard-images", body(&["true"])).await;
    let options = query::CommitContainerOptionsBuilder::default()
        .container(&id)
        .repo("bollard/made")
        .tag("1")
        .comment("by a test")
        .build();
    let config = bollard::models::ContainerConfig { cmd: Some(vec!["id".to_owned()]), ..Default::default() };
    docker.commit_container(options, config).await.unwrap();
    let made = docker.inspect_image("bollard/made:1").await.unwrap();
    assert_eq!(made.config.unwrap().cmd, Some(vec!["id".to_owned()]));
    let tag = query::TagImageOptionsBuilder::default().repo("bollard/other").tag("2").build();
    docker.tag_image("bollard/made:1", Some(tag)).await.unwrap();
    let history = docker.image_history("bollard/other:2").await.unwrap();
    assert_eq!(history[0].comment, "by a test");
    let parts: Vec<_> = docker.export_image("bollard/other:2").try_collect().await.unwrap();
    for name in ["bollard/other:2", "bollard/made:1"] {
        docker.remove_image(name, None::<query::RemoveImageOptions>, None).await.unwrap();
    }
    let load = query::ImportImageOptionsBuilder::default().build();
    let bytes: Vec<u8> = parts.concat();
    let loaded: Vec<_> =
        docker.import_image(load, bollard::body_full(bytes.into()), None).try_collect().await.unwrap();
    assert!(!loaded.is_empty());
    let filters = HashMap::from([("reference", vec!["bollard/*"])]);
    let options = query::ListImagesOptionsBuilder::default().filters(&filters).build();
    let listed = docker.list_images(Some(options)).await.unwrap();
    assert_eq!(listed[0].repo_tags, ["bollard/other:2"]);
    docker.remove_image("bollard/other:2", None::<query::RemoveImageOptions>, None).await.unwrap();
    remove(&docker, &id).await;
    let missing = docker.inspect_image("bollard/made:1").await.unwrap_err();
    assert_eq!(status(&missing), Some(404));
}

#[tokio::test]
async fn networks_connect_and_disconnect() {
    let docker = docker().await;
    let request = NetworkCreateRequest { name: "bollard-net".to_owned(), ..NetworkCreateRequest::default() };
    docker.create_network(request).await.unwrap();
    let id = running(&docker, "bollard-connected").await;
    let endpoint = EndpointSettings { aliases: Some(vec!["fish".to_owned()]), ..EndpointSettings::default() };
    let connect = NetworkConnectRequest { container: id.clone(), endpoint_config: Some(endpoint) };
    docker.connect_network("bollard-net", connect).await.unwrap();
    let shown = docker.inspect_network("bollard-net", None::<query::InspectNetworkOptions>).await.unwrap();
    assert!(shown.containers.unwrap().contains_key(&id));
    let disconnect = NetworkDisconnectRequest { container: id.clone(), force: Some(true) };
    docker.disconnect_network("bollard-net", disconnect).await.unwrap();
    let filters = HashMap::from([("name", vec!["bollard-net"])]);
    let options = query::ListNetworksOptionsBuilder::default().filters(&filters).build();
    assert_eq!(docker.list_networks(Some(options)).await.unwrap().len(), 1);
    docker.remove_network("bollard-net").await.unwrap();
    remove(&docker, &id).await;
}

#[tokio::test]
async fn volumes_are_made_used_and_removed() {
    let docker = docker().await;
    let request = VolumeCreateRequest {
        name: Some("bollard-volume".to_owned()),
        labels: Some(HashMap::from([("k".to_owned(), "bollard".to_owned())])),
        ..VolumeCreateRequest::default()
    };
    docker.create_volume(request).await.unwrap();
    let host = HostConfig { binds: Some(vec!["bollard-volume:/data".to_owned()]), ..HostConfig::default() };
    let using = ContainerCreateBody { host_config: Some(host), ..body(&["true"]) };
    let id = create(&docker, "bollard-volumes", using).await;
    let in_use =
        docker.remove_volume("bollard-volume", None::<query::RemoveVolumeOptions>).await.unwrap_err();
    assert_eq!(status(&in_use), Some(409));
    remove(&docker, &id).await;
    let filters = HashMap::from([("label", vec!["k=bollard"])]);
    let options = query::ListVolumesOptionsBuilder::default().filters(&filters).build();
    assert_eq!(docker.list_volumes(Some(options)).await.unwrap().volumes.unwrap().len(), 1);
    assert_eq!(docker.inspect_volume("bollard-volume").await.unwrap().driver, "local");
    docker.remove_volume("bollard-volume", None::<query::RemoveVolumeOptions>).await.unwrap();
}

#[tokio::test]
async fn events_tell_what_happened() {
    let docker = docker().await;
    let filters =
        HashMap::from([("container", vec!["bollard-events"]), ("event", vec!["create", "destroy"])]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // From a moment before, so that it does not matter when the daemon begins to listen.
    let since = (now - 1).to_string();
    let options = query::EventsOptionsBuilder::default().since(&since).filters(&filters).build();
    let live = docker.events(Some(options)).take(2).map_ok(|event| event.action.unwrap()).try_collect();
    let happen = async {
        let id = create(&docker, "bollard-events", body(&["true"])).await;
        remove(&docker, &id).await;
    };
    let (actions, ()): (Result<Vec<String>, Error>, ()) = futures_util::future::join(live, happen).await;
    assert_eq!(actions.unwrap(), ["create", "destroy"]);
    let until = (now + 3600).to_string();
    let options =
        query::EventsOptionsBuilder::default().since(&since).until(&until).filters(&filters).build();
    let replayed = docker.events(Some(options)).take(2).map_ok(|event| event.action.unwrap());
    assert_eq!(replayed.try_collect::<Vec<_>>().await.unwrap(), ["create", "destroy"]);
}

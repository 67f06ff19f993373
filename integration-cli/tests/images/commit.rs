//! `POST /commit`: an image from a container.

use integration_cli::condition::eventually;
use integration_cli::{Test, cases};
use serde_json::json;

use super::inspect;

cases![
    files_and_configuration_become_an_image,
    volumes_are_not_part_of_the_image,
    changes_alter_the_configuration,
    a_bad_change_is_refused,
    a_running_container_is_paused_meanwhile,
    commit_is_told_as_an_event,
    a_commit_without_a_name_has_none,
    layers_add_up,
    a_missing_container_is_404,
    removed_files_stay_removed,
];

fn files_and_configuration_become_an_image(t: &Test) {
    let name = t.name("img");
    let container = t.start(
        "-e A=1 --label l=1 -w /tmp busybox sh -c 'echo made > /file; chown 7:8 /file; ln -s file /link'",
    );
    t.wait(&container);
    let reply = t.post_json(
        &format!("/commit?container={container}&repo={name}&tag=v1&author=Me&comment=words"),
        &json!({}),
    );
    let id = reply.expect(201).json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(super::id_of(t, &format!("{name}:v1")), id);
    let described = inspect(t, &id);
    assert_eq!(
        described["Config"]["Cmd"],
        json!(["sh", "-c", "echo made > /file; chown 7:8 /file; ln -s file /link"])
    );
    assert!(described["Config"]["Env"].as_array().unwrap().contains(&json!("A=1")));
    assert_eq!(described["Config"]["WorkingDir"], "/tmp");
    assert_eq!((&described["Author"], &described["Comment"]), (&json!("Me"), &json!("words")));
    let shown = t.run(&format!("{name}:v1 sh -c 'cat /link; stat -c %u:%g /file; pwd; echo $A'")).ok();
    assert_eq!(shown, "made\n7:8\n/tmp\n1");
}

fn volumes_are_not_part_of_the_image(t: &Test) {
    let (name, volume) = (t.name("img"), t.name("vol"));
    let container = t.start(&format!("-v {volume}:/data busybox sh -c 'touch /data/hidden /seen'"));
    t.wait(&container);
    t.docker(&format!("commit {container} {name}")).ok();
    assert_eq!(t.run(&format!("{name} sh -c 'ls /data; ls /seen'")).ok(), "/seen");
}

fn changes_alter_the_configuration(t: &Test) {
    let name = t.name("img");
    let container = t.create("busybox true");
    t.docker_args(&[
        "commit",
        "-c",
        "CMD [\"echo\", \"changed\"]",
        "-c",
        "ENV A=1 B=2",
        "-c",
        "LABEL x=y",
        "-c",
        "EXPOSE 80/udp",
        "-c",
        "USER alice",
        "-c",
        "VOLUME /data",
        "-c",
        "ENTRYPOINT []",
        "-c",
        "WORKDIR /tmp",
        "-c",
        "HEALTHCHECK --interval=9s CMD true",
        &container.name,
        &name,
    ])
    .ok();
    let config = inspect(t, &name)["Config"].clone();
    assert_eq!(config["Cmd"], json!(["echo", "changed"]));
    let env = config["Env"].as_array().unwrap();
    assert!(env.contains(&json!("A=1")) && env.contains(&json!("B=2")), "{config}");
    assert_eq!(config["Labels"]["x"], "y");
    assert_eq!(config["ExposedPorts"]["80/udp"], json!({}));
    assert_eq!((&config["User"], &config["WorkingDir"]), (&json!("alice"), &json!("/tmp")));
    // The reference does not know this one here yet.
    let stop =
        t.docker_args(&["commit", "-c", "STOPSIGNAL SIGINT", &container.name, &format!("{name}:stop")]);
    if t.api_at_least(1, 42) {
        stop.ok();
        assert_eq!(inspect(t, &format!("{name}:stop"))["Config"]["StopSignal"], "SIGINT");
    }
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["Healthcheck"]["Interval"], 9_000_000_000_i64);
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(t.run(&name).ok(), "changed");
}

fn a_bad_change_is_refused(t: &Test) {
    let container = t.create("busybox true");
    t.docker_args(&["commit", "-c", "RUN true", &container.name])
        .fails_saying(1, t.by_age("RUN is not a valid change command", "run is not a valid change command"));
}

fn a_running_container_is_paused_meanwhile(t: &Test) {
    let container = t.start("busybox park");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("commit {container} {}", t.name("img"))).ok();
    recording.wait_for("container commit");
    eventually("it runs again", || (t.status(&container) == "running").then_some(()));
    recording.forget();
    t.docker(&format!("commit --pause=false {container} {}", t.name("img"))).ok();
    recording.wait_for("container commit");
    assert!(!recording.labels().contains(&"container pause".to_owned()), "{:?}", recording.labels());
}

fn commit_is_told_as_an_event(t: &Test) {
    let name = t.name("img");
    let container = t.create("busybox true");
    let id = t.docker(&format!("commit -m words {container} {name}")).ok();
    let told = t.past_events(&t.container_filter(&container.id));
    let event = told.iter().find(|event| event.action == "commit").unwrap();
    assert_eq!(event.attribute("comment"), "words");
    assert_eq!(event.attribute("imageID"), id);
    assert!(event.attribute("imageRef").ends_with(&format!("{name}:latest")), "{event:?}");
}

fn a_commit_without_a_name_has_none(t: &Test) {
    let container = t.create("busybox true");
    let id = t.docker(&format!("commit -m {} {container}", t.prefix())).ok();
    assert_eq!(inspect(t, &id)["RepoTags"], json!([]));
    t.docker(&format!("rmi {id}")).ok();
}

fn layers_add_up(t: &Test) {
    let base = inspect(t, "busybox")["RootFS"]["Layers"].as_array().unwrap().clone();
    let mut image = "busybox".to_owned();
    for round in 0..4 {
        let container = t.start(&format!("{image} sh -c 'echo {round} > /round{round}'"));
        t.wait(&container);
        image = t.name("img");
        t.docker(&format!("commit {container} {image}")).ok();
    }
    let layers = inspect(t, &image)["RootFS"]["Layers"].as_array().unwrap().clone();
    assert_eq!(layers.len(), base.len() + 4);
    assert_eq!(layers[..base.len()], base[..]);
    assert_eq!(t.run(&format!("{image} sh -c 'cat /round*'")).ok(), "0\n1\n2\n3");
}

fn a_missing_container_is_404(t: &Test) {
    let reply = t.post_json("/commit?container=no-such-container&repo=x", &json!({}));
    reply.expect_error_holding(404, "No such container: no-such-container");
}

fn removed_files_stay_removed(t: &Test) {
    let name = t.name("img");
    let container = t.start("busybox sh -c 'rm -r /home; mkdir /home; touch /home/new; rm /etc/group'");
    t.wait(&container);
    t.docker(&format!("commit {container} {name}")).ok();
    assert_eq!(t.run(&format!("{name} sh -c 'ls /home; ls /etc/group 2>&1 | grep -c No'")).ok(), "new\n1");
}

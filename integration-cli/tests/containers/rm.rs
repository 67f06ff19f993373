//! `DELETE /containers/{id}` and containers that remove themselves.

use integration_cli::condition::eventually;
use integration_cli::{Test, cases};
use serde_json::{Value, json};

cases![
    a_stopped_container_is_removed,
    a_running_container_is_removed_only_by_force,
    force_removes_a_running_container_and_tells_its_end,
    removing_a_missing_container_answers_404,
    anonymous_volumes_go_only_on_request,
    named_volumes_stay_in_any_case,
    a_container_with_rm_removes_itself_and_its_anonymous_volumes,
    a_container_with_rm_goes_when_it_cannot_start,
    removal_frees_name_and_layer,
    two_removals_at_once_do_no_harm,
    the_link_parameter_removes_only_the_alias,
    the_client_removes_several_and_complains_of_the_missing,
];

fn volumes(t: &Test, name: &str) -> usize {
    let reply = t
        .get(&integration_cli::session::with_filters("/volumes", &json!({"name": [name]})))
        .expect(200)
        .json();
    reply["Volumes"].as_array().map_or(0, Vec::len)
}

fn anonymous(t: &Test, container: &integration_cli::Container) -> String {
    let mounts = t.inspect(container)["Mounts"].clone();
    let mount =
        mounts.as_array().unwrap().iter().find(|mount| mount["Destination"] == "/anon").cloned().unwrap();
    mount["Name"].as_str().unwrap().to_owned()
}

fn a_stopped_container_is_removed(t: &Test) {
    let container = t.start("busybox true");
    t.wait(&container);
    let reply = t.delete(&format!("/containers/{container}")).expect(204);
    assert_eq!(reply.text(), "");
    t.get(&format!("/containers/{container}/json")).expect(404);
    assert!(t.list("/containers/json?all=1", &json!({"id": [container.id]})).is_empty());
}

fn a_running_container_is_removed_only_by_force(t: &Test) {
    let container = t.start("busybox park");
    let reply = t.delete(&format!("/containers/{container}"));
    let text = t.by_age(
        format!("cannot remove container \"{container}\": container is running: stop the container before removing or force remove"),
        format!("You cannot remove a running container {}. Stop the container before attempting removal or force remove", container.id),
    );
    reply.expect_error(409, &text);
    assert_eq!(t.status(&container), "running");
    t.delete(&format!("/containers/{container}?force=1")).expect(204);
}

fn force_removes_a_running_container_and_tells_its_end(t: &Test) {
    let container = t.start("busybox park");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("rm -f {container}")).ok();
    recording.wait_for("container destroy");
    assert_eq!(recording.labels(), ["container kill", "container die", "container destroy"]);
    assert_eq!(recording.wait_for("container kill").attribute("signal"), "9");
}

fn removing_a_missing_container_answers_404(t: &Test) {
    t.delete("/containers/no-such-container").expect_error(404, "No such container: no-such-container");
    t.delete("/containers/no-such-container?force=1").expect(404);
    // The client of today forgives this with -f.
    let outcome = t.docker("rm -f no-such-container");
    assert!(outcome.code == 0 || outcome.stderr.contains("No such container"), "{outcome:?}");
}

fn anonymous_volumes_go_only_on_request(t: &Test) {
    let kept = t.create("-v /anon busybox true");
    let kept_volume = anonymous(t, &kept);
    t.docker(&format!("rm {kept}")).ok();
    assert_eq!(volumes(t, &kept_volume), 1);
    t.delete(&format!("/volumes/{kept_volume}")).expect(204);
    let container = t.create("-v /anon busybox true");
    let volume = anonymous(t, &container);
    t.docker(&format!("rm -v {container}")).ok();
    assert_eq!(volumes(t, &volume), 0);
}

fn named_volumes_stay_in_any_case(t: &Test) {
    let volume = t.name("vol");
    let container = t.create(&format!("-v {volume}:/data busybox true"));
    t.docker(&format!("rm -v {container}")).ok();
    assert_eq!(volumes(t, &volume), 1);
    t.docker(&format!("run --rm -v {volume}:/data busybox true")).ok();
    assert_eq!(volumes(t, &volume), 1);
}

fn a_container_with_rm_removes_itself_and_its_anonymous_volumes(t: &Test) {
    let container = t.start("--rm -v /anon busybox park");
    let volume = anonymous(t, &container);
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("stop {container}")).ok();
    recording.wait_for("container destroy");
    t.get(&format!("/containers/{container}/json")).expect(404);
    eventually("the anonymous volume is gone", || (volumes(t, &volume) == 0).then_some(()));
}

fn a_container_with_rm_goes_when_it_cannot_start(t: &Test) {
    let name = t.name("c");
    t.docker(&format!("run --rm --name {name} busybox no-such-command")).fails(127);
    eventually("it removes itself", || {
        (t.get(&format!("/containers/{name}/json")).status == 404).then_some(())
    });
    let path = format!("/containers/create?name={name}");
    let body = json!({"Image": "busybox", "Cmd": ["no-such-command"], "HostConfig": {"AutoRemove": true}});
    t.post_json(&path, &body).expect(201);
    t.post(&format!("/containers/{name}/start")).expect(400);
    eventually("it removes itself", || {
        (t.get(&format!("/containers/{name}/json")).status == 404).then_some(())
    });
}

fn removal_frees_name_and_layer(t: &Test) {
    let name = t.name("c");
    for round in 0..3 {
        let shown = t.docker(&format!(
            "run --name {name} busybox sh -c 'ls /left 2>/dev/null; touch /left; echo {round}'"
        ));
        assert_eq!(shown.ok(), round.to_string());
        t.docker(&format!("rm {name}")).ok();
    }
}

fn two_removals_at_once_do_no_harm(t: &Test) {
    let container = t.start("busybox park");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let path = format!("/containers/{}?force=1", container.id);
        let removers: Vec<_> = (0..5)
            .map(|_| {
                let path = path.clone();
                scope.spawn(move || t.delete(&path).status)
            })
            .collect();
        removers.into_iter().map(|remover| remover.join().unwrap()).collect()
    });
    assert!(statuses.contains(&204), "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 204 | 404 | 409)), "{statuses:?}");
    t.get(&format!("/containers/{container}/json")).expect(404);
}

fn the_link_parameter_removes_only_the_alias(t: &Test) {
    let server = t.start("busybox park");
    let client = t.start(&format!("--link {server}:alias busybox park"));
    let names =
        |t: &Test| -> Value { t.list("/containers/json", &json!({"id": [server.id]}))[0]["Names"].clone() };
    let mut listed: Vec<String> = serde_json::from_value(names(t)).unwrap();
    listed.sort();
    let mut expected = vec![format!("/{server}"), format!("/{client}/alias")];
    expected.sort();
    assert_eq!(listed, expected);
    t.docker(&format!("rm --link {client}/alias")).ok();
    assert_eq!(names(t), json!([format!("/{server}")]));
    assert_eq!(t.status(&server), "running");
}

fn the_client_removes_several_and_complains_of_the_missing(t: &Test) {
    let (first, second) = (t.create("busybox true"), t.create("busybox true"));
    let outcome = t.docker(&format!("rm {first} no-such-container {second}"));
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.stdout, format!("{first}\n{second}\n"));
    assert!(outcome.stderr.contains("No such container: no-such-container"), "{outcome:?}");
}

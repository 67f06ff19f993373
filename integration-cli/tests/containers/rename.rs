//! `POST /containers/{id}/rename`.

use integration_cli::{Test, cases};

cases![
    a_renamed_container_answers_to_its_new_name_only,
    renaming_to_a_taken_name_is_409,
    renaming_to_nothing_to_itself_or_to_nonsense_is_refused,
    rename_is_told_with_the_old_name,
    a_renamed_container_is_found_by_dns_under_its_new_name,
];

fn a_renamed_container_answers_to_its_new_name_only(t: &Test) {
    let container = t.start("busybox park");
    let name = t.name("new");
    t.post(&format!("/containers/{container}/rename?name={name}")).expect(204);
    t.get(&format!("/containers/{container}/json")).expect(404);
    assert_eq!(t.get(&format!("/containers/{name}/json")).expect(200).json()["Id"], container.id.as_str());
    assert_eq!(t.inspect(&container)["Name"], format!("/{name}"));
    // The old name is free.
    t.post_json(&format!("/containers/create?name={container}"), &t.body(&["true"])).expect(201);
}

fn renaming_to_a_taken_name_is_409(t: &Test) {
    let (first, second) = (t.create("busybox true"), t.create("busybox true"));
    let reply = t.post(&format!("/containers/{first}/rename?name={second}"));
    reply.expect_error_holding(409, "Error when allocating new name: Conflict. The container name");
    assert!(reply.message().contains(&second.id), "{reply:?}");
    assert_eq!(t.inspect(&first)["Name"], format!("/{first}"));
}

fn renaming_to_nothing_to_itself_or_to_nonsense_is_refused(t: &Test) {
    let container = t.create("busybox true");
    let rename = |name: &str| t.post(&format!("/containers/{container}/rename?name={name}"));
    rename("").expect_error(400, "Neither old nor new names may be empty");
    rename(&container.name).expect_error(400, "Renaming a container with the same name as its current name");
    let reply = rename("b$d");
    reply.expect_error_holding(t.by_age(400, reply.status), "Invalid container name (");
    t.post("/containers/no-such-container/rename?name=other").expect_error_holding(404, "No such container");
}

fn rename_is_told_with_the_old_name(t: &Test) {
    let container = t.create("busybox true");
    let name = t.name("new");
    let mut recording = t.record_events(&t.container_filter(&container.id));
    t.docker(&format!("rename {container} {name}")).ok();
    let event = recording.wait_for("container rename");
    assert_eq!(event.attribute("name"), name);
    assert_eq!(event.attribute("oldName"), format!("/{container}"));
}

fn a_renamed_container_is_found_by_dns_under_its_new_name(t: &Test) {
    let network = t.name("net");
    t.docker(&format!("network create {network}")).ok();
    let server = t.start(&format!("--network {network} busybox park"));
    let client = t.start(&format!("--network {network} busybox park"));
    let name = t.name("new");
    t.docker(&format!("rename {server} {name}")).ok();
    assert_eq!(t.resolve(&client, &name), [t.address(&server, &network)]);
    assert_eq!(t.resolve(&client, &server.name), [""; 0]);
}

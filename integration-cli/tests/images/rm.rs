//! `DELETE /images/{name}`: untagging, deleting, and all that stands in the way.

use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::{id_of, own_image};

cases![
    the_last_tag_goes_with_the_image,
    one_of_several_tags_is_only_untagged,
    an_id_with_several_tags_needs_force,
    an_id_with_several_repositories_needs_force,
    an_image_of_a_stopped_container_needs_force,
    an_image_of_a_running_container_stays,
    a_tag_of_a_used_image_may_go_while_another_stays,
    a_missing_image_is_404,
    removal_is_told_as_events,
    a_container_lives_on_without_its_image_name,
    layers_that_others_use_stay,
];

fn image(t: &Test) -> String {
    let name = t.name("img");
    t.load(&[own_image(t, &format!("{name}:latest"))]);
    name
}

/// A busybox image of the test's own, to run containers from.
fn runnable(t: &Test) -> String {
    let name = t.name("run");
    let container = t.create("busybox true");
    t.docker(&format!("commit -m {name} {container} {name}")).ok();
    name
}

fn keys(reply: &Value) -> Vec<String> {
    let items = reply.as_array().unwrap().iter();
    items.map(|item| item.as_object().unwrap().keys().next().unwrap().clone()).collect()
}

fn the_last_tag_goes_with_the_image(t: &Test) {
    let name = image(t);
    let id = id_of(t, &name);
    let removed = t.delete(&format!("/images/{name}")).expect(200).json();
    assert_eq!(removed[0], json!({"Untagged": format!("{name}:latest")}));
    assert!(removed.as_array().unwrap().contains(&json!({"Deleted": id})), "{removed}");
    t.get(&format!("/images/{id}/json")).expect(404);
}

fn one_of_several_tags_is_only_untagged(t: &Test) {
    let name = image(t);
    let id = id_of(t, &name);
    t.docker(&format!("tag {name} {name}:second")).ok();
    let removed = t.delete(&format!("/images/{name}:latest")).expect(200).json();
    assert_eq!(removed, json!([{"Untagged": format!("{name}:latest")}]));
    assert_eq!(id_of(t, &format!("{name}:second")), id);
}

fn an_id_with_several_tags_needs_force(t: &Test) {
    let name = image(t);
    let id = id_of(t, &name);
    t.docker(&format!("tag {name} {name}:second")).ok();
    let short = &id[7..19];
    let reply = t.delete(&format!("/images/{short}"));
    // The words speak of repositories even where two tags of one are meant.
    reply.expect_error_holding(409, "(must be forced) - image is referenced in multiple repositories");
    let removed = t.delete(&format!("/images/{short}?force=1")).expect(200).json();
    let untagged = keys(&removed).iter().filter(|key| *key == "Untagged").count();
    assert!(untagged >= 2 && keys(&removed).contains(&"Deleted".to_owned()), "{removed}");
    t.get(&format!("/images/{id}/json")).expect(404);
}

fn an_id_with_several_repositories_needs_force(t: &Test) {
    let name = image(t);
    let id = id_of(t, &name);
    let other = t.name("other");
    t.docker(&format!("tag {name} {other}")).ok();
    let short = &id[7..19];
    let reply = t.delete(&format!("/images/{short}"));
    reply.expect_error(409, &format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"));
    t.delete(&format!("/images/{short}?force=1")).expect(200);
    t.get(&format!("/images/{other}/json")).expect(404);
}

fn an_image_of_a_stopped_container_needs_force(t: &Test) {
    let name = runnable(t);
    let id = id_of(t, &name);
    let container = t.create(&format!("{name} true"));
    let reply = t.delete(&format!("/images/{name}"));
    let what = t.by_age(
        format!("conflict: unable to delete {name}:latest (must be forced)"),
        format!("conflict: unable to remove repository reference \"{name}\" (must force)"),
    );
    let (container_id, image_id) = (container.short(), &id[7..19]);
    reply.expect_error_holding(
        409,
        &format!("{what} - container {container_id} is using its referenced image {image_id}"),
    );
    let reply = t.delete(&format!("/images/{id}"));
    reply.expect_error_holding(409, "(must be forced) - image is being used by stopped container");
    assert!(reply.message().contains(container.short()), "{reply:?}");
    t.delete(&format!("/images/{name}?force=1")).expect(200);
    t.get(&format!("/images/{name}/json")).expect(404);
}

fn an_image_of_a_running_container_stays(t: &Test) {
    let name = runnable(t);
    let id = id_of(t, &name);
    let container = t.start(&format!("{name} park"));
    let reply = t.delete(&format!("/images/{id}?force=1"));
    reply.expect_error(
        409,
        &format!(
            "conflict: unable to delete {} (cannot be forced) - image is being used by running container {}",
            &id[7..19],
            container.short()
        ),
    );
    t.docker(&format!("rmi {name}")).fails_saying(1, container.short());
}

fn a_tag_of_a_used_image_may_go_while_another_stays(t: &Test) {
    let name = runnable(t);
    let other = t.name("other");
    t.docker(&format!("tag {name} {other}")).ok();
    t.start(&format!("{name} park"));
    let removed = t.delete(&format!("/images/{other}")).expect(200).json();
    assert_eq!(removed, json!([{"Untagged": format!("{other}:latest")}]));
}

fn a_missing_image_is_404(t: &Test) {
    t.delete("/images/no-such-image").expect_error_holding(404, "No such image: no-such-image");
    t.docker("rmi no-such-image").fails_saying(1, "No such image: no-such-image");
}

fn removal_is_told_as_events(t: &Test) {
    let name = image(t);
    let id = id_of(t, &name);
    t.docker(&format!("rmi {name}")).ok();
    let told: Vec<String> = t
        .past_events(&json!({"type": ["image"], "image": [id]}))
        .iter()
        .map(|event| event.action.clone())
        .collect();
    assert!(told.contains(&"untag".to_owned()) && told.contains(&"delete".to_owned()), "{told:?}");
}

fn a_container_lives_on_without_its_image_name(t: &Test) {
    let name = runnable(t);
    let container = t.start(&format!("{name} park"));
    let id = id_of(t, &name);
    t.docker(&format!("tag busybox {name}")).ok();
    assert_eq!(t.shell(&container, "echo alive"), "alive");
    t.docker(&format!("restart -t 1 {container}")).ok();
    assert_eq!(t.inspect(&container)["Image"], id.as_str());
    t.docker(&format!("rm -f {container}")).ok();
    t.docker(&format!("rmi {id}")).ok();
}

fn layers_that_others_use_stay(t: &Test) {
    let (first, second) = (runnable(t), runnable(t));
    t.docker(&format!("rmi {first}")).ok();
    assert_eq!(t.run(&format!("{second} echo here")).ok(), "here");
    assert_eq!(t.run("busybox echo here").ok(), "here");
}

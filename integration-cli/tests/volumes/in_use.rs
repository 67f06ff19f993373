//! A volume that a container refers to is not removed.

use integration_cli::{Test, cases};
use serde_json::json;

use super::volume;

cases![
    a_volume_of_a_running_container_is_in_use,
    a_volume_of_a_container_that_never_ran_is_in_use,
    all_users_are_named,
    the_last_user_frees_the_volume,
    force_does_not_help,
];

fn a_volume_of_a_running_container_is_in_use(t: &Test) {
    let name = volume(t, "");
    let container = t.start(&format!("-v {name}:/data busybox park"));
    let reply = t.delete(&format!("/volumes/{name}"));
    reply.expect_error(409, &format!("remove {name}: volume is in use - [{}]", container.id));
    t.docker(&format!("volume rm {name}")).fails_saying(1, "volume is in use");
}

fn a_volume_of_a_container_that_never_ran_is_in_use(t: &Test) {
    let name = volume(t, "");
    let container = t.create(&format!("-v {name}:/data busybox true"));
    t.delete(&format!("/volumes/{name}")).expect_error_holding(409, &container.id);
}

fn all_users_are_named(t: &Test) {
    let name = volume(t, "");
    let (first, second) =
        (t.create(&format!("-v {name}:/a busybox true")), t.create(&format!("-v {name}:/b busybox true")));
    let message = t.delete(&format!("/volumes/{name}")).expect(409).message();
    assert!(message.contains(&first.id) && message.contains(&second.id), "{message}");
}

fn the_last_user_frees_the_volume(t: &Test) {
    let name = volume(t, "");
    let (first, second) =
        (t.create(&format!("-v {name}:/a busybox true")), t.start(&format!("-v {name}:/b busybox park")));
    t.docker(&format!("rm {first}")).ok();
    t.delete(&format!("/volumes/{name}")).expect(409);
    t.docker(&format!("rm -f {second}")).ok();
    t.delete(&format!("/volumes/{name}")).expect(204);
}

fn force_does_not_help(t: &Test) {
    let name = volume(t, "");
    let container = t.create_json(&json!({
        "Image": "busybox", "HostConfig": {"Mounts": [{"Type": "volume", "Source": name, "Target": "/x"}]}
    }));
    t.delete(&format!("/volumes/{name}?force=1")).expect_error_holding(409, &container.id);
}

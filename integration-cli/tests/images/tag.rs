//! `POST /images/{name}/tag`.

use integration_cli::{Test, cases};
use serde_json::json;

use super::{id_of, own_image};

cases![
    a_tag_is_another_name,
    a_tag_moves_silently,
    bad_names_are_refused,
    a_missing_source_is_404,
    tagging_is_told_as_an_event,
    names_are_shown_in_their_familiar_form,
];

fn image(t: &Test) -> String {
    let name = t.name("img");
    t.load(&[own_image(t, &format!("{name}:latest"))]);
    name
}

fn a_tag_is_another_name(t: &Test) {
    let image = image(t);
    let (repo, id) = (t.name("new"), id_of(t, &image));
    let reply = t.post(&format!("/images/{image}/tag?repo={repo}&tag=v2")).expect(201);
    assert_eq!(reply.text(), "");
    assert_eq!(id_of(t, &format!("{repo}:v2")), id);
    t.docker(&format!("tag {id} {repo}")).ok();
    assert_eq!(id_of(t, &format!("{repo}:latest")), id);
    t.get(&format!("/images/{repo}:v3/json")).expect(404);
}

fn a_tag_moves_silently(t: &Test) {
    let (first, second) = (image(t), image(t));
    let old = id_of(t, &first);
    t.docker(&format!("tag {second} {first}")).ok();
    assert_eq!(id_of(t, &first), id_of(t, &second));
    // What had the name before is still there, without one.
    assert_eq!(super::inspect(t, &old)["RepoTags"], json!([]));
    t.docker(&format!("rmi {old}")).ok();
}

fn bad_names_are_refused(t: &Test) {
    let image = image(t);
    let refused = |repo: &str, tag: &str, text: &str| {
        let reply = t.post(&format!("/images/{image}/tag?repo={repo}&tag={tag}"));
        assert!(reply.status >= 400, "{reply:?}");
        // The reference does not class these errors.
        reply.expect_error_holding(t.by_age(400, reply.status), text);
    };
    refused("UPPER", "", "must be lowercase");
    refused("a%20b", "", "invalid reference format");
    refused("fine", "-bad", "invalid");
    refused("sha256", "", "refusing to create an ambiguous tag using digest algorithm as name");
    let hex = "0".repeat(64);
    refused(
        &hex,
        "",
        &format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"),
    );
}

fn a_missing_source_is_404(t: &Test) {
    let reply = t.post(&format!("/images/no-such-image/tag?repo={}", t.name("new")));
    reply.expect_error_holding(404, "No such image: no-such-image");
}

fn tagging_is_told_as_an_event(t: &Test) {
    let image = image(t);
    let repo = t.name("new");
    t.docker(&format!("tag {image} {repo}:v1")).ok();
    let told = t.past_events(&json!({"type": ["image"], "event": ["tag"]}));
    let event = told.iter().find(|event| event.attribute("name") == format!("{repo}:v1")).unwrap();
    assert_eq!(event.id, id_of(t, &image));
}

fn names_are_shown_in_their_familiar_form(t: &Test) {
    let image = image(t);
    let repo = t.name("new");
    t.docker(&format!("tag {image} docker.io/library/{repo}:v1")).ok();
    t.docker(&format!("tag {image} {}other.test:5000/a/b:v1", t.prefix())).ok();
    let tags = super::inspect(t, &image)["RepoTags"].to_string();
    assert!(tags.contains(&format!("\"{repo}:v1\"")), "{tags}");
    assert!(tags.contains(&format!("\"{}other.test:5000/a/b:v1\"", t.prefix())), "{tags}");
}

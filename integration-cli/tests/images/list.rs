//! `GET /images/json`.

use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::{id_of, own_image};

cases![
    items_describe_the_image,
    an_image_with_several_tags_is_one_item,
    an_image_without_a_tag_is_listed_as_none,
    filter_by_reference,
    filter_by_label_and_dangling,
    filter_by_before_and_since,
    virtual_size_is_for_old_clients,
    the_client_prints_the_table,
];

fn tags(t: &Test, filters: &Value) -> Vec<String> {
    let mut tags: Vec<String> = t
        .list("/images/json", filters)
        .iter()
        .flat_map(|image| image["RepoTags"].as_array().cloned().unwrap_or_default())
        .map(|tag| tag.as_str().unwrap().to_owned())
        .filter(|tag| tag.starts_with(t.prefix()))
        .collect();
    tags.sort();
    tags
}

fn items_describe_the_image(t: &Test) {
    let name = format!("{}:v1", t.name("img"));
    let image = own_image(t, &name);
    t.load(&[image]);
    let item = t.list("/images/json", &json!({"reference": [name]})).remove(0);
    assert_eq!(item["Id"], id_of(t, &name));
    assert_eq!(item["RepoTags"], json!([name]));
    assert_eq!(item["Labels"], json!({"of": t.prefix()}));
    assert_eq!(item["ParentId"], "");
    assert_eq!(item["Containers"], -1);
    assert_eq!(item["SharedSize"], -1);
    // 2024-02-03T04:05:06Z
    assert_eq!(item["Created"], 1_706_933_106);
    assert!(item["Size"].as_i64().unwrap() > 10_000, "{item}");
    assert!(item["RepoDigests"].is_null() || item["RepoDigests"].is_array(), "{item}");
}

fn an_image_with_several_tags_is_one_item(t: &Test) {
    let (first, second) = (t.name("img"), t.name("img"));
    t.load(&[own_image(t, &format!("{first}:latest"))]);
    t.docker(&format!("tag {first} {second}:other")).ok();
    let items = t.list("/images/json", &json!({"label": [format!("of={}", t.prefix())]}));
    assert_eq!(items.len(), 1);
    let mut tags: Vec<&str> =
        items[0]["RepoTags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    tags.sort_unstable();
    assert_eq!(tags, [format!("{first}:latest"), format!("{second}:other")]);
}

fn an_image_without_a_tag_is_listed_as_none(t: &Test) {
    let name = t.name("img");
    t.load(&[own_image(t, &format!("{name}:latest"))]);
    let id = id_of(t, &name);
    t.load(&[own_image(t, &format!("{name}x:latest"))]);
    t.docker(&format!("tag {name}x {name}")).ok();
    let item = t
        .list("/images/json", &json!({"label": [format!("of={}", t.prefix())], "dangling": ["true"]}))
        .remove(0);
    assert_eq!(item["Id"], id.as_str());
    // Below 1.43 an image without a tag says so.
    assert!(item["RepoTags"] == json!(["<none>:<none>"]) || item["RepoTags"].is_null(), "{item}");
    t.docker(&format!("rmi {id}")).ok();
}

fn filter_by_reference(t: &Test) {
    let name = t.name("img");
    t.load(&[own_image(t, &format!("{name}:v1"))]);
    t.docker(&format!("tag {name}:v1 {name}/deep:v2")).ok();
    let (one, deep) = (format!("{name}:v1"), format!("{name}/deep:v2"));
    let by = |pattern: &str| tags(t, &json!({"reference": [pattern]}));
    assert_eq!(by(&name), [one.as_str()]);
    assert_eq!(by(&one), [one.as_str()]);
    assert_eq!(by(&format!("{}*", t.prefix())), [one.as_str()]);
    assert_eq!(by(&format!("{}*:v*", t.prefix())), [one.as_str()]);
    assert_eq!(by(&format!("{}*/*", t.prefix())), [deep.as_str()]);
    assert_eq!(by(&format!("{name}:v2")), [""; 0]);
}

fn filter_by_label_and_dangling(t: &Test) {
    let name = format!("{}:latest", t.name("img"));
    t.load(&[own_image(t, &name)]);
    let label = format!("of={}", t.prefix());
    assert_eq!(tags(t, &json!({"label": [label]})), [name.as_str()]);
    assert_eq!(tags(t, &json!({"label": [label], "dangling": ["false"]})), [name.as_str()]);
    assert_eq!(tags(t, &json!({"label": [label], "dangling": ["true"]})), [""; 0]);
    assert_eq!(tags(t, &json!({"label": ["of=nobody"]})), [""; 0]);
}

fn filter_by_before_and_since(t: &Test) {
    let container = t.create("busybox true");
    let (old, new) = (t.name("img"), t.name("img"));
    t.docker(&format!("commit -m old {container} {old}")).ok();
    // Times of images are compared by the second.
    integration_cli::condition::eventually("a later second", || {
        t.docker(&format!("commit -m new {container} {new}")).ok();
        let created = |name: &str| super::inspect(t, name)["Created"].as_str().unwrap()[..19].to_owned();
        (created(&old) != created(&new)).then_some(())
    });
    let (old, new) = (format!("{old}:latest"), format!("{new}:latest"));
    assert!(tags(t, &json!({"before": [new]})).contains(&old));
    assert!(!tags(t, &json!({"before": [old]})).contains(&new));
    assert_eq!(tags(t, &json!({"since": [old]})), [new.as_str()]);
}

fn virtual_size_is_for_old_clients(t: &Test) {
    let item = |version: &str| {
        let images = t.get(&format!("/{version}/images/json")).expect(200).json();
        images.as_array().unwrap()[0].clone()
    };
    let old = item("v1.41");
    assert_eq!(old["VirtualSize"], old["Size"]);
    if t.api_at_least(1, 44) {
        assert!(item("v1.44").get("VirtualSize").is_none());
    }
}

fn the_client_prints_the_table(t: &Test) {
    let name = t.name("img");
    t.load(&[own_image(t, &format!("{name}:v1"))]);
    let shown = t.docker_args(&["images", "--format", "{{.Repository}} {{.Tag}} {{.ID}}", &name]).ok();
    assert_eq!(shown, format!("{name} v1 {}", &id_of(t, &format!("{name}:v1"))[7..19]));
    assert_eq!(t.docker(&format!("images -q --no-trunc {name}")).ok(), id_of(t, &format!("{name}:v1")));
}

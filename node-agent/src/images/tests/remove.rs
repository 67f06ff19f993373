//! Removal, lists and pruning: who holds an image, and which names find it.

use super::*;
use crate::api::images::{ImageFilter, ImagePruneFilter, PruneNamed};
use shoal_types::ErrorKind;

/// A node with one image under each of these names.
async fn node_with(names: &[&str]) -> (Node, ImageId) {
    let image = image(&[vec![file("a", "1")], vec![file("b", "2")]]);
    let (_registry, reference) = registry_with("pulled", "v1", &image).await;
    let node = Node::new().await;
    node.pull(&reference).await.unwrap();
    for name in names {
        node.images.tag(&reference.familiar(), &ImageRef::parse(name).unwrap()).await.unwrap();
    }
    node.remove(&reference.familiar(), true).await.unwrap();
    (node, ImageId(image.manifest.digest()))
}

fn untagged(name: &str) -> Removal {
    Removal::Untagged(name.to_owned())
}

fn deleted(id: ImageId) -> Removal {
    Removal::Deleted(id.to_string())
}

#[tokio::test]
async fn the_last_name_takes_everything_with_it() {
    let (node, id) = node_with(&["one:v1", "one:v2"]).await;
    assert_eq!(node.remove("one:v1", false).await.unwrap(), [untagged("one:v1")]);
    assert_eq!(node.remove("one:v2", false).await.unwrap(), [untagged("one:v2"), deleted(id)]);
    node.assert_empty();
    let actions: Vec<String> =
        node.events_of("untag").await.iter().map(|event| event.attributes["name"].clone()).collect();
    assert!(actions.ends_with(&["one:v1".to_owned(), "one:v2".to_owned()]), "{actions:?}");
    assert_eq!(node.events_of("delete").await[0].actor, id.to_string());
    let error = node.remove("one:v2", false).await.unwrap_err();
    assert_eq!(error.message(), "No such image: one:v2");
}

#[tokio::test]
async fn an_id_with_several_names_needs_force() {
    let (node, id) = node_with(&["one:v1", "two:v1"]).await;
    let error = node.remove(&id.0.short(), false).await.unwrap_err();
    let text = format!(
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
        id.0.short()
    );
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, text));
    let removals = node.remove(&id.0.short(), true).await.unwrap();
    assert_eq!(removals, [untagged("one:v1"), untagged("two:v1"), deleted(id)]);
    node.assert_empty();
}

#[tokio::test]
async fn a_stopped_container_holds_its_image_until_force() {
    let (node, id) = node_with(&["one:v1"]).await;
    let container = node.use_by(id, "one:v1", ContainerUse::Stopped);
    let error = node.remove("one:v1", false).await.unwrap_err();
    let text = format!(
        "conflict: unable to delete one:v1 (must be forced) - container {} is using its referenced image {}",
        container.short(),
        id.0.short()
    );
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, text));
    let error = node.remove(&id.to_string(), false).await.unwrap_err();
    let text = format!(
        "conflict: unable to delete {} (must be forced) - image is being used by stopped container {}",
        id.0.short(),
        container.short()
    );
    assert_eq!(error.message(), text);
    // By name and with force the image stays for the container, without the name.
    assert_eq!(node.remove("one:v1", true).await.unwrap(), [untagged("one:v1")]);
    assert_eq!(node.list().await.len(), 1);
    node.images.release(&container);
    assert_eq!(node.remove(&id.to_string(), false).await.unwrap(), [deleted(id)]);
    node.assert_empty();
}

#[tokio::test]
async fn a_running_container_holds_its_image_even_against_force() {
    let (node, id) = node_with(&["one:v1"]).await;
    let container = node.use_by(id, "one:v1", ContainerUse::Running);
    let error = node.remove(&id.to_string(), true).await.unwrap_err();
    let text = format!(
        "conflict: unable to delete {} (cannot be forced) - image is being used by running container {}",
        id.0.short(),
        container.short()
    );
    assert_eq!((error.kind(), error.message()), (ErrorKind::Conflict, text));
}

#[tokio::test]
async fn names_find_images_in_dockers_order() {
    let (node, id) = node_with(&["one:latest", "registry.example/x/y:v1"]).await;
    let hex = id.0.hex();
    for name in [
        "one",
        "one:latest",
        "docker.io/library/one",
        "registry.example/x/y:v1",
        &hex,
        &hex[..4],
        &id.to_string(),
        &id.to_string()[..20],
        &format!("one@{id}"),
        &format!("one:other@{id}"),
    ] {
        assert_eq!(node.images.inspect(name, None).await.unwrap().summary.id, id, "{name}");
    }
    let cases = [
        ("two", "No such image: two:latest"),
        ("two:v1", "No such image: two:v1"),
        ("abc", "No such image: abc:latest"),
    ];
    for (name, text) in cases {
        let error = node.images.inspect(name, None).await.unwrap_err();
        assert_eq!((error.kind(), error.message().as_str()), (ErrorKind::NotFound, text));
    }
    let elsewhere = format!("two@{id}");
    assert_eq!(
        node.images.inspect(&elsewhere, None).await.unwrap_err().message(),
        format!("No such image: {elsewhere}")
    );
    let error = node.images.inspect("UPPER", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    // A name that looks like an id wins over the id.
    let short = ImageRef::parse(&hex[..12]).unwrap();
    node.images.tag("one", &short).await.unwrap();
    node.images.inspect(&hex[..12], None).await.unwrap();
}

#[tokio::test]
async fn a_tag_like_a_digest_algorithm_is_refused() {
    let (node, _) = node_with(&["one:v1"]).await;
    let error = node.images.tag("one:v1", &ImageRef::parse("sha256:abc").unwrap()).await.unwrap_err();
    assert_eq!(error.message(), "refusing to create an ambiguous tag using digest algorithm as name");
}

#[tokio::test]
async fn filters_choose_by_name_label_and_age() {
    let (node, _) = node_with(&["one:v1", "two:v2"]).await;
    let tags = async |filter: ImageFilter| {
        let listed = node.images.list(ImageQuery { filter, ..ImageQuery::default() }).await.unwrap();
        listed.into_iter().flat_map(|image| image.tags).map(|tag| tag.familiar()).collect::<Vec<_>>()
    };
    let by_reference =
        |pattern: &str| ImageFilter { references: vec![pattern.to_owned()], ..ImageFilter::default() };
    assert_eq!(tags(by_reference("o*")).await, ["one:v1"]);
    assert_eq!(tags(by_reference("*:v2")).await, ["two:v2"]);
    assert_eq!(tags(by_reference("docker.io/library/one")).await, ["one:v1"]);
    assert!(tags(by_reference("x*")).await.is_empty());
    let labelled = |value: &str| {
        let required = vec![("made".to_owned(), Some(value.to_owned()))];
        ImageFilter {
            labels: crate::api::LabelFilter { required, excluded: Vec::new() },
            ..ImageFilter::default()
        }
    };
    assert_eq!(tags(labelled("here")).await.len(), 2);
    assert!(tags(labelled("there")).await.is_empty());
    assert!(tags(ImageFilter { dangling: Some(true), ..ImageFilter::default() }).await.is_empty());
    assert!(
        tags(ImageFilter { before: vec!["one:v1".to_owned()], ..ImageFilter::default() }).await.is_empty()
    );
    let unknown = ImageFilter { since: vec!["none".to_owned()], ..ImageFilter::default() };
    let error = node.images.list(ImageQuery { filter: unknown, ..ImageQuery::default() }).await.unwrap_err();
    assert_eq!(error.message(), "No such image: none:latest");
}

#[tokio::test]
async fn a_prune_takes_what_is_dangling_and_with_all_what_is_unused() {
    let (node, id) = node_with(&["one:v1"]).await;
    let keep = ImagePruneFilter::default();
    assert_eq!(node.images.prune(keep).await.unwrap().0, []);
    let container = node.use_by(id, "one:v1", ContainerUse::Stopped);
    let all = ImagePruneFilter { named: PruneNamed::Remove, ..ImagePruneFilter::default() };
    assert_eq!(node.images.prune(all.clone()).await.unwrap().0, []);
    node.images.release(&container);
    let (removals, freed) = node.images.prune(all).await.unwrap();
    assert_eq!(removals, [untagged("one:v1"), deleted(id)]);
    assert!(freed > 0);
    node.assert_empty();
    assert_eq!(node.events_of("prune").await.len(), 3);
}

#[tokio::test]
async fn a_prune_leaves_an_image_by_whose_id_a_container_was_made() {
    let (node, id) = node_with(&["one:v1", "two:v1"]).await;
    node.use_by(id, &id.0.short(), ContainerUse::Stopped);
    let all = ImagePruneFilter { named: PruneNamed::Remove, ..ImagePruneFilter::default() };
    assert_eq!(node.images.prune(all).await.unwrap().0, [untagged("one:v1")]);
    assert_eq!(node.tags().await, ["two:v1"]);
}

#[tokio::test]
async fn shared_layers_stay_as_long_as_one_image_has_them() {
    let base = vec![file("base", &noise(10_000))];
    let (one, two) = (image(std::slice::from_ref(&base)), image(&[base, vec![file("top", "1")]]));
    let (registry, first) = registry_with("a", "one", &one).await;
    registry.put_image("a", "two", &two);
    let second = registry.image_ref("a:two");
    let node = Node::new().await;
    node.pull(&first).await.unwrap();
    node.pull(&second).await.unwrap();
    let query = ImageQuery { with_shared_size: true, ..ImageQuery::default() };
    let listed = node.images.list(query).await.unwrap();
    assert!(listed.iter().all(|image| image.shared_size.unwrap() >= 10_000));
    node.remove(&first.familiar(), false).await.unwrap();
    node.images.resolve(&second.familiar(), None).await.unwrap();
    assert!(node.images.shared.content.size(one.layer_descriptors()[0].digest).is_some());
    node.remove(&second.familiar(), false).await.unwrap();
    node.assert_empty();
}

#[tokio::test]
async fn what_is_leased_stays_on_disk_though_the_image_is_removed() {
    let (node, _) = node_with(&["one:v1"]).await;
    let resolved = node.images.resolve("one:v1", None).await.unwrap();
    node.remove("one:v1", false).await.unwrap();
    assert!(resolved.layer_dirs.iter().all(|dir| dir.is_dir()));
    drop(resolved);
    node.images.shared.collect_all().await.unwrap();
    node.assert_empty();
}

#[tokio::test]
async fn inspect_and_history_tell_what_the_config_says() {
    let (node, id) = node_with(&["one:v1"]).await;
    let view = node.images.inspect("one:v1", None).await.unwrap();
    assert_eq!(view.config_json.as_ref(), r#"{"Cmd":["true"],"Labels":{"made":"here"},"User":null}"#);
    assert_eq!((view.diff_ids.len(), view.layer_dirs.len(), view.summary.manifests.len()), (2, 2, 1));
    assert_eq!(view.summary.created.unwrap().to_string(), "2024-05-06T07:08:09Z");
    assert!(view.last_tagged.is_some() && view.summary.manifests[0].available);
    let history = node.images.history("one:v1", None).await.unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!((history[0].id, history[0].tags.as_slice()), (Some(id), &["one:v1".to_owned()][..]));
    assert_eq!((history[1].id, history[1].size), (None, 1));
}

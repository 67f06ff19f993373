//! Pushes: the digests that arrive, and what is linked instead of sent.

use http::Method;

use super::*;
use crate::api::images::{LayerPhase, PushRequest};

async fn push(node: &Node, reference: &ImageRef) -> Result<Vec<Progress>, NodeError> {
    let request = PushRequest { reference: reference.clone(), platform: None, credentials: None };
    drain(node.images.push(request).await?).await
}

async fn pulled_and_named(name: &str) -> (Node, TestImage, FaultyRegistry, ImageRef) {
    let image = image(&[vec![file("a", &noise(100_000))], vec![file("b", "2")]]);
    let (registry, reference) = registry_with("from", "v1", &image).await;
    let node = Node::new().await;
    node.pull(&reference).await.unwrap();
    let target = registry.image_ref(name);
    node.images.tag(&reference.familiar(), &target).await.unwrap();
    (node, image, registry, target)
}

#[tokio::test]
async fn what_was_pulled_is_pushed_with_the_same_digests_and_linked_where_possible() {
    let (node, image, registry, target) = pulled_and_named("to/here:v2").await;
    let items = push(&node, &target).await.unwrap();
    assert_eq!(items[0], Progress::PushingTo { repository: target.full_name() });
    for layer in image.layer_descriptors() {
        let phase = LayerPhase::MountedFrom("from".to_owned());
        assert!(items.contains(&Progress::Layer { id: layer.digest.short(), phase }), "{items:?}");
    }
    let size = image.manifest.bytes.len() as u64;
    let pushed = Progress::Pushed { tag: "v2".to_owned(), digest: image.manifest.digest(), size };
    assert_eq!(items.last(), Some(&pushed));
    assert_eq!(registry.manifest("to/here", "v2").unwrap(), image.manifest.bytes);
    assert_eq!(node.events_of("push").await[0].actor, target.familiar());

    let again = push(&node, &target).await.unwrap();
    let existing = Progress::Layer {
        id: image.layer_descriptors()[0].digest.short(),
        phase: LayerPhase::LayerAlreadyExists,
    };
    assert!(again.contains(&existing), "{again:?}");
}

#[tokio::test]
async fn another_registry_gets_the_bytes() {
    let (node, image, _registry, _) = pulled_and_named("x:v1").await;
    let other = FaultyRegistry::start().await;
    let target = other.image_ref("copy:v1");
    let source = node.tags().await[0].clone();
    node.images.tag(&source, &target).await.unwrap();
    push(&node, &target).await.unwrap();
    for (layer, bytes) in image.layer_descriptors().iter().zip(&image.layers) {
        assert_eq!(other.blob("copy", layer.digest).as_ref(), Some(bytes));
    }
}

#[tokio::test]
async fn layers_that_came_uncompressed_are_pushed_compressed_and_always_alike() {
    let node = Node::new().await;
    let imported = node.images.import(
        crate::api::images::ImportRequest {
            source: "-".to_owned(),
            reference: Some(ImageRef::parse("local:v1").unwrap()),
            ..Default::default()
        },
        source(pack(&[file("a", &noise(50_000))])),
    );
    drain(imported.await.unwrap()).await.unwrap();
    let archive = save_docker_style(&node, "local:v1").await;
    node.remove("local:v1", true).await.unwrap();
    drain(node.images.load(LoadRequest::default(), source(archive)).await.unwrap()).await.unwrap();

    let registry = FaultyRegistry::start().await;
    let mut digests = Vec::new();
    for name in ["one:v1", "two:v1"] {
        let target = registry.image_ref(name);
        node.images.tag("local:v1", &target).await.unwrap();
        let items = push(&node, &target).await.unwrap();
        let Some(Progress::Pushed { digest, .. }) = items.last().cloned() else { panic!("{items:?}") };
        digests.push(digest);
    }
    assert_eq!(digests[0], digests[1]);
    let manifest = Manifest::parse(None, registry.manifest("one", "v1").unwrap()).unwrap();
    let layer = &manifest.as_image().unwrap().layers[0];
    assert_eq!(layer.media_type, media_type::OCI_LAYER_GZIP);
    assert_eq!(&registry.blob("one", layer.digest).unwrap()[..2], [0x1f, 0x8b]);
    // The digest that was pushed is one of the image's.
    let listed = node.list().await;
    assert!(listed[0].digests.contains(&registry.image_ref("one").with_digest(digests[0])));

    let elsewhere = Node::new().await;
    elsewhere.pull(&registry.image_ref("two:v1")).await.unwrap();
    let resolved = elsewhere.images.resolve(&registry.image_ref("two:v1").familiar(), None).await.unwrap();
    assert_eq!(tree(&upper(&resolved, 0))["a"].content, noise(50_000).as_bytes());
    node.remove("local:v1", true).await.unwrap();
    node.remove(&registry.image_ref("one:v1").familiar(), true).await.unwrap();
    node.remove(&registry.image_ref("two:v1").familiar(), true).await.unwrap();
    node.assert_empty();
}

/// The archive of an engine that keeps layers uncompressed.
async fn save_docker_style(node: &Node, name: &str) -> Vec<u8> {
    let view = node.images.inspect(name, None).await.unwrap();
    let config = node.images.shared.content.read(view.config_digest, 1 << 20).unwrap();
    let layer = pack(&[file("a", &noise(50_000))]);
    let hex = view.config_digest.hex();
    let manifest =
        json!([{"Config": format!("{hex}.json"), "RepoTags": [name], "Layers": ["one/layer.tar"]}]);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let raw = |path: &str, bytes: Vec<u8>| {
        let entry = Entry { size: bytes.len() as u64, ..file(path, "").0 };
        (entry, bytes)
    };
    pack(&[
        file(&format!("{hex}.json"), &text(&config)),
        raw("one/layer.tar", layer),
        file("manifest.json", &manifest.to_string()),
    ])
}

#[tokio::test]
async fn a_name_that_is_not_here_cannot_be_pushed() {
    let node = Node::new().await;
    let registry = FaultyRegistry::start().await;
    for (name, text) in
        [("a:v1", "tag does not exist: "), ("a", "An image does not exist locally with the tag: ")]
    {
        let reference = registry.image_ref(name);
        let error = push(&node, &reference).await.unwrap_err();
        assert_eq!(error.message(), format!("{text}{}", reference.familiar()));
    }
    assert!(registry.requests_to(&Method::PUT, "").is_empty());
}

#[tokio::test]
async fn of_an_index_that_is_only_partly_here_the_part_is_pushed() {
    let (amd64, arm64) = (image_for("amd64", &[file("a", "1")]), image_for("arm64", &[file("a", "1")]));
    let registry = FaultyRegistry::start().await;
    registry.put_image("a", "x", &amd64);
    registry.put_image("a", "y", &arm64);
    let index = TestImage::index(&[("amd64", &amd64), ("arm64", &arm64)]);
    registry.put_manifest("a", Some("multi"), &index);
    let node = Node::new().await;
    let source = registry.image_ref("a:multi");
    node.pull(&source).await.unwrap();
    let target = registry.image_ref("b:v1");
    node.images.tag(&source.familiar(), &target).await.unwrap();
    push(&node, &target).await.unwrap();
    assert_eq!(registry.manifest("b", "v1").unwrap(), amd64.manifest.bytes);

    let arm = PullRequest { platform: Some(Platform::new("linux", "arm64", "")), ..request(&source) };
    drain(node.images.pull(arm).await.unwrap()).await.unwrap();
    push(&node, &target).await.unwrap();
    assert_eq!(registry.manifest("b", "v1").unwrap(), index.bytes, "now all of it is here");
}

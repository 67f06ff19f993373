//! Save, load, import and commit: what goes out comes back, what is wrong is refused and leaves nothing.

use super::*;
use crate::api::images::{ImportRequest, LoadedImage};
use crate::layers::{Purpose, SnapshotKey};

async fn save(node: &Node, names: &[&str], platforms: &[Platform]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut stream = node.images.save(&names, platforms).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    bytes
}

async fn load(node: &Node, archive: impl Into<Bytes>) -> Result<Vec<LoadedImage>, NodeError> {
    let items = drain(node.images.load(LoadRequest::default(), source(archive)).await?).await?;
    Ok(items
        .into_iter()
        .filter_map(|item| match item {
            Progress::Loaded(loaded) => Some(loaded),
            _ => None,
        })
        .collect())
}

fn entries(archive: &[u8]) -> Vec<(String, u64, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let read = |entry: Result<tar::Entry<'_, _>, _>| {
        let mut entry: tar::Entry<'_, &[u8]> = entry.unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        let path = entry.path().unwrap().display().to_string();
        (path, entry.header().mtime().unwrap(), bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

async fn pulled(layers: &[Files]) -> (Node, TestImage, String) {
    let image = image(layers);
    let (_registry, reference) = registry_with("a", "v1", &image).await;
    let node = Node::new().await;
    node.pull(&reference).await.unwrap();
    node.images.tag(&reference.familiar(), &ImageRef::parse("saved:v1").unwrap()).await.unwrap();
    (node, image, "saved:v1".to_owned())
}

#[tokio::test]
async fn what_is_saved_loads_as_the_same_image() {
    if !is_root("what_is_saved_loads_as_the_same_image") {
        return;
    }
    let (node, image, name) = pulled(&two_layers()).await;
    let archive = save(&node, &[&name], &[]).await;
    assert_eq!(archive, save(&node, &[&name], &[]).await, "the same bytes every time");
    let entries = entries(&archive);
    assert!(entries.iter().all(|(_, mtime, _)| *mtime == 0));
    let names: Vec<&str> =
        entries.iter().map(|(path, ..)| path.as_str()).filter(|path| !path.starts_with("blobs")).collect();
    assert_eq!(names, ["index.json", "manifest.json", "oci-layout", "repositories"]);

    let other = Node::new().await;
    assert_eq!(load(&other, archive).await.unwrap(), [LoadedImage::Named(name.clone())]);
    let resolved = other.images.resolve(&name, None).await.unwrap();
    assert_eq!(resolved.id.0, image.manifest.digest());
    assert_eq!(tree(&upper(&resolved, 0))["etc/name"].content, b"second");
    assert_eq!(other.events_of("load").await[0].actor, resolved.id.to_string());
}

#[tokio::test]
async fn an_id_saves_without_a_name() {
    let (node, image, _) = pulled(&[vec![file("a", "1")]]).await;
    let archive = save(&node, &[&image.manifest.digest().hex()[..12]], &[]).await;
    let manifest = entries(&archive).into_iter().find(|(path, ..)| path == "manifest.json").unwrap().2;
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(null));
    let other = Node::new().await;
    let id = ImageId(image.manifest.digest());
    assert_eq!(load(&other, archive).await.unwrap(), [LoadedImage::Unnamed(id)]);
    assert!(other.tags().await.is_empty());
}

#[tokio::test]
async fn an_unknown_name_fails_before_the_first_byte() {
    let node = Node::new().await;
    let Err(error) = node.images.save(&["none".to_owned()], &[]).await else { panic!("saved nothing") };
    assert_eq!(error.message(), "No such image: none:latest");
}

/// Archives as other engines write them, by hand.
fn docker_archive(tags: &serde_json::Value, layer: &[u8], layer_path: &str) -> Files {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer).to_string()]},
    })
    .to_string();
    let manifest = json!([{"Config": "c.json", "RepoTags": tags, "Layers": [layer_path]}]).to_string();
    let raw = Entry { size: layer.len() as u64, ..file("one/layer.tar", "").0 };
    vec![
        file("c.json", &config),
        (raw, layer.to_vec()),
        link(EntryKind::Symlink, "two/layer.tar", "../one/layer.tar"),
        file("manifest.json", &manifest),
    ]
}

#[tokio::test]
async fn archives_of_older_engines_load_and_give_one_id_every_time() {
    let layer = pack(&[file("a", "hello")]);
    let node = Node::new().await;
    let plain = pack(&docker_archive(&json!(["old:v1", "old:v2"]), &layer, "two/layer.tar"));
    let loaded = load(&node, plain.clone()).await.unwrap();
    assert_eq!(loaded, [LoadedImage::Named("old:v1".to_owned()), LoadedImage::Named("old:v2".to_owned())]);
    let id = node.list().await[0].id;
    load(&node, gzip(&plain)).await.unwrap();
    load(&node, zstd::encode_all(plain.as_slice(), 1).unwrap()).await.unwrap();
    assert_eq!(node.list().await.iter().map(|image| image.id).collect::<Vec<_>>(), [id]);
    let resolved = node.images.resolve("old:v1", None).await.unwrap();
    assert_eq!(tree(&upper(&resolved, 0))["a"].content, b"hello");
    node.remove(&id.to_string(), true).await.unwrap();
    drop(resolved);
    node.images.shared.collect_all().await.unwrap();
    node.assert_empty();
}

#[tokio::test]
async fn the_layout_before_manifest_json_loads() {
    let (base, top) = (pack(&[file("a", "1")]), pack(&[file("b", "2")]));
    let raw =
        |path: &str, bytes: &[u8]| (Entry { size: bytes.len() as u64, ..file(path, "").0 }, bytes.to_vec());
    let json = |parent: &str, command: &str| {
        json!({"id": "x", "parent": parent, "created": "2015-01-01T00:00:00Z", "os": "linux", "architecture": "amd64",
            "container_config": {"Cmd": [command]}, "config": {"Cmd": ["run"]}})
        .to_string()
    };
    let archive = pack(&[
        dir("aaa"),
        file("aaa/VERSION", "1.0"),
        file("aaa/json", &json("", "add base")),
        raw("aaa/layer.tar", &base),
        file("bbb/json", &json("aaa", "add top")),
        raw("bbb/layer.tar", &top),
        file("repositories", r#"{"ancient":{"v1":"bbb"}}"#),
    ]);
    let node = Node::new().await;
    assert_eq!(load(&node, archive).await.unwrap(), [LoadedImage::Named("ancient:v1".to_owned())]);
    let resolved = node.images.resolve("ancient:v1", None).await.unwrap();
    assert_eq!((resolved.layer_dirs.len(), resolved.config.cmd.clone()), (2, Some(vec!["run".to_owned()])));
    let history = node.images.history("ancient:v1", None).await.unwrap();
    assert_eq!(
        history.iter().map(|step| step.created_by.as_str()).collect::<Vec<_>>(),
        ["add top", "add base"]
    );
}

#[tokio::test]
async fn archives_that_are_wrong_are_refused_and_leave_nothing() {
    let layer = pack(&[file("a", "1")]);
    let tags = json!(["x:v1"]);
    let good = docker_archive(&tags, &layer, "one/layer.tar");
    let without = |path: &str| -> Files {
        good.iter().filter(|(entry, _)| entry.path != path.as_bytes()).cloned().collect()
    };
    let hostile = pack(&[file("../../escaped", "1")]);
    let mut lying = good.clone();
    lying[1].1 = pack(&[file("a", "2")]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (pack(&without("manifest.json")), "invalid archive: does not contain a manifest.json"),
        (pack(&without("c.json")), "open c.json: no such file or directory"),
        (pack(&without("one/layer.tar")), "open one/layer.tar: no such file or directory"),
        (pack(&docker_archive(&json!(["UPPER:v1"]), &layer, "one/layer.tar")), "must be lowercase"),
        (pack(&docker_archive(&tags, &hostile, "one/layer.tar")), "leads out of the archive"),
        (pack(&lying), "wrong diff id"),
        (pack(&[file("../../manifest.json", "[]")]), "leads out of the archive"),
        (pack(&[file("manifest.json", "{")]), "invalid archive: manifest.json"),
        (pack(&good)[..2000].to_vec(), "unexpected EOF"),
        (b"no archive at all".repeat(100), "invalid tar header"),
        (pack(&[file("oci-layout", "{}"), file("index.json", r#"{"manifests":[]}"#)]), "lists no image"),
    ];
    for (archive, text) in cases {
        let node = Node::new().await;
        let error = load(&node, archive).await.unwrap_err().message();
        assert!(error.contains(text), "{text:?} not in {error:?}");
        node.assert_empty();
    }
}

#[tokio::test]
async fn a_blob_that_is_not_what_its_name_says_is_refused() {
    let (node, image, name) = pulled(&[vec![file("a", "1")]]).await;
    let archive = save(&node, &[&name], &[]).await;
    let layer = format!("blobs/sha256/{}", image.layer_descriptors()[0].digest.hex());
    let spoilt: Files = entries(&archive)
        .into_iter()
        .filter(|(path, ..)| !path.ends_with('/'))
        .map(|(path, _, mut bytes)| {
            if path == layer {
                bytes[10] ^= 1;
            }
            (Entry { size: bytes.len() as u64, ..file(&path, "").0 }, bytes)
        })
        .collect();
    let other = Node::new().await;
    let error = load(&other, pack(&spoilt)).await.unwrap_err().message();
    assert!(error.contains("unexpected digest"), "{error}");
    other.assert_empty();
}

#[tokio::test]
async fn only_the_platforms_asked_for_are_saved_and_loaded() {
    let amd64 = image_for("amd64", &[file("a", "amd")]);
    let arm64 = image_for("arm64", &[file("a", "arm")]);
    let registry = FaultyRegistry::start().await;
    registry.put_image("a", "x", &amd64);
    registry.put_image("a", "y", &arm64);
    registry.put_manifest("a", Some("multi"), &TestImage::index(&[("amd64", &amd64), ("arm64", &arm64)]));
    let reference = registry.image_ref("a:multi");
    let arm = Platform::new("linux", "arm64", "");
    let node = Node::new().await;
    node.pull(&reference).await.unwrap();
    let wanted = PullRequest { platform: Some(arm.clone()), ..request(&reference) };
    drain(node.images.pull(wanted).await.unwrap()).await.unwrap();
    let name = reference.familiar();

    let both = save(&node, &[&name], &[]).await;
    let one = save(&node, &[&name], std::slice::from_ref(&arm)).await;
    let blobs = |archive: &[u8]| entries(archive).iter().filter(|(path, ..)| path.len() > 20).count();
    assert_eq!((blobs(&both), blobs(&one)), (7, 3), "index and twice manifest, config, layer");

    let other = Node::new().await;
    let request = LoadRequest { platforms: vec![arm.clone()], quiet: true };
    drain(other.images.load(request, source(both)).await.unwrap()).await.unwrap();
    let resolved = other.images.resolve(&name, Some(&arm)).await.unwrap();
    assert_eq!(tree(&upper(&resolved, 0))["a"].content, b"arm");
    assert!(other.images.resolve(&name, Some(&Platform::new("linux", "amd64", ""))).await.is_err());
    assert_eq!(other.images.shared.content.list().unwrap().len(), 4);
}

#[tokio::test]
async fn an_import_makes_an_image_of_one_layer() {
    let tree_archive = pack(&[dir("bin"), file("bin/sh", "#!"), file("etc/x", "y")]);
    let node = Node::new().await;
    for archive in [
        tree_archive.clone(),
        gzip(&tree_archive).to_vec(),
        zstd::encode_all(tree_archive.as_slice(), 1).unwrap(),
    ] {
        let request = ImportRequest {
            source: "-".to_owned(),
            reference: Some(ImageRef::parse("imported").unwrap()),
            changes: vec!["CMD [\"/bin/sh\"]".to_owned(), "ENV A=1".to_owned()],
            ..ImportRequest::default()
        };
        let items = drain(node.images.import(request, source(archive)).await.unwrap()).await.unwrap();
        let view = node.images.inspect("imported:latest", None).await.unwrap();
        assert_eq!(items, [Progress::Imported(view.summary.id)]);
        assert_eq!(
            (view.comment.as_str(), view.config.cmd),
            ("Imported from -", Some(vec!["/bin/sh".to_owned()]))
        );
        assert_eq!(view.diff_ids[0].0, digest_of(&tree_archive));
        let resolved = node.images.resolve("imported", None).await.unwrap();
        assert_eq!(tree(&upper(&resolved, 0))["bin/sh"].content, b"#!");
    }
    assert_eq!(node.events_of("import").await.len(), 3);
    let wrong = ImportRequest { changes: vec!["RUN x".to_owned()], ..ImportRequest::default() };
    let Err(error) = node.images.import(wrong, source(tree_archive)).await else { panic!("took RUN") };
    assert_eq!(error.message(), "RUN is not a valid change command");
}

#[tokio::test]
async fn a_commit_adds_the_containers_changes_as_a_layer() {
    if !is_root("a_commit_adds_the_containers_changes_as_a_layer") {
        return;
    }
    let (node, image, name) = pulled(&two_layers()).await;
    let resolved = node.images.resolve(&name, None).await.unwrap();
    let key = SnapshotKey::container(&ContainerId::random());
    let (stack, batch) = node.images.snapshotter().prepare(&key, resolved.chain, Purpose::Container).unwrap();
    node.store.commit(batch).await.unwrap();
    std::fs::create_dir(stack.upper.join("etc")).unwrap();
    std::fs::write(stack.upper.join("etc/added"), "by the container").unwrap();
    let wish = CommitLayer {
        parent: Some(resolved.id),
        parent_manifest: Some(resolved.manifest.digest),
        snapshot: Some(key.clone()),
        config: resolved.config.clone(),
        changes: vec!["LABEL more=1".to_owned()],
        underlying: resolved.config.clone(),
        author: "me".to_owned(),
        comment: "why".to_owned(),
        created_by: "sh".to_owned(),
        reference: Some(ImageRef::parse("committed").unwrap()),
    };
    let id = node.images.commit_layer(wish.clone()).await.unwrap();
    let view = node.images.inspect("committed", None).await.unwrap();
    assert_eq!(
        (view.summary.id, view.diff_ids.len(), view.author.as_str(), view.comment.as_str()),
        (id, 3, "me", "why")
    );
    assert_eq!(view.summary.labels.len(), 2);
    let committed = node.images.resolve("committed", None).await.unwrap();
    assert_eq!(tree(&upper(&committed, 0))["etc/added"].content, b"by the container");
    assert_eq!(committed.layer_dirs[1..], resolved.layer_dirs[..]);
    let history = node.images.history("committed", None).await.unwrap();
    assert_eq!(history[0].id, Some(id));
    assert_eq!(history[1].id, Some(ImageId(image.manifest.digest())), "the parent is an image of its own");

    // Without changes there is no layer.
    std::fs::remove_dir_all(stack.upper.join("etc")).unwrap();
    let same = CommitLayer { reference: None, ..wish };
    let id = node.images.commit_layer(same).await.unwrap();
    assert_eq!(node.images.inspect(&id.to_string(), None).await.unwrap().diff_ids.len(), 2);

    // And it can be saved and loaded elsewhere.
    let archive = save(&node, &["committed"], &[]).await;
    let other = Node::new().await;
    load(&other, archive).await.unwrap();
    let loaded = other.images.resolve("committed", None).await.unwrap();
    assert_eq!(tree(&upper(&loaded, 0))["etc/added"].content, b"by the container");
}

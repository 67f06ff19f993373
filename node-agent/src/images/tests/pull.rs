//! Pulls from a registry that cuts, lies and answers slowly: what is stored, what is told, what is resumed.

use http::Method;
use registry_client::testing::{Fault, Rule};

use super::*;

#[tokio::test]
async fn a_pull_brings_content_and_unpacked_layers_and_tells_in_dockers_order() {
    if !is_root("a_pull_brings_content_and_unpacked_layers_and_tells_in_dockers_order") {
        return;
    }
    let image = image(&two_layers());
    let (_registry, reference) = registry_with("a/b", "v1", &image).await;
    let node = Node::new().await;
    let items = node.pull(&reference).await.unwrap();

    assert_eq!(items[0], Progress::PullingFrom { repository: "a/b".to_owned(), tag: "v1".to_owned() });
    for layer in image.layer_descriptors() {
        let phases = phases(&items, layer);
        assert_eq!(
            (phases.first().unwrap().as_str(), phases.last().unwrap().as_str()),
            ("PullingFsLayer", "PullComplete")
        );
        let wanted = ["VerifyingChecksum", "DownloadComplete"];
        let seen: Vec<&String> = phases.iter().filter(|phase| wanted.contains(&phase.as_str())).collect();
        assert!(seen.is_empty() || seen == wanted, "{phases:?}");
    }
    let end = [
        Progress::Digest(image.manifest.digest()),
        Progress::Pulled { reference: reference.familiar(), newer: true },
    ];
    assert_eq!(items[items.len() - 2..], end);

    let resolved = node.images.resolve(&reference.familiar(), None).await.unwrap();
    assert_eq!(resolved.id.0, image.manifest.digest());
    assert_eq!(
        (resolved.config.cmd.clone(), resolved.warning.clone()),
        (Some(vec!["true".to_owned()]), None)
    );
    let (top, bottom) = (tree(&upper(&resolved, 0)), tree(&upper(&resolved, 1)));
    assert!(top["etc/gone"].is_whiteout);
    assert_eq!(top["etc/name"].content, b"second");
    // The archive of the second layer does not contain the directory: it looks as in the first.
    assert_eq!((top["tmp"].entry.mode, top["tmp"].entry.uid), (0o1777, 7));
    assert_eq!(top["tmp"].entry.mtime, bottom["tmp"].entry.mtime);
    // Nor the target of the hard link.
    assert_eq!(top["hard"].content, bottom["big"].content);

    let pulls = node.events_of("pull").await;
    assert_eq!(pulls[0].actor, reference.familiar());
    assert_eq!(pulls[0].attributes["name"], reference.familiar_name());
    assert_eq!(pulls[0].attributes["made"], "here");
}

#[tokio::test]
async fn a_second_pull_finds_everything_here() {
    let image = image(&[vec![file("a", "1")]]);
    let (registry, reference) = registry_with("a", "v1", &image).await;
    let node = Node::new().await.reopened().await;
    node.pull(&reference).await.unwrap();
    let items = node.pull(&reference).await.unwrap();
    assert_eq!(phases(&items, &image.layer_descriptors()[0]), ["AlreadyExists"]);
    assert_eq!(items.last(), Some(&Progress::Pulled { reference: reference.familiar(), newer: false }));
    assert_eq!(registry.requests_to(&Method::GET, "/blobs/").len(), 2, "config and layer, once");
}

#[tokio::test]
async fn wrong_bytes_are_told_and_leave_nothing() {
    let image = image(&[vec![file("a", &noise(100_000))]]);
    let (registry, reference) = registry_with("a", "v1", &image).await;
    let digest = image.layer_descriptors()[0].digest;
    registry.spoil(Rule::always(&digest.to_string(), Fault::Corrupt));
    let node = Node::new().await;
    let error = node.pull(&reference).await.unwrap_err();
    assert!(error.message().contains("filesystem layer verification failed"), "{}", error.message());
    node.assert_nothing_left().await;
}

#[tokio::test]
async fn a_layer_that_is_not_what_the_config_says_is_refused_and_leaves_nothing() {
    let archive = pack(&[file("a", "real")]);
    let image = image_of("amd64", &[archive], &[pack(&[file("a", "claimed")])]);
    let (_registry, reference) = registry_with("a", "v1", &image).await;
    let node = Node::new().await;
    let error = node.pull(&reference).await.unwrap_err();
    assert!(error.message().contains("wrong diff id"), "{}", error.message());
    assert!(node.images.shared.content.size(image.layer_descriptors()[0].digest).is_none());
    node.assert_nothing_left().await;
}

#[tokio::test]
async fn a_hostile_layer_is_refused_and_leaves_nothing() {
    let image = image(&[vec![file("good", "1")], vec![file("fine", "2"), file("../../../escaped", "3")]]);
    let (_registry, reference) = registry_with("a", "v1", &image).await;
    let node = Node::new().await;
    let error = node.pull(&reference).await.unwrap_err();
    assert!(error.message().contains("leads out of the archive"), "{}", error.message());
    assert_eq!(error.kind(), shoal_types::ErrorKind::InvalidArgument);
    assert!(!node.dir.path().join("escaped").exists());
    node.assert_nothing_left().await;
}

#[tokio::test]
async fn a_cut_download_is_resumed_by_the_next_daemon() {
    let image = image(&[vec![file("a", &noise(400_000))]]);
    let (registry, reference) = registry_with("a", "v1", &image).await;
    let layer = image.layer_descriptors()[0].clone();
    registry.spoil(Rule::once(&layer.digest.to_string(), Fault::CutAfter(200_000)).on(Method::GET));
    let node = Node::new().await;
    node.pull(&reference).await.unwrap_err();
    let partial = node.dir.path().join(format!("content/ingest/{}.part", layer.digest.hex()));
    let kept = std::fs::metadata(&partial).unwrap().len();
    assert!(kept > 0 && kept <= 200_000, "{kept}");

    let node = node.reopened().await;
    node.pull(&reference).await.unwrap();
    let ranges: Vec<String> = registry
        .requests_to(&Method::GET, &layer.digest.to_string())
        .iter()
        .map(|request| request.header("range").to_owned())
        .collect();
    assert!(ranges.last().unwrap().starts_with(&format!("bytes={kept}-")), "{ranges:?}");
    let resolved = node.images.resolve(&reference.familiar(), None).await.unwrap();
    assert_eq!(tree(&upper(&resolved, 0))["a"].content, noise(400_000).as_bytes());
    assert!(!partial.exists());
}

#[tokio::test]
async fn a_corrupt_partial_blob_is_found_out_and_fetched_anew() {
    let image = image(&[vec![file("a", &noise(200_000))]]);
    let (_registry, reference) = registry_with("a", "v1", &image).await;
    let layer = image.layer_descriptors()[0].clone();
    let node = Node::new().await;
    let partial = node.dir.path().join(format!("content/ingest/{}.part", layer.digest.hex()));
    std::fs::write(&partial, vec![0u8; 50_000]).unwrap();
    // The first attempt finds out at its end; whether it begins again by itself is the client's choice.
    if node.pull(&reference).await.is_err() {
        assert!(!partial.exists(), "wrong bytes are not kept");
        node.pull(&reference).await.unwrap();
    }
    let resolved = node.images.resolve(&reference.familiar(), None).await.unwrap();
    assert_eq!(tree(&upper(&resolved, 0))["a"].content, noise(200_000).as_bytes());
}

#[tokio::test]
async fn two_pulls_of_the_same_layer_share_one_download() {
    let layer = vec![file("a", &noise(300_000))];
    let (first, second) = (image(std::slice::from_ref(&layer)), image(&[layer, vec![file("b", "2")]]));
    let (registry, one) = registry_with("a", "v1", &first).await;
    registry.put_image("a", "v2", &second);
    let two = registry.image_ref("a:v2");
    let digest = first.layer_descriptors()[0].digest.to_string();
    registry.spoil(Rule::once(&digest, Fault::Slow(10_000)).on(Method::GET));
    let node = Node::new().await;
    let (one_told, two_told) = tokio::join!(node.pull(&one), node.pull(&two));
    assert_eq!(registry.requests_to(&Method::GET, &digest).len(), 1);
    for told in [one_told.unwrap(), two_told.unwrap()] {
        assert_eq!(phases(&told, &first.layer_descriptors()[0]).last().unwrap(), "PullComplete");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_only_if_it_was_the_last() {
    let image = image(&[vec![file("a", &noise(300_000))]]);
    let (registry, reference) = registry_with("a", "v1", &image).await;
    let digest = image.layer_descriptors()[0].digest;
    registry.spoil(Rule::once(&digest.to_string(), Fault::Slow(20_000)).on(Method::GET));
    let node = Node::new().await;
    let mut leaving = node.images.pull(request(&reference)).await.unwrap();
    let staying = node.images.pull(request(&reference)).await.unwrap();
    leaving.next().await;
    drop(leaving);
    drain(staying).await.unwrap();
    assert_eq!(registry.requests_to(&Method::GET, &digest.to_string()).len(), 1);
}

#[tokio::test]
async fn a_cancelled_pull_keeps_what_it_has_and_no_half_layer() {
    let image = image(&[vec![file("a", &noise(300_000))]]);
    let (registry, reference) = registry_with("a", "v1", &image).await;
    let layer = image.layer_descriptors()[0].clone();
    registry.spoil(Rule::once(&layer.digest.to_string(), Fault::StallAfter(100_000)).on(Method::GET));
    let node = Node::new().await;
    let mut stream = node.images.pull(request(&reference)).await.unwrap();
    let partial = node.dir.path().join(format!("content/ingest/{}.part", layer.digest.hex()));
    while !partial.exists() || std::fs::metadata(&partial).unwrap().len() == 0 {
        stream.next().await.unwrap().unwrap();
    }
    drop(stream);
    // The next pull waits until the cancelled one has let go of the blob.
    node.pull(&reference).await.unwrap();
    let last = registry.requests_to(&Method::GET, &layer.digest.to_string());
    assert!(
        last.last().unwrap().header("range").starts_with("bytes="),
        "the kept bytes are not fetched again"
    );
    let active = node.images.shared.snapshots.list();
    assert_eq!(active.len(), 1, "only the committed layer is left: {active:?}");
}

#[tokio::test]
async fn a_failed_pull_keeps_whole_layers_for_the_next_one() {
    let image = image(&[vec![file("a", "1")], vec![file("b", &noise(50_000))]]);
    let (registry, reference) = registry_with("a", "v1", &image).await;
    let [first, second] = [0, 1].map(|idx| image.layer_descriptors()[idx].digest.to_string());
    registry.spoil(Rule::once(&second, Fault::status(500)).on(Method::GET));
    let node = Node::new().await;
    let mut failing = node.images.pull(request(&reference)).await.unwrap();
    while let Some(Ok(_)) = failing.next().await {}
    drop(failing);
    node.pull(&reference).await.unwrap();
    assert!(registry.requests_to(&Method::GET, &first).len() <= 2);
    assert_eq!(node.tags().await, [reference.familiar()]);
}

#[tokio::test]
async fn the_platform_that_suits_is_taken_from_an_index() {
    let amd64 = image_for("amd64", &[file("a", "amd64")]);
    let arm64 = image_for("arm64", &[file("a", "arm64")]);
    let registry = FaultyRegistry::start().await;
    registry.put_image("a", "amd", &amd64);
    registry.put_image("a", "arm", &arm64);
    let index = TestImage::index(&[("arm64", &arm64), ("amd64", &amd64)]);
    registry.put_manifest("a", Some("multi"), &index);
    let reference = registry.image_ref("a:multi");
    let node = Node::new().await;
    node.pull(&reference).await.unwrap();

    let resolved = node.images.resolve(&reference.familiar(), None).await.unwrap();
    assert_eq!((resolved.id.0, resolved.manifest.digest), (index.digest(), amd64.manifest.digest()));
    let arm = Platform::new("linux", "arm64", "");
    let error = node.images.resolve(&reference.familiar(), Some(&arm)).await.unwrap_err();
    assert!(error.message().ends_with("was found but does not provide the specified platform (linux/arm64)"));
    assert_eq!(error.kind(), shoal_types::ErrorKind::NotFound);

    let wanted = PullRequest { platform: Some(arm.clone()), ..request(&reference) };
    drain(node.images.pull(wanted).await.unwrap()).await.unwrap();
    let resolved = node.images.resolve(&reference.familiar(), Some(&arm)).await.unwrap();
    assert_eq!(tree(&upper(&resolved, 0))["a"].content, b"arm64");
    let listed = node.list().await;
    assert_eq!(listed.len(), 1, "one image with two platforms");

    let riscv = PullRequest { platform: Some(Platform::new("linux", "riscv64", "")), ..request(&reference) };
    let Err(error) = node.images.pull(riscv).await else { panic!("pulled a platform that is not there") };
    assert_eq!(error.message(), "no matching manifest for linux/riscv64 in the manifest list entries");
}

#[tokio::test]
async fn an_image_for_another_machine_runs_with_a_warning() {
    let image = image_for("arm64", &[file("a", "1")]);
    let (_registry, reference) = registry_with("a", "v1", &image).await;
    let node = Node::new().await;
    node.pull(&reference).await.unwrap();
    let resolved = node.images.resolve(&reference.familiar(), None).await.unwrap();
    assert_eq!(
        resolved.warning.as_deref(),
        Some(
            "The requested image's platform (linux/arm64) does not match the detected host platform (linux/amd64) and no specific platform was requested"
        )
    );
}

#[tokio::test]
async fn a_pull_by_digest_leaves_no_tag() {
    let image = image(&[vec![file("a", "1")]]);
    let (registry, _) = registry_with("a", "v1", &image).await;
    let reference = registry.image_ref(&format!("a@{}", image.manifest.digest()));
    let node = Node::new().await;
    node.pull(&reference).await.unwrap();
    let listed = node.list().await;
    assert_eq!((listed[0].tags.len(), &listed[0].digests), (0, &vec![reference.clone()]));
    node.images.resolve(&reference.familiar(), None).await.unwrap();
    node.images.resolve(&image.manifest.digest().hex()[..12], None).await.unwrap();
}

#[tokio::test]
async fn a_name_that_moves_leaves_the_old_image_dangling() {
    let (old, new) = (image(&[vec![file("a", "1")]]), image(&[vec![file("a", "2")]]));
    let (registry, reference) = registry_with("a", "v1", &old).await;
    let node = Node::new().await;
    node.pull(&reference).await.unwrap();
    registry.put_image("a", "v1", &new);
    let items = node.pull(&reference).await.unwrap();
    assert_eq!(items.last(), Some(&Progress::Pulled { reference: reference.familiar(), newer: true }));
    let dangling: Vec<ImageId> =
        node.list().await.into_iter().filter(|image| image.tags.is_empty()).map(|image| image.id).collect();
    assert_eq!(dangling, [ImageId(old.manifest.digest())]);
}

#[tokio::test]
async fn without_a_tag_all_tags_are_pulled() {
    let (one, two) = (image(&[vec![file("a", "1")]]), image(&[vec![file("a", "2")]]));
    let (registry, _) = registry_with("a", "v1", &one).await;
    registry.put_image("a", "v2", &two);
    let node = Node::new().await;
    let repository = registry.image_ref("a");
    let items = node.pull(&repository).await.unwrap();
    assert_eq!(
        node.tags().await,
        [registry.image_ref("a:v1").familiar(), registry.image_ref("a:v2").familiar()]
    );
    assert_eq!(items.last(), Some(&Progress::Pulled { reference: repository.familiar(), newer: true }));
}

#[tokio::test]
async fn failures_before_the_first_item_are_the_answer() {
    let registry = FaultyRegistry::start().await;
    let node = Node::new().await;
    let Err(error) = node.images.pull(request(&registry.image_ref("a:none"))).await else {
        panic!("pulled nothing")
    };
    assert_eq!(error.kind(), shoal_types::ErrorKind::NotFound);
    let scratch = ImageRef::parse("scratch").unwrap();
    let Err(error) = node.images.pull(request(&scratch)).await else { panic!("pulled scratch") };
    assert_eq!(
        (error.kind(), error.message().as_str()),
        (shoal_types::ErrorKind::Forbidden, "'scratch' is a reserved name")
    );
}

//! Blobs and manifests reach the registry, at most once and byte for byte.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use registry_client::testing::{Fault, FaultyRegistry, Gate, Rule, TestImage, TokenPolicy};
use registry_client::{
    BlobReader, BlobSource, Limits, ManifestTarget, Progress, PushedBlob, RegistryConfig, RegistryError,
};
use shoal_types::ErrorKind;

use crate::support::{Watcher, basic, layer, noise, quick_client, quick_config, repository, small_image};

const LEN: usize = 5 << 20;

fn requests(registry: &FaultyRegistry) -> Vec<String> {
    let line = |it: registry_client::testing::SeenRequest| {
        format!("{} {}", it.method, it.path.split('?').next().unwrap_or_default())
    };
    registry.requests().into_iter().map(line).collect()
}

#[tokio::test]
async fn small_blobs_take_one_request_after_the_beginning() {
    let registry = FaultyRegistry::start().await;
    let bytes = noise(1000, 1);
    let blob = layer(&bytes);
    let watcher = Watcher::default();
    let pushed = repository(&registry, "app").push_blob(&blob, &bytes, &[], &watcher).await.unwrap();
    assert_eq!((pushed, registry.blob("app", blob.digest)), (PushedBlob::Uploaded, Some(bytes)));
    assert_eq!(
        requests(&registry),
        [
            "GET /v2/".to_owned(),
            format!("HEAD /v2/app/blobs/{}", blob.digest),
            "POST /v2/app/blobs/uploads/".to_owned(),
            "PUT /v2/app/blobs/uploads/1".to_owned(),
        ]
    );
    assert_eq!(watcher.events().last(), Some(&Progress::Pushed));
}

#[tokio::test]
async fn large_blobs_are_streamed_with_progress() {
    let registry = FaultyRegistry::start().await;
    let bytes = noise(LEN, 1);
    let blob = layer(&bytes);
    let watcher = Watcher::default();
    repository(&registry, "app").push_blob(&blob, &bytes, &[], &watcher).await.unwrap();
    assert!(registry.blob("app", blob.digest) == Some(bytes));
    let total = LEN as u64;
    let events = watcher.events();
    assert_eq!(events[events.len() - 2..], [Progress::Pushing { current: total, total }, Progress::Pushed]);
}

#[tokio::test]
async fn what_the_registry_has_is_not_sent() {
    let registry = FaultyRegistry::start().await;
    let bytes = noise(1000, 1);
    registry.put_blob("app", bytes.clone());
    registry.put_blob("library/origin", bytes.clone());
    let watcher = Watcher::default();
    let pushed = repository(&registry, "app").push_blob(&layer(&bytes), &bytes, &[], &watcher).await.unwrap();
    assert_eq!((pushed, watcher.events()), (PushedBlob::Existed, vec![Progress::AlreadyExists]));

    let from = ["other".to_owned(), "new".to_owned(), "library/origin".to_owned()];
    let pushed = repository(&registry, "new").push_blob(&layer(&bytes), &bytes, &from, &()).await.unwrap();
    assert_eq!(pushed, PushedBlob::Mounted { from: "library/origin".to_owned() });
    assert_eq!(registry.requests_to(&Method::POST, "mount=").len(), 2, "never from itself");
    assert!(registry.requests_to(&Method::PUT, "/").is_empty());
}

#[tokio::test]
async fn a_link_that_cannot_be_made_becomes_an_upload() {
    let registry = FaultyRegistry::start().await;
    let bytes = noise(1000, 1);
    let pushed =
        repository(&registry, "app").push_blob(&layer(&bytes), &bytes, &["none".to_owned()], &()).await;
    assert_eq!(pushed.unwrap(), PushedBlob::Uploaded);
    assert_eq!(
        registry.requests_to(&Method::POST, "/uploads/").len(),
        1,
        "the upload that was begun instead is used"
    );
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on_where_the_registry_says() {
    let registry = FaultyRegistry::start().await;
    let bytes = noise(LEN, 1);
    registry.spoil(Rule::once("/uploads/", Fault::CutUploadAfter(2_000_000)).on(Method::PATCH));
    registry.spoil(Rule::once("/uploads/", Fault::CutUploadAfter(1_500_000)).on(Method::PATCH));
    let watcher = Watcher::default();
    repository(&registry, "app").push_blob(&layer(&bytes), &bytes, &[], &watcher).await.unwrap();
    assert!(registry.blob("app", layer(&bytes).digest) == Some(bytes));
    let patches = registry.requests_to(&Method::PATCH, "/uploads/");
    let ranges: Vec<&str> = patches.iter().map(|it| it.header("content-range")).collect();
    assert_eq!(ranges, ["", "2000000-5242879", "3500000-5242879"]);
    assert_eq!(watcher.n_retries(), 2);
}

#[tokio::test]
async fn an_upload_that_the_registry_has_forgotten_begins_anew() {
    let registry = FaultyRegistry::start().await;
    let bytes = noise(LEN, 1);
    registry.spoil(Rule::once("/uploads/", Fault::refusal(404, "BLOB_UPLOAD_UNKNOWN", "")).on(Method::PATCH));
    repository(&registry, "app").push_blob(&layer(&bytes), &bytes, &[], &()).await.unwrap();
    assert_eq!(registry.requests_to(&Method::POST, "/uploads/").len(), 2);
}

#[tokio::test]
async fn an_overloaded_registry_is_tried_again_and_a_dead_one_given_up() {
    let registry = FaultyRegistry::start().await;
    let bytes = noise(LEN, 1);
    registry.spoil(Rule::once("/uploads/", Fault::status(503)).on(Method::POST));
    registry.spoil(Rule::once("/uploads/", Fault::status(502)).on(Method::PUT));
    repository(&registry, "app").push_blob(&layer(&bytes), &bytes, &[], &()).await.unwrap();

    registry.spoil(Rule::always("/uploads/", Fault::status(500)));
    let other = noise(LEN, 2);
    let error = repository(&registry, "app").push_blob(&layer(&other), &other, &[], &()).await.unwrap_err();
    assert_eq!(error.to_string(), "received unexpected HTTP status: 500 Internal Server Error");
}

#[tokio::test]
async fn a_token_that_dies_during_an_upload_is_renewed() {
    let registry = FaultyRegistry::start().await;
    registry.set_gate(Gate::Token(TokenPolicy {
        users: [("user".to_owned(), "pass".to_owned())].into(),
        ..TokenPolicy::default()
    }));
    let repository = quick_client().repository(&registry.image_ref("app"), basic("user", "pass"));
    let first = noise(1000, 1);
    repository.push_blob(&layer(&first), &first, &[], &()).await.unwrap();
    registry.revoke_tokens();
    let second = noise(LEN, 2);
    repository.push_blob(&layer(&second), &second, &[], &()).await.unwrap();
    assert!(registry.blob("app", layer(&second).digest) == Some(second));
}

#[tokio::test]
async fn a_push_without_credentials_reads_as_dockerds() {
    let registry = FaultyRegistry::start().await;
    registry.set_gate(Gate::Basic { username: "user".to_owned(), password: "pass".to_owned() });
    let bytes = noise(1000, 1);
    let error = repository(&registry, "app").push_blob(&layer(&bytes), &bytes, &[], &()).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("no basic auth credentials", ErrorKind::Internal)
    );
}

#[tokio::test]
async fn denial_reads_as_dockerds() {
    let registry = FaultyRegistry::start().await;
    registry.spoil(Rule::always(
        "/uploads/",
        Fault::refusal(403, "DENIED", "requested access to the resource is denied"),
    ));
    let bytes = noise(1000, 1);
    let error = repository(&registry, "app").push_blob(&layer(&bytes), &bytes, &[], &()).await.unwrap_err();
    assert_eq!(error.to_string(), "denied: requested access to the resource is denied");
    assert_eq!(error.kind(), ErrorKind::Forbidden);
}

/// Ends too early, goes on too long, is something else, or breaks.
struct WrongSource(fn(Bytes) -> io::Result<Bytes>, Bytes);

#[async_trait]
impl BlobSource for WrongSource {
    async fn open(&self, offset: u64) -> io::Result<BlobReader> {
        (self.0)(self.1.clone())?.open(offset).await
    }
}

#[tokio::test]
async fn a_source_that_is_not_what_it_says_ends_the_upload() {
    let wrongs: [fn(Bytes) -> io::Result<Bytes>; 2] =
        [|bytes| Ok(bytes.slice(..bytes.len() - 1)), |_| Err(io::ErrorKind::NotFound.into())];
    for len in [1000, LEN] {
        for wrong in wrongs {
            let registry = FaultyRegistry::start().await;
            let bytes = noise(len, 1);
            let blob = layer(&bytes);
            let source = WrongSource(wrong, bytes);
            let error = repository(&registry, "app").push_blob(&blob, &source, &[], &()).await.unwrap_err();
            assert_eq!(error.to_string(), format!("cannot read blob {}", blob.digest));
            assert!(matches!(error, RegistryError::Source { .. }));
            assert!(registry.blobs("app").is_empty());
            assert_eq!(
                registry.requests_to(&Method::DELETE, "/uploads/").len(),
                1,
                "the upload is taken back"
            );
        }
    }
}

#[tokio::test]
async fn only_the_bytes_of_the_descriptor_are_sent_and_the_registry_checks_them() {
    for len in [1000, LEN] {
        let registry = FaultyRegistry::start().await;
        let repository = repository(&registry, "app");
        let bytes = noise(len, 1);
        let blob = layer(&bytes);
        let longer = WrongSource(|bytes| Ok([&bytes[..], b"!"].concat().into()), bytes.clone());
        repository.push_blob(&blob, &longer, &[], &()).await.unwrap();
        assert!(registry.blob("app", blob.digest) == Some(bytes));

        let other = noise(len, 2);
        let wrong = WrongSource(|bytes| Ok(bytes.iter().rev().copied().collect()), other.clone());
        let error = repository.push_blob(&layer(&other), &wrong, &[], &()).await.unwrap_err();
        assert_eq!(error.to_string(), "digest invalid: provided digest did not match uploaded content");
    }
}

#[tokio::test]
async fn an_image_goes_up_and_comes_down_byte_for_byte() {
    let registry = FaultyRegistry::start().await;
    let image = TestImage::new("amd64", vec![noise(LEN, 1), noise(10, 2)]);
    let repository = repository(&registry, "app");
    let target = ManifestTarget::Tag("1".to_owned());
    let error = repository.push_manifest(&image.manifest, &target).await.unwrap_err();
    assert_eq!(error.to_string(), "manifest blob unknown: blob unknown to registry", "blobs come first");
    let blobs = image.layer_descriptors().iter().zip(&image.layers);
    let config = &image.manifest.as_image().unwrap().config;
    for (descriptor, bytes) in blobs.chain([(config, &image.config)]) {
        repository.push_blob(descriptor, bytes, &[], &()).await.unwrap();
    }
    let pushed = repository.push_manifest(&image.manifest, &target).await.unwrap();
    assert_eq!((pushed.digest, pushed.size), (image.manifest.digest(), image.manifest.bytes.len() as u64));
    assert_eq!(registry.manifest("app", "1"), Some(image.manifest.bytes.clone()));
    let by_digest = ManifestTarget::Digest(image.manifest.digest());
    repository.push_manifest(&image.manifest, &by_digest).await.unwrap();
    assert_eq!(repository.fetch_manifest(&target).await.unwrap(), image.manifest);
}

#[tokio::test]
async fn a_registry_that_stores_something_else_is_found_out() {
    let registry = FaultyRegistry::start().await;
    let image = small_image("amd64");
    registry.put_image("app", "0", &image);
    let other = format!("sha256:{}", "ab".repeat(32));
    registry.spoil(Rule::once("/manifests/", Fault::Header("docker-content-digest", other)).on(Method::PUT));
    let target = ManifestTarget::Tag("1".to_owned());
    let error = repository(&registry, "app").push_manifest(&image.manifest, &target).await.unwrap_err();
    assert!(error.to_string().contains("the registry has stored another manifest"), "{error}");
}

#[tokio::test]
async fn uploads_of_one_push_take_turns() {
    let registry = FaultyRegistry::start().await;
    let limits = Limits { uploads_per_push: 1, ..Limits::default() };
    let client = registry_client::Client::new(RegistryConfig { limits, ..quick_config() }).unwrap();
    let repository = client.repository(&registry.image_ref("app"), registry_client::Credentials::Anonymous);
    let watcher = Watcher::default();
    let uploads: Vec<_> = (0..3)
        .map(|seed| {
            let (repository, watcher) = (repository.clone(), watcher.clone());
            tokio::spawn(async move {
                let bytes = noise(LEN, seed);
                repository.push_blob(&layer(&bytes), &bytes, &[], &watcher).await.unwrap();
            })
        })
        .collect();
    for upload in uploads {
        upload.await.unwrap();
    }
    assert_eq!(watcher.events().iter().filter(|event| **event == Progress::Waiting).count(), 2);
}

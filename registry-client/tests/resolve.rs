//! References lead to verified manifests, or to dockerd's words.

use bytes::Bytes;
use http::Method;
use registry_client::testing::{Fault, FaultyRegistry, Rule, TestImage};
use registry_client::{
    Credentials, MAX_MANIFEST_SIZE, Manifest, ManifestTarget, PlatformSpec, RegistryError, SCHEMA1_TEXT,
    digest_of, media_type,
};
use shoal_types::{ErrorKind, Platform};

use crate::support::{image_ref, noise, quick_client, repository, small_image};

fn tag(name: &str) -> ManifestTarget {
    ManifestTarget::Tag(name.to_owned())
}

fn amd64() -> Platform {
    Platform::new("linux", "amd64", "")
}

#[tokio::test]
async fn a_tag_leads_to_an_image_and_its_config() {
    let registry = FaultyRegistry::start().await;
    let image = small_image("amd64");
    registry.put_image("app", "1", &image);
    let repository = repository(&registry, "app");
    let resolved = repository.resolve(&tag("1"), &amd64()).await.unwrap();
    assert_eq!(resolved.manifest, image.manifest);
    assert_eq!(resolved.target().digest(), image.manifest.digest());
    assert!(resolved.indexes.is_empty() && resolved.platform.is_none());
    let config = repository.fetch_config(&resolved.manifest.as_image().unwrap().config).await.unwrap();
    assert_eq!(config, image.config);
}

#[tokio::test]
async fn an_index_leads_to_the_best_image_even_through_another_index() {
    let registry = FaultyRegistry::start().await;
    let (amd, arm) = (small_image("amd64"), TestImage::new("arm64", vec![noise(100, 9)]));
    registry.put_image("app", "amd", &amd);
    registry.put_image("app", "arm", &arm);
    let inner = TestImage::index(&[("amd64", &amd), ("arm64", &arm)]);
    registry.put_manifest("app", Some("multi"), &inner);
    let outer = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, serde_json::json!(inner.descriptor));
    let outer = Manifest::parse(None, Bytes::from(outer)).unwrap();
    registry.put_manifest("app", Some("nested"), &outer);

    let repository = repository(&registry, "app");
    let resolved = repository.resolve(&tag("multi"), &Platform::new("linux", "arm64", "")).await.unwrap();
    assert_eq!(resolved.manifest, arm.manifest);
    assert_eq!(resolved.platform.map(|spec| spec.architecture).as_deref(), Some("arm64"));
    let resolved = repository.resolve(&tag("nested"), &amd64()).await.unwrap();
    assert_eq!(resolved.indexes, [outer.clone(), inner]);
    assert_eq!((resolved.target(), &resolved.manifest), (&outer, &amd.manifest));

    let error = repository.resolve(&tag("multi"), &Platform::new("linux", "s390x", "")).await.unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/s390x in the manifest list entries");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn indexes_may_not_lead_in_circles() {
    let registry = FaultyRegistry::start().await;
    let mut innermost = Manifest::parse(None, Bytes::from_static(br#"{"manifests":[]}"#)).unwrap();
    for _ in 0..5 {
        let outer = format!(r#"{{"manifests":[{}]}}"#, serde_json::json!(innermost.descriptor));
        registry.put_manifest("app", None, &innermost);
        innermost = Manifest::parse(None, Bytes::from(outer)).unwrap();
    }
    registry.put_manifest("app", Some("deep"), &innermost);
    let error = repository(&registry, "app").resolve(&tag("deep"), &amd64()).await.unwrap_err();
    assert!(matches!(error, RegistryError::NestedTooDeep(3)), "{error}");
}

#[tokio::test]
async fn bytes_are_verified_against_the_digest_asked_for_or_announced() {
    let registry = FaultyRegistry::start().await;
    let image = small_image("amd64");
    registry.put_image("app", "1", &image);
    let repository = repository(&registry, "app");
    let by_digest = ManifestTarget::Digest(image.manifest.digest());
    assert_eq!(repository.fetch_manifest(&by_digest).await.unwrap(), image.manifest);
    for target in [by_digest.clone(), tag("1")] {
        registry.spoil(Rule::once("/manifests/", Fault::Corrupt));
        let error = repository.fetch_manifest(&target).await.unwrap_err();
        let expected = format!("manifest verification failed for digest {}", image.manifest.digest());
        assert_eq!(error.to_string(), expected, "{target}");
    }
    registry.spoil(Rule::once("/manifests/", Fault::NoHeader("docker-content-digest")));
    assert_eq!(
        repository.fetch_manifest(&tag("1")).await.unwrap(),
        image.manifest,
        "no announcement, no check"
    );
}

#[tokio::test]
async fn absence_and_denial_read_as_dockerds() {
    let registry = FaultyRegistry::start().await;
    registry.put_image("team/app", "1", &small_image("amd64"));
    let host = registry.host();
    let error = repository(&registry, "team/app").fetch_manifest(&tag("2")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {host}/team/app:2 not found: manifest unknown: manifest unknown")
    );
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let error = repository(&registry, "none").fetch_manifest(&tag("1")).await.unwrap_err();
    let expected =
        format!("repository {host}/none not found: name unknown: repository name not known to registry");
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::NotFound));

    let denied = Fault::refusal(403, "DENIED", "requested access to the resource is denied");
    registry.spoil(Rule::once("/manifests/", denied));
    let error = repository(&registry, "team/app").fetch_manifest(&tag("1")).await.unwrap_err();
    let expected = format!(
        "pull access denied for {host}/team/app, repository does not exist or may require 'docker login': \
         denied: requested access to the resource is denied"
    );
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::NotFound));

    registry.spoil(Rule::once("/manifests/", Fault::status(404)));
    let error = repository(&registry, "team/app").fetch_manifest(&tag("1")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {host}/team/app:1 not found: manifest unknown: manifest unknown")
    );

    registry.spoil(Rule::always("/manifests/", Fault::status(500)));
    let error = repository(&registry, "team/app").fetch_manifest(&tag("1")).await.unwrap_err();
    assert_eq!(error.to_string(), "received unexpected HTTP status: 500 Internal Server Error");
}

#[tokio::test]
async fn familiar_names_are_used_for_docker_hub() {
    let registry = FaultyRegistry::start().await;
    registry.put_image("library/app", "1", &small_image("amd64"));
    let client = crate::hosts::client_with_hub(&registry);
    let repository = client.repository(&image_ref("app"), Credentials::Anonymous);
    let error = repository.fetch_manifest(&tag("2")).await.unwrap_err();
    assert_eq!(error.to_string(), "manifest for app:2 not found: manifest unknown: manifest unknown");
}

#[tokio::test]
async fn schema_1_is_refused_with_advice() {
    let registry = FaultyRegistry::start().await;
    registry.put_raw_manifest(
        "app",
        Some("old"),
        media_type::DOCKER_SCHEMA1_SIGNED,
        r#"{"schemaVersion":1}"#,
    );
    let error = repository(&registry, "app").fetch_manifest(&tag("old")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(SCHEMA1_TEXT), "{text}");
    assert!(
        text.contains(&format!("Suggest the author of {}/app:old to upgrade", registry.host())),
        "{text}"
    );
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn manifests_larger_than_the_limit_are_not_read() {
    let registry = FaultyRegistry::start().await;
    registry.put_image("app", "1", &small_image("amd64"));
    let expected = format!("is larger than the limit of {MAX_MANIFEST_SIZE}");
    for fault in [Fault::Replace(Bytes::from(vec![b' '; MAX_MANIFEST_SIZE + 1])), Fault::Endless] {
        registry.spoil(Rule::once("/manifests/", fault));
        let error = repository(&registry, "app").fetch_manifest(&tag("1")).await.unwrap_err();
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn a_passing_failure_is_asked_over_and_a_dead_registry_is_not() {
    let registry = FaultyRegistry::start().await;
    registry.put_image("app", "1", &small_image("amd64"));
    registry.spoil(Rule::once("/manifests/", Fault::Hangup));
    registry.spoil(Rule::once("/manifests/", Fault::status(503)));
    repository(&registry, "app").fetch_manifest(&tag("1")).await.unwrap();

    let repository = quick_client().repository(&image_ref("127.0.0.1:1/app"), Credentials::Anonymous);
    let error = repository.fetch_manifest(&tag("1")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused"#
    );
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[tokio::test]
async fn head_asks_for_the_descriptor_only_unless_the_registry_cannot() {
    let registry = FaultyRegistry::start().await;
    let image = small_image("amd64");
    registry.put_image("app", "1", &image);
    let repository = repository(&registry, "app");
    assert_eq!(repository.head_manifest(&tag("1")).await.unwrap(), image.manifest.descriptor);
    assert!(registry.requests_to(&Method::GET, "/manifests/").is_empty());
    registry.spoil(Rule::once("/manifests/", Fault::NoHeader("docker-content-digest")).on(Method::HEAD));
    assert_eq!(repository.head_manifest(&tag("1")).await.unwrap(), image.manifest.descriptor);
    let error = repository.head_manifest(&tag("2")).await.unwrap_err();
    assert!(matches!(error, RegistryError::ManifestNotFound { .. }), "{error}");
}

#[tokio::test]
async fn inspect_tells_descriptor_and_platforms() {
    let registry = FaultyRegistry::start().await;
    let (amd, arm) = (small_image("amd64"), small_image("arm64"));
    registry.put_image("app", "amd", &amd);
    registry.put_image("app", "arm", &arm);
    let index = TestImage::index(&[("amd64", &amd), ("arm64", &arm)]);
    registry.put_manifest("app", Some("multi"), &index);
    let repository = repository(&registry, "app");
    let spec = |architecture: &str| PlatformSpec {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        ..PlatformSpec::default()
    };
    let told = repository.inspect(&tag("multi")).await.unwrap();
    assert_eq!((told.descriptor, told.platforms), (index.descriptor, vec![spec("amd64"), spec("arm64")]));
    let told = repository.inspect(&tag("amd")).await.unwrap();
    assert_eq!((told.descriptor, told.platforms), (amd.manifest.descriptor, vec![spec("amd64")]));
    let error = repository.inspect(&tag("none")).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("manifest unknown: manifest unknown", ErrorKind::NotFound)
    );
}

#[tokio::test]
async fn a_config_that_is_wrong_or_too_large_is_not_taken() {
    let registry = FaultyRegistry::start().await;
    let image = small_image("amd64");
    registry.put_image("app", "1", &image);
    let repository = repository(&registry, "app");
    let mut config = image.manifest.as_image().unwrap().config.clone();
    registry.spoil(Rule::always("/blobs/", Fault::Corrupt));
    let error = repository.fetch_config(&config).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::BlobDigestMismatch { digest } if digest == digest_of(&image.config))
    );
    config.size = u64::MAX;
    let error = repository.fetch_config(&config).await.unwrap_err();
    assert!(matches!(error, RegistryError::ConfigTooLarge { .. }), "{error}");
}

//! Lists that come in pages.

use bytes::Bytes;
use http::Method;
use registry_client::testing::{Fault, FaultyRegistry, Rule};
use registry_client::{Manifest, RegistryError};
use shoal_types::ErrorKind;

use crate::support::{repository, small_image};

#[tokio::test]
async fn all_pages_of_tags_are_read() {
    let registry = FaultyRegistry::start().await;
    let image = small_image("amd64");
    let names: Vec<String> = (0..25).map(|n| format!("v{n:02}")).collect();
    for name in &names {
        registry.put_image("app", name, &image);
    }
    registry.set_page_size(10);
    assert_eq!(repository(&registry, "app").tags().await.unwrap(), names);
    assert_eq!(registry.requests_to(&Method::GET, "/tags/list").len(), 3);
}

#[tokio::test]
async fn tags_of_an_unknown_repository_read_as_dockerds() {
    let registry = FaultyRegistry::start().await;
    let error = repository(&registry, "none").tags().await.unwrap_err();
    let expected = format!(
        "repository {}/none not found: name unknown: repository name not known to registry",
        registry.host()
    );
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::NotFound));
}

#[tokio::test]
async fn pages_that_lead_elsewhere_or_never_end_are_refused() {
    let registry = FaultyRegistry::start().await;
    registry.put_image("app", "1", &small_image("amd64"));
    let link = |target: &str| Fault::Header("link", format!(r#"<{target}>; rel="next""#));
    registry.spoil(Rule::once("/tags/", link("http://other.example/v2/app/tags/list")));
    let error = repository(&registry, "app").tags().await.unwrap_err();
    assert!(error.to_string().ends_with("invalid link to the next page"), "{error}");

    registry.spoil(Rule::always("/tags/", link("/v2/app/tags/list")));
    let error = repository(&registry, "app").tags().await.unwrap_err();
    assert!(error.to_string().ends_with("invalid link to the next page"), "{error}");
    assert!(
        registry.requests_to(&Method::GET, "/tags/").len() <= 3,
        "a page that names itself is seen through"
    );
}

#[tokio::test]
async fn lists_that_are_no_lists_are_refused() {
    for fault in [
        Fault::Replace(Bytes::from_static(b"[")),
        Fault::Replace(Bytes::from_static(b"{\"tags\":1}")),
        Fault::Endless,
    ] {
        let registry = FaultyRegistry::start().await;
        registry.put_image("app", "1", &small_image("amd64"));
        registry.spoil(Rule::always("/tags/", fault));
        let error = repository(&registry, "app").tags().await.unwrap_err();
        assert!(matches!(error, RegistryError::InvalidResponse { .. }), "{error}");
    }
}

#[tokio::test]
async fn referrers_come_from_the_api_or_from_the_tag_that_stands_in_for_it() {
    let registry = FaultyRegistry::start().await;
    let image = small_image("amd64");
    registry.put_image("app", "1", &image);
    let subject = image.manifest.digest();
    let signature = |artifact_type: &str| {
        let mut document: serde_json::Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
        document["subject"] = serde_json::json!(image.manifest.descriptor);
        document["artifactType"] = serde_json::json!(artifact_type);
        Manifest::parse(None, Bytes::from(document.to_string())).unwrap()
    };
    let (one, other) = (signature("application/one"), signature("application/other"));
    let repository = repository(&registry, "app");
    assert!(repository.referrers(subject, None).await.unwrap().is_empty());

    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, serde_json::json!(one.descriptor));
    let index = Manifest::parse(None, Bytes::from(index)).unwrap();
    registry.put_manifest("app", Some(&subject.to_string().replace(':', "-")), &index);
    assert_eq!(repository.referrers(subject, None).await.unwrap(), std::slice::from_ref(&one.descriptor));

    registry.enable_referrers();
    registry.put_manifest("app", None, &one);
    registry.put_manifest("app", None, &other);
    assert_eq!(repository.referrers(subject, None).await.unwrap().len(), 2);
    let found = repository.referrers(subject, Some("application/other")).await.unwrap();
    assert_eq!(found.iter().map(|it| it.digest).collect::<Vec<_>>(), [other.digest()]);
}

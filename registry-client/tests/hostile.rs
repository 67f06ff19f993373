//! Whatever a registry sends, the client neither panics nor hangs nor fills the memory.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use registry_client::testing::{Fault, FaultyRegistry, RawServer, Rule};
use registry_client::{Credentials, ManifestTarget, RegistryError};
use shoal_types::Platform;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::support::{RecordingSink, image_ref, layer, noise, quick_client, repository, small_image};

fn tag() -> ManifestTarget {
    ManifestTarget::Tag("1".to_owned())
}

/// Everything that a pull does, against a server that sends these bytes to whatever is asked.
async fn pull_from(answer: Vec<u8>) -> Vec<Result<(), RegistryError>> {
    let server = RawServer::start(answer).await;
    let repository =
        quick_client().repository(&image_ref(&format!("{}/app", server.host())), Credentials::Anonymous);
    let machine = Platform::new("linux", "amd64", "");
    let bytes = noise(100, 1);
    vec![
        repository.resolve(&tag(), &machine).await.map(drop),
        repository.fetch_blob(&layer(&bytes), &mut RecordingSink::default(), &()).await,
        repository.push_blob(&layer(&bytes), &bytes, &["other".to_owned()], &()).await.map(drop),
        repository.tags().await.map(drop),
        repository.referrers(layer(&bytes).digest, None).await.map(drop),
    ]
}

#[tokio::test]
async fn answers_that_are_no_http_are_errors() {
    let huge_header = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(2 << 20));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(100_000));
    let answers: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0\0\0\0".to_vec(),
        b"HTTP/1.1 200 OK".to_vec(),
        b"HTTP/1.1 999999 X\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\nx".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx".to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
        b"HTTP/1.1 401 X\r\nwww-authenticate: Bearer realm=\"\"\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 401 X\r\nwww-authenticate: Bearer realm=\"file:///etc/passwd\"\r\ncontent-length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 206 X\r\ncontent-range: bytes 99-1/0\r\ncontent-length: 100\r\n\r\n".to_vec(),
        b"HTTP/1.1 307 X\r\nlocation: \xff\xfe\r\ncontent-length: 0\r\n\r\n".to_vec(),
        huge_header.into_bytes(),
        many_headers.into_bytes(),
    ];
    for answer in answers {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        let outcomes = timeout(Duration::from_secs(30), pull_from(answer))
            .await
            .unwrap_or_else(|_| panic!("hangs: {shown}"));
        let [resolved, fetched, _pushed, tags, referrers] = <[_; 5]>::try_from(outcomes).unwrap();
        // What is asked by HEAD has no body to be wrong, so a push may find that everything is there.
        for outcome in [resolved, fetched, tags, referrers] {
            assert!(outcome.is_err(), "{shown}");
        }
    }
}

#[test]
fn no_answer_makes_the_client_panic() {
    let runtime = Runtime::new().unwrap();
    let line = prop_oneof![
        Just("content-length: 3\r\n".to_owned()),
        Just("content-type: application/vnd.oci.image.index.v1+json\r\n".to_owned()),
        Just("transfer-encoding: chunked\r\n".to_owned()),
        Just("www-authenticate: Basic\r\n".to_owned()),
        "(location|link|range|content-range|docker-content-digest|retry-after|www-authenticate): [ -~]{0,40}\r\n",
    ];
    let answer = (200u16..600, proptest::collection::vec(line, 0..4), "[ -~]{0,60}")
        .prop_map(|(status, headers, body)| format!("HTTP/1.1 {status} X\r\n{}\r\n{body}", headers.concat()));
    TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() })
        .run(&answer, |answer| {
            let outcome = runtime.block_on(async {
                timeout(Duration::from_secs(60), pull_from(answer.clone().into_bytes())).await
            });
            prop_assert!(outcome.is_ok(), "hangs: {}", answer);
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn documents_that_are_no_manifest_are_errors() {
    let registry = FaultyRegistry::start().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let documents = [
        "",
        "null",
        "{\"schemaVersion\":2,\"config\":{},\"layers\":[]}",
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:../../x\",\"size\":1},\"layers\":[]}",
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"sha256:00\",\"size\":1e99},\"layers\":[]}",
        &deep,
    ];
    for (n, document) in documents.into_iter().enumerate() {
        let tag = format!("t{n}");
        let media_type = registry_client::media_type::OCI_MANIFEST;
        registry.put_raw_manifest("app", Some(&tag), media_type, Bytes::copy_from_slice(document.as_bytes()));
        let error = repository(&registry, "app").fetch_manifest(&ManifestTarget::Tag(tag)).await.unwrap_err();
        assert_eq!(error.to_string(), "unsupported manifest format", "{document:.40}");
    }
}

#[tokio::test]
async fn error_bodies_without_end_are_cut_off() {
    let registry = FaultyRegistry::start().await;
    registry.put_image("app", "1", &small_image("amd64"));
    let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"{}"}}]}}"#, "x".repeat(1 << 20));
    registry.spoil(Rule::always("/manifests/", Fault::Status { code: 403, headers: Vec::new(), body }));
    let error = repository(&registry, "app").fetch_manifest(&tag()).await.unwrap_err();
    assert!(error.to_string().len() < 4096, "{}", error.to_string().len());
}

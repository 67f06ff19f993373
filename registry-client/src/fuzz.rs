//! What is tried with input from nowhere: what registries send.
//!
//! Start reading at [`manifests`]. The bodies are run by the tests with changed seeds, and by libFuzzer
//! (integration-cli/fuzz/libfuzzer); each panics when something is wrong.

use bytes::Bytes;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};

use crate::auth::challenge;
use crate::manifest::{Manifest, media_type};

/// Documents to begin with for [`manifests`].
pub const MANIFESTS: &[&[u8]] = &[
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":3,"urls":["http://a"]}],"annotations":{"a":"b"}}"#,
    br#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":5,"platform":{"architecture":"arm","os":"linux","variant":"v7","os.features":["x"]}}]}"#,
    br#"{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[],"history":[],"signatures":[]}"#,
];

/// A manifest that is taken has the digest and the length of what was sent, whatever was declared.
pub fn manifests(input: &[u8]) {
    let declared = [None, Some(media_type::OCI_MANIFEST), Some(media_type::DOCKER_LIST), Some("a/b")];
    for declared in declared {
        if let Ok(manifest) = Manifest::parse(declared, Bytes::copy_from_slice(input)) {
            assert_eq!(manifest.descriptor.size, input.len() as u64);
            assert_eq!(manifest.bytes, input);
            assert_eq!(manifest.digest(), crate::manifest::digest_of(input));
        }
    }
}

/// Headers to begin with for [`challenges`].
pub const CHALLENGES: &[&[u8]] = &[
    br#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
    br#"Basic realm="x", Negotiate, Bearer realm=y;z,error="a \" b""#,
    b"Basic dGVzdA==",
];

/// Challenges are few and have names.
pub fn challenges(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    let found = challenge::parse(&headers);
    assert!(found.len() <= 16, "{}", found.len());
    for challenge in found {
        assert!(!challenge.scheme.is_empty());
        assert!(challenge.scopes().all(|scope| !scope.is_empty()));
    }
}

#[cfg(test)]
fuzz_harness::explored! {
    no_manifest_does_harm: manifests(MANIFESTS);
    no_challenge_does_harm: challenges(CHALLENGES);
}

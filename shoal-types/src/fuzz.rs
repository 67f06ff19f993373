//! What is tried with input from nowhere: names as users and clients write them.
//!
//! Start reading at [`references`]. The bodies are run by the tests with changed seeds, and by libFuzzer
//! (integration-cli/fuzz/libfuzzer); each panics when something is wrong.

use crate::container::networking::PortSpec;
use crate::{ContainerId, Digest, ImageRef, Platform};

/// Texts to begin with for [`references`].
pub const REFERENCES: &[&[u8]] = &[
    b"busybox",
    b"docker.io/library/busybox:1.36",
    b"localhost:5000/a/b-c__d.e:latest",
    b"[::1]:5000/x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"docker.io/quay.io/library/busybox:1.36",
    b"index.docker.io/User/x:tag@sha256:00",
    b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
];

/// A reference that is understood is written in a form that is understood as the same one.
pub fn references(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(reference) = ImageRef::parse(&text) else { return };
    for written in [reference.full_name(), reference.familiar()] {
        assert!(!written.is_empty(), "{reference:?}");
    }
    let shown = reference.familiar();
    let again = ImageRef::parse(&shown);
    assert_eq!(again.as_ref(), Ok(&reference), "{text:?} is shown as {shown:?}");
    assert_eq!(reference.with_default_tag().repository().tag(), None);
}

/// Texts to begin with for [`words`].
pub const WORDS: &[&[u8]] = &[
    b"80",
    b"53/UDP",
    b"65535/sctp",
    b"linux/arm/v7",
    b"linux(10.0)/amd64",
    b"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
];

/// Ports, platforms, digests and ids read back as they are written.
pub fn words(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(port) = text.parse::<PortSpec>() {
        assert_eq!(port.to_string().parse(), Ok(port));
    }
    if let Ok(platform) = text.parse::<Platform>() {
        let shown = platform.to_string();
        assert_eq!(shown.parse().ok(), Some(platform), "{text:?} is shown as {shown:?}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse().ok(), Some(digest));
    }
    if let Ok(id) = text.parse::<ContainerId>() {
        assert_eq!(id.to_string().parse().ok(), Some(id));
    }
}

#[cfg(test)]
fuzz_harness::explored! {
    references_read_back: references(REFERENCES);
    words_read_back: words(WORDS);
}

//! Parsed image references with Docker's defaults.
//!
//! Start reading at [`ImageRef::parse`]. The grammar is distribution's `reference` package; the texts of the errors are
//! what clients see, so they are exact. Finding the image that a reference names is `node-agent/src/images`.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::Digest;

/// The registry that is meant when a reference names none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The other name of [`DEFAULT_DOMAIN`], accepted and rewritten.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// The first part of the path of images that have no user's name in front.
const OFFICIAL_PREFIX: &str = "library/";
/// The tag that is meant when a reference has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// Longest repository name (domain and path) that registries accept.
const MAX_NAME_LEN: usize = 255;

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseImageRefError {
    /// Does not follow the grammar.
    #[error("invalid reference format")]
    Format,
    /// Follows the grammar but for capital letters in the path.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// Could be taken for an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// Longer than registries accept.
    #[error("repository name must not be more than {MAX_NAME_LEN} characters")]
    TooLong,
    /// The digest is of an algorithm that Shoal does not compute.
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
}

/// A repository, and optionally a tag and a digest. Always complete: the domain and `library/` are filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// Reads a reference as a user writes it: `busybox`, `quay.io/a/b:1`, `localhost:5000/x@sha256:…`.
    pub fn parse(text: &str) -> Result<Self, ParseImageRefError> {
        if looks_like_id(text) {
            return Err(ParseImageRefError::LooksLikeId(text.to_owned()));
        }
        let (domain, remainder) = split_domain(text);
        let without_tag = remainder.split(':').next().unwrap_or_default();
        if without_tag.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseImageRefError::Uppercase(without_tag.to_owned()));
        }
        let (name, digest) = match remainder.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (remainder.as_str(), None),
        };
        let (path, tag) = match name.split_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (name, None),
        };
        if !is_domain(&domain) || !is_path(path) || !tag.as_deref().is_none_or(is_tag) {
            return Err(ParseImageRefError::Format);
        }
        if domain.len() + 1 + path.len() > MAX_NAME_LEN {
            return Err(ParseImageRefError::TooLong);
        }
        Ok(Self { domain, path: path.to_owned(), tag, digest })
    }

    /// The registry, with its port if it has one.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, such as `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag as written; absent when none was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest as written; absent when none was.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same reference, with `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn with_default_tag(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ParseImageRefError> {
        if !is_tag(tag) {
            return Err(ParseImageRefError::Format);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The repository alone, without tag and digest.
    #[must_use]
    pub fn repository(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// The repository's name with its domain, such as `docker.io/library/busybox`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository's name as users write it, such as `busybox`. It reads back as the same repository: where the short form
    /// would be taken for another registry's or for an id, the name stays whole (`docker.io/quay.io/x`).
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.full_name();
        }
        let short = match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(name) if !name.contains('/') => name,
            _ => &self.path,
        };
        let names_registry = short.split_once('/').is_some_and(|(first, _)| is_registry(first));
        if names_registry || looks_like_id(short) { self.full_name() } else { short.to_owned() }
    }

    /// The whole reference as users write it: familiar name, then `:tag` and `@digest` where present.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

impl fmt::Display for ImageRef {
    /// The complete form, such as `docker.io/library/busybox:latest`; it parses back to the same reference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.full_name()))
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// The first part of a name is a registry only if it could not be a user's name: it has a dot or a colon, is `localhost`, or
/// has a capital letter.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn looks_like_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Separates the registry from the rest and fills in the defaults.
fn split_domain(text: &str) -> (String, String) {
    let (domain, remainder) = match text.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    let domain = if domain == LEGACY_DEFAULT_DOMAIN { DEFAULT_DOMAIN } else { domain };
    let is_official = domain == DEFAULT_DOMAIN && !remainder.contains('/');
    let remainder = if is_official { format!("{OFFICIAL_PREFIX}{remainder}") } else { remainder.to_owned() };
    (domain.to_owned(), remainder)
}

fn parse_digest(text: &str) -> Result<Digest, ParseImageRefError> {
    use crate::digest::ParseDigestError as E;
    text.parse().map_err(|error| match error {
        E::Algorithm => ParseImageRefError::DigestAlgorithm,
        E::Format | E::Length => ParseImageRefError::Format,
    })
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(bracketed) => {
            let Some((address, port)) = bracketed.split_once(']') else { return false };
            let is_address =
                address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') && address.contains(':');
            return is_address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let is_label = |label: &str| {
        let is_edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        is_edge(label.bytes().next())
            && is_edge(label.bytes().last())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Lower-case letters and digits, joined by one dot, one or two underscores, or any number of hyphens.
fn is_path(path: &str) -> bool {
    let is_component = |component: &str| {
        let mut separator = String::new();
        let mut after_alphanumeric = false;
        for character in component.chars() {
            if character.is_ascii_lowercase() || character.is_ascii_digit() {
                let is_joined = matches!(separator.as_str(), "" | "." | "_" | "__")
                    || separator.bytes().all(|b| b == b'-');
                if !is_joined || (!separator.is_empty() && !after_alphanumeric) {
                    return false;
                }
                separator.clear();
                after_alphanumeric = true;
            } else if matches!(character, '.' | '_' | '-') && after_alphanumeric {
                separator.push(character);
            } else {
                return false;
            }
        }
        after_alphanumeric && separator.is_empty()
    };
    path.split('/').all(is_component)
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn references_are_completed_and_shown_as_users_write_them() {
        let hex = "a".repeat(64);
        let cases = [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
            ("user/app", "docker.io/user/app", "user/app"),
            ("localhost/app", "localhost/app", "localhost/app"),
            ("localhost:5000/a/b__c:x", "localhost:5000/a/b__c:x", "localhost:5000/a/b__c:x"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("Host/app", "Host/app", "Host/app"),
            ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ];
        for (text, full, familiar) in cases {
            let parsed = ImageRef::parse(text).unwrap();
            assert_eq!((parsed.to_string().as_str(), parsed.familiar().as_str()), (full, familiar));
        }
        let both = ImageRef::parse(&format!("a:b@sha256:{hex}")).unwrap();
        assert_eq!(both.tag(), Some("b"));
        assert_eq!(both.familiar(), format!("a:b@sha256:{hex}"));
    }

    #[test]
    fn wrong_references_are_refused_with_dockers_texts() {
        let hex = "0123456789abcdef".repeat(4);
        let cases = [
            ("", "invalid reference format"),
            ("a b", "invalid reference format"),
            (":tag", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a@", "invalid reference format"),
            ("a@sha256:12", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("../../etc", "invalid reference format"),
            ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
            ("docker.io/Lib/x", "invalid reference format: repository name (Lib/x) must be lowercase"),
            (
                hex.as_str(),
                "invalid repository name (0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef), cannot specify 64-byte hexadecimal strings",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(ImageRef::parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(text in ".{0,80}") {
            let _ = ImageRef::parse(&text);
        }

        #[test]
        fn what_parses_shows_and_parses_back(text in "([a-z]{1,8}[.:][a-z0-9]{1,4}/)?[a-z0-9]{1,6}([._-][a-z0-9]{1,6}){0,2}(:[A-Za-z0-9_]{1,5})?") {
            if let Ok(parsed) = ImageRef::parse(&text) {
                prop_assert_eq!(ImageRef::parse(&parsed.to_string()), Ok(parsed.clone()));
                prop_assert_eq!(ImageRef::parse(&parsed.familiar()), Ok(parsed));
            }
        }
    }
}

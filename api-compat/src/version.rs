//! Versions of the API: the prefix of a path, its range, and comparing.
//!
//! Start reading at [`ApiVersion`] and [`split_prefix`]. Which version changed what is in `compat`; a handler compares
//! only where the request or the reply has another shape. Versions are compared as numbers, part by part, so that
//! 1.9 is older than 1.10.

use std::fmt;

/// The newest version, and the one assumed when a path has none.
pub const MAX_VERSION: ApiVersion = ApiVersion::new(1, 56);
/// The oldest version that the floor can be set to.
pub const MIN_VERSION: ApiVersion = ApiVersion::new(1, 24);

/// The first version whose clients read errors as JSON; older ones show the body as it is.
const FIRST_WITH_JSON_ERRORS: ApiVersion = ApiVersion::new(1, 24);

/// A version of the API, such as 1.41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

impl ApiVersion {
    /// The version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The version 1.`minor`.
    pub const fn v1(minor: u16) -> Self {
        Self::new(1, minor)
    }

    /// Whether it is older than 1.`minor`.
    pub fn is_below(self, minor: u16) -> bool {
        self < Self::v1(minor)
    }

    /// Whether it is 1.`minor` or newer.
    pub fn is_from(self, minor: u16) -> bool {
        !self.is_below(minor)
    }

    /// Reads digits and dots as Docker does: parts that are missing or not numbers count as 0, further parts are
    /// ignored, numbers that are too large count as the largest.
    pub fn parse_lenient(text: &str) -> Self {
        let mut parts = text.split('.').map(|part| match part.parse::<u16>() {
            Ok(number) => number,
            Err(_) if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) => u16::MAX,
            Err(_) => 0,
        });
        Self { major: parts.next().unwrap_or(0), minor: parts.next().unwrap_or(0) }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why a version is not served. The texts are what clients look at to downgrade.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Older than the floor.
    #[error(
        "client version {asked} is too old. Minimum supported API version is {floor}, please upgrade your client to a newer version"
    )]
    TooOld {
        /// As written in the path.
        asked: String,
        /// The floor.
        floor: ApiVersion,
    },
    /// Newer than [`MAX_VERSION`].
    #[error("client version {asked} is too new. Maximum supported API version is {MAX_VERSION}")]
    TooNew {
        /// As written in the path.
        asked: String,
    },
}

/// Whether a client that asked for this version, or for none, reads errors as JSON.
pub fn reads_json_errors(asked: Option<&str>) -> bool {
    asked.is_none_or(|text| ApiVersion::parse_lenient(text) >= FIRST_WITH_JSON_ERRORS)
}

/// Separates `/v1.41` from the rest of a path: the version as written (digits and dots), and what follows it.
pub fn split_prefix(path: &str) -> (Option<&str>, &str) {
    let Some(after) = path.strip_prefix("/v") else { return (None, path) };
    let end = after.bytes().position(|b| !b.is_ascii_digit() && b != b'.').unwrap_or(after.len());
    let (version, rest) = after.split_at(end);
    if version.is_empty() || !rest.starts_with('/') { (None, path) } else { (Some(version), rest) }
}

/// The version to speak: the newest if none was asked for, else the one asked for if it lies in the range.
pub fn negotiate(asked: Option<&str>, floor: ApiVersion) -> Result<ApiVersion, VersionError> {
    let Some(text) = asked else { return Ok(MAX_VERSION) };
    let version = ApiVersion::parse_lenient(text);
    if version < floor {
        return Err(VersionError::TooOld { asked: text.to_owned(), floor });
    }
    if version > MAX_VERSION {
        return Err(VersionError::TooNew { asked: text.to_owned() });
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_digits_and_dots_before_a_slash() {
        let cases = [
            ("/v1.41/info", (Some("1.41"), "/info")),
            ("/v1/info", (Some("1"), "/info")),
            ("/v.../info", (Some("..."), "/info")),
            ("/info", (None, "/info")),
            ("/v1.x/info", (None, "/v1.x/info")),
            ("/v/info", (None, "/v/info")),
            ("/v1.41", (None, "/v1.41")),
            ("/volumes", (None, "/volumes")),
            ("/version", (None, "/version")),
        ];
        for (path, expected) in cases {
            assert_eq!(split_prefix(path), expected, "{path}");
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(ApiVersion::parse_lenient("1.9") < ApiVersion::parse_lenient("1.10"));
        assert_eq!(ApiVersion::parse_lenient("1.41.7"), ApiVersion::v1(41));
        assert_eq!(ApiVersion::parse_lenient("1.99999999"), ApiVersion::v1(u16::MAX));
        assert_eq!(ApiVersion::parse_lenient(".."), ApiVersion::new(0, 0));
    }

    #[test]
    fn versions_out_of_range_are_refused_with_dockers_texts() {
        assert_eq!(negotiate(None, MIN_VERSION), Ok(MAX_VERSION));
        assert_eq!(negotiate(Some("1.24"), MIN_VERSION), Ok(MIN_VERSION));
        assert_eq!(negotiate(Some("1.56"), MIN_VERSION), Ok(MAX_VERSION));
        assert_eq!(
            negotiate(Some("1.23"), MIN_VERSION).unwrap_err().to_string(),
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        assert_eq!(
            negotiate(Some("1.57"), MIN_VERSION).unwrap_err().to_string(),
            "client version 1.57 is too new. Maximum supported API version is 1.56"
        );
    }
}

//! Who somebody claims to be towards a registry, and the forms in which clients send it.
//!
//! Start reading at [`Credentials`]. Secrets live in [`Secret`], which no `Debug` or log shows. How credentials become
//! an `Authorization` header is `auth.rs`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. The caller must not let it reach a log or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a client may present to a registry or to its token server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Credentials {
    /// Nothing.
    #[default]
    Anonymous,
    /// A user's name and password (or access token in place of one).
    Basic {
        /// The name; it is also sent as `account` to token servers.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token from an earlier login, exchanged for access tokens by OAuth 2.
    Identity(Secret),
    /// An access token, sent as `Authorization: Bearer` as it is.
    RegistryToken(Secret),
}

/// Why a header or body with credentials could not be read. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseCredentialsError {
    /// Not base64 in the URL alphabet.
    #[error("invalid X-Registry-Auth header: must be a base64url-encoded JSON object")]
    Base64,
    /// Not the JSON object that it should be.
    #[error("invalid X-Registry-Auth header: invalid JSON")]
    Json,
}

/// `AuthConfig` of the Docker API: body of POST /auth, content of X-Registry-Auth, values of X-Registry-Config.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// The user's name.
    #[serde(deserialize_with = "null_is_empty")]
    pub username: String,
    /// The password.
    pub password: Secret,
    /// `base64(username:password)`, an older form of the two fields above.
    pub auth: Secret,
    /// Which registry the credentials are for, such as `https://index.docker.io/v1/`.
    #[serde(rename = "serveraddress", deserialize_with = "null_is_empty")]
    pub server_address: String,
    /// A refresh token; wins over name and password, as in dockerd.
    #[serde(rename = "identitytoken")]
    pub identity_token: Secret,
    /// An access token; wins over everything else.
    #[serde(rename = "registrytoken")]
    pub registry_token: Secret,
}

/// The largest header or body with credentials that is looked at.
const MAX_ENCODED_LEN: usize = 256 << 10;

/// The URL alphabet with or without padding: clients send both.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const BASE64_STANDARD: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl AuthConfig {
    /// Reads the value of an `X-Registry-Auth` header. An empty one is no credentials.
    ///
    /// What a malformed one means is the caller's to decide: dockerd pulls anonymously then.
    pub fn from_header(value: &str) -> Result<Self, ParseCredentialsError> {
        if value.is_empty() {
            return Ok(Self::default());
        }
        Self::from_json(&decoded_header(value)?)
    }

    /// Reads the value of an `X-Registry-Config` header, which has credentials for several registries, by their names. An
    /// empty one has none.
    pub fn by_registry(value: &str) -> Result<BTreeMap<String, Self>, ParseCredentialsError> {
        if value.is_empty() {
            return Ok(BTreeMap::new());
        }
        serde_json::from_slice(&decoded_header(value)?).map_err(|_| ParseCredentialsError::Json)
    }

    /// Reads the JSON object itself, as POST /auth has it in its body.
    pub fn from_json(json: &[u8]) -> Result<Self, ParseCredentialsError> {
        let is_blank = json.iter().all(u8::is_ascii_whitespace);
        if is_blank {
            return Ok(Self::default());
        }
        serde_json::from_slice(json).map_err(|_| ParseCredentialsError::Json)
    }

    /// What is presented to the registry.
    pub fn credentials(&self) -> Credentials {
        if !self.registry_token.expose().is_empty() {
            return Credentials::RegistryToken(self.registry_token.clone());
        }
        if !self.identity_token.expose().is_empty() {
            return Credentials::Identity(self.identity_token.clone());
        }
        if !self.username.is_empty() || !self.password.expose().is_empty() {
            return Credentials::Basic { username: self.username.clone(), password: self.password.clone() };
        }
        self.decoded_auth().unwrap_or_default()
    }

    fn decoded_auth(&self) -> Option<Credentials> {
        let decoded = BASE64_STANDARD.decode(self.auth.expose()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        // Go pads the password with NULs in one old client; distribution trims them too.
        let password = Secret::new(password.trim_end_matches('\0'));
        Some(Credentials::Basic { username: username.to_owned(), password })
    }
}

fn decoded_header(value: &str) -> Result<Vec<u8>, ParseCredentialsError> {
    if value.len() > MAX_ENCODED_LEN {
        return Err(ParseCredentialsError::Base64);
    }
    BASE64_URL.decode(value).map_err(|_| ParseCredentialsError::Base64)
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<String>::deserialize(deserializer).map(|text| Self(text.unwrap_or_default()))
    }
}

/// Go reads `null` as the zero value, and some clients rely on it.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(json: &str) -> String {
        base64::engine::general_purpose::URL_SAFE.encode(json)
    }

    #[test]
    fn the_strongest_credential_of_an_auth_config_is_used() {
        let basic = |name: &str, password: &str| Credentials::Basic {
            username: name.to_owned(),
            password: Secret::new(password),
        };
        let cases = [
            (r"{}", Credentials::Anonymous),
            (r#"{"username":"u","password":"p","serveraddress":"x"}"#, basic("u", "p")),
            (r#"{"auth":"dTpwOnE="}"#, basic("u", "p:q")),
            (r#"{"username":"u","identitytoken":"i"}"#, Credentials::Identity(Secret::new("i"))),
            (r#"{"identitytoken":"i","registrytoken":"r"}"#, Credentials::RegistryToken(Secret::new("r"))),
            (r#"{"auth":"%%%"}"#, Credentials::Anonymous),
            (r#"{"unknown":1,"username":null,"password":null}"#, Credentials::Anonymous),
        ];
        for (json, expected) in cases {
            assert_eq!(AuthConfig::from_header(&header(json)).unwrap().credentials(), expected, "{json}");
        }
    }

    #[test]
    fn padding_is_optional_and_nonsense_is_refused() {
        let json = r#"{"username":"user","password":"p"}"#;
        let padded = header(json);
        let bare = padded.trim_end_matches('=');
        assert_ne!(padded, bare);
        assert_eq!(AuthConfig::from_header(bare), AuthConfig::from_header(&padded));
        assert_eq!(AuthConfig::from_header(""), Ok(AuthConfig::default()));
        assert_eq!(AuthConfig::from_header("*"), Err(ParseCredentialsError::Base64));
        assert_eq!(AuthConfig::from_header(&header("[")), Err(ParseCredentialsError::Json));
        assert_eq!(AuthConfig::from_header(&"A".repeat(1 << 20)), Err(ParseCredentialsError::Base64));
    }

    #[test]
    fn secrets_do_not_show() {
        let json = r#"{"username":"u","password":"hunter2","identitytoken":"hunter3","registrytoken":"hunter4","auth":"hunter5"}"#;
        let config = AuthConfig::from_json(json.as_bytes()).unwrap();
        let shown = format!("{config:?} {:?}", config.credentials());
        assert!(!shown.contains("hunter"), "{shown}");
    }
}

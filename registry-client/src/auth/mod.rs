//! How a request comes by its `Authorization` header.
//!
//! Start reading at [`Authenticator::authorization`]. Three ways: a name and password (`Basic`), a token that was given
//! by the caller, or a token fetched from the registry's token server (`token.rs`) and kept until it expires. Reading
//! what the registry wants is `challenge.rs`. Nothing of this reaches a log or an error; headers are marked as sensitive.

pub(crate) mod challenge;
mod token;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderValue, Method, Uri};

use self::challenge::Challenge;
pub(crate) use self::token::{Grant, Offline};
use self::token::{TokenCache, TokenRequest};
use crate::credentials::{Credentials, Secret};
use crate::error::{Refusal, RegistryError, TransportFailure};
use crate::failure::Failure;
use crate::net::transport::{Transport, go_method};
use crate::net::trust::Identity;
use crate::net::url::shown;

/// What somebody wants to do, and who.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) credentials: Credentials,
    /// Scopes of the distribution API, such as `repository:library/busybox:pull`.
    pub(crate) scopes: Vec<String>,
}

/// The registry that is to be convinced.
#[derive(Clone, Copy)]
pub(crate) struct Counterpart<'a> {
    pub(crate) transport: &'a Transport,
    /// Whether it has to prove its identity; a secure registry may not send credentials over open lines.
    pub(crate) identity: Identity,
    pub(crate) challenges: &'a [Challenge],
}

/// Why no header could be had. The request that wanted it is added by [`AuthFailure::for_request`].
#[derive(Debug)]
pub(crate) enum AuthFailure {
    /// A name and password are wanted, and there are none.
    NoBasicCredentials,
    /// They would be readable by everybody on the way to this address.
    Plaintext(String),
    /// The token server refuses.
    Refused(Refusal),
    /// The token server's answer is of no use.
    Unusable(String),
    /// The token server could not be asked, or is in trouble.
    Failed(Box<Failure>),
}

/// Makes `Authorization` headers; keeps tokens. One per client.
#[derive(Debug, Default)]
pub(crate) struct Authenticator {
    tokens: TokenCache,
}

impl Authenticator {
    /// The header for a request, `None` if the registry wants none.
    ///
    /// `rejected` is the header of the last attempt if the registry did not like it: a cached token that is the same is
    /// fetched anew.
    pub(crate) async fn authorization(
        &self,
        counterpart: Counterpart<'_>,
        access: &Access,
        rejected: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, AuthFailure> {
        if let Credentials::RegistryToken(token) = &access.credentials {
            return bearer(token).map(Some);
        }
        let find = |scheme: &str| counterpart.challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(challenge) = find("bearer") {
            let request = TokenRequest::new(counterpart, challenge, access, Offline::No)?;
            return self.tokens.get(request, rejected).await.map(Some);
        }
        match (find("basic"), &access.credentials) {
            (None, _) => Ok(None),
            (Some(_), Credentials::Basic { username, password }) => basic(username, password).map(Some),
            (Some(_), _) => Err(AuthFailure::NoBasicCredentials),
        }
    }

    /// Fetches a token for a login, with the refresh token that comes with it; `None` if the registry has no token
    /// server.
    pub(crate) async fn login(
        &self,
        counterpart: Counterpart<'_>,
        access: &Access,
    ) -> Result<Option<Grant>, AuthFailure> {
        let challenge = counterpart.challenges.iter().find(|challenge| challenge.scheme == "bearer");
        match challenge {
            Some(challenge) => {
                TokenRequest::new(counterpart, challenge, access, Offline::Yes)?.fetch().await.map(Some)
            }
            None => Ok(None),
        }
    }
}

impl AuthFailure {
    /// The error of the request that could not be made.
    pub(crate) fn for_request(self, method: &Method, uri: &Uri) -> Failure {
        let (method, url) = (go_method(method), shown(uri));
        match self {
            Self::NoBasicCredentials => {
                RegistryError::NoBasicCredentials { request: format!("{method} \"{url}\": ") }.into()
            }
            Self::Plaintext(host) => RegistryError::PlaintextCredentials(host).into(),
            Self::Refused(refusal) if refusal.code == "UNAUTHORIZED" => {
                RegistryError::Unauthorized { method, url, refusal }.into()
            }
            Self::Refused(refusal) => RegistryError::Refused(refusal).into(),
            Self::Unusable(problem) => RegistryError::TokenServer { method, url, problem }.into(),
            Self::Failed(failure) => match *failure {
                Failure {
                    error: RegistryError::Transport { method: inner, url: token_url, failure },
                    ..
                } => {
                    let failure = TransportFailure::TokenServer {
                        method: inner,
                        url: token_url,
                        failure: Box::new(failure),
                    };
                    RegistryError::Transport { method, url, failure }.into()
                }
                other => other,
            },
        }
    }
}

/// `Authorization: Basic`.
pub(crate) fn basic(username: &str, password: &Secret) -> Result<HeaderValue, AuthFailure> {
    sensitive(format!("Basic {}", BASE64.encode(format!("{username}:{}", password.expose()))))
}

/// `Authorization: Bearer`.
pub(crate) fn bearer(token: &Secret) -> Result<HeaderValue, AuthFailure> {
    sensitive(format!("Bearer {}", token.expose()))
}

fn sensitive(text: String) -> Result<HeaderValue, AuthFailure> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| AuthFailure::Unusable("token is not a header value".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

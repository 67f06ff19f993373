//! Tokens: fetching them from a token server and keeping them while they are good.
//!
//! Start reading at [`TokenCache::get`], then [`TokenRequest::fetch`]. The protocol is distribution's token
//! specification: GET with name and password or anonymously, POST in the manner of OAuth 2 with a refresh token. A
//! token's age is counted from its arrival by our own clock; what the server says of its clock is not looked at.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Uri};
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;

use super::challenge::Challenge;
use super::{Access, AuthFailure, Counterpart, basic, bearer};
use crate::credentials::{Credentials, Secret};
use crate::error::RegistryError;
use crate::failure::{Failure, refusal_of};
use crate::net::transport::{Payload, Request, Transport};
use crate::net::trust::Identity;
use crate::net::url::{is_absolute_http, is_https, with_query};

/// Tokens that are kept; a node speaks to fewer repositories at a time.
const MAX_TOKENS: usize = 256;
/// What a token lives at least (distribution, registry/client/auth/session.go).
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// A token that dies this soon is fetched anew, so that it does not die on the way.
const MARGIN: Duration = Duration::from_secs(5);
/// Answers of token servers; a token of 16 KiB is large.
const MAX_ANSWER: usize = 1 << 20;
/// How dockerd calls itself towards token servers.
const CLIENT_ID: &str = "docker";

/// Whether a refresh token is wanted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offline {
    Yes,
    No,
}

/// What a token server gives.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) access: HeaderValue,
    /// Empty if there is none.
    pub(crate) refresh: Secret,
    life: Duration,
}

/// Tokens by what they are for.
#[derive(Default)]
pub(super) struct TokenCache {
    slots: Mutex<HashMap<TokenKey, Arc<Slot>>>,
}

/// Only one request at a time fetches a token; the others wait for it.
type Slot = AsyncMutex<Option<Token>>;

#[derive(Debug)]
struct Token {
    header: HeaderValue,
    dies: Instant,
}

impl Token {
    /// Whether the token can still be presented, unless it is the one that was rejected.
    fn is_good(&self, now: Instant, rejected: Option<&HeaderValue>) -> bool {
        self.dies > now + MARGIN && rejected != Some(&self.header)
    }
}

/// Holds no secret: credentials are in it as their digest.
#[derive(Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    realm: String,
    service: String,
    credentials: [u8; 32],
    scopes: Vec<String>,
}

impl TokenCache {
    /// A token for the request, from the cache or from the server.
    pub(super) async fn get(
        &self,
        request: TokenRequest<'_>,
        rejected: Option<&HeaderValue>,
    ) -> Result<HeaderValue, AuthFailure> {
        if let Some(rejected) = rejected {
            self.forget(rejected);
        }
        let slot = self.slot(request.key());
        let mut slot = slot.lock().await;
        if let Some(token) = slot.as_ref()
            && token.is_good(Instant::now(), rejected)
        {
            return Ok(token.header.clone());
        }
        *slot = None;
        let grant = request.fetch().await?;
        *slot = Some(Token { header: grant.access.clone(), dies: Instant::now() + grant.life });
        Ok(grant.access)
    }

    /// Drops a token that was rejected. One that is being fetched right now is not it.
    fn forget(&self, rejected: &HeaderValue) {
        let Ok(slots) = self.slots.lock() else { return };
        for slot in slots.values() {
            if let Ok(mut token) = slot.try_lock()
                && token.as_ref().is_some_and(|token| token.header == *rejected)
            {
                *token = None;
            }
        }
    }

    fn slot(&self, key: TokenKey) -> Arc<Slot> {
        let Ok(mut slots) = self.slots.lock() else { return Arc::default() };
        if slots.len() >= MAX_TOKENS && !slots.contains_key(&key) {
            let is_alive = |slot: &Arc<Slot>| match slot.try_lock() {
                Ok(token) => token.as_ref().is_some_and(|token| token.dies > Instant::now()),
                Err(_being_fetched) => true,
            };
            slots.retain(|_, slot| is_alive(slot));
            if slots.len() >= MAX_TOKENS {
                slots.clear();
            }
        }
        Arc::clone(slots.entry(key).or_default())
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").finish_non_exhaustive()
    }
}

/// Everything about one token that is wanted.
pub(super) struct TokenRequest<'a> {
    transport: &'a Transport,
    realm: Uri,
    service: String,
    scopes: Vec<String>,
    credentials: &'a Credentials,
    offline: Offline,
}

/// Both forms of answers: of GET (`token`, or `access_token` by its OAuth 2 name) and of POST.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<Secret>,
    #[serde(default)]
    access_token: Option<Secret>,
    #[serde(default)]
    refresh_token: Option<Secret>,
    /// A number, but servers are known to send it as text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl<'a> TokenRequest<'a> {
    pub(super) fn new(
        counterpart: Counterpart<'a>,
        challenge: &Challenge,
        access: &'a Access,
        offline: Offline,
    ) -> Result<Self, AuthFailure> {
        let realm = challenge.parameter("realm");
        if realm.is_empty() {
            return Err(AuthFailure::Unusable("no realm specified for token auth challenge".to_owned()));
        }
        let invalid = || AuthFailure::Unusable("invalid token auth challenge realm".to_owned());
        let realm: Uri = realm.parse().map_err(|_| invalid())?;
        if !is_absolute_http(&realm) {
            return Err(invalid());
        }
        let is_exposed = !is_https(&realm) && counterpart.identity == Identity::Proven;
        if is_exposed && access.credentials != Credentials::Anonymous {
            return Err(AuthFailure::Plaintext(
                realm.authority().map(ToString::to_string).unwrap_or_default(),
            ));
        }
        let mut scopes = access.scopes.clone();
        scopes
            .extend(challenge.scopes().filter(|scope| !is_covered(scope, &access.scopes)).map(str::to_owned));
        scopes.sort();
        scopes.dedup();
        let service = challenge.parameter("service").to_owned();
        Ok(Self {
            transport: counterpart.transport,
            realm,
            service,
            scopes,
            credentials: &access.credentials,
            offline,
        })
    }

    fn key(&self) -> TokenKey {
        let (kind, name, secret) = match self.credentials {
            Credentials::Anonymous => ("anonymous", "", ""),
            Credentials::Basic { username, password } => ("basic", username.as_str(), password.expose()),
            Credentials::Identity(token) => ("identity", "", token.expose()),
            Credentials::RegistryToken(token) => ("token", "", token.expose()),
        };
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [kind, name, secret] {
            hash.update(&part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut credentials = [0u8; 32];
        credentials.copy_from_slice(hash.finish().as_ref());
        TokenKey {
            realm: self.realm.to_string(),
            service: self.service.clone(),
            credentials,
            scopes: self.scopes.clone(),
        }
    }

    /// Asks the token server.
    pub(super) async fn fetch(&self) -> Result<Grant, AuthFailure> {
        let request = match self.credentials {
            Credentials::Identity(token) => self.post_form(token),
            Credentials::Anonymous | Credentials::Basic { .. } | Credentials::RegistryToken(_) => {
                self.get_request()?
            }
        };
        let mut response = self
            .transport
            .send(request)
            .await
            .map_err(|error| AuthFailure::Failed(Box::new(error.into())))?;
        if !response.status().is_success() {
            let failure = refusal_of(response).await;
            return Err(match failure.error {
                RegistryError::Refused(refusal) => AuthFailure::Refused(refusal),
                error => AuthFailure::Failed(Box::new(Failure { error, ..failure })),
            });
        }
        let body = response
            .read_at_most(MAX_ANSWER)
            .await
            .map_err(|error| AuthFailure::Failed(Box::new(error.into())))?;
        let unreadable =
            |problem: &str| AuthFailure::Unusable(format!("unable to decode token response: {problem}"));
        let body = body.ok_or_else(|| unreadable("too long"))?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| unreadable(&shape_of(&error)))?;
        self.grant(answer)
    }

    fn grant(&self, answer: Answer) -> Result<Grant, AuthFailure> {
        let is_there = |token: &Secret| !token.expose().is_empty();
        let token = answer.access_token.filter(is_there).or_else(|| answer.token.filter(is_there));
        let none = || {
            AuthFailure::Unusable("authorization server did not include a token in the response".to_owned())
        };
        let number = answer.expires_in.as_f64().or_else(|| answer.expires_in.as_str()?.parse().ok());
        // Durations are built from finite, bounded numbers only; a year is as good as for ever.
        let seconds = number.filter(|seconds| seconds.is_finite()).unwrap_or(0.0).clamp(0.0, 31_536_000.0);
        Ok(Grant {
            access: bearer(&token.ok_or_else(none)?)?,
            refresh: answer.refresh_token.unwrap_or_default(),
            life: Duration::from_secs_f64(seconds).max(SHORTEST_LIFE),
        })
    }

    fn get_request(&self) -> Result<Request, AuthFailure> {
        let mut query: Vec<(&str, &str)> = Vec::new();
        if !self.service.is_empty() {
            query.push(("service", &self.service));
        }
        query.extend(self.scopes.iter().map(|scope| ("scope", scope.as_str())));
        if self.offline == Offline::Yes {
            query.extend([("offline_token", "true"), ("client_id", CLIENT_ID)]);
        }
        let mut authorization = None;
        if let Credentials::Basic { username, password } = self.credentials
            && !username.is_empty()
            && !password.expose().is_empty()
        {
            query.push(("account", username));
            authorization = Some(basic(username, password)?);
        }
        let uri = with_query(&self.realm, &query)
            .ok_or_else(|| AuthFailure::Unusable("invalid token auth challenge realm".to_owned()))?;
        let mut request = Request::new(Method::GET, uri);
        if let Some(authorization) = authorization {
            request.headers.insert(AUTHORIZATION, authorization);
        }
        Ok(request)
    }

    fn post_form(&self, refresh_token: &Secret) -> Request {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", &self.service)
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &self.scopes.join(" "))
            .append_pair("refresh_token", refresh_token.expose())
            .finish();
        let mut request = Request::new(Method::POST, self.realm.clone());
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request.payload = Payload::Bytes(Bytes::from(form));
        request
    }
}

/// Whether all that a scope allows is allowed by one of the others: `repository:a:pull` by `repository:a:pull,push`.
fn is_covered(scope: &str, by: &[String]) -> bool {
    let parts =
        |scope: &str| scope.rsplit_once(':').map(|(what, actions)| (what.to_owned(), actions.to_owned()));
    let Some((what, actions)) = parts(scope) else { return false };
    by.iter().filter_map(|other| parts(other)).any(|(other, granted)| {
        other == what && actions.split(',').all(|action| granted.split(',').any(|it| it == action))
    })
}

/// Where JSON went wrong, without its content, which may be a token.
fn shape_of(error: &serde_json::Error) -> String {
    format!("invalid JSON at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_that_are_asked_for_anyway_are_not_asked_for_twice() {
        let ours = ["repository:a/b:pull,push".to_owned()];
        for (scope, covered) in [
            ("repository:a/b:pull", true),
            ("repository:a/b:push,pull", true),
            ("repository:a/b:delete", false),
            ("repository:a:pull", false),
            ("registry:catalog:*", false),
            ("nonsense", false),
        ] {
            assert_eq!(is_covered(scope, &ours), covered, "{scope}");
        }
    }

    #[test]
    fn tokens_are_good_until_shortly_before_their_end_unless_rejected() {
        let now = Instant::now();
        let header = HeaderValue::from_static("Bearer a");
        let token = Token { header: header.clone(), dies: now + SHORTEST_LIFE };
        assert!(token.is_good(now, None));
        assert!(token.is_good(now, Some(&HeaderValue::from_static("Bearer b"))));
        assert!(!token.is_good(now, Some(&header)));
        assert!(!token.is_good(now + SHORTEST_LIFE - MARGIN, None));
    }
}

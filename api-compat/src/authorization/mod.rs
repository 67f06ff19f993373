//! Authorisation by plugins: each request is shown to them before it is served, each answer before it is sent.
//!
//! Start reading at [`Authorization::of_request`]. Everything is refused that any plugin refuses, or that cannot be asked about:
//! a plugin that fails lets nobody in. Plugins see bodies of JSON and no others, as with dockerd; what is larger than
//! they are shown is refused, because what nobody has looked at was not allowed. Finding and calling plugins is
//! `node_agent::plugins`.

mod certificate;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use node_agent::NodeError;
use node_agent::plugins::Plugins;
use serde::{Deserialize, Serialize};
use shoal_types::ErrorKind;

use crate::error::ApiError;
use crate::reply::{Body, BodyError, Reply};

/// The subsystem that such plugins implement.
const SUBSYSTEM: &str = "authz";
/// The largest body that plugins are shown.
const MAX_BODY: usize = 1 << 20;
/// Headers that carry passwords of registries; plugins have no use for them.
const SECRET_HEADERS: [&str; 2] = ["x-registry-auth", "x-registry-config"];

/// Who is asked about requests. Cheap to clone; clones change together.
#[derive(Debug, Clone)]
pub struct Authorization {
    plugins: Plugins,
    names: Arc<RwLock<Arc<[String]>>>,
}

/// The certificate that a client has shown in the handshake, DER. Whoever accepts connections adds it to each
/// request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate(pub Vec<u8>);

/// What plugins are told.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Question {
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(rename = "UserAuthNMethod", skip_serializing_if = "str::is_empty")]
    user_authn_method: &'static str,
    request_method: String,
    request_uri: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    request_body: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    request_headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    request_peer_certificates: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status_code: Option<u16>,
    #[serde(skip_serializing_if = "String::is_empty")]
    response_body: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    response_headers: BTreeMap<String, String>,
}

/// What a plugin says.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[derive(Default)]
struct Verdict {
    allow: bool,
    msg: String,
    err: String,
}

/// A request that was allowed; its answer has to be allowed too.
#[derive(Debug)]
pub(crate) struct Allowed {
    names: Arc<[String]>,
    question: Question,
    shows_body: bool,
}

impl Authorization {
    /// Asks nobody until it is told to.
    pub fn new(plugins: Plugins) -> Self {
        Self { plugins, names: Arc::new(RwLock::new(Arc::from([]))) }
    }

    /// Fails if one of these plugins is not there. For the start of the daemon.
    pub async fn check(&self, names: &[String]) -> Result<(), NodeError> {
        for name in names {
            self.plugins.get(name, SUBSYSTEM).await?;
        }
        Ok(())
    }

    /// Asks these plugins from now on, in this order.
    pub fn ask(&self, names: &[String]) {
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names.into();
    }

    /// Who is asked; nobody is the usual.
    pub(crate) fn names(&self) -> Arc<[String]> {
        Arc::clone(&self.names.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows a request to the plugins. On success it is given back unchanged, with what its answer will be shown with.
    pub(crate) async fn of_request<B>(
        &self,
        names: Arc<[String]>,
        request: Request<B>,
    ) -> Result<(Request<Body>, Allowed), ApiError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let (head, body) = request.into_parts();
        let shows_body = shows_bodies(head.uri.path());
        let (body, shown) = if shows_body && is_json(&head.headers) {
            let shown = read(body).await?;
            (Body::from(shown.clone()), shown)
        } else {
            (Body::new(body.map_err(Into::into)), Bytes::new())
        };
        let mut question = Question {
            request_method: head.method.to_string(),
            request_uri: head.uri.to_string(),
            request_body: STANDARD.encode(&shown),
            request_headers: shown_headers(&head.headers),
            ..Question::default()
        };
        if let Some(PeerCertificate(der)) = head.extensions.get() {
            question.user = certificate::common_name(der).unwrap_or_default();
            question.user_authn_method = "TLS";
            question.request_peer_certificates = vec![STANDARD.encode(certificate::pem(der))];
        }
        for name in names.iter() {
            self.put(name, "AuthZPlugin.AuthZReq", &question).await?;
        }
        Ok((Request::from_parts(head, body), Allowed { names, question, shows_body }))
    }

    /// Shows an answer to the plugins; what they refuse becomes a refusal. Of one that is still being made they see its
    /// beginning, before anything of it is sent; a connection that is taken over is nothing they could be shown.
    pub(crate) async fn of_reply(&self, allowed: Allowed, reply: Reply) -> Result<Reply, ApiError> {
        if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(reply);
        }
        let Allowed { names, mut question, shows_body } = allowed;
        let (head, body) = reply.into_parts();
        let is_short = body.size_hint().exact().is_some_and(|len| len <= MAX_BODY as u64);
        let body = if shows_body && is_short && is_json(&head.headers) {
            let shown = read(body).await?;
            question.response_body = STANDARD.encode(&shown);
            Body::from(shown)
        } else {
            body
        };
        question.response_status_code = Some(head.status.as_u16());
        question.response_headers = shown_headers(&head.headers);
        for name in names.iter() {
            self.put(name, "AuthZPlugin.AuthZRes", &question).await?;
        }
        Ok(Reply::from_parts(head, body))
    }

    async fn put(&self, name: &str, method: &str, question: &Question) -> Result<(), ApiError> {
        let failed = |error: String| ApiError::internal(format!("plugin {name} failed with error: {error}"));
        let plugin = self.plugins.get(name, SUBSYSTEM).await.map_err(|error| failed(error.message()))?;
        let verdict: Verdict =
            plugin.call(method, question).await.map_err(|error| failed(error.to_string()))?;
        if !verdict.err.is_empty() {
            return Err(failed(verdict.err));
        }
        if verdict.allow {
            return Ok(());
        }
        let message = format!("authorization denied by plugin {name}: {}", verdict.msg);
        Err(ApiError::new(ErrorKind::Forbidden, message))
    }
}

/// Passwords that are checked for a registry are nobody else's business.
fn shows_bodies(path: &str) -> bool {
    !path.ends_with("/auth")
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/json")
}

async fn read<B>(body: B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    let collected = Limited::new(body, MAX_BODY).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            ApiError::new(
                ErrorKind::Forbidden,
                format!("a body of more than {MAX_BODY} bytes cannot be shown to authorization plugins"),
            )
        } else {
            ApiError::invalid(format!("the body cannot be read: {error}"))
        }
    })
}

/// The first value of each header, with names as Go writes them.
fn shown_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut shown = BTreeMap::new();
    for name in headers.keys().filter(|name| !SECRET_HEADERS.contains(&name.as_str())) {
        let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        shown.insert(canonical(name.as_str()), value.unwrap_or_default());
    }
    shown
}

/// `content-type` as `Content-Type`.
fn canonical(name: &str) -> String {
    let mut is_start = true;
    name.chars()
        .map(|c| {
            let c = if is_start { c.to_ascii_uppercase() } else { c };
            is_start = c == '-';
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_json_are_shown_and_passwords_are_not() {
        let headers = |content_type: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
            headers.insert("x-registry-auth", http::HeaderValue::from_static("secret"));
            headers
        };
        assert!(is_json(&headers("Application/JSON; charset=utf-8")));
        assert!(!is_json(&headers("application/x-tar")));
        assert!(!shows_bodies("/v1.41/auth") && shows_bodies("/v1.41/containers/create"));
        let shown = shown_headers(&headers("application/json"));
        assert_eq!(shown, BTreeMap::from([("Content-Type".to_owned(), "application/json".to_owned())]));
    }
}

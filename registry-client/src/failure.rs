//! A failed request, with what decides whether another attempt is worth it.
//!
//! Start reading at [`Failure`]; [`refusal_of`] makes one of a response that is no success. The public error is inside;
//! status and `Retry-After` never leave the crate.

use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use jiff::Timestamp;
use serde::Deserialize;

use crate::auth::challenge;
use crate::error::{Refusal, RegistryError};
use crate::net::transport::Response;

/// How much of an error's body is read.
const MAX_BODY: usize = 64 << 10;
/// How much of a registry's message is shown.
const MAX_MESSAGE: usize = 2048;

/// Why a request failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: RegistryError,
    /// The response's status, if there was a response.
    pub(crate) status: Option<StatusCode>,
    /// How long the server wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self { error, status: None, retry_after: None }
    }
}

/// The error that a response stands for: an error of the distribution API if it can be read as one.
pub(crate) async fn refusal_of(mut response: Response) -> Failure {
    let status = response.status();
    let retry_after = response.header(RETRY_AFTER).and_then(|text| parse_retry_after(text, Timestamp::now()));
    let mut failure =
        Failure { error: RegistryError::UnexpectedStatus(status), status: Some(status), retry_after };
    // Go's client does not look into the body of anything but 4xx either.
    if !status.is_client_error() {
        return failure;
    }
    let from_header = refusal_in_challenge(&response);
    let content_type = response.header(CONTENT_TYPE).unwrap_or_default().to_owned();
    let body = response.read_at_most(MAX_BODY).await.ok().flatten().unwrap_or_default();
    let refusal = from_header.or_else(|| refusal_in_body(status, &content_type, &body));
    if let Some(refusal) = refusal {
        failure.error = RegistryError::Refused(refusal);
    }
    failure
}

/// RFC 6750 has errors in the challenge. Docker Hub answers so for repositories that one may not see.
fn refusal_in_challenge(response: &Response) -> Option<Refusal> {
    let challenges = challenge::parse(&response.headers);
    challenges.iter().filter(|challenge| challenge.scheme == "bearer").find_map(|challenge| {
        let code = match challenge.parameter("error") {
            "invalid_token" => "UNAUTHORIZED",
            "insufficient_scope" => "DENIED",
            _ => return None,
        };
        Some(refusal(code, challenge.parameter("error_description")))
    })
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    errors: Vec<Item>,
    /// A form of token servers from before there was a common one.
    #[serde(default)]
    details: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

fn refusal_in_body(status: StatusCode, content_type: &str, body: &[u8]) -> Option<Refusal> {
    let by_status = |message: &str| {
        let code = match status {
            StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
            StatusCode::FORBIDDEN => "DENIED",
            StatusCode::TOO_MANY_REQUESTS => "TOOMANYREQUESTS",
            _ => return None,
        };
        Some(refusal(code, message))
    };
    // Some registries send JSON without saying so.
    let is_json = content_type.contains("json") || body.first() == Some(&b'{');
    if !is_json {
        return by_status(&String::from_utf8_lossy(body));
    }
    let Ok(document) = serde_json::from_slice::<Document>(body) else { return by_status("") };
    if let Some(details) = document.details.filter(|details| !details.is_empty()) {
        return by_status(&details);
    }
    match document.errors.into_iter().find(|item| !item.code.is_empty()) {
        Some(item) => Some(refusal(&item.code, &item.message)),
        None => by_status(""),
    }
}

/// A refusal with the standard message of the code if there is no other (distribution, api/errcode and api/v2).
pub(crate) fn refusal(code: &str, message: &str) -> Refusal {
    let code: String = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(64).collect();
    let message = printable(message);
    let message = if message.is_empty() { standard_message(&code).to_owned() } else { message };
    Refusal { code, message }
}

fn standard_message(code: &str) -> &'static str {
    match code {
        "UNAUTHORIZED" => "authentication required",
        "DENIED" => "requested access to the resource is denied",
        "UNSUPPORTED" => "The operation is unsupported.",
        "UNAVAILABLE" => "service unavailable",
        "TOOMANYREQUESTS" => "too many requests",
        "NAME_UNKNOWN" => "repository name not known to registry",
        "NAME_INVALID" => "invalid repository name",
        "TAG_INVALID" => "manifest tag did not match URI",
        "MANIFEST_UNKNOWN" => "manifest unknown",
        "MANIFEST_INVALID" => "manifest invalid",
        "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" => "blob unknown to registry",
        "BLOB_UPLOAD_UNKNOWN" => "blob upload unknown to registry",
        "BLOB_UPLOAD_INVALID" => "blob upload invalid",
        "DIGEST_INVALID" => "provided digest did not match uploaded content",
        "SIZE_INVALID" => "provided length did not match content length",
        _ => "unknown error",
    }
}

/// A registry's text ends on somebody's terminal: no control characters, no novels.
fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(MAX_MESSAGE).map(clean).collect()
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_are_read_as_distribution_reads_them() {
        let unauthorized = StatusCode::UNAUTHORIZED;
        let json = "application/json; charset=utf-8";
        let cases = [
            (
                StatusCode::NOT_FOUND,
                json,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                Some("manifest unknown: manifest unknown"),
            ),
            (
                unauthorized,
                json,
                r#"{"details":"incorrect username or password"}"#,
                Some("unauthorized: incorrect username or password"),
            ),
            (unauthorized, "text/plain", "go away\n", Some("unauthorized: go away")),
            (unauthorized, json, "{not json", Some("unauthorized: authentication required")),
            (
                StatusCode::FORBIDDEN,
                json,
                r#"{"errors":[]}"#,
                Some("denied: requested access to the resource is denied"),
            ),
            (StatusCode::TOO_MANY_REQUESTS, "", "", Some("toomanyrequests: too many requests")),
            (StatusCode::NOT_FOUND, "text/html", "<html>", None),
            (
                StatusCode::NOT_FOUND,
                json,
                r#"{"errors":[{"code":"X\u001b[31m","message":"a\u001b[31mb\r\nc"}]}"#,
                Some("x31m: a [31mb  c"),
            ),
        ];
        for (status, content_type, body, expected) in cases {
            let read =
                refusal_in_body(status, content_type, body.as_bytes()).map(|refusal| refusal.to_string());
            assert_eq!(read.as_deref(), expected, "{body}");
        }
        let novel = refusal("X", &"é".repeat(MAX_MESSAGE * 2)).message;
        assert_eq!(novel.chars().count(), MAX_MESSAGE);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let cases = [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(parse_retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}

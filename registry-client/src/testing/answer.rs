//! How the test registry sends its answers, and what faults do to them.
//!
//! Start reading at [`answer`]. What it answers is `routes.rs`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};

use super::fault::Fault;
use super::routes::{Inquiry, Plain, reply, route};
use super::server::{SeenRequest, Shared, lock};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Answers one request; an error closes the connection.
pub(super) async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let path_and_query = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let fault = take_fault(&shared, &head.method, &path_and_query);
    let limit = match &fault {
        Some(Fault::CutUploadAfter(n)) => *n,
        _ => usize::MAX,
    };
    let body = read_body(body, limit).await;
    lock(&shared.seen).push(SeenRequest {
        method: head.method.clone(),
        path: path_and_query,
        headers: head.headers.clone(),
        body_len: body.len(),
    });
    let query =
        form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let path = head.uri.path().to_owned();
    let mut inquiry = Inquiry { method: head.method, path, query, headers: head.headers, body };
    match &fault {
        Some(Fault::Hangup) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Silence) => std::future::pending::<()>().await,
        Some(Fault::IgnoreRange) => {
            inquiry.headers.remove("range");
        }
        _ => {}
    }
    let plain = route(&inquiry, &shared);
    if matches!(fault, Some(Fault::CutUploadAfter(_))) {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    Ok(spoil(plain, fault.as_ref(), &inquiry, &shared))
}

fn take_fault(shared: &Shared, method: &Method, path: &str) -> Option<Fault> {
    let mut rules = lock(&shared.rules);
    let rule = rules.iter_mut().find(|rule| rule.applies_to(method, path))?;
    rule.remaining = rule.remaining.saturating_sub(1);
    Some(rule.fault.clone())
}

async fn read_body(mut body: Incoming, limit: usize) -> Bytes {
    let mut all = Vec::new();
    while all.len() < limit
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Ok(chunk) = frame.into_data() {
            all.extend_from_slice(&chunk);
        }
    }
    all.truncate(limit);
    Bytes::from(all)
}

fn spoil(mut plain: Plain, fault: Option<&Fault>, inquiry: &Inquiry, shared: &Arc<Shared>) -> Response<Body> {
    match fault {
        Some(Fault::Status { code, headers, body }) => {
            plain = reply(StatusCode::from_u16(*code).unwrap(), &[], body.clone());
            for (name, value) in headers {
                plain.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
            }
        }
        Some(Fault::Redirect(base)) => {
            plain = reply(
                StatusCode::TEMPORARY_REDIRECT,
                &[("location", &format!("{base}{}", inquiry.path))],
                "",
            );
        }
        Some(Fault::Corrupt) if !plain.body.is_empty() => {
            let mut bytes = plain.body.to_vec();
            bytes[0] ^= 1;
            plain.body = Bytes::from(bytes);
        }
        Some(Fault::Replace(bytes)) => plain.body = bytes.clone(),
        Some(Fault::WrongRange) if plain.status == StatusCode::PARTIAL_CONTENT => {
            let len = plain.body.len();
            let text = format!("bytes 0-{}/{len}", len.saturating_sub(1));
            plain.headers.insert("content-range", HeaderValue::from_str(&text).unwrap());
        }
        Some(Fault::Header(name, value)) => {
            plain.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        Some(Fault::NoHeader(name)) => {
            plain.headers.remove(*name);
        }
        _ => {}
    }
    let mut response = Response::new(body_for(&plain, fault, inquiry, shared));
    *response.status_mut() = plain.status;
    *response.headers_mut() = plain.headers;
    if !matches!(fault, Some(Fault::Endless)) && !response.headers().contains_key("content-length") {
        response.headers_mut().insert("content-length", HeaderValue::from(plain.body.len()));
    }
    response
}

fn body_for(plain: &Plain, fault: Option<&Fault>, inquiry: &Inquiry, shared: &Arc<Shared>) -> Body {
    let whole = if inquiry.method == Method::HEAD { Bytes::new() } else { plain.body.clone() };
    let piece = match fault {
        Some(Fault::Slow(n)) => *n,
        _ => 64 << 10,
    };
    let end = match fault {
        Some(Fault::CutAfter(n) | Fault::StallAfter(n)) => (*n).min(whole.len()),
        _ => whole.len(),
    };
    let sent = whole.slice(..end);
    let pieces =
        (0..end).step_by(piece.max(1)).map(|at| sent.slice(at..(at + piece).min(end))).collect::<Vec<_>>();
    let pause = matches!(fault, Some(Fault::Slow(_))).then_some(Duration::from_millis(5));
    let frames = stream::iter(pieces).then(move |piece| async move {
        match pause {
            // Slowness is what was asked for.
            Some(pause) => tokio::time::sleep(pause).await,
            None => tokio::task::yield_now().await,
        }
        Ok(Frame::data(piece))
    });
    let counted = plain.is_blob.then(|| BodyCount::new(Arc::clone(shared)));
    let frames = frames.map(move |frame| {
        let _ = &counted;
        frame
    });
    match fault {
        Some(Fault::CutAfter(_)) => StreamBody::new(frames.chain(stream::once(async {
            // What was sent has to reach the client before the connection is torn down, and nobody tells when it has.
            tokio::time::sleep(Duration::from_millis(50)).await;
            Err(io::ErrorKind::ConnectionReset.into())
        })))
        .boxed_unsync(),
        Some(Fault::StallAfter(_)) => StreamBody::new(frames.chain(stream::pending())).boxed_unsync(),
        Some(Fault::Endless) => {
            StreamBody::new(stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b' '; 4096])))))
                .boxed_unsync()
        }
        _ => StreamBody::new(frames).boxed_unsync(),
    }
}

/// Counts bodies of blobs while they are being sent.
struct BodyCount(Arc<Shared>);

impl BodyCount {
    fn new(shared: Arc<Shared>) -> Self {
        let mut active = lock(&shared.active);
        active.0 += 1;
        active.1 = active.1.max(active.0);
        drop(active);
        Self(shared)
    }
}

impl Drop for BodyCount {
    fn drop(&mut self) {
        lock(&self.0.active).0 -= 1;
    }
}

//! A plugin in this process, for tests: answers each method by a function.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixListener;

use super::Plugins;

/// What a plugin answers to a method with arguments: a status and a body.
type Answer = dyn Fn(&str, &Value) -> (u16, Value) + Send + Sync;

/// A plugin that listens as long as it lives.
pub(crate) struct FakePlugin {
    directory: PathBuf,
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl FakePlugin {
    /// Listens as `NAME.sock` in `directory`.
    pub(crate) fn start(
        directory: &Path,
        name: &str,
        answer: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(directory.join(format!("{name}.sock"))).unwrap();
        let calls = Arc::<Mutex<Vec<(String, Value)>>>::default();
        let (answer, seen): (Arc<Answer>, _) = (Arc::new(answer), Arc::clone(&calls));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                        respond(request, Arc::clone(&answer), Arc::clone(&seen))
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { directory: directory.to_owned(), calls, task }
    }

    /// Plugins that are looked for where this one listens.
    pub(crate) fn plugins(&self) -> Plugins {
        Plugins::looking_in(vec![self.directory.clone()], Vec::new())
    }

    /// What was called, with which arguments.
    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        self.calls.lock().unwrap().clone()
    }
}

impl Drop for FakePlugin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Arc<Answer>,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let method = request.uri().path().trim_start_matches('/').to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let arguments = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (status, body) = answer(&method, &arguments);
    seen.lock().unwrap().push((method, arguments));
    let body = match body {
        Value::String(text) => text,
        body => body.to_string(),
    };
    Ok(Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap())
}

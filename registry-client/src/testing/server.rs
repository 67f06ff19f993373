//! The test registry's listener, its log of requests, and its handles for tests.
//!
//! Start reading at [`FaultyRegistry::start`]. How requests are answered is `answer.rs`.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::{HeaderMap, Method};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use shoal_types::{Digest, ImageRef};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::fault::Rule;
use super::gate::{Gate, Tokens};
use super::store::{Store, StoredManifest, TestImage};
use crate::manifest::{Descriptor, Manifest, digest_of};

/// A request that came, for assertions.
#[derive(Debug, Clone)]
pub struct SeenRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// How many bytes of a body were taken.
    pub body_len: usize,
}

impl SeenRequest {
    /// A header's value, empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Everything that requests and tests share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) store: Mutex<Store>,
    pub(super) rules: Mutex<Vec<Rule>>,
    pub(super) seen: Mutex<Vec<SeenRequest>>,
    pub(super) gate: Mutex<Gate>,
    pub(super) tokens: Mutex<Tokens>,
    pub(super) page_size: Mutex<Option<usize>>,
    pub(super) search_results: Mutex<serde_json::Value>,
    /// `http://host:port` of this server.
    pub(super) url: String,
    /// Bodies that are being sent now, and the most there were at once.
    pub(super) active: Mutex<(usize, usize)>,
    pub(super) with_referrers: Mutex<bool>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no handler of the test registry panics")
}

/// A registry in memory that can be told to misbehave. Ends when it is dropped.
#[derive(Debug)]
pub struct FaultyRegistry {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl FaultyRegistry {
    /// Starts on a free loopback port, speaking plain HTTP.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts on a free loopback port, speaking TLS.
    pub async fn start_tls(config: Arc<ServerConfig>) -> Self {
        Self::start_with(Some(TlsAcceptor::from(config))).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared { url: format!("{scheme}://{address}"), ..Shared::default() });
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// Host and port, as in references.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Scheme, host and port.
    pub fn url(&self) -> String {
        self.shared.url.clone()
    }

    /// The reference of something in this registry.
    pub fn image_ref(&self, name: &str) -> ImageRef {
        ImageRef::parse(&format!("{}/{name}", self.address)).unwrap()
    }

    /// Spoils answers; of several rules that apply the first one given is used.
    pub fn spoil(&self, rule: Rule) {
        lock(&self.shared.rules).push(rule);
    }

    /// Lets only those in who satisfy the gate.
    pub fn set_gate(&self, gate: Gate) {
        *lock(&self.shared.gate) = gate;
    }

    /// Makes all tokens that were handed out worthless.
    pub fn revoke_tokens(&self) {
        lock(&self.shared.tokens).revoke_all();
    }

    /// Gives lists in pages of this many entries, whatever is asked for.
    pub fn set_page_size(&self, n: usize) {
        *lock(&self.shared.page_size) = Some(n);
    }

    /// What a search finds: a JSON list of results.
    pub fn set_search_results(&self, results: serde_json::Value) {
        *lock(&self.shared.search_results) = results;
    }

    /// Offers the referrers API, which Debian's docker-registry does not.
    pub fn enable_referrers(&self) {
        *lock(&self.shared.with_referrers) = true;
    }

    /// Stores a blob and returns its digest.
    pub fn put_blob(&self, name: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = digest_of(&bytes);
        lock(&self.shared.store).repository(name).blobs.insert(digest, bytes);
        digest
    }

    /// Stores a manifest, under a tag too if one is given.
    pub fn put_manifest(&self, name: &str, tag: Option<&str>, manifest: &Manifest) -> Descriptor {
        self.put_raw_manifest(name, tag, &manifest.descriptor.media_type, manifest.bytes.clone());
        manifest.descriptor.clone()
    }

    /// Stores any bytes as a manifest.
    pub fn put_raw_manifest(&self, name: &str, tag: Option<&str>, media_type: &str, bytes: impl Into<Bytes>) {
        let stored = StoredManifest { media_type: media_type.to_owned(), bytes: bytes.into() };
        let digest = digest_of(&stored.bytes);
        let mut store = lock(&self.shared.store);
        let repository = store.repository(name);
        repository.manifests.insert(digest, stored);
        if let Some(tag) = tag {
            repository.tags.insert(tag.to_owned(), digest);
        }
    }

    /// Stores an image with all its blobs.
    pub fn put_image(&self, name: &str, tag: &str, image: &TestImage) {
        for blob in image.layers.iter().chain([&image.config]) {
            self.put_blob(name, blob.clone());
        }
        self.put_manifest(name, Some(tag), &image.manifest);
    }

    /// A blob that somebody has pushed.
    pub fn blob(&self, name: &str, digest: Digest) -> Option<Bytes> {
        lock(&self.shared.store).repository(name).blobs.get(&digest).cloned()
    }

    /// A manifest's bytes by tag or digest.
    pub fn manifest(&self, name: &str, reference: &str) -> Option<Bytes> {
        lock(&self.shared.store).manifest(name, reference).map(|(_, stored)| stored.bytes)
    }

    /// All requests so far, in order.
    pub fn requests(&self) -> Vec<SeenRequest> {
        lock(&self.shared.seen).clone()
    }

    /// Requests of a method whose path contains a text.
    pub fn requests_to(&self, method: &Method, path: &str) -> Vec<SeenRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.method == *method && request.path.contains(path));
        requests
    }

    /// The most bodies of blobs that were sent at the same time.
    pub fn most_concurrent_bodies(&self) -> usize {
        lock(&self.shared.active).1
    }

    /// Digests of all blobs of a repository.
    pub fn blobs(&self, name: &str) -> HashSet<Digest> {
        lock(&self.shared.store).repository(name).blobs.keys().copied().collect()
    }
}

impl Drop for FaultyRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connections end with the listener, because the set that holds them does.
async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, shared).await;
                    }
                }
                None => serve(stream, shared).await,
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: Arc<Shared>) {
    let service = service_fn(move |request: http::Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { super::answer::answer(request, shared).await }
    });
    // A connection that a fault has broken ends with an error; that is what it is for.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

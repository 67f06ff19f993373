//! A registry that serves what it is given and misbehaves as it is told.
//!
//! It speaks just enough of the distribution protocol for a pull: `/v2/`, manifests and blobs by GET and HEAD, ranges,
//! and a token endpoint. It takes nothing (no push), and it answers one request per connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::images::{Image, sha256};
use crate::net::Place;

/// Media type of Docker's own manifests.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Media type of Docker's own manifest lists.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Media type of OCI manifests.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of OCI indexes.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The token that [`Fault::WantsToken`] asks for.
const TOKEN: &str = "dG9rZW4gb2YgYSB0ZXN0";

/// Smaller blobs are not held: configurations, which tell what else to fetch.
const LEAST_HELD: usize = 64 * 1024;

/// One way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Cuts the connection in the middle of a blob, this many times.
    CutBlob(u32),
    /// Sends half of a large blob and then nothing more until the client goes, this many times.
    HoldBlob(u32),
    /// Answers blobs with this status instead, this many times.
    BlobStatus(u16, u32),
    /// Sends blobs whose last byte is another one.
    CorruptBlob,
    /// Sends a manifest whose digest is not the one asked for.
    WrongManifest,
    /// Asks for a bearer token, which its own token endpoint gives to anybody.
    WantsToken,
}

/// Something to serve.
#[derive(Debug, Clone)]
struct Served {
    media_type: String,
    content: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    served: BTreeMap<String, Served>,
    faults: Vec<Fault>,
    requests: Vec<String>,
}

/// The running registry. It goes on until the test process ends, as a thread that waits for callers.
#[derive(Debug, Clone)]
pub struct FakeRegistry {
    /// `host:port` as it stands in image names.
    pub name: String,
    state: Arc<Mutex<State>>,
}

/// The form in which an image is put into the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Docker schema 2, layers compressed by gzip.
    Docker,
    /// OCI, layers compressed by gzip.
    Oci,
    /// OCI, layers not compressed.
    OciPlain,
}

impl FakeRegistry {
    /// Starts an empty registry on loopback of `place`.
    #[must_use]
    pub fn start(place: Place) -> Self {
        Self::start_on(place, "127.0.0.1")
    }

    /// Starts an empty registry on an address of `place`.
    #[must_use]
    pub fn start_on(place: Place, address: &str) -> Self {
        let address = format!("{address}:0");
        let listener = place.enter(move || TcpListener::bind(address)).expect("a listener");
        let name = listener.local_addr().expect("a bound address").to_string();
        let registry = Self { name, state: Arc::default() };
        let serving = registry.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.answer(stream));
            }
        });
        registry
    }

    /// Adds a fault.
    pub fn misbehave(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Ends all faults.
    pub fn behave(&self) {
        self.lock().faults.clear();
    }

    /// The requests so far, `METHOD PATH` or, for a part of a blob, `METHOD PATH RANGE`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    /// Puts an image under `repository:tag`; returns its descriptor, to be used in an index.
    pub fn put_image(&self, repository: &str, tag: &str, image: &Image, form: Form) -> Value {
        let config = image.config_json();
        let (kind, config_type, layer_type) = match form {
            Form::Docker => (
                DOCKER_MANIFEST,
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            ),
            Form::Oci => (
                OCI_MANIFEST,
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
            Form::OciPlain => (
                OCI_MANIFEST,
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar",
            ),
        };
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|layer| {
                let blob = if form == Form::OciPlain { layer.clone() } else { gzip(layer) };
                let descriptor =
                    json!({"mediaType": layer_type, "digest": sha256(&blob), "size": blob.len()});
                self.put_blob(repository, blob);
                descriptor
            })
            .collect();
        let config_descriptor =
            json!({"mediaType": config_type, "digest": sha256(&config), "size": config.len()});
        self.put_blob(repository, config);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": kind, "config": config_descriptor, "layers": layers});
        let mut descriptor = self.put_manifest(repository, tag, kind, &manifest);
        descriptor["platform"] = json!({"os": "linux", "architecture": image.architecture});
        descriptor
    }

    /// Puts an index over `manifests` under `repository:tag`.
    pub fn put_index(&self, repository: &str, tag: &str, media_type: &str, manifests: &[Value]) -> Value {
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        self.put_manifest(repository, tag, media_type, &index)
    }

    /// Puts in-toto statements (type and text) about an image as BuildKit does; returns the descriptor to be used in the index
    /// beside the image's.
    pub fn put_statements(&self, repository: &str, image: &Value, statements: &[(&str, &str)]) -> Value {
        let blob = |media_type: &str, content: &str| {
            self.put_blob(repository, content.into());
            json!({"mediaType": media_type, "digest": sha256(content.as_bytes()), "size": content.len()})
        };
        let layers: Vec<Value> = statements
            .iter()
            .map(|(predicate_type, text)| {
                let mut layer = blob("application/vnd.in-toto+json", text);
                layer["annotations"] = json!({"in-toto.io/predicate-type": predicate_type});
                layer
            })
            .collect();
        let config = blob("application/vnd.oci.image.config.v1+json", "{}");
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        let mut descriptor = self.put_manifest(repository, "attestation", OCI_MANIFEST, &manifest);
        descriptor["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        descriptor["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": image["digest"],
        });
        descriptor
    }

    fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &Value) -> Value {
        let content = manifest.to_string().into_bytes();
        let digest = sha256(&content);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": content.len()});
        let served = Served { media_type: media_type.to_owned(), content };
        let mut state = self.lock();
        state.served.insert(format!("/v2/{repository}/manifests/{digest}"), served.clone());
        state.served.insert(format!("/v2/{repository}/manifests/{tag}"), served);
        descriptor
    }

    fn put_blob(&self, repository: &str, content: Vec<u8>) {
        let path = format!("/v2/{repository}/blobs/{}", sha256(&content));
        self.lock()
            .served
            .insert(path, Served { media_type: "application/octet-stream".to_owned(), content });
    }

    fn answer(&self, mut stream: TcpStream) {
        let Some(request) = Head::read(&stream) else { return };
        self.lock().requests.push(request.label());
        let plan = self.plan(&request);
        // The other side may have gone; then there is nobody to answer.
        plan.send(&mut stream, &request).ok();
    }

    fn plan(&self, request: &Head) -> Plan {
        let mut state = self.lock();
        let path = request.path.split('?').next().unwrap_or_default();
        if path == "/token" {
            return Plan::text(
                200,
                &json!({"token": TOKEN, "access_token": TOKEN, "expires_in": 300}).to_string(),
            );
        }
        if state.faults.contains(&Fault::WantsToken) && request.authorization != format!("Bearer {TOKEN}") {
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"test\"", self.name);
            return Plan { headers: vec![("Www-Authenticate".to_owned(), realm)], ..Plan::text(401, "{}") };
        }
        if path == "/v2/" {
            return Plan::text(200, "{}");
        }
        let is_blob = path.contains("/blobs/") && request.method == "GET";
        let Some(served) = state.served.get(path).cloned() else {
            let code = if path.contains("/blobs/") { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" };
            return Plan::text(404, &json!({"errors": [{"code": code, "message": "unknown"}]}).to_string());
        };
        let mut plan = Plan::of(&served);
        for fault in &mut state.faults {
            match fault {
                Fault::CutBlob(left) if is_blob && *left > 0 => {
                    *left -= 1;
                    plan.cut = true;
                }
                Fault::HoldBlob(left) if is_blob && served.content.len() > LEAST_HELD && *left > 0 => {
                    *left -= 1;
                    plan.cut = true;
                    plan.hold = true;
                }
                Fault::BlobStatus(status, left) if is_blob && *left > 0 => {
                    *left -= 1;
                    return Plan::text(*status, "{}");
                }
                Fault::CorruptBlob if is_blob => {
                    if let Some(last) = plan.content.last_mut() {
                        *last ^= 0x55;
                    }
                }
                Fault::WrongManifest if path.contains("/manifests/") => plan.content.push(b' '),
                _ => {}
            }
        }
        plan
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What will be sent.
struct Plan {
    status: u16,
    headers: Vec<(String, String)>,
    content: Vec<u8>,
    cut: bool,
    hold: bool,
}

impl Plan {
    fn text(status: u16, text: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { status, headers, content: text.as_bytes().to_vec(), cut: false, hold: false }
    }

    fn of(served: &Served) -> Self {
        let headers = vec![
            ("Content-Type".to_owned(), served.media_type.clone()),
            ("Docker-Content-Digest".to_owned(), sha256(&served.content)),
            ("Accept-Ranges".to_owned(), "bytes".to_owned()),
        ];
        Self { status: 200, headers, content: served.content.clone(), cut: false, hold: false }
    }

    fn send(mut self, stream: &mut TcpStream, request: &Head) -> std::io::Result<()> {
        if let (200, Some(from)) = (self.status, request.range_start) {
            let total = self.content.len();
            self.status = 206;
            self.content.drain(..from.min(total));
            let range = format!("bytes {from}-{}/{total}", total.saturating_sub(1));
            self.headers.push(("Content-Range".to_owned(), range));
        }
        let mut head = format!("HTTP/1.1 {} Test\r\nConnection: close\r\n", self.status);
        head += &format!(
            "Docker-Distribution-Api-Version: registry/2.0\r\nContent-Length: {}\r\n",
            self.content.len()
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        let end = if self.cut { self.content.len() / 2 } else { self.content.len() };
        if request.method != "HEAD" {
            stream.write_all(&self.content[..end])?;
        }
        if self.hold {
            // Ends when the client closes its side.
            stream.read_to_end(&mut Vec::new())?;
        }
        stream.shutdown(std::net::Shutdown::Write)
    }
}

/// The part of a request that matters here.
struct Head {
    method: String,
    path: String,
    authorization: String,
    range_start: Option<usize>,
}

impl Head {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let first = lines.next()?;
        let mut words = first.split(' ');
        let mut head = Self {
            method: words.next()?.to_owned(),
            path: words.next()?.to_owned(),
            authorization: String::new(),
            range_start: None,
        };
        for line in lines.take_while(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("authorization") {
                value.clone_into(&mut head.authorization);
            } else if name.eq_ignore_ascii_case("range") {
                let start = value.strip_prefix("bytes=").and_then(|range| range.split('-').next());
                head.range_start = start.and_then(|start| start.parse().ok()).filter(|start| *start > 0);
            }
        }
        Some(head)
    }

    fn label(&self) -> String {
        let range = self.range_start.map(|from| format!(" bytes={from}-")).unwrap_or_default();
        format!("{} {}{range}", self.method, self.path)
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).expect("compressing in memory");
    encoder.finish().expect("compressing in memory")
}

//! Round trips with Debian's docker-registry and with skopeo.
//!
//! Start reading at [`DockerRegistry::start`]. Needs the packages docker-registry and skopeo; says so if they are not
//! there. Everything is on loopback and below a temporary directory.

use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use registry_client::testing::{Direction, Relay, TestImage, TunnelProxy};
use registry_client::{
    Client, Credentials, ManifestTarget, Progress, Proxies, PushedBlob, RegistryConfig, RegistryError,
    Repository,
};
use shoal_types::{ErrorKind, Platform};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::certificates::{authority, issued_by, parameters};
use crate::hosts::names;
use crate::support::{
    RecordingSink, SinkEvent, Watcher, basic, image_ref, layer, noise, quick_client, quick_config,
};

/// `user:pass` in the form of htpasswd(1).
const HTPASSWD: &str = "user:$2b$04$0WQE3ZLq7SJYDQeCw5HbkOScj0/720rxniVIopBQ/CFwXqyg6A0aK\n";

#[expect(clippy::disallowed_methods, reason = "tests start the programs that they test against")]
fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// A docker-registry of the test's own; ends with it.
struct DockerRegistry {
    host: String,
    dir: tempfile::TempDir,
    _child: Child,
}

impl DockerRegistry {
    /// Starts one with more lines for its `http` section and more sections of its configuration.
    async fn start(dir: tempfile::TempDir, http: &str, sections: &str) -> Self {
        let data = dir.path().join("data");
        let config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:0\n{http}{sections}",
            data.display()
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = program("docker-registry");
        let child = command.arg("serve").arg(&file).stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = child.expect("docker-registry must be installed (apt install docker-registry)");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = loop {
            let line = lines.next_line().await.unwrap().expect("docker-registry ended at once");
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.split(['"', ',']).next().unwrap().to_owned();
            }
        };
        // Somebody has to read on, or the registry would stop at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { host, dir, _child: child }
    }

    async fn plain() -> Self {
        Self::start(tempfile::tempdir().unwrap(), "", "").await
    }

    fn repository(&self, name: &str) -> Repository {
        quick_client().repository(&image_ref(&format!("{}/{name}", self.host)), Credentials::Anonymous)
    }
}

/// A layer as image builders make them.
fn real_layer(files: &[(&str, Bytes)]) -> Bytes {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, path, &content[..]).unwrap();
    }
    Bytes::from(archive.into_inner().unwrap().finish().unwrap())
}

fn real_image() -> TestImage {
    TestImage::new(
        "amd64",
        vec![
            real_layer(&[("etc/hostname", Bytes::from_static(b"test\n")), ("bin/tool", noise(5 << 20, 1))]),
            real_layer(&[("etc/motd", Bytes::from_static(b"hello\n"))]),
        ],
    )
}

fn tag(name: &str) -> ManifestTarget {
    ManifestTarget::Tag(name.to_owned())
}

async fn push(repository: &Repository, image: &TestImage, tag: &ManifestTarget) -> Vec<PushedBlob> {
    let config = &image.manifest.as_image().unwrap().config;
    let mut outcomes = Vec::new();
    let blobs = image.layer_descriptors().iter().zip(&image.layers).chain([(config, &image.config)]);
    for (descriptor, bytes) in blobs {
        outcomes.push(repository.push_blob(descriptor, bytes, &["app".to_owned()], &()).await.unwrap());
    }
    repository.push_manifest(&image.manifest, tag).await.unwrap();
    outcomes
}

async fn pull(repository: &Repository, image: &TestImage, tag: &ManifestTarget) {
    let resolved = repository.resolve(tag, &Platform::new("linux", "amd64", "")).await.unwrap();
    assert_eq!(resolved.manifest, image.manifest);
    let manifest = resolved.manifest.as_image().unwrap();
    assert_eq!(repository.fetch_config(&manifest.config).await.unwrap(), image.config);
    for (descriptor, bytes) in manifest.layers.iter().zip(&image.layers) {
        let mut sink = RecordingSink::default();
        repository.fetch_blob(descriptor, &mut sink, &()).await.unwrap();
        assert!(sink.bytes == *bytes);
    }
}

#[tokio::test]
async fn images_go_up_and_down_and_are_shared_between_repositories() {
    let registry = DockerRegistry::plain().await;
    let image = real_image();
    let app = registry.repository("app");
    assert_eq!(push(&app, &image, &tag("1")).await, vec![PushedBlob::Uploaded; 3]);
    pull(&app, &image, &tag("1")).await;
    pull(&app, &image, &ManifestTarget::Digest(image.manifest.digest())).await;
    assert_eq!(push(&app, &image, &tag("2")).await, vec![PushedBlob::Existed; 3]);
    let mut tags = app.tags().await.unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "2"]);
    let other = registry.repository("team/other");
    let mounted = PushedBlob::Mounted { from: "app".to_owned() };
    assert_eq!(push(&other, &image, &tag("1")).await, vec![mounted; 3]);
    pull(&other, &image, &tag("1")).await;
    assert!(app.referrers(image.manifest.digest(), None).await.unwrap().is_empty());
    let told = app.inspect(&tag("1")).await.unwrap();
    assert_eq!((told.descriptor, told.platforms.len()), (image.manifest.descriptor.clone(), 1));
}

#[tokio::test]
async fn absence_reads_as_dockerds() {
    let registry = DockerRegistry::plain().await;
    push(&registry.repository("app"), &real_image(), &tag("1")).await;
    let error = registry.repository("app").fetch_manifest(&tag("2")).await.unwrap_err();
    let expected =
        format!("manifest for {}/app:2 not found: manifest unknown: manifest unknown", registry.host);
    assert_eq!(error.to_string(), expected);
    let missing = layer(&noise(10, 3));
    let error = registry
        .repository("app")
        .fetch_blob(&missing, &mut RecordingSink::default(), &())
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::BlobNotFound { .. }), "{error}");
    let error = registry.repository("none").tags().await.unwrap_err();
    let expected = format!(
        "repository {}/none not found: name unknown: repository name not known to registry",
        registry.host
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn broken_lines_are_resumed_in_both_directions() {
    let registry = DockerRegistry::plain().await;
    let relay = Relay::start(&registry.host).await;
    let repository =
        quick_client().repository(&image_ref(&format!("{}/app", relay.host())), Credentials::Anonymous);
    let bytes = noise(20 << 20, 1);
    let blob = layer(&bytes);
    for n_mebibytes in [3, 5] {
        relay.cut_after(Direction::Up, n_mebibytes << 20);
    }
    let watcher = Watcher::default();
    repository.push_blob(&blob, &bytes, &[], &watcher).await.unwrap();
    assert_eq!((relay.n_cuts_left(), watcher.n_retries()), (0, 2));
    let events = watcher.events();
    let first_cut = events.iter().position(|event| matches!(event, Progress::Retrying { .. })).unwrap();
    let goes_on = matches!(events[first_cut + 1], Progress::Pushing { current, .. } if current >= 2 << 20);
    assert!(goes_on, "the registry's part was sent again: {:?}", events[first_cut + 1]);

    for n_mebibytes in [4, 7] {
        relay.cut_after(Direction::Down, n_mebibytes << 20);
    }
    let (mut sink, watcher) = (RecordingSink::default(), Watcher::default());
    repository.fetch_blob(&blob, &mut sink, &watcher).await.unwrap();
    assert!(sink.bytes == bytes);
    assert_eq!(sink.events, [SinkEvent::Commit]);
    assert_eq!((relay.n_cuts_left(), watcher.n_retries()), (0, 2));
}

#[tokio::test]
async fn passwords_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("htpasswd");
    std::fs::write(&file, HTPASSWD).unwrap();
    let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display());
    let registry = DockerRegistry::start(dir, "", &auth).await;
    let reference = image_ref(&format!("{}/app", registry.host));
    let client = quick_client();
    let image = real_image();
    let with = |credentials| client.repository(&reference, credentials);
    push(&with(basic("user", "pass")), &image, &tag("1")).await;
    pull(&with(basic("user", "pass")), &image, &tag("1")).await;
    let error = with(Credentials::Anonymous).fetch_manifest(&tag("1")).await.unwrap_err();
    let expected = format!("Get \"http://{}/v2/app/manifests/1\": no basic auth credentials", registry.host);
    assert_eq!(error.to_string(), expected);
    let error = with(basic("user", "wrong")).fetch_manifest(&tag("1")).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("unauthorized: authentication required", ErrorKind::Unauthorized)
    );
    client.login(&registry.host, &basic("user", "pass")).await.unwrap();
    let error = client.login(&registry.host, &basic("user", "wrong")).await.unwrap_err();
    let expected =
        format!("login attempt to http://{}/v2/ failed with status: 401 Unauthorized", registry.host);
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn tls_with_an_authority_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority();
    let server = issued_by(&authority, &parameters("reg.example"));
    let (certificate, key) = (dir.path().join("server.pem"), dir.path().join("server.key"));
    std::fs::write(&certificate, &server.pem).unwrap();
    std::fs::write(&key, server.key.serialize_pem()).unwrap();
    let tls = format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
    let registry = DockerRegistry::start(dir, &tls, "").await;
    let proxy = TunnelProxy::start(&registry.host).await;
    let (_names, name_service) = names("192.0.2.1 reg.example\n");
    let config = |extra_ca_files| RegistryConfig {
        proxies: Proxies { https: proxy.url(), ..Proxies::default() },
        name_service: name_service.clone(),
        extra_ca_files,
        ..quick_config()
    };
    let repository = |config| {
        Client::new(config).unwrap().repository(&image_ref("reg.example/app"), Credentials::Anonymous)
    };
    let error = repository(config(Vec::new())).fetch_manifest(&tag("1")).await.unwrap_err();
    assert!(error.to_string().ends_with("x509: certificate signed by unknown authority"), "{error}");
    let file = registry.dir.path().join("ca.pem");
    std::fs::write(&file, &authority.1.pem).unwrap();
    let trusting = repository(config(vec![file]));
    let image = real_image();
    push(&trusting, &image, &tag("1")).await;
    pull(&trusting, &image, &tag("1")).await;
    // By its address it is insecure, so its certificate does not matter.
    pull(&registry.repository("app"), &image, &tag("1")).await;
}

async fn skopeo(arguments: &[&str]) {
    let output = program("skopeo").args(arguments).output().await;
    let output = output.expect("skopeo must be installed (apt install skopeo)");
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn skopeo_reads_what_we_push_and_we_read_what_skopeo_pushes() {
    let registry = DockerRegistry::plain().await;
    let image = real_image();
    push(&registry.repository("app"), &image, &tag("1")).await;
    let dir = format!("dir:{}", registry.dir.path().join("copy").display());
    let remote = |name: &str| format!("docker://{}/{name}", registry.host);
    skopeo(&["copy", "--src-tls-verify=false", &remote("app:1"), &dir]).await;
    let copied = std::fs::read(Path::new(registry.dir.path()).join("copy/manifest.json")).unwrap();
    assert_eq!(copied, image.manifest.bytes);
    skopeo(&["copy", "--dest-tls-verify=false", &dir, &remote("copied:2")]).await;
    pull(&registry.repository("copied"), &image, &tag("2")).await;
    let docker = registry.repository("docker");
    skopeo(&["copy", "--dest-tls-verify=false", "--format=v2s2", &dir, &remote("docker:1")]).await;
    let resolved = docker.resolve(&tag("1"), &Platform::new("linux", "amd64", "")).await.unwrap();
    assert_eq!(resolved.manifest.kind(), registry_client::ManifestKind::DockerManifest);
    for blob in &resolved.manifest.as_image().unwrap().layers {
        docker.fetch_blob(blob, &mut RecordingSink::default(), &()).await.unwrap();
    }
}

//! A registry of our own on the bridge of the sandbox: Debian's docker-registry.
//!
//! Start reading at [`Registry::start`]. Images are put into it directly, without an engine.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::fixtures::Image;
use super::http::{Address, Body, Client};
use super::program;
use super::sandbox::HUB;

const PORT: u16 = 5000;
const PATIENCE: Duration = Duration::from_secs(20);

/// A running registry; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Registry {
    child: Child,
}

impl Registry {
    /// Starts it with an empty storage below `directory`.
    pub(super) fn start(directory: &Path) -> Result<Self> {
        let directory = directory.join("registry");
        std::fs::create_dir_all(&directory)?;
        let configuration = directory.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: '{HUB}:{PORT}'}}\n",
            directory.display()
        );
        std::fs::write(&configuration, text)?;
        let log = File::create(directory.join("log"))?;
        let mut command = program::command("docker-registry", ["serve"]);
        command.arg(&configuration).env("OTEL_TRACES_EXPORTER", "none");
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let registry = Self { child: child.context("start docker-registry")? };
        let deadline = Instant::now() + PATIENCE;
        while registry.client().call("GET", "/v2/", Body::Nothing).is_err() {
            if Instant::now() > deadline {
                bail!("docker-registry does not answer");
            }
            // Its answer is its only sign of life.
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// The name by which engines pull an image.
    pub(super) fn reference(&self, image: &Image) -> String {
        format!("{HUB}:{PORT}/{}", image.name)
    }

    /// Puts an image in as `latest`.
    pub(super) fn upload(&self, image: &Image) -> Result<()> {
        let mut client = self.client();
        let manifest: serde_json::Value = serde_json::from_slice(&image.manifest)?;
        let config = manifest["config"]["digest"].as_str().context("a manifest without config")?;
        let content_type = "application/octet-stream";
        for layer in &image.layers {
            let body = Body::File { content_type, path: &layer.file };
            upload_blob(&mut client, image.name, &layer.digest, body)?;
        }
        upload_blob(&mut client, image.name, config, Body::Bytes { content_type, bytes: &image.config })?;
        let body = Body::Bytes { content_type: Image::MANIFEST_TYPE, bytes: &image.manifest };
        client.call("PUT", &format!("/v2/{}/manifests/latest", image.name), body).map(|_| ())
    }

    fn client(&self) -> Client {
        Client::new(Address::Tcp(format!("{HUB}:{PORT}")))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Opens an upload and sends the blob in one piece (distribution specification, "monolithic upload").
fn upload_blob(client: &mut Client, repository: &str, digest: &str, body: Body<'_>) -> Result<()> {
    let opened = client.call("POST", &format!("/v2/{repository}/blobs/uploads/"), Body::Nothing)?;
    let location = opened.location.context("an upload without a location")?;
    let path = location.strip_prefix(&format!("http://{HUB}:{PORT}")).unwrap_or(&location);
    let separator = if path.contains('?') { '&' } else { '?' };
    client.call("PUT", &format!("{path}{separator}digest={digest}"), body).map(|_| ())
}

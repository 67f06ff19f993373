//! Images made on the spot, without any registry: busybox from Debian's static binary, and small ones on top of it.
//!
//! An [`Image`] is layers and a config; [`archive`] writes images as `docker save` of the reference does (the
//! docker-archive form), which every daemon can load. Digests are computed here, so tests know them beforehand.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::process::{command, run};
use crate::session::Session;

/// The image nearly every test runs: busybox with all its applets, a few users, and [`PARK`].
pub const BUSYBOX: &str = "busybox:latest";

/// A script in [`BUSYBOX`] that runs until it gets SIGTERM or SIGINT and then exits 0 at once.
pub const PARK: &str = "park";

/// The creation time all fixture images carry.
pub const CREATED: &str = "2024-02-03T04:05:06Z";

const PARK_SCRIPT: &str = "#!/bin/sh\ntrap 'exit 0' TERM INT\nsleep 1000000 &\nwait\n";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\n\
                      alice:x:1001:1001::/home/alice:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str =
    "root:x:0:\ndaemon:x:1:\nwheel:x:10:alice\nalice:x:1001:\nstaff:x:50:\nnogroup:x:65534:\n";

/// One entry of a layer.
#[derive(Debug, Clone)]
pub struct Entry {
    path: String,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    content: Vec<u8>,
    link: Option<String>,
}

/// A directory entry.
#[must_use]
pub fn directory(path: &str, mode: u32) -> Entry {
    entry(path, EntryType::Directory, mode, Vec::new())
}

/// A regular file.
#[must_use]
pub fn file(path: &str, mode: u32, content: impl Into<Vec<u8>>) -> Entry {
    entry(path, EntryType::Regular, mode, content.into())
}

/// A symbolic link.
#[must_use]
pub fn symlink(path: &str, target: &str) -> Entry {
    Entry { link: Some(target.to_owned()), ..entry(path, EntryType::Symlink, 0o777, Vec::new()) }
}

impl Entry {
    /// The same entry owned by somebody else.
    #[must_use]
    pub fn owned_by(self, uid: u64, gid: u64) -> Self {
        Self { owner: (uid, gid), ..self }
    }
}

fn entry(path: &str, kind: EntryType, mode: u32, content: Vec<u8>) -> Entry {
    Entry { path: path.to_owned(), kind, mode, owner: (0, 0), content, link: None }
}

/// Writes entries as an uncompressed tar with fixed times.
#[must_use]
pub fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(1_700_000_000);
        header.set_size(entry.content.len() as u64);
        let written = match &entry.link {
            Some(target) => builder.append_link(&mut header, &entry.path, target),
            None => builder.append_data(&mut header, &entry.path, entry.content.as_slice()),
        };
        written.expect("an entry in memory");
    }
    builder.into_inner().expect("a tar in memory")
}

/// `sha256:` and the digest of `content` in hex.
#[must_use]
pub fn sha256(content: &[u8]) -> String {
    let hex: String = digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// An image: tags, the `config` part of its configuration, layers from bottom to top.
#[derive(Debug, Clone)]
pub struct Image {
    /// Names with tags.
    pub tags: Vec<String>,
    /// What `docker inspect` shows as Config.
    pub config: Value,
    /// Uncompressed tars.
    pub layers: Vec<Vec<u8>>,
    /// Architecture the image says it is for.
    pub architecture: String,
}

impl Image {
    /// Busybox plus further layers under another name.
    #[must_use]
    pub fn on_busybox(tag: &str, config: &Value, layers: &[Vec<Entry>]) -> Self {
        let mut merged = json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]});
        for (key, value) in config.as_object().expect("a config object") {
            merged[key] = value.clone();
        }
        let base = std::iter::once(busybox_layer().to_vec());
        let layers = base.chain(layers.iter().map(|entries| tar_of(entries))).collect();
        Self { tags: vec![tag.to_owned()], config: merged, layers, architecture: architecture().to_owned() }
    }

    /// The image's configuration as stored; its digest is the image id of the classic store.
    #[must_use]
    pub fn config_json(&self) -> Vec<u8> {
        let history: Vec<Value> = (0..self.layers.len())
            .map(|number| json!({"created": CREATED, "created_by": format!("layer {number} of a fixture")}))
            .collect();
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| sha256(layer)).collect();
        json!({
            "architecture": self.architecture, "os": "linux", "created": CREATED, "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
        })
        .to_string()
        .into_bytes()
    }

    /// The id the classic store gives this image.
    #[must_use]
    pub fn id(&self) -> String {
        sha256(&self.config_json())
    }
}

/// The architecture of this machine in the words of image configurations.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Writes `images` as one archive for `docker load`.
#[must_use]
pub fn archive(images: &[Image]) -> Vec<u8> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut manifest = Vec::new();
    let mut add = |path: String, content: &[u8]| {
        if !entries.iter().any(|entry| entry.path == path) {
            entries.push(file(&path, 0o644, content));
        }
    };
    for image in images {
        let config = image.config_json();
        let config_path = format!("{}.json", &sha256(&config)[7..]);
        let mut layer_paths = Vec::new();
        for layer in &image.layers {
            let path = format!("{}/layer.tar", &sha256(layer)[7..]);
            add(path.clone(), layer);
            layer_paths.push(path);
        }
        add(config_path.clone(), &config);
        manifest.push(json!({"Config": config_path, "RepoTags": image.tags, "Layers": layer_paths}));
    }
    add("manifest.json".to_owned(), Value::from(manifest).to_string().as_bytes());
    tar_of(&entries)
}

/// The busybox image.
#[must_use]
pub fn busybox() -> Image {
    Image::on_busybox(BUSYBOX, &json!({}), &[])
}

/// The single layer of [`busybox`].
#[must_use]
pub fn busybox_layer() -> &'static [u8] {
    static LAYER: OnceLock<Vec<u8>> = OnceLock::new();
    LAYER.get_or_init(|| {
        let binary = fs::read("/bin/busybox").expect("/bin/busybox of the package busybox-static");
        let applets = run(
            {
                let mut list = command("/bin/busybox");
                list.arg("--list");
                list
            },
            b"",
        )
        .ok();
        let mut entries: Vec<Entry> =
            ["bin", "etc", "root", "home", "var", "usr", "usr/bin", "proc", "sys", "dev"]
                .map(|path| directory(path, 0o755))
                .into();
        entries.push(directory("home/alice", 0o755).owned_by(1001, 1001));
        entries.push(directory("tmp", 0o1777));
        entries.push(file("bin/busybox", 0o755, binary));
        entries.extend(
            applets
                .lines()
                .filter(|name| *name != "busybox")
                .map(|name| symlink(&format!("bin/{name}"), "busybox")),
        );
        entries.push(file("bin/park", 0o755, PARK_SCRIPT));
        entries.push(file("etc/passwd", 0o644, PASSWD));
        entries.push(file("etc/group", 0o644, GROUP));
        tar_of(&entries)
    })
}

/// An image that carries a dynamically linked program with the libraries it needs, as `/bin/NAME`.
#[must_use]
pub fn with_program(tag: &str, program: &Path) -> Image {
    let name = program.file_name().expect("a program has a name").to_string_lossy().into_owned();
    let mut list = command("ldd");
    list.arg(program);
    let listed = run(list, b"").ok();
    let libraries = listed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned));
    let mut entries = vec![file(&format!("bin/{name}"), 0o755, fs::read(program).expect("the program"))];
    for library in libraries {
        let content = fs::read(&library).unwrap_or_else(|error| panic!("{library}: {error}"));
        entries.push(file(library.trim_start_matches('/'), 0o755, content));
    }
    Image::on_busybox(tag, &json!({}), &[entries])
}

impl Session {
    /// Loads images by the API; fails unless the daemon says it loaded each of them.
    #[track_caller]
    pub fn load(&self, images: &[Image]) {
        let request = crate::http::Request::new("POST", "/images/load?quiet=1");
        let reply = self.send(request.header("Content-Type", "application/x-tar").bytes(archive(images)));
        assert!(reply.status == 200, "loading images: {reply:?}");
        let said = reply.text();
        for tag in images.iter().flat_map(|image| &image.tags) {
            assert!(said.contains(&format!("Loaded image: {tag}")), "{tag} is not loaded: {reply:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{busybox, sha256};

    #[test]
    fn the_digest_of_nothing_is_well_known() {
        assert_eq!(sha256(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn fixture_images_are_the_same_every_time() {
        assert_eq!(busybox().id(), busybox().id());
    }
}

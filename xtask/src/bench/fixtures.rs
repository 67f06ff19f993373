//! Images and files to measure with. Everything is made here, offline, and is the same in every run.
//!
//! Start reading at [`box_archive`] and [`Image`]. Contents look like software: a third text, a third binary with structure, a
//! third noise, so that compression has about as much to do as with real images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::program;
use crate::setup;

/// Layers of the image of large files, and how large each is.
const LAYERS: usize = 8;
const LAYER_SIZE: usize = 25 << 20;
/// Files of the image of small files, and of the tree that is copied.
const SMALL_FILES: usize = 20_000;
pub(super) const TREE_FILES: usize = 5_000;
/// Size of the file that is copied.
pub(super) const FILE_SIZE: usize = 200 << 20;

const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// An image as a registry wants it.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) name: &'static str,
    pub(super) layers: Vec<Layer>,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
}

/// One compressed layer.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) file: PathBuf,
    pub(super) digest: String,
    diff_id: String,
}

impl Image {
    /// The media type of [`Image::manifest`].
    pub(super) const MANIFEST_TYPE: &'static str = MANIFEST_TYPE;

    /// Eight layers of files of 64 KiB to 4 MiB.
    pub(super) fn of_layers(directory: &Path) -> Result<Self> {
        let build = |index: usize| {
            let mut noise = Noise::new(1000 + index as u64);
            let root = directory.join(format!("layer{index}"));
            let data = root.join(format!("data{index}"));
            fs::create_dir_all(&data)?;
            let mut left = LAYER_SIZE;
            for number in 0.. {
                let size = noise.pick(&[64 << 10, 512 << 10, 4 << 20]).min(left);
                fs::write(data.join(format!("f{number:03}.bin")), noise.mixed(size))?;
                left -= size;
                if left == 0 {
                    break;
                }
            }
            Layer::pack(&root)
        };
        let layers = std::thread::scope(|scope| {
            let builders: Vec<_> = (0..LAYERS).map(|index| scope.spawn(move || build(index))).collect();
            builders
                .into_iter()
                .map(|builder| builder.join().unwrap_or_else(|_| bail!("building a layer panicked")))
                .collect::<Result<Vec<_>>>()
        })?;
        Self::new("bench/layers", layers)
    }

    /// One layer of small files.
    pub(super) fn of_files(directory: &Path) -> Result<Self> {
        let root = directory.join("files");
        write_tree(&root, SMALL_FILES, 7)?;
        Self::new("bench/files", vec![Layer::pack(&root)?])
    }

    fn new(name: &'static str, layers: Vec<Layer>) -> Result<Self> {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": diff_ids.iter().map(|_| json!({"created": "2024-01-01T00:00:00Z"})).collect::<Vec<_>>(),
        });
        let config = config.to_string().into_bytes();
        let file = layers.first().context("an image without layers")?.file.with_extension("config");
        fs::write(&file, &config)?;
        let blob = |kind: &str, size: u64, digest: &str| -> Value {
            json!({"mediaType": format!("application/vnd.docker.{kind}"), "size": size, "digest": digest})
        };
        let described = |layer: &Layer| -> Result<Value> {
            Ok(blob("image.rootfs.diff.tar.gzip", layer.file.metadata()?.len(), &layer.digest))
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": blob("container.image.v1+json", config.len() as u64, &digest_of_file(&file)?),
            "layers": layers.iter().map(described).collect::<Result<Vec<_>>>()?,
        });
        Ok(Self { name, layers, config, manifest: manifest.to_string().into_bytes() })
    }
}

impl Layer {
    /// Packs a directory and removes it.
    fn pack(root: &Path) -> Result<Self> {
        let archive = root.with_extension("tar");
        let (from, to) = (root.display().to_string(), archive.display().to_string());
        program::run("tar", &["--sort=name", "--mtime=@1700000000", "-C", &from, "-cf", &to, "."])?;
        fs::remove_dir_all(root)?;
        let diff_id = digest_of_file(&archive)?;
        program::run("gzip", &["-n", "-6", &to])?;
        let file = root.with_extension("tar.gz");
        Ok(Self { digest: digest_of_file(&file)?, diff_id, file })
    }
}

/// An archive of busybox with its names, which becomes the image of most cases.
pub(super) fn box_archive(directory: &Path) -> Result<PathBuf> {
    let archive = directory.join("box.tar");
    if archive.exists() {
        return Ok(archive);
    }
    let busybox = setup::find("busybox").context("busybox is not installed")?;
    let root = directory.join("box");
    for name in ["bin", "etc", "tmp", "root", "proc", "sys", "dev", "var"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy(&busybox, root.join("bin/busybox"))?;
    for name in program::run(&busybox.display().to_string(), &["--list"])?.lines() {
        if name != "busybox" {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name))?;
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    let (from, to) = (root.display().to_string(), archive.display().to_string());
    program::run("tar", &["-C", &from, "-cf", &to, "."])?;
    fs::remove_dir_all(root)?;
    Ok(archive)
}

/// A file and a tree to copy; returns the directory that holds `file`, `tree`, and archives of both.
pub(super) fn copy_source(directory: &Path) -> Result<PathBuf> {
    let source = directory.join("copy");
    fs::create_dir_all(&source)?;
    let mut noise = Noise::new(11);
    let part = noise.mixed(FILE_SIZE / 8);
    fs::write(source.join("file"), part.repeat(8))?;
    write_tree(&source.join("tree"), TREE_FILES, 13)?;
    let from = source.display().to_string();
    for name in ["file", "tree"] {
        let archive = source.join(format!("{name}.tar")).display().to_string();
        program::run("tar", &["-C", &from, "-cf", &archive, name])?;
    }
    Ok(source)
}

/// Small files, a hundred in each directory.
fn write_tree(root: &Path, files: usize, seed: u64) -> Result<()> {
    let mut noise = Noise::new(seed);
    for number in 0..files {
        let directory = root.join(format!("tree{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&directory)?;
        }
        let size = noise.pick(&[180, 700, 1500, 3000, 8000]);
        fs::write(directory.join(format!("n{number:05}.txt")), noise.mixed(size))?;
    }
    Ok(())
}

fn digest_of_file(path: &Path) -> Result<String> {
    let line = program::run("sha256sum", &[&path.display().to_string()])?;
    let hex = line.split_whitespace().next().context("sha256sum says nothing")?;
    Ok(format!("sha256:{hex}"))
}

/// A generator of numbers that look random and are the same in every run (xorshift64*).
#[derive(Debug)]
struct Noise {
    state: u64,
}

impl Noise {
    fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or_default() % limit.max(1)
    }

    fn pick(&mut self, choices: &[usize]) -> usize {
        choices.get(self.below(choices.len())).copied().unwrap_or_default()
    }

    /// Bytes of which gzip leaves about half.
    fn mixed(&mut self, size: usize) -> Vec<u8> {
        const WORDS: &[u8] = b"the quick layer of a small registry keeps every shard close while waves carry slow packets home ";
        let mut bytes = Vec::with_capacity(size + 4096);
        while bytes.len() < size {
            match self.below(3) {
                0 => {
                    for _ in 0..300 {
                        let at = self.below(WORDS.len() - 12);
                        bytes.extend(WORDS.iter().skip(at).take(3 + self.below(9)));
                        bytes.push(b' ');
                    }
                }
                1 => {
                    let record: Vec<u8> = (0..8).flat_map(|_| self.next().to_le_bytes()).collect();
                    for _ in 0..48 {
                        bytes.extend(&record);
                        bytes.extend(&self.next().to_le_bytes()[..2]);
                    }
                }
                _ => bytes.extend((0..400).flat_map(|_| self.next().to_le_bytes())),
            }
        }
        bytes.truncate(size);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_the_same_in_every_run_and_differ_between_seeds() {
        assert_eq!(Noise::new(5).mixed(100_000), Noise::new(5).mixed(100_000));
        assert_ne!(Noise::new(5).mixed(1000), Noise::new(6).mixed(1000));
        assert_eq!(Noise::new(5).mixed(12345).len(), 12345);
    }
}

//! Pulls an image into a directory: `pull <reference> <directory> [connections per large blob]`.
//!
//! Start reading at [`pull`]. It shows how the parts fit together and serves to measure the client. A second run resumes
//! what a first one that was killed has left. It does not unpack.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use registry_client::{
    BlobSink, Client, Credentials, Leftover, Limits, ManifestTarget, Proxies, RegistryConfig,
};
use shoal_types::{ImageRef, Platform};

/// Writes a blob to `<path>.part` and gives it its name when it is verified.
struct FileSink {
    path: PathBuf,
    file: File,
}

impl FileSink {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(partial(&path))?;
        Ok(Self { path, file })
    }
}

fn partial(path: &Path) -> PathBuf {
    path.with_extension("part")
}

#[async_trait]
impl BlobSink for FileSink {
    async fn offset(&mut self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn open_prefix(&mut self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(partial(&self.path))?))
    }

    async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        self.file.write_all(&chunk)
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)
    }

    async fn commit(&mut self) -> io::Result<()> {
        std::fs::rename(partial(&self.path), &self.path)
    }

    async fn abort(&mut self, leftover: Leftover) {
        if leftover == Leftover::Discard {
            let _ = std::fs::remove_file(partial(&self.path));
        }
    }
}

async fn pull(reference: &str, directory: &Path, limits: Limits) -> anyhow::Result<u64> {
    let config = RegistryConfig { proxies: Proxies::from_environment(), limits, ..RegistryConfig::default() };
    let image = ImageRef::parse(reference)?;
    let repository = Client::new(config)?.repository(&image, Credentials::Anonymous);
    let resolved = repository.resolve(&ManifestTarget::of(&image), &Platform::host()).await?;
    let manifest = resolved.manifest.as_image().context("not an image")?;
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("manifest.json"), &resolved.manifest.bytes)?;
    let downloads = manifest.layers.iter().chain([&manifest.config]).map(|blob| {
        let (repository, blob, path) = (repository.clone(), blob.clone(), directory.join(blob.digest.hex()));
        tokio::spawn(async move {
            let mut sink = FileSink::open(path)?;
            repository.fetch_blob(&blob, &mut sink, &()).await?;
            anyhow::Ok(blob.size)
        })
    });
    let mut total = 0;
    for download in downloads.collect::<Vec<_>>() {
        total += download.await??;
    }
    Ok(total)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example speaks to whoever runs it")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [reference, directory, rest @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: pull <reference> <directory> [connections per large blob]");
    };
    let mut limits = Limits::default();
    if let Some(connections) = rest.first() {
        limits.connections_per_blob = connections.parse()?;
    }
    let start = Instant::now();
    let total = pull(reference, Path::new(directory), limits).await?;
    println!("{total} bytes in {:.3} s", start.elapsed().as_secs_f64());
    Ok(())
}

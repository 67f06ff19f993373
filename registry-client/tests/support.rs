//! What all tests use: quick settings, sinks that remember, images.

use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use registry_client::testing::{FaultyRegistry, TestImage};
use registry_client::{
    BlobSink, Client, Credentials, Descriptor, Leftover, Limits, Progress, ProgressSink, RegistryConfig,
    Repository, Secret, Timeouts, digest_of, media_type,
};
use shoal_types::{Digest, ImageRef};

/// Settings under which failures are found out and repeated within milliseconds.
pub(crate) fn quick_config() -> RegistryConfig {
    RegistryConfig {
        certs_dirs: Vec::new(),
        timeouts: Timeouts {
            first_retry: Duration::from_millis(10),
            longest_retry: Duration::from_millis(1500),
            response: Duration::from_secs(2),
            stall: Duration::from_secs(2),
            ..Timeouts::default()
        },
        ..RegistryConfig::default()
    }
}

/// A client that allows one attempt fewer than there are fingers on a hand.
pub(crate) fn quick_client() -> Client {
    Client::new(RegistryConfig { limits: Limits { attempts: 4, ..Limits::default() }, ..quick_config() })
        .unwrap()
}

/// A handle for `name` of a test registry, for nobody in particular.
pub(crate) fn repository(registry: &FaultyRegistry, name: &str) -> Repository {
    quick_client().repository(&registry.image_ref(name), Credentials::Anonymous)
}

pub(crate) fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic { username: username.to_owned(), password: Secret::new(password) }
}

pub(crate) fn image_ref(text: &str) -> ImageRef {
    ImageRef::parse(text).unwrap()
}

/// Bytes that do not repeat for a long while.
pub(crate) fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}

pub(crate) fn layer(bytes: &Bytes) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER_GZIP, digest_of(bytes), bytes.len() as u64)
}

pub(crate) fn small_image(architecture: &str) -> TestImage {
    TestImage::new(architecture, vec![noise(3000, 1), noise(5000, 2)])
}

/// What a sink was told, bytes aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SinkEvent {
    Restart,
    Commit,
    Abort(Leftover),
}

/// Keeps everything it is given.
#[derive(Debug, Default)]
pub(crate) struct RecordingSink {
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: Vec<SinkEvent>,
    pub(crate) fails_after: Option<usize>,
    pub(crate) delay: Option<Duration>,
}

impl RecordingSink {
    /// With bytes that an earlier download has left.
    pub(crate) fn with_prefix(prefix: &[u8]) -> Self {
        Self { bytes: prefix.to_vec(), ..Self::default() }
    }
}

#[async_trait]
impl BlobSink for RecordingSink {
    async fn offset(&mut self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn open_prefix(&mut self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.bytes.clone())))
    }

    async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        if self.fails_after.is_some_and(|limit| self.bytes.len() + chunk.len() > limit) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(delay) = self.delay {
            // Slowness is what was asked for.
            tokio::time::sleep(delay).await;
        }
        self.bytes.extend_from_slice(&chunk);
        Ok(())
    }

    async fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        self.events.push(SinkEvent::Restart);
        Ok(())
    }

    async fn commit(&mut self) -> io::Result<()> {
        self.events.push(SinkEvent::Commit);
        Ok(())
    }

    async fn abort(&mut self, leftover: Leftover) {
        self.events.push(SinkEvent::Abort(leftover));
    }
}

/// Remembers all progress.
#[derive(Debug, Default, Clone)]
pub(crate) struct Watcher(Arc<Mutex<Vec<Progress>>>);

impl Watcher {
    pub(crate) fn events(&self) -> Vec<Progress> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn n_retries(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, Progress::Retrying { .. })).count()
    }
}

impl ProgressSink for Watcher {
    fn report(&self, _blob: &Digest, progress: Progress) {
        self.0.lock().unwrap().push(progress);
    }
}

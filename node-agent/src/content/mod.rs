//! Content: blobs by digest, and those that are on their way in.
//!
//! Start reading at [`ContentStore`]. A blob has its name only after its digest was checked and its bytes are on disk;
//! what has a name is believed. What nobody refers to is removed by `images`, which knows what refers to what. Bytes are
//! not interpreted here.
//!
//! ```text
//! <data root>/content/
//! ├── blobs/sha256/<hex>     a verified blob; never changed, never linked elsewhere
//! └── ingest/
//!     ├── <hex>.part         a prefix of the blob of this digest; resumed by the next download
//!     └── <n>.new            bytes whose digest is not known yet; removed at boot
//! ```

mod error;
mod ingest;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use registry_client::digest_of;
use shoal_types::Digest;

pub use self::error::ContentError;
pub use self::ingest::{Draft, Partial};

/// The blobs of this node. Cheap to clone. All methods but [`ContentStore::resume`] block on the disk.
#[derive(Debug, Clone)]
pub struct ContentStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    blobs: PathBuf,
    ingest: PathBuf,
    next_draft: AtomicU64,
    /// One lock for each partial blob that somebody works on.
    partials: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl ContentStore {
    /// Opens `<data root>/content`, makes it if there is none, and removes drafts that a crash left. Partial blobs stay.
    pub fn open(root: &Path) -> Result<Self, ContentError> {
        let blobs = root.join("blobs/sha256");
        let ingest = root.join("ingest");
        for dir in [&blobs, &ingest] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(ContentError::io("create", dir))?;
        }
        for entry in fs::read_dir(&ingest).map_err(ContentError::io("list", &ingest))?.flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "part") {
                fs::remove_file(&path).map_err(ContentError::io("remove", &path))?;
            }
        }
        let shared =
            Shared { blobs, ingest, next_draft: AtomicU64::new(0), partials: Mutex::new(HashMap::new()) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The size of a blob; `None` if it is not here.
    pub fn size(&self, digest: Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|metadata| metadata.len())
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: Digest) -> Result<File, ContentError> {
        let path = self.path(digest);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ContentError::Missing(digest)),
            other => other.map_err(ContentError::io("open", &path)),
        }
    }

    /// Reads a small blob: a manifest or a config. One larger than `limit` is refused.
    pub fn read(&self, digest: Digest, limit: usize) -> Result<Bytes, ContentError> {
        let file = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(ContentError::io("read", &self.path(digest)))?;
        if bytes.len() > limit { Err(ContentError::TooLarge { digest, limit }) } else { Ok(bytes.into()) }
    }

    /// Stores a small blob. Does nothing if it is here.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, ContentError> {
        let digest = digest_of(bytes);
        if self.size(digest).is_some() {
            return Ok(digest);
        }
        let mut draft = self.draft()?;
        draft.write_all(bytes).map_err(ContentError::io("write", &self.path(digest)))?;
        draft.commit(Some(digest))?;
        Ok(digest)
    }

    /// Begins a blob whose digest will be known at its end.
    pub fn draft(&self) -> Result<Draft, ContentError> {
        let number = self.shared.next_draft.fetch_add(1, Ordering::Relaxed);
        Draft::create(self.clone(), self.shared.ingest.join(format!("{number}.new")))
    }

    /// Takes up the partial blob of this digest, or begins it. Waits until nobody else works on it.
    pub async fn resume(&self, digest: Digest) -> Partial {
        let lock = {
            let mut partials = self.shared.partials.lock().unwrap_or_else(PoisonError::into_inner);
            partials.retain(|_, lock| lock.strong_count() > 0);
            match partials.get(&digest).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    partials.insert(digest, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        // Held as long as the partial lives, on purpose across awaits: it stands for the file.
        let guard = lock.lock_owned().await;
        Partial::new(self.clone(), digest, self.shared.ingest.join(format!("{}.part", digest.hex())), guard)
    }

    /// Removes a blob. Returns the bytes that this freed; one that is not here frees none.
    pub fn remove(&self, digest: Digest) -> Result<u64, ContentError> {
        let size = self.size(digest).unwrap_or(0);
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => Ok(size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(source) => Err(ContentError::io("remove", &path)(source)),
        }
    }

    /// All blobs with their sizes, in no order.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, ContentError> {
        let dir = &self.shared.blobs;
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(ContentError::io("list", dir))? {
            let entry = entry.map_err(ContentError::io("list", dir))?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
            if let (Some(digest), Ok(metadata)) = (digest, entry.metadata()) {
                found.push((digest, metadata.len()));
            }
        }
        Ok(found)
    }

    /// Removes partial blobs that nobody works on. Returns the bytes that this freed.
    pub fn remove_partials(&self) -> Result<u64, ContentError> {
        let dir = &self.shared.ingest;
        let mut freed = 0;
        for entry in fs::read_dir(dir).map_err(ContentError::io("list", dir))?.flatten() {
            let path = entry.path();
            let digest = path
                .file_stem()
                .and_then(|hex| hex.to_str())
                .filter(|_| path.extension().is_some_and(|extension| extension == "part"))
                .and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            let Some(digest) = digest else { continue };
            // Whoever wants to take it up waits for this lock.
            let partials = self.shared.partials.lock().unwrap_or_else(PoisonError::into_inner);
            if partials.get(&digest).is_none_or(|lock| lock.strong_count() == 0) {
                freed += entry.metadata().map_or(0, |metadata| metadata.len());
                fs::remove_file(&path).map_err(ContentError::io("remove", &path))?;
            }
        }
        Ok(freed)
    }

    /// Makes the names of all blobs committed so far safe from a power loss. Called before a record refers to them.
    pub fn sync_names(&self) -> Result<(), ContentError> {
        let dir = &self.shared.blobs;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(ContentError::io("write to disk", dir))
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.shared.blobs.join(digest.hex())
    }

    /// Gives a verified file its name, after its bytes are on disk.
    fn publish(&self, file: &File, from: &Path, digest: Digest) -> Result<(), ContentError> {
        let to = self.path(digest);
        file.sync_data().map_err(ContentError::io("write to disk", from))?;
        fs::rename(from, &to).map_err(ContentError::io("name", &to))
    }
}

#[cfg(test)]
mod tests;

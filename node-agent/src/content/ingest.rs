//! Blobs on their way in.
//!
//! Start reading at [`Partial`] for downloads, which know the digest and can be resumed, and at [`Draft`] for everything
//! that is made or received here.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use ring::digest::{Context, SHA256};
use shoal_types::Digest;
use tokio::sync::OwnedMutexGuard;

use super::{ContentError, ContentStore};

/// The leading bytes of a blob whose digest is known. Whoever holds it is the only one. Dropping it keeps the bytes for
/// the next one who resumes.
#[derive(Debug)]
pub struct Partial {
    store: ContentStore,
    digest: Digest,
    path: PathBuf,
    _sole: OwnedMutexGuard<()>,
}

impl Partial {
    pub(super) fn new(store: ContentStore, digest: Digest, path: PathBuf, sole: OwnedMutexGuard<()>) -> Self {
        Self { store, digest, path, _sole: sole }
    }

    /// The blob that it will be.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes are here.
    pub fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Opens what is here for reading, from the beginning.
    pub fn open_prefix(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Opens the file for writing at its end.
    pub fn append(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).open(&self.path)
    }

    /// Throws away what is here.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives the blob its name. The caller has verified that what is here has the digest.
    pub fn commit_verified(&self) -> Result<(), ContentError> {
        let file = self.append().map_err(ContentError::io("open", &self.path))?;
        self.store.publish(&file, &self.path, self.digest)
    }
}

/// A blob whose digest is computed while it is written. Dropping it throws it away.
pub struct Draft {
    store: ContentStore,
    path: PathBuf,
    file: File,
    hash: Context,
    length: u64,
    is_committed: bool,
}

impl Draft {
    pub(super) fn create(store: ContentStore, path: PathBuf) -> Result<Self, ContentError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(ContentError::io("create", &path))?;
        Ok(Self { store, path, file, hash: Context::new(&SHA256), length: 0, is_committed: false })
    }

    /// How many bytes have been written.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Gives the blob its name, unless it should have had another digest. Returns its digest.
    pub fn commit(mut self, expected: Option<Digest>) -> Result<Digest, ContentError> {
        let found = self.digest();
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(ContentError::WrongDigest { expected, found });
        }
        self.store.publish(&self.file, &self.path, found)?;
        self.is_committed = true;
        Ok(found)
    }

    /// The digest of what has been written.
    pub fn digest(&self) -> Digest {
        let mut sha256 = [0u8; 32];
        sha256.copy_from_slice(self.hash.clone().finish().as_ref());
        Digest::from_sha256(sha256)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.length += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_committed {
            // The next boot removes what stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl std::fmt::Debug for Draft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft")
            .field("path", &self.path)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

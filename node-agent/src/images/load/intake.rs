//! The files of an archive: documents in memory, everything else as blobs.
//!
//! Start reading at [`Intake::read`]. Names in the archive are keys here and never paths on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use bytes::Bytes;
use registry_client::{MAX_CONFIG_SIZE, digest_of};
use shoal_types::Digest;

use crate::error::NodeError;
use crate::images::Shared;
use crate::images::holds::{Hold, Item};
use crate::layers::LayerError;
use crate::layers::archive::path::LayerPath;
use crate::layers::archive::{ArchiveError, ArchiveReader, Entry, EntryKind};
use crate::layers::compression::decompress;

/// The most files that an archive may hold. An image has some hundred.
const MAX_ENTRIES: usize = 100_000;
/// The most bytes of documents that are kept in memory.
const MAX_DOCUMENTS: usize = 64 << 20;
/// How many links are followed to a file.
const MAX_LINKS: usize = 8;

/// What an archive held.
#[derive(Debug, Default)]
pub(super) struct Intake {
    documents: BTreeMap<String, Bytes>,
    /// Digest and size of every other file.
    files: BTreeMap<String, (Digest, u64)>,
    /// Old archives name a layer that several images share once, and link to it.
    links: BTreeMap<String, String>,
    /// What was not here before.
    stored: BTreeSet<Digest>,
    holds: Vec<Hold>,
    document_bytes: usize,
}

impl Intake {
    /// Reads an archive to its end. On a failure everything that it brought is removed again. Blocks.
    pub(super) fn read(shared: &Shared, source: impl Read + Send) -> Result<Self, NodeError> {
        let mut intake = Self::default();
        match intake.read_all(shared, source) {
            Ok(()) => Ok(intake),
            Err(error) => {
                for digest in intake.release() {
                    // No image refers to it: it was not here, and nothing was recorded since.
                    shared.holds.unless_held(Item::Blob(digest), || shared.content.remove(digest));
                }
                Err(error)
            }
        }
    }

    /// A document at the top of the archive, or beside a layer of an old one.
    pub(super) fn document(&self, name: &str) -> Option<&Bytes> {
        self.documents.get(&self.follow(name))
    }

    /// A file, by its name in the archive.
    pub(super) fn file(&self, name: &str) -> Option<(Digest, u64)> {
        self.files.get(&self.follow(name)).copied()
    }

    /// Blobs that were not here before.
    pub(super) fn stored(&self) -> BTreeSet<Digest> {
        self.stored.clone()
    }

    /// Lets go of all blobs, and tells which were not here before.
    pub(super) fn release(self) -> Vec<Digest> {
        drop(self.holds);
        self.stored.into_iter().collect()
    }

    /// Stores a document that was made from the archive.
    pub(super) fn put(&mut self, shared: &Shared, bytes: &[u8]) -> Result<Digest, NodeError> {
        let digest = digest_of(bytes);
        self.holds.push(shared.holds.hold([Item::Blob(digest)]));
        if shared.content.size(digest).is_none() {
            self.stored.insert(digest);
            shared.content.put(bytes)?;
        }
        Ok(digest)
    }

    fn read_all(&mut self, shared: &Shared, source: impl Read + Send) -> Result<(), NodeError> {
        let unreadable = |error: ArchiveError| NodeError::from(LayerError::from(error));
        let (_, archive) = decompress(source).map_err(|source| unreadable(ArchiveError::Read(source)))?;
        let mut reader = ArchiveReader::new(io::BufReader::with_capacity(256 << 10, archive));
        let mut n_entries = 0;
        while let Some(entry) = reader.next_entry().map_err(unreadable)? {
            n_entries += 1;
            if n_entries > MAX_ENTRIES {
                let limit = MAX_ENTRIES as u64;
                return Err(unreadable(ArchiveError::TooLarge { what: "entries", limit }));
            }
            let name = name(&entry.path).map_err(unreadable)?;
            match entry.kind {
                EntryKind::File if is_document(&name) => {
                    let bytes = self.read_document(&entry, &mut reader.data())?;
                    self.documents.insert(name, bytes);
                }
                EntryKind::File => self.store(shared, name, &mut reader.data())?,
                EntryKind::Symlink => {
                    let target = resolve(&name, &String::from_utf8_lossy(&entry.link));
                    self.links.insert(name, target);
                }
                EntryKind::HardLink => {
                    let target = self::name(&entry.link).map_err(unreadable)?;
                    self.links.insert(name, target);
                }
                EntryKind::Directory | EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {}
            }
        }
        // To the end, so that a client that sends padding is not cut off.
        io::copy(&mut reader.into_inner(), &mut io::sink())
            .map_err(|source| unreadable(ArchiveError::Read(source)))?;
        Ok(())
    }

    fn read_document(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<Bytes, NodeError> {
        let room = MAX_CONFIG_SIZE.min(MAX_DOCUMENTS - self.document_bytes);
        let mut bytes = Vec::new();
        data.take(room as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| NodeError::failed("read an image archive", source))?;
        if bytes.len() > room {
            return Err(NodeError::invalid(format!("invalid archive: {} is too large", entry.display())));
        }
        self.document_bytes += bytes.len();
        Ok(bytes.into())
    }

    fn store(&mut self, shared: &Shared, name: String, data: &mut dyn Read) -> Result<(), NodeError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => NodeError::from(LayerError::from(ArchiveError::Truncated)),
            _ => NodeError::failed("store an image archive", source),
        };
        let promised = promised_digest(&name);
        if let Some(digest) = promised {
            let hold = shared.holds.hold([Item::Blob(digest)]);
            if let Some(size) = shared.content.size(digest) {
                // It is here; the bytes of the archive are passed over.
                self.holds.push(hold);
                self.files.insert(name, (digest, size));
                return Ok(());
            }
        }
        let mut draft = shared.content.draft()?;
        io::copy(data, &mut draft).map_err(failed)?;
        let (digest, size) = (draft.digest(), draft.length());
        self.holds.push(shared.holds.hold([Item::Blob(digest)]));
        if shared.content.size(digest).is_none() {
            self.stored.insert(digest);
            draft.commit(promised)?;
        }
        self.files.insert(name, (digest, size));
        Ok(())
    }

    fn follow(&self, name: &str) -> String {
        let mut name = name.to_owned();
        for _ in 0..MAX_LINKS {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        name
    }
}

/// Documents are what engines put beside blobs: small, and needed as text.
fn is_document(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    let is_at_top = !name.contains('/');
    is_at_top && (last.ends_with(".json") || matches!(last, "oci-layout" | "repositories"))
        || (!name.starts_with("blobs/") && matches!(last, "json" | "VERSION"))
}

/// The digest that a file of an OCI layout promises by its name.
fn promised_digest(name: &str) -> Option<Digest> {
    let hex = name.strip_prefix("blobs/sha256/")?;
    format!("sha256:{hex}").parse().ok()
}

fn name(path: &[u8]) -> Result<String, ArchiveError> {
    let path = LayerPath::parse(path)?;
    Ok(String::from_utf8_lossy(&path.names().join(&b'/')).into_owned())
}

/// The name that a symbolic link stands for. One that leads out of the archive finds nothing.
fn resolve(link: &str, target: &str) -> String {
    let mut names: Vec<&str> = link.split('/').collect();
    names.pop();
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

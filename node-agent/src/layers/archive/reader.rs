//! Reads an archive entry by entry, in bounded memory.
//!
//! Start reading at [`ArchiveReader::next_entry`]. The archive is untrusted: extended headers have a limit, sizes are
//! checked, and nothing is believed that the bytes do not show.

use std::io::{self, BufRead, Read};

use super::header::{Fields, Format};
use super::{ArchiveError, BLOCK, Entry, EntryKind, Time, pax, sparse};

/// The largest extended header that is read, as in Go's archive/tar.
const MAX_LONG_HEADER: u64 = 1 << 20;

/// Reads a tar archive from front to back.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    source: R,
    /// Bytes of the current entry's data that have not been read.
    left: u64,
    /// Bytes of padding after them.
    padding: u64,
}

/// What extended headers say of the entry after them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Time>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: SparseRecords,
}

/// PAX records of a sparse file.
#[derive(Default)]
struct SparseRecords {
    major: Option<u32>,
    name: Option<Vec<u8>>,
    map: Option<Vec<u8>>,
    real_size: Option<u64>,
}

impl<R: BufRead> ArchiveReader<R> {
    /// Reads from `source`, which must be uncompressed.
    pub fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0 }
    }

    /// Goes on to the next entry, skipping what is left of the current one; `None` at the end of the archive. What
    /// follows the end stays unread.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut extension = Extension::default();
        loop {
            self.skip_rest()?;
            let Some(block) = self.read_header()? else { return Ok(None) };
            let fields = Fields::parse(&block)?;
            match fields.kind() {
                b'x' => {
                    let body = self.read_extension(fields.size()?)?;
                    extension.take_pax(&body)?;
                }
                // A global header: Docker ignores it too.
                b'g' => self.expect(fields.size()?)?,
                b'L' => extension.path = Some(text(self.read_extension(fields.size()?)?)),
                b'K' => extension.link = Some(text(self.read_extension(fields.size()?)?)),
                _ => return self.finish(&fields, extension).map(Some),
            }
        }
    }

    /// The data of the current entry. What is not read is skipped by [`Self::next_entry`].
    pub fn data(&mut self) -> EntryData<'_, R> {
        EntryData { reader: self }
    }

    /// Gives the source back, with whatever follows the archive.
    pub fn into_inner(self) -> R {
        self.source
    }

    fn finish(&mut self, fields: &Fields<'_>, extension: Extension) -> Result<Entry, ArchiveError> {
        let mut archived = extension.size.map_or_else(|| fields.size(), Ok)?;
        let path = extension.path.unwrap_or_else(|| fields.path());
        let kind = kind(fields, &path)?;
        if kind != EntryKind::File {
            // Go ignores the size of everything that is no file, whatever the header says.
            archived = 0;
        }
        let mut entry = Entry {
            path,
            link: extension.link.unwrap_or_else(|| fields.link()),
            kind,
            mode: fields.mode()?,
            uid: extension.uid.map_or_else(|| fields.uid(), Ok)?,
            gid: extension.gid.map_or_else(|| fields.gid(), Ok)?,
            size: archived,
            mtime: match extension.mtime {
                Some(mtime) => mtime,
                None => Time { seconds: fields.mtime()?, nanoseconds: 0 },
            },
            device: (0, 0),
            xattrs: extension.xattrs,
            sparse: None,
        };
        if matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
            entry.device = fields.device()?;
        }
        self.expect(archived)?;
        if fields.kind() == b'S' && fields.format() == Format::Gnu {
            let (first, goes_on, real_size) = fields.gnu_sparse()?;
            // The map's further blocks stand before the data and do not count as data.
            let map = sparse::read_gnu(first, goes_on, &mut self.source)?;
            entry.size = real_size;
            entry.sparse = Some(map);
        } else if kind == EntryKind::File {
            self.read_pax_sparse(extension.sparse, &mut entry)?;
        }
        if let Some(map) = &entry.sparse {
            sparse::check(map, entry.size, self.left)?;
        }
        Ok(entry)
    }

    fn read_pax_sparse(&mut self, records: SparseRecords, entry: &mut Entry) -> Result<(), ArchiveError> {
        let map = match (records.major, records.map) {
            (Some(1), _) => {
                let mut data = Read::take(&mut self.source, self.left);
                let (map, taken) = sparse::read_lines(&mut data)?;
                self.left -= taken;
                map
            }
            (_, Some(map)) => sparse::parse_list(&map)?,
            (_, None) => return Ok(()),
        };
        entry.size = records.real_size.ok_or(ArchiveError::Header)?;
        entry.sparse = Some(map);
        if let Some(name) = records.name {
            entry.path = name;
        }
        Ok(())
    }

    /// Reads a header; `None` at the end, which is two blocks of zeros, or one and nothing, or nothing at all.
    fn read_header(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let Some(block) = self.read_block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        match self.read_block()? {
            None => Ok(None),
            Some(block) if block == [0; BLOCK] => Ok(None),
            Some(_) => Err(ArchiveError::Header),
        }
    }

    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        if self.source.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut block = [0u8; BLOCK];
        self.source.read_exact(&mut block)?;
        Ok(Some(block))
    }

    /// Takes note of data that follows.
    fn expect(&mut self, size: u64) -> Result<(), ArchiveError> {
        let block = BLOCK as u64;
        // Beyond this, padding could overflow; no file system holds it.
        if size > i64::MAX as u64 {
            return Err(ArchiveError::Header);
        }
        self.left = size;
        self.padding = size.next_multiple_of(block) - size;
        Ok(())
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_LONG_HEADER {
            return Err(ArchiveError::LongHeader { size, limit: MAX_LONG_HEADER });
        }
        self.expect(size)?;
        let mut body = Vec::new();
        self.data().read_to_end(&mut body)?;
        if (body.len() as u64) < size { Err(ArchiveError::Truncated) } else { Ok(body) }
    }

    fn skip_rest(&mut self) -> Result<(), ArchiveError> {
        let mut left = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        while left > 0 {
            let available = self.source.fill_buf()?.len();
            if available == 0 {
                return Err(ArchiveError::Truncated);
            }
            let step = available.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.source.consume(step);
            left -= step as u64;
        }
        Ok(())
    }
}

/// The data of one entry.
#[derive(Debug)]
pub struct EntryData<'a, R> {
    reader: &'a mut ArchiveReader<R>,
}

impl<R: BufRead> Read for EntryData<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let n = available.read(buffer)?;
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for EntryData<'_, R> {
    /// Empty at the end of the entry; the archive ending first is an error.
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.reader.left == 0 {
            return Ok(&[]);
        }
        let available = self.reader.source.fill_buf()?;
        if available.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let n = available.len().min(usize::try_from(self.reader.left).unwrap_or(usize::MAX));
        Ok(&available[..n])
    }

    fn consume(&mut self, n: usize) {
        self.reader.left = self.reader.left.saturating_sub(n as u64);
        self.reader.source.consume(n);
    }
}

impl Extension {
    fn take_pax(&mut self, body: &[u8]) -> Result<(), ArchiveError> {
        for (key, value) in pax::records(body)? {
            self.take_record(key, value)?;
        }
        Ok(())
    }

    /// An empty value takes back what an earlier record said.
    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        let present = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = present.map(<[u8]>::to_vec),
            b"linkpath" => self.link = present.map(<[u8]>::to_vec),
            b"size" => self.size = present.map(pax::number).transpose()?,
            b"uid" => self.uid = present.map(pax::number).transpose()?,
            b"gid" => self.gid = present.map(pax::number).transpose()?,
            b"mtime" => self.mtime = present.map(pax::time).transpose()?,
            b"GNU.sparse.major" => self.sparse.major = present.map(pax::number).transpose()?,
            b"GNU.sparse.name" => self.sparse.name = present.map(<[u8]>::to_vec),
            b"GNU.sparse.map" => self.sparse.map = present.map(<[u8]>::to_vec),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.real_size = present.map(pax::number).transpose()?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(pax::XATTR) {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn kind(fields: &Fields<'_>, path: &[u8]) -> Result<EntryKind, ArchiveError> {
    match fields.kind() {
        // Before POSIX there was no type for directories.
        0 | b'0' if path.ends_with(b"/") => Ok(EntryKind::Directory),
        0 | b'0' | b'7' | b'S' => Ok(EntryKind::File),
        b'1' => Ok(EntryKind::HardLink),
        b'2' => Ok(EntryKind::Symlink),
        b'3' => Ok(EntryKind::CharDevice),
        b'4' => Ok(EntryKind::BlockDevice),
        b'5' => Ok(EntryKind::Directory),
        b'6' => Ok(EntryKind::Fifo),
        other => Err(ArchiveError::UnknownKind(other)),
    }
}

/// The body of a GNU long name: up to the first NUL.
fn text(mut body: Vec<u8>) -> Vec<u8> {
    if let Some(end) = body.iter().position(|byte| *byte == 0) {
        body.truncate(end);
    }
    body
}

//! Writes an archive in POSIX's PAX format, the same bytes for the same entries.
//!
//! Start reading at [`ArchiveWriter::append`]. A PAX header is written only where ustar's fields do not suffice: long
//! names, fractions of a second, large numbers, extended attributes.

use std::io::{self, Read, Write};

use super::{BLOCK, Entry, EntryKind, header, pax};

/// Writes a tar archive from front to back.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    sink: W,
}

impl<W: Write> ArchiveWriter<W> {
    /// Writes to `sink`.
    pub fn new(sink: W) -> Self {
        Self { sink }
    }

    /// Writes one entry, and exactly `entry.size` bytes of `data` if it is a file. Fewer are an error, because the
    /// archive would be broken; a file that is being written to elsewhere is cut off.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        let extension = extension(entry);
        if !extension.is_empty() {
            let extended = Entry { size: extension.len() as u64, mode: 0o644, ..Entry::default() };
            self.sink.write_all(&block(&extended, b'x', b"PaxHeaders/x"))?;
            self.sink.write_all(&extension)?;
            self.pad(extended.size)?;
        }
        self.sink.write_all(&block(entry, type_flag(entry.kind), &entry.path))?;
        if entry.kind == EntryKind::File {
            let copied = io::copy(&mut data.take(entry.size), &mut self.sink)?;
            if copied < entry.size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.pad(entry.size)?;
        }
        Ok(())
    }

    /// Writes the end of the archive and gives the sink back.
    pub fn finish(mut self) -> io::Result<W> {
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let beyond = usize::try_from(size % BLOCK as u64).unwrap_or(0);
        if beyond == 0 { Ok(()) } else { self.sink.write_all(&[0; BLOCK][beyond..]) }
    }
}

fn type_flag(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::File => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::CharDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

/// The PAX records that an entry needs, in a fixed order.
fn extension(entry: &Entry) -> Vec<u8> {
    let mut body = Vec::new();
    if split_path(&entry.path).is_none() {
        pax::put(&mut body, b"path", &entry.path);
    }
    if entry.link.len() > 100 || !entry.link.is_ascii() {
        pax::put(&mut body, b"linkpath", &entry.link);
    }
    if entry.kind == EntryKind::File && entry.size > 0o77_777_777_777 {
        pax::put(&mut body, b"size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > 0o7_777_777 {
            pax::put(&mut body, key, id.to_string().as_bytes());
        }
    }
    let is_plain = (0..=0o77_777_777_777).contains(&entry.mtime.seconds) && entry.mtime.nanoseconds == 0;
    if !is_plain {
        pax::put(&mut body, b"mtime", pax::time_text(entry.mtime).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        pax::put(&mut body, &[pax::XATTR, name].concat(), value);
    }
    body
}

/// Prefix and name of ustar, or `None` if the path does not fit or is not ASCII, which ustar leaves undefined.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= 100 {
        return Some((&[], path));
    }
    let from = path.len().checked_sub(101)?;
    let slash = (from..path.len().min(156)).find(|at| path[*at] == b'/' && *at + 1 < path.len())?;
    Some((&path[..slash], &path[slash + 1..]))
}

fn block(entry: &Entry, flag: u8, path: &[u8]) -> [u8; BLOCK] {
    let mut block = [0u8; BLOCK];
    let put = |block: &mut [u8; BLOCK], at: usize, room: usize, bytes: &[u8]| {
        let n = bytes.len().min(room);
        block[at..at + n].copy_from_slice(&bytes[..n]);
    };
    let (prefix, name) = split_path(path).unwrap_or((&[], path));
    put(&mut block, 0, 100, name);
    put(&mut block, 345, 155, prefix);
    put(&mut block, 157, 100, &entry.link);
    header::put_number(&mut block[100..108], u64::from(entry.mode));
    header::put_number(&mut block[108..116], u64::from(if entry.uid > 0o7_777_777 { 0 } else { entry.uid }));
    header::put_number(&mut block[116..124], u64::from(if entry.gid > 0o7_777_777 { 0 } else { entry.gid }));
    let size = if flag == b'0' || flag == b'x' { entry.size } else { 0 };
    header::put_number(&mut block[124..136], if size > 0o77_777_777_777 { 0 } else { size });
    let seconds = u64::try_from(entry.mtime.seconds).unwrap_or(0);
    header::put_number(&mut block[136..148], if seconds > 0o77_777_777_777 { 0 } else { seconds });
    block[156] = flag;
    put(&mut block, 257, 8, b"ustar\x0000");
    header::put_number(&mut block[329..337], u64::from(entry.device.0));
    header::put_number(&mut block[337..345], u64::from(entry.device.1));
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    put(&mut block, 148, 8, format!("{sum:06o}\0 ").as_bytes());
    block
}

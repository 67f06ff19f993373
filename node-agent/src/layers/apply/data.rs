//! The bytes of regular files.
//!
//! Start reading at [`write_data`]. They go from the buffer of the stream straight to the file.

use std::io::BufRead;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::PlaceError;
use crate::layers::archive::{ArchiveError, Entry};

/// Writes what the archive holds of a file; holes of a sparse one stay holes.
pub(super) fn write_data(file: &OwnedFd, entry: &Entry, data: &mut dyn BufRead) -> Result<(), PlaceError> {
    let Some(extents) = &entry.sparse else { return write_all(file, None, entry.size, data) };
    rustix::fs::ftruncate(file, entry.size).map_err(PlaceError::kernel("set the length of"))?;
    for extent in extents {
        write_all(file, Some(extent.offset), extent.length, data)?;
    }
    Ok(())
}

/// Writes straight from the reader's buffer, at the file's position or at an offset.
fn write_all(
    file: &OwnedFd,
    offset: Option<u64>,
    length: u64,
    data: &mut dyn BufRead,
) -> Result<(), PlaceError> {
    let mut done = 0;
    while done < length {
        let available = data.fill_buf().map_err(ArchiveError::from)?;
        if available.is_empty() {
            return Err(ArchiveError::Truncated.into());
        }
        let step = available.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
        let written = match offset {
            None => rustix::io::write(file, &available[..step]),
            Some(offset) => rustix::io::pwrite(file, &available[..step], offset + done),
        };
        match written {
            Ok(n) => {
                data.consume(n);
                done += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(PlaceError::kernel("write")(errno)),
        }
    }
    Ok(())
}

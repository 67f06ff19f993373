//! How far a container's log has been sent.
//!
//! Start reading at [`Cursor`]. It lies beside the log, so that it goes where the log goes. It is not synced: after a power
//! loss entries are sent again, which receivers have to expect anyway.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Name of the file in the container's directory.
const FILE: &str = "log-sent.json";

/// What has been sent: everything before a moment, and so many entries of that moment. Entries lie in the order of their
/// times, so this is a place in the log whatever files it consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// The time of the last entry that was sent; `None` before the first.
    pub(super) time: Option<Timestamp>,
    /// How many entries of that time were sent.
    pub(super) n_sent: u64,
}

impl Cursor {
    /// Reads the one of a container's directory; that of a log of which nothing was sent if there is none.
    pub(super) fn read(directory: &Path) -> io::Result<Self> {
        match std::fs::read(directory.join(FILE)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Writes it, all or nothing.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let path = directory.join(FILE);
        let new = directory.join(format!("{FILE}.new"));
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(new, path)
    }

    /// Notes that an entry of this time was sent.
    pub(super) fn advance(&mut self, time: Timestamp) {
        if self.time == Some(time) {
            self.n_sent += 1;
        } else {
            *self = Self { time: Some(time), n_sent: 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_one_moment_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Cursor::read(dir.path()).unwrap(), Cursor::default());
        let (early, late) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
        let mut cursor = Cursor::default();
        for time in [early, early, late, late, late] {
            cursor.advance(time);
        }
        assert_eq!(cursor, Cursor { time: Some(late), n_sent: 3 });
        cursor.write(dir.path()).unwrap();
        assert_eq!(Cursor::read(dir.path()).unwrap(), cursor);
    }
}

//! What a node keeps of its membership beside certificate and store: its addresses and the managers it knows.
//!
//! Start reading at [`Record`]. One small file, `<data-root>/swarm/membership.json`, replaced by a rename. The certificate decides
//! whether a machine is a node; without one this file means nothing.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde::{Deserialize, Serialize};

const FILE: &str = "membership.json";
const VERSION: u32 = 1;

/// What a node keeps of its membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// Where its manager listens, now or after a promotion.
    pub(super) listen: SocketAddr,
    /// Where others reach it.
    pub(super) advertise: SocketAddr,
    /// Address of the data path; `None` is the same.
    pub(super) data_path: Option<IpAddr>,
    /// Managers, to be asked when this daemon starts again.
    pub(super) managers: Vec<SocketAddr>,
}

impl Record {
    pub(super) fn new(listen: SocketAddr, advertise: SocketAddr, data_path: Option<IpAddr>) -> Self {
        Self { version: VERSION, listen, advertise, data_path, managers: Vec::new() }
    }

    /// Reads what `directory` holds; `None` when there is nothing, or nothing that can be understood.
    pub(super) fn load(directory: &Path) -> std::io::Result<Option<Self>> {
        match std::fs::read(directory.join(FILE)) {
            Ok(text) => {
                Ok(serde_json::from_slice(&text).ok().filter(|record: &Self| record.version == VERSION))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces what `directory` holds. It is on disk when this returns.
    pub(super) fn store(&self, directory: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let fresh = directory.join("membership.json.new");
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        std::fs::rename(&fresh, directory.join(FILE))?;
        std::fs::File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_read_back_and_nonsense_counts_as_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::load(dir.path()).unwrap(), None);
        let at: SocketAddr = "10.0.0.1:2377".parse().unwrap();
        let mut record = Record::new(at, at, None);
        record.managers = vec![at];
        record.store(dir.path()).unwrap();
        assert_eq!(Record::load(dir.path()).unwrap(), Some(record));
        std::fs::write(dir.path().join(FILE), "nonsense").unwrap();
        assert_eq!(Record::load(dir.path()).unwrap(), None);
    }
}

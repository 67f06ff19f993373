//! The group under openraft's storage suite, and groups of several members over loopback with cuts between them.
//!
//! Start reading at [`World`].

mod cluster;
mod forms;

use openraft::testing::{StoreBuilder, Suite};

use super::log::LogStore;
use super::machine::Machine;
use super::types::{StorageError, TypeConfig};
use super::{Disk, Key, StoreKeys};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), StoreKeys { current: Key::random(), former: None }).unwrap();
        let (log, machine) = (LogStore::open(disk.clone(), 1).unwrap(), Machine::open(disk).unwrap());
        Ok((dir, log, machine))
    }
}

#[test]
fn the_store_keeps_what_raft_expects_of_it() {
    Suite::test_all(Builder).unwrap();
}

//! What is read from and written to a container's tree, on real file systems.
//!
//! Start reading at [`Place`]; hostile archives and containers are in `hostile.rs`, trees of mounts in `mounts.rs`. Most need
//! root, because owners are set and mounts made.

mod archives;
mod hostile;
mod mounts;

use std::fs;
use std::path::PathBuf;

use node_runtime::RootDirectory;
use rustix::fs::{Mode, OFlags};

use super::pack::{Top, pack};
use super::path::Wanted;
use super::stat;
use super::unpack::{Target, unpack};
use crate::api::files::ReplaceKinds;
use crate::error::NodeError;
use crate::layers::archive::{ArchiveReader, Entry};
use crate::userns::IdMapping;

/// A directory that serves as a container's root, with an outside that must never be touched.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("root/dir")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/secret"), "secret").unwrap();
        Self { directory }
    }

    /// A path inside the root, as the host sees it.
    fn inside(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path)
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    fn root(&self) -> RootDirectory {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        RootDirectory::new(rustix::fs::open(self.inside(""), flags, Mode::empty()).unwrap())
    }

    fn unpack(&self, directory: &str, archive: &[u8]) -> Result<(), NodeError> {
        self.unpack_as(directory, archive, ReplaceKinds::Allow, None)
    }

    fn unpack_as(
        &self,
        directory: &str,
        archive: &[u8],
        replace: ReplaceKinds,
        owner: Option<(u32, u32)>,
    ) -> Result<(), NodeError> {
        let root = self.root();
        let directory = stat::resolve(&root, directory);
        let mounts = vec![PathBuf::from("/dir/volume")];
        unpack(Target { root: &root, directory, replace, owner, mounts, ids: IdMapping::default() }, archive)
    }

    fn pack(&self, path: &str) -> Vec<(Entry, Vec<u8>)> {
        let root = self.root();
        let wanted = Wanted::parse(path);
        let found = stat::find(&root, &wanted).unwrap();
        entries(&Top::of(&root, &wanted, &found).unwrap())
    }

    fn assert_outside_is_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(self.outside()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read_to_string(self.outside().join("secret")).unwrap(), "secret");
    }
}

/// The entries of the archive that is made of something.
fn entries(top: &Top) -> Vec<(Entry, Vec<u8>)> {
    let mut bytes = Vec::new();
    pack(top, &IdMapping::default(), &mut bytes).unwrap();
    let mut reader = ArchiveReader::new(bytes.as_slice());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut reader.data(), &mut content).unwrap();
        entries.push((entry, content));
    }
    entries
}

fn names(entries: &[(Entry, Vec<u8>)]) -> Vec<String> {
    entries.iter().map(|(entry, _)| entry.display()).collect()
}

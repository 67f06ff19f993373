//! The tree of a container that does not run: its overlay with volumes in place, attached nowhere.
//!
//! Start reading at [`tree`]. All need root.

use std::path::Path;

use node_runtime::trees::{Branch, BranchAccess, BranchDepth, MissingPlace, assemble};

use super::*;
use crate::containers::mounter::{open_rootfs, open_rootfs_for_reading};
use crate::containers::ports::Rootfs;
use crate::layers::testing::{self, file};
use crate::userns::IdMapping;

fn rootfs(directory: &Path) -> Rootfs {
    for name in ["low/etc", "base", "up", "work", "volume/sub", "read-only"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    fs::write(directory.join("low/etc/passwd"), "image").unwrap();
    fs::write(directory.join("hosts"), "hosts").unwrap();
    Rootfs {
        lowers: vec![directory.join("base"), directory.join("low")],
        upper: directory.join("up"),
        work: directory.join("work"),
        options: ["redirect_dir=off", "metacopy=off", "index=off"].map(str::to_owned).to_vec(),
        ids: IdMapping::default(),
    }
}

fn tree(directory: &Path) -> RootDirectory {
    let rootfs = rootfs(directory);
    let branch = |destination: &str, source: &str, access| Branch {
        destination: destination.into(),
        source: directory.join(source),
        depth: BranchDepth::Tree,
        access,
    };
    // Children before parents: the order does not matter.
    let branches = [
        branch("/data/inner", "read-only", BranchAccess::ReadOnly),
        branch("/data", "volume", BranchAccess::ReadWrite),
        branch("/etc/hosts", "hosts", BranchAccess::ReadWrite),
    ];
    let refused = assemble(open_rootfs_for_reading(&rootfs).unwrap(), &branches, MissingPlace::Refuse);
    assert!(refused.is_err(), "there is no /data yet");
    RootDirectory::new(assemble(open_rootfs(&rootfs).unwrap(), &branches, MissingPlace::Make).unwrap())
}

fn unpack_into(root: &RootDirectory, directory: &str, name: &str) -> Result<(), NodeError> {
    let archive = testing::pack(&[file(name, "written")]);
    let directory = directory.to_owned();
    let replace = ReplaceKinds::Allow;
    let mounts = ["/etc/hosts", "/data", "/proc"].map(PathBuf::from).to_vec();
    unpack(
        Target { root, directory, replace, owner: None, mounts, ids: IdMapping::default() },
        archive.as_slice(),
    )
}

#[test]
fn files_go_to_the_volume_or_the_upper_layer_and_read_only_ones_are_refused() {
    if !testing::is_root("mounting") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let root = tree(directory.path());
    unpack_into(&root, "/data", "file").unwrap();
    unpack_into(&root, "/etc", "new").unwrap();
    assert!(unpack_into(&root, "/data/inner", "file").is_err());
    assert!(unpack_into(&root, "/etc", "hosts").is_err(), "what is mounted is busy");
    assert!(unpack_into(&root, "/", "etc").is_err(), "and so is what it is in");
    assert_eq!(fs::read_to_string(directory.path().join("volume/file")).unwrap(), "written");
    assert_eq!(fs::read_to_string(directory.path().join("up/etc/new")).unwrap(), "written");
    assert_eq!(fs::read_to_string(directory.path().join("hosts")).unwrap(), "hosts");
    let packed = entries(&Top::everything(&root).unwrap());
    let seen = names(&packed);
    for path in ["data/file", "data/inner/", "data/sub/", "etc/hosts", "etc/new", "etc/passwd"] {
        assert!(seen.iter().any(|name| name == path), "{path} in {seen:?}");
    }
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(), before);
    drop(root);
    assert!(fs::read_dir(directory.path().join("volume/inner")).unwrap().next().is_none());
}

#[test]
fn no_device_can_be_opened_through_the_tree() {
    if !testing::is_root("making devices") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let root = tree(directory.path());
    let dir = root.open("/data".as_ref(), OFlags::PATH | OFlags::DIRECTORY).unwrap();
    let zero = rustix::fs::makedev(1, 5);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(&dir, "zero", kind, Mode::from_raw_mode(0o666), zero).unwrap();
    let opened = root.open("/data/zero".as_ref(), OFlags::RDONLY | OFlags::NONBLOCK);
    assert_eq!(opened.unwrap_err(), rustix::io::Errno::ACCESS);
    assert!(names(&entries(&Top::everything(&root).unwrap())).contains(&"data/zero".to_owned()));
}

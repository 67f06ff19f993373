//! Quotas of projects on a disk of the test's own, and where there are none.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::Command;

use super::*;
use crate::layers::testing::is_root;

/// A file system with project quotas on a loop device, in a mount namespace that only this thread sees.
struct Disk {
    directory: tempfile::TempDir,
}

fn run(program: &str, arguments: &[&OsStr]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "file systems are made by the machine's programs")]
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

impl Disk {
    /// Runs `test` with the disk mounted; skips it where that cannot be done.
    fn with(name: &str, options: &str, test: impl FnOnce(&Path) + Send) {
        if !is_root(name) {
            return;
        }
        let disk = Self { directory: tempfile::tempdir().unwrap() };
        let image = disk.directory.path().join("image");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let arguments = ["-q", "-O", "quota,project", "-E", "quotatype=prjquota"].map(OsStr::new);
        if !run("mkfs.ext4", &[&arguments[..], &[image.as_os_str()]].concat()) {
            println!("SKIPPED: {name} needs mkfs.ext4");
            return;
        }
        let point = disk.directory.path().join("disk");
        std::fs::create_dir(&point).unwrap();
        let mounted = node_runtime::in_private_mount_namespace(|| {
            let arguments = [OsStr::new("-o"), OsStr::new(options), image.as_os_str(), point.as_os_str()];
            let is_mounted = run("mount", &arguments);
            if is_mounted {
                test(&point);
            }
            Ok(is_mounted)
        });
        if !mounted.unwrap() {
            println!("SKIPPED: {name} needs loop devices and quotas in the kernel");
        }
    }
}

fn fill(path: &Path, bytes: usize) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&vec![7; bytes])?;
    file.sync_all()
}

#[test]
fn a_directory_grows_to_its_limit_and_its_project_is_free_when_it_is_gone() {
    let name = "a_directory_grows_to_its_limit_and_its_project_is_free_when_it_is_gone";
    Disk::with(name, "loop,prjquota", |disk| {
        let quotas = ProjectQuotas::open(disk).unwrap();
        let (first, second) = (disk.join("first"), disk.join("second"));
        std::fs::create_dir(&first).unwrap();
        std::fs::create_dir(&second).unwrap();
        let project = quotas.limit(&first, 4 << 20).unwrap();
        let other = quotas.limit(&second, 4 << 20).unwrap();
        assert_ne!(project, other, "a number with a limit is taken");
        assert_eq!(quotas.project_of(&first), Some(project));
        std::fs::create_dir(first.join("below")).unwrap();
        assert_eq!(quotas.project_of(&first.join("below")), Some(project), "inherited");
        fill(&first.join("below/a"), 3 << 20).unwrap();
        let error = fill(&first.join("b"), 3 << 20).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EDQUOT | libc::ENOSPC)), "{error}");
        fill(&second.join("a"), 3 << 20).unwrap();
        std::fs::remove_dir_all(&first).unwrap();
        quotas.forget(project).unwrap();
        std::fs::create_dir(&first).unwrap();
        assert_eq!(quotas.limit(&first, 1 << 20).unwrap(), project, "free again");
        assert_ne!(quotas.project_of(&second), Some(project));
        assert_eq!(quotas.project_of(disk), None);
    });
}

#[test]
fn quotas_that_are_counted_but_not_enforced_are_none() {
    let name = "quotas_that_are_counted_but_not_enforced_are_none";
    Disk::with(name, "loop", |disk| assert!(ProjectQuotas::open(disk).is_none()));
    assert!(ProjectQuotas::open(Path::new("/proc")).is_none());
}

#[test]
fn bytes_are_counted_in_whole_blocks() {
    assert_eq!([blocks(0), blocks(1), blocks(1024), blocks(1025)], [0, 1, 1, 2]);
}

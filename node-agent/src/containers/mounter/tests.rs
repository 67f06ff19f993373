//! What the kernel does for the engine, on real mounts that nobody else sees.
//!
//! Start reading at [`rootfs`]. All but the pid's tests need root.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::layers::testing::is_root;

/// A root file system of two layers below `directory`: the image has `etc/passwd`, the container `etc/group`.
fn rootfs(directory: &Path) -> Rootfs {
    for name in ["low/etc", "base", "up/etc", "work"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    fs::write(directory.join("low/etc/passwd"), "image").unwrap();
    fs::write(directory.join("up/etc/group"), "container").unwrap();
    Rootfs {
        lowers: vec![directory.join("base"), directory.join("low")],
        upper: directory.join("up"),
        work: directory.join("work"),
        options: ["redirect_dir=off", "metacopy=off", "index=off"].map(str::to_owned).to_vec(),
        ids: crate::userns::IdMapping::default(),
    }
}

fn read(rootfs: &Rootfs, path: &str) -> Option<Vec<u8>> {
    let root = RootDirectory::new(open_rootfs_for_reading(rootfs).unwrap());
    read_all(&root, &[path.into()]).unwrap().remove(0)
}

#[test]
fn an_opened_root_file_system_is_written_to_its_upper_layer_and_shows_in_no_mount_table() {
    if !is_root("mounting") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let rootfs = rootfs(directory.path());
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let root = open_rootfs(&rootfs).unwrap();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(), before);
    make_directory(root.try_clone().unwrap(), "/srv/app/", (0, 0)).unwrap();
    make_directory(root.try_clone().unwrap(), "/srv/app", (0, 0)).unwrap();
    let made = fs::metadata(directory.path().join("up/srv/app")).unwrap();
    assert_eq!((made.is_dir(), made.permissions().mode() & 0o7777), (true, 0o755));
    let refused = make_directory(root, "/etc/passwd", (0, 0)).unwrap_err();
    assert_eq!(refused.kind(), shoal_types::ErrorKind::InvalidArgument);
    assert_eq!(refused.message(), "Cannot mkdir: /etc/passwd is not a directory");
}

#[test]
fn files_are_read_through_the_layers_whiteouts_and_links() {
    if !is_root("mounting") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let rootfs = rootfs(directory.path());
    assert_eq!(read(&rootfs, "/etc/passwd").unwrap(), b"image");
    assert_eq!(read(&rootfs, "/etc/group").unwrap(), b"container");
    // A link to an absolute path stays inside.
    symlink("/etc/passwd", directory.path().join("up/link")).unwrap();
    symlink("../../../../etc/group", directory.path().join("up/up")).unwrap();
    assert_eq!(read(&rootfs, "link").unwrap(), b"image");
    assert_eq!(read(&rootfs, "up").unwrap(), b"container");
    let upper = fs::File::open(directory.path().join("up/etc")).unwrap();
    rustix::fs::mknodat(&upper, "passwd", FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    assert_eq!(read(&rootfs, "/etc/passwd"), None, "hidden by a whiteout");
}

#[test]
fn what_is_no_regular_file_is_not_there() {
    if !is_root("mounting") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let rootfs = rootfs(directory.path());
    let upper = fs::File::open(directory.path().join("up")).unwrap();
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(&upper, "fifo", FileType::Fifo, mode, 0).unwrap();
    rustix::fs::mknodat(&upper, "zero", FileType::CharacterDevice, mode, rustix::fs::makedev(1, 5)).unwrap();
    symlink("loop", directory.path().join("up/loop")).unwrap();
    symlink("/proc/self/root/etc/passwd", directory.path().join("up/magic")).unwrap();
    for path in ["fifo", "zero", "loop", "magic", "etc", "none", "etc/passwd/x", "/"] {
        assert_eq!(read(&rootfs, path), None, "{path}");
    }
}

#[test]
fn a_file_larger_than_any_such_file_is_cut_off() {
    if !is_root("mounting") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let rootfs = rootfs(directory.path());
    fs::File::create(directory.path().join("up/etc/passwd")).unwrap().set_len(MAX_FILE * 2).unwrap();
    assert_eq!(read(&rootfs, "/etc/passwd").unwrap().len() as u64, MAX_FILE);
}

#[test]
fn the_root_of_a_process_of_the_host_or_of_one_that_is_gone_is_refused() {
    assert!(open_root_of(std::process::id()).is_err(), "sees the host's root");
    assert!(open_root_of(0).is_err());
    assert!(open_root_of(u32::MAX).is_err());
    assert!(open_root_of(i32::MAX.unsigned_abs()).is_err(), "above the largest pid");
}

#[test]
fn shared_memory_has_its_size_and_flags_is_replaced_and_unmounted_without_a_trace() {
    if !is_root("mounting") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("of/shm");
    node_runtime::in_private_mount_namespace(|| {
        mount_shm(&target, 4 << 20, (0, 0)).unwrap();
        fs::write(target.join("left"), "by a crash").unwrap();
        mount_shm(&target, 2 << 20, (0, 0)).unwrap();
        assert!(!target.join("left").exists());
        let mounted = rustix::fs::statvfs(&target).unwrap();
        assert_eq!(mounted.f_blocks * mounted.f_frsize, 2 << 20);
        let flags = rustix::fs::StatVfsMountFlags::NOSUID
            | rustix::fs::StatVfsMountFlags::NODEV
            | rustix::fs::StatVfsMountFlags::NOEXEC;
        assert!(mounted.f_flag.contains(flags), "{:?}", mounted.f_flag);
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o1777);
        unmount_all(&target).unwrap();
        let table = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert!(!table.contains(&*directory.path().to_string_lossy()), "{table}");
        Ok(())
    })
    .unwrap();
    unmount_all(&target).unwrap();
    unmount_all(&directory.path().join("none")).unwrap();
}

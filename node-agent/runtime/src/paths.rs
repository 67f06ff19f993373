//! Paths inside a root file system, opened so that nothing in it can lead outside.
//!
//! Start reading at [`RootDirectory`]. Every path goes through openat2(2) with `RESOLVE_IN_ROOT`: symbolic links and
//! `..` are followed by the kernel as if the root were `/`, and magic links are refused. The lexical functions are pure.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Context, Result, RuntimeError};

/// Removes `.`, `..` and doubled slashes as if `path` stood below the root; always absolute.
pub(crate) fn clean_absolute(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// What a missing mount point is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountPoint {
    Directory,
    File,
}

/// The root directory of a container, as a descriptor. Whatever the container does to its files meanwhile, no method
/// leads outside.
#[derive(Debug)]
pub struct RootDirectory {
    fd: OwnedFd,
}

/// More links than this in one path are a loop; the kernel's own limit.
const MOST_LINKS: u32 = 40;

impl RootDirectory {
    /// Takes the descriptor of a directory; one opened with `O_PATH` will do.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens a path below the root. Symbolic links are followed, the last one unless `flags` say otherwise.
    pub fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.open_with(path, flags, ResolveFlags::empty())
    }

    /// Opens a path below the root without following any symbolic link.
    pub fn open_without_links(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.open_with(path, flags, ResolveFlags::NO_SYMLINKS)
    }

    fn open_with(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            // The kernel answers EAGAIN when a rename elsewhere made it unsure about `..`.
            match rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Opens a place to mount on, making it and its parents when they are missing.
    pub(crate) fn open_mount_point(&self, path: &Path, make: MountPoint) -> Result<OwnedFd> {
        match self.open(path, OFlags::PATH) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => {}
            Err(other) => return Err(describe("open mount point", path, other)),
        }
        match make {
            MountPoint::Directory => self.make_directories(path),
            MountPoint::File => {
                let (parent, name) = split(path)?;
                let parent_fd = self.make_directories(parent)?;
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
                match rustix::fs::openat(&parent_fd, name, flags, Mode::from_raw_mode(0o755)) {
                    Ok(_) => self
                        .open(path, OFlags::PATH)
                        .map_err(|errno| describe("open mount point", path, errno)),
                    Err(Errno::EXIST) => self.follow_dangling(path, &parent_fd, name, MountPoint::File),
                    Err(other) => Err(describe("create mount point", path, other)),
                }
            }
        }
    }

    /// Opens a directory, making it and its parents when they are missing, with mode 0755 less the umask.
    pub fn make_directories(&self, path: &Path) -> Result<OwnedFd> {
        self.make_directories_within(path, MOST_LINKS)
    }

    fn make_directories_within(&self, path: &Path, links: u32) -> Result<OwnedFd> {
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) if links > 0 => {}
            other => return other.map_err(|errno| describe("open directory", path, errno)),
        }
        let (parent, name) = split(path)?;
        let parent_fd = self.make_directories_within(parent, links)?;
        match rustix::fs::mkdirat(&parent_fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self
                .open(path, OFlags::PATH | OFlags::DIRECTORY)
                .map_err(|errno| describe("open directory", path, errno)),
            Err(Errno::EXIST) => {
                let target = self.link_target(path, &parent_fd, name)?;
                self.make_directories_within(&target, links - 1)
            }
            Err(other) => Err(describe("create directory", path, other)),
        }
    }

    fn follow_dangling(
        &self,
        path: &Path,
        parent: &OwnedFd,
        name: &OsStr,
        make: MountPoint,
    ) -> Result<OwnedFd> {
        let target = self.link_target(path, parent, name)?;
        let target_is_link = self.open(&target, OFlags::PATH | OFlags::NOFOLLOW).is_ok_and(|fd| {
            rustix::fs::statat(fd, "", rustix::fs::AtFlags::EMPTY_PATH)
                .is_ok_and(|status| rustix::fs::FileType::from_raw_mode(status.st_mode).is_symlink())
        });
        if target_is_link {
            return Err(describe("create mount point", path, Errno::LOOP));
        }
        self.open_mount_point(&target, make)
    }

    /// Reads where a dangling symbolic link leads, as seen from the root.
    fn link_target(&self, path: &Path, parent: &OwnedFd, name: &OsStr) -> Result<PathBuf> {
        let target = rustix::fs::readlinkat(parent, name, Vec::new())
            .map_err(|errno| describe("follow", path, errno))?;
        let target = PathBuf::from(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(target.as_bytes()));
        let directory = path.parent().unwrap_or_else(|| Path::new("/"));
        Ok(clean_absolute(&directory.join(target)))
    }
}

impl AsFd for RootDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(describe("open", path, Errno::NOENT)),
    }
}

fn describe(what: &str, path: &Path, errno: Errno) -> RuntimeError {
    RuntimeError::step(format!("{what} {} in the container's root", path.display()), errno)
}

/// Reads a small regular file below the root; `None` when it is missing, not a regular file, or longer than `limit`.
pub(crate) fn read_small_file(root: &RootDirectory, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    // Not to be stopped by a FIFO or a device that stands in the file's place.
    let fd = match root.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(fd) => fd,
        Err(_) => return Ok(None),
    };
    let file = std::fs::File::from(fd);
    let status = file.metadata().step(|| format!("stat {}", path.display()))?;
    if !status.is_file() || status.len() > limit {
        return Ok(None);
    }
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content).step(|| format!("read {}", path.display()))?;
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cleaned_path_never_leaves_the_root() {
        for (path, clean) in [
            ("/a/../../b", "/b"),
            ("a/./b//c", "/a/b/c"),
            ("", "/"),
            ("/../../..", "/"),
            ("/proc/../dev", "/dev"),
        ] {
            assert_eq!(clean_absolute(Path::new(path)), Path::new(clean), "{path}");
        }
    }

    fn root() -> (tempfile::TempDir, RootDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(directory.path(), flags, Mode::empty()).unwrap();
        (directory, RootDirectory::new(fd))
    }

    #[test]
    fn a_link_to_the_outside_leads_to_the_inside() {
        let (directory, root) = root();
        std::os::unix::fs::symlink("/etc", directory.path().join("link")).unwrap();
        assert!(root.open(Path::new("link/passwd"), OFlags::RDONLY).is_err());
        root.make_directories(Path::new("/link/deep")).unwrap();
        assert!(directory.path().join("etc/deep").is_dir());
        assert!(!Path::new("/etc/deep").exists());
    }

    #[test]
    fn a_mount_point_behind_a_dangling_link_is_made_inside() {
        let (directory, root) = root();
        std::os::unix::fs::symlink("../../run/file", directory.path().join("link")).unwrap();
        root.open_mount_point(Path::new("/link"), MountPoint::File).unwrap();
        assert!(directory.path().join("run/file").is_file());
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let (directory, root) = root();
        std::os::unix::fs::symlink("/b", directory.path().join("a")).unwrap();
        std::os::unix::fs::symlink("/a", directory.path().join("b")).unwrap();
        assert!(root.make_directories(Path::new("/a")).is_err());
        assert!(root.open_mount_point(Path::new("/b"), MountPoint::File).is_err());
    }

    #[test]
    fn small_files_are_read_and_others_are_not() {
        let (directory, root) = root();
        std::fs::write(directory.path().join("file"), "abc").unwrap();
        assert_eq!(read_small_file(&root, Path::new("file"), 10).unwrap().unwrap(), b"abc");
        assert!(read_small_file(&root, Path::new("file"), 2).unwrap().is_none());
        assert!(read_small_file(&root, Path::new("none"), 2).unwrap().is_none());
        assert!(read_small_file(&root, Path::new("/"), 2).unwrap().is_none());
    }
}

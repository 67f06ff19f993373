//! From an archive into a container's tree.
//!
//! Start reading at [`unpack`]. Archive and container are both hostile. The directory of every entry is opened by the
//! kernel inside the tree, so that links, whoever made them and whenever, lead to the inside; an entry is then made in
//! that directory by one name, exclusively, and its attributes are set through its descriptor or without following
//! links. Nothing that exists is written into: it is replaced, as in Docker, and a directory keeps what is in it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use node_runtime::{RootDirectory, as_filesystem_user};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::api::files::ReplaceKinds;
use crate::containers::mounter::make_directories;
use crate::error::NodeError;
use crate::layers::LayerError;
use crate::layers::apply::write_file;
use crate::layers::archive::{ArchiveError, ArchiveReader, Entry, EntryKind, Time};
use crate::layers::attributes::travels;
use crate::layers::compression::decompress_buffered;
use crate::userns::IdMapping;

/// The most memory that directories may take whose times are set at the end.
const MAX_TIMES_BYTES: usize = 64 << 20;

/// How and where to unpack.
#[derive(Debug)]
pub(super) struct Target<'a> {
    /// The container's tree.
    pub(super) root: &'a RootDirectory,
    /// The directory, absolute and free of links when it was looked up.
    pub(super) directory: String,
    /// What may replace what.
    pub(super) replace: ReplaceKinds,
    /// Whose the files are, if not what the archive says.
    pub(super) owner: Option<(u32, u32)>,
    /// Where something is mounted in the container. The kernel would let us remove such a place, and detach the mount
    /// from the container: nobody of the namespace in which it is busy asks.
    pub(super) mounts: Vec<PathBuf>,
    /// Whose ids those of the container are on the host.
    pub(super) ids: IdMapping,
}

/// Unpacks an archive, compressed or not. What was unpacked before a failure stays.
pub(super) fn unpack(target: Target<'_>, archive: impl BufRead + Send) -> Result<(), NodeError> {
    if target.ids.is_identity() {
        return unpack_here(target, archive);
    }
    // Root of the container: the host's has no id in what is mounted inside, such as a tmpfs.
    let (uid, gid) = target.ids.root();
    as_filesystem_user(uid, gid, || unpack_here(target, archive))
        .map_err(|source| NodeError::failed("unpack an archive", source))?
}

fn unpack_here(target: Target<'_>, archive: impl BufRead + Send) -> Result<(), NodeError> {
    let (_, archive) =
        decompress_buffered(archive).map_err(|source| LayerError::from(ArchiveError::from(source)))?;
    let mut reader = ArchiveReader::new(archive);
    let fixed = fixed(&target);
    let mut unpacking = Unpacking { target, fixed, parent: None, times: Vec::new(), times_bytes: 0 };
    while let Some(mut entry) = reader.next_entry().map_err(LayerError::from)? {
        unpacking.place(&mut entry, &mut reader.data())?;
    }
    unpacking.finish();
    Ok(())
}

/// The inodes of the places where something is mounted, and of all directories above them.
fn fixed(target: &Target<'_>) -> BTreeSet<(u64, u64)> {
    let places = target.mounts.iter().flat_map(|mount| mount.ancestors());
    let stats = places.filter_map(|place| {
        let found = target.root.open(place, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        rustix::fs::fstat(found).ok()
    });
    stats.map(|stat| (stat.st_dev, stat.st_ino)).collect()
}

struct Unpacking<'a> {
    target: Target<'a>,
    /// What must not be removed, whatever path leads to it.
    fixed: BTreeSet<(u64, u64)>,
    /// The directory of the last entry: most entries share theirs with the one before.
    parent: Option<Parent>,
    /// Directories and their times, which change as long as something is put into them.
    times: Vec<(PathBuf, Time)>,
    times_bytes: usize,
}

struct Parent {
    path: PathBuf,
    dir: OwnedFd,
    /// Whether new files get its group.
    inherits_group: bool,
}

/// Where an entry goes: an open directory and one name in it.
struct Place<'a> {
    dir: &'a OwnedFd,
    name: &'a OsStr,
    path: &'a Path,
    inherits_group: bool,
}

impl Unpacking<'_> {
    fn place(&mut self, entry: &mut Entry, data: &mut dyn BufRead) -> Result<(), NodeError> {
        self.translate(entry)?;
        let entry = &*entry;
        let path = self.locate(&entry.path, entry)?;
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        if path == Path::new(&self.target.directory) {
            // The directory itself: it is there, and stays as it is.
            return Ok(());
        }
        let failed = |source: std::io::Error| failed(&path, source);
        let parent = self.enter(directory).map_err(failed)?;
        let place = Place { dir: &parent.dir, name, path: &path, inherits_group: parent.inherits_group };
        let made = match entry.kind {
            EntryKind::File => self.make_file(&place, entry, data),
            EntryKind::Directory => self.make_directory(&place, entry),
            EntryKind::Symlink => self.make_symlink(&place, entry),
            EntryKind::HardLink => self.make_hard_link(&place, entry),
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => self.make_node(&place, entry),
        };
        self.parent = Some(parent);
        made
    }

    /// Gives an entry the owner that it shall have, with the ids of the host.
    fn translate(&self, entry: &mut Entry) -> Result<(), NodeError> {
        let (uid, gid) = self.target.owner.unwrap_or((entry.uid, entry.gid));
        let ids = &self.target.ids;
        (entry.uid, entry.gid) =
            ids.to_host(uid, gid).map_err(|unmapped| NodeError::invalid(unmapped.to_string()))?;
        entry.xattrs.iter_mut().for_each(|(name, value)| ids.attribute_to_host(name, value));
        Ok(())
    }

    /// Where a name of the archive lies in the tree. Only one that leads out of the directory is refused.
    fn locate(&self, name: &[u8], entry: &Entry) -> Result<PathBuf, NodeError> {
        let mut names: Vec<&OsStr> = Vec::new();
        for step in name.split(|byte| *byte == b'/') {
            match step {
                b"" | b"." => {}
                b".." if names.pop().is_none() => {
                    let directory = &self.target.directory;
                    let name = entry.display();
                    return Err(NodeError::invalid(format!("{name:?} is outside of {directory:?}")));
                }
                b".." => {}
                step => names.push(OsStr::from_bytes(step)),
            }
        }
        let mut path = PathBuf::from(&self.target.directory);
        path.extend(names);
        Ok(path)
    }

    /// Opens the directory of an entry, making it if the archive did not contain it.
    fn enter(&mut self, path: &Path) -> Result<Parent, std::io::Error> {
        if let Some(known) = self.parent.take_if(|known| known.path == path) {
            return Ok(known);
        }
        let dir = match self.target.root.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => make_directories(self.target.root, path, self.target.ids.root())
                .map_err(std::io::Error::other)?,
            other => other?,
        };
        let inherits_group = rustix::fs::fstat(&dir)?.st_mode & 0o2000 != 0;
        Ok(Parent { path: path.to_owned(), dir, inherits_group })
    }

    fn make_file(&self, place: &Place<'_>, entry: &Entry, data: &mut dyn BufRead) -> Result<(), NodeError> {
        let failed = |errno: Errno| failed(place.path, errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Nobody else may use what is not complete; a set-user-id bit would not survive the change of owner anyway.
        let file = self.create(place, entry, || {
            rustix::fs::openat(place.dir, place.name, flags, Mode::from_raw_mode(0o600))
        })?;
        write_file(&file, entry, data)?;
        self.set_attributes(&file, place, entry).map_err(failed)?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(failed)
    }

    fn make_directory(&mut self, place: &Place<'_>, entry: &Entry) -> Result<(), NodeError> {
        let mkdir = || rustix::fs::mkdirat(place.dir, place.name, Mode::from_raw_mode(0o700));
        let made = match mkdir() {
            Err(Errno::EXIST) => match self.clear(place, entry)? {
                Cleared::Kept => Ok(()),
                Cleared::Removed => mkdir(),
            },
            other => other,
        };
        made.map_err(|errno| failed(place.path, errno))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(place.dir, place.name, flags, Mode::empty())
            .map_err(|errno| failed(place.path, errno))?;
        // Owner and group of a directory that was there already may be anything.
        let place = Place { inherits_group: true, ..*place };
        self.set_attributes(&dir, &place, entry).map_err(|errno| failed(place.path, errno))?;
        self.times_bytes += place.path.as_os_str().len() + size_of::<(PathBuf, Time)>();
        if self.times_bytes > MAX_TIMES_BYTES {
            return Err(NodeError::invalid("the archive has too many directories"));
        }
        self.times.push((place.path.to_owned(), entry.mtime));
        Ok(())
    }

    /// Where a link leads is the business of whoever follows it, which is never us.
    fn make_symlink(&self, place: &Place<'_>, entry: &Entry) -> Result<(), NodeError> {
        let failed = |errno: Errno| failed(place.path, errno);
        self.create(place, entry, || {
            rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), place.dir, place.name)
        })?;
        self.set_owner(place, entry).map_err(failed)?;
        set_time(place, entry).map_err(failed)
    }

    /// Gives another name to a file, by its name in the archive.
    fn make_hard_link(&self, place: &Place<'_>, entry: &Entry) -> Result<(), NodeError> {
        let target = self.locate(&entry.link, entry)?;
        let failed = |errno: Errno| failed(place.path, errno);
        let (Some(directory), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(failed(Errno::PERM));
        };
        let dir = self.target.root.open(directory, OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
        if target == place.path {
            return Err(failed(Errno::EXIST));
        }
        self.create(place, entry, || rustix::fs::linkat(&dir, name, place.dir, place.name, AtFlags::empty()))
    }

    fn make_node(&self, place: &Place<'_>, entry: &Entry) -> Result<(), NodeError> {
        let failed = |errno: Errno| failed(place.path, errno);
        let kind = match entry.kind {
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let (major, minor) = entry.device;
        // What does not fit into the kernel's 12 and 20 bits would silently be another device.
        if major > 0xfff || minor > 0xf_ffff {
            return Err(failed(Errno::INVAL));
        }
        let device = rustix::fs::makedev(major, minor);
        self.create(place, entry, || {
            rustix::fs::mknodat(place.dir, place.name, kind, Mode::from_raw_mode(0o600), device)
        })?;
        self.set_owner(place, entry).map_err(failed)?;
        let node = rustix::fs::openat(
            place.dir,
            place.name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(failed)?;
        // The way to change the mode of exactly this node; an exchanged link would be refused.
        let path = format!("/proc/self/fd/{}", node.as_raw_fd());
        rustix::fs::chmod(path, mode(entry)).map_err(failed)?;
        set_time(place, entry).map_err(failed)
    }

    /// Makes something that is no directory, exclusively, after taking away what has its name.
    fn create<T>(
        &self,
        place: &Place<'_>,
        entry: &Entry,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, NodeError> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.clear(place, entry)?;
                make()
            }
            other => other,
        };
        made.map_err(|errno| failed(place.path, errno))
    }

    /// Takes away what has the name of an entry, unless both are directories.
    fn clear(&self, place: &Place<'_>, entry: &Entry) -> Result<Cleared, NodeError> {
        let failed = |errno: Errno| failed(place.path, errno);
        let stat = match rustix::fs::statat(place.dir, place.name, AtFlags::SYMLINK_NOFOLLOW) {
            // Somebody else was faster.
            Err(Errno::NOENT) => return Ok(Cleared::Removed),
            other => other.map_err(failed)?,
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let becomes_directory = entry.kind == EntryKind::Directory;
        if is_directory && becomes_directory {
            return Ok(Cleared::Kept);
        }
        if self.target.replace == ReplaceKinds::Refuse && is_directory != becomes_directory {
            let (before, now) =
                if is_directory { ("directory", "non-directory") } else { ("non-directory", "directory") };
            return Err(NodeError::invalid(format!(
                "cannot overwrite {before} {:?} with {now} {:?}",
                place.path, self.target.directory
            )));
        }
        if self.fixed.contains(&(stat.st_dev, stat.st_ino)) {
            return Err(failed(Errno::BUSY));
        }
        if !is_directory {
            rustix::fs::unlinkat(place.dir, place.name, AtFlags::empty()).map_err(failed)?;
            return Ok(Cleared::Removed);
        }
        let path = Path::new("/proc/self/fd").join(place.dir.as_raw_fd().to_string()).join(place.name);
        std::fs::remove_dir_all(path).map_err(|source| self::failed(place.path, source))?;
        Ok(Cleared::Removed)
    }

    /// Owner, mode and extended attributes of an open file, in the order in which none undoes another.
    fn set_attributes(&self, file: impl AsFd, place: &Place<'_>, entry: &Entry) -> Result<(), Errno> {
        let (uid, gid) = owner(entry);
        if (uid, gid) != (Uid::ROOT, Gid::ROOT) || place.inherits_group {
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&file, mode(entry))?;
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| travels(key)) {
            match rustix::fs::fsetxattr(&file, key.as_slice(), value, XattrFlags::empty()) {
                // As in Docker, what the file system does not take is left out.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn set_owner(&self, place: &Place<'_>, entry: &Entry) -> Result<(), Errno> {
        let (uid, gid) = owner(entry);
        rustix::fs::chownat(place.dir, place.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Sets the times of directories, now that nothing is put into them any more. One that has gone or become something
    /// else meanwhile has no time to be set.
    fn finish(self) {
        for (path, time) in self.times.iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let set =
                self.target.root.open(path, flags).and_then(|dir| rustix::fs::futimens(&dir, &times(*time)));
            if let Err(errno) = set {
                tracing::debug!(path = %path.display(), error = %errno, "the time of a directory is not set");
            }
        }
    }
}

/// What became of something that had the name of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cleared {
    /// It is gone.
    Removed,
    /// It is a directory and stays.
    Kept,
}

fn failed<E: std::error::Error + Send + Sync + 'static>(path: &Path, source: E) -> NodeError {
    NodeError::failed(format!("unpack {} in the container", path.display()), source)
}

fn owner(entry: &Entry) -> (Uid, Gid) {
    (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o7777)
}

fn set_time(place: &Place<'_>, entry: &Entry) -> Result<(), Errno> {
    rustix::fs::utimensat(place.dir, place.name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

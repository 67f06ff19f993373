//! Makes files, directories, links, devices and whiteouts of entries.
//!
//! Start reading at [`Stage::place_file`]. Attributes are set in the order owner, mode, extended attributes, time, because
//! each may reset what a later one sets. System calls that change nothing are left out: twenty thousand small files
//! cost four calls each.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::data::write_data;
use super::trail::{Missing, Trail};
use super::{Applied, Limits, PlaceError};
use crate::layers::archive::path::{AUFS_LINKS, LayerPath};
use crate::layers::archive::{ArchiveError, Entry, EntryKind, Time};
use crate::layers::{LayerError, Usage, diff, whiteout};

/// How many bytes are written between two looks at the free space.
const FREE_CHECK_INTERVAL: u64 = 64 << 20;
/// The most memory that names of implied directories and deferred links may take.
const MAX_DEFERRED_BYTES: usize = 64 << 20;
/// An access control list that new files would inherit; it is set when all files are there.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// A directory that a layer is being unpacked into.
pub(super) struct Stage {
    trail: Trail,
    limits: Limits,
    /// Bits that the kernel takes away from the modes we ask for.
    umask: u32,
    us: (u32, u32),
    n_entries: u64,
    usage: Usage,
    unchecked_bytes: u64,
    implied: BTreeSet<Vec<u8>>,
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    deferred_bytes: usize,
    /// Directory and list.
    default_acls: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether something was replaced, so that the running sums are too high.
    must_recount: bool,
}

/// What was in the way of a new entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing, or something that has been removed.
    Nothing,
    /// A whiteout, which has been removed.
    Whiteout,
    /// A directory, which stays.
    Directory,
}

impl Stage {
    /// A directory for containers whose root is `owner` on the host.
    pub(super) fn new(root: OwnedFd, limits: Limits, owner: (u32, u32)) -> Result<Self, PlaceError> {
        let trail = Trail::new(root, owner)?;
        Ok(Self {
            trail,
            limits,
            umask: umask().map_err(PlaceError::kernel("ask for the creation mask for"))?,
            us: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            n_entries: 0,
            usage: Usage::default(),
            unchecked_bytes: FREE_CHECK_INTERVAL,
            implied: BTreeSet::from([Vec::new()]),
            links: BTreeMap::new(),
            deferred_bytes: 0,
            default_acls: Vec::new(),
            must_recount: false,
        })
    }

    /// Counts an entry of the archive, or a directory that it implies.
    pub(super) fn count_entry(&mut self) -> Result<(), ArchiveError> {
        self.n_entries += 1;
        if self.n_entries > self.limits.entries {
            return Err(ArchiveError::TooLarge { what: "entries", limit: self.limits.entries });
        }
        Ok(())
    }

    /// Goes to the directory of these names and makes what is missing of it.
    pub(super) fn enter(&mut self, parents: &[&[u8]]) -> Result<(), PlaceError> {
        let mut made = Vec::new();
        let entered = self.trail.descend(parents, Missing::Make, &mut made);
        self.must_recount |= !made.is_empty();
        for path in made {
            self.count_entry()?;
            self.defer(path.len())?;
            self.implied.insert(path);
        }
        entered.map(|_| ())
    }

    /// Writes a regular file.
    pub(super) fn place_file(
        &mut self,
        name: &[u8],
        entry: &Entry,
        data: &mut dyn BufRead,
    ) -> Result<(), PlaceError> {
        self.reserve(entry.size)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode);
        let open = |stage: &Self| rustix::fs::openat(stage.trail.here(), name, flags, mode);
        let file = match open(self) {
            Err(Errno::EXIST) => {
                self.clear(name, entry.kind)?;
                open(self)
            }
            other => other,
        }
        .map_err(PlaceError::kernel("create"))?;
        self.trail.mark_changed();
        write_data(&file, entry, data)?;
        self.usage.inodes += 1;
        self.usage.bytes += entry.size;
        let chowned = self.must_chown(entry);
        if chowned {
            let (uid, gid) = owner(entry)?;
            rustix::fs::fchown(&file, uid, gid).map_err(PlaceError::kernel("set the owner of"))?;
        }
        if self.must_chmod(entry) || (chowned && entry.mode & 0o6000 != 0) {
            rustix::fs::fchmod(&file, mode).map_err(PlaceError::kernel("set the mode of"))?;
        }
        for (key, value) in wanted_xattrs(entry) {
            let set = rustix::fs::fsetxattr(&file, key, value, XattrFlags::empty());
            tolerate_unsupported(set, entry, key)?;
        }
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(PlaceError::kernel("set the time of"))
    }

    /// Makes a directory, or gives the one that is there other attributes.
    pub(super) fn place_directory(&mut self, name: &[u8], entry: &Entry) -> Result<(), PlaceError> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let mut before = Before::Nothing;
        let mut made = rustix::fs::mkdirat(self.trail.here(), name, mode);
        if made == Err(Errno::EXIST) {
            before = self.clear(name, entry.kind)?;
            made = match before {
                Before::Directory => Ok(()),
                Before::Nothing | Before::Whiteout => rustix::fs::mkdirat(self.trail.here(), name, mode),
            };
        }
        made.map_err(PlaceError::kernel("create"))?;
        self.trail.mark_changed();
        if before == Before::Directory {
            let path = self.trail.path_of(name);
            self.implied.remove(&path);
        } else {
            self.usage.inodes += 1;
        }
        if before == Before::Directory || self.must_chown(entry) {
            self.chown(name, entry)?;
        }
        if before == Before::Directory || self.must_chmod(entry) || entry.mode & 0o7000 != 0 {
            rustix::fs::chmodat(self.trail.here(), name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(PlaceError::kernel("set the mode of"))?;
        }
        if before == Before::Whiteout {
            self.set_xattr(name, whiteout::OPAQUE_XATTR, whiteout::OPAQUE_VALUE)
                .map_err(PlaceError::kernel("hide what is below"))?;
        }
        self.set_xattrs(name, entry)?;
        self.set_time(name, entry)
    }

    /// Makes a symbolic link. Where it leads is the business of whoever follows it, which is never us.
    pub(super) fn place_symlink(&mut self, name: &[u8], entry: &Entry) -> Result<(), PlaceError> {
        if entry.link.is_empty() {
            return Err(PlaceError::Refused("is a symbolic link without a target"));
        }
        let link = entry.link.as_slice();
        self.create(name, entry.kind, |trail| rustix::fs::symlinkat(link, trail.here(), name))?;
        self.usage.bytes += entry.link.len() as u64;
        if self.must_chown(entry) {
            self.chown(name, entry)?;
        }
        self.set_xattrs(name, entry)?;
        self.set_time(name, entry)
    }

    /// Gives an earlier file another name. A target that is not in this layer is left for later.
    pub(super) fn place_hard_link(&mut self, name: &[u8], target: &LayerPath<'_>) -> Result<(), PlaceError> {
        let Some((parents, target_name)) = target.split_last() else {
            return Err(PlaceError::Refused("is a hard link to the root"));
        };
        let mut way = self.trail.restarted()?;
        let found = way.descend(parents, Missing::Stop, &mut Vec::new())?;
        let stat = match found {
            Some(()) => match rustix::fs::statat(way.here(), target_name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(stat),
                Err(Errno::NOENT) => None,
                Err(errno) => return Err(PlaceError::kernel("look at the target of")(errno)),
            },
            None => None,
        };
        let Some(stat) = stat else {
            let path = self.trail.path_of(name);
            self.defer(path.len() + 4096)?;
            self.links.insert(path, target.names().join(&b'/'));
            return Ok(());
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(PlaceError::Refused("is a hard link to a directory"));
        }
        if whiteout::is_whiteout(&stat) {
            return Err(PlaceError::Refused("is a hard link to a deleted file"));
        }
        if way.path_of(target_name) == self.trail.path_of(name) {
            return Err(PlaceError::Refused("is a hard link to itself"));
        }
        self.create(name, EntryKind::HardLink, |trail| {
            rustix::fs::linkat(way.here(), target_name, trail.here(), name, AtFlags::empty())
        })?;
        // The inode was counted with its first name.
        self.usage.inodes = self.usage.inodes.saturating_sub(1);
        Ok(())
    }

    /// Makes a device or a named pipe.
    pub(super) fn place_node(&mut self, name: &[u8], entry: &Entry) -> Result<(), PlaceError> {
        let kind = match entry.kind {
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let (major, minor) = entry.device;
        // What does not fit into the kernel's 12 and 20 bits would silently be another device.
        if major > 0xfff || minor > 0xf_ffff {
            return Err(PlaceError::Refused("has a device number that does not exist"));
        }
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(entry.mode);
        self.create(name, entry.kind, |trail| rustix::fs::mknodat(trail.here(), name, kind, mode, device))?;
        if self.must_chown(entry) {
            self.chown(name, entry)?;
        }
        if self.must_chmod(entry) || entry.mode & 0o7000 != 0 {
            rustix::fs::chmodat(self.trail.here(), name, mode, AtFlags::empty())
                .map_err(PlaceError::kernel("set the mode of"))?;
        }
        self.set_xattrs(name, entry)?;
        self.set_time(name, entry)
    }

    /// Hides a name of the layers below. What this layer has under that name stays and hides it anyway.
    pub(super) fn place_whiteout(&mut self, name: &[u8]) -> Result<(), PlaceError> {
        let there = rustix::fs::statat(self.trail.here(), name, AtFlags::SYMLINK_NOFOLLOW);
        match there {
            Err(Errno::NOENT) => {
                self.create(name, EntryKind::CharDevice, |trail| whiteout::make(trail.here(), name))
            }
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => self
                .set_xattr(name, whiteout::OPAQUE_XATTR, whiteout::OPAQUE_VALUE)
                .map_err(PlaceError::kernel("hide what is below")),
            Ok(_) => Ok(()),
            Err(errno) => Err(PlaceError::kernel("look at")(errno)),
        }
    }

    /// Hides everything that the layers below have in the directory we are in.
    pub(super) fn make_opaque(&mut self) -> Result<(), PlaceError> {
        let (key, value) = (whiteout::OPAQUE_XATTR, whiteout::OPAQUE_VALUE);
        rustix::fs::fsetxattr(self.trail.here(), key, value, XattrFlags::empty())
            .map_err(PlaceError::kernel("hide what is below the directory of"))
    }

    /// The archive has an entry for the root.
    pub(super) fn set_root_attributes(&mut self, entry: &Entry) -> Result<(), PlaceError> {
        self.trail.leave_to(0)?;
        let root = self.trail.here();
        let (uid, gid) = owner(entry)?;
        rustix::fs::fchown(root, uid, gid).map_err(PlaceError::kernel("set the owner of"))?;
        rustix::fs::fchmod(root, Mode::from_raw_mode(entry.mode))
            .map_err(PlaceError::kernel("set the mode of"))?;
        for (key, value) in wanted_xattrs(entry) {
            tolerate_unsupported(rustix::fs::fsetxattr(root, key, value, XattrFlags::empty()), entry, key)?;
        }
        self.trail.set_root_mtime(timespec(entry.mtime));
        self.trail.mark_changed();
        self.implied.remove(&Vec::new());
        Ok(())
    }

    /// Sets what could not be set before everything was there.
    pub(super) fn finish(mut self) -> Result<Applied, PlaceError> {
        self.trail.leave_to(0)?;
        match std::fs::remove_dir_all(self.host_path(AUFS_LINKS)) {
            Ok(()) => {
                self.must_recount = true;
                self.forget_implied_below(AUFS_LINKS);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(PlaceError::kernel("remove")(error)),
        }
        for (path, value) in std::mem::take(&mut self.default_acls) {
            let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
            // The directory may have been replaced since.
            if self.trail.descend(&names, Missing::Stop, &mut Vec::new())?.is_some() {
                rustix::fs::fsetxattr(self.trail.here(), DEFAULT_ACL, &value, XattrFlags::empty())
                    .map_err(PlaceError::kernel("set the access control list of"))?;
            }
        }
        self.trail.leave_to(0)?;
        if self.must_recount {
            let root = format!("/proc/self/fd/{}", self.trail.here().as_raw_fd());
            self.usage = diff::usage(Path::new(&root)).map_err(into_kernel("look into"))?;
        }
        self.trail.finish()?;
        Ok(Applied { usage: self.usage, implied: self.implied, deferred_links: self.links })
    }

    /// Makes something that is neither a file nor a directory, in the place of what is there.
    fn create(
        &mut self,
        name: &[u8],
        kind: EntryKind,
        make: impl Fn(&Trail) -> Result<(), Errno>,
    ) -> Result<(), PlaceError> {
        match make(&self.trail) {
            Err(Errno::EXIST) => {
                self.clear(name, kind)?;
                make(&self.trail)
            }
            other => other,
        }
        .map_err(PlaceError::kernel("create"))?;
        self.trail.mark_changed();
        self.usage.inodes += 1;
        Ok(())
    }

    /// Takes away what has the name of a new entry, unless both are directories.
    fn clear(&mut self, name: &[u8], kind: EntryKind) -> Result<Before, PlaceError> {
        let stat = rustix::fs::statat(self.trail.here(), name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(PlaceError::kernel("look at"))?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory && kind == EntryKind::Directory {
            return Ok(Before::Directory);
        }
        self.must_recount = true;
        if is_directory {
            std::fs::remove_dir_all(self.host_path(name)).map_err(PlaceError::kernel("replace"))?;
            let path = self.trail.path_of(name);
            self.forget_implied_below(&path);
            return Ok(Before::Nothing);
        }
        rustix::fs::unlinkat(self.trail.here(), name, AtFlags::empty())
            .map_err(PlaceError::kernel("replace"))?;
        Ok(if whiteout::is_whiteout(&stat) { Before::Whiteout } else { Before::Nothing })
    }

    fn forget_implied_below(&mut self, path: &[u8]) {
        self.implied.remove(path);
        let below = [path, b"/"].concat();
        let gone: Vec<Vec<u8>> = self
            .implied
            .range(below.clone()..)
            .take_while(|other| other.starts_with(&below))
            .cloned()
            .collect();
        for path in gone {
            self.implied.remove(&path);
        }
    }

    fn defer(&mut self, bytes: usize) -> Result<(), PlaceError> {
        self.deferred_bytes += bytes;
        if self.deferred_bytes > MAX_DEFERRED_BYTES {
            let limit = MAX_DEFERRED_BYTES as u64;
            return Err(ArchiveError::TooLarge { what: "bytes of implied paths", limit }.into());
        }
        Ok(())
    }

    /// Checks that a file of this size may be written.
    fn reserve(&mut self, size: u64) -> Result<(), PlaceError> {
        let total = self.usage.bytes.saturating_add(size);
        if total > self.limits.bytes {
            return Err(ArchiveError::TooLarge { what: "bytes", limit: self.limits.bytes }.into());
        }
        self.unchecked_bytes = self.unchecked_bytes.saturating_add(size);
        if self.unchecked_bytes >= FREE_CHECK_INTERVAL {
            self.unchecked_bytes = 0;
            let fs = rustix::fs::fstatvfs(self.trail.here())
                .map_err(PlaceError::kernel("look at the file system of"))?;
            let free = fs.f_bavail.saturating_mul(fs.f_frsize);
            if free < self.limits.free_bytes.saturating_add(size) {
                return Err(PlaceError::kernel("write")(Errno::NOSPC));
            }
        }
        Ok(())
    }

    fn must_chown(&self, entry: &Entry) -> bool {
        (entry.uid, entry.gid) != self.us || self.trail.inherits_group()
    }

    fn must_chmod(&self, entry: &Entry) -> bool {
        entry.mode & self.umask != 0 || self.trail.inherits_group()
    }

    fn chown(&self, name: &[u8], entry: &Entry) -> Result<(), PlaceError> {
        let (uid, gid) = owner(entry)?;
        rustix::fs::chownat(self.trail.here(), name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(PlaceError::kernel("set the owner of"))
    }

    fn set_time(&self, name: &[u8], entry: &Entry) -> Result<(), PlaceError> {
        rustix::fs::utimensat(self.trail.here(), name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(PlaceError::kernel("set the time of"))
    }

    fn set_xattrs(&mut self, name: &[u8], entry: &Entry) -> Result<(), PlaceError> {
        for (key, value) in wanted_xattrs(entry) {
            if key == DEFAULT_ACL && entry.kind == EntryKind::Directory {
                let path = self.trail.path_of(name);
                self.defer(path.len() + value.len())?;
                self.default_acls.push((path, value.to_vec()));
                continue;
            }
            tolerate_unsupported(self.set_xattr(name, key, value), entry, key)?;
        }
        Ok(())
    }

    fn set_xattr(&self, name: &[u8], key: &[u8], value: &[u8]) -> Result<(), Errno> {
        rustix::fs::lsetxattr(self.host_path(name), key, value, XattrFlags::empty())
    }

    /// A path for calls that take no directory. Only its last part comes from the archive, and is one name.
    fn host_path(&self, name: &[u8]) -> PathBuf {
        let here = self.trail.here().as_raw_fd().to_string();
        Path::new("/proc/self/fd").join(here).join(OsStr::from_bytes(name))
    }
}

/// The attributes that are taken over. `trusted.*` is not: it steers overlayfs itself (redirects, metadata-only copies),
/// and containerd leaves it out too; nor is overlayfs's unprivileged form of it.
fn wanted_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry
        .xattrs
        .iter()
        .filter(|(key, _)| !key.starts_with(b"trusted.") && !key.starts_with(b"user.overlay."))
        .map(|(key, value)| (key.as_slice(), value.as_slice()))
}

/// As in Docker, an attribute that the file system does not take is left out with a note in the log.
fn tolerate_unsupported(set: Result<(), Errno>, entry: &Entry, key: &[u8]) -> Result<(), PlaceError> {
    match set {
        Err(Errno::NOTSUP | Errno::PERM) => {
            let key = String::from_utf8_lossy(key);
            tracing::debug!(path = entry.display(), xattr = %key, "an extended attribute is not supported");
            Ok(())
        }
        other => other.map_err(PlaceError::kernel("set an extended attribute of")),
    }
}

fn into_kernel(doing: &'static str) -> impl FnOnce(LayerError) -> PlaceError {
    move |error| PlaceError::Kernel(doing, std::io::Error::other(error))
}

/// The highest number is not an id: to chown(2) it means "as it was".
fn owner(entry: &Entry) -> Result<(Option<Uid>, Option<Gid>), PlaceError> {
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        return Err(PlaceError::Refused("has an owner that does not exist"));
    }
    Ok((Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))))
}

fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) }
}

fn times(time: Time) -> Timestamps {
    Timestamps { last_access: timespec(time), last_modification: timespec(time) }
}

/// The file mode creation mask, which cannot be asked for by a system call without changing it for all threads.
fn umask() -> Result<u32, std::io::Error> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let octal = line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    // A kernel that does not tell (before 4.7) makes us set every mode.
    Ok(octal.unwrap_or(0o7777))
}

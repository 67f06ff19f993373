//! The way from the root of a layer to the directory that is being worked in, one open directory after the other.
//!
//! Start reading at [`Trail::descend`]. Archives are mostly in the order of the tree, so most entries find their
//! directory open. Every step opens one name in one open directory and does not follow a link, so there is no path that
//! leads out; a symbolic link that the archive made is read and its target walked the same way, with `..` ending at the
//! root. No kernel feature beyond openat(2) is needed for that.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::PlaceError;
use crate::layers::whiteout;

/// As in the kernel's own path walk.
const MAX_LINKS: usize = 40;
/// Deeper than PATH_MAX allows a path to be; symbolic links could otherwise go on.
const MAX_DEPTH: usize = 2048;

/// Open directories, from just below the root to where we are. Holds no symbolic links.
#[derive(Debug)]
pub(super) struct Trail {
    root: Node,
    /// Whose the directories are that the archive only implies.
    owner: (u32, u32),
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    name: Vec<u8>,
    dir: OwnedFd,
    /// When its content last changed as far as the archive says; set again when we leave, because working in it changes
    /// the time.
    mtime: Timespec,
    /// Whether new files inherit its group.
    inherits_group: bool,
    has_changed: bool,
}

/// What to do about directories that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make them; their paths are reported.
    Make,
    /// Give up.
    Stop,
}

impl Trail {
    /// A trail that begins and ends at the root. Directories that are made on the way belong to `owner`.
    pub(super) fn new(root: OwnedFd, owner: (u32, u32)) -> Result<Self, PlaceError> {
        Ok(Self { root: Node::new(Vec::new(), root)?, owner, nodes: Vec::new() })
    }

    /// A second trail from the same root.
    pub(super) fn restarted(&self) -> Result<Self, PlaceError> {
        let root = self.root.dir.try_clone().map_err(PlaceError::kernel("duplicate a descriptor for"))?;
        Self::new(root, self.owner)
    }

    /// The directory at the end.
    pub(super) fn here(&self) -> BorrowedFd<'_> {
        self.last().dir.as_fd()
    }

    /// Whether new files get the group of the directory at the end instead of ours.
    pub(super) fn inherits_group(&self) -> bool {
        self.last().inherits_group
    }

    /// The path of a name in the directory at the end.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        for node in &self.nodes {
            path.extend_from_slice(&node.name);
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Takes note that something is made or removed in the directory at the end.
    pub(super) fn mark_changed(&mut self) {
        self.last_mut().has_changed = true;
    }

    /// Remembers another time for the root.
    pub(super) fn set_root_mtime(&mut self, mtime: Timespec) {
        self.root.mtime = mtime;
    }

    /// Goes to the directory of these names, through symbolic links if need be. `None` if something is missing and shall
    /// not be made; then the trail ends somewhere. The paths of directories that were made are added to `made`.
    pub(super) fn descend(
        &mut self,
        names: &[&[u8]],
        missing: Missing,
        made: &mut Vec<Vec<u8>>,
    ) -> Result<Option<()>, PlaceError> {
        let common = self.nodes.iter().zip(names).take_while(|(node, name)| node.name == **name).count();
        self.leave_to(common)?;
        let mut ahead: VecDeque<Vec<u8>> = names[common..].iter().map(|name| name.to_vec()).collect();
        let mut n_links = 0;
        while let Some(name) = ahead.pop_front() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    self.leave_to(self.nodes.len().saturating_sub(1))?;
                    continue;
                }
                _ if self.nodes.len() == MAX_DEPTH => return Err(PlaceError::Refused("is nested too deep")),
                _ => {}
            }
            match self.open(&name) {
                Ok(dir) => self.nodes.push(Node::new(name, dir)?),
                Err(Errno::NOENT) if missing == Missing::Stop => return Ok(None),
                Err(Errno::NOENT) => {
                    self.make_implied(&name, made)?;
                    ahead.push_front(name);
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let stat = rustix::fs::statat(self.here(), &name, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(PlaceError::kernel("look at the directory of"))?;
                    match FileType::from_raw_mode(stat.st_mode) {
                        FileType::Symlink if n_links < MAX_LINKS => {
                            n_links += 1;
                            self.follow(&name, &mut ahead)?;
                        }
                        FileType::Symlink => return Err(PlaceError::Refused("has too many symbolic links")),
                        _ if missing == Missing::Stop => return Ok(None),
                        _ if whiteout::is_whiteout(&stat) => {
                            self.replace_whiteout(&name, made)?;
                            ahead.push_front(name);
                        }
                        _ => return Err(PlaceError::Refused("lies in something that is not a directory")),
                    }
                }
                Err(errno) => return Err(PlaceError::kernel("open the directory of")(errno)),
            }
        }
        Ok(Some(()))
    }

    /// Goes back until `depth` directories are left, and sets the times of those left behind that were changed.
    pub(super) fn leave_to(&mut self, depth: usize) -> Result<(), PlaceError> {
        while self.nodes.len() > depth {
            if let Some(node) = self.nodes.pop() {
                node.leave()?;
            }
        }
        Ok(())
    }

    /// Goes back to the root and sets its time too.
    pub(super) fn finish(mut self) -> Result<(), PlaceError> {
        self.leave_to(0)?;
        self.root.leave()
    }

    fn open(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.here(), name, flags, Mode::empty())
    }

    fn make_implied(&mut self, name: &[u8], made: &mut Vec<Vec<u8>>) -> Result<(), PlaceError> {
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(self.here(), name, mode)
            .map_err(PlaceError::kernel("create the directory of"))?;
        if self.owner != (0, 0) {
            let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
            rustix::fs::chownat(self.here(), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(PlaceError::kernel("set the owner of the directory of"))?;
        }
        self.mark_changed();
        made.push(self.path_of(name));
        Ok(())
    }

    /// Files below a name that this layer deletes: a new directory that shows nothing of the old one.
    fn replace_whiteout(&mut self, name: &[u8], made: &mut Vec<Vec<u8>>) -> Result<(), PlaceError> {
        rustix::fs::unlinkat(self.here(), name, AtFlags::empty())
            .map_err(PlaceError::kernel("replace the directory of"))?;
        self.make_implied(name, made)?;
        let dir = self.open(name).map_err(PlaceError::kernel("open the directory of"))?;
        rustix::fs::fsetxattr(&dir, whiteout::OPAQUE_XATTR, whiteout::OPAQUE_VALUE, XattrFlags::empty())
            .map_err(PlaceError::kernel("hide what is below the directory of"))
    }

    fn follow(&mut self, name: &[u8], ahead: &mut VecDeque<Vec<u8>>) -> Result<(), PlaceError> {
        let target = rustix::fs::readlinkat(self.here(), name, Vec::new())
            .map_err(PlaceError::kernel("read the symbolic link above"))?;
        let target = target.as_bytes();
        if target.starts_with(b"/") {
            self.leave_to(0)?;
        }
        for step in target.split(|byte| *byte == b'/').rev() {
            ahead.push_front(step.to_vec());
        }
        // Each link adds at most PATH_MAX / 2 steps, and their number is limited.
        Ok(())
    }

    fn last(&self) -> &Node {
        self.nodes.last().unwrap_or(&self.root)
    }

    fn last_mut(&mut self) -> &mut Node {
        self.nodes.last_mut().unwrap_or(&mut self.root)
    }
}

impl Node {
    fn new(name: Vec<u8>, dir: OwnedFd) -> Result<Self, PlaceError> {
        let stat = rustix::fs::fstat(&dir).map_err(PlaceError::kernel("look at the directory of"))?;
        let mtime =
            Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) };
        let inherits_group = stat.st_mode & 0o2000 != 0;
        Ok(Self { name, dir, mtime, inherits_group, has_changed: false })
    }

    fn leave(self) -> Result<(), PlaceError> {
        if !self.has_changed {
            return Ok(());
        }
        let times = Timestamps { last_access: self.mtime, last_modification: self.mtime };
        rustix::fs::futimens(&self.dir, &times)
            .map_err(PlaceError::kernel("set the time of the directory of"))
    }
}

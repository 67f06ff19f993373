//! The built-in volume driver: a directory for each volume, optionally something mounted over it.
//!
//! Start reading at [`LocalDriver`]. Options are mount(8)'s, as dockerd has them: `type`, `o`, `device`; what they
//! name is looked at when the volume is first mounted, not when it is made. Everything here blocks, is repeatable after a crash, and
//! knows neither records nor containers.
//!
//! ```text
//! <root>/<name>/_data     the content, and the mount point of a volume with options
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};
use shoal_types::ErrorKind;

use crate::error::KernelWords;

/// Why a volume of this driver could not be made, mounted or removed.
#[derive(Debug, thiserror::Error)]
pub enum LocalDriverError {
    /// An option that the driver does not know.
    #[error("invalid option: {0:?}")]
    UnknownOption(String),
    /// An option that the others need.
    #[error("missing required option: {0:?}")]
    MissingOption(&'static str),
    /// A size was asked for, and the file system cannot hold anybody to it.
    #[error("quota size requested but no quota support")]
    NoQuota,
    /// The kernel refused to mount what the options describe.
    #[error(
        "failed to mount local volume: mount {device}:{target}, flags: {flags:#x}, data: {data}: {}",
        KernelWords(source)
    )]
    Mount {
        /// What was to be mounted.
        device: String,
        /// Where.
        target: String,
        /// Flags of mount(2).
        flags: u32,
        /// Data of mount(2).
        data: String,
        /// What the kernel said; part of the text, because clients show this line alone.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("{action} {path}: {}", KernelWords(source))]
    File {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: String,
        /// What the kernel said; part of the text for the same reason.
        source: io::Error,
    },
}

impl LocalDriverError {
    /// The transport-independent kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownOption(_) | Self::MissingOption(_) | Self::NoQuota => ErrorKind::InvalidArgument,
            Self::Mount { .. } | Self::File { .. } => ErrorKind::Internal,
        }
    }
}

/// The directory under which all volumes are.
#[derive(Debug, Clone)]
pub(super) struct LocalDriver {
    root: PathBuf,
    /// User and group of new volumes.
    owner: (u32, u32),
}

impl LocalDriver {
    /// Takes over a directory, making it if it does not exist. New volumes belong to `owner`.
    pub(super) fn open(root: PathBuf, owner: (u32, u32)) -> io::Result<Self> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        std::fs::DirBuilder::new().recursive(true).mode(0o701).create(&root)?;
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o701))?;
        Ok(Self { root, owner })
    }

    /// User and group of new volumes.
    pub(super) fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// Makes the directory of a volume. One that exists already is taken over.
    pub(super) fn create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<PathBuf, LocalDriverError> {
        MountOptions::parse(options)?;
        let path = self.data_dir(name);
        let is_new = !path.exists();
        std::fs::create_dir_all(&path).map_err(file("create", &path))?;
        if is_new && self.owner != (0, 0) {
            std::os::unix::fs::chown(&path, Some(self.owner.0), Some(self.owner.1))
                .map_err(file("set the owner of", &path))?;
        }
        Ok(path)
    }

    /// Mounts what the options describe, unless it is mounted already, and says where the content is.
    pub(super) fn mount(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<PathBuf, LocalDriverError> {
        let path = self.data_dir(name);
        let Some(mount) = MountOptions::parse(options)? else { return Ok(path) };
        if !is_mount_point(&path).map_err(file("look at", &path))? {
            mount.mount_on(&path)?;
        }
        Ok(path)
    }

    /// Unmounts a volume if it is mounted.
    pub(super) fn unmount(&self, name: &str) -> Result<(), LocalDriverError> {
        unmount_all(&self.data_dir(name))
    }

    /// Unmounts and removes a volume with everything in it.
    pub(super) fn remove(&self, name: &str) -> Result<(), LocalDriverError> {
        self.unmount(name)?;
        let dir = self.root.join(name);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", &dir)(error)),
            _ => Ok(()),
        }
    }

    /// Removes the directories that are not `known` and unmounts those not `used`; collects what fails.
    pub(super) fn sweep(&self, known: &BTreeSet<String>, used: &BTreeSet<String>) -> Vec<LocalDriverError> {
        let names = match std::fs::read_dir(&self.root) {
            Ok(entries) => {
                entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
            Err(error) => return vec![file("list", &self.root)(error)],
        };
        let sweep_one = |name: String| {
            if !known.contains(&name) {
                self.remove(&name).err()
            } else if !used.contains(&name) {
                self.unmount(&name).err()
            } else {
                None
            }
        };
        Vec::into_iter(names).filter_map(sweep_one).collect()
    }

    fn data_dir(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LocalDriverError {
    let path = path.display().to_string();
    move |source| LocalDriverError::File { action, path, source }
}

/// Whether something is mounted on a directory: it is on another mount than its parent.
fn is_mount_point(path: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
    let found = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn unmount_all(path: &Path) -> Result<(), LocalDriverError> {
    loop {
        match is_mount_point(path) {
            Ok(true) => {
                rustix::mount::unmount(path, UnmountFlags::DETACH)
                    .map_err(|error| file("unmount", path)(error.into()))?;
            }
            Ok(false) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(file("look at", path)(error)),
        }
    }
}

/// What `type`, `o` and `device` ask for.
#[derive(Debug, PartialEq, Eq)]
struct MountOptions {
    kind: String,
    device: String,
    flags: MountFlags,
    data: String,
}

impl MountOptions {
    /// Reads the options; `None` when there is nothing to mount.
    fn parse(options: &BTreeMap<String, String>) -> Result<Option<Self>, LocalDriverError> {
        if let Some(unknown) =
            options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device" | "size"))
        {
            return Err(LocalDriverError::UnknownOption(unknown.clone()));
        }
        let value = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
        if !value("size").is_empty() {
            return Err(LocalDriverError::NoQuota);
        }
        if value("type").is_empty() && value("o").is_empty() && value("device").is_empty() {
            return Ok(None);
        }
        if value("device").is_empty() {
            return Err(LocalDriverError::MissingOption("device"));
        }
        if value("type").is_empty() && value("o").is_empty() {
            return Err(LocalDriverError::MissingOption("type"));
        }
        let (flags, data) = parse_mount_words(value("o"));
        Ok(Some(Self { kind: value("type").to_owned(), device: value("device").to_owned(), flags, data }))
    }

    fn mount_on(&self, path: &Path) -> Result<(), LocalDriverError> {
        let data = std::ffi::CString::new(self.data.clone())
            .map_err(|_| LocalDriverError::UnknownOption("o".into()))?;
        let mounted = rustix::mount::mount(
            self.device.as_str(),
            path,
            self.kind.as_str(),
            self.flags,
            Some(data.as_c_str()),
        )
        .and_then(|()| self.remount_bind(path));
        mounted.map_err(|error| LocalDriverError::Mount {
            device: self.device.clone(),
            target: path.display().to_string(),
            flags: self.flags.bits(),
            data: self.data.clone(),
            source: error.into(),
        })
    }

    /// A bind takes flags such as `ro` only in a second step (mount(2)).
    fn remount_bind(&self, path: &Path) -> rustix::io::Result<()> {
        let is_bind = self.flags.contains(MountFlags::BIND);
        if !is_bind || (self.flags - MountFlags::BIND - MountFlags::REC).is_empty() {
            return Ok(());
        }
        rustix::mount::mount_remount(path, self.flags, "")
    }
}

/// Splits mount(8)'s comma list into flags of mount(2) and data for the file system.
fn parse_mount_words(words: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match word {
            "defaults" | "auto" | "noauto" | "nofail" | "_netdev" => {}
            "ro" => flags |= MountFlags::RDONLY,
            "rw" => flags -= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "suid" => flags -= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "dev" => flags -= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "exec" => flags -= MountFlags::NOEXEC,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "async" => flags -= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "noatime" => flags |= MountFlags::NOATIME,
            "atime" => flags -= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "diratime" => flags -= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "norelatime" => flags -= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_split_into_flags_and_data() {
        let parsed = MountOptions::parse(&options(&[
            ("type", "nfs"),
            ("o", "addr=10.0.0.1,ro,nosuid"),
            ("device", ":/x"),
        ]));
        let parsed = parsed.unwrap().unwrap();
        assert_eq!(parsed.data, "addr=10.0.0.1");
        assert_eq!(parsed.flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(MountOptions::parse(&options(&[])).unwrap(), None);
    }

    #[test]
    fn wrong_options_are_refused_with_dockers_texts() {
        let text = |pairs: &[(&str, &str)]| MountOptions::parse(&options(pairs)).unwrap_err().to_string();
        assert_eq!(text(&[("foo", "bar")]), "invalid option: \"foo\"");
        assert_eq!(text(&[("type", "tmpfs")]), "missing required option: \"device\"");
        assert_eq!(text(&[("size", "10m")]), "quota size requested but no quota support");
    }
}

//! Secrets and configs as files: memory that a container sees, never the disk.
//!
//! Start reading at [`wanted_files`], which decides what appears where (pure), then [`place`], which makes it: one tmpfs for each
//! task below the runtime directory, read-only once it is written, from which single files are bound into the container. It outlives
//! the daemon, as the container does, and goes with the container.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use shoal_types::TaskId;
use shoal_types::cluster::secret::FileTarget;
use shoal_types::cluster::task::Task;
use shoal_types::container::mounts::{
    BindRecursion, MissingSource, MountAccess, MountOrigin, MountSource, MountSpec, Propagation,
};

use super::assignments::Dependencies;
use super::container::environment;
use super::template::{TemplateError, expand};
use super::values::{FileValues, NodeFacts, TaskValues};
use crate::error::NodeError;
use crate::userns::IdMapping;

/// Where secrets appear whose target is no absolute path.
const SECRETS_DIRECTORY: &str = "/run/secrets/";
/// What a file costs in a tmpfs beyond its content, at most.
const FILE_OVERHEAD: u64 = 8192;

/// A file that a container sees.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TaskFile {
    /// Absolute path inside.
    pub(super) path: String,
    uid: u32,
    gid: u32,
    mode: u32,
    data: Vec<u8>,
}

impl std::fmt::Debug for TaskFile {
    /// Leaves the content out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskFile").field("path", &self.path).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// Why a task's files cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FileError {
    /// A secret was not sent along with the task.
    #[error("secret reference {0} not found")]
    NoSuchSecret(String),
    /// A config was not sent along with the task.
    #[error("config reference {0} not found")]
    NoSuchConfig(String),
    /// An owner that is no number.
    #[error("{0:?} is not a numeric id")]
    Owner(String),
    /// Content that cannot be filled in.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// The files that a task's container sees.
pub(super) fn wanted_files(
    task: &Task,
    dependencies: &Dependencies,
    node: &NodeFacts,
) -> Result<Vec<TaskFile>, FileError> {
    let mut secrets = BTreeMap::new();
    let mut configs = BTreeMap::new();
    let mut pending = Vec::new();
    let container = &task.template.container;
    for reference in &container.secrets {
        let missing = || FileError::NoSuchSecret(reference.name.clone());
        let spec = &dependencies.secrets.get(&reference.id).ok_or_else(missing)?.spec;
        secrets.insert(reference.target.path.clone(), spec.data.clone());
        let path = below(SECRETS_DIRECTORY, &reference.target.path);
        pending.push((path, reference.target.clone(), spec.data.clone(), spec.templated));
    }
    for reference in &container.configs {
        let missing = || FileError::NoSuchConfig(reference.name.clone());
        let spec = &dependencies.configs.get(&reference.id).ok_or_else(missing)?.spec;
        let Some(target) = &reference.target else { continue };
        configs.insert(target.path.clone(), spec.data.clone());
        pending.push((below("/", &target.path), target.clone(), spec.data.clone(), spec.templated));
    }
    let env = environment(task, node)?;
    let values = TaskValues { task, node };
    let scope = FileValues { values, secrets: &secrets, configs: &configs, env: &env };
    pending
        .into_iter()
        .map(|(path, target, data, templated)| {
            let data = if templated { fill(data, &scope)? } else { data };
            file(path, &target, data)
        })
        .collect()
}

fn fill(data: Vec<u8>, scope: &FileValues<'_>) -> Result<Vec<u8>, TemplateError> {
    let text = String::from_utf8(data).map_err(|_| TemplateError("the template is no text".to_owned()))?;
    Ok(expand(&text, scope)?.into_bytes())
}

fn file(path: String, target: &FileTarget, data: Vec<u8>) -> Result<TaskFile, FileError> {
    let owner = |text: &str| match text {
        "" => Ok(0),
        text => text.parse().map_err(|_| FileError::Owner(text.to_owned())),
    };
    Ok(TaskFile {
        path,
        uid: owner(&target.uid)?,
        gid: owner(&target.gid)?,
        mode: target.mode & 0o7777,
        data,
    })
}

fn below(directory: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{directory}{path}") }
}

/// The directory of a task's files.
pub(super) fn directory_of(root: &Path, task: TaskId) -> PathBuf {
    root.join(task.to_string())
}

/// Makes the files and returns the mounts that show them. What an interrupted attempt has left is replaced. Blocks.
pub(super) fn place(
    directory: &Path,
    files: &[TaskFile],
    ids: &IdMapping,
) -> Result<Vec<MountSpec>, NodeError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |source: io::Error| {
        NodeError::failed(format!("place secrets and configs in {}", directory.display()), source)
    };
    clear(directory).map_err(failed)?;
    std::fs::create_dir_all(directory).map_err(failed)?;
    let size: u64 = files.iter().map(|file| file.data.len() as u64 + FILE_OVERHEAD).sum();
    let options =
        std::ffi::CString::new(format!("mode=0700,size={size}")).map_err(io::Error::from).map_err(failed)?;
    // A config may be a program, by its mode.
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = rustix::mount::mount("tmpfs", directory, "tmpfs", flags, Some(options.as_c_str()));
    mounted.map_err(|errno| failed(errno.into()))?;
    let mounts = files
        .iter()
        .enumerate()
        .map(|(number, file)| {
            let path = directory.join(number.to_string());
            write(&path, file, ids)?;
            Ok(bind(&path, &file.path))
        })
        .collect::<io::Result<Vec<_>>>()
        .map_err(failed)?;
    let read_only = flags | MountFlags::RDONLY;
    rustix::mount::mount_remount(directory, read_only, options.as_c_str())
        .map_err(|errno| failed(errno.into()))?;
    Ok(mounts)
}

fn write(path: &Path, file: &TaskFile, ids: &IdMapping) -> io::Result<()> {
    std::fs::write(path, &file.data)?;
    let (uid, gid) = ids.to_host(file.uid, file.gid).map_err(io::Error::other)?;
    std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    // After the owner: a change of owner takes set-id bits away.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(file.mode))
}

fn bind(source: &Path, destination: &str) -> MountSpec {
    MountSpec {
        destination: destination.to_owned(),
        source: MountSource::Bind {
            path: source.display().to_string(),
            propagation: Propagation::Rprivate,
            recursion: BindRecursion::NonRecursive,
            missing: MissingSource::Refuse,
            relabel: None,
        },
        access: MountAccess::ReadOnly,
        origin: MountOrigin::Mount,
        mode: String::new(),
    }
}

/// Takes a task's files away. What is not there is not missed. Blocks.
pub(super) fn clear(directory: &Path) -> io::Result<()> {
    loop {
        match rustix::mount::unmount(directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, or nothing at all.
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shoal_types::cluster::secret::SecretReference;

    use super::*;
    use crate::worker::testing::{a_secret, a_task, node_facts};

    fn target(path: &str, uid: &str, mode: u32) -> FileTarget {
        FileTarget { path: path.to_owned(), uid: uid.to_owned(), gid: "0".to_owned(), mode }
    }

    fn with_secret(data: &[u8], templated: bool, target: FileTarget) -> (Task, Dependencies) {
        let mut secret = a_secret("pw", data);
        secret.spec.templated = templated;
        let mut task = a_task("web", 2);
        let reference = SecretReference { id: secret.id, name: "pw".to_owned(), target };
        Arc::make_mut(&mut task.template).container.secrets = vec![reference];
        let dependencies =
            Dependencies { secrets: [(secret.id, Arc::new(secret))].into(), ..Dependencies::default() };
        (task, dependencies)
    }

    #[test]
    fn files_have_the_place_owner_and_content_that_the_service_asks_for() {
        for (path, wanted) in [("pw", "/run/secrets/pw"), ("/etc/pw", "/etc/pw")] {
            let (task, dependencies) = with_secret(b"x", false, target(path, "7", 0o400));
            let files = wanted_files(&task, &dependencies, &node_facts()).unwrap();
            assert_eq!((files[0].path.as_str(), files[0].uid, files[0].mode), (wanted, 7, 0o400));
            assert_eq!(files[0].data, b"x");
        }
        let (task, dependencies) = with_secret(b"slot {{.Task.Slot}}", true, target("pw", "", 0o444));
        assert_eq!(wanted_files(&task, &dependencies, &node_facts()).unwrap()[0].data, b"slot 2");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let (task, dependencies) = with_secret(b"x", false, target("pw", "root", 0o444));
        let error = wanted_files(&task, &dependencies, &node_facts()).unwrap_err();
        assert_eq!(error.to_string(), "\"root\" is not a numeric id");
        let error = wanted_files(&task, &Dependencies::default(), &node_facts()).unwrap_err();
        assert_eq!(error.to_string(), "secret reference pw not found");
    }
}

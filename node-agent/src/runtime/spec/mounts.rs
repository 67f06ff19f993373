//! Mounts in the runtime spec: the usual file systems, then the user's by depth, then the files of the network.
//!
//! Start reading at [`build`]. Pure but for one question to the kernel: whether a bind that shall propagate can
//! (`/proc/self/mountinfo`), asked only for the few containers that want it.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use shoal_types::ErrorKind;
use shoal_types::container::mounts::{BindRecursion, MountAccess, MountSource, MountSpec, Propagation};
use shoal_types::container::security::{IpcMode, SecuritySpec};
use shoal_types::container::state::MountKind;

use super::process::{INIT_PATH, has_init};
use crate::containers::paths;
use crate::containers::ports::ResolvedMount;
use crate::error::NodeError;
use crate::runtime::inputs::SpecInputs;

const SHM: &str = "/dev/shm";

/// The mounts, and what they demand of the root's propagation.
#[derive(Debug)]
pub(super) struct Mounts {
    /// In the order in which they are to be made.
    pub(super) mounts: Vec<Mount>,
    /// `None` leaves it private.
    pub(super) root_propagation: Option<String>,
}

/// A mount that somebody asked for.
#[derive(Debug)]
struct Wanted {
    destination: String,
    mount: Mount,
    propagation: Propagation,
}

/// Puts together all mounts of a container.
pub(super) fn build(inputs: &SpecInputs) -> Result<Mounts, NodeError> {
    let mut wanted = user_mounts(inputs)?;
    wanted.extend(network_files(inputs));
    wanted.extend(shared_memory(inputs));
    // Parents before children; among equals the order in which they were asked for.
    wanted.sort_by_key(|wanted| paths::depth(&wanted.destination));
    let is_taken = |destination: &str| {
        wanted.iter().any(|wanted| {
            wanted.destination == destination
                || (wanted.destination == "/dev" && paths::is_within(destination, "/dev"))
        })
    };
    let mut mounts: Vec<Mount> =
        usual(inputs).into_iter().filter(|mount| !is_taken(&mount.destination().to_string_lossy())).collect();
    let root_propagation = root_propagation(&wanted)?;
    mounts.extend(wanted.into_iter().map(|wanted| wanted.mount));
    if has_init(inputs) {
        mounts.push(mount(INIT_PATH, "bind", &inputs.config.init_path.to_string_lossy(), &["bind", "ro"]));
    }
    Ok(Mounts { mounts, root_propagation })
}

fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(PathBuf::from(source)))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

/// The file systems that every container has.
fn usual(inputs: &SpecInputs) -> Vec<Mount> {
    let security = &inputs.spec.security;
    let sys: &[&str] = if security.privileged {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["nosuid", "noexec", "nodev", "ro"]
    };
    let cgroup: &[&str] = if writes_cgroups(security) {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["ro", "nosuid", "noexec", "nodev"]
    };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", sys),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    if inputs.spec.namespaces.ipc != IpcMode::None {
        let size = format!("size={}", inputs.spec.shm_size.unwrap_or(inputs.config.shm_size));
        mounts.push(mount(SHM, "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
    }
    mounts
}

fn writes_cgroups(security: &SecuritySpec) -> bool {
    security.writable_cgroups.unwrap_or(security.privileged)
}

/// `/dev/shm` of the host, of another container, or one that others may share.
fn shared_memory(inputs: &SpecInputs) -> Option<Wanted> {
    let source = match &inputs.spec.namespaces.ipc {
        IpcMode::Host => PathBuf::from(SHM),
        IpcMode::Container(_) => inputs.peers.shm.clone()?,
        IpcMode::Shareable => inputs.shm.clone()?,
        IpcMode::DaemonDefault | IpcMode::None | IpcMode::Private => return None,
    };
    let is_claimed = inputs.mounts.iter().any(|mount| mount.point.destination == SHM);
    let mount = mount(SHM, "bind", &source.to_string_lossy(), &["rbind", "rprivate"]);
    (!is_claimed).then(|| Wanted { destination: SHM.to_owned(), mount, propagation: Propagation::Rprivate })
}

/// The files of the network, unless the user has mounted something there.
fn network_files(inputs: &SpecInputs) -> Vec<Wanted> {
    let files = [
        ("/etc/resolv.conf", &inputs.files.resolv_conf),
        ("/etc/hostname", &inputs.files.hostname),
        ("/etc/hosts", &inputs.files.hosts),
    ];
    let options: &[&str] = if inputs.spec.security.readonly_rootfs {
        &["rbind", "ro", "rprivate"]
    } else {
        &["rbind", "rprivate"]
    };
    let is_claimed = |path: &str| inputs.mounts.iter().any(|mount| mount.point.destination == path);
    let wanted = files.into_iter().filter(|(path, _)| !is_claimed(path)).filter_map(|(path, source)| {
        let mount = mount(path, "bind", &source.as_ref()?.to_string_lossy(), options);
        Some(Wanted { destination: path.to_owned(), mount, propagation: Propagation::Rprivate })
    });
    wanted.collect()
}

fn user_mounts(inputs: &SpecInputs) -> Result<Vec<Wanted>, NodeError> {
    inputs.mounts.iter().map(|resolved| user_mount(resolved, inputs)).collect()
}

fn user_mount(resolved: &ResolvedMount, inputs: &SpecInputs) -> Result<Wanted, NodeError> {
    let destination = resolved.point.destination.clone();
    if resolved.point.kind == MountKind::Tmpfs {
        let options = tmpfs_options(resolved);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mount = mount(&destination, "tmpfs", "tmpfs", &options);
        return Ok(Wanted { destination, mount, propagation: Propagation::Rprivate });
    }
    let host = inputs.host_mounts.iter().find(|host| host.destination == destination).ok_or_else(|| {
        NodeError::failed("find a mount on the host", std::io::Error::other(destination.clone()))
    })?;
    let propagation = match resolved.point.propagation {
        Propagation::Default if resolved.point.kind == MountKind::Bind => Propagation::Rprivate,
        // The daemon's choice, not the user's, where the daemon's own root is shown: not worth a failure.
        Propagation::Rslave if is_chosen_by_us(resolved.spec.as_ref()) && !is_propagated(&host.source) => {
            Propagation::Rprivate
        }
        other => other,
    };
    let mut options = vec![match recursion(resolved.spec.as_ref()) {
        BindRecursion::Recursive => "rbind",
        BindRecursion::NonRecursive => "bind",
    }];
    options.extend(access_option(host.access, inputs)?);
    options.extend(propagation_name(propagation));
    let mount = mount(&destination, "bind", &host.source.to_string_lossy(), &options);
    Ok(Wanted { destination, mount, propagation })
}

fn is_chosen_by_us(spec: Option<&MountSpec>) -> bool {
    let source = spec.map(|spec| &spec.source);
    matches!(source, Some(MountSource::Bind { propagation: Propagation::Default, .. }))
}

fn recursion(spec: Option<&MountSpec>) -> BindRecursion {
    match spec.map(|spec| &spec.source) {
        Some(MountSource::Bind { recursion, .. }) => *recursion,
        _ => BindRecursion::Recursive,
    }
}

fn access_option(access: MountAccess, inputs: &SpecInputs) -> Result<Option<&'static str>, NodeError> {
    let is_possible = inputs.host.recursive_read_only;
    match access {
        MountAccess::ReadWrite => Ok(None),
        MountAccess::ReadOnlyNonRecursive => Ok(Some("ro")),
        MountAccess::ReadOnly if is_possible => Ok(Some("rro")),
        MountAccess::ReadOnly => Ok(Some("ro")),
        MountAccess::ReadOnlyForceRecursive if is_possible => Ok(Some("rro")),
        MountAccess::ReadOnlyForceRecursive => Err(NodeError::invalid(
            "the kernel does not support recursive read-only mounts (rro), it needs to be 5.12 or later",
        )),
    }
}

/// Options of a tmpfs: safe defaults, then what was asked for, which takes the opposite defaults away.
fn tmpfs_options(resolved: &ResolvedMount) -> Vec<String> {
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev", "rprivate"].map(str::to_owned).into();
    if resolved.point.access != MountAccess::ReadWrite {
        options.push("ro".to_owned());
    }
    if let Some(MountSource::Tmpfs { size, mode, options: more }) =
        resolved.spec.as_ref().map(|spec| &spec.source)
    {
        options.extend(mode.map(|mode| format!("mode={mode:o}")));
        if *size > 0 {
            options.push(format!("size={size}"));
        }
        options.extend(more.iter().cloned());
    }
    without_contradictions(&options)
}

/// Keeps the last of several options that exclude each other, in the order in which they stand.
fn without_contradictions(options: &[String]) -> Vec<String> {
    let topic = |option: &str| {
        let key = option.split_once('=').map_or(option, |(key, _)| key);
        match key {
            "ro" | "rw" => "rw".to_owned(),
            "exec" | "suid" | "dev" | "atime" | "diratime" | "async" => key.to_owned(),
            "sync" => "async".to_owned(),
            "noexec" | "nosuid" | "nodev" | "noatime" | "nodiratime" => key[2..].to_owned(),
            key => key.to_owned(),
        }
    };
    let mut kept: Vec<String> = Vec::new();
    for (place, option) in options.iter().enumerate() {
        let is_overruled = options[place + 1..].iter().any(|later| topic(later) == topic(option));
        if !is_overruled {
            kept.push(option.clone());
        }
    }
    kept
}

fn propagation_name(propagation: Propagation) -> Option<&'static str> {
    match propagation {
        Propagation::Default => None,
        Propagation::Private => Some("private"),
        Propagation::Rprivate => Some("rprivate"),
        Propagation::Shared => Some("shared"),
        Propagation::Rshared => Some("rshared"),
        Propagation::Slave => Some("slave"),
        Propagation::Rslave => Some("rslave"),
    }
}

/// What propagating binds demand of the root; refuses those whose source does not propagate.
fn root_propagation(wanted: &[Wanted]) -> Result<Option<String>, NodeError> {
    let mut demanded = None;
    for wanted in wanted {
        let source = || wanted.mount.source().clone().unwrap_or_default();
        match wanted.propagation {
            Propagation::Shared | Propagation::Rshared => {
                require_propagation(&source(), &["shared:"], "a shared mount")?;
                demanded = Some("shared");
            }
            Propagation::Slave | Propagation::Rslave => {
                require_propagation(&source(), &["shared:", "master:"], "a shared or slave mount")?;
                demanded = demanded.or(Some("rslave"));
            }
            Propagation::Default | Propagation::Private | Propagation::Rprivate => {}
        }
    }
    Ok(demanded.map(str::to_owned))
}

/// Whether what is mounted later at a path of the host can be seen elsewhere.
fn is_propagated(source: &Path) -> bool {
    require_propagation(source, &["shared:", "master:"], "a shared or slave mount").is_ok()
}

fn require_propagation(source: &Path, tags: &[&str], what: &str) -> Result<(), NodeError> {
    let failed = |error| NodeError::failed("look at the mounts of the host", error);
    let resolved = std::fs::canonicalize(source).map_err(failed)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
    let (mountpoint, optional) = mount_of(&resolved.to_string_lossy(), &mounts);
    if optional.iter().any(|field| tags.iter().any(|tag| field.starts_with(tag))) {
        return Ok(());
    }
    // Docker does not class this refusal, which makes it a failure for clients.
    let message = format!("path {} is mounted on {mountpoint} but it is not {what}", source.display());
    Err(NodeError::Refused { kind: ErrorKind::Internal, message })
}

/// The mount that a path lies in, and its optional fields: the last of those with the longest path.
fn mount_of<'a>(path: &str, mountinfo: &'a str) -> (&'a str, Vec<&'a str>) {
    let mut found = ("/", Vec::new());
    for line in mountinfo.lines() {
        let mut fields = line.split(' ');
        let Some(mountpoint) = fields.nth(4) else { continue };
        if paths::is_within(path, mountpoint) && mountpoint.len() >= found.0.len() {
            found = (mountpoint, fields.skip(1).take_while(|field| *field != "-").collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(options: &[&str]) -> Vec<String> {
        without_contradictions(&options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_of_contradicting_options_stays() {
        assert_eq!(
            options(&["noexec", "nosuid", "nodev", "rprivate", "rw", "size=64k", "exec"]),
            ["nosuid", "nodev", "rprivate", "rw", "size=64k", "exec"]
        );
        assert_eq!(options(&["ro", "rw", "size=1", "size=2"]), ["rw", "size=2"]);
    }

    #[test]
    fn a_path_lies_in_the_last_of_the_deepest_mounts() {
        let mountinfo = "21 1 8:1 / / rw shared:1 - ext4 /dev/sda rw\n\
                         22 21 0:5 / /data rw master:3 - tmpfs tmpfs rw\n\
                         23 22 0:6 / /data rw - tmpfs tmpfs rw\n\
                         24 21 0:7 / /database rw shared:9 - tmpfs tmpfs rw\n";
        assert_eq!(mount_of("/etc", mountinfo), ("/", vec!["shared:1"]));
        assert_eq!(mount_of("/data/x", mountinfo), ("/data", vec![]));
        assert_eq!(mount_of("/database", mountinfo), ("/database", vec!["shared:9"]));
    }
}

//! Devices: the nodes that a container gets and what the device controller lets it do.
//!
//! Start reading at [`find`]. Looks at /dev of the host: at single paths for `--device`, at all of it for privileged
//! containers. Making the nodes is the runtime's.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use rustix::fs::{major, minor};
use shoal_types::container::resources::{DeviceMapping, DeviceRequest};

use super::cdi::{self, Catalog, ContainerEdits};
use super::inputs::SpecInputs;
use crate::error::NodeError;

/// Directories of /dev that are file systems of their own and hold nothing for a container.
const SKIPPED_DIRS: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
/// Nodes that every container may use: null, zero, full, random, urandom, tty, console (as `major:minor`).
const USUAL: [(i64, i64); 6] = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];
/// FUSE, which Docker denies by name.
const FUSE: (i64, i64) = (10, 229);
/// Means any number in a rule.
const ANY: i64 = -1;
/// Everything that can be done with a device.
const ALL_ACCESS: &str = "rwm";

/// What a container gets of devices.
#[derive(Debug, Clone, Default)]
pub(crate) struct Devices {
    /// Nodes to make.
    pub(crate) nodes: Vec<LinuxDevice>,
    /// What is allowed, in the order in which it is applied.
    pub(crate) rules: Vec<LinuxDeviceCgroup>,
    /// What devices add that were asked for by name.
    pub(crate) named: Vec<ContainerEdits>,
}

/// Looks up the devices of a container. Blocks.
pub(crate) fn find(inputs: &SpecInputs) -> Result<Devices, NodeError> {
    let resources = &inputs.spec.resources;
    let named = named(&resources.device_requests, &inputs.config.cdi_directories)?;
    if inputs.spec.security.privileged {
        return Ok(Devices { named, ..privileged(&resources.devices)? });
    }
    let mut devices = Devices { nodes: Vec::new(), rules: default_rules(), named };
    for mapping in &resources.devices {
        let nodes = nodes_of(mapping)?;
        devices.rules.extend(nodes.iter().map(|node| rule_of(node, &mapping.cgroup_permissions)));
        devices.nodes.extend(nodes);
    }
    for text in &resources.device_cgroup_rules {
        devices.rules.push(
            parse_rule(text)
                .ok_or_else(|| NodeError::invalid(format!("invalid device cgroup rule format: '{text}'")))?,
        );
    }
    Ok(devices)
}

/// Looks up devices that are asked for by name. Nothing is read for a container that asks for none.
fn named(requests: &[DeviceRequest], directories: &[PathBuf]) -> Result<Vec<ContainerEdits>, NodeError> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    // Without directories nothing is known: devices by name are switched off.
    let known = (!directories.is_empty()).then(|| Catalog::read(directories));
    let mut named = Vec::new();
    for request in requests {
        let edits = known.as_ref().and_then(|catalog| cdi::edits_for(catalog, request));
        named.extend(edits.ok_or_else(|| unknown_driver(request))??);
    }
    Ok(named)
}

fn unknown_driver(request: &DeviceRequest) -> NodeError {
    let sets: Vec<String> = request.capabilities.iter().map(|set| format!("[{}]", set.join(" "))).collect();
    NodeError::invalid(format!(
        "could not select device driver {:?} with capabilities: [{}]",
        request.driver,
        sets.join(" ")
    ))
}

/// A privileged container gets every device of the host and may do everything with them.
fn privileged(mappings: &[DeviceMapping]) -> Result<Devices, NodeError> {
    let mut nodes = Vec::new();
    walk(Path::new("/dev"), &mut |path| nodes.extend(node(path, path).ok().flatten()))
        .map_err(|source| NodeError::failed("list the devices of the host", source))?;
    for mapping in mappings.iter().filter(|mapping| mapping.path_on_host != mapping.path_in_container) {
        nodes.extend(nodes_of(mapping)?);
    }
    let mut everything = LinuxDeviceCgroup::default();
    everything.set_allow(true).set_access(Some(ALL_ACCESS.to_owned()));
    Ok(Devices { nodes, rules: vec![everything], named: Vec::new() })
}

fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let mut nothing = LinuxDeviceCgroup::default();
    nothing.set_allow(false).set_access(Some(ALL_ACCESS.to_owned()));
    let character = |allow, (major, minor)| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow)
            .set_typ(Some(LinuxDeviceType::C))
            .set_major(Some(major))
            .set_minor(Some(minor))
            .set_access(Some(ALL_ACCESS.to_owned()));
        rule
    };
    std::iter::once(nothing)
        .chain(USUAL.into_iter().map(|numbers| character(true, numbers)))
        .chain(std::iter::once(character(false, FUSE)))
        .collect()
}

/// The nodes behind one `--device`: a device, or all devices of a directory.
fn nodes_of(mapping: &DeviceMapping) -> Result<Vec<LinuxDevice>, NodeError> {
    let shown = &mapping.path_on_host;
    let failed = |reason: &dyn std::fmt::Display| {
        NodeError::invalid(format!(
            "error gathering device information while adding custom device \"{shown}\": {reason}"
        ))
    };
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => failed(&"no such file or directory"),
        _ => failed(&error),
    };
    let inside = if mapping.path_in_container.is_empty() { shown } else { &mapping.path_in_container };
    let host = fs::canonicalize(shown).map_err(missing)?;
    if let Some(node) = node(&host, Path::new(inside)).map_err(missing)? {
        return Ok(vec![node]);
    }
    let mut nodes = Vec::new();
    if host.is_dir() {
        walk(&host, &mut |path| {
            let below = path.strip_prefix(&host).unwrap_or(path);
            nodes.extend(node(path, &Path::new(inside).join(below)).ok().flatten());
        })
        .map_err(missing)?;
    }
    if nodes.is_empty() { Err(failed(&"not a device node")) } else { Ok(nodes) }
}

/// The description of a device node; `None` for anything else.
fn node(host: &Path, inside: &Path) -> io::Result<Option<LinuxDevice>> {
    let metadata = fs::symlink_metadata(host)?;
    let file_type = metadata.file_type();
    let kind = if file_type.is_block_device() {
        LinuxDeviceType::B
    } else if file_type.is_char_device() {
        LinuxDeviceType::C
    } else {
        return Ok(None);
    };
    let mut device = LinuxDevice::default();
    device
        .set_path(inside.to_owned())
        .set_typ(kind)
        .set_major(i64::from(major(metadata.rdev())))
        .set_minor(i64::from(minor(metadata.rdev())))
        .set_file_mode(Some(metadata.mode() & 0o7777))
        .set_uid(Some(metadata.uid()))
        .set_gid(Some(metadata.gid()));
    Ok(Some(device))
}

/// Visits every file below a directory of devices, in a stable order. What vanishes meanwhile is left out.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) -> io::Result<()> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            if !SKIPPED_DIRS.contains(&name) {
                // A directory that cannot be read is one device less, not a container less.
                let _ = walk(&path, visit);
            }
        } else if name != "console" {
            visit(&path);
        }
    }
    Ok(())
}

fn rule_of(node: &LinuxDevice, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    let access = if access.is_empty() { ALL_ACCESS } else { access };
    rule.set_allow(true)
        .set_typ(Some(node.typ()))
        .set_major(Some(node.major()))
        .set_minor(Some(node.minor()))
        .set_access(Some(access.to_owned()));
    rule
}

/// Reads a rule such as `c 42:* rmw` or `a *:* rwm`.
fn parse_rule(text: &str) -> Option<LinuxDeviceCgroup> {
    let mut words = text.split_whitespace();
    let kind = match words.next()? {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let access = words.next().filter(|access| access.bytes().all(|letter| b"rwm".contains(&letter)))?;
    if words.next().is_some() {
        return None;
    }
    let number = |text: &str| if text == "*" { Some(ANY) } else { text.parse::<u32>().ok().map(i64::from) };
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(kind))
        .set_major(Some(number(major)?))
        .set_minor(Some(number(minor)?))
        .set_access(Some(access.to_owned()));
    Some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host: &str, inside: &str, access: &str) -> DeviceMapping {
        DeviceMapping {
            path_on_host: host.to_owned(),
            path_in_container: inside.to_owned(),
            cgroup_permissions: access.to_owned(),
        }
    }

    #[test]
    fn a_device_is_described_by_its_node() {
        let nodes = nodes_of(&mapping("/dev/null", "/dev/mine", "r")).unwrap();
        assert_eq!(nodes.len(), 1);
        assert_eq!((nodes[0].major(), nodes[0].minor()), (1, 3));
        assert_eq!(nodes[0].path(), Path::new("/dev/mine"));
        assert_eq!(rule_of(&nodes[0], "r").access().as_deref(), Some("r"));
    }

    #[test]
    fn what_is_no_device_is_refused_with_dockers_words() {
        let cases = [("/dev/nope", "no such file or directory"), ("/etc/passwd", "not a device node")];
        for (path, reason) in cases {
            let error = nodes_of(&mapping(path, "", "")).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("error gathering device information while adding custom device \"{path}\": {reason}")
            );
        }
    }

    #[test]
    fn rules_are_read_in_the_kernels_form() {
        let rule = parse_rule("c 42:* rmw").unwrap();
        assert_eq!((rule.major(), rule.minor()), (Some(42), Some(-1)));
        assert_eq!(rule.access().as_deref(), Some("rmw"));
        assert!(parse_rule("a *:* rwm").is_some());
        for text in ["", "c", "x 1:1 r", "c 1 r", "c 1:1", "c 1:1 rwx", "c 1:1 r r", "c -1:1 r"] {
            assert!(parse_rule(text).is_none(), "{text}");
        }
    }
}

//! Edits of CDI devices, added to a runtime spec.
//!
//! Start reading at [`apply`]. Pure but for one look at each device node whose numbers are not given.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Hook, Hooks, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources, Mount, Spec,
};
use rustix::fs::{major, minor};

use super::spec::{ContainerEdits, DeviceNode, SpecHook, SpecMount};
use crate::error::NodeError;

/// Adds edits to a runtime spec, in their order.
pub(crate) fn apply(spec: &mut Spec, edits: &[ContainerEdits]) -> Result<(), NodeError> {
    for edits in edits {
        add_to_process(spec, edits);
        for node in &edits.device_nodes {
            add_device(spec, node)?;
        }
        let mounts = spec.mounts_mut().get_or_insert_default();
        mounts.extend(edits.mounts.iter().map(mount));
        let hooks = spec.hooks_mut().get_or_insert_default();
        for added in &edits.hooks {
            add_hook(hooks, added);
        }
    }
    if spec.hooks().as_ref().is_some_and(|hooks| *hooks == Hooks::default()) {
        spec.set_hooks(None);
    }
    Ok(())
}

fn add_to_process(spec: &mut Spec, edits: &ContainerEdits) {
    let Some(process) = spec.process_mut() else { return };
    let env = process.env_mut().get_or_insert_default();
    for variable in &edits.env {
        let key = variable.split_once('=').map_or(variable.as_str(), |(key, _)| key);
        env.retain(|known| known.split_once('=').map_or(known.as_str(), |(known, _)| known) != key);
        env.push(variable.clone());
    }
    if edits.additional_gids.is_empty() {
        return;
    }
    let mut user = process.user().clone();
    let mut groups = user.additional_gids().clone().unwrap_or_default();
    for gid in edits.additional_gids.iter().filter(|gid| **gid != 0) {
        if !groups.contains(gid) {
            groups.push(*gid);
        }
    }
    user.set_additional_gids(Some(groups));
    process.set_user(user);
}

fn add_device(spec: &mut Spec, node: &DeviceNode) -> Result<(), NodeError> {
    let device = device(node)?;
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    if device.typ() != LinuxDeviceType::P {
        let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(device.typ()))
            .set_major(Some(device.major()))
            .set_minor(Some(device.minor()))
            .set_access(Some(access.to_owned()));
        let resources = linux.resources_mut().get_or_insert_with(LinuxResources::default);
        resources.devices_mut().get_or_insert_default().push(rule);
    }
    let devices = linux.devices_mut().get_or_insert_default();
    devices.retain(|known| known.path() != device.path());
    devices.push(device);
    Ok(())
}

fn device(node: &DeviceNode) -> Result<LinuxDevice, NodeError> {
    let mut device = LinuxDevice::default();
    let (kind, numbers) = match node.r#type.as_str() {
        "p" => (LinuxDeviceType::P, (0, 0)),
        _ if node.r#type.is_empty() || node.major == 0 => look_up(node)?,
        "b" => (LinuxDeviceType::B, (node.major, node.minor)),
        _ => (LinuxDeviceType::C, (node.major, node.minor)),
    };
    device
        .set_path(PathBuf::from(&node.path))
        .set_typ(kind)
        .set_major(numbers.0)
        .set_minor(numbers.1)
        .set_file_mode(node.file_mode)
        .set_uid(node.uid)
        .set_gid(node.gid);
    Ok(device)
}

/// Type and numbers of a node as they are on the host.
fn look_up(node: &DeviceNode) -> Result<(LinuxDeviceType, (i64, i64)), NodeError> {
    let path = if node.host_path.is_empty() { &node.path } else { &node.host_path };
    let unusable = |reason: &dyn std::fmt::Display| {
        NodeError::invalid(format!(
            "CDI device injection failed: failed to stat CDI host device {path:?}: {reason}"
        ))
    };
    let found = Path::new(path)
        .metadata()
        .map_err(|error| unusable(&node_runtime::errno_text(error.raw_os_error().unwrap_or_default())))?;
    let kind = if found.file_type().is_block_device() {
        LinuxDeviceType::B
    } else if found.file_type().is_char_device() {
        LinuxDeviceType::C
    } else {
        return Err(unusable(&"not a device node"));
    };
    Ok((kind, (i64::from(major(found.rdev())), i64::from(minor(found.rdev())))))
}

fn mount(added: &SpecMount) -> Mount {
    let typ = if added.r#type.is_empty() { "bind" } else { &added.r#type };
    let mut options = added.options.clone();
    let is_bind = options.iter().any(|option| option == "bind" || option == "rbind");
    if typ == "bind" && !is_bind {
        options.push("bind".to_owned());
    }
    let mut mount = Mount::default();
    mount
        .set_destination(added.container_path.clone())
        .set_source(Some(added.host_path.clone()))
        .set_typ(Some(typ.to_owned()))
        .set_options(Some(options));
    mount
}

fn add_hook(hooks: &mut Hooks, added: &SpecHook) {
    let list = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
    let mut hook = Hook::default();
    hook.set_path(added.path.clone())
        .set_args(list(&added.args))
        .set_env(list(&added.env))
        .set_timeout(added.timeout);
    let moment = match added.hook_name.as_str() {
        "prestart" => hooks.prestart_mut(),
        "createRuntime" => hooks.create_runtime_mut(),
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        _ => hooks.poststop_mut(),
    };
    moment.get_or_insert_default().push(hook);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_land_where_they_belong() {
        let edits: ContainerEdits = serde_json::from_str(
            r#"{"env":["A=2","B=3"],"additionalGids":[0,44],
                "deviceNodes":[{"path":"/dev/inside","hostPath":"/dev/null","permissions":"rw"},
                               {"path":"/dev/given","type":"b","major":7,"minor":9}],
                "mounts":[{"hostPath":"/lib/x","containerPath":"/x","options":["ro"]}],
                "hooks":[{"hookName":"createContainer","path":"/bin/hook","args":["hook","x"]}]}"#,
        )
        .unwrap();
        let mut spec = Spec::default();
        spec.process_mut().as_mut().unwrap().set_env(Some(vec!["A=1".to_owned(), "C=1".to_owned()]));
        apply(&mut spec, &[edits]).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.env().as_ref().unwrap(), &["C=1", "A=2", "B=3"]);
        assert_eq!(process.user().additional_gids().as_ref().unwrap(), &[44]);
        let linux = spec.linux().as_ref().unwrap();
        let shown: Vec<_> = linux
            .devices()
            .iter()
            .flatten()
            .map(|d| (d.path().display().to_string(), d.typ(), d.major(), d.minor()))
            .collect();
        assert_eq!(
            shown,
            [
                ("/dev/inside".to_owned(), LinuxDeviceType::C, 1, 3),
                ("/dev/given".to_owned(), LinuxDeviceType::B, 7, 9)
            ]
        );
        let rules = linux.resources().as_ref().unwrap().devices().as_ref().unwrap();
        let rule = rules.iter().rev().find(|rule| rule.major() == Some(1)).unwrap();
        assert_eq!((rule.allow(), rule.access().as_deref()), (true, Some("rw")));
        let mount = spec.mounts().as_ref().unwrap().last().unwrap();
        assert_eq!(mount.options().as_ref().unwrap(), &["ro", "bind"]);
        let hooks = spec.hooks().as_ref().unwrap();
        assert_eq!(hooks.create_container().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn a_node_that_is_not_there_is_told() {
        let edits: ContainerEdits =
            serde_json::from_str(r#"{"deviceNodes":[{"path":"/dev/no-such-device"}]}"#).unwrap();
        let refused = apply(&mut Spec::default(), &[edits]).unwrap_err();
        assert!(refused.to_string().ends_with("no such file or directory"), "{refused}");
    }
}

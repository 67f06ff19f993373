//! Mounts of a service's tasks, both ways.
//!
//! Start reading at [`spec`] and [`shown`]. The rules are those of a container's `Mounts`, but sources and targets may be
//! templates, which become paths on the node that runs the task.

use shoal_types::container::mounts::{
    BindRecursion, MissingSource, MountAccess, MountSource, MountSpec, VolumeCopy,
};

use super::mount;
use crate::error::ApiError;
use crate::model::mount::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

/// Stands in for a template where a path is checked.
const PLACEHOLDER: &str = "/template";

/// Whether a text is filled in for each task.
fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// The mount that a request describes.
pub(super) fn spec(asked: Mount) -> Result<MountSpec, ApiError> {
    if matches!(asked.r#type.as_str(), "cluster" | "npipe") {
        return Err(ApiError::not_implemented(format!(
            "mounts of type {:?} are not supported by this engine",
            asked.r#type
        )));
    }
    let (source, target) = (asked.source.clone(), asked.target.clone());
    let mut checked = asked;
    if is_template(&source) && checked.r#type == "bind" {
        PLACEHOLDER.clone_into(&mut checked.source);
    }
    if is_template(&target) {
        PLACEHOLDER.clone_into(&mut checked.target);
    }
    let mut spec = mount::mounted(&checked)?;
    if is_template(&target) {
        spec.destination = target;
    }
    if let MountSource::Bind { path, .. } = &mut spec.source
        && is_template(&source)
    {
        *path = source;
    }
    Ok(spec)
}

/// A mount as Docker shows it.
pub(super) fn shown(spec: &MountSpec) -> Mount {
    let mount = Mount {
        target: spec.destination.clone(),
        read_only: spec.access != MountAccess::ReadWrite,
        ..Mount::default()
    };
    match &spec.source {
        MountSource::Bind { path, propagation, recursion, missing, relabel: _ } => {
            let options = BindOptions {
                propagation: mount::propagation_name(*propagation).to_owned(),
                non_recursive: *recursion == BindRecursion::NonRecursive,
                create_mountpoint: *missing == MissingSource::CreateDirectory,
                read_only_non_recursive: spec.access == MountAccess::ReadOnlyNonRecursive,
                read_only_force_recursive: spec.access == MountAccess::ReadOnlyForceRecursive,
            };
            let bind_options = Some(options).filter(|options| *options != BindOptions::default());
            Mount { r#type: "bind".to_owned(), source: path.clone(), bind_options, ..mount }
        }
        MountSource::Volume { name, subpath, copy, driver, options, labels, .. } => {
            let driver_config = DriverConfig {
                name: driver.clone(),
                options: Some(options.clone()).filter(|options| !options.is_empty()),
            };
            let options = VolumeOptions {
                no_copy: *copy == VolumeCopy::Nothing,
                labels: Some(labels.clone()).filter(|labels| !labels.is_empty()),
                subpath: subpath.clone(),
                driver_config: Some(driver_config).filter(|config| *config != DriverConfig::default()),
            };
            let volume_options = Some(options).filter(|options| *options != VolumeOptions::default());
            Mount { r#type: "volume".to_owned(), source: name.clone(), volume_options, ..mount }
        }
        MountSource::Tmpfs { size, mode, options } => {
            let split = |option: &String| match option.split_once('=') {
                Some((name, value)) => vec![name.to_owned(), value.to_owned()],
                None => vec![option.clone()],
            };
            let options = TmpfsOptions {
                size_bytes: i64::try_from(*size).unwrap_or(i64::MAX),
                mode: mode.unwrap_or_default(),
                options: Some(options.iter().map(split).collect()).filter(|list: &Vec<_>| !list.is_empty()),
            };
            let tmpfs_options = Some(options).filter(|options| *options != TmpfsOptions::default());
            Mount { r#type: "tmpfs".to_owned(), tmpfs_options, ..mount }
        }
        MountSource::Image { reference, subpath } => {
            let options = ImageOptions { subpath: subpath.clone() };
            let image_options = Some(options).filter(|options| *options != ImageOptions::default());
            Mount { r#type: "image".to_owned(), source: reference.clone(), image_options, ..mount }
        }
        // No notation of a service leads here.
        MountSource::VolumesFrom { container } => Mount { source: container.clone(), ..mount },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Result<MountSpec, ApiError> {
        spec(crate::json::decode_value(value).unwrap())
    }

    #[test]
    fn mounts_go_both_ways() {
        for mount in [
            json!({"Type": "bind", "Source": "/a", "Target": "/b"}),
            json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true, "BindOptions": {
                "Propagation": "rslave", "NonRecursive": true, "CreateMountpoint": true, "ReadOnlyForceRecursive": true}}),
            json!({"Type": "bind", "Source": "/srv/{{.Task.Slot}}", "Target": "/b/{{.Node.ID}}"}),
            json!({"Type": "volume", "Target": "/b"}),
            json!({"Type": "volume", "Source": "v-{{.Task.Slot}}", "Target": "/b", "ReadOnly": true, "VolumeOptions": {
                "NoCopy": true, "Labels": {"l": "m"}, "Subpath": "s", "DriverConfig": {"Name": "d", "Options": {"o": "p"}}}}),
            json!({"Type": "tmpfs", "Target": "/b"}),
            json!({"Type": "tmpfs", "Target": "/b", "TmpfsOptions": {
                "SizeBytes": 4096, "Mode": 448, "Options": [["exec"], ["uid", "5"]]}}),
            json!({"Type": "image", "Source": "busybox", "Target": "/b", "ReadOnly": true, "ImageOptions": {"Subpath": "s"}}),
        ] {
            let shown = shown(&read(&mount).unwrap());
            assert_eq!(serde_json::to_value(shown).unwrap(), mount);
        }
    }

    #[test]
    fn mounts_that_cannot_be_are_refused() {
        for (mount, status, message) in [
            (
                json!({"Type": "bind", "Source": "a", "Target": "/b"}),
                400,
                "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute",
            ),
            (
                json!({"Type": "cluster", "Source": "a", "Target": "/b"}),
                501,
                "mounts of type \"cluster\" are not supported by this engine",
            ),
            (
                json!({"Type": "volume", "Source": "a", "Target": ""}),
                400,
                "invalid mount config for type \"volume\": field Target must not be empty",
            ),
        ] {
            let error = read(&mount).unwrap_err();
            assert_eq!((error.status().as_u16(), error.message()), (status, message));
        }
    }
}

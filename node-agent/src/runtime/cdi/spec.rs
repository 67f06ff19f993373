//! The form of a CDI specification, and what of it must hold.
//!
//! Start reading at [`Spec::read`]. The form is that of versions 0.3.0 to 1.0.0
//! (<https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md>). A field that this engine cannot fulfil makes
//! the whole file unusable, because half a device is worse than none.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::NodeError;

/// No specification is longer.
const MAX_SPEC: u64 = 4 << 20;

/// A specification.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(rename = "cdiVersion")]
    version: String,
    /// `vendor.com/class`.
    pub(super) kind: String,
    pub(super) devices: Vec<SpecDevice>,
    /// What comes with any of the devices.
    pub(super) container_edits: ContainerEdits,
}

/// A device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SpecDevice {
    pub(super) name: String,
    pub(super) container_edits: ContainerEdits,
}

/// What is added to a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ContainerEdits {
    /// Variables, `KEY=value`.
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) hooks: Vec<SpecHook>,
    pub(super) mounts: Vec<SpecMount>,
    #[serde(rename = "additionalGids")]
    pub(super) additional_gids: Vec<u32>,
    intel_rdt: Option<serde_json::Value>,
    net_devices: Vec<serde_json::Value>,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct DeviceNode {
    /// Path inside.
    pub(super) path: String,
    /// Path on the host; the same when it is empty.
    pub(super) host_path: String,
    /// `b`, `c`, `u` or `p`; looked up on the host when it is empty.
    pub(super) r#type: String,
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) file_mode: Option<u32>,
    /// `rwm`, or some of that.
    pub(super) permissions: String,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SpecMount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    pub(super) options: Vec<String>,
    pub(super) r#type: String,
}

/// A program to run.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SpecHook {
    pub(super) hook_name: String,
    pub(super) path: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) timeout: Option<i64>,
}

/// Whether a file of this name is a specification.
pub(super) fn is_spec(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|known| extension == *known))
}

impl Spec {
    /// Reads and checks a file. Blocks.
    pub(super) fn read(path: &Path) -> Result<Self, NodeError> {
        let failed = |source: io::Error| NodeError::failed("read a CDI specification", source);
        let text = read_bounded(path).map_err(failed)?;
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let spec: Self = if is_json {
            serde_json::from_str(&text).map_err(|error| failed(error.into()))?
        } else {
            serde_yaml_ng::from_str(&text).map_err(|error| failed(io::Error::other(error)))?
        };
        spec.check().map_err(|reason| failed(io::Error::new(io::ErrorKind::InvalidData, reason)))?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), String> {
        let version = self.version.trim_start_matches('v');
        if !version.starts_with("0.") && !version.starts_with("1.") {
            return Err(format!("unknown version {:?}", self.version));
        }
        let (vendor, class) =
            self.kind.split_once('/').ok_or_else(|| format!("invalid kind {:?}", self.kind))?;
        if !is_name(vendor, "-_.") || !is_name(class, "-_") {
            return Err(format!("invalid kind {:?}", self.kind));
        }
        for device in &self.devices {
            if !is_device_name(&device.name) {
                return Err(format!("invalid device name {:?}", device.name));
            }
            device.container_edits.check()?;
        }
        self.container_edits.check()
    }
}

impl ContainerEdits {
    fn check(&self) -> Result<(), String> {
        if self.intel_rdt.is_some() || !self.net_devices.is_empty() {
            return Err("intelRdt and netDevices are not supported".to_owned());
        }
        if let Some(variable) = self.env.iter().find(|variable| !variable.contains('=')) {
            return Err(format!("invalid variable {variable:?}"));
        }
        for node in &self.device_nodes {
            let is_type = matches!(node.r#type.as_str(), "" | "b" | "c" | "u" | "p");
            let is_access = node.permissions.chars().all(|c| "rwm".contains(c));
            if !node.path.starts_with('/') || !is_type || !is_access {
                return Err(format!("invalid device node {:?}", node.path));
            }
        }
        for mount in &self.mounts {
            if !mount.container_path.is_absolute() || mount.host_path.as_os_str().is_empty() {
                return Err(format!("invalid mount {}", mount.container_path.display()));
            }
        }
        match self
            .hooks
            .iter()
            .find(|hook| !hook.path.is_absolute() || !HOOKS.contains(&hook.hook_name.as_str()))
        {
            Some(hook) => Err(format!("invalid hook {:?}", hook.hook_name)),
            None => Ok(()),
        }
    }
}

/// The moments at which the runtime runs hooks.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A letter, then letters, digits and what else is allowed, ending with a letter or digit.
fn is_name(text: &str, others: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn is_device_name(text: &str) -> bool {
    let ends_well = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(ends_well)
        && text.ends_with(ends_well)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c))
}

fn read_bounded(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    if file.take(MAX_SPEC + 1).read_to_string(&mut text)? as u64 > MAX_SPEC {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_fulfilled_makes_the_file_unusable() {
        let cases = [
            (r#"{"cdiVersion":"0.6.0","kind":"v.com/c"}"#, None),
            (r#"{"cdiVersion":"9.0","kind":"v.com/c"}"#, Some("unknown version")),
            (r#"{"cdiVersion":"0.6.0","kind":"v"}"#, Some("invalid kind")),
            (r#"{"cdiVersion":"0.6.0","kind":"v/c.d"}"#, Some("invalid kind")),
            (r#"{"cdiVersion":"0.6.0","kind":"v/c","devices":[{"name":"-x"}]}"#, Some("invalid device name")),
            (
                r#"{"cdiVersion":"0.6.0","kind":"v/c","containerEdits":{"env":["X"]}}"#,
                Some("invalid variable"),
            ),
            (
                r#"{"cdiVersion":"0.6.0","kind":"v/c","containerEdits":{"deviceNodes":[{"path":"dev/x"}]}}"#,
                Some("invalid device node"),
            ),
            (
                r#"{"cdiVersion":"0.6.0","kind":"v/c","containerEdits":{"mounts":[{"hostPath":"/a","containerPath":"b"}]}}"#,
                Some("invalid mount"),
            ),
            (
                r#"{"cdiVersion":"0.6.0","kind":"v/c","containerEdits":{"hooks":[{"hookName":"x","path":"/a"}]}}"#,
                Some("invalid hook"),
            ),
            (
                r#"{"cdiVersion":"0.7.0","kind":"v/c","containerEdits":{"intelRdt":{"closID":"x"}}}"#,
                Some("not supported"),
            ),
        ];
        for (text, reason) in cases {
            let spec: Spec = serde_json::from_str(text).unwrap();
            let refused = spec.check().err();
            match reason {
                Some(reason) => {
                    assert!(refused.as_ref().is_some_and(|r| r.contains(reason)), "{text}: {refused:?}");
                }
                None => assert_eq!(refused, None),
            }
        }
    }
}

//! Devices by name: specifications of the Container Device Interface (CDI), and what they add to a container.
//!
//! Start reading at [`Catalog::read`] and [`edits_for`]. A specification names devices (`vendor.com/class=name`) and says what a
//! container that gets one needs: nodes, mounts, variables, hooks. They are written by the vendors' tools and trusted as
//! the daemon's configuration is. `spec.rs` is their form, `inject.rs` adds edits to a runtime spec. Files are read at each
//! start that asks for a device, so that a device that was added is there at once.

mod inject;
mod spec;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use shoal_types::container::resources::DeviceRequest;

pub(crate) use self::inject::apply;
pub(crate) use self::spec::ContainerEdits;
use self::spec::Spec;
use crate::error::{ErrorChain, NodeError};

/// Name of the driver that requests for particular devices name.
const DRIVER: &str = "cdi";
/// The class of devices that `--gpus` asks for.
const GPU_CLASS: &str = "gpu";
/// The device that stands for all of its kind.
const ALL: &str = "all";

/// The devices that specifications describe.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    devices: BTreeMap<String, Device>,
    /// Edits that come with any device of a file.
    shared: Vec<ContainerEdits>,
}

#[derive(Debug)]
struct Device {
    edits: ContainerEdits,
    /// Which of the shared edits belong to it.
    shared: usize,
}

impl Catalog {
    /// Reads all specifications. Directories that come later override those before; a file that cannot be read, or two
    /// files of one directory that name one device, take that away from the others and are logged. Blocks.
    pub(crate) fn read(directories: &[PathBuf]) -> Self {
        let mut catalog = Self::default();
        for directory in directories {
            catalog.read_directory(directory);
        }
        catalog
    }

    /// Names of all devices, `vendor.com/class=name`.
    pub(crate) fn names(&self) -> Vec<String> {
        self.devices.keys().cloned().collect()
    }

    fn read_directory(&mut self, directory: &Path) {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let mut found: BTreeMap<String, Option<Device>> = BTreeMap::new();
        for path in paths.iter().filter(|path| spec::is_spec(path)) {
            let spec = match Spec::read(path) {
                Ok(spec) => spec,
                Err(error) => {
                    let error = ErrorChain(&error);
                    tracing::warn!(path = %path.display(), %error, "a CDI specification is left out");
                    continue;
                }
            };
            let shared = self.shared.len();
            self.shared.push(spec.container_edits);
            for device in spec.devices {
                let name = format!("{}={}", spec.kind, device.name);
                let entry = Device { edits: device.container_edits, shared };
                // Two of equal rank cannot both be meant.
                found.entry(name).and_modify(|device| *device = None).or_insert(Some(entry));
            }
        }
        for (name, device) in found {
            match device {
                Some(device) => drop(self.devices.insert(name, device)),
                None => {
                    tracing::warn!(device = name, "a CDI device is described twice and left out");
                    self.devices.remove(&name);
                }
            }
        }
    }

    fn edits(&self, names: &[String]) -> Result<Vec<ContainerEdits>, NodeError> {
        let missing: Vec<&str> =
            names.iter().filter(|name| !self.devices.contains_key(*name)).map(String::as_str).collect();
        if !missing.is_empty() {
            return Err(NodeError::invalid(format!(
                "CDI device injection failed: unresolvable CDI devices {}",
                missing.join(", ")
            )));
        }
        let devices: Vec<&Device> = names.iter().filter_map(|name| self.devices.get(name)).collect();
        let mut shared: Vec<usize> = devices.iter().map(|device| device.shared).collect();
        shared.sort_unstable();
        shared.dedup();
        let common = shared.into_iter().filter_map(|place| self.shared.get(place));
        Ok(common.chain(devices.iter().map(|device| &device.edits)).cloned().collect())
    }

    /// The kind of devices of a class, of whichever vendor comes first.
    fn kind_of_class(&self, class: &str) -> Option<String> {
        self.devices.keys().find_map(|name| {
            let (kind, _) = name.split_once('=')?;
            (kind.split_once('/')?.1 == class).then(|| kind.to_owned())
        })
    }

    /// As many devices of a kind as were asked for.
    fn some_of(&self, kind: &str, count: i64) -> Result<Vec<String>, NodeError> {
        let all = format!("{kind}={ALL}");
        if count < 0 && self.devices.contains_key(&all) {
            return Ok(vec![all]);
        }
        let prefix = format!("{kind}=");
        let single = self.devices.keys().filter(|name| name.starts_with(&prefix) && **name != all);
        let mut single: Vec<String> = single.cloned().collect();
        // Vendors name devices by number and, besides, by other things; numbers count.
        if let Some(numbered) = numbered(&single, &prefix) {
            single = numbered;
        }
        let wanted = usize::try_from(count).unwrap_or(single.len());
        if single.len() < wanted {
            return Err(NodeError::invalid(format!(
                "CDI device injection failed: {wanted} devices of {kind} were asked for, there are {}",
                single.len()
            )));
        }
        single.truncate(wanted);
        Ok(single)
    }
}

fn numbered(names: &[String], prefix: &str) -> Option<Vec<String>> {
    let number = |name: &String| name.strip_prefix(prefix)?.parse::<u32>().ok();
    let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    (!numbers.is_empty()).then(|| numbers.into_iter().map(|number| format!("{prefix}{number}")).collect())
}

/// What the devices that a container asks for add to it. `None` of a request that no specification can answer, because its
/// driver or its capabilities are not known here.
pub(crate) fn edits_for(
    catalog: &Catalog,
    request: &DeviceRequest,
) -> Option<Result<Vec<ContainerEdits>, NodeError>> {
    if request.driver == DRIVER {
        return Some(catalog.edits(&request.device_ids));
    }
    let wants_gpu =
        request.capabilities.iter().any(|set| set.iter().any(|capability| capability == GPU_CLASS));
    if !wants_gpu || !matches!(request.driver.as_str(), "" | "nvidia" | "amd") {
        return None;
    }
    let kind = catalog.kind_of_class(GPU_CLASS)?;
    let names = if request.device_ids.is_empty() {
        catalog.some_of(&kind, request.count)
    } else {
        let named = |id: &String| if id.contains('=') { id.clone() } else { format!("{kind}={id}") };
        Ok(request.device_ids.iter().map(named).collect())
    };
    Some(names.and_then(|names| catalog.edits(&names)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(files: &[(&str, &str)]) -> Catalog {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Catalog::read(&[dir.path().join("etc"), dir.path().join("run")])
    }

    const GPUS: &str = r#"
cdiVersion: "0.6.0"
kind: vendor.com/gpu
containerEdits:
  env: [SHARED=1]
devices:
  - name: "0"
    containerEdits: {env: [GPU=0]}
  - name: "1"
    containerEdits: {env: [GPU=1]}
  - name: "10"
    containerEdits: {env: [GPU=10]}
  - name: GPU-uuid
    containerEdits: {env: [GPU=uuid]}
"#;

    fn env(catalog: &Catalog, request: &DeviceRequest) -> Result<Vec<String>, String> {
        let edits = edits_for(catalog, request).ok_or("unknown driver")?;
        let edits = edits.map_err(|error| error.to_string())?;
        Ok(edits.into_iter().flat_map(|edits| edits.env).collect())
    }

    #[test]
    fn devices_are_found_by_name_and_shared_edits_come_once() {
        let catalog = catalog(&[("etc/gpu.yaml", GPUS), ("etc/readme.txt", "no specification")]);
        let request = |ids: &[&str]| DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: ids.iter().map(|&id| id.to_owned()).collect(),
            ..DeviceRequest::default()
        };
        let found = env(&catalog, &request(&["vendor.com/gpu=1", "vendor.com/gpu=GPU-uuid"]));
        assert_eq!(found.unwrap(), ["SHARED=1", "GPU=1", "GPU=uuid"]);
        let missing = env(&catalog, &request(&["vendor.com/gpu=1", "x/y=1", "x/y=2"])).unwrap_err();
        assert_eq!(missing, "CDI device injection failed: unresolvable CDI devices x/y=1, x/y=2");
    }

    #[test]
    fn gpus_are_counted_by_number() {
        let catalog = catalog(&[("etc/gpu.yaml", GPUS)]);
        let request = |count, ids: &[&str]| DeviceRequest {
            count,
            capabilities: vec![vec!["gpu".to_owned()]],
            device_ids: ids.iter().map(|&id| id.to_owned()).collect(),
            ..DeviceRequest::default()
        };
        assert_eq!(env(&catalog, &request(2, &[])).unwrap(), ["SHARED=1", "GPU=0", "GPU=1"]);
        assert_eq!(env(&catalog, &request(-1, &[])).unwrap(), ["SHARED=1", "GPU=0", "GPU=1", "GPU=10"]);
        assert_eq!(env(&catalog, &request(0, &["10"])).unwrap(), ["SHARED=1", "GPU=10"]);
        assert!(env(&catalog, &request(4, &[])).unwrap_err().contains("there are 3"));
        assert_eq!(env(&Catalog::default(), &request(1, &[])).unwrap_err(), "unknown driver");
        let tpu = DeviceRequest { capabilities: vec![vec!["tpu".to_owned()]], ..DeviceRequest::default() };
        assert_eq!(env(&catalog, &tpu).unwrap_err(), "unknown driver");
    }

    #[test]
    fn later_directories_override_and_equals_cancel_out() {
        let one = |value: &str| {
            format!(
                r#"{{"cdiVersion":"0.5.0","kind":"v.com/c","devices":[{{"name":"x","containerEdits":{{"env":["X={value}"]}}}}]}}"#
            )
        };
        let request = DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: vec!["v.com/c=x".to_owned()],
            ..DeviceRequest::default()
        };
        let overridden = catalog(&[("etc/a.json", &one("etc")), ("run/a.json", &one("run"))]);
        assert_eq!(env(&overridden, &request).unwrap(), ["X=run"]);
        let doubled = catalog(&[("etc/a.json", &one("a")), ("etc/b.json", &one("b"))]);
        assert!(env(&doubled, &request).is_err());
        let broken = catalog(&[("etc/a.json", "{"), ("etc/b.json", &one("b"))]);
        assert_eq!(env(&broken, &request).unwrap(), ["X=b"]);
    }
}

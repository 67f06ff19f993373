//! PURE. Where a container's cgroup is.
//!
//! Start reading at [`path_of`]. The last part holds the whole id: monitoring tools find containers by it.

use shoal_types::ContainerId;
use shoal_types::container::resources::Resources;

use crate::containers::config::{CgroupDriver, EngineConfig};
use crate::containers::paths;

/// The path for the runtime spec: a path below the hierarchies, or `slice:prefix:name` for systemd.
pub(crate) fn path_of(id: ContainerId, resources: &Resources, config: &EngineConfig) -> String {
    let own = Some(&resources.cgroup_parent).filter(|parent| !parent.is_empty());
    let parent = own.or(Some(&config.cgroup_parent)).filter(|parent| !parent.is_empty());
    match config.cgroup_driver {
        CgroupDriver::Cgroupfs => {
            let parent = parent.map_or("/docker", String::as_str);
            paths::clean(&format!("{parent}/{id}"))
        }
        CgroupDriver::Systemd => {
            let parent = parent.map_or("system.slice", String::as_str);
            format!("{parent}:docker:{id}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_ends_with_the_id_and_never_leaves_the_tree() {
        let id = ContainerId::from_bytes([0x11; 32]);
        let with = |parent: &str, driver| {
            let resources = Resources { cgroup_parent: parent.to_owned(), ..Resources::default() };
            let config = EngineConfig { cgroup_driver: driver, ..EngineConfig::new("/d", "/e") };
            path_of(id, &resources, &config)
        };
        assert_eq!(with("", CgroupDriver::Cgroupfs), format!("/docker/{id}"));
        assert_eq!(with("/a/b", CgroupDriver::Cgroupfs), format!("/a/b/{id}"));
        assert_eq!(with("../../x", CgroupDriver::Cgroupfs), format!("/x/{id}"));
        assert_eq!(with("", CgroupDriver::Systemd), format!("system.slice:docker:{id}"));
        assert_eq!(with("my.slice", CgroupDriver::Systemd), format!("my.slice:docker:{id}"));
    }
}

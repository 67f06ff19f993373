//! Which cgroup hierarchies the host has, and where.
//!
//! Start reading at [`Hierarchies::detect`]. It asks the kernel about the places where every distribution mounts them
//! and reads the mount table only when a hierarchy is not there, because the table grows with the number of
//! containers on other engines' hosts.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context, Result, RuntimeError};

/// The hierarchies of the host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hierarchies {
    /// The v2 hierarchy, also when it is only a companion of v1.
    pub(crate) unified: Option<Hierarchy>,
    /// The v1 hierarchies in the kernel's order.
    pub(crate) legacy: Vec<Hierarchy>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Its controllers (`cpu`, `memory`, `name=systemd`); on v2 those that its root offers.
    pub(crate) controllers: Vec<String>,
    /// The caller's own cgroup, below the mount.
    pub(crate) own: PathBuf,
}

/// Where distributions mount the hierarchies.
const STANDARD_ROOT: &str = "/sys/fs/cgroup";
const CGROUP1_MAGIC: i64 = 0x0027_e0eb;
const CGROUP2_MAGIC: i64 = 0x6367_7270;

impl Hierarchies {
    /// Finds them.
    pub(crate) fn detect() -> Result<Self> {
        let membership = fs::read_to_string("/proc/self/cgroup").step(|| "read /proc/self/cgroup")?;
        let lines = parse_membership(&membership);
        let mut found = Self::default();
        let mut missing = false;
        for line in &lines {
            match line.locate() {
                Some(mount) if line.controllers.is_empty() => found.unified = Some(line.at(mount)),
                Some(mount) => found.legacy.push(line.at(mount)),
                // A hierarchy that is mounted nowhere cannot be used by anybody; only the table can tell.
                None => missing |= !line.controllers.is_empty(),
            }
        }
        if missing {
            let table = fs::read_to_string("/proc/self/mountinfo").step(|| "read /proc/self/mountinfo")?;
            found.add_from_table(&lines, &table);
        }
        if found.unified.is_none() && found.legacy.is_empty() {
            return Err(RuntimeError::Unsupported(
                "a host without cgroups (nothing is mounted below /sys/fs/cgroup)".to_owned(),
            ));
        }
        if let Some(unified) = &mut found.unified {
            let offered = fs::read_to_string(unified.mount.join("cgroup.controllers")).unwrap_or_default();
            unified.controllers = offered.split_whitespace().map(str::to_owned).collect();
        }
        found.legacy.reverse();
        Ok(found)
    }

    fn add_from_table(&mut self, lines: &[Membership], table: &str) {
        for line in lines {
            if line.controllers.is_empty()
                || self.legacy.iter().any(|known| known.controllers == line.controllers)
            {
                continue;
            }
            if let Some(mount) = find_in_table(table, &line.controllers) {
                self.legacy.push(line.at(mount));
            }
        }
    }
}

/// One line of `/proc/self/cgroup`.
#[derive(Debug, PartialEq, Eq)]
struct Membership {
    /// Empty for v2.
    controllers: Vec<String>,
    path: PathBuf,
}

impl Membership {
    fn at(&self, mount: PathBuf) -> Hierarchy {
        Hierarchy { mount, controllers: self.controllers.clone(), own: self.path.clone() }
    }

    fn locate(&self) -> Option<PathBuf> {
        let root = Path::new(STANDARD_ROOT);
        if self.controllers.is_empty() {
            return [root.to_path_buf(), root.join("unified")]
                .into_iter()
                .find(|place| magic(place) == Some(CGROUP2_MAGIC));
        }
        let joined = self.controllers.join(",");
        let reversed = self.controllers.iter().rev().map(String::as_str).collect::<Vec<_>>().join(",");
        let single = self.controllers.first().map(String::as_str).unwrap_or_default();
        [joined.as_str(), reversed.as_str(), single]
            .into_iter()
            .map(|name| root.join(name.strip_prefix("name=").unwrap_or(name)))
            .find(|place| magic(place) == Some(CGROUP1_MAGIC))
    }
}

fn magic(place: &Path) -> Option<i64> {
    rustix::fs::statfs(place).ok().map(|status| status.f_type)
}

fn parse_membership(text: &str) -> Vec<Membership> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let controllers =
                controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            Some(Membership { controllers, path: PathBuf::from(path) })
        })
        .collect()
}

/// Finds the mount point of a v1 hierarchy whose options name all of `controllers`.
fn find_in_table(table: &str, controllers: &[String]) -> Option<PathBuf> {
    table.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, _, options) = (right.next()?, right.next()?, right.next()?);
        let names: Vec<&str> = options.split(',').collect();
        let all = controllers.iter().all(|controller| names.contains(&controller.as_str()));
        (kind == "cgroup" && all).then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_lines_are_understood() {
        let lines = parse_membership("5:cpu,cpuacct:/a:b\n2:name=systemd:/\n0::/user\n");
        let expected = [(vec!["cpu", "cpuacct"], "/a:b"), (vec!["name=systemd"], "/"), (vec![], "/user")];
        for (line, (controllers, path)) in lines.iter().zip(expected) {
            assert_eq!(line.controllers, controllers);
            assert_eq!(line.path, Path::new(path));
        }
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_hierarchy_at_an_odd_place_is_found_in_the_mount_table() {
        let table = "30 20 0:26 / /odd rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n";
        let controllers = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(find_in_table(table, &controllers(&["cpu", "cpuacct"])), Some(PathBuf::from("/odd")));
        assert_eq!(find_in_table(table, &controllers(&["memory"])), None);
    }

    #[test]
    fn the_hierarchies_of_this_host_are_found() {
        let found = Hierarchies::detect().unwrap();
        assert!(found.unified.is_some() || !found.legacy.is_empty());
    }
}

//! PURE. Ids inside a user namespace and those of the host.
//!
//! Start reading at [`IdMapping::to_host`]. Extended attributes that hold ids are translated too: capabilities of files,
//! which the kernel heeds in a user namespace only if they name its root, and access control lists.

use std::sync::Arc;

/// A part of a mapping: `length` ids from `inside` on are those from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id in the namespace.
    pub inside: u32,
    /// The same on the host.
    pub outside: u32,
    /// How many ids there are.
    pub length: u32,
}

/// How ids of users and groups in containers are those of the host. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMapping(Option<Arc<Ranges>>);

#[derive(Debug, PartialEq, Eq)]
struct Ranges {
    users: Vec<IdRange>,
    groups: Vec<IdRange>,
}

/// An id that nobody has been given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Container ID {0} cannot be mapped to a host ID")]
pub struct Unmapped(
    /// The id.
    pub u32,
);

const CAPABILITIES: &[u8] = b"security.capability";
const ACCESS_LISTS: &[u8] = b"system.posix_acl_";
/// `VFS_CAP_REVISION_2` and `VFS_CAP_REVISION_3` of linux/capability.h, and what of the first word is not the revision.
const CAP_REVISION_2: u32 = 0x0200_0000;
const CAP_REVISION_3: u32 = 0x0300_0000;
const CAP_FLAGS: u32 = 0x00ff_ffff;
const CAP_LEN_2: usize = 20;
const CAP_LEN_3: usize = 24;
/// Header and entry of linux/posix_acl_xattr.h; entries with these tags name an id.
const ACL_HEADER_LEN: usize = 4;
const ACL_ENTRY_LEN: usize = 8;
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;

impl IdMapping {
    /// A mapping of these ranges. Both have to begin with 0 inside.
    pub fn new(users: Vec<IdRange>, groups: Vec<IdRange>) -> Self {
        Self(Some(Arc::new(Ranges { users, groups })))
    }

    /// Whether ids are the same on both sides.
    pub fn is_identity(&self) -> bool {
        self.0.is_none()
    }

    /// Ranges of users; none of the identity.
    pub fn users(&self) -> &[IdRange] {
        self.0.as_ref().map_or(&[], |ranges| &ranges.users)
    }

    /// Ranges of groups; none of the identity.
    pub fn groups(&self) -> &[IdRange] {
        self.0.as_ref().map_or(&[], |ranges| &ranges.groups)
    }

    /// User and group on the host of root in a container.
    pub fn root(&self) -> (u32, u32) {
        let first = |ranges: &[IdRange]| ranges.first().map_or(0, |range| range.outside);
        (first(self.users()), first(self.groups()))
    }

    /// The ids on the host of a user and a group in a container.
    pub fn to_host(&self, uid: u32, gid: u32) -> Result<(u32, u32), Unmapped> {
        if self.is_identity() {
            return Ok((uid, gid));
        }
        let map = |ranges, id| outside(ranges, id).ok_or(Unmapped(id));
        Ok((map(self.users(), uid)?, map(self.groups(), gid)?))
    }

    /// The ids in a container of a user and a group of the host. Those that nobody in a container can have stay what they
    /// are: files of a container that runs without mapping (`--userns=host`) are root's on both sides.
    pub fn to_container(&self, uid: u32, gid: u32) -> (u32, u32) {
        (inside(self.users(), uid).unwrap_or(uid), inside(self.groups(), gid).unwrap_or(gid))
    }

    /// Translates the ids in an extended attribute of an image for the host. What is malformed stays, for the kernel to
    /// refuse.
    pub fn attribute_to_host(&self, name: &[u8], value: &mut Vec<u8>) {
        if self.is_identity() {
            return;
        }
        if name == CAPABILITIES {
            let root = match revision(value) {
                Some((CAP_REVISION_2, CAP_LEN_2)) => self.root().0,
                Some((CAP_REVISION_3, CAP_LEN_3)) => {
                    let named = number(value, CAP_LEN_2);
                    outside(self.users(), named).unwrap_or(named)
                }
                _ => return,
            };
            set_revision(value, CAP_REVISION_3);
            value.truncate(CAP_LEN_2);
            value.extend_from_slice(&root.to_le_bytes());
        } else if name.starts_with(ACCESS_LISTS) {
            self.translate_list(value, outside);
        }
    }

    /// The other way round.
    pub fn attribute_to_container(&self, name: &[u8], value: &mut Vec<u8>) {
        if self.is_identity() {
            return;
        }
        if name == CAPABILITIES {
            if revision(value) != Some((CAP_REVISION_3, CAP_LEN_3)) {
                return;
            }
            let named = number(value, CAP_LEN_2);
            let root = inside(self.users(), named).unwrap_or(named);
            value.truncate(CAP_LEN_2);
            if root == 0 {
                set_revision(value, CAP_REVISION_2);
            } else {
                value.extend_from_slice(&root.to_le_bytes());
            }
        } else if name.starts_with(ACCESS_LISTS) {
            self.translate_list(value, inside);
        }
    }

    fn translate_list(&self, value: &mut [u8], translate: fn(&[IdRange], u32) -> Option<u32>) {
        let Some(entries) = value.get_mut(ACL_HEADER_LEN..) else { return };
        for entry in entries.chunks_exact_mut(ACL_ENTRY_LEN) {
            let ranges = match u16::from_le_bytes([entry[0], entry[1]]) {
                ACL_USER => self.users(),
                ACL_GROUP => self.groups(),
                _ => continue,
            };
            let id = number(entry, 4);
            entry[4..].copy_from_slice(&translate(ranges, id).unwrap_or(id).to_le_bytes());
        }
    }
}

fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| translate(id, range.inside, range.outside, range.length))
}

fn inside(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| translate(id, range.outside, range.inside, range.length))
}

fn translate(id: u32, from: u32, to: u32, length: u32) -> Option<u32> {
    let place = id.checked_sub(from).filter(|place| *place < length)?;
    to.checked_add(place)
}

/// Revision and length of a file's capabilities.
fn revision(value: &[u8]) -> Option<(u32, usize)> {
    (value.len() >= CAP_LEN_2).then(|| (number(value, 0) & !CAP_FLAGS, value.len()))
}

fn set_revision(value: &mut [u8], revision: u32) {
    let first = number(value, 0) & CAP_FLAGS | revision;
    value[..4].copy_from_slice(&first.to_le_bytes());
}

/// The number at a place; 0 beyond the end.
fn number(value: &[u8], at: usize) -> u32 {
    let bytes = value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> IdMapping {
        let range = |outside| vec![IdRange { inside: 0, outside, length: 65_536 }];
        IdMapping::new(range(100_000), range(200_000))
    }

    #[test]
    fn ids_go_to_the_host_and_come_back() {
        assert_eq!(mapping().root(), (100_000, 200_000));
        assert_eq!(mapping().to_host(0, 5), Ok((100_000, 200_005)));
        assert_eq!(mapping().to_host(65_535, 0), Ok((165_535, 200_000)));
        assert_eq!(mapping().to_host(65_536, 0), Err(Unmapped(65_536)));
        assert_eq!(Unmapped(7).to_string(), "Container ID 7 cannot be mapped to a host ID");
        assert_eq!(mapping().to_container(100_001, 265_535), (1, 65_535));
        assert_eq!(mapping().to_container(0, 1000), (0, 1000), "nobody's in a container");
    }

    #[test]
    fn several_ranges_follow_each_other() {
        let ranges = vec![
            IdRange { inside: 0, outside: 1000, length: 1 },
            IdRange { inside: 1, outside: 5000, length: 10 },
        ];
        let mapping = IdMapping::new(ranges.clone(), ranges);
        assert_eq!(mapping.to_host(0, 1), Ok((1000, 5000)));
        assert_eq!(mapping.to_container(5009, 1000), (10, 0));
        assert!(mapping.to_host(11, 0).is_err());
    }

    #[test]
    fn the_identity_changes_nothing() {
        let mut value = vec![0, 0, 0, 2, 9];
        IdMapping::default().attribute_to_host(CAPABILITIES, &mut value);
        assert_eq!(value, [0, 0, 0, 2, 9]);
        assert_eq!(IdMapping::default().to_host(7, u32::MAX), Ok((7, u32::MAX)));
    }

    #[test]
    fn capabilities_of_files_belong_to_the_namespaces_root_outside_and_to_nobody_inside() {
        let mut inside = vec![0; CAP_LEN_2];
        inside[..4].copy_from_slice(&(CAP_REVISION_2 | 1).to_le_bytes());
        inside[5] = 0x20;
        let mut value = inside.clone();
        mapping().attribute_to_host(CAPABILITIES, &mut value);
        assert_eq!((value.len(), number(&value, 0), number(&value, 20)), (24, CAP_REVISION_3 | 1, 100_000));
        mapping().attribute_to_container(CAPABILITIES, &mut value);
        assert_eq!(value, inside);
        for malformed in [vec![], vec![1; 3], vec![0; CAP_LEN_2]] {
            let mut value = malformed.clone();
            mapping().attribute_to_host(CAPABILITIES, &mut value);
            mapping().attribute_to_container(CAPABILITIES, &mut value);
            assert_eq!(value, malformed);
        }
    }

    #[test]
    fn users_and_groups_of_access_lists_are_translated() {
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        let list = |user, group| {
            [&2_u32.to_le_bytes()[..], &entry(1, u32::MAX), &entry(ACL_USER, user), &entry(ACL_GROUP, group)]
                .concat()
        };
        let mut value = list(5, 6);
        mapping().attribute_to_host(b"system.posix_acl_access", &mut value);
        assert_eq!(value, list(100_005, 200_006));
        mapping().attribute_to_container(b"system.posix_acl_access", &mut value);
        assert_eq!(value, list(5, 6));
    }
}

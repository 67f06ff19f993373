//! The options of a mount as the runtime spec writes them, sorted into what the kernel takes separately.
//!
//! Start reading at [`MountOptions::parse`]. Pure: a table and a loop. An option that is in no table belongs to the
//! file system and is passed on; for bind mounts there is no file system to pass it to, and it is refused.

use crate::error::{Result, RuntimeError};
use crate::sys::MountAttributes;

/// The options of one mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// `MOUNT_ATTR_*` to set and to clear on the mount itself.
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// `MOUNT_ATTR_*` to set and to clear on the mount and all below it (`rro`, `rnosuid`, ...).
    pub(crate) recursive_set: u64,
    pub(crate) recursive_clear: u64,
    /// `MS_SHARED` and the like, each with whether it goes for all mounts below.
    pub(crate) propagation: Vec<(u64, Depth)>,
    /// Whether it is a bind mount.
    pub(crate) bind: Option<Depth>,
    /// Whether an existing mount is changed.
    pub(crate) remount: bool,
    /// Whether the directory's content is copied into a new tmpfs.
    pub(crate) copy_up: bool,
    /// Whether ids are mapped.
    pub(crate) idmap: Option<Depth>,
    /// Options of the file system, in order.
    pub(crate) data: Vec<(String, Option<String>)>,
}

/// Whether something goes for one mount or for all below it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    One,
    Tree,
}

pub(crate) const RDONLY: u64 = 0x0000_0001;
pub(crate) const NOSUID: u64 = 0x0000_0002;
pub(crate) const NODEV: u64 = 0x0000_0004;
pub(crate) const NOEXEC: u64 = 0x0000_0008;
const ATIME_MASK: u64 = 0x0000_0070;
const NOATIME: u64 = 0x0000_0010;
const STRICTATIME: u64 = 0x0000_0020;
const RELATIME: u64 = 0x0000_0000;
const NODIRATIME: u64 = 0x0000_0080;
pub(crate) const IDMAP: u64 = 0x0010_0000;
const NOSYMFOLLOW: u64 = 0x0020_0000;

/// What a word changes: bits to set, bits to clear.
const ATTRIBUTES: [(&str, u64, u64); 18] = [
    ("ro", RDONLY, 0),
    ("rw", 0, RDONLY),
    ("nosuid", NOSUID, 0),
    ("suid", 0, NOSUID),
    ("nodev", NODEV, 0),
    ("dev", 0, NODEV),
    ("noexec", NOEXEC, 0),
    ("exec", 0, NOEXEC),
    ("noatime", NOATIME, ATIME_MASK),
    ("atime", RELATIME, ATIME_MASK),
    ("relatime", RELATIME, ATIME_MASK),
    ("norelatime", RELATIME, ATIME_MASK),
    ("strictatime", STRICTATIME, ATIME_MASK),
    ("nostrictatime", RELATIME, ATIME_MASK),
    ("nodiratime", NODIRATIME, 0),
    ("diratime", 0, NODIRATIME),
    ("nosymfollow", NOSYMFOLLOW, 0),
    ("symfollow", 0, NOSYMFOLLOW),
];

const PROPAGATIONS: [(&str, u64); 4] = [
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("private", libc::MS_PRIVATE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Words that ask for what is the case anyway.
const DEFAULTS: [&str; 10] = [
    "defaults",
    "async",
    "nomand",
    "noiversion",
    "nolazytime",
    "loud",
    "noacl",
    "acl",
    "rootcontext",
    "auto",
];

/// Words of the superblock, passed on as flags of the file system.
pub(crate) const SUPERBLOCK: [&str; 6] = ["sync", "dirsync", "mand", "lazytime", "silent", "iversion"];

impl MountOptions {
    /// Sorts the words of a mount.
    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut options = Self::default();
        for word in words {
            options.add(word);
        }
        options
    }

    fn add(&mut self, word: &str) {
        match word {
            "bind" => self.bind = Some(Depth::One),
            "rbind" => self.bind = Some(Depth::Tree),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(Depth::One),
            "ridmap" => self.idmap = Some(Depth::Tree),
            _ if word.is_empty() || DEFAULTS.contains(&word) => {}
            _ => self.add_from_tables(word),
        }
    }

    fn add_from_tables(&mut self, word: &str) {
        if let Some(propagation) = find_propagation(word) {
            self.propagation.push(propagation);
        } else if let Some((set, clear)) = find_attribute(word) {
            self.set = self.set & !(clear | set) | set;
            self.clear = self.clear & !set | clear;
        } else if let Some((set, clear)) = word.strip_prefix('r').and_then(find_attribute) {
            self.recursive_set = self.recursive_set & !(clear | set) | set;
            self.recursive_clear = self.recursive_clear & !set | clear;
        } else {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (word, None),
            };
            self.data.push((key.to_owned(), value));
        }
    }

    /// Refuses options of a file system where there is none.
    pub(crate) fn refuse_data(&self, destination: &str) -> Result<()> {
        match self.data.iter().find(|(key, _)| !SUPERBLOCK.contains(&key.as_str())) {
            Some((key, _)) => {
                Err(RuntimeError::InvalidSpec(format!("bind mount at {destination}: unknown option {key:?}")))
            }
            None => Ok(()),
        }
    }

    /// Gives the attributes of the mount itself in the form of mount_setattr(2), if there are any.
    pub(crate) fn attributes(&self) -> Option<MountAttributes> {
        present(MountAttributes { set: self.set, clear: self.clear, ..MountAttributes::default() })
    }

    /// Gives the attributes of the mount and all below it, if there are any.
    pub(crate) fn recursive_attributes(&self) -> Option<MountAttributes> {
        present(MountAttributes {
            set: self.recursive_set,
            clear: self.recursive_clear,
            ..MountAttributes::default()
        })
    }
}

/// Parses a propagation word, as in mount options and in `linux.rootfsPropagation`.
pub(crate) fn find_propagation(word: &str) -> Option<(u64, Depth)> {
    let find = |word: &str| PROPAGATIONS.iter().find(|(name, _)| *name == word).map(|(_, flag)| *flag);
    match find(word) {
        Some(flag) => Some((flag, Depth::One)),
        None => find(word.strip_prefix('r')?).map(|flag| (flag, Depth::Tree)),
    }
}

fn find_attribute(word: &str) -> Option<(u64, u64)> {
    ATTRIBUTES.iter().find(|(name, _, _)| *name == word).map(|(_, set, clear)| (*set, *clear))
}

fn present(attributes: MountAttributes) -> Option<MountAttributes> {
    (attributes.set != 0 || attributes.clear != 0).then_some(attributes)
}

/// Lists every word of the tables, for the `features` command.
pub(crate) fn known_words() -> Vec<String> {
    let mut words: Vec<String> =
        ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"].map(str::to_owned).into();
    words.extend(DEFAULTS.iter().chain(&SUPERBLOCK).map(|word| (*word).to_owned()));
    for (word, _, _) in ATTRIBUTES {
        words.push(word.to_owned());
        words.push(format!("r{word}"));
    }
    for (word, _) in PROPAGATIONS {
        words.push(word.to_owned());
        words.push(format!("r{word}"));
    }
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_to_the_place_where_the_kernel_wants_them() {
        let options = MountOptions::parse(["rbind", "ro", "nosuid", "rprivate", "rnoexec"]);
        assert_eq!(options.bind, Some(Depth::Tree));
        assert_eq!(options.set, RDONLY | NOSUID);
        assert_eq!(options.recursive_set, NOEXEC);
        assert_eq!(options.propagation, [(libc::MS_PRIVATE, Depth::Tree)]);
        assert!(options.data.is_empty());
    }

    #[test]
    fn the_last_of_two_contrary_words_wins() {
        let options = MountOptions::parse(["ro", "rw"]);
        assert_eq!((options.set, options.clear), (0, RDONLY));
        let options = MountOptions::parse(["rw", "ro"]);
        assert_eq!((options.set, options.clear), (RDONLY, 0));
        let options = MountOptions::parse(["noatime", "strictatime"]);
        assert_eq!((options.set, options.clear), (STRICTATIME, ATIME_MASK));
    }

    #[test]
    fn relatime_is_itself_and_not_recursive_elatime() {
        let options = MountOptions::parse(["relatime", "rrelatime"]);
        assert_eq!((options.clear, options.recursive_clear), (ATIME_MASK, ATIME_MASK));
    }

    #[test]
    fn other_words_belong_to_the_file_system() {
        let options = MountOptions::parse(["mode=755", "size=64k", "newinstance"]);
        let expected = [("mode", Some("755")), ("size", Some("64k")), ("newinstance", None)]
            .map(|(key, value)| (key.to_owned(), value.map(str::to_owned)));
        assert_eq!(options.data, expected);
        assert!(options.refuse_data("/x").is_err());
        assert!(MountOptions::parse(["bind", "ro"]).refuse_data("/x").is_ok());
    }
}

//! Which paths of an archive are acceptable, and what whiteouts they mean. Pure.
//!
//! Start reading at [`LayerPath::parse`]. Leading slashes, `.` and doubled slashes mean nothing, as in Docker; `..` is
//! refused even where it would stay inside, because no honest archive has it. Whether a component is a symbolic link on
//! disk is not known here.

use super::{ArchiveError, display};

/// Prefix of the names of whiteouts (OCI image spec, layer.md).
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Name of the marker that hides everything below its directory.
pub const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Directory in which AUFS kept hard-linked files; old images have it. Its entries are link targets, nothing else.
pub const AUFS_LINKS: &[u8] = b".wh..wh.plnk";
/// Prefix of AUFS's own files, which mean nothing elsewhere.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
/// PATH_MAX of Linux, without the NUL.
const MAX_PATH: usize = 4095;
/// NAME_MAX of Linux.
const MAX_NAME: usize = 255;

/// A path split into names that are safe one by one: no NUL, no slash, none of them empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerPath<'a> {
    names: Vec<&'a [u8]>,
}

/// What the last name of a path in a layer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// Itself.
    Plain(&'a [u8]),
    /// The name it hides in the layers below.
    Whiteout(&'a [u8]),
    /// Everything of its directory in the layers below is hidden.
    Opaque,
    /// Nothing.
    Ignored,
}

impl<'a> LayerPath<'a> {
    /// Splits a path.
    pub fn parse(path: &'a [u8]) -> Result<Self, ArchiveError> {
        let refuse = |problem| ArchiveError::Path { path: display(path), problem };
        if path.contains(&0) {
            return Err(refuse("contains NUL"));
        }
        if path.len() > MAX_PATH {
            return Err(refuse("is too long"));
        }
        let mut names = Vec::with_capacity(8);
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => return Err(refuse("leads out of the archive")),
                _ if name.len() > MAX_NAME => return Err(refuse("has a name that is too long")),
                _ => names.push(name),
            }
        }
        Ok(Self { names })
    }

    /// The names of the directory and the last name; `None` for the root itself.
    pub fn split_last(&self) -> Option<(&[&'a [u8]], &'a [u8])> {
        self.names.split_last().map(|(last, parents)| (parents, *last))
    }

    /// All names.
    pub fn names(&self) -> &[&'a [u8]] {
        &self.names
    }
}

/// What the last name of a path means. Whiteouts of nothing, of `.` and of `..` are refused, and so are directories
/// whose name is that of a whiteout.
pub fn meaning<'a>(parents: &[&[u8]], name: &'a [u8]) -> Result<Meaning<'a>, ArchiveError> {
    let refuse = |problem| ArchiveError::Path { path: display(name), problem };
    if let Some((first, rest)) = parents.split_first() {
        let rest = if *first == AUFS_LINKS { rest } else { parents };
        if rest.iter().any(|parent| parent.starts_with(WHITEOUT_PREFIX)) {
            return Err(refuse("lies below a whiteout"));
        }
        if *first == AUFS_LINKS {
            return Ok(Meaning::Plain(name));
        }
    }
    match name {
        OPAQUE_MARKER => Ok(Meaning::Opaque),
        AUFS_LINKS if parents.is_empty() => Ok(Meaning::Plain(name)),
        _ if name.starts_with(AUFS_PREFIX) => Ok(Meaning::Ignored),
        _ => match name.strip_prefix(WHITEOUT_PREFIX) {
            Some(b"" | b"." | b"..") => Err(refuse("is a whiteout of nothing")),
            Some(hidden) => Ok(Meaning::Whiteout(hidden)),
            None => Ok(Meaning::Plain(name)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning_of(path: &str) -> Option<Meaning<'_>> {
        let path = LayerPath::parse(path.as_bytes()).ok()?;
        let (parents, name) = path.split_last()?;
        meaning(parents, name).ok()
    }

    #[test]
    fn honest_paths_are_split() {
        let names = |path: &'static str| LayerPath::parse(path.as_bytes()).unwrap().names().to_vec();
        assert_eq!(names("a/b"), [b"a", b"b"]);
        assert_eq!(names("./a//b/"), [b"a", b"b"]);
        assert_eq!(names("/a"), [b"a"]);
        assert_eq!(names("a..b/..."), [&b"a..b"[..], b"..."]);
        assert!(names("./").is_empty() && names("").is_empty());
    }

    #[test]
    fn hostile_paths_are_refused() {
        let long_name = "x".repeat(256);
        let long_path = "x/".repeat(2048);
        for path in ["..", "../a", "a/../..", "a/..", "/..", "a\0b", &long_name, &long_path] {
            assert!(LayerPath::parse(path.as_bytes()).is_err(), "{path:?}");
        }
    }

    #[test]
    fn whiteouts_are_recognised() {
        let cases = [
            ("a/b", Some(Meaning::Plain(b"b"))),
            ("a/.wh.b", Some(Meaning::Whiteout(b"b"))),
            ("a/.wh..wh..opq", Some(Meaning::Opaque)),
            (".wh..wh..opq", Some(Meaning::Opaque)),
            (".wh..wh.aufs", Some(Meaning::Ignored)),
            (".wh..wh.plnk", Some(Meaning::Plain(b".wh..wh.plnk"))),
            (".wh..wh.plnk/1.2", Some(Meaning::Plain(b"1.2"))),
            ("a/.wh..b", Some(Meaning::Whiteout(b".b"))),
            ("a/.wh.", None),
            ("a/.wh..", None),
            ("a/.wh...", None),
            (".wh.a/b", None),
            ("a/.wh..wh..opq/b", None),
            (".wh..wh.plnk/.wh.a/b", None),
        ];
        for (path, expected) in cases {
            assert_eq!(meaning_of(path), expected, "{path}");
        }
    }
}

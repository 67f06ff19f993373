//! PURE. What a client's path means, and how the entries of an archive are called.
//!
//! Start reading at [`Wanted::parse`]. The rules are Docker's: `.` and `..` are taken out of the text before anything is
//! looked up, the end of the text decides whether a last link is followed, and the archive is named as the client named
//! the path, whatever links led there.

use crate::containers::paths::clean;

/// A path that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Absolute. Ends in `/` or `/.` if the client's does, which makes the kernel follow a last link and insist on a
    /// directory.
    pub(super) path: String,
    /// The last component; `/` for the root and `.` for what is in a directory.
    pub(super) name: String,
}

impl Wanted {
    /// Reads a client's path, absolute or taken from the root.
    pub(super) fn parse(text: &str) -> Self {
        let mut path = clean(&format!("/{text}"));
        let ends_in_dot = text.trim_end_matches('/').rsplit('/').next() == Some(".");
        if ends_in_dot {
            push(&mut path, "/.");
        } else if text.ends_with('/') {
            push(&mut path, "/");
        }
        let name = match path.trim_end_matches('/').rsplit('/').next() {
            None | Some("") => "/",
            Some(name) => name,
        };
        Self { name: name.to_owned(), path }
    }

    /// The directory and the last component, if the path names something in a directory rather than a directory.
    pub(super) fn split(&self) -> Option<(&str, &str)> {
        if self.path.ends_with('/') || self.path.ends_with("/.") {
            return None;
        }
        self.path.rsplit_once('/').map(|(directory, name)| (or_root(directory), name))
    }

    /// What stands before the name of everything in the archive of a directory.
    pub(super) fn prefix(&self) -> Vec<u8> {
        if self.name == "/" { b"/".to_vec() } else { format!("{}/", self.name).into_bytes() }
    }
}

fn push(path: &mut String, end: &str) {
    // The root has its slash already.
    path.push_str(if path == "/" { end.trim_start_matches('/') } else { end });
}

fn or_root(directory: &str) -> &str {
    if directory.is_empty() { "/" } else { directory }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_are_dockers() {
        // As dockerd 20.10 answers them.
        for (text, path, name, prefix) in [
            ("/", "/", "/", "/"),
            ("..", "/", "/", "/"),
            ("/.", "/.", ".", "./"),
            (".", "/.", ".", "./"),
            ("/dir", "/dir", "dir", "dir/"),
            ("dir", "/dir", "dir", "dir/"),
            ("./dir", "/dir", "dir", "dir/"),
            ("/dir/", "/dir/", "dir", "dir/"),
            ("/dir//", "/dir/", "dir", "dir/"),
            ("/dir/.", "/dir/.", ".", "./"),
            ("/dir/./", "/dir/.", ".", "./"),
            ("/dir/../a/b", "/a/b", "b", "b/"),
            ("/../../a", "/a", "a", "a/"),
        ] {
            let wanted = Wanted::parse(text);
            assert_eq!((wanted.path.as_str(), wanted.name.as_str()), (path, name), "{text}");
            assert_eq!(wanted.prefix(), prefix.as_bytes(), "{text}");
        }
    }

    #[test]
    fn only_a_name_in_a_directory_is_split() {
        assert_eq!(Wanted::parse("/a/b").split(), Some(("/a", "b")));
        assert_eq!(Wanted::parse("/a").split(), Some(("/", "a")));
        for text in ["/", "/.", "/a/", "/a/."] {
            assert_eq!(Wanted::parse(text).split(), None, "{text}");
        }
    }
}

//! Which texts can be names of volumes. PURE.
//!
//! Start reading at [`check`]. The texts of the refusals are dockerd's.

use crate::error::NodeError;

/// Refuses a name that is too short or has characters that a path should not have.
pub(super) fn check(name: &str) -> Result<(), NodeError> {
    if name.len() < 2 {
        return Err(NodeError::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    let is_first = |byte: u8| byte.is_ascii_alphanumeric();
    let is_other = |byte: u8| is_first(byte) || matches!(byte, b'_' | b'.' | b'-');
    let mut bytes = name.bytes();
    if bytes.next().is_some_and(is_first) && bytes.all(is_other) {
        return Ok(());
    }
    Err(NodeError::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_volume_directory_are_refused() {
        for name in ["ab", "a.b", "A_1-x", "0123", "a..b"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["", "a", "..", ".ab", "-ab", "a/b", "../x", "a\0b", "a b", "ä1"] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn refusals_have_dockers_texts() {
        assert_eq!(
            check("a").unwrap_err().message(),
            "create a: volume name is too short, names should be at least two alphanumeric characters"
        );
        assert_eq!(
            check("a/b").unwrap_err().message(),
            "create a/b: \"a/b\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        );
    }
}

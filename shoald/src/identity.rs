//! Who this daemon is: a random identity that survives restarts.
//!
//! Start reading at [`read_or_make`].

use std::io;
use std::path::Path;

use shoal_types::SandboxId;

/// Reads `<data-root>/engine-id`, or makes one.
pub(crate) fn read_or_make(data_root: &Path) -> io::Result<String> {
    let path = data_root.join("engine-id");
    if let Ok(text) = std::fs::read_to_string(&path) {
        let text = text.trim();
        if !text.is_empty() {
            return Ok(text.to_owned());
        }
    }
    let identity = random_uuid();
    let fresh = data_root.join("engine-id.new");
    std::fs::write(&fresh, &identity)?;
    std::fs::rename(&fresh, &path)?;
    Ok(identity)
}

/// A version 4 UUID (RFC 9562, section 5.4).
fn random_uuid() -> String {
    let mut bytes = *SandboxId::random().as_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = read_or_make(dir.path()).unwrap();
        assert_eq!(read_or_make(dir.path()).unwrap(), first);
        assert_eq!((first.len(), &first[14..15]), (36, "4"));
    }
}

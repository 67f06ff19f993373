//! From what a user writes to an image. Pure.
//!
//! Start reading at [`find`]. The order is Docker's: a whole digest, `name@digest`, a name (with `latest` if it has no
//! tag), a prefix of an id of at least four digits with or without `sha256:`.

use shoal_types::{Digest, ErrorKind, ImageId, ImageRef};

use super::catalog::Catalog;
use crate::error::NodeError;

/// An id prefix that fits several images.
const AMBIGUOUS_TEXT: &str = "ambiguous reference";
/// Fewest digits of an id prefix.
const SHORTEST_PREFIX: usize = 4;

/// What a text was found to mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The image.
    pub(super) id: ImageId,
    /// The name by which it was found; `None` if by id or digest.
    pub(super) name: Option<ImageRef>,
}

/// Finds an image.
pub(super) fn find(catalog: &Catalog, text: &str) -> Result<Found, NodeError> {
    if let Some(digest) = whole_digest(text) {
        let id = ImageId(digest);
        return match catalog.target(&id) {
            Some(_) => Ok(Found { id, name: None }),
            None => Err(NodeError::NoSuchImage(digest.to_string())),
        };
    }
    let reference = ImageRef::parse(text)?;
    if let Some(digest) = reference.digest() {
        // A tag beside a digest is ignored; the repository is not.
        let id = ImageId(digest);
        let is_known = catalog.names_of(&id).iter().any(|name| name.repository() == reference.repository())
            || catalog.references(&id).1.iter().any(|name| name.repository() == reference.repository());
        return if is_known && catalog.target(&id).is_some() {
            Ok(Found { id, name: None })
        } else {
            Err(NodeError::NoSuchImage(reference.familiar()))
        };
    }
    let name = reference.with_default_tag();
    if let Some(record) = catalog.named(&name) {
        return Ok(Found { id: record.target, name: Some(name) });
    }
    let Some(prefix) = id_prefix(text) else { return Err(NodeError::NoSuchImage(name.familiar())) };
    let mut fitting = catalog.targets().map(|(id, _)| *id).filter(|id| id.0.hex().starts_with(prefix));
    match (fitting.next(), fitting.next()) {
        (Some(id), None) => Ok(Found { id, name: None }),
        (Some(_), Some(_)) => {
            Err(NodeError::Refused { kind: ErrorKind::NotFound, message: AMBIGUOUS_TEXT.to_owned() })
        }
        (None, _) => Err(NodeError::NoSuchImage(name.familiar())),
    }
}

/// 64 digits, with or without the algorithm.
fn whole_digest(text: &str) -> Option<Digest> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() == 64 { format!("sha256:{digits}").parse().ok() } else { None }
}

/// The digits of a text that could be the beginning of an id.
pub(super) fn id_prefix(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (is_hex && (SHORTEST_PREFIX..=64).contains(&digits.len())).then_some(digits)
}

/// Whether a text is the beginning of this id, with or without the algorithm.
pub(super) fn is_prefix_of(text: &str, id: &ImageId) -> bool {
    id.to_string().starts_with(text) || id.0.hex().starts_with(text)
}

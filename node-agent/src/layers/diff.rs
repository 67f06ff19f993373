//! What an upper directory holds: as an OCI layer, as a list of changes, as a size.
//!
//! Start reading at [`write_layer`].

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{LayerError, Stack, Usage};
use crate::api::files::PathChange;

/// Writes the content of an upper directory as the tar of an OCI layer: whiteouts as `.wh.` files, names in byte order,
/// so that the same directory gives the same bytes. The container may run; what changes meanwhile may be torn.
pub fn write_layer(_upper: &Path, _out: &mut dyn Write) -> Result<(), LayerError> {
    Err(unfinished())
}

/// What differs from the lower directories, sorted by path, parents of changes included as Docker does. `hidden` are
/// absolute paths that are left out with everything below them, such as mount points.
pub fn changes(_stack: &Stack, _hidden: &[PathBuf]) -> Result<Vec<PathChange>, LayerError> {
    Err(unfinished())
}

/// The size of a directory tree, by the rules of [`Usage`].
pub fn usage(_root: &Path) -> Result<Usage, LayerError> {
    Err(unfinished())
}

fn unfinished() -> LayerError {
    LayerError::NoSuchSnapshot("diffs are being built".to_owned())
}

//! The base of containers: mount points and files that every container finds, on top of its image.
//!
//! Start reading at [`ensure`]. Docker calls it the init layer. It belongs to a committed snapshot (or to the empty
//! image), is made when the first container stands on it, and goes with it. Because it lies below the container's own
//! layer, a diff of the container shows nothing of it, and a read-only root has all its mount points.

use std::path::{Path, PathBuf};

use super::LayerError;

/// Makes the base in `place` (the directory of the topmost layer, `…/<n>`) if it is not there, and returns it.
pub(super) fn ensure(place: &Path, _image: &[PathBuf]) -> Result<PathBuf, LayerError> {
    let base = place.join("base");
    match std::fs::create_dir_all(&base) {
        Ok(()) => Ok(base),
        Err(source) => Err(LayerError::io("create", &base)(source)),
    }
}

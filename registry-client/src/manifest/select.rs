//! The choice of one image out of an index. Pure.
//!
//! Start reading at [`ImageIndex::choose`]. Which platform suits which machine, and how well, is
//! `shoal_types::Platform::rank_on`; this module only applies it to the entries of an index.

use shoal_types::Platform;

use super::{Descriptor, ImageIndex, ManifestKind};

/// An index has nothing that runs on a platform. The text is dockerd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no matching manifest for {platform} in the manifest list entries")]
pub struct NoMatchingManifest {
    /// What was asked for.
    pub platform: Platform,
}

impl ImageIndex {
    /// The entries that run on `machine`, best first; among equals the order of the index decides.
    ///
    /// Entries without a platform are nested indexes or images for anything: they come last. Entries that are no
    /// manifests at all are left out, as OCI demands of readers.
    pub fn ranked(&self, machine: &Platform) -> Vec<&Descriptor> {
        const ANY_PLATFORM: u8 = u8::MAX;
        let mut suitable: Vec<(u8, &Descriptor)> = self
            .manifests
            .iter()
            .filter(|entry| {
                entry.media_type.is_empty() || ManifestKind::from_media_type(&entry.media_type).is_some()
            })
            .filter_map(|entry| match &entry.platform {
                Some(spec) => spec.platform().rank_on(machine).map(|rank| (rank, entry)),
                None => Some((ANY_PLATFORM, entry)),
            })
            .collect();
        suitable.sort_by_key(|(rank, _)| *rank);
        suitable.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The entry that runs best on `machine`.
    pub fn choose(&self, machine: &Platform) -> Result<&Descriptor, NoMatchingManifest> {
        self.ranked(machine).first().copied().ok_or_else(|| NoMatchingManifest { platform: machine.clone() })
    }
}

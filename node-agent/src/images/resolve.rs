//! From a name to what a container needs of an image.
//!
//! Start reading at [`ImageStore::resolve`].

use std::path::PathBuf;
use std::sync::Arc;

use shoal_types::{ChainId, ErrorKind, ImageId, Platform};

use super::tree::{ConfigFacts, Fit, ImageTree, Part, read_config};
use super::usage::Lease;
use super::{ImageStore, Shared, refs};
use crate::api::images::{Descriptor, ImageRunConfig};
use crate::error::NodeError;

/// An image for one platform, unpacked.
#[derive(Debug)]
pub struct Resolved {
    /// Its identity: the digest of what the name points to.
    pub id: ImageId,
    /// The manifest of the platform that was chosen; the image's own unless the name points to an index.
    pub manifest: Descriptor,
    /// How it is run.
    pub config: ImageRunConfig,
    /// Its stack of layers; `None` for an image without layers. The parent of the container's snapshot.
    pub chain: Option<ChainId>,
    /// Where its layers are unpacked, topmost first.
    pub layer_dirs: Vec<PathBuf>,
    /// What it is for.
    pub platform: Platform,
    /// What the user should know: the image is not for this machine although no platform was asked for.
    pub warning: Option<String>,
    /// Keeps its layers on disk until the container's snapshot stands on them.
    pub lease: Lease,
}

impl ImageStore {
    /// Finds an image by reference, digest, id or id prefix and makes sure that it is unpacked.
    ///
    /// Fails with [`NodeError::NoSuchImage`] if there is none, and with another error of kind *not found* if it is there
    /// but not for the `platform` that was asked for. Without a platform, an image for another machine is taken with a
    /// warning.
    pub async fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<Resolved, NodeError> {
        let shared = &self.shared;
        let (id, tree, lease) = {
            let catalog = shared.catalog();
            let id = refs::find(&catalog, name)?.id;
            let tree = shared.tree(&catalog, &id)?;
            // Still in the catalog, so a removal has not begun to sweep.
            let lease = shared.lease(&tree);
            (id, tree, lease)
        };
        let (part, facts) = choose(&tree, &shared.platform, platform, name)?;
        let manifest = part.descriptor.clone();
        let is_foreign = facts.platform.rank_on(&shared.platform).is_none();
        let warning =
            (is_foreign && platform.is_none()).then(|| mismatch_text(&facts.platform, &shared.platform));
        let (chain, platform) = (facts.chains.last().copied(), facts.platform.clone());
        let config_digest = part.manifest.as_ref().map(|manifest| manifest.config.digest);
        shared.ensure_unpacked(&tree, manifest.digest).await?;
        let (config, layer_dirs) = shared
            .block("read an image's configuration", move |shared| {
                let config = match config_digest {
                    Some(digest) => read_config(&shared.content, digest)?
                        .run_config()
                        .map_err(|source| NodeError::failed("read an image's configuration", source))?,
                    None => ImageRunConfig::default(),
                };
                Ok((config, shared.snapshots.lowers(chain)?))
            })
            .await?;
        Ok(Resolved { id, manifest, config, chain, layer_dirs, platform, warning, lease })
    }

    /// Whether a text still names this image. Cheap: nothing but memory is looked at.
    pub fn still_names(&self, name: &str, id: &ImageId) -> bool {
        refs::find(&self.shared.catalog(), name).is_ok_and(|found| found.id == *id)
    }
}

impl Shared {
    pub(super) fn tree(
        &self,
        catalog: &super::catalog::Catalog,
        id: &ImageId,
    ) -> Result<Arc<ImageTree>, NodeError> {
        let target = catalog.target(id).ok_or_else(|| NodeError::NoSuchImage(id.to_string()))?;
        Ok(Arc::clone(&target.tree))
    }
}

/// The part of an image for a platform, or for this machine.
pub(super) fn choose<'a>(
    tree: &'a ImageTree,
    machine: &Platform,
    platform: Option<&Platform>,
    name: &str,
) -> Result<(&'a Part, &'a ConfigFacts), NodeError> {
    let chosen = match platform {
        Some(platform) => tree.choose(platform, Fit::Exact),
        None => tree.choose(machine, Fit::Any),
    };
    chosen.ok_or_else(|| {
        let wanted = match platform {
            Some(platform) => format!("the specified platform ({platform})"),
            None => "any platform".to_owned(),
        };
        let message = format!("image with reference {name} was found but does not provide {wanted}");
        NodeError::Refused { kind: ErrorKind::NotFound, message }
    })
}

fn mismatch_text(image: &Platform, machine: &Platform) -> String {
    format!(
        "The requested image's platform ({image}) does not match the detected host platform ({machine}) and no specific platform was requested"
    )
}

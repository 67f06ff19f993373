//! Looks at one image: what it is and how it was made.
//!
//! Start reading at [`Shared::inspect`] and [`Shared::history`].

use std::sync::Arc;

use shoal_types::{ErrorKind, ImageId, Platform};

use super::resolve::choose;
use super::tree::{ImageTree, read_config};
use super::{Shared, list, refs};
use crate::api::images::{HistoryEntry, ImageRunConfig, ImageView};
use crate::error::NodeError;

/// Fits where Docker has no config to show.
const NO_CONFIG: &str = "{}";

impl Shared {
    /// An image in detail. With a platform the answer is about that part alone, its id included, as in Docker.
    pub(super) fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<ImageView, NodeError> {
        let (id, tree, last_tagged) = {
            let catalog = self.catalog();
            let id = refs::find(&catalog, name)?.id;
            (id, self.tree(&catalog, &id)?, catalog.last_tagged(&id))
        };
        let mut summary = self.summary(&id)?;
        let (part, facts) = choose(&tree, &self.platform, platform, name)?;
        let digest = part.manifest.as_ref().map(|manifest| manifest.config.digest);
        let config_digest = digest.ok_or_else(|| NodeError::NoSuchImage(name.to_owned()))?;
        let config = read_config(&self.content, config_digest)?;
        summary.size = list::total_size(&self.describe_part(part));
        if platform.is_some() {
            summary.id = ImageId(part.descriptor.digest);
            summary.target = part.descriptor.clone();
        }
        let layer_dirs = self.snapshots.lowers(facts.chains.last().copied()).unwrap_or_default();
        Ok(ImageView {
            summary,
            manifest: part.descriptor.clone(),
            config_digest,
            platform: facts.platform.clone(),
            os_version: config.platform.os_version.clone().unwrap_or_default(),
            config: run_config(&config)?,
            config_json: config.config.as_ref().map_or(NO_CONFIG, |config| config.get()).into(),
            author: config.author,
            comment: config.history.last().map(|step| step.comment.clone()).unwrap_or_default(),
            docker_version: config.docker_version,
            diff_ids: facts.diff_ids.clone(),
            chain_id: facts.chains.last().copied(),
            layer_dirs: layer_dirs.into_iter().map(|dir| dir.display().to_string()).collect(),
            last_tagged,
        })
    }

    /// How an image was made, newest first. Steps that are images themselves are found by the parents that builds on
    /// this node recorded.
    pub(super) fn history(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Vec<HistoryEntry>, NodeError> {
        let (id, tree) = {
            let catalog = self.catalog();
            let id = refs::find(&catalog, name)?.id;
            (id, self.tree(&catalog, &id)?)
        };
        let mut entries = self.steps(&tree, name, platform)?;
        let catalog = self.catalog();
        let mut step = Some(id);
        for entry in &mut entries {
            let Some(id) = step else { break };
            entry.id = Some(id);
            entry.tags = catalog.references(&id).0.iter().map(shoal_types::ImageRef::familiar).collect();
            step = catalog.target(&id).and_then(|target| target.record.parent);
        }
        Ok(entries)
    }

    fn steps(
        &self,
        tree: &Arc<ImageTree>,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Vec<HistoryEntry>, NodeError> {
        let (part, facts) = choose(tree, &self.platform, platform, name)?;
        let Some(manifest) = &part.manifest else { return Ok(Vec::new()) };
        let config = read_config(&self.content, manifest.config.digest)?;
        let mut layers = facts.chains.iter();
        let mut entries = Vec::with_capacity(config.history.len());
        for step in config.history {
            let size = if step.empty_layer {
                0
            } else {
                let chain = layers.next().ok_or_else(|| NodeError::Refused {
                    kind: ErrorKind::Internal,
                    message: "unable to find the size of the layer".to_owned(),
                })?;
                self.layer_size(*chain)
            };
            entries.push(HistoryEntry {
                id: None,
                created: step.created,
                created_by: step.created_by,
                tags: Vec::new(),
                size,
                comment: step.comment,
            });
        }
        entries.reverse();
        Ok(entries)
    }
}

fn run_config(config: &super::config::ImageConfig) -> Result<ImageRunConfig, NodeError> {
    config.run_config().map_err(|source| NodeError::failed("read an image's configuration", source))
}

//! Gives images names.
//!
//! Start reading at [`Shared::tag`]. The image that had the name stays, without it.

use std::sync::Arc;

use jiff::Timestamp;
use shoal_types::{ImageId, ImageRef};

use super::catalog::Change;
use super::record::TargetRecord;
use super::tree::ImageTree;
use super::{Shared, refs};
use crate::error::NodeError;
use crate::store::Batch;

const DIGEST_AS_NAME_TEXT: &str = "refusing to create an ambiguous tag using digest algorithm as name";

impl Shared {
    /// Gives an image a further name.
    pub(super) async fn tag(self: &Arc<Self>, name: String, reference: ImageRef) -> Result<(), NodeError> {
        if reference.digest().is_some() {
            return Err(NodeError::invalid("cannot create a tag with a digest reference"));
        }
        if reference.familiar_name() == "sha256" {
            return Err(NodeError::invalid(DIGEST_AS_NAME_TEXT));
        }
        let reference = reference.with_default_tag();
        let tagged = reference.clone();
        let id = self
            .change(move |catalog| {
                let id = refs::find(catalog, &name)?.id;
                Ok((catalog.plan_name(&tagged, id, Timestamp::now()), Batch::new(), id))
            })
            .await?;
        self.tell("tag", &id, &reference.familiar());
        Ok(())
    }

    /// Records an image that has come, all of whose content is here and held, and gives it names. Returns whether a name
    /// pointed elsewhere before, or nowhere.
    pub(super) async fn record_image(
        self: &Arc<Self>,
        record: TargetRecord,
        tree: ImageTree,
        names: Vec<ImageRef>,
    ) -> Result<bool, NodeError> {
        self.block("flush content to disk", |shared| Ok(shared.content.sync_names()?)).await?;
        self.change(move |catalog| {
            let id = ImageId(tree.target.digest);
            let is_new = |name: &ImageRef| catalog.named(name).is_none_or(|known| known.target != id);
            let is_news = names.iter().any(is_new);
            let now = Timestamp::now();
            let mut changes: Vec<Change> = catalog.plan_target(id, record, tree);
            changes.extend(names.iter().flat_map(|name| catalog.plan_name(name, id, now)));
            Ok((changes, Batch::new(), is_news))
        })
        .await
    }
}

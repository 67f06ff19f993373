//! Removes images that nothing uses.
//!
//! Start reading at [`Shared::prune`]. A container keeps the name that it was made from, or the image itself if it was
//! made from an id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shoal_types::{ImageId, ImageRef, Platform};

use super::catalog::Catalog;
use super::filter::Filter;
use super::remove::Plan;
use super::usage::ImageUse;
use super::{Shared, refs};
use crate::api::images::{ImagePruneFilter, PruneNamed, Removal};
use crate::error::NodeError;

const PRUNE_RUNS_TEXT: &str = "a prune operation is already running";

impl Shared {
    /// Removes what passes the filter and is not used, and what failed transfers left. Returns the freed bytes too.
    pub(super) async fn prune(
        self: &Arc<Self>,
        filter: ImagePruneFilter,
    ) -> Result<(Vec<Removal>, u64), NodeError> {
        if self.is_pruning.swap(true, Ordering::AcqRel) {
            return Err(NodeError::conflict(PRUNE_RUNS_TEXT));
        }
        let shared = Arc::clone(self);
        // In a task of its own, so that the mark is taken away even if the client goes.
        let pruning = tokio::spawn(async move {
            let pruned = shared.prune_now(filter).await;
            shared.is_pruning.store(false, Ordering::Release);
            pruned
        });
        pruning.await.map_err(|source| NodeError::failed("prune images", source))?
    }

    async fn prune_now(self: &Arc<Self>, filter: ImagePruneFilter) -> Result<(Vec<Removal>, u64), NodeError> {
        let named = filter.named;
        let filter = Filter::of_prune(filter);
        let shared = Arc::clone(self);
        let (removals, freed) = self
            .carry_out(move |catalog| {
                Ok(plan(catalog, &shared.users.all(), (&filter, named), &shared.platform))
            })
            .await?;
        let leftovers = self.collect_all().await?;
        self.events.publish(
            crate::api::events::EventKind::Image,
            "prune",
            "",
            BTreeMap::from([("reclaimed".to_owned(), (freed + leftovers).to_string())]),
        );
        Ok((removals, freed + leftovers))
    }
}

/// Decides what goes. Pure.
fn plan(
    catalog: &Catalog,
    uses: &[ImageUse],
    (filter, named): (&Filter, PruneNamed),
    machine: &Platform,
) -> Plan {
    let kept_names = kept_names(catalog, uses);
    let used: BTreeSet<ImageId> = uses.iter().map(|used| used.image).collect();
    let mut plan = Plan::default();
    for (id, target) in catalog.targets() {
        let names = catalog.names_of(id);
        if names.is_empty() {
            let is_step = !catalog.children(id).is_empty();
            if !used.contains(id) && !is_step && filter.passes(None, target, machine) {
                plan.deleted.push(*id);
            }
            continue;
        }
        if named == PruneNamed::Keep {
            continue;
        }
        let mut going: Vec<&ImageRef> = names
            .iter()
            .copied()
            .filter(|name| !kept_names.contains(name) && filter.passes(Some(name), target, machine))
            .collect();
        if going.len() == names.len() && used.contains(id) {
            // The last name of an image that a container was made from by its id.
            going.pop();
        }
        if going.len() == names.len() {
            plan.deleted.push(*id);
        }
        plan.untagged.extend(going.into_iter().map(|name| (name.clone(), *id)));
    }
    plan
}

/// The names by which containers were made.
fn kept_names(catalog: &Catalog, uses: &[ImageUse]) -> BTreeSet<ImageRef> {
    let mut kept = BTreeSet::new();
    for used in uses {
        if refs::is_prefix_of(&used.name, &used.image) {
            continue;
        }
        if let Ok(reference) = ImageRef::parse(&used.name) {
            // A tag beside a digest names the image too.
            if let Some(tagged) = reference.tag().and_then(|tag| reference.with_tag(tag).ok()) {
                kept.insert(tagged);
            }
            kept.insert(reference.with_default_tag());
        }
    }
    kept.retain(|name| catalog.named(name).is_some());
    kept
}

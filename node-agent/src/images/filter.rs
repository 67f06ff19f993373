//! Which images pass a filter. Pure.
//!
//! Start reading at [`Filter::new`]. The rules are those of Docker's containerd store: patterns look at names one by one,
//! `until` looks at when the image came here, `before` and `since` at when it was made.

use jiff::Timestamp;
use shoal_types::{ImageId, ImageRef, Platform};

use super::catalog::{Catalog, Target};
use super::glob;
use super::refs;
use super::tree::Fit;
use crate::api::LabelFilter;
use crate::api::images::{ImageFilter, ImagePruneFilter};
use crate::error::NodeError;

/// A filter with its references looked up.
#[derive(Debug)]
pub(super) struct Filter {
    dangling: Option<bool>,
    labels: LabelFilter,
    made_before: Vec<Timestamp>,
    made_after: Vec<Timestamp>,
    came_before: Option<Timestamp>,
    references: Vec<String>,
}

impl Filter {
    /// Looks up the images that others are compared with. One that does not exist is an error.
    pub(super) fn new(filter: ImageFilter, catalog: &Catalog, machine: &Platform) -> Result<Self, NodeError> {
        let made = |names: &[String]| -> Result<Vec<Timestamp>, NodeError> {
            let mut times = Vec::new();
            for name in names {
                let found = refs::find(catalog, name)?;
                times.extend(catalog.target(&found.id).and_then(|target| made(target, machine)));
            }
            Ok(times)
        };
        Ok(Self {
            dangling: filter.dangling,
            made_before: made(&filter.before)?,
            made_after: made(&filter.since)?,
            labels: filter.labels,
            came_before: filter.until,
            references: filter.references,
        })
    }

    /// The filter of a prune.
    pub(super) fn of_prune(filter: ImagePruneFilter) -> Self {
        Self {
            dangling: None,
            labels: filter.labels,
            made_before: Vec::new(),
            made_after: Vec::new(),
            came_before: filter.until,
            references: Vec::new(),
        }
    }

    /// Whether an image passes under one of its names, or as a dangling one.
    pub(super) fn passes(&self, name: Option<&ImageRef>, target: &Target, machine: &Platform) -> bool {
        let is_made = |test: &dyn Fn(Timestamp) -> bool| made(target, machine).is_some_and(test);
        self.dangling.is_none_or(|wanted| wanted == name.is_none())
            && self.made_before.iter().all(|limit| is_made(&|at| at < *limit))
            && self.made_after.iter().all(|limit| is_made(&|at| at > *limit))
            && self.came_before.is_none_or(|limit| target.record.added < limit)
            && (self.references.is_empty() || name.is_some_and(|name| self.matches_name(name)))
            && self.matches_labels(target)
    }

    /// Patterns are tried on the name as users write it and on the complete one, with and without the tag.
    fn matches_name(&self, name: &ImageRef) -> bool {
        let texts = [name.familiar(), name.familiar_name(), name.to_string(), name.full_name()];
        self.references.iter().any(|pattern| texts.iter().any(|text| glob::matches(pattern, text)))
    }

    /// One of its platforms must have the labels.
    fn matches_labels(&self, target: &Target) -> bool {
        if self.labels == LabelFilter::default() {
            return true;
        }
        let mut facts = target.tree.parts.iter().filter_map(|part| part.facts.as_ref());
        facts.any(|facts| self.labels.matches(|key| facts.labels.get(key).map(String::as_str)))
    }
}

fn made(target: &Target, machine: &Platform) -> Option<Timestamp> {
    target.tree.choose(machine, Fit::Any).and_then(|(_, facts)| facts.created)
}

/// The names under which an image passes; `None` if it does not pass at all. A dangling image has no names.
pub(super) fn passing_names(
    filter: &Filter,
    catalog: &Catalog,
    id: &ImageId,
    machine: &Platform,
) -> Option<Vec<ImageRef>> {
    let target = catalog.target(id)?;
    let names = catalog.names_of(id);
    if names.is_empty() {
        return filter.passes(None, target, machine).then(Vec::new);
    }
    let passing: Vec<ImageRef> =
        names.into_iter().filter(|name| filter.passes(Some(name), target, machine)).cloned().collect();
    (!passing.is_empty()).then_some(passing)
}

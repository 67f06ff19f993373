//! Names and targets in memory, and what changes of them mean. Pure.
//!
//! Start reading at [`Catalog`] for what is, and at [`Change`] for what becomes. A change is planned here, made durable by
//! the store, and then applied here: the catalog never shows what is not on disk. A target without names is *dangling*.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use shoal_types::{Digest, ImageId, ImageRef};

use super::record::{NameRecord, TargetRecord};
use super::tree::ImageTree;

/// All names and targets.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    names: BTreeMap<ImageRef, NameRecord>,
    targets: BTreeMap<ImageId, Target>,
}

/// An image: what is stored of it and what it consists of.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) record: TargetRecord,
    pub(super) tree: Arc<ImageTree>,
}

/// One step of a change of the catalog.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A name points to a target.
    Name(ImageRef, NameRecord),
    /// A name is taken away.
    Unname(ImageRef),
    /// A target is new, or its record or content is other than before.
    Target(ImageId, Box<Target>),
    /// A target is gone.
    Forget(ImageId),
}

impl Catalog {
    /// Takes in changes that are durable.
    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Name(name, record) => drop(self.names.insert(name, record)),
                Change::Unname(name) => drop(self.names.remove(&name)),
                Change::Target(id, target) => drop(self.targets.insert(id, *target)),
                Change::Forget(id) => drop(self.targets.remove(&id)),
            }
        }
    }

    /// What a name points to.
    pub(super) fn named(&self, name: &ImageRef) -> Option<&NameRecord> {
        self.names.get(name)
    }

    /// An image.
    pub(super) fn target(&self, id: &ImageId) -> Option<&Target> {
        self.targets.get(id)
    }

    /// All images, ordered by id.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&ImageId, &Target)> {
        self.targets.iter()
    }

    /// How many images there are.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// All names, ordered.
    pub(super) fn names(&self) -> impl Iterator<Item = (&ImageRef, &NameRecord)> {
        self.names.iter()
    }

    /// The names of an image, ordered.
    pub(super) fn names_of(&self, id: &ImageId) -> Vec<&ImageRef> {
        self.names.iter().filter(|(_, record)| record.target == *id).map(|(name, _)| name).collect()
    }

    /// When a name was last put on an image.
    pub(super) fn last_tagged(&self, id: &ImageId) -> Option<Timestamp> {
        self.names.values().filter(|record| record.target == *id).map(|record| record.tagged).max()
    }

    /// References with a tag, and references with a digest, under which an image is known.
    pub(super) fn references(&self, id: &ImageId) -> (Vec<ImageRef>, Vec<ImageRef>) {
        let mut tags = Vec::new();
        let mut digests = BTreeSet::new();
        for name in self.names_of(id) {
            match name.digest() {
                Some(_) => drop(digests.insert(name.clone())),
                None => {
                    tags.push(name.clone());
                    digests.insert(name.with_digest(id.0));
                }
            }
        }
        if let Some(target) = self.target(id) {
            for (repository, digest) in &target.record.pushed_as {
                digests.extend(ImageRef::parse(repository).map(|name| name.with_digest(*digest)));
            }
        }
        (tags, digests.into_iter().collect())
    }

    /// The images that were made here on top of this one.
    pub(super) fn children(&self, id: &ImageId) -> Vec<ImageId> {
        let is_child = |target: &Target| target.record.parent == Some(*id);
        self.targets.iter().filter(|(_, target)| is_child(target)).map(|(child, _)| *child).collect()
    }

    /// Every blob that an image other than those of `except` refers to.
    pub(super) fn blobs_except(&self, except: &BTreeSet<ImageId>) -> BTreeSet<Digest> {
        let others = self.targets.iter().filter(|(id, _)| !except.contains(id));
        others
            .flat_map(|(_, target)| {
                let compressed = target.record.compressed.values().map(|layer| layer.digest);
                target.tree.blobs().into_iter().chain(compressed)
            })
            .collect()
    }

    /// Gives a name to an image. The image that had it stays, perhaps dangling.
    pub(super) fn plan_name(&self, name: &ImageRef, id: ImageId, now: Timestamp) -> Vec<Change> {
        vec![Change::Name(name.clone(), NameRecord { target: id, tagged: now })]
    }

    /// Takes in an image. What is known of one that is here already stays known.
    pub(super) fn plan_target(&self, id: ImageId, record: TargetRecord, tree: ImageTree) -> Vec<Change> {
        let record = match self.target(&id) {
            None => record,
            Some(known) => {
                let mut merged = known.record.clone();
                merged.sources.extend(record.sources);
                merged.parent = merged.parent.or(record.parent);
                merged
            }
        };
        vec![Change::Target(id, Box::new(Target { record, tree: Arc::new(tree) }))]
    }
}

//! Takes names away from images, and images from the node.
//!
//! Start reading at [`Shared::remove`], and at [`plan`] for the rules, which are those of Docker's containerd store. The
//! plan is pure; what it decides is made durable, then content that nothing refers to is swept up, then the world is
//! told.

use std::collections::BTreeSet;
use std::sync::Arc;

use shoal_types::{ContainerId, Digest, ErrorKind, ImageId, ImageRef, Platform};

use super::catalog::{Catalog, Change, Target};
use super::garbage::GarbageRecord;
use super::tree::{Fit, ImageTree};
use super::usage::{ContainerUse, Users};
use super::{Shared, refs};
use crate::api::images::{Removal, RemoveImage};
use crate::error::NodeError;
use crate::store::Batch;

const PLATFORMS_NEED_FORCE: &str =
    "Content will be removed from all images referencing this variant. Use --force to force delete.";

/// What a removal does.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Names to take away, with the image they name.
    pub(super) untagged: Vec<(ImageRef, ImageId)>,
    /// Images to forget.
    pub(super) deleted: Vec<ImageId>,
    /// Images of which the answer says that they were deleted although they stay as parents of others.
    pub(super) kept: Vec<ImageId>,
}

impl Shared {
    /// Takes away a name, or an image with all its names.
    pub(super) async fn remove(
        self: &Arc<Self>,
        name: String,
        options: RemoveImage,
    ) -> Result<Vec<Removal>, NodeError> {
        if !options.platforms.is_empty() {
            return self.remove_platforms(name, options).await;
        }
        let shared = Arc::clone(self);
        let decide = move |catalog: &Catalog| plan(catalog, &shared.users, &name, &options);
        Ok(self.carry_out(decide).await?.0)
    }

    /// Makes a plan true. Returns what happened and the bytes that were freed.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        decide: impl FnOnce(&Catalog) -> Result<Plan, NodeError> + Send + 'static,
    ) -> Result<(Vec<Removal>, u64), NodeError> {
        let shared = Arc::clone(self);
        // In one task, so that a client that goes away does not leave garbage for the next boot.
        let removing = tokio::spawn(async move {
            let (plan, garbage) = shared
                .change_noting_garbage(move |catalog| {
                    let plan = decide(catalog)?;
                    let garbage: Vec<(ImageId, GarbageRecord)> = plan
                        .deleted
                        .iter()
                        .filter_map(|id| GarbageRecord::of(catalog, id).map(|garbage| (*id, garbage)))
                        .collect();
                    let unnames = plan.untagged.iter().map(|(name, _)| Change::Unname(name.clone()));
                    let changes = unnames.chain(plan.deleted.iter().map(|id| Change::Forget(*id))).collect();
                    Ok((changes, garbage, plan))
                })
                .await?;
            let freed = shared.collect(garbage).await?;
            Ok((shared.report(&plan), freed))
        });
        removing.await.map_err(|source| NodeError::failed("remove images", source))?
    }

    fn report(&self, plan: &Plan) -> Vec<Removal> {
        let mut removals = Vec::new();
        for (name, id) in &plan.untagged {
            self.tell_bare("untag", id, &name.familiar());
            removals.push(Removal::Untagged(name.familiar()));
        }
        for id in plan.kept.iter().chain(&plan.deleted) {
            self.tell_bare("delete", id, &id.to_string());
            removals.push(Removal::Deleted(id.to_string()));
        }
        removals
    }

    /// Removes the content of some platforms from an image that stays.
    async fn remove_platforms(
        self: &Arc<Self>,
        name: String,
        options: RemoveImage,
    ) -> Result<Vec<Removal>, NodeError> {
        if !options.force {
            return Err(NodeError::invalid(PLATFORMS_NEED_FORCE));
        }
        let shared = Arc::clone(self);
        let parts = {
            let catalog = self.catalog();
            let id = refs::find(&catalog, &name)?.id;
            let tree = self.tree(&catalog, &id)?;
            platform_parts(&tree, &options.platforms, &name)?
        };
        for manifest in &parts {
            let runs = |used: &super::ImageUse| {
                used.manifest == *manifest && used.container == ContainerUse::Running
            };
            if let Some(container) = self.users.first(runs) {
                return Err(hard_conflict(&ImageId(*manifest), &container));
            }
        }
        // Every image that has one of these manifests loses it.
        let (garbage, gone) = self
            .change_noting_garbage(move |catalog| shared.plan_platforms(catalog, &parts))
            .await
            .map(|(gone, garbage)| (garbage, gone))?;
        self.collect(garbage).await?;
        Ok(gone.into_iter().map(|digest| Removal::Deleted(digest.to_string())).collect())
    }

    #[expect(clippy::type_complexity, reason = "the shape that change_noting_garbage asks for")]
    fn plan_platforms(
        &self,
        catalog: &Catalog,
        parts: &[Digest],
    ) -> Result<(Vec<Change>, Vec<(ImageId, GarbageRecord)>, Vec<Digest>), NodeError> {
        let mut changes = Vec::new();
        let mut garbage = Vec::new();
        for (id, target) in catalog.targets() {
            let (gone, kept): (Vec<_>, Vec<_>) =
                target.tree.parts.iter().cloned().partition(|part| parts.contains(&part.descriptor.digest));
            if gone.is_empty() {
                continue;
            }
            let blobs = gone.iter().flat_map(super::tree::Part::blobs).collect();
            let chains =
                gone.iter().filter_map(|part| part.facts.as_ref()).flat_map(|facts| facts.chains.clone());
            garbage.push((*id, GarbageRecord { blobs, chains: chains.collect() }));
            let forgotten =
                gone.into_iter().map(|part| super::tree::Part { manifest: None, facts: None, ..part });
            let tree = ImageTree {
                parts: kept.into_iter().chain(forgotten).collect(),
                ..target.tree.as_ref().clone()
            };
            let target = Target { record: target.record.clone(), tree: Arc::new(tree) };
            changes.push(Change::Target(*id, Box::new(target)));
        }
        Ok((changes, garbage, parts.to_vec()))
    }

    /// As [`Shared::change`], with the garbage that it makes written down in the same commit.
    async fn change_noting_garbage<T: Send + 'static>(
        self: &Arc<Self>,
        plan: impl FnOnce(&Catalog) -> Result<(Vec<Change>, Vec<(ImageId, GarbageRecord)>, T), NodeError>
        + Send
        + 'static,
    ) -> Result<(T, Vec<(ImageId, GarbageRecord)>), NodeError> {
        self.change(move |catalog| {
            let (changes, garbage, result) = plan(catalog)?;
            let notes = garbage
                .iter()
                .try_fold(Batch::new(), |batch, (id, garbage)| batch.put(id.to_string(), garbage))?;
            Ok((changes, notes, (result, garbage)))
        })
        .await
    }
}

fn platform_parts(tree: &ImageTree, platforms: &[Platform], name: &str) -> Result<Vec<Digest>, NodeError> {
    let mut parts = Vec::new();
    for platform in platforms {
        let (part, _) = tree.choose(platform, Fit::Exact).ok_or_else(|| NodeError::Refused {
            kind: ErrorKind::NotFound,
            message: format!(
                "failed to delete platform {platform} for image {name}: image with reference {name} was found but does not provide the specified platform ({platform})"
            ),
        })?;
        parts.push(part.descriptor.digest);
    }
    Ok(parts)
}

/// Decides what a removal does. Pure.
fn plan(catalog: &Catalog, users: &Users, text: &str, options: &RemoveImage) -> Result<Plan, NodeError> {
    let found = refs::find(catalog, text)?;
    let id = found.id;
    let all: Vec<ImageRef> = catalog.names_of(&id).into_iter().cloned().collect();
    let by_id = found.name.is_none() && refs::is_prefix_of(text, &id);
    let mut may_be_named_twice = options.force;
    if !by_id {
        let named = found.name.clone().or_else(|| ImageRef::parse(text).ok());
        let same = same_references(named.as_ref(), &all);
        if same.len() != all.len() {
            return Ok(Plan {
                untagged: same.into_iter().map(|name| (name, id)).collect(),
                ..Plan::default()
            });
        }
        // All its names are in one repository under one tag: that counts as one name.
        may_be_named_twice = true;
        if let Some(name) = &found.name
            && let Some(container) = users.first(|used| used.image == id)
        {
            if !options.force {
                return Err(referenced_conflict(name, &container, &id));
            }
            // The image stays for the container, without a name.
            return Ok(Plan { untagged: vec![(name.clone(), id)], ..Plan::default() });
        }
    }
    check_conflicts(users, &id, all.len(), may_be_named_twice, options.force)?;
    let mut plan = Plan { untagged: all.into_iter().map(|name| (name, id)).collect(), ..Plan::default() };
    if catalog.children(&id).is_empty() {
        plan.deleted.push(id);
    } else {
        plan.kept.push(id);
    }
    if !options.keep_parents {
        plan.deleted.extend(lonely_parents(catalog, users, &id));
    }
    Ok(plan)
}

/// The names that are taken away together with one: the same tag, and digests of the repository if it has no other tag.
fn same_references(named: Option<&ImageRef>, all: &[ImageRef]) -> Vec<ImageRef> {
    let Some(named) = named else { return all.to_vec() };
    let in_repository = all.iter().filter(|name| name.repository() == named.repository());
    if named.digest().is_some() {
        return in_repository.cloned().collect();
    }
    let (tagged, digested): (Vec<&ImageRef>, Vec<&ImageRef>) =
        in_repository.partition(|name| name.digest().is_none());
    let wanted = named.clone().with_default_tag();
    let mut same: Vec<ImageRef> =
        tagged.iter().filter(|name| ***name == wanted).map(|name| (*name).clone()).collect();
    if tagged.len() == same.len() {
        same.extend(digested.into_iter().cloned());
    }
    same
}

fn check_conflicts(
    users: &Users,
    id: &ImageId,
    n_names: usize,
    may_be_named_twice: bool,
    force: bool,
) -> Result<(), NodeError> {
    let running = users.first(|used| used.image == *id && used.container == ContainerUse::Running);
    if let Some(container) = running {
        return Err(hard_conflict(id, &container));
    }
    if !force && let Some(container) = users.first(|used| used.image == *id) {
        let reason = format!("image is being used by stopped container {}", container.short());
        return Err(soft_conflict(&id.0.short(), &reason));
    }
    if n_names > 1 && !may_be_named_twice {
        return Err(soft_conflict(&id.0.short(), "image is referenced in multiple repositories"));
    }
    Ok(())
}

/// Steps of a build that only led to this image: without names, users and other children, as far as the line goes.
fn lonely_parents(catalog: &Catalog, users: &Users, id: &ImageId) -> Vec<ImageId> {
    let mut gone = BTreeSet::from([*id]);
    let mut parents = Vec::new();
    let mut next = catalog.target(id).and_then(|target| target.record.parent);
    while let Some(parent) = next {
        let has_other_children = catalog.children(&parent).iter().any(|child| !gone.contains(child));
        let is_used = users.first(|used| used.image == parent).is_some();
        if !catalog.names_of(&parent).is_empty() || has_other_children || is_used || !gone.insert(parent) {
            break;
        }
        let Some(target) = catalog.target(&parent) else { break };
        parents.push(parent);
        next = target.record.parent;
    }
    parents
}

fn referenced_conflict(name: &ImageRef, container: &ContainerId, id: &ImageId) -> NodeError {
    let reason = format!("container {} is using its referenced image {}", container.short(), id.0.short());
    soft_conflict(&name.familiar(), &reason)
}

fn soft_conflict(what: &str, reason: &str) -> NodeError {
    NodeError::conflict(format!("conflict: unable to delete {what} (must be forced) - {reason}"))
}

fn hard_conflict(id: &ImageId, container: &ContainerId) -> NodeError {
    NodeError::conflict(format!(
        "conflict: unable to delete {} (cannot be forced) - image is being used by running container {}",
        id.0.short(),
        container.short()
    ))
}

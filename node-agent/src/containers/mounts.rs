//! PURE. Which of several wishes for one destination a container gets.
//!
//! Start reading at [`settle`]. What another container lends (`--volumes-from`) gives way to the container's own binds and
//! mounts; what the image declares gives way to everything. Looking up volumes and paths is the implementation's of
//! [`super::ports::ContainerVolumes`].

use std::collections::BTreeMap;

use shoal_types::container::mounts::{
    BindRecursion, MissingSource, MountAccess, MountOrigin, MountSource, MountSpec, VolumeCopy,
};
use shoal_types::container::state::{MountKind, MountPoint};

use super::paths::clean;
use super::ports::{Fill, MountWish, ResolvedMount};
use crate::api::containers::ContainerView;
use crate::error::NodeError;

/// What one `--volumes-from` brings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lent {
    /// The mounts of the other container.
    pub(crate) mounts: Vec<ResolvedMount>,
    /// Whether the borrower may write where the lender may.
    pub(crate) access: MountAccess,
}

/// Chooses one wish for each destination. `lent` answers the `VolumesFrom` wishes in their order.
pub(crate) fn settle(wishes: &[MountSpec], lent: Vec<Lent>) -> Result<Vec<MountWish>, NodeError> {
    let mut chosen: Vec<MountWish> = lent.into_iter().flat_map(borrow).fold(Vec::new(), |mut kept, wish| {
        kept.retain(|other: &MountWish| other.spec.destination != wish.spec.destination);
        kept.push(wish);
        kept
    });
    let mut own: Vec<String> = Vec::new();
    for (spec_index, spec) in wishes.iter().enumerate() {
        if !matches!(spec.origin, MountOrigin::Bind | MountOrigin::Mount | MountOrigin::Tmpfs) {
            continue;
        }
        let destination = clean(&spec.destination);
        if own.contains(&destination) {
            return Err(NodeError::invalid(format!("Duplicate mount point: {destination}")));
        }
        own.push(destination.clone());
        chosen.retain(|other| other.spec.destination != destination);
        chosen.push(own_wish(spec, destination, spec_index));
    }
    for (spec_index, spec) in wishes.iter().enumerate() {
        let destination = clean(&spec.destination);
        let is_taken = || chosen.iter().any(|other| other.spec.destination == destination);
        if spec.origin == MountOrigin::Declared && !is_taken() {
            chosen.push(own_wish(spec, destination, spec_index));
        }
    }
    Ok(chosen)
}

fn own_wish(spec: &MountSpec, destination: String, spec_index: usize) -> MountWish {
    let spec = MountSpec { destination, ..spec.clone() };
    MountWish { spec, spec_index: Some(spec_index), inherited: None }
}

/// The mounts of a container, with their wishes as far as they are known.
pub(crate) fn of_view(view: &ContainerView) -> Vec<ResolvedMount> {
    let spec_of = |index: Option<usize>| index.and_then(|index| view.spec.mounts.get(index).cloned());
    view.mounts
        .iter()
        .map(|point| ResolvedMount {
            point: point.clone(),
            spec: spec_of(point.spec_index),
            fill: Fill::Never,
        })
        .collect()
}

/// Turns what another container has mounted into wishes. Memory is not shared.
fn borrow(lent: Lent) -> Vec<MountWish> {
    let Lent { mounts, access } = lent;
    let borrowed = mounts.into_iter().filter_map(|mount| {
        let mut spec = mount.spec.unwrap_or_else(|| spec_of(&mount.point));
        if matches!(spec.source, MountSource::Tmpfs { .. }) {
            return None;
        }
        let mut point = mount.point;
        if access != MountAccess::ReadWrite && point.access == MountAccess::ReadWrite {
            point.access = access;
        }
        point.spec_index = None;
        // The mode is not lent, only what follows from it.
        point.mode.clear();
        spec.mode.clear();
        spec.access = point.access;
        spec.origin = MountOrigin::VolumesFrom;
        spec.destination.clone_from(&point.destination);
        Some(MountWish { spec, spec_index: None, inherited: Some(point) })
    });
    borrowed.collect()
}

/// The wish that leads to a mount whose own wish is not known any more, because it was borrowed itself.
fn spec_of(point: &MountPoint) -> MountSpec {
    let source = match point.kind {
        MountKind::Bind => MountSource::Bind {
            path: point.source.clone(),
            propagation: point.propagation,
            recursion: BindRecursion::Recursive,
            missing: MissingSource::Refuse,
            relabel: None,
        },
        MountKind::Volume => MountSource::Volume {
            name: point.name.clone(),
            subpath: point.subpath.clone(),
            copy: VolumeCopy::Nothing,
            driver: point.driver.clone(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            propagation: point.propagation,
            relabel: None,
        },
        MountKind::Tmpfs => MountSource::Tmpfs { size: 0, mode: None, options: Vec::new() },
        MountKind::Image => {
            MountSource::Image { reference: point.name.clone(), subpath: point.subpath.clone() }
        }
    };
    MountSpec {
        destination: point.destination.clone(),
        source,
        access: point.access,
        origin: MountOrigin::VolumesFrom,
        mode: point.mode.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_types::container::mounts::Propagation;

    fn bind(destination: &str, origin: MountOrigin) -> MountSpec {
        MountSpec {
            destination: destination.to_owned(),
            source: MountSource::Bind {
                path: format!("/host{destination}"),
                propagation: Propagation::Default,
                recursion: BindRecursion::Recursive,
                missing: MissingSource::Refuse,
                relabel: None,
            },
            access: MountAccess::ReadWrite,
            origin,
            mode: String::new(),
        }
    }

    fn lent(destinations: &[&str], access: MountAccess) -> Lent {
        let mounts = destinations.iter().map(|destination| {
            let spec = bind(destination, MountOrigin::Bind);
            let point = MountPoint {
                kind: MountKind::Bind,
                name: String::new(),
                source: "/lent".to_owned(),
                destination: (*destination).to_owned(),
                driver: String::new(),
                mode: String::new(),
                access: MountAccess::ReadWrite,
                propagation: Propagation::Rprivate,
                anonymous: false,
                subpath: String::new(),
                spec_index: Some(3),
                image: None,
            };
            ResolvedMount { point, spec: Some(spec), fill: Fill::Never }
        });
        Lent { mounts: mounts.collect(), access }
    }

    fn summary(wishes: &[MountWish]) -> Vec<(&str, MountOrigin)> {
        wishes.iter().map(|wish| (wish.spec.destination.as_str(), wish.spec.origin)).collect()
    }

    #[test]
    fn own_mounts_beat_borrowed_ones_and_declarations_come_last() {
        use MountOrigin::{Bind, Declared, Mount, Tmpfs, VolumesFrom};
        let wishes = [
            bind("/a", Declared),
            bind("/b", Declared),
            bind("/b/", Bind),
            bind("/c", Mount),
            bind("/d", Tmpfs),
            bind("/e", Declared),
        ];
        let settled = settle(&wishes, vec![lent(&["/a", "/c", "/f"], MountAccess::ReadWrite)]).unwrap();
        assert_eq!(
            summary(&settled),
            [
                ("/a", VolumesFrom),
                ("/f", VolumesFrom),
                ("/b", Bind),
                ("/c", Mount),
                ("/d", Tmpfs),
                ("/e", Declared)
            ]
        );
        assert_eq!(settled[2].spec_index, Some(2));
        assert!(settled[0].inherited.as_ref().is_some_and(|point| point.spec_index.is_none()));
    }

    #[test]
    fn one_destination_twice_is_refused_with_dockers_words() {
        let wishes = [bind("/a", MountOrigin::Bind), bind("/a/", MountOrigin::Mount)];
        assert_eq!(settle(&wishes, vec![]).unwrap_err().to_string(), "Duplicate mount point: /a");
    }

    #[test]
    fn the_later_lender_wins_and_read_only_narrows() {
        let first = lent(&["/a"], MountAccess::ReadWrite);
        let second = lent(&["/a"], MountAccess::ReadOnly);
        let settled = settle(&[], vec![first, second]).unwrap();
        assert_eq!(settled.len(), 1);
        assert_eq!(settled[0].spec.access, MountAccess::ReadOnly);
        assert_eq!(settled[0].inherited.as_ref().unwrap().access, MountAccess::ReadOnly);
    }
}

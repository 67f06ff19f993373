//! PURE. Mounts as Docker shows them.
//!
//! Start reading at [`shown_of`].

use node_agent::api::containers::ContainerView;
use shoal_types::container::mounts::{MountAccess, MountOrigin, Propagation};
use shoal_types::container::state as observed;

use super::propagation_name;
use crate::model::mount::MountPoint;

/// The mounts of a container as Docker shows them: all but those of `--tmpfs`, which only the host configuration tells.
pub(crate) fn shown_of(view: &ContainerView) -> Vec<MountPoint> {
    let is_from_tmpfs = |mount: &observed::MountPoint| {
        let wish = mount.spec_index.and_then(|index| view.spec.mounts.get(index));
        wish.is_some_and(|wish| wish.origin == MountOrigin::Tmpfs)
    };
    view.mounts.iter().filter(|mount| !is_from_tmpfs(mount)).map(shown).collect()
}

/// A mount as Docker shows it.
fn shown(mount: &observed::MountPoint) -> MountPoint {
    let kind = match mount.kind {
        observed::MountKind::Bind => "bind",
        observed::MountKind::Volume => "volume",
        observed::MountKind::Tmpfs => "tmpfs",
        observed::MountKind::Image => "image",
    };
    let is_bind = mount.kind == observed::MountKind::Bind;
    let propagation = match mount.propagation {
        Propagation::Default if is_bind => "rprivate",
        other => propagation_name(other),
    };
    let is_tmpfs = mount.kind == observed::MountKind::Tmpfs;
    MountPoint {
        r#type: kind.to_owned(),
        name: mount.name.clone(),
        source: mount.source.clone(),
        destination: mount.destination.clone(),
        driver: mount.driver.clone(),
        mode: if is_tmpfs { String::new() } else { mount.mode.clone() },
        rw: mount.access == MountAccess::ReadWrite,
        propagation: propagation.to_owned(),
    }
}

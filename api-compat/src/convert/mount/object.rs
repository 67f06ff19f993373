//! PURE. A mount in the long notation: one of `Mounts`.
//!
//! Start reading at [`mounted`]. What does not fit the type of the mount is refused, as Docker does.

use shoal_types::container::mounts::{
    BindRecursion, MissingSource, MountAccess, MountOrigin, MountSource, MountSpec, Propagation, VolumeCopy,
};

use super::{
    access, check_destination, clean, extra, is_local, missing, not_absolute, propagation, volume_mode,
};
use crate::error::ApiError;
use crate::model::mount::{BindOptions, Mount, TmpfsOptions, VolumeOptions};

/// Reads one of `Mounts`.
pub(in crate::convert) fn mounted(mount: &Mount) -> Result<MountSpec, ApiError> {
    let misfit =
        |error: ApiError| error.in_context(&format!("invalid mount config for type {:?}", mount.r#type));
    if mount.target.is_empty() {
        return Err(misfit(missing("Target")));
    }
    check_destination(&mount.target).map_err(misfit)?;
    let (source, access) = match mount.r#type.as_str() {
        "bind" => bind_mount(mount),
        "volume" => volume_mount(mount),
        "tmpfs" => tmpfs_mount(mount),
        "image" => image_mount(mount),
        _ => Err(ApiError::invalid("mount type unknown")),
    }
    .map_err(misfit)?;
    let mode = match &source {
        MountSource::Volume { driver, .. } => volume_mode("", driver),
        _ => "",
    };
    Ok(MountSpec {
        destination: clean(&mount.target),
        source,
        access,
        origin: MountOrigin::Mount,
        mode: mode.to_owned(),
    })
}

type Mounted = Result<(MountSource, MountAccess), ApiError>;

fn bind_mount(mount: &Mount) -> Mounted {
    if mount.source.is_empty() {
        return Err(missing("Source"));
    }
    if !mount.source.starts_with('/') {
        return Err(not_absolute(&mount.source));
    }
    let default = BindOptions::default();
    let options = mount.bind_options.as_ref().unwrap_or(&default);
    let propagation = match options.propagation.as_str() {
        "" => Propagation::Default,
        word => {
            propagation(word).ok_or_else(|| ApiError::invalid(format!("invalid propagation mode: {word}")))?
        }
    };
    let access = match (mount.read_only, options.read_only_non_recursive, options.read_only_force_recursive) {
        (_, true, true) => {
            return Err(ApiError::invalid(
                "ReadOnlyNonRecursive and ReadOnlyForceRecursive cannot be both set",
            ));
        }
        (false, true, _) => return Err(ApiError::invalid("ReadOnlyNonRecursive requires ReadOnly")),
        (false, _, true) => return Err(ApiError::invalid("ReadOnlyForceRecursive requires ReadOnly")),
        (true, true, _) => MountAccess::ReadOnlyNonRecursive,
        (true, _, true) => MountAccess::ReadOnlyForceRecursive,
        (true, false, false) => MountAccess::ReadOnly,
        (false, false, false) => MountAccess::ReadWrite,
    };
    let recursion =
        if options.non_recursive { BindRecursion::NonRecursive } else { BindRecursion::Recursive };
    let missing =
        if options.create_mountpoint { MissingSource::CreateDirectory } else { MissingSource::Refuse };
    let path = clean(&mount.source);
    Ok((MountSource::Bind { path, propagation, recursion, missing, relabel: None }, access))
}

fn volume_mount(mount: &Mount) -> Mounted {
    let default = VolumeOptions::default();
    let options = mount.volume_options.as_ref().unwrap_or(&default);
    if mount.source.is_empty() && mount.read_only {
        return Err(ApiError::invalid("must not set ReadOnly mode when using anonymous volumes"));
    }
    if mount.source.is_empty() && !options.subpath.is_empty() {
        return Err(ApiError::invalid("must not set Subpath when using anonymous volumes"));
    }
    if !is_local(&options.subpath) {
        return Err(ApiError::invalid("subpath must be a relative path within the volume"));
    }
    let driver = options.driver_config.clone().unwrap_or_default();
    let source = MountSource::Volume {
        name: mount.source.clone(),
        subpath: options.subpath.clone(),
        copy: if options.no_copy { VolumeCopy::Nothing } else { VolumeCopy::FromImage },
        driver: driver.name,
        options: driver.options.unwrap_or_default(),
        labels: options.labels.clone().unwrap_or_default(),
        propagation: Propagation::Default,
        relabel: None,
    };
    Ok((source, access(mount.read_only)))
}

fn tmpfs_mount(mount: &Mount) -> Mounted {
    if !mount.source.is_empty() {
        return Err(extra("Source"));
    }
    let default = TmpfsOptions::default();
    let asked = mount.tmpfs_options.as_ref().unwrap_or(&default);
    let options = asked.options.iter().flatten().map(|option| match option.as_slice() {
        [flag] => Ok(flag.clone()),
        [name, value] => Ok(format!("{name}={value}")),
        _ => Err(ApiError::invalid("invalid option array length")),
    });
    let source = MountSource::Tmpfs {
        size: u64::try_from(asked.size_bytes)
            .map_err(|_| ApiError::invalid("size of a tmpfs mount cannot be negative"))?,
        mode: (asked.mode != 0).then_some(asked.mode),
        options: options.collect::<Result<_, _>>()?,
    };
    Ok((source, access(mount.read_only)))
}

fn image_mount(mount: &Mount) -> Mounted {
    if mount.source.is_empty() {
        return Err(missing("Source"));
    }
    let subpath = mount.image_options.as_ref().map(|options| options.subpath.clone()).unwrap_or_default();
    if !is_local(&subpath) {
        return Err(ApiError::invalid("subpath must be a relative path within the volume"));
    }
    Ok((MountSource::Image { reference: mount.source.clone(), subpath }, MountAccess::ReadOnly))
}

//! PURE. The short notations of mounts: `Binds`, `VolumesFrom` and `Tmpfs`.
//!
//! Start reading at [`bind`]. Each is one line of text with Docker's grammar for Linux, and its words of refusal.

use std::collections::BTreeMap;

use shoal_types::container::mounts::{
    BindRecursion, MissingSource, MountAccess, MountOrigin, MountSource, MountSpec, Propagation, Relabel,
    VolumeCopy,
};

use super::{check_destination, clean, propagation, volume_mode};
use crate::error::ApiError;

/// Reads `container[:mode]`.
pub(super) fn volumes_from(written: &str) -> Result<MountSpec, ApiError> {
    if written.is_empty() {
        return Err(ApiError::invalid("volumes-from specification cannot be an empty string"));
    }
    let (container, mode) = written.split_once(':').unwrap_or((written, "rw"));
    let parsed = Mode::parse(mode)?;
    if parsed.propagation.is_some() || parsed.copy.is_some() {
        return Err(invalid_mode(mode));
    }
    Ok(MountSpec {
        destination: String::new(),
        source: MountSource::VolumesFrom { container: container.to_owned() },
        access: parsed.access,
        origin: MountOrigin::VolumesFrom,
        mode: mode.to_owned(),
    })
}

/// Reads `source:destination[:mode]`, or a destination alone.
pub(super) fn bind(written: &str, volume_driver: &str) -> Result<MountSpec, ApiError> {
    let wrong = || ApiError::invalid(format!("invalid volume specification: '{written}'"));
    let parts: Vec<&str> = written.split(':').collect();
    let (source, destination, mode) = match parts.as_slice() {
        ["", ..] => return Err(wrong()),
        [destination] => ("", *destination, ""),
        [source, destination] if Mode::parse(destination).is_err() => (*source, *destination, ""),
        [source, destination, mode] => (*source, *destination, *mode),
        _ => return Err(wrong()),
    };
    let parsed = Mode::parse(mode)?;
    let context = format!("invalid volume specification: '{written}'");
    let kind = if source.starts_with('/') { "bind" } else { "volume" };
    let misfit =
        |error: ApiError| error.in_context(&format!("{context}: invalid mount config for type \"{kind}\""));
    check_destination(destination).map_err(misfit)?;
    if kind == "volume" && parsed.propagation.is_some() {
        return Err(misfit(ApiError::invalid("field BindOptions must not be specified")));
    }
    let (source, mode) = if kind == "bind" {
        let source = MountSource::Bind {
            path: clean(source),
            propagation: parsed.propagation.unwrap_or_default(),
            recursion: BindRecursion::Recursive,
            missing: MissingSource::CreateDirectory,
            relabel: parsed.relabel,
        };
        (source, mode)
    } else {
        let source = MountSource::Volume {
            name: source.to_owned(),
            subpath: String::new(),
            copy: parsed.copy.unwrap_or_default(),
            driver: volume_driver.to_owned(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            propagation: parsed.propagation.unwrap_or_default(),
            relabel: parsed.relabel,
        };
        (source, volume_mode(mode, volume_driver))
    };
    Ok(MountSpec {
        destination: clean(destination),
        source,
        access: parsed.access,
        origin: MountOrigin::Bind,
        mode: mode.to_owned(),
    })
}

/// The third part of a bind: words separated by commas, at most one of each sort.
#[derive(Debug, Default)]
struct Mode {
    access: MountAccess,
    relabel: Option<Relabel>,
    propagation: Option<Propagation>,
    copy: Option<VolumeCopy>,
}

impl Mode {
    fn parse(written: &str) -> Result<Self, ApiError> {
        let mut mode = Self::default();
        if written.is_empty() {
            return Ok(mode);
        }
        let (mut has_access, mut has_consistency) = (false, false);
        for word in written.split(',') {
            let is_repeated = match word {
                "rw" | "ro" => {
                    mode.access = if word == "ro" { MountAccess::ReadOnly } else { MountAccess::ReadWrite };
                    std::mem::replace(&mut has_access, true)
                }
                "z" => mode.relabel.replace(Relabel::Shared).is_some(),
                "Z" => mode.relabel.replace(Relabel::Private).is_some(),
                "nocopy" => mode.copy.replace(VolumeCopy::Nothing).is_some(),
                "consistent" | "cached" | "delegated" | "default" => {
                    std::mem::replace(&mut has_consistency, true)
                }
                other => match propagation(other) {
                    Some(found) => mode.propagation.replace(found).is_some(),
                    None => return Err(invalid_mode(written)),
                },
            };
            if is_repeated {
                return Err(invalid_mode(written));
            }
        }
        Ok(mode)
    }
}

fn invalid_mode(written: &str) -> ApiError {
    ApiError::invalid(format!("invalid mode: {written}"))
}

/// Reads the options of `--tmpfs`: `size=64m,mode=1777,exec`.
pub(super) fn tmpfs(destination: &str, written: &str) -> Result<MountSpec, ApiError> {
    let wrong = |option: &str| ApiError::invalid(format!("invalid tmpfs option {option:?}"));
    let (mut size, mut mode, mut access) = (0, None, MountAccess::ReadWrite);
    let mut options = Vec::new();
    for option in written.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => match parse_size(value) {
                Some(bytes) => size = bytes,
                // A share of the memory, such as `50%`, is the kernel's to work out.
                None if value.ends_with('%') => options.push(option.to_owned()),
                None => return Err(wrong(option)),
            },
            Some(("mode", value)) => {
                mode = Some(u32::from_str_radix(value, 8).map_err(|_| wrong(option))?);
            }
            _ if option == "ro" => access = MountAccess::ReadOnly,
            _ if option == "rw" => access = MountAccess::ReadWrite,
            _ => options.push(option.to_owned()),
        }
    }
    Ok(MountSpec {
        destination: clean(destination),
        source: MountSource::Tmpfs { size, mode, options },
        access,
        origin: MountOrigin::Tmpfs,
        mode: written.to_owned(),
    })
}

/// Reads a size in bytes with an optional unit, as mount(8) takes it.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

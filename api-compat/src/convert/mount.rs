//! Mounts: the notations in which they are asked for, and how they are shown.
//!
//! Start reading at [`specs`]. The grammar of `Binds` and the rules of `Mounts` are Docker's for Linux. Whether a path of
//! the host exists is the engine's question.

use std::collections::{BTreeMap, BTreeSet};

use node_agent::api::containers::ContainerView;
use shoal_types::container::mounts::{
    BindRecursion, MissingSource, MountAccess, MountOrigin, MountSource, MountSpec, Propagation, Relabel,
    VolumeCopy,
};
use shoal_types::container::state as observed;

use crate::error::ApiError;
use crate::model::container_config::ContainerConfig;
use crate::model::host_config::HostOptions;
use crate::model::mount::{BindOptions, Mount, MountPoint, TmpfsOptions, VolumeOptions};

/// Everything that a request wants mounted.
pub(crate) fn specs(config: &ContainerConfig, options: &HostOptions) -> Result<Vec<MountSpec>, ApiError> {
    let mut specs = Vec::new();
    for destination in config.volumes.iter().flatten().map(|(path, _)| path) {
        check_destination(destination)?;
        specs.push(anonymous(destination, MountOrigin::Declared, &options.volume_driver));
    }
    for written in options.volumes_from.iter().flatten() {
        specs.push(volumes_from(written)?);
    }
    for written in options.binds.iter().flatten() {
        specs.push(bind(written, &options.volume_driver)?);
    }
    for mount in options.mounts.iter().flatten() {
        specs.push(mounted(mount)?);
    }
    for (destination, written) in options.tmpfs.iter().flatten() {
        check_destination(destination)?;
        specs.push(tmpfs(destination, written)?);
    }
    check_duplicates(&specs)?;
    Ok(specs)
}

/// Only what the image declares and what comes from other containers may be overridden.
fn check_duplicates(specs: &[MountSpec]) -> Result<(), ApiError> {
    let mut seen = BTreeSet::new();
    let own = |spec: &&MountSpec| {
        matches!(spec.origin, MountOrigin::Bind | MountOrigin::Mount | MountOrigin::Tmpfs)
    };
    for spec in specs.iter().filter(own) {
        if !seen.insert(spec.destination.as_str()) {
            return Err(ApiError::invalid(format!("Duplicate mount point: {}", spec.destination)));
        }
    }
    Ok(())
}

fn anonymous(destination: &str, origin: MountOrigin, driver: &str) -> MountSpec {
    MountSpec {
        destination: clean(destination),
        source: volume("", driver),
        access: MountAccess::ReadWrite,
        origin,
        mode: String::new(),
    }
}

fn volume(name: &str, driver: &str) -> MountSource {
    MountSource::Volume {
        name: name.to_owned(),
        subpath: String::new(),
        copy: VolumeCopy::FromImage,
        driver: driver.to_owned(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        propagation: Propagation::Default,
        relabel: None,
    }
}

/// Reads `container[:mode]`.
fn volumes_from(written: &str) -> Result<MountSpec, ApiError> {
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
fn bind(written: &str, volume_driver: &str) -> Result<MountSpec, ApiError> {
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

/// What inspect shows as the mode of a local volume for which none was written.
fn volume_mode<'a>(written: &'a str, driver: &str) -> &'a str {
    if written.is_empty() && matches!(driver, "" | "local") { "z" } else { written }
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

fn propagation(word: &str) -> Option<Propagation> {
    Some(match word {
        "private" => Propagation::Private,
        "rprivate" => Propagation::Rprivate,
        "shared" => Propagation::Shared,
        "rshared" => Propagation::Rshared,
        "slave" => Propagation::Slave,
        "rslave" => Propagation::Rslave,
        _ => return None,
    })
}

/// The word for how mounts travel; empty when nothing was said.
pub(super) fn propagation_name(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Default => "",
        Propagation::Private => "private",
        Propagation::Rprivate => "rprivate",
        Propagation::Shared => "shared",
        Propagation::Rshared => "rshared",
        Propagation::Slave => "slave",
        Propagation::Rslave => "rslave",
    }
}

/// Reads one of `Mounts`.
pub(super) fn mounted(mount: &Mount) -> Result<MountSpec, ApiError> {
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

fn access(read_only: bool) -> MountAccess {
    if read_only { MountAccess::ReadOnly } else { MountAccess::ReadWrite }
}

/// Reads the options of `--tmpfs`: `size=64m,mode=1777,exec`.
fn tmpfs(destination: &str, written: &str) -> Result<MountSpec, ApiError> {
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

fn missing(field: &str) -> ApiError {
    ApiError::invalid(format!("field {field} must not be empty"))
}

fn extra(field: &str) -> ApiError {
    ApiError::invalid(format!("field {field} must not be specified"))
}

fn not_absolute(path: &str) -> ApiError {
    ApiError::invalid(format!("invalid mount path: '{path}' mount path must be absolute"))
}

fn check_destination(path: &str) -> Result<(), ApiError> {
    if clean(path) == "/" {
        return Err(ApiError::invalid("invalid specification: destination can't be '/'"));
    }
    if path.starts_with('/') { Ok(()) } else { Err(not_absolute(path)) }
}

/// Whether a path stays inside whatever it is joined to. Empty does.
fn is_local(path: &str) -> bool {
    let mut depth = 0_i32;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return false;
        }
    }
    !path.starts_with('/')
}

/// A path without doubled slashes, `.` and `..`, as Go's `path.Clean` makes it.
pub(crate) fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if is_rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (is_rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(host: &Value) -> Result<Vec<MountSpec>, ApiError> {
        let options: HostOptions = crate::json::decode_value(host).unwrap();
        specs(&ContainerConfig::default(), &options)
    }

    #[test]
    fn binds_are_read() {
        let found =
            read(&json!({"Binds": ["/tmp/:/t/x/../y:ro,z", "named:/n", "/anonymous", "v:/w:nocopy"]}))
                .unwrap();
        assert_eq!(found[0].destination, "/t/y");
        assert_eq!(found[0].access, MountAccess::ReadOnly);
        assert_eq!(found[0].mode, "ro,z");
        assert!(
            matches!(&found[0].source, MountSource::Bind { path, relabel: Some(Relabel::Shared), missing: MissingSource::CreateDirectory, .. } if path == "/tmp")
        );
        assert!(matches!(&found[1].source, MountSource::Volume { name, .. } if name == "named"));
        assert_eq!(found[1].mode, "z");
        assert!(matches!(&found[2].source, MountSource::Volume { name, .. } if name.is_empty()));
        assert!(matches!(&found[3].source, MountSource::Volume { copy: VolumeCopy::Nothing, .. }));
    }

    #[test]
    fn wrong_mounts_are_refused_with_dockers_texts() {
        let mount = |mount: Value| json!({"Mounts": [mount]});
        let cases = [
            (json!({"Binds": ["a:b:c:d"]}), "invalid volume specification: 'a:b:c:d'"),
            (json!({"Binds": [":/a"]}), "invalid volume specification: ':/a'"),
            (json!({"Binds": ["/a:ro"]}), "invalid volume specification: '/a:ro'"),
            (json!({"Binds": ["/a:/b:x"]}), "invalid mode: x"),
            (json!({"Binds": ["/a:/b:ro,rw"]}), "invalid mode: ro,rw"),
            (
                json!({"Binds": ["/a:b"]}),
                "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
            ),
            (
                json!({"Binds": ["/a:/"]}),
                "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            (json!({"Binds": ["/a:/x", "/b:/x/"]}), "Duplicate mount point: /x"),
            (json!({"VolumesFrom": [""]}), "volumes-from specification cannot be an empty string"),
            (json!({"VolumesFrom": ["a:nocopy"]}), "invalid mode: nocopy"),
            (
                mount(json!({"Type": "volume"})),
                "invalid mount config for type \"volume\": field Target must not be empty",
            ),
            (
                mount(json!({"Type": "bind", "Target": "/a"})),
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                mount(json!({"Type": "bind", "Target": "/a", "Source": "b"})),
                "invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
            ),
            (
                mount(json!({"Type": "tmpfs", "Target": "/a", "Source": "b"})),
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (
                mount(json!({"Type": "x", "Target": "/a"})),
                "invalid mount config for type \"x\": mount type unknown",
            ),
            (
                mount(json!({"Type": "volume", "Target": "/a", "VolumeOptions": {"Subpath": "x"}})),
                "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes",
            ),
            (
                mount(
                    json!({"Type": "volume", "Target": "/a", "Source": "v", "VolumeOptions": {"Subpath": "../x"}}),
                ),
                "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
            ),
            (
                mount(
                    json!({"Type": "bind", "Target": "/a", "Source": "/b", "BindOptions": {"Propagation": "x"}}),
                ),
                "invalid mount config for type \"bind\": invalid propagation mode: x",
            ),
        ];
        for (host, message) in cases {
            assert_eq!(read(&host).unwrap_err().message(), message, "{host}");
        }
    }

    #[test]
    fn memory_is_read_in_both_notations() {
        let found = read(&json!({
            "Tmpfs": {"/a": "size=64m,mode=700,exec", "/b": "size=50%"},
            "Mounts": [{"Type": "tmpfs", "Target": "/c", "TmpfsOptions": {"SizeBytes": 5, "Mode": 448, "Options": [["exec"], ["uid", "7"]]}}],
        }))
        .unwrap();
        let tmpfs = |size, mode, options: &[&str]| MountSource::Tmpfs {
            size,
            mode,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        assert_eq!(found[0].source, tmpfs(5, Some(0o700), &["exec", "uid=7"]));
        assert_eq!(found[1].source, tmpfs(64 << 20, Some(0o700), &["exec"]));
        assert_eq!(found[2].source, tmpfs(0, None, &["size=50%"]));
    }

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in [
            ("/a//b/./c/", "/a/b/c"),
            ("/../a", "/a"),
            ("/a/../..", "/"),
            ("", "."),
            ("a/../../b", "../b"),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_grammar_panic(text in ".{0,60}") {
            let _ = bind(&text, "");
            let _ = volumes_from(&text);
            let _ = tmpfs("/a", &text);
            let _ = is_local(&text);
        }
    }
}

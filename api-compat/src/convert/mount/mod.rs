//! Mounts: the notations in which they are asked for, and how they are shown.
//!
//! Start reading at [`specs`]. The grammar of `Binds` and the rules of `Mounts` are Docker's for Linux. Whether a path of
//! the host exists is the engine's question.
//!
//! | file | what |
//! |---|---|
//! | `written.rs` | the short notations: `Binds`, `VolumesFrom`, `Tmpfs` |
//! | `object.rs` | one of `Mounts` |
//! | `shown.rs` | what inspect and the list tell |

mod object;
mod shown;
mod written;

use std::collections::{BTreeMap, BTreeSet};

use shoal_types::container::mounts::{
    MountAccess, MountOrigin, MountSource, MountSpec, Propagation, VolumeCopy,
};

pub(super) use self::object::mounted;
pub(crate) use self::shown::shown_of;
use self::written::{bind, tmpfs, volumes_from};
use crate::error::ApiError;
use crate::model::container_config::ContainerConfig;
use crate::model::host_config::HostOptions;

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

/// What inspect shows as the mode of a local volume for which none was written.
fn volume_mode<'a>(written: &'a str, driver: &str) -> &'a str {
    if written.is_empty() && matches!(driver, "" | "local") { "z" } else { written }
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
pub(in crate::convert) fn propagation_name(propagation: Propagation) -> &'static str {
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

fn access(read_only: bool) -> MountAccess {
    if read_only { MountAccess::ReadOnly } else { MountAccess::ReadWrite }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use shoal_types::container::mounts::{MissingSource, Relabel};

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

//! Brings the default profile into the kernel.
//!
//! Start reading at [`prepare`], which the composition root calls once, before any container is started. Compiling a profile is
//! apparmor_parser's work; a machine without that program confines nothing, as with dockerd.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::DEFAULT_PROFILE;
use crate::command::{self, CommandError};

/// The profile, in AppArmor's language.
const PROFILE: &str = include_str!("docker-default.profile");
/// Where the kernel lists the profiles that it has.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";
/// Compiling takes a tenth of a second, or some on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Whether containers are confined by AppArmor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// They are.
    AppArmor,
    /// They are not: the kernel does not have it, or the machine has not the program that compiles profiles.
    Nothing,
}

/// Why the kernel does not take the default profile although it confines by AppArmor.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The profile cannot be written for the parser.
    #[error("write the AppArmor profile {DEFAULT_PROFILE}")]
    Write(#[source] io::Error),
    /// The parser did not come to an end.
    #[error("AppArmor enabled on system but the {DEFAULT_PROFILE} profile could not be loaded")]
    Parser(#[source] CommandError),
    /// The parser or the kernel refused it.
    #[error("AppArmor enabled on system but the {DEFAULT_PROFILE} profile could not be loaded: {0}")]
    Refused(String),
}

/// Loads the default profile unless one of its name is there, whoever has loaded it. `scratch` is a directory of the daemon's.
pub async fn prepare(scratch: &Path) -> Result<Confinement, LoadError> {
    let is_enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !is_enabled.is_ok_and(|text| text.starts_with('Y')) || !Path::new(LOADED).exists() {
        return Ok(Confinement::Nothing);
    }
    if std::fs::read_to_string(LOADED).is_ok_and(|list| has_profile(&list, DEFAULT_PROFILE)) {
        return Ok(Confinement::AppArmor);
    }
    let path = scratch.join(format!("{DEFAULT_PROFILE}.apparmor"));
    std::fs::write(&path, PROFILE).map_err(LoadError::Write)?;
    let outcome = command::run("apparmor_parser", &["-Kr".as_ref(), path.as_os_str()], LIMIT).await;
    // Gone either way; the directory is in memory and the next start writes it again.
    let _ = std::fs::remove_file(&path);
    match outcome {
        Ok(output) if output.status.success() => Ok(Confinement::AppArmor),
        Ok(output) => Err(LoadError::Refused(output.complaint())),
        Err(CommandError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            tracing::info!("apparmor_parser is not installed: containers are not confined by AppArmor");
            Ok(Confinement::Nothing)
        }
        Err(error) => Err(LoadError::Parser(error)),
    }
}

/// Whether a profile stands in the kernel's list, whose lines are `name (mode)`.
fn has_profile(list: &str, name: &str) -> bool {
    list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(listed, _)| listed == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_their_whole_name() {
        let list = "/usr/bin/man (enforce)\ndocker-default (complain)\nmy (odd) name (enforce)\n";
        assert!(has_profile(list, "docker-default"));
        assert!(has_profile(list, "my (odd) name"));
        assert!(!has_profile(list, "docker"));
        assert!(!has_profile("", "docker-default"));
    }

    #[test]
    fn the_profile_has_the_name_that_containers_are_given() {
        assert!(PROFILE.contains(&format!("profile {DEFAULT_PROFILE} ")));
    }
}

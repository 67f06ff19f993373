//! PURE. What an image's configuration adds to a container's spec.
//!
//! Start reading at [`merge`]. The rules are Docker's: the container's word counts, the image fills the gaps, and a
//! command belongs to the entrypoint that it was written for.

use std::time::Duration;

use shoal_types::container::health::{HealthSpec, HealthTest};
use shoal_types::container::mounts::{
    MountAccess, MountOrigin, MountSource, MountSpec, Propagation, VolumeCopy,
};
use shoal_types::container::spec::{ContainerSpec, ProcessSpec};

use super::paths::clean;
use crate::api::images::{ImageHealthcheck, ImageRunConfig};
use crate::error::NodeError;

/// Fills the gaps of a spec from the image.
pub(crate) fn merge(spec: &mut ContainerSpec, image: &ImageRunConfig) {
    merge_process(&mut spec.process, image);
    for (key, value) in image.labels.iter().flatten() {
        spec.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for port in image.exposed() {
        if !spec.networking.exposed.contains(&port) {
            spec.networking.exposed.push(port);
        }
    }
    for path in image.volumes.iter().flatten().map(|(path, _)| path) {
        if !spec
            .mounts
            .iter()
            .any(|mount| mount.origin == MountOrigin::Declared && mount.destination == clean(path))
        {
            spec.mounts.push(declared_volume(path));
        }
    }
    if let Some(check) = &image.healthcheck {
        match &mut spec.health {
            Some(health) => fill_health(health, check),
            none @ None => {
                let mut health = HealthSpec::default();
                fill_health(&mut health, check);
                *none = Some(health);
            }
        }
    }
}

/// The program and its arguments, in one list. None is [`NodeError`] of kind *invalid argument*.
pub(crate) fn command(process: &mut ProcessSpec) -> Result<Vec<String>, NodeError> {
    // `--entrypoint ""` arrives as one empty word: no entrypoint, not even the image's.
    if process.entrypoint.as_deref() == Some(&[String::new()]) {
        process.entrypoint = None;
    }
    let words = process.entrypoint.iter().flatten().chain(process.cmd.iter().flatten());
    let command: Vec<String> = words.cloned().collect();
    if command.is_empty() { Err(NodeError::invalid("no command specified")) } else { Ok(command) }
}

fn merge_process(process: &mut ProcessSpec, image: &ImageRunConfig) {
    if process.user.is_empty() {
        process.user.clone_from(&image.user);
    }
    if process.working_dir.is_empty() {
        process.working_dir.clone_from(&image.working_dir);
    }
    if process.stop_signal.is_none() && !image.stop_signal.is_empty() {
        process.stop_signal = Some(image.stop_signal.clone());
    }
    process.stop_timeout = process.stop_timeout.or(image.stop_timeout);
    if process.shell.as_ref().is_none_or(Vec::is_empty) {
        process.shell.clone_from(&image.shell);
    }
    if process.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if process.cmd.as_ref().is_none_or(Vec::is_empty) {
            process.cmd.clone_from(&image.cmd);
        }
        if process.entrypoint.is_none() {
            process.entrypoint.clone_from(&image.entrypoint);
        }
    }
    for variable in image.env.iter().flatten() {
        if !process.env.iter().any(|present| key_of(present) == key_of(variable)) {
            process.env.push(variable.clone());
        }
    }
}

fn key_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(key, _)| key)
}

fn declared_volume(path: &str) -> MountSpec {
    MountSpec {
        destination: clean(path),
        source: MountSource::Volume {
            name: String::new(),
            subpath: String::new(),
            copy: VolumeCopy::FromImage,
            driver: String::new(),
            options: std::collections::BTreeMap::new(),
            labels: std::collections::BTreeMap::new(),
            propagation: Propagation::Default,
            relabel: None,
        },
        access: MountAccess::ReadWrite,
        origin: MountOrigin::Declared,
        mode: String::new(),
    }
}

fn fill_health(health: &mut HealthSpec, image: &ImageHealthcheck) {
    if health.test.is_none() {
        health.test = test_of(&image.test);
    }
    let fill = |field: &mut Duration, nanoseconds: i64| {
        if field.is_zero() {
            *field = u64::try_from(nanoseconds).map_or(Duration::ZERO, Duration::from_nanos);
        }
    };
    fill(&mut health.interval, image.interval);
    fill(&mut health.timeout, image.timeout);
    fill(&mut health.start_period, image.start_period);
    fill(&mut health.start_interval, image.start_interval);
    if health.retries == 0 {
        health.retries = u32::try_from(image.retries).unwrap_or(0);
    }
}

/// Reads the list form of an image's check; what cannot be understood is no check.
fn test_of(words: &[String]) -> Option<HealthTest> {
    let (kind, args) = words.split_first()?;
    match kind.as_str() {
        "NONE" => Some(HealthTest::Disabled),
        "CMD" if !args.is_empty() => Some(HealthTest::Command(args.to_vec())),
        "CMD-SHELL" if !args.is_empty() => Some(HealthTest::Shell(args.join(" "))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn image() -> ImageRunConfig {
        ImageRunConfig {
            user: "app".to_owned(),
            env: Some(words(&["PATH=/bin", "A=image"])),
            entrypoint: Some(words(&["/entry"])),
            cmd: Some(words(&["serve"])),
            working_dir: "/srv".to_owned(),
            stop_signal: "SIGQUIT".to_owned(),
            stop_timeout: Some(3),
            labels: Some(BTreeMap::from([("a".into(), "image".into()), ("b".into(), "image".into())])),
            exposed_ports: Some(BTreeMap::from([("80/tcp".into(), Default::default())])),
            volumes: Some(BTreeMap::from([("/data/".into(), Default::default())])),
            shell: Some(words(&["/bin/ash", "-c"])),
            healthcheck: Some(ImageHealthcheck {
                test: words(&["CMD", "check", "it"]),
                interval: 5_000_000_000,
                retries: 7,
                ..ImageHealthcheck::default()
            }),
            ..ImageRunConfig::default()
        }
    }

    fn merged(change: impl FnOnce(&mut ContainerSpec)) -> ContainerSpec {
        let mut spec = ContainerSpec::default();
        change(&mut spec);
        merge(&mut spec, &image());
        spec
    }

    /// Entrypoint and command as sent, and what runs with an image that has both.
    #[test]
    fn a_command_belongs_to_the_entrypoint_it_was_written_for() {
        type Given<'a> = Option<&'a [&'a str]>;
        let cases: [(Given<'_>, Given<'_>, Option<&[&str]>); 8] = [
            (None, None, Some(&["/entry", "serve"])),
            (None, Some(&["x"]), Some(&["/entry", "x"])),
            (Some(&["/mine"]), None, Some(&["/mine"])),
            (Some(&["/mine"]), Some(&["x"]), Some(&["/mine", "x"])),
            (Some(&[""]), Some(&["x"]), Some(&["x"])),
            (Some(&[""]), None, None),
            (Some(&[]), None, Some(&["serve"])),
            (Some(&[]), Some(&["x"]), Some(&["x"])),
        ];
        for (entrypoint, cmd, expected) in cases {
            let mut spec = merged(|spec| {
                spec.process.entrypoint = entrypoint.map(words);
                spec.process.cmd = cmd.map(words);
            });
            let command = command(&mut spec.process);
            match expected {
                Some(expected) => assert_eq!(command.unwrap(), words(expected), "{entrypoint:?} {cmd:?}"),
                None => assert_eq!(command.unwrap_err().to_string(), "no command specified"),
            }
        }
    }

    #[test]
    fn gaps_are_filled_and_what_was_said_stays() {
        let filled = merged(|_| {});
        assert_eq!(filled.process.user, "app");
        assert_eq!(filled.process.working_dir, "/srv");
        assert_eq!(filled.process.stop_signal.as_deref(), Some("SIGQUIT"));
        assert_eq!(filled.process.stop_timeout, Some(3));
        assert_eq!(filled.process.shell, Some(words(&["/bin/ash", "-c"])));
        assert_eq!(filled.networking.exposed, ["80/tcp".parse().unwrap()]);
        assert_eq!(filled.mounts, [declared_volume("/data")]);
        let kept = merged(|spec| {
            spec.process.user = "me".to_owned();
            spec.process.working_dir = "/w".to_owned();
            spec.process.stop_signal = Some("TERM".to_owned());
            spec.process.stop_timeout = Some(-1);
            spec.labels.insert("a".to_owned(), "mine".to_owned());
            spec.mounts.push(declared_volume("/data"));
        });
        assert_eq!((kept.process.user.as_str(), kept.process.working_dir.as_str()), ("me", "/w"));
        assert_eq!(kept.process.stop_signal.as_deref(), Some("TERM"));
        assert_eq!(kept.process.stop_timeout, Some(-1));
        assert_eq!((kept.labels["a"].as_str(), kept.labels["b"].as_str()), ("mine", "image"));
        assert_eq!(kept.mounts.len(), 1);
    }

    #[test]
    fn the_environment_is_the_users_then_what_the_image_has_besides() {
        let spec = merged(|spec| spec.process.env = words(&["A=user", "PATH", "Z=1"]));
        assert_eq!(spec.process.env, words(&["A=user", "PATH", "Z=1"]));
        let spec = merged(|spec| spec.process.env = words(&["Z=1"]));
        assert_eq!(spec.process.env, words(&["Z=1", "PATH=/bin", "A=image"]));
    }

    #[test]
    fn a_health_check_is_merged_field_by_field() {
        let whole = merged(|_| {}).health.unwrap();
        assert_eq!(whole.test, Some(HealthTest::Command(words(&["check", "it"]))));
        assert_eq!((whole.interval, whole.retries), (Duration::from_secs(5), 7));
        let own = HealthSpec { test: Some(HealthTest::Disabled), retries: 2, ..HealthSpec::default() };
        let partly = merged(|spec| spec.health = Some(own)).health.unwrap();
        assert_eq!(partly.test, Some(HealthTest::Disabled));
        assert_eq!((partly.interval, partly.retries), (Duration::from_secs(5), 2));
    }
}

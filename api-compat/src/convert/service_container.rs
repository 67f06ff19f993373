//! The container of a service's tasks, both ways.
//!
//! Start reading at [`spec`] and [`shown`]. What only the shape of a request can tell is refused here; whether it makes sense
//! is the managers' question. What is shown and sent back is the same again, field by field.

use std::time::Duration;

use shoal_types::cluster::secret::{
    ConfigReference as WantedConfig, FileTarget as Target, SecretReference as WantedSecret,
};
use shoal_types::cluster::service::{
    SelinuxContext as Context, ServiceContainer, ServicePrivileges as Allowed,
};
use shoal_types::container::health::HealthSpec;
use shoal_types::container::resources::Ulimit as Limit;

use super::cluster::{duration, nanoseconds, rejected};
use super::container_config::{health_test, shown_health};
use super::service_mount;
use crate::error::ApiError;
use crate::model::Empty;
use crate::model::bytes::Base64;
use crate::model::container_config::HealthConfig;
use crate::model::host_config::Ulimit;
use crate::model::service_container::{
    AppArmorOptions, ConfigReference, ContainerSpec, CredentialSpec, DnsConfig, FileTarget, Privileges,
    SeccompOptions, SecretReference, SelinuxContext,
};
#[cfg(test)]
pub(in crate::convert) use tests::full;

/// The isolation that is shown when none was asked for.
const DEFAULT_ISOLATION: &str = "default";

/// The container that a request describes.
pub(super) fn spec(asked: ContainerSpec) -> Result<ServiceContainer, ApiError> {
    let dns = asked.dns_config.unwrap_or_default();
    let name_server = |written: &String| {
        written.parse().map_err(|_| ApiError::invalid(format!("invalid name server address: {written:?}")))
    };
    let stop_grace = asked
        .stop_grace_period
        .map(|span| duration(span, "ContainerSpec: StopGracePeriod cannot be negative"));
    Ok(ServiceContainer {
        image: asked.image,
        labels: asked.labels,
        command: asked.command,
        args: asked.args,
        hostname: asked.hostname,
        env: asked.env,
        working_dir: asked.dir,
        user: asked.user,
        groups: asked.groups,
        tty: asked.tty,
        open_stdin: asked.open_stdin,
        read_only: asked.read_only,
        mounts: asked.mounts.into_iter().map(service_mount::spec).collect::<Result<_, _>>()?,
        stop_signal: asked.stop_signal,
        stop_grace: stop_grace.transpose()?,
        health: asked.healthcheck.as_ref().map(health).transpose()?,
        hosts: asked.hosts,
        dns_servers: dns.nameservers.iter().map(name_server).collect::<Result<_, _>>()?,
        dns_search: dns.search,
        dns_options: dns.options,
        secrets: asked.secrets.into_iter().map(secret).collect::<Result<_, _>>()?,
        configs: asked.configs.into_iter().map(config).collect::<Result<_, _>>()?,
        init: asked.init,
        sysctls: asked.sysctls,
        cap_add: asked.capability_add,
        cap_drop: asked.capability_drop,
        ulimits: asked
            .ulimits
            .into_iter()
            .map(|u| Limit { name: u.name, soft: u.soft, hard: u.hard })
            .collect(),
        oom_score_adj: oom_score_adj(asked.oom_score_adj)?,
        privileges: asked.privileges.map(privileges).transpose()?,
        isolation: if asked.isolation == DEFAULT_ISOLATION { String::new() } else { asked.isolation },
    })
}

fn oom_score_adj(asked: i64) -> Result<i32, ApiError> {
    i32::try_from(asked).ok().filter(|score| (-1000..=1000).contains(score)).ok_or_else(|| {
        ApiError::invalid(format!("Invalid value {asked}, range for oom score adj is [-1000, 1000]"))
    })
}

fn health(asked: &HealthConfig) -> Result<HealthSpec, ApiError> {
    let span = |name: &str, nanoseconds: i64| {
        let fault = format!("ContainerSpec: {name} in HealthConfig cannot be less than 1ms");
        duration(nanoseconds, &fault)
    };
    Ok(HealthSpec {
        test: health_test(asked.test.as_deref().unwrap_or_default())?,
        interval: span("Interval", asked.interval)?,
        timeout: span("Timeout", asked.timeout)?,
        start_period: span("StartPeriod", asked.start_period)?,
        start_interval: span("StartInterval", asked.start_interval)?,
        retries: u32::try_from(asked.retries)
            .map_err(|_| rejected("ContainerSpec: Retries in HealthConfig cannot be negative"))?,
    })
}

fn target(file: FileTarget) -> Target {
    Target { path: file.name, uid: file.uid, gid: file.gid, mode: file.mode }
}

fn shown_target(target: &Target) -> FileTarget {
    FileTarget {
        name: target.path.clone(),
        uid: target.uid.clone(),
        gid: target.gid.clone(),
        mode: target.mode,
    }
}

fn secret(asked: SecretReference) -> Result<WantedSecret, ApiError> {
    is_complete("secret", &asked.secret_id, &asked.secret_name)?;
    let Some(file) = asked.file else {
        return Err(rejected("malformed secret reference, no target provided"));
    };
    let id = object_id("secret", &asked.secret_id, &asked.secret_name)?;
    Ok(WantedSecret { id, name: asked.secret_name, target: target(file) })
}

/// Refuses a reference that does not say both which object and what it is called.
fn is_complete(kind: &str, id: &str, name: &str) -> Result<(), ApiError> {
    match id.is_empty() || name.is_empty() {
        true => Err(rejected(&format!("malformed {kind} reference"))),
        false => Ok(()),
    }
}

/// The id of an object that a reference names. One that is none belongs to no object.
fn object_id<T: std::str::FromStr>(kind: &str, id: &str, name: &str) -> Result<T, ApiError> {
    id.parse().map_err(|_| rejected(&format!("{kind} not found: {name}")))
}

fn config(asked: ConfigReference) -> Result<WantedConfig, ApiError> {
    let target = match (asked.file, asked.runtime) {
        (Some(_), Some(_)) => return Err(ApiError::invalid("cannot specify both File and Runtime")),
        (None, None) => return Err(ApiError::invalid("either File or Runtime should be set")),
        (Some(file), None) => Some(target(file)),
        (None, Some(_)) => None,
    };
    is_complete("config", &asked.config_id, &asked.config_name)?;
    let id = object_id("config", &asked.config_id, &asked.config_name)?;
    Ok(WantedConfig { id, name: asked.config_name, target })
}

fn privileges(asked: Privileges) -> Result<Allowed, ApiError> {
    let credential_spec = asked.credential_spec.map(|spec| {
        let given = [("Config", spec.config), ("File", spec.file), ("Registry", spec.registry)];
        let mut given = given.into_iter().filter(|(_, name)| !name.is_empty());
        let fault = match (given.next(), given.next(), given.next()) {
            (Some((kind, name)), None, _) => return Ok((kind.to_owned(), name)),
            (None, ..) => {
                "must either provide \"file\", \"registry\", or \"config\" for credential spec".to_owned()
            }
            (Some((one, _)), Some((other, _)), None) => format!(
                "cannot specify both {:?} and {:?} credential specs",
                one.to_lowercase(),
                other.to_lowercase()
            ),
            _ => "cannot specify both \"config\", \"file\", and \"registry\" credential specs".to_owned(),
        };
        Err(ApiError::invalid(fault))
    });
    Ok(Allowed {
        credential_spec: credential_spec.transpose()?,
        selinux: asked.selinux_context.map(|context| Context {
            disable: context.disable,
            user: context.user,
            role: context.role,
            kind: context.r#type,
            level: context.level,
        }),
        seccomp: asked.seccomp.map(seccomp).transpose()?,
        apparmor: asked.apparmor.map(apparmor).transpose()?,
        no_new_privileges: asked.no_new_privileges,
    })
}

fn seccomp(asked: SeccompOptions) -> Result<(String, Vec<u8>), ApiError> {
    match asked.mode.as_str() {
        "custom" if asked.profile.is_empty() => {
            Err(ApiError::invalid("seccomp mode is custom, but no custom profile was provided"))
        }
        "custom" => Ok((asked.mode, asked.profile.0)),
        "" | "default" | "unconfined" if !asked.profile.is_empty() => {
            Err(ApiError::invalid("a seccomp profile was provided, but the seccomp mode is not custom"))
        }
        "" => Ok(("default".to_owned(), Vec::new())),
        "default" | "unconfined" => Ok((asked.mode, Vec::new())),
        other => Err(ApiError::invalid(format!("unknown seccomp mode {other:?}"))),
    }
}

fn apparmor(asked: AppArmorOptions) -> Result<String, ApiError> {
    match asked.mode.as_str() {
        "" => Ok("default".to_owned()),
        "default" | "disabled" => Ok(asked.mode),
        other => Err(ApiError::invalid(format!("unknown AppArmor mode {other:?}"))),
    }
}

/// A container as Docker shows it; `default_grace` is shown where nothing was said, if it is to be.
pub(super) fn shown(container: &ServiceContainer, default_grace: Option<Duration>) -> ContainerSpec {
    let isolation = if container.isolation.is_empty() { DEFAULT_ISOLATION } else { &container.isolation };
    let ulimit = |limit: &Limit| Ulimit { name: limit.name.clone(), hard: limit.hard, soft: limit.soft };
    ContainerSpec {
        image: container.image.clone(),
        labels: container.labels.clone(),
        command: container.command.clone(),
        args: container.args.clone(),
        hostname: container.hostname.clone(),
        env: container.env.clone(),
        dir: container.working_dir.clone(),
        user: container.user.clone(),
        groups: container.groups.clone(),
        privileges: container.privileges.as_ref().map(shown_privileges),
        init: container.init,
        stop_signal: container.stop_signal.clone(),
        tty: container.tty,
        open_stdin: container.open_stdin,
        read_only: container.read_only,
        mounts: container.mounts.iter().map(service_mount::shown).collect(),
        stop_grace_period: container.stop_grace.or(default_grace).map(nanoseconds),
        healthcheck: container.health.as_ref().map(shown_health),
        hosts: container.hosts.clone(),
        dns_config: Some(DnsConfig {
            nameservers: container.dns_servers.iter().map(ToString::to_string).collect(),
            search: container.dns_search.clone(),
            options: container.dns_options.clone(),
        }),
        secrets: container.secrets.iter().map(shown_secret).collect(),
        configs: container.configs.iter().map(shown_config).collect(),
        isolation: isolation.to_owned(),
        sysctls: container.sysctls.clone(),
        capability_add: container.cap_add.clone(),
        capability_drop: container.cap_drop.clone(),
        ulimits: container.ulimits.iter().map(ulimit).collect(),
        oom_score_adj: i64::from(container.oom_score_adj),
    }
}

fn shown_secret(secret: &WantedSecret) -> SecretReference {
    SecretReference {
        file: Some(shown_target(&secret.target)),
        secret_id: secret.id.to_string(),
        secret_name: secret.name.clone(),
    }
}

fn shown_config(config: &WantedConfig) -> ConfigReference {
    ConfigReference {
        file: config.target.as_ref().map(shown_target),
        runtime: config.target.is_none().then(Empty::default),
        config_id: config.id.to_string(),
        config_name: config.name.clone(),
    }
}

fn shown_privileges(allowed: &Allowed) -> Privileges {
    let credential_spec = allowed.credential_spec.as_ref().map(|(kind, name)| {
        let of = |wanted: &str| if kind == wanted { name.clone() } else { String::new() };
        CredentialSpec { config: of("Config"), file: of("File"), registry: of("Registry") }
    });
    Privileges {
        credential_spec,
        selinux_context: allowed.selinux.as_ref().map(|context| SelinuxContext {
            disable: context.disable,
            user: context.user.clone(),
            role: context.role.clone(),
            r#type: context.kind.clone(),
            level: context.level.clone(),
        }),
        seccomp: allowed
            .seccomp
            .as_ref()
            .map(|(mode, profile)| SeccompOptions { mode: mode.clone(), profile: Base64(profile.clone()) }),
        apparmor: allowed.apparmor.as_ref().map(|mode| AppArmorOptions { mode: mode.clone() }),
        no_new_privileges: allowed.no_new_privileges,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Result<ServiceContainer, ApiError> {
        spec(crate::json::decode_value(value).unwrap())
    }

    /// A container with a value in every field.
    pub(in crate::convert) fn full() -> Value {
        let file = json!({"Name": "f", "UID": "1", "GID": "2", "Mode": 292});
        json!({
            "Image": "nginx:latest@sha256:aa", "Labels": {"a": "b"}, "Command": ["c"], "Args": ["d"],
            "Hostname": "{{.Node.Hostname}}", "Env": ["E=f"], "Dir": "/g", "User": "h", "Groups": ["i"],
            "Privileges": {
                "CredentialSpec": {"Config": "", "File": "spec.json", "Registry": ""},
                "SELinuxContext": {"Disable": true, "User": "u", "Role": "r", "Type": "t", "Level": "l"},
                "Seccomp": {"Mode": "custom", "Profile": "e30="},
                "AppArmor": {"Mode": "disabled"},
                "NoNewPrivileges": true,
            },
            "Init": false, "StopSignal": "SIGINT", "TTY": true, "OpenStdin": true, "ReadOnly": true,
            "Mounts": [{"Type": "tmpfs", "Target": "/t"}],
            "StopGracePeriod": 3_000_000_000_i64,
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 2,
                            "Timeout": 3_000_000_000_i64, "StartPeriod": 4_000_000_000_i64, "StartInterval": 5_000_000_000_i64},
            "Hosts": ["192.0.2.1 a b"],
            "DNSConfig": {"Nameservers": ["192.0.2.53"], "Search": ["s"], "Options": ["ndots:1"]},
            "Secrets": [{"File": file, "SecretID": "0000000000000000000000001", "SecretName": "s"}],
            "Configs": [{"File": file, "ConfigID": "0000000000000000000000002", "ConfigName": "c"},
                        {"Runtime": {}, "ConfigID": "0000000000000000000000003", "ConfigName": "d"}],
            "Isolation": "default", "Sysctls": {"net.ipv4.ip_forward": "1"},
            "CapabilityAdd": ["CAP_NET_ADMIN"], "CapabilityDrop": ["ALL"],
            "Ulimits": [{"Name": "nofile", "Hard": 20, "Soft": 10}], "OomScoreAdj": -5,
        })
    }

    #[test]
    fn a_container_with_every_field_goes_both_ways() {
        let container = read(&full()).unwrap();
        assert_eq!(serde_json::to_value(shown(&container, None)).unwrap(), full());
    }

    #[test]
    fn a_bare_container_shows_what_swarm_shows() {
        let container = read(&json!({"Image": "nginx"})).unwrap();
        let grace = Some(Duration::from_secs(10));
        assert_eq!(
            serde_json::to_value(shown(&container, grace)).unwrap(),
            json!({"Image": "nginx", "StopGracePeriod": 10_000_000_000_i64, "DNSConfig": {}, "Isolation": "default"})
        );
    }

    #[test]
    fn wrong_containers_are_refused() {
        let rpc = |text: &str| format!("rpc error: code = InvalidArgument desc = {text}");
        let secret = json!({"Secrets": [{"SecretID": "x", "SecretName": "s", "File": {}}]});
        for (asked, message) in [
            (secret, rpc("secret not found: s")),
            (json!({"Secrets": [{"SecretName": "s", "File": {}}]}), rpc("malformed secret reference")),
            (
                json!({"Secrets": [{"SecretID": "x", "SecretName": "s"}]}),
                rpc("malformed secret reference, no target provided"),
            ),
            (
                json!({"Configs": [{"ConfigID": "x", "ConfigName": "c"}]}),
                "either File or Runtime should be set".to_owned(),
            ),
            (
                json!({"Configs": [{"ConfigID": "x", "ConfigName": "c", "File": {}, "Runtime": {}}]}),
                "cannot specify both File and Runtime".to_owned(),
            ),
            (
                json!({"Healthcheck": {"Interval": -1}}),
                rpc("ContainerSpec: Interval in HealthConfig cannot be less than 1ms"),
            ),
            (
                json!({"OomScoreAdj": 1001}),
                "Invalid value 1001, range for oom score adj is [-1000, 1000]".to_owned(),
            ),
            (
                json!({"Privileges": {"Seccomp": {"Mode": "custom"}}}),
                "seccomp mode is custom, but no custom profile was provided".to_owned(),
            ),
            (json!({"Privileges": {"AppArmor": {"Mode": "x"}}}), "unknown AppArmor mode \"x\"".to_owned()),
            (json!({"DNSConfig": {"Nameservers": ["x"]}}), "invalid name server address: \"x\"".to_owned()),
        ] {
            assert_eq!(read(&asked).unwrap_err().message(), message, "{asked}");
        }
    }
}

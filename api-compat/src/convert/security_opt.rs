//! Privileges and confinement: capabilities and the little language of `SecurityOpt`.
//!
//! Start reading at [`spec`]. Whether the kernel knows a capability or has AppArmor is the engine's question.

use shoal_types::container::security::{SeccompChoice, SecuritySpec};

use crate::error::ApiError;
use crate::model::host_config::HostOptions;

/// The capabilities of Linux, without `CAP_` (capabilities(7)).
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// The privileges and confinement that a request describes.
pub(crate) fn spec(options: &HostOptions) -> Result<SecuritySpec, ApiError> {
    let mut spec = SecuritySpec {
        privileged: options.privileged,
        cap_add: capabilities("CapAdd", options.cap_add.as_deref().unwrap_or_default())?,
        cap_drop: capabilities("CapDrop", options.cap_drop.as_deref().unwrap_or_default())?,
        readonly_rootfs: options.readonly_rootfs,
        masked_paths: options.masked_paths.clone(),
        readonly_paths: options.readonly_paths.clone(),
        ..SecuritySpec::default()
    };
    for option in options.security_opt.iter().flatten() {
        apply(&mut spec, option)?;
    }
    Ok(spec)
}

fn capabilities(field: &str, asked: &[String]) -> Result<Vec<String>, ApiError> {
    let check = |written: &String| {
        let upper = written.trim().to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" || CAPABILITIES.contains(&bare) {
            Ok(bare.to_owned())
        } else {
            Err(ApiError::invalid(format!("invalid {field}: unknown capability: \"CAP_{bare}\"")))
        }
    };
    asked.iter().map(check).collect()
}

/// Applies one option: a word, or a name and a value after `=`, or after `:` as older clients write it.
fn apply(spec: &mut SecuritySpec, option: &str) -> Result<(), ApiError> {
    let wrong = |way: u8| Err(ApiError::invalid(format!("invalid --security-opt {way}: {option:?}")));
    match option {
        "no-new-privileges" => {
            spec.no_new_privileges = Some(true);
            return Ok(());
        }
        "writable-cgroups" => {
            spec.writable_cgroups = Some(true);
            return Ok(());
        }
        "disable" => {
            spec.selinux_labels.push("disable".to_owned());
            return Ok(());
        }
        _ => {}
    }
    let Some((name, value)) = option.split_once('=').or_else(|| option.split_once(':')) else {
        return wrong(1);
    };
    match name {
        "label" => spec.selinux_labels.push(value.to_owned()),
        "apparmor" => spec.apparmor = Some(value.to_owned()),
        "seccomp" => {
            spec.seccomp = match value {
                "unconfined" => SeccompChoice::Unconfined,
                "builtin" => SeccompChoice::Builtin,
                profile => SeccompChoice::Custom(profile.to_owned()),
            }
        }
        "no-new-privileges" => spec.no_new_privileges = Some(truth(name, value)?),
        "writable-cgroups" => spec.writable_cgroups = Some(truth(name, value)?),
        _ => return wrong(2),
    }
    Ok(())
}

/// Reads a truth value as Go's `strconv.ParseBool` does.
fn truth(name: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ApiError::invalid(format!("invalid --security-opt 2: \"{name}={value}\""))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(security_opt: &[&str]) -> HostOptions {
        let list = security_opt.iter().map(|option| (*option).to_owned()).collect();
        HostOptions { security_opt: Some(list), ..HostOptions::default() }
    }

    #[test]
    fn security_options_are_read_in_both_notations() {
        let found = spec(&options(&[
            "no-new-privileges",
            "label:user:u",
            "label=disable",
            "apparmor=unconfined",
            "seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}",
            "writable-cgroups",
        ]))
        .unwrap();
        assert_eq!(found.no_new_privileges, Some(true));
        assert_eq!(found.selinux_labels, ["user:u", "disable"]);
        assert_eq!(found.apparmor.as_deref(), Some("unconfined"));
        assert_eq!(found.seccomp, SeccompChoice::Custom("{\"defaultAction\":\"SCMP_ACT_ALLOW\"}".into()));
        assert_eq!(found.writable_cgroups, Some(true));
        assert_eq!(spec(&options(&["no-new-privileges:false"])).unwrap().no_new_privileges, Some(false));
        assert_eq!(spec(&options(&["seccomp=unconfined"])).unwrap().seccomp, SeccompChoice::Unconfined);
    }

    #[test]
    fn wrong_security_options_are_refused_with_dockers_texts() {
        for (option, message) in [
            ("x", "invalid --security-opt 1: \"x\""),
            ("x=y", "invalid --security-opt 2: \"x=y\""),
            ("no-new-privileges=maybe", "invalid --security-opt 2: \"no-new-privileges=maybe\""),
        ] {
            assert_eq!(spec(&options(&[option])).unwrap_err().message(), message);
        }
    }

    #[test]
    fn capabilities_are_known_in_any_notation() {
        let asked = |names: &[&str]| HostOptions {
            cap_add: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            ..HostOptions::default()
        };
        let found = spec(&asked(&["net_admin", "CAP_SYS_TIME", "All"])).unwrap();
        assert_eq!(found.cap_add, ["NET_ADMIN", "SYS_TIME", "ALL"]);
        assert_eq!(
            spec(&asked(&["foo"])).unwrap_err().message(),
            "invalid CapAdd: unknown capability: \"CAP_FOO\""
        );
    }
}

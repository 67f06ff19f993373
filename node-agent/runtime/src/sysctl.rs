//! Kernel parameters of a container's namespaces.
//!
//! Start reading at [`resolve`] (pure): only parameters that belong to a namespace of the container are let through,
//! because all others would change the host. Texts are runc's.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::error::{Result, RuntimeError};
use crate::namespaces::NamespacePlan;

/// A file below `/proc/sys` and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// Below `/proc`, for example `sys/net/ipv4/ip_forward`.
    pub(crate) path: PathBuf,
    pub(crate) value: String,
}

/// The parameters of an IPC namespace.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Checks the parameters of a spec.
pub(crate) fn resolve(linux: Option<&Linux>, namespaces: &NamespacePlan) -> Result<Vec<Sysctl>> {
    let mut sysctls = Vec::new();
    for (name, value) in linux.and_then(|linux| linux.sysctl().as_ref()).into_iter().flatten() {
        let path = path_of(name);
        check(name, &path, namespaces)?;
        sysctls.push(Sysctl { path: PathBuf::from("sys").join(path), value: value.clone() });
    }
    sysctls.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(sysctls)
}

/// Turns a name into a path: whichever of `.` and `/` comes first separates, the other is part of a name.
fn path_of(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes().get(at) == Some(&b'.') => name
            .chars()
            .map(|letter| {
                if letter == '.' {
                    '/'
                } else if letter == '/' {
                    '.'
                } else {
                    letter
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn check(name: &str, path: &str, namespaces: &NamespacePlan) -> Result<()> {
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(RuntimeError::InvalidSpec(format!("sysctl {name:?} is not a parameter's name")));
    }
    let owner = if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        LinuxNamespaceType::Ipc
    } else if path.starts_with("net/") {
        LinuxNamespaceType::Network
    } else if path == "kernel/domainname" {
        LinuxNamespaceType::Uts
    } else if path == "kernel/hostname" {
        return Err(RuntimeError::InvalidSpec(format!(
            "sysctl {name:?} is not allowed as it conflicts with the OCI \"hostname\" field"
        )));
    } else if path.starts_with("user/") {
        LinuxNamespaceType::User
    } else {
        return Err(RuntimeError::InvalidSpec(format!(
            "sysctl {name:?} is not in a separate kernel namespace"
        )));
    };
    if namespaces.separates(owner) {
        Ok(())
    } else {
        Err(RuntimeError::InvalidSpec(format!(
            "sysctl {name:?} is not allowed in the hosts {owner} namespace"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(sysctl: &str, namespaces: &str) -> (Linux, NamespacePlan) {
        let text =
            format!(r#"{{"sysctl":{{"{sysctl}":"1"}},"namespaces":[{{"type":"mount"}},{namespaces}]}}"#);
        let linux: Linux = serde_json::from_str(&text).unwrap();
        let plan = NamespacePlan::resolve(Some(&linux)).unwrap();
        (linux, plan)
    }

    #[test]
    fn only_parameters_of_the_containers_own_namespaces_pass() {
        let cases = [
            ("net.ipv4.ip_forward", r#"{"type":"network"}"#, Some("sys/net/ipv4/ip_forward")),
            (
                "net/ipv4/conf/eth0.5/forwarding",
                r#"{"type":"network"}"#,
                Some("sys/net/ipv4/conf/eth0.5/forwarding"),
            ),
            (
                "net.ipv4.conf.eth0/5.forwarding",
                r#"{"type":"network"}"#,
                Some("sys/net/ipv4/conf/eth0.5/forwarding"),
            ),
            ("net.ipv4.ip_forward", r#"{"type":"ipc"}"#, None),
            ("kernel.shmmax", r#"{"type":"ipc"}"#, Some("sys/kernel/shmmax")),
            ("kernel.hostname", r#"{"type":"uts"}"#, None),
            ("kernel.core_pattern", r#"{"type":"uts"}"#, None),
            ("net/../kernel/core_pattern", r#"{"type":"network"}"#, None),
        ];
        for (name, namespaces, expected) in cases {
            let (linux, plan) = linux(name, namespaces);
            let resolved = resolve(Some(&linux), &plan).ok();
            let path =
                resolved.as_ref().and_then(|list| list.first()).map(|sysctl| sysctl.path.to_str().unwrap());
            assert_eq!(path, expected, "{name}");
        }
    }
}

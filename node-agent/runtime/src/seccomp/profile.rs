//! Docker's profile format: rules that depend on capabilities, architecture and kernel, resolved for one container.
//!
//! Start reading at [`Profile`]. The default profile is `default.json` beside this file, written as data with the allow
//! list of Docker's own. The result of [`Profile::resolve`] is the plain form of the runtime spec, which any OCI runtime
//! takes.

use std::collections::HashSet;

use oci_spec::runtime::{
    Arch as SpecArch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSyscall,
};
use serde::{Deserialize, Deserializer};

use super::arch::Arch;
use crate::error::{Context, Result, RuntimeError};

/// A seccomp profile as `--security-opt seccomp=FILE` and daemon.json take it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_default")]
    arch_map: Vec<ArchEntry>,
    #[serde(default, deserialize_with = "null_is_default")]
    architectures: Vec<SpecArch>,
    #[serde(default, deserialize_with = "null_is_default")]
    flags: Vec<LinuxSeccompFilterFlag>,
    #[serde(default)]
    listener_path: Option<std::path::PathBuf>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchEntry {
    // Kept as text: profiles name architectures that this runtime never meets.
    architecture: String,
    #[serde(default, deserialize_with = "null_is_default")]
    sub_architectures: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    names: Vec<String>,
    action: LinuxSeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_default")]
    args: Vec<LinuxSeccompArg>,
    #[serde(default, deserialize_with = "null_is_default")]
    includes: Condition,
    #[serde(default, deserialize_with = "null_is_default")]
    excludes: Condition,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default, deserialize_with = "null_is_default")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<KernelVersion>,
}

/// A kernel's version and major revision, as in `6.1`; what follows is of no interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first number.
    pub version: u32,
    /// The second number.
    pub revision: u32,
}

impl KernelVersion {
    /// Asks the running kernel.
    pub fn running() -> Result<Self> {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy();
        Self::parse(&release)
            .ok_or_else(|| RuntimeError::Unsupported(format!("a kernel with the version {release:?}")))
    }

    /// Reads `major.minor` from the start of a text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|letter: char| !letter.is_ascii_digit());
        Some(Self { version: numbers.next()?.parse().ok()?, revision: numbers.next()?.parse().ok()? })
    }
}

impl<'de> Deserialize<'de> for KernelVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("invalid kernel version {text:?}")))
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The default profile as a file, for `docker info` and for engines that pass it on.
pub const DEFAULT_PROFILE: &str = include_str!("default.json");

impl Profile {
    /// Reads a profile; the text is untrusted (it comes with a client's request).
    pub fn parse(text: &[u8]) -> Result<Self> {
        let profile: Self = serde_json::from_slice(text).map_err(|error| {
            RuntimeError::InvalidSpec(format!("decoding seccomp profile failed: {error}"))
        })?;
        if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
            return Err(RuntimeError::InvalidSpec(
                "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
                    .to_owned(),
            ));
        }
        if profile.syscalls.iter().any(|rule| !rule.name.is_empty() && !rule.names.is_empty()) {
            return Err(RuntimeError::InvalidSpec(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
                    .to_owned(),
            ));
        }
        Ok(profile)
    }

    /// Reads the default profile.
    pub fn default_profile() -> Result<Self> {
        Self::parse(DEFAULT_PROFILE.as_bytes())
    }

    /// Keeps the rules that hold for a container with these capabilities (its bounding set) on this kernel.
    pub fn resolve(&self, capabilities: &HashSet<Capability>, kernel: KernelVersion) -> Result<LinuxSeccomp> {
        let held: HashSet<String> =
            capabilities.iter().map(|capability| format!("CAP_{capability}")).collect();
        let mut syscalls = Vec::new();
        for rule in self.syscalls.iter().filter(|rule| rule.holds(&held, kernel)) {
            let mut names = rule.names.clone();
            if !rule.name.is_empty() {
                names.push(rule.name.clone());
            }
            let mut syscall = LinuxSyscall::default();
            syscall.set_names(names).set_action(rule.action).set_errno_ret(rule.errno_ret);
            syscall.set_args((!rule.args.is_empty()).then(|| rule.args.clone()));
            syscalls.push(syscall);
        }
        let mut seccomp = LinuxSeccomp::default();
        seccomp
            .set_default_action(self.default_action)
            .set_default_errno_ret(self.default_errno_ret)
            .set_architectures(Some(self.architectures()?))
            .set_flags((!self.flags.is_empty()).then(|| self.flags.clone()))
            .set_listener_path(self.listener_path.clone())
            .set_listener_metadata(self.listener_metadata.clone())
            .set_syscalls(Some(syscalls));
        Ok(seccomp)
    }

    fn architectures(&self) -> Result<Vec<SpecArch>> {
        let native = native_name();
        let Some(entry) = self.arch_map.iter().find(|entry| entry.architecture == native) else {
            return Ok(self.architectures.clone());
        };
        std::iter::once(&entry.architecture)
            .chain(&entry.sub_architectures)
            .map(|name| {
                serde_json::from_value(serde_json::Value::String(name.clone()))
                    .map_err(std::io::Error::from)
                    .step(|| format!("understand the architecture {name:?}"))
            })
            .collect()
    }
}

impl Rule {
    fn holds(&self, held: &HashSet<String>, kernel: KernelVersion) -> bool {
        let arch = go_name();
        let Self { includes, excludes, .. } = self;
        let is_excluded = excludes.arches.iter().any(|name| name == arch)
            || excludes.caps.iter().any(|name| held.contains(name))
            || excludes.min_kernel.is_some_and(|minimum| kernel >= minimum);
        let is_included = (includes.arches.is_empty() || includes.arches.iter().any(|name| name == arch))
            && includes.caps.iter().all(|name| held.contains(name))
            && includes.min_kernel.is_none_or(|minimum| kernel >= minimum);
        is_included && !is_excluded
    }
}

/// Gives this machine's architecture in the words of the runtime spec.
fn native_name() -> &'static str {
    match Arch::NATIVE {
        Arch::Aarch64 => "SCMP_ARCH_AARCH64",
        _ => "SCMP_ARCH_X86_64",
    }
}

/// Gives this machine's architecture in Go's words, which profiles use in their conditions.
fn go_name() -> &'static str {
    match Arch::NATIVE {
        Arch::Aarch64 => "arm64",
        _ => "amd64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::syscalls::find;

    const KERNEL: KernelVersion = KernelVersion { version: 6, revision: 1 };

    fn names(seccomp: &LinuxSeccomp) -> HashSet<String> {
        seccomp.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn rules_follow_capabilities() {
        let profile = Profile::default_profile().unwrap();
        let plain = profile.resolve(&HashSet::new(), KERNEL).unwrap();
        let admin = profile.resolve(&[Capability::SysAdmin].into(), KERNEL).unwrap();
        assert!(!names(&plain).contains("mount") && names(&admin).contains("mount"));
        let refusals = |seccomp: &LinuxSeccomp| {
            seccomp
                .syscalls()
                .iter()
                .flatten()
                .filter(|rule| rule.action() == LinuxSeccompAction::ScmpActErrno)
                .map(|rule| (rule.names().clone(), rule.errno_ret()))
                .collect::<Vec<_>>()
        };
        assert_eq!(refusals(&plain), [(vec!["clone3".to_owned()], Some(38))]);
        assert!(refusals(&admin).is_empty());
    }

    #[test]
    fn rules_follow_the_kernel() {
        let profile = Profile::default_profile().unwrap();
        let old = profile.resolve(&HashSet::new(), KernelVersion { version: 4, revision: 7 }).unwrap();
        assert!(!names(&old).contains("ptrace"));
        assert!(names(&profile.resolve(&HashSet::new(), KERNEL).unwrap()).contains("ptrace"));
    }

    #[test]
    fn every_name_of_the_default_profile_is_a_system_call_somewhere() {
        let elsewhere = [
            "riscv_hwprobe",
            "riscv_flush_icache",
            "swapcontext",
            "s390_pci_mmio_read",
            "s390_pci_mmio_write",
            "s390_runtime_instr",
            "fadvise64_64",
        ];
        let profile = Profile::default_profile().unwrap();
        for name in profile.syscalls.iter().flat_map(|rule| &rule.names) {
            assert!(find(name).is_some() || elsewhere.contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn profiles_of_older_clients_are_understood_and_contradictions_are_not() {
        let old = br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"name":"chmod","action":"SCMP_ACT_ERRNO","args":null}]}"#;
        let seccomp = Profile::parse(old).unwrap().resolve(&HashSet::new(), KERNEL).unwrap();
        assert!(names(&seccomp).contains("chmod"));
        let both = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ERRNO"}]}"#;
        assert!(Profile::parse(both).is_err());
        assert!(Profile::parse(b"{}").is_err());
    }

    #[test]
    fn kernel_versions_are_read_from_releases() {
        for (text, version) in [("6.18.44-fc", Some((6, 18))), ("4.8", Some((4, 8))), ("x", None)] {
            let parsed = KernelVersion::parse(text).map(|parsed| (parsed.version, parsed.revision));
            assert_eq!(parsed, version, "{text}");
        }
    }
}

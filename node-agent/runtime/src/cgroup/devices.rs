//! Device access rules of a container, in the form of either cgroup version.
//!
//! Start reading at [`effective_rules`]. Pure: the rules are decided here, written in `v1.rs`, and made into a program in
//! `bpf.rs`.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::error::{Result, RuntimeError};

/// One rule; the last one that matches an access decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceRule {
    pub(crate) verdict: Verdict,
    pub(crate) class: DeviceClass,
    /// `None` matches all.
    pub(crate) major: Option<u32>,
    /// `None` matches all.
    pub(crate) minor: Option<u32>,
    pub(crate) access: Access,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow,
    Deny,
}

/// Which devices a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceClass {
    All,
    Block,
    Character,
}

/// A set of `r`, `w` and `m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access(pub(crate) u8);

impl Access {
    pub(crate) const MKNOD: u8 = 1;
    pub(crate) const READ: u8 = 2;
    pub(crate) const WRITE: u8 = 4;
    pub(crate) const ALL: Self = Self(7);

    fn parse(text: &str) -> Result<Self> {
        let mut bits = 0;
        for letter in text.chars() {
            bits |= match letter {
                'r' => Self::READ,
                'w' => Self::WRITE,
                'm' => Self::MKNOD,
                _ => {
                    return Err(RuntimeError::InvalidSpec(format!(
                        "linux.resources.devices: unknown access {text:?}"
                    )));
                }
            };
        }
        Ok(if bits == 0 { Self::ALL } else { Self(bits) })
    }
}

impl DeviceRule {
    /// Writes the rule as cgroup v1 takes it in `devices.allow` and `devices.deny`.
    pub(crate) fn to_line(self) -> String {
        let class = match self.class {
            DeviceClass::All => 'a',
            DeviceClass::Block => 'b',
            DeviceClass::Character => 'c',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let mut access = String::new();
        for (bit, letter) in [(Access::READ, 'r'), (Access::WRITE, 'w'), (Access::MKNOD, 'm')] {
            if self.access.0 & bit != 0 {
                access.push(letter);
            }
        }
        format!("{class} {}:{} {access}", number(self.major), number(self.minor))
    }

    /// Tells whether the rule is about every access to every device.
    pub(crate) fn is_wildcard(self) -> bool {
        self.class == DeviceClass::All
            && self.major.is_none()
            && self.minor.is_none()
            && self.access == Access::ALL
    }
}

const fn allow(class: DeviceClass, major: Option<u32>, minor: Option<u32>, access: Access) -> DeviceRule {
    DeviceRule { verdict: Verdict::Allow, class, major, minor, access }
}

/// What every container may do whatever its rules say: make nodes, and use the devices that the runtime puts into
/// `/dev`. The same list as runc's and crun's.
pub(crate) const ALWAYS_ALLOWED: [DeviceRule; 10] = [
    allow(DeviceClass::Character, None, None, Access(Access::MKNOD)),
    allow(DeviceClass::Block, None, None, Access(Access::MKNOD)),
    allow(DeviceClass::Character, Some(1), Some(3), Access::ALL),
    allow(DeviceClass::Character, Some(1), Some(8), Access::ALL),
    allow(DeviceClass::Character, Some(1), Some(7), Access::ALL),
    allow(DeviceClass::Character, Some(5), Some(0), Access::ALL),
    allow(DeviceClass::Character, Some(1), Some(5), Access::ALL),
    allow(DeviceClass::Character, Some(1), Some(9), Access::ALL),
    allow(DeviceClass::Character, Some(136), None, Access::ALL),
    allow(DeviceClass::Character, Some(5), Some(2), Access::ALL),
];

/// Reads the rules of a spec and adds what is always allowed; empty when the spec has none, which means no control.
///
/// Rules that a later wildcard overrides are dropped, and so are repeated ones: every rule costs a system call on v1.
pub(crate) fn effective_rules(rules: &[LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>> {
    let mut effective = Vec::with_capacity(rules.len() + ALWAYS_ALLOWED.len());
    for rule in rules {
        push(&mut effective, parse(rule)?);
    }
    let open = effective.last().is_none_or(|rule| rule.verdict == Verdict::Allow && rule.is_wildcard());
    if !open {
        for rule in ALWAYS_ALLOWED {
            push(&mut effective, rule);
        }
    }
    Ok(effective)
}

fn push(rules: &mut Vec<DeviceRule>, rule: DeviceRule) {
    if rule.is_wildcard() {
        rules.clear();
    }
    if !rules.contains(&rule) {
        rules.push(rule);
    }
}

fn parse(rule: &LinuxDeviceCgroup) -> Result<DeviceRule> {
    let verdict = if rule.allow() { Verdict::Allow } else { Verdict::Deny };
    let class = match rule.typ() {
        None | Some(LinuxDeviceType::A) => DeviceClass::All,
        Some(LinuxDeviceType::B) => DeviceClass::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceClass::Character,
        Some(LinuxDeviceType::P) => {
            return Err(RuntimeError::InvalidSpec(
                "linux.resources.devices: a FIFO has no device rule".to_owned(),
            ));
        }
    };
    let number = |number: Option<i64>| match number {
        None | Some(..0) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| {
            RuntimeError::InvalidSpec(format!("linux.resources.devices: number {number} is too big"))
        }),
    };
    let access = match rule.access() {
        Some(text) => Access::parse(text)?,
        None => Access::ALL,
    };
    // The kernel reads `a` as everything, whatever the rest of the line says.
    if class == DeviceClass::All {
        return Ok(DeviceRule { verdict, class, major: None, minor: None, access: Access::ALL });
    }
    Ok(DeviceRule { verdict, class, major: number(rule.major())?, minor: number(rule.minor())?, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> LinuxDeviceCgroup {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn rules_become_the_lines_of_cgroup_v1() {
        let rules = [
            rule(r#"{"allow":false,"access":"rwm"}"#),
            rule(r#"{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}"#),
            rule(r#"{"allow":true,"type":"b","major":8}"#),
        ];
        let effective = effective_rules(&rules).unwrap();
        let lines: Vec<String> = effective.iter().take(3).map(|rule| rule.to_line()).collect();
        assert_eq!(lines, ["a *:* rwm", "c 10:229 rw", "b 8:* rwm"]);
        assert_eq!(effective.len(), 3 + ALWAYS_ALLOWED.len());
    }

    #[test]
    fn a_wildcard_makes_what_came_before_irrelevant() {
        let rules = [
            rule(r#"{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}"#),
            rule(r#"{"allow":true,"access":"rwm"}"#),
        ];
        let effective = effective_rules(&rules).unwrap();
        assert_eq!(effective.len(), 1);
        assert!(effective_rules(&[]).unwrap().is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(effective_rules(&[rule(r#"{"allow":true,"type":"c","access":"x"}"#)]).is_err());
        assert!(effective_rules(&[rule(r#"{"allow":true,"type":"p"}"#)]).is_err());
    }
}

//! PURE. Capabilities: names, Docker's default set, and what adding and dropping makes of it.
//!
//! Start reading at [`effective`]. Granting them is the runtime's.

/// Names in the kernel's order, without `CAP_` (capabilities(7)).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container gets that asks for nothing.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Stands for all of them.
const ALL: &str = "ALL";

/// What a container asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes<'a> {
    /// Whether it gets everything.
    pub(crate) privileged: bool,
    /// Names to add.
    pub(crate) add: &'a [String],
    /// Names to take away.
    pub(crate) drop: &'a [String],
}

/// The capabilities that wishes lead to, as `CAP_…`, on a machine that has those in the mask `available`.
///
/// Names have been checked by [`normalize`] before; an unknown one is ignored here.
pub(crate) fn effective(wishes: Wishes<'_>, available: u64) -> Vec<String> {
    let add = normalize(wishes.add).unwrap_or_default();
    let drop = normalize(wishes.drop).unwrap_or_default();
    let all = || NAMES.into_iter().enumerate().filter(|(bit, _)| available & (1 << bit) != 0);
    let names: Vec<&str> = if wishes.privileged {
        all().map(|(_, name)| name).collect()
    } else if add.contains(&ALL) {
        all().map(|(_, name)| name).filter(|name| !drop.contains(name)).collect()
    } else if drop.contains(&ALL) {
        add
    } else {
        let kept = DEFAULT.into_iter().filter(|name| !drop.contains(name) && !add.contains(name));
        kept.chain(add.iter().copied().filter(|name| !drop.contains(name))).collect()
    };
    names.into_iter().map(|name| format!("CAP_{name}")).collect()
}

/// The known names behind names as users write them: any case, with or without `CAP_`, or `ALL`. The error is the
/// first unknown one in full form.
pub(crate) fn normalize(names: &[String]) -> Result<Vec<&'static str>, String> {
    let find = |name: &String| {
        let upper = name.trim().to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if upper == ALL {
            return Ok(ALL);
        }
        NAMES.into_iter().find(|known| *known == bare).ok_or_else(|| format!("CAP_{bare}"))
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective_of(add: &[&str], drop: &[&str]) -> Vec<String> {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let (add, drop) = (own(add), own(drop));
        effective(Wishes { privileged: false, add: &add, drop: &drop }, (1 << 41) - 1)
    }

    #[test]
    fn a_container_that_asks_for_nothing_gets_dockers_fourteen() {
        let names = effective_of(&[], &[]);
        assert_eq!(names.len(), 14);
        assert_eq!(names.first().map(String::as_str), Some("CAP_CHOWN"));
    }

    #[test]
    fn adding_and_dropping_follow_dockers_rules() {
        assert_eq!(effective_of(&["net_admin"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert_eq!(effective_of(&[], &["all"]), Vec::<String>::new());
        assert_eq!(effective_of(&["ALL"], &[]).len(), 41);
        assert_eq!(effective_of(&["ALL"], &["CAP_SYS_ADMIN"]).len(), 40);
        let names = effective_of(&["SYS_TIME"], &["CHOWN"]);
        assert!(names.contains(&"CAP_SYS_TIME".to_owned()) && !names.contains(&"CAP_CHOWN".to_owned()));
        assert_eq!(names.len(), 14);
    }

    #[test]
    fn everything_means_everything_that_the_machine_has() {
        let wishes = Wishes { privileged: true, add: &[], drop: &[] };
        assert_eq!(effective(wishes, 0b101), ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]);
    }
}

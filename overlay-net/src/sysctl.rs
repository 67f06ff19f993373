//! Kernel settings under /proc/sys, in the network namespace of the calling thread.
//!
//! Start reading at [`write()`]. Which thread is in which namespace is `netns.rs`'s business; which settings are wanted
//! is the sandbox's and the drivers'.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::{NetError, Result};

/// Writes one setting, given in dotted form; a `/` in it stands for a dot of an interface name, as in sysctl(8).
pub(crate) fn write(key: &str, value: &str) -> Result<()> {
    let failed = |source| NetError::Sysctl { key: key.to_owned(), value: value.to_owned(), source };
    // Without create and truncate: such a file either exists or the kernel lacks the setting.
    let mut file = fs::OpenOptions::new().write(true).open(path(key).map_err(failed)?).map_err(failed)?;
    io::Write::write_all(&mut file, value.as_bytes()).map_err(failed)
}

/// Writes a setting that the kernel may lack, as all of IPv6's on machines without it.
pub(crate) fn write_if_present(key: &str, value: &str) -> Result<()> {
    match write(key, value) {
        Err(NetError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Writes a setting unless it has the value already.
pub(crate) fn ensure(key: &str, value: &str) -> Result<()> {
    if read(key).is_some_and(|current| current == value) { Ok(()) } else { write(key, value) }
}

/// Reads one setting; absent when the kernel lacks it.
pub(crate) fn read(key: &str) -> Option<String> {
    fs::read_to_string(path(key).ok()?).ok().map(|text| text.trim().to_owned())
}

/// A setting of one interface, as `net.ipv4.conf.IFNAME.forwarding`.
pub(crate) fn interface_key(prefix: &str, interface: &str, setting: &str) -> String {
    format!("{prefix}.{}.{setting}", interface.replace('.', "/"))
}

fn path(key: &str) -> io::Result<PathBuf> {
    let relative: String = key
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(PathBuf::from("/proc/sys").join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_paths_below_proc_sys() {
        assert_eq!(path("net.ipv4.ip_forward").unwrap().to_str(), Some("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(
            path("net.ipv4.conf.eth0/5.x").unwrap().to_str(),
            Some("/proc/sys/net/ipv4/conf/eth0.5/x")
        );
        assert_eq!(interface_key("net.ipv4.conf", "eth0.5", "x"), "net.ipv4.conf.eth0/5.x");
    }

    #[test]
    fn keys_cannot_leave_proc_sys() {
        for key in ["", ".", "net..x", "net.//.kernel", "net.//.//.etc", ".etc"] {
            assert!(path(key).is_err(), "{key}");
        }
    }
}

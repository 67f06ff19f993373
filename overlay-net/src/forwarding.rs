//! The node's own forwarding switches.
//!
//! Start reading at [`enable`]. They are turned on when the first network needs them and never turned off: others may
//! have come to rely on them. Threads that call this are in the node's namespace.

use crate::error::Result;
use crate::firewall::Family;
use crate::sysctl;

/// Whether forwarding of one family is off; a kernel without the family has nothing to turn on.
pub(crate) fn is_off(family: Family) -> bool {
    let key = match family {
        Family::V4 => "net.ipv4.ip_forward",
        Family::V6 => "net.ipv6.conf.all.forwarding",
    };
    sysctl::read(key).is_some_and(|value| value == "0")
}

/// Turns forwarding of one family on.
pub(crate) fn enable(family: Family) -> Result<()> {
    match family {
        Family::V4 => sysctl::write("net.ipv4.ip_forward", "1"),
        Family::V6 => {
            keep_router_advertisements()?;
            sysctl::write("net.ipv6.conf.default.forwarding", "1")?;
            sysctl::write("net.ipv6.conf.all.forwarding", "1")
        }
    }
}

/// A forwarding node ignores router advertisements unless told otherwise (`accept_ra=2`); without this it would lose
/// its own IPv6 default route the moment a container network is made.
fn keep_router_advertisements() -> Result<()> {
    let Ok(interfaces) = std::fs::read_dir("/proc/sys/net/ipv6/conf") else { return Ok(()) };
    for name in interfaces.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let key = sysctl::interface_key("net.ipv6.conf", &name, "accept_ra");
        if !matches!(name.as_str(), "all" | "default" | "lo") && sysctl::read(&key).as_deref() == Some("1") {
            sysctl::write(&key, "2")?;
        }
    }
    Ok(())
}

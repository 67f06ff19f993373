//! The default bridge's addresses, chosen from the settings and from what the interface has already. PURE.
//!
//! Start reading at [`settle`]. Without `--bip` an address that the interface has is kept: of a bridge that the user made
//! it is the only one there may be, and of ours it is the one that containers know. The rules are moby's
//! (`daemon_unix.go`, `getDefaultBridgeIPAMConf`).

use std::net::IpAddr;

use ipnet::IpNet;

use super::{BridgeOwner, DefaultBridge};
use crate::error::NodeError;

/// Completes the settings. `present` are the addresses of the interface, `None` when there is no such interface.
pub(super) fn settle(wanted: &DefaultBridge, present: Option<&[IpNet]>) -> Result<DefaultBridge, NodeError> {
    let name = &wanted.interface;
    let Some(present) = present else {
        return match wanted.owner {
            BridgeOwner::Daemon => Ok(wanted.clone()),
            BridgeOwner::User => Err(NodeError::invalid(format!("bridge device with name {name} not found"))),
        };
    };
    let mut settled = wanted.clone();
    let (v4, v6): (Vec<IpNet>, Vec<IpNet>) = present.iter().partition(|net| net.addr().is_ipv4());
    settled.address = wanted.address.or_else(|| select(&v4, wanted.range, wanted.owner));
    // The address that the kernel gives every interface counts only when that subnet is asked for.
    let is_asked_for = wanted.subnet_v6.is_some_and(|net| is_link_local(net.addr()));
    let v6: Vec<IpNet> = v6.into_iter().filter(|net| is_asked_for || !is_link_local(net.addr())).collect();
    settled.address_v6 = wanted.address_v6.or_else(|| select(&v6, wanted.subnet_v6, wanted.owner));
    if wanted.owner == BridgeOwner::User {
        if is_outside(settled.address_v6, wanted.subnet_v6) && wanted.ipv6 {
            return Err(NodeError::invalid(format!(
                "fixed-cidr-v6={} is outside any subnet implied by addresses on the user-managed default bridge",
                wanted.subnet_v6.map(|net| net.to_string()).unwrap_or_default()
            )));
        }
        if is_outside(settled.address, wanted.range) {
            tracing::warn!(bridge = %name, "fixed-cidr is outside of the bridge's subnet and has no effect");
            settled.range = None;
        }
    }
    Ok(settled)
}

/// The address that fits best to the range from which containers get theirs: one whose subnet holds it, else one within
/// it, else any. One of ours that does not fit is given up.
fn select(present: &[IpNet], range: Option<IpNet>, owner: BridgeOwner) -> Option<IpNet> {
    let first = present.first().copied();
    let Some(range) = range else { return first };
    let holding = present.iter().find(|net| net.contains(&range.addr()));
    let within = present.iter().find(|net| range.contains(&net.addr()));
    let chosen = holding.or(within).copied().or(first)?;
    match owner {
        BridgeOwner::User => Some(chosen),
        BridgeOwner::Daemon if !chosen.contains(&range.addr()) => None,
        // The range has grown beyond the subnet, which grows with it.
        BridgeOwner::Daemon => IpNet::new(chosen.addr(), chosen.prefix_len().min(range.prefix_len())).ok(),
    }
}

/// Whether a range is not a part of an address's subnet.
fn is_outside(address: Option<IpNet>, range: Option<IpNet>) -> bool {
    address
        .zip(range)
        .is_some_and(|(net, range)| !net.contains(&range.addr()) || range.prefix_len() < net.prefix_len())
}

/// Whether an address is in fe80::/64, where the kernel takes the addresses it gives by itself.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.segments()[..4] == [0xfe80, 0, 0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn bridge(owner: BridgeOwner, range: Option<&str>, range_v6: Option<&str>) -> DefaultBridge {
        DefaultBridge {
            interface: "br".to_owned(),
            owner,
            address: None,
            address_v6: None,
            range: range.map(net),
            subnet_v6: range_v6.map(net),
            gateway: None,
            gateway_v6: None,
            ipv6: true,
            icc: true,
            masquerade: true,
            mtu: None,
        }
    }

    #[test]
    fn a_users_bridge_must_be_there_and_keeps_its_addresses() {
        let wanted = bridge(BridgeOwner::User, None, None);
        let error = settle(&wanted, None).unwrap_err();
        assert_eq!(error.message(), "bridge device with name br not found");
        let present = [net("192.168.176.88/20"), net("fe80::5/64"), net("fdd1::8888/64")];
        let settled = settle(&wanted, Some(&present)).unwrap();
        assert_eq!((settled.address, settled.address_v6), (Some(present[0]), Some(present[2])));
        assert_eq!(settle(&bridge(BridgeOwner::Daemon, None, None), None).unwrap().address, None);
    }

    #[test]
    fn the_address_fits_the_range() {
        let present = [net("192.168.160.88/20"), net("192.168.176.88/20")];
        let of = |owner, range| settle(&bridge(owner, Some(range), None), Some(&present)).unwrap();
        assert_eq!(of(BridgeOwner::User, "192.168.177.0/24").address, Some(present[1]));
        assert_eq!(of(BridgeOwner::Daemon, "192.168.177.0/24").address, Some(present[1]));
        assert_eq!(of(BridgeOwner::Daemon, "10.1.0.0/16").address, None);
        assert_eq!(of(BridgeOwner::Daemon, "192.168.176.0/18").address, Some(net("192.168.176.88/18")));
        let outside = of(BridgeOwner::User, "10.1.0.0/16");
        assert_eq!((outside.address, outside.range), (Some(present[0]), None));
    }

    #[test]
    fn an_ipv6_range_outside_of_a_users_bridge_is_refused() {
        let wanted = bridge(BridgeOwner::User, None, Some("fdd1:8161:2d2c::/60"));
        let error = settle(&wanted, Some(&[net("fdd1:8161:2d2c::8888/64")])).unwrap_err();
        assert!(error.message().starts_with("fixed-cidr-v6=fdd1:8161:2d2c::/60 is outside"), "{error}");
    }
}

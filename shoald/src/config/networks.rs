//! What the configuration says of networks.
//!
//! Start reading at [`network_settings`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use overlay_net::PacketMark;
use overlay_net::host::ForwardPolicy;
use serde_json::Value;

use super::{ConfigError, Settings};

/// Settings of networks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NetworkSettings {
    /// Name of the default bridge; `None` when there is to be none.
    pub(crate) bridge: Option<String>,
    /// Whether the user named it, and so makes it.
    pub(crate) is_bridge_given: bool,
    /// Address and prefix of the default bridge.
    pub(crate) bip: Option<IpNet>,
    /// The same for IPv6.
    pub(crate) bip6: Option<IpNet>,
    /// Part of its subnet from which addresses are taken.
    pub(crate) fixed_cidr: Option<IpNet>,
    /// Its IPv6 subnet.
    pub(crate) fixed_cidr_v6: Option<IpNet>,
    /// Gateway of its containers instead of the bridge.
    pub(crate) gateway: Option<IpAddr>,
    /// The same for IPv6.
    pub(crate) gateway_v6: Option<IpAddr>,
    /// Whether it has an IPv6 subnet.
    pub(crate) ipv6: bool,
    /// Whether its containers talk to each other.
    pub(crate) icc: bool,
    /// Whether outgoing packets take the host's address.
    pub(crate) masquerade: bool,
    /// Addresses at which ports are published; `None` is all of both families.
    pub(crate) publish_ip: Option<IpAddr>,
    /// MTU of the default bridge.
    pub(crate) mtu: Option<u32>,
    /// Whether IPv4 rules are written.
    pub(crate) firewall_v4: bool,
    /// Whether IPv6 rules are written.
    pub(crate) firewall_v6: bool,
    /// Whether forwarding is switched on.
    pub(crate) forwarding: bool,
    /// What becomes of foreign packets when it was Shoal who switched it on.
    pub(crate) forward_policy: ForwardPolicy,
    /// Whether containers may be reached at their own addresses from other machines.
    pub(crate) direct_routing: bool,
    /// Packets that may enter every network that is not internal.
    pub(crate) accepted_mark: Option<PacketMark>,
    /// Pools of subnets, base and size; empty are the built-in ones.
    pub(crate) address_pools: Vec<(IpNet, u8)>,
    /// Options of new networks by driver.
    pub(crate) default_options: BTreeMap<String, BTreeMap<String, String>>,
    /// What `host-gateway` stands for; empty is the gateway of the default bridge.
    pub(crate) host_gateway: Vec<IpAddr>,
    /// Name servers of containers; empty are the host's.
    pub(crate) dns: Vec<IpAddr>,
    /// Options of resolv.conf.
    pub(crate) dns_options: Vec<String>,
    /// Search domains.
    pub(crate) dns_search: Vec<String>,
}

/// Makes sense of the settings.
pub(super) fn network_settings(settings: &Settings) -> Result<NetworkSettings, ConfigError> {
    let on = |name: &str| settings.bool(name).unwrap_or(true);
    let bridge = match settings.text("bridge") {
        Some("none") => None,
        Some(name) => Some(name.to_owned()),
        None => Some("shoal0".to_owned()),
    };
    if settings.text("bridge").is_some() && settings.text("bip").is_some() {
        return Err(ConfigError::value(
            "You specified -b & --bip, mutually exclusive options. Please specify only one",
        ));
    }
    if !on("iptables") && !on("icc") {
        return Err(ConfigError::value(
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true",
        ));
    }
    Ok(NetworkSettings {
        bridge,
        is_bridge_given: settings.text("bridge").is_some(),
        bip: parsed(settings, "bip")?,
        bip6: parsed(settings, "bip6")?,
        fixed_cidr: parsed(settings, "fixed-cidr")?,
        fixed_cidr_v6: parsed(settings, "fixed-cidr-v6")?,
        gateway: parsed(settings, "default-gateway")?,
        gateway_v6: parsed(settings, "default-gateway-v6")?,
        ipv6: settings.bool("ipv6").unwrap_or(false),
        icc: on("icc"),
        masquerade: on("ip-masq"),
        publish_ip: parsed::<IpAddr>(settings, "ip")?.filter(|address| !address.is_unspecified()),
        mtu: settings
            .int("mtu")
            .filter(|mtu| *mtu != 0)
            .map(|mtu| {
                u32::try_from(mtu).map_err(|_| ConfigError::value(format!("invalid default MTU: {mtu}")))
            })
            .transpose()?,
        firewall_v4: on("iptables"),
        firewall_v6: on("ip6tables"),
        forwarding: on("ip-forward"),
        forward_policy: match settings.bool("ip-forward-no-drop") {
            Some(true) => ForwardPolicy::Accept,
            _ => ForwardPolicy::Drop,
        },
        direct_routing: settings.bool("allow-direct-routing").unwrap_or(false),
        accepted_mark: settings.text("bridge-accept-fwmark").map(packet_mark).transpose()?,
        address_pools: address_pools(settings)?,
        default_options: default_network_options(settings),
        host_gateway: addresses(settings, "host-gateway-ips")?,
        dns: addresses(settings, "dns")?,
        dns_options: settings.list("dns-opts"),
        dns_search: settings.list("dns-search"),
    })
}

fn parsed<T: std::str::FromStr>(settings: &Settings, name: &str) -> Result<Option<T>, ConfigError> {
    let parse = |text: &str| text.parse().map_err(|_| ConfigError::value(format!("invalid {name}: {text}")));
    settings.text(name).map(parse).transpose()
}

/// `MARK` or `MARK/MASK`, both in Go's notations: decimal, `0x`, `0o` or a leading zero, `0b`.
fn packet_mark(text: &str) -> Result<PacketMark, ConfigError> {
    let number = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let (digits, radix) = match lower.as_bytes() {
            [b'0', b'x', ..] => (&lower[2..], 16),
            [b'0', b'o', ..] => (&lower[2..], 8),
            [b'0', b'b', ..] => (&lower[2..], 2),
            [b'0', _, ..] => (&lower[1..], 8),
            _ => (lower.as_str(), 10),
        };
        // A sign is no digit, though Rust takes one.
        u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))
    };
    let invalid = |what: &str| ConfigError::value(format!("invalid firewall {what} \"{text}\""));
    let (value, mask) = text.split_once('/').map_or((text, None), |(value, mask)| (value, Some(mask)));
    let value = number(value).ok_or_else(|| invalid("mark"))?;
    let mask = mask.map_or(Some(u32::MAX), number).ok_or_else(|| invalid("mask"))?;
    Ok(PacketMark { value, mask })
}

fn addresses(settings: &Settings, name: &str) -> Result<Vec<IpAddr>, ConfigError> {
    let parse = |text: String| {
        text.trim().parse().map_err(|_| ConfigError::value(format!("{} is not an ip address", text.trim())))
    };
    settings.list(name).into_iter().map(parse).collect()
}

fn address_pools(settings: &Settings) -> Result<Vec<(IpNet, u8)>, ConfigError> {
    let pools = settings.get("default-address-pools").and_then(Value::as_array);
    let read_one = |pool: &Value| {
        let invalid = || ConfigError::value(format!("invalid default-address-pools: {pool}"));
        let base: IpNet = pool
            .get("base")
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok())
            .ok_or_else(invalid)?;
        let size = pool
            .get("size")
            .and_then(Value::as_u64)
            .and_then(|size| u8::try_from(size).ok())
            .ok_or_else(invalid)?;
        if size < base.prefix_len() || size > base.max_prefix_len() {
            return Err(invalid());
        }
        Ok((base.trunc(), size))
    };
    pools.into_iter().flatten().map(read_one).collect()
}

fn default_network_options(settings: &Settings) -> BTreeMap<String, BTreeMap<String, String>> {
    let drivers = settings.get("default-network-opts").and_then(Value::as_object);
    let options = |value: &Value| {
        let pairs = value.as_object().into_iter().flatten();
        pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    drivers.into_iter().flatten().map(|(driver, value)| (driver.clone(), options(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_marks_are_read_as_go_reads_numbers() {
        let mark = |value, mask| Some(PacketMark { value, mask });
        for (text, expected) in [
            ("2/3", mark(2, 3)),
            ("0x2/0XFF", mark(2, 255)),
            ("010/0b11", mark(8, 3)),
            ("0o17", mark(15, u32::MAX)),
            ("0", mark(0, u32::MAX)),
            ("", None),
            ("+1", None),
            ("1/", None),
            ("x", None),
            ("4294967296", None),
        ] {
            assert_eq!(packet_mark(text).ok(), expected, "{text}");
        }
        let refused = packet_mark("2/y").unwrap_err();
        assert_eq!(refused.to_string(), "invalid firewall mask \"2/y\"");
    }
}

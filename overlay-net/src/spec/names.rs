//! Names of interfaces and hardware addresses, as the kernel takes them.
//!
//! Start reading at [`IfName`] and [`MacAddr`]. Nothing is checked against the node.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::NetError;

/// Name of a network interface, as the kernel accepts it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(Arc<str>);

impl IfName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        // IFNAMSIZ is 16 with the terminating zero; dev_valid_name() refuses the characters below.
        let fits = (1..=15).contains(&text.len()) && text != "." && text != "..";
        let clean = !text.chars().any(|c| c == '/' || c == ':' || c.is_ascii_whitespace() || c == '\0');
        if fits && clean {
            Ok(Self(text.into()))
        } else {
            Err(NetError::InvalidInterfaceName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for IfName {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hardware address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// What stands before the IPv4 address in a hardware address that was made of one, as Docker has it.
    pub(crate) const DERIVED_PREFIX: [u8; 2] = [0x02, 0x42];

    /// The address of an endpoint that requested none: `02:42` and the IPv4 address, or random without one.
    ///
    /// An address that is used again then has the hardware address that neighbours remember for it, and a new container
    /// need not shout its own at all the others of the network. Docker did so until version 28.
    pub fn for_addresses(addresses: &[IpNet]) -> Self {
        let v4 =
            addresses.iter().find_map(|net| if let IpAddr::V4(v4) = net.addr() { Some(v4) } else { None });
        v4.map_or_else(Self::random, |address| {
            let [a, b, c, d] = address.octets();
            let [e, f] = Self::DERIVED_PREFIX;
            Self([e, f, a, b, c, d])
        })
    }

    /// A random locally administered unicast address.
    pub fn random() -> Self {
        let mut bytes: [u8; 6] = rand::random();
        bytes[0] = (bytes[0] & 0b1111_1100) | 0b0000_0010;
        Self(bytes)
    }
}

impl FromStr for MacAddr {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let wrong = || NetError::InvalidMac(text.to_owned());
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_held_to_the_kernels_rules() {
        for good in ["eth0", "br-0123456789ab", "a", "x.y"] {
            assert!(good.parse::<IfName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "0123456789abcdef"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hardware_addresses_parse_and_print() {
        let mac: MacAddr = "02:42:AC:11:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for bad in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:0:2", "zz:42:ac:11:00:02"] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hardware_addresses_follow_the_ipv4_address() {
        let addresses = ["fd00::2/64", "172.17.0.2/16"].map(|net| net.parse().unwrap());
        assert_eq!(MacAddr::for_addresses(&addresses).to_string(), "02:42:ac:11:00:02");
        assert_ne!(MacAddr::for_addresses(&addresses[..1]), MacAddr::for_addresses(&addresses[..1]));
    }

    #[test]
    fn random_hardware_addresses_are_local_and_unicast() {
        for _ in 0..64 {
            assert_eq!(MacAddr::random().0[0] & 0b11, 0b10);
        }
    }
}

//! Bridge networks: one Linux bridge for each network, one veth pair for each endpoint.

use std::collections::BTreeMap;
use std::net::IpAddr;

use shoal_types::NetworkId;

use crate::error::{NetError, Result};
use crate::spec::{GatewayMode, Icc, IfName, Masquerade};

/// Name of a network's bridge when the user gave none: `br-` and the first twelve characters of the id.
pub fn default_bridge_name(network: &NetworkId) -> Result<IfName> {
    format!("br-{}", network.short()).parse()
}

/// The driver options of a bridge network, parsed from Docker's option names.
///
/// Options that are not the bridge driver's are left for others to judge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeOptions {
    /// `com.docker.network.bridge.name`
    pub bridge: Option<IfName>,
    /// `com.docker.network.bridge.enable_icc`
    pub icc: Option<Icc>,
    /// `com.docker.network.bridge.enable_ip_masquerade`
    pub masquerade: Option<Masquerade>,
    /// `com.docker.network.bridge.host_binding_ipv4`
    pub host_binding_ipv4: Option<IpAddr>,
    /// `com.docker.network.bridge.gateway_mode_ipv4`
    pub gateway_mode_v4: GatewayMode,
    /// `com.docker.network.bridge.gateway_mode_ipv6`
    pub gateway_mode_v6: GatewayMode,
    /// `com.docker.network.bridge.inhibit_ipv4`
    pub inhibit_ipv4: bool,
    /// `com.docker.network.bridge.trusted_host_interfaces`, separated by colons
    pub trusted_host_interfaces: Vec<IfName>,
    /// `com.docker.network.driver.mtu`
    pub mtu: Option<u32>,
    /// `com.docker.network.container_iface_prefix`
    pub container_iface_prefix: Option<String>,
    /// `com.docker.network.host_ipv4`
    pub host_ipv4: Option<IpAddr>,
    /// `com.docker.network.host_ipv6`
    pub host_ipv6: Option<IpAddr>,
}

impl BridgeOptions {
    /// Parses Docker's option map; an unknown value of a known option is an error.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self> {
        let mut parsed = Self::default();
        for (name, value) in options {
            parsed.set(name, value)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let wrong = || NetError::InvalidOption { option: name.to_owned(), value: value.to_owned() };
        match name {
            "com.docker.network.bridge.name" => self.bridge = Some(value.parse()?),
            "com.docker.network.bridge.enable_icc" => {
                self.icc =
                    Some(if parse_switch(value).ok_or_else(wrong)? { Icc::Allowed } else { Icc::Denied });
            }
            "com.docker.network.bridge.enable_ip_masquerade" => {
                let on = parse_switch(value).ok_or_else(wrong)?;
                self.masquerade = Some(if on { Masquerade::On } else { Masquerade::Off });
            }
            "com.docker.network.bridge.host_binding_ipv4" => {
                self.host_binding_ipv4 = Some(value.parse().map_err(|_| wrong())?);
            }
            "com.docker.network.bridge.gateway_mode_ipv4" => {
                self.gateway_mode_v4 = parse_mode(value).ok_or_else(wrong)?;
            }
            "com.docker.network.bridge.gateway_mode_ipv6" => {
                self.gateway_mode_v6 = parse_mode(value).ok_or_else(wrong)?;
            }
            "com.docker.network.bridge.inhibit_ipv4" => {
                self.inhibit_ipv4 = parse_switch(value).ok_or_else(wrong)?;
            }
            "com.docker.network.bridge.trusted_host_interfaces" => {
                self.trusted_host_interfaces = value
                    .split(':')
                    .filter(|part| !part.is_empty())
                    .map(str::parse)
                    .collect::<Result<_>>()?;
            }
            "com.docker.network.driver.mtu" => {
                self.mtu = match value.parse().map_err(|_| wrong())? {
                    0 => None,
                    mtu => Some(mtu),
                };
            }
            "com.docker.network.container_iface_prefix" => {
                self.container_iface_prefix = Some(value.to_owned());
            }
            "com.docker.network.host_ipv4" => self.host_ipv4 = Some(value.parse().map_err(|_| wrong())?),
            "com.docker.network.host_ipv6" => self.host_ipv6 = Some(value.parse().map_err(|_| wrong())?),
            _ => {}
        }
        Ok(())
    }
}

/// Reads a boolean as Go's `strconv.ParseBool` does, which is what Docker uses for option values.
fn parse_switch(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn parse_mode(value: &str) -> Option<GatewayMode> {
    match value {
        "" | "nat" => Some(GatewayMode::Nat),
        "nat-unprotected" => Some(GatewayMode::NatUnprotected),
        "routed" => Some(GatewayMode::Routed),
        "isolated" => Some(GatewayMode::Isolated),
        _ => None,
    }
}

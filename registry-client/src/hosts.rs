//! From a registry's name to the addresses where its content may be. Pure.
//!
//! Start reading at [`plan`]. The order is dockerd's: mirrors first (for pulls only), then the registry itself, TLS
//! before plain. Unlike dockerd, any registry may have mirrors. Whether a host name lies in an insecure network takes a
//! look-up, which `endpoint.rs` does.

use std::net::IpAddr;
use std::sync::Arc;

use http::uri::{Authority, Scheme};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::{DOCKER_HUB, DockerHub, InsecureRegistry, Mirror, RegistryConfig};
use crate::error::RegistryError;
use crate::net::url::{bare_host, has_sane_port};

/// What the endpoints are wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reading: mirrors will do.
    Pull,
    /// Writing, or anything with a person's credentials at stake.
    Push,
}

/// Whose content an endpoint serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// A copy. It never sees the registry's credentials, and its failures only mean that the next one is asked.
    Mirror,
    /// The registry itself.
    Registry,
}

/// Whether an endpoint has to prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Security {
    Secure,
    Insecure,
    /// Insecure if its address is in one of the insecure networks.
    ByAddress,
}

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EndpointPlan {
    pub(crate) role: Role,
    pub(crate) authority: Authority,
    /// The path of the API, such as `/v2`.
    pub(crate) root: String,
    /// The one scheme to be used, if the administrator has named it; else TLS, and plain if insecure.
    pub(crate) scheme: Option<Scheme>,
    pub(crate) security: Security,
}

/// The places where the content of `domain` (as in references) may be, best first.
pub(crate) fn plan(
    config: &RegistryConfig,
    domain: &str,
    purpose: Purpose,
) -> Result<Vec<EndpointPlan>, RegistryError> {
    let mut plans = Vec::new();
    if purpose == Purpose::Pull {
        let mirrors = config.mirrors.get(domain).map(Vec::as_slice).unwrap_or_default();
        plans.extend(mirrors.iter().filter_map(|mirror| mirror_plan(config, mirror)));
    }
    let is_hub = domain == DOCKER_HUB;
    let address = if is_hub { config.docker_hub.registry.as_str() } else { domain };
    let authority = parse_authority(address)?;
    // Docker Hub is secure whatever names and networks are called insecure, as in dockerd.
    let is_the_hub = is_hub && config.docker_hub == DockerHub::default();
    let security = if is_the_hub { Security::Secure } else { security_of(config, &authority) };
    plans.push(EndpointPlan {
        role: Role::Registry,
        authority,
        root: "/v2".to_owned(),
        scheme: None,
        security,
    });
    Ok(plans)
}

/// Reads a host with an optional port.
pub(crate) fn parse_authority(text: &str) -> Result<Authority, RegistryError> {
    let invalid = || RegistryError::InvalidRequest(format!("invalid registry address {text:?}"));
    // An IPv6 address without brackets is one without a port.
    let bracketed =
        if text.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{text}]") } else { text.to_owned() };
    let authority: Authority = bracketed.parse().map_err(|_| invalid())?;
    let is_plain =
        !authority.host().is_empty() && !authority.as_str().contains('@') && has_sane_port(&authority);
    if is_plain { Ok(authority) } else { Err(invalid()) }
}

fn mirror_plan(config: &RegistryConfig, mirror: &Mirror) -> Option<EndpointPlan> {
    let uri = mirror.uri();
    let authority = uri.authority()?.clone();
    let path = uri.path().trim_end_matches('/');
    let has_api_root = path.split('/').any(|component| component == "v2");
    let root = if has_api_root { path.to_owned() } else { format!("{path}/v2") };
    let security = security_of(config, &authority);
    Some(EndpointPlan { role: Role::Mirror, authority, root, scheme: uri.scheme().cloned(), security })
}

/// What the administrator's list says of a host. Names are compared as written, with their port, as in dockerd.
pub(crate) fn security_of(config: &RegistryConfig, authority: &Authority) -> Security {
    let is_listed = config.insecure_registries.iter().any(|insecure| match insecure {
        InsecureRegistry::Host(host) => {
            host.eq_ignore_ascii_case(authority.as_str())
                || host.eq_ignore_ascii_case(bare_authority(authority))
        }
        InsecureRegistry::Network(_) => false,
    });
    if is_listed {
        return Security::Insecure;
    }
    match bare_host(authority).parse::<IpAddr>() {
        Ok(address) if insecure_networks(config).iter().any(|network| network.contains(&address)) => {
            Security::Insecure
        }
        Ok(_) => Security::Secure,
        Err(_) => Security::ByAddress,
    }
}

/// `::1` for `[::1]`: lists have addresses without brackets when there is no port.
fn bare_authority(authority: &Authority) -> &str {
    if authority.port().is_none() { bare_host(authority) } else { authority.as_str() }
}

/// The networks in which every registry is insecure, loopback included.
pub(crate) fn insecure_networks(config: &RegistryConfig) -> Arc<[IpNet]> {
    let listed = config.insecure_registries.iter().filter_map(|insecure| match insecure {
        InsecureRegistry::Network(network) => Some(*network),
        InsecureRegistry::Host(_) => None,
    });
    loopback_networks().into_iter().chain(listed).collect()
}

fn loopback_networks() -> [IpNet; 2] {
    [
        IpNet::V4(Ipv4Net::new_assert([127, 0, 0, 0].into(), 8)),
        IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RegistryConfig {
        let mirror = |text: &str| Mirror::parse(text).unwrap();
        RegistryConfig {
            mirrors: [
                (
                    DOCKER_HUB.to_owned(),
                    vec![mirror("https://hub.mirror"), mirror("http://10.0.0.1:5000/a/")],
                ),
                ("quay.io".to_owned(), vec![mirror("https://harbor.example/v2/quay-proxy")]),
            ]
            .into(),
            insecure_registries: ["10.0.0.0/8", "plain.example:5000", "::2"]
                .map(|text| InsecureRegistry::parse(text).unwrap())
                .to_vec(),
            ..RegistryConfig::default()
        }
    }

    fn shown(domain: &str, purpose: Purpose) -> Vec<String> {
        let plans = plan(&config(), domain, purpose).unwrap();
        let line = |it: EndpointPlan| {
            let scheme = it.scheme.map_or_else(|| "*".to_owned(), |scheme| scheme.to_string());
            format!("{:?} {scheme}://{}{} {:?}", it.role, it.authority, it.root, it.security)
        };
        plans.into_iter().map(line).collect()
    }

    #[test]
    fn mirrors_come_first_and_only_for_pulls() {
        assert_eq!(
            shown("docker.io", Purpose::Pull),
            [
                "Mirror https://hub.mirror/v2 ByAddress",
                "Mirror http://10.0.0.1:5000/a/v2 Insecure",
                "Registry *://registry-1.docker.io/v2 Secure",
            ]
        );
        assert_eq!(
            shown("quay.io", Purpose::Pull),
            ["Mirror https://harbor.example/v2/quay-proxy ByAddress", "Registry *://quay.io/v2 ByAddress"]
        );
        assert_eq!(shown("docker.io", Purpose::Push), ["Registry *://registry-1.docker.io/v2 Secure"]);
    }

    #[test]
    fn loopback_and_listed_registries_are_insecure() {
        let security = |domain: &str| plan(&config(), domain, Purpose::Push).unwrap().remove(0).security;
        for domain in ["127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "10.1.1.1", "plain.example:5000", "[::2]"]
        {
            assert_eq!(security(domain), Security::Insecure, "{domain}");
        }
        for domain in ["8.8.8.8", "[::3]:5000"] {
            assert_eq!(security(domain), Security::Secure, "{domain}");
        }
        for domain in ["plain.example", "localhost:5000"] {
            assert_eq!(security(domain), Security::ByAddress, "{domain}");
        }
    }

    #[test]
    fn texts_that_are_no_host_are_refused() {
        for text in ["", "a b", "user@host", "host:port", "http://host"] {
            assert!(parse_authority(text).is_err(), "{text}");
        }
    }
}

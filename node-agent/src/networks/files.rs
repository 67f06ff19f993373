//! What stands in a container's /etc/hosts and /etc/resolv.conf.
//!
//! Start reading at [`hosts`] and [`Resolver`]. The forms of the files are overlay-net's; this module decides what goes
//! into them. Reading the host's own files is the only IO.

use std::net::IpAddr;

use overlay_net::dns::files::{
    HostsFamilies, LoopbackServers, ResolvConf, ResolvOverrides, hosts as write_hosts, internal_resolv_conf,
    legacy_resolv_conf, own_names,
};
use overlay_net::{Forwarding, ResolverSpec};
use shoal_types::container::networking::NetworkingSpec;

use super::wishes;
use crate::containers::ports::NetworkRequest;
use crate::error::NodeError;

/// Where systemd-resolved writes the servers that it asks itself; its own stub is of no use in a container.
const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";
/// The stub of systemd-resolved.
const RESOLVED_STUB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 53));
/// What users write instead of the address of the host.
const HOST_GATEWAY: &str = "host-gateway";

/// The host's resolv.conf. A host without one has no servers.
pub(super) fn host_resolv_conf() -> ResolvConf {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| ResolvConf::parse(&text));
    let conf = read("/etc/resolv.conf").unwrap_or_default();
    if conf.servers == [RESOLVED_STUB] { read(RESOLVED_CONF).unwrap_or(conf) } else { conf }
}

/// How names are resolved in a container.
#[derive(Debug)]
pub(super) struct Resolver {
    conf: ResolvConf,
    overrides: ResolvOverrides,
}

impl Resolver {
    /// The host's settings with the container's over the daemon's over them.
    pub(super) fn new(host: ResolvConf, daemon: &ResolvOverrides, container: &NetworkingSpec) -> Self {
        fn first<T: Clone>(container: &[T], daemon: &[T]) -> Vec<T> {
            if container.is_empty() { daemon.to_vec() } else { container.to_vec() }
        }
        let overrides = ResolvOverrides {
            servers: first(&container.dns_servers, &daemon.servers),
            search: first(&container.dns_search, &daemon.search),
            options: first(&container.dns_options, &daemon.options),
        };
        Self { conf: host.with(&overrides), overrides }
    }

    /// What the embedded server of a sandbox is told. `links` are names that only this sandbox knows.
    pub(super) fn spec(&self, forwarding: Forwarding, links: Vec<(String, String)>) -> ResolverSpec {
        ResolverSpec {
            upstreams: self.conf.upstreams(&self.overrides),
            ndots: self.conf.ndots(),
            forwarding,
            links,
        }
    }

    /// The file of a container that asks the embedded server.
    pub(super) fn embedded_file(&self) -> String {
        internal_resolv_conf(&self.conf)
    }

    /// The file of a container that asks the host's servers itself.
    pub(super) fn plain_file(&self, loopback: LoopbackServers) -> String {
        legacy_resolv_conf(&self.conf, loopback)
    }
}

/// The hosts file of a container with a namespace of its own. `own` are its addresses; `linked` the lines of old links.
pub(super) fn hosts(
    request: &NetworkRequest,
    own: &[IpAddr],
    linked: Vec<(IpAddr, Vec<String>)>,
    gateways: &[IpAddr],
) -> Result<String, NodeError> {
    let mut entries = extra_hosts(&request.networking.extra_hosts, gateways)?;
    entries.extend(linked);
    if !request.hostname.is_empty() {
        let names = own_names(&request.hostname, &request.domainname);
        entries.extend(own.iter().map(|address| (*address, names.clone())));
    }
    let has_v6 = !wishes::is_ipv6_off(request);
    Ok(write_hosts(if has_v6 { HostsFamilies::Dual } else { HostsFamilies::V4Only }, &entries))
}

/// The hosts file of a container in the host's namespace: the host's own, and the extra lines.
pub(super) fn host_mode_hosts(request: &NetworkRequest, gateways: &[IpAddr]) -> Result<String, NodeError> {
    let mut text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (address, names) in extra_hosts(&request.networking.extra_hosts, gateways)? {
        text.push_str(&format!("{address}\t{}\n", names.join(" ")));
    }
    Ok(text)
}

/// Refuses extra hosts that cannot be read, in Docker's words.
pub(super) fn check_extra_hosts(pairs: &[String]) -> Result<(), NodeError> {
    pairs.iter().try_for_each(|pair| ExtraHost::parse(pair).map(drop))
}

/// What a `name:address` pair names.
struct ExtraHost<'a> {
    name: &'a str,
    /// `None` is the host, whatever its addresses are.
    address: Option<IpAddr>,
}

impl<'a> ExtraHost<'a> {
    fn parse(pair: &'a str) -> Result<Self, NodeError> {
        let parts = pair.split_once([':', '=']).filter(|(name, _)| !name.is_empty());
        let (name, written) =
            parts.ok_or_else(|| NodeError::invalid(format!("bad format for add-host: \"{pair}\"")))?;
        if written == HOST_GATEWAY {
            return Ok(Self { name, address: None });
        }
        let bare = written.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(written);
        let address = bare
            .parse()
            .map_err(|_| NodeError::invalid(format!("invalid IP address in add-host: \"{written}\"")))?;
        Ok(Self { name, address: Some(address) })
    }
}

/// Reads `name:address` pairs; `host-gateway` becomes one line for each of the host's addresses.
fn extra_hosts(pairs: &[String], gateways: &[IpAddr]) -> Result<Vec<(IpAddr, Vec<String>)>, NodeError> {
    let mut entries = Vec::new();
    for pair in pairs {
        let ExtraHost { name, address } = ExtraHost::parse(pair)?;
        if address.is_none() && gateways.is_empty() {
            return Err(NodeError::failed(
                format!("add host {name}"),
                "unable to derive the IP value for host-gateway",
            ));
        }
        let gateways = gateways.iter().copied().filter(|_| address.is_none());
        entries.extend(address.into_iter().chain(gateways).map(|address| (address, vec![name.to_owned()])));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn extra_hosts_are_read_in_every_form() {
        let pairs =
            ["a:1.2.3.4", "b:[fd00::1]", "c:fd00::2", "d:host-gateway", "e=5.6.7.8"].map(str::to_owned);
        let entries = extra_hosts(&pairs, &[address("172.17.0.1"), address("fd00::ff")]).unwrap();
        let shown: Vec<String> =
            entries.iter().map(|(address, names)| format!("{} {address}", names[0])).collect();
        assert_eq!(shown, ["a 1.2.3.4", "b fd00::1", "c fd00::2", "d 172.17.0.1", "d fd00::ff", "e 5.6.7.8"]);
        let refusals = [
            ("nonsense", "bad format for add-host: \"nonsense\""),
            (":1.2.3.4", "bad format for add-host: \":1.2.3.4\""),
            ("a:nonsense", "invalid IP address in add-host: \"nonsense\""),
        ];
        for (pair, message) in refusals {
            assert_eq!(check_extra_hosts(&[pair.to_owned()]).unwrap_err().message(), message);
        }
        assert!(extra_hosts(&["a:host-gateway".to_owned()], &[]).is_err());
    }

    #[test]
    fn the_containers_name_servers_win_over_the_daemons() {
        let daemon = ResolvOverrides { servers: vec![address("9.9.9.9")], ..ResolvOverrides::default() };
        let host = ResolvConf::parse("nameserver 127.0.0.1\n");
        let mut wishes = NetworkingSpec::default();
        let of_daemon = Resolver::new(host.clone(), &daemon, &wishes);
        assert!(of_daemon.plain_file(LoopbackServers::Dropped).contains("nameserver 9.9.9.9"));
        wishes.dns_servers = vec![address("1.1.1.1")];
        let of_container = Resolver::new(host, &daemon, &wishes);
        assert!(of_container.plain_file(LoopbackServers::Dropped).contains("nameserver 1.1.1.1"));
        assert!(of_container.embedded_file().contains("nameserver 127.0.0.11"));
    }
}

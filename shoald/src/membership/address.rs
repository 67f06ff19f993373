//! Which addresses a node of a cluster listens on and is known by.
//!
//! Start reading at [`resolve`]. The rules and texts are swarm's (texts matter: scripts and people search for them). Pure but for
//! [`interfaces`], which asks the kernel.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use manager::ClusterError;
use shoal_types::ErrorKind;

/// The port of managers when none is given.
pub(super) const DEFAULT_PORT: u16 = 2377;

const MANY_SUFFIX: &str = " - specify one with --advertise-addr";
const NO_ADDRESS: &str = "could not find the system's IP address";
const BAD_LISTEN: &str =
    "listen address must be an IP address or network interface (with optional port number)";
const BAD_ADVERTISE: &str =
    "advertise address must be a non-zero IP address or network interface (with optional port number)";
const BAD_DEFAULT_ADVERTISE: &str =
    "default advertise address must be a non-zero IP address or network interface (without a port number)";
const BAD_DATA_PATH: &str =
    "data path address must be a non-zero IP address or network interface (without a port number)";
const MUST_LISTEN: &str = "must specify a listening address because the address to advertise is not recognized as a \
     system address, and a system's IP address to use could not be uniquely identified";

/// A network interface with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) is_loopback: bool,
    pub(super) addresses: Vec<IpAddr>,
}

/// What the machine has.
#[derive(Debug, Clone, Default)]
pub(super) struct System {
    pub(super) interfaces: Vec<Interface>,
    /// Subnets of networks that the engine manages; no other node is there.
    pub(super) own_subnets: Vec<IpNet>,
    /// What the daemon was told to advertise unless a request says otherwise; empty for nothing.
    pub(super) default_advertise: String,
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) listen: &'a str,
    pub(super) advertise: &'a str,
    pub(super) data_path: &'a str,
}

/// The addresses of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    /// Where a manager listens.
    pub(super) listen: SocketAddr,
    /// Where others reach this node; `None` when that could not be told from here and a manager will see it.
    pub(super) advertise: Option<SocketAddr>,
    /// Address of the data path; `None` is the same.
    pub(super) data_path: Option<IpAddr>,
}

/// Whether a node must know itself how it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advertising {
    /// It must: it begins a cluster.
    Required,
    /// Whoever it joins can see it.
    Optional,
}

/// The addresses that a request means on this machine.
pub(super) fn resolve(
    wanted: Wanted<'_>,
    system: &System,
    advertising: Advertising,
) -> Result<Addresses, ClusterError> {
    let listen = listen_address(wanted.listen, system)?;
    let advertise = match advertise_address(wanted.advertise, listen.port(), system) {
        Ok(address) => Some(address),
        Err(error) if advertising == Advertising::Required || !wanted.advertise.is_empty() => {
            return Err(error);
        }
        Err(_) => None,
    };
    let data_path = match wanted.data_path {
        "" => None,
        text => Some(
            host(text, system)?.filter(|ip| !ip.is_unspecified()).ok_or_else(|| invalid(BAD_DATA_PATH))?,
        ),
    };
    if let Some(advertise) = advertise
        && listen.ip().is_unspecified()
        && !system.has(advertise.ip())
        && system_address(system).is_err()
    {
        return Err(invalid(MUST_LISTEN));
    }
    Ok(Addresses { listen, advertise, data_path })
}

/// Where a manager is that a request names, its port filled in. The host may still be a name.
pub(super) fn remote(text: &str) -> String {
    let has_port = text.parse::<SocketAddr>().is_ok()
        || text
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.contains(':') && port.parse::<u16>().is_ok());
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{DEFAULT_PORT}"),
        _ if has_port => text.to_owned(),
        _ => format!("{text}:{DEFAULT_PORT}"),
    }
}

fn invalid(message: impl Into<String>) -> ClusterError {
    ClusterError::Refused { kind: ErrorKind::InvalidArgument, message: message.into() }
}

fn listen_address(text: &str, system: &System) -> Result<SocketAddr, ClusterError> {
    if text.is_empty() {
        return Err(invalid("invalid ListenAddr \"\": invalid empty address"));
    }
    let (name, port) = split(text);
    let port = match port {
        Some(port) => {
            port.parse().map_err(|_| invalid(format!("invalid ListenAddr {text:?}: invalid port")))?
        }
        None => DEFAULT_PORT,
    };
    let ip = host(name, system)?.ok_or_else(|| invalid(BAD_LISTEN))?;
    Ok(SocketAddr::new(ip, port))
}

fn advertise_address(text: &str, listen_port: u16, system: &System) -> Result<SocketAddr, ClusterError> {
    if !text.is_empty() {
        let (name, port) = split(text);
        let port = match port {
            Some(port) => port.parse().map_err(|_| invalid(BAD_ADVERTISE))?,
            None => listen_port,
        };
        let ip =
            host(name, system)?.filter(|ip| !ip.is_unspecified()).ok_or_else(|| invalid(BAD_ADVERTISE))?;
        return Ok(SocketAddr::new(ip, port));
    }
    if !system.default_advertise.is_empty() {
        let ip = host(&system.default_advertise, system)?.filter(|ip| !ip.is_unspecified());
        return Ok(SocketAddr::new(ip.ok_or_else(|| invalid(BAD_DEFAULT_ADVERTISE))?, listen_port));
    }
    Ok(SocketAddr::new(system_address(system)?, listen_port))
}

/// A host and the port behind it, if there is one.
fn split(text: &str) -> (&str, Option<&str>) {
    if let Some((host, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        return (host, Some(port));
    }
    match text.rsplit_once(':') {
        // More than one colon is an IPv6 address.
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (text.trim_start_matches('[').trim_end_matches(']'), None),
    }
}

/// The address that a text means: that of an interface, or itself. `None` if it is neither.
fn host(text: &str, system: &System) -> Result<Option<IpAddr>, ClusterError> {
    match system.interfaces.iter().find(|interface| interface.name == text) {
        Some(interface) => address_of(interface).map(Some),
        None => Ok(text.parse().ok()),
    }
}

/// The only address of an interface; an IPv4 address is preferred.
fn address_of(interface: &Interface) -> Result<IpAddr, ClusterError> {
    for (family, is_of) in [("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("IPv6", IpAddr::is_ipv6)] {
        let mut found = interface.addresses.iter().filter(|ip| is_of(ip) && !is_link_local(**ip));
        match (found.next(), found.next()) {
            (Some(first), Some(second)) => {
                return Err(invalid(format!(
                    "interface {} has more than one {family} address ({first} and {second})",
                    interface.name
                )));
            }
            (Some(only), None) => return Ok(*only),
            (None, _) => {}
        }
    }
    Err(invalid(format!("interface {} has no usable IPv4 or IPv6 address", interface.name)))
}

/// The only address of the machine by which others may reach it.
fn system_address(system: &System) -> Result<IpAddr, ClusterError> {
    let is_usable = |ip: &&IpAddr| {
        !ip.is_loopback()
            && !is_link_local(**ip)
            && !system.own_subnets.iter().any(|subnet| subnet.contains(*ip))
    };
    let mut chosen: Option<(&str, IpAddr)> = None;
    for interface in system.interfaces.iter().filter(|interface| !interface.is_loopback) {
        let usable: Vec<IpAddr> = interface.addresses.iter().filter(is_usable).copied().collect();
        let of = |is_of: fn(&IpAddr) -> bool| usable.iter().copied().filter(is_of).collect::<Vec<_>>();
        let (v4, v6) = (of(IpAddr::is_ipv4), of(IpAddr::is_ipv6));
        for family in [&v4, &v6] {
            if let [first, second, ..] = family[..] {
                return Err(many((&interface.name, first), (&interface.name, second)));
            }
        }
        let Some(address) = v4.first().or_else(|| v6.first()).copied() else { continue };
        if let Some(before) = chosen {
            return Err(many(before, (&interface.name, address)));
        }
        chosen = Some((&interface.name, address));
    }
    chosen.map(|(_, address)| address).ok_or_else(|| invalid(NO_ADDRESS))
}

fn many(one: (&str, IpAddr), other: (&str, IpAddr)) -> ClusterError {
    let what = if one.0 == other.0 {
        format!("multiple addresses on interface {} ({} and {})", one.0, one.1, other.1)
    } else {
        format!(
            "multiple addresses on different interfaces ({} on {} and {} on {})",
            one.1, one.0, other.1, other.0
        )
    };
    invalid(format!("could not choose an IP address to advertise since this system has {what}{MANY_SUFFIX}"))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

impl System {
    fn has(&self, ip: IpAddr) -> bool {
        self.interfaces.iter().any(|interface| interface.addresses.contains(&ip))
    }
}

/// Interfaces of this machine that are up, in the kernel's order.
pub(super) fn interfaces() -> std::io::Result<Vec<Interface>> {
    use nix::net::if_::InterfaceFlags;
    let mut found: Vec<Interface> = Vec::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        if !entry.flags.contains(InterfaceFlags::IFF_UP) {
            continue;
        }
        let v4 = entry.address.and_then(|address| address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip())));
        let v6 = entry.address.and_then(|address| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())));
        let addresses = v4.or(v6);
        match found.iter_mut().find(|interface| interface.name == entry.interface_name) {
            Some(interface) => interface.addresses.extend(addresses),
            None => found.push(Interface {
                name: entry.interface_name,
                is_loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
                addresses: addresses.into_iter().collect(),
            }),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, addresses: &[&str]) -> Interface {
        Interface {
            name: name.to_owned(),
            is_loopback: name == "lo",
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn system(interfaces: &[Interface]) -> System {
        let mut all = vec![interface("lo", &["127.0.0.1", "::1"])];
        all.extend_from_slice(interfaces);
        System {
            interfaces: all,
            own_subnets: vec!["172.17.0.0/16".parse().unwrap()],
            default_advertise: String::new(),
        }
    }

    fn wanted<'a>(listen: &'a str, advertise: &'a str) -> Wanted<'a> {
        Wanted { listen, advertise, data_path: "" }
    }

    fn init(listen: &str, advertise: &str, system: &System) -> Result<(String, String), String> {
        resolve(wanted(listen, advertise), system, Advertising::Required)
            .map(|found| (found.listen.to_string(), found.advertise.unwrap().to_string()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_address_is_found_and_several_are_told_apart_by_the_user() {
        let one =
            system(&[interface("eth0", &["10.0.0.5", "fe80::1"]), interface("docker0", &["172.17.0.1"])]);
        let any = "0.0.0.0:2377";
        assert_eq!(init(any, "", &one), Ok((any.into(), "10.0.0.5:2377".into())));
        let both = system(&[interface("eth0", &["fd00::5", "10.0.0.5"])]);
        assert_eq!(init(any, "", &both), Ok((any.into(), "10.0.0.5:2377".into())));
        let two = system(&[interface("eth0", &["10.0.0.5"]), interface("eth1", &["10.1.0.5"])]);
        assert_eq!(
            init(any, "", &two).unwrap_err(),
            "could not choose an IP address to advertise since this system has multiple addresses on different \
             interfaces (10.0.0.5 on eth0 and 10.1.0.5 on eth1) - specify one with --advertise-addr"
        );
        let same = system(&[interface("eth0", &["10.0.0.5", "10.1.0.5"])]);
        assert_eq!(
            init(any, "", &same).unwrap_err(),
            "could not choose an IP address to advertise since this system has multiple addresses on interface eth0 \
             (10.0.0.5 and 10.1.0.5) - specify one with --advertise-addr"
        );
        assert_eq!(init(any, "", &system(&[])).unwrap_err(), NO_ADDRESS);
    }

    #[test]
    fn addresses_and_interfaces_are_understood_with_and_without_port() {
        let two = system(&[interface("eth0", &["10.0.0.5"]), interface("eth1", &["10.1.0.5"])]);
        let any = "0.0.0.0:2377";
        let cases = [
            (any, "eth1", any, "10.1.0.5:2377"),
            (any, "eth1:99", any, "10.1.0.5:99"),
            (any, "10.0.0.5", any, "10.0.0.5:2377"),
            ("eth0", "10.0.0.5:1", "10.0.0.5:2377", "10.0.0.5:1"),
            ("10.0.0.5:7", "10.0.0.5", "10.0.0.5:7", "10.0.0.5:7"),
            ("[::1]:7", "[fd00::1]:8", "[::1]:7", "[fd00::1]:8"),
        ];
        for (listen, advertise, listening, advertised) in cases {
            assert_eq!(
                init(listen, advertise, &two),
                Ok((listening.into(), advertised.into())),
                "{advertise}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_swarms_words() {
        let one = system(&[interface("eth0", &["10.0.0.5"])]);
        let cases = [
            ("", "", "invalid ListenAddr \"\": invalid empty address"),
            ("nonsense", "", BAD_LISTEN),
            ("0.0.0.0:2377", "0.0.0.0", BAD_ADVERTISE),
            ("0.0.0.0:2377", "nonsense", BAD_ADVERTISE),
        ];
        for (listen, advertise, text) in cases {
            assert_eq!(init(listen, advertise, &one).unwrap_err(), text);
        }
        let bad = Wanted { listen: "0.0.0.0:2377", advertise: "", data_path: "10.0.0.5:7" };
        assert_eq!(resolve(bad, &one, Advertising::Required).unwrap_err().to_string(), BAD_DATA_PATH);
        let two = system(&[interface("eth0", &["10.0.0.5"]), interface("eth1", &["10.1.0.5"])]);
        assert_eq!(init("0.0.0.0:2377", "192.0.2.1", &two).unwrap_err(), MUST_LISTEN);
        assert_eq!(init("10.0.0.5:2377", "192.0.2.1", &two).unwrap().1, "192.0.2.1:2377");
    }

    #[test]
    fn the_daemons_default_is_taken_before_guessing_and_joining_needs_no_answer() {
        let mut two = system(&[interface("eth0", &["10.0.0.5"]), interface("eth1", &["10.1.0.5"])]);
        let joining = resolve(wanted("0.0.0.0:2377", ""), &two, Advertising::Optional).unwrap();
        assert_eq!(joining.advertise, None);
        two.default_advertise = "eth1".to_owned();
        assert_eq!(init("0.0.0.0:2377", "", &two).unwrap().1, "10.1.0.5:2377");
        two.default_advertise = "nonsense".to_owned();
        assert_eq!(init("0.0.0.0:2377", "", &two).unwrap_err(), BAD_DEFAULT_ADVERTISE);
    }

    #[test]
    fn a_remote_without_port_gets_swarms() {
        for (text, wanted) in [
            ("10.0.0.1", "10.0.0.1:2377"),
            ("10.0.0.1:99", "10.0.0.1:99"),
            ("fd00::1", "[fd00::1]:2377"),
            ("[fd00::1]:99", "[fd00::1]:99"),
            ("manager.example", "manager.example:2377"),
        ] {
            assert_eq!(remote(text), wanted);
        }
    }
}

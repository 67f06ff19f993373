//! The formats of /etc/hosts (hosts(5)) and /etc/resolv.conf (resolv.conf(5)). Pure.
//!
//! Start reading at [`ResolvConf::parse`] and [`addresses_in_hosts`]. Lines that cannot be read are passed over, as the
//! C library does; options that a resolver of registries has no use for are ignored.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// glibc's MAXNS.
const MAX_SERVERS: usize = 3;
/// glibc's RES_MAXNDOTS.
const MAX_NDOTS: usize = 15;
const DNS_PORT: u16 = 53;

/// What /etc/resolv.conf says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<SocketAddr>,
    pub(super) search: Vec<String>,
    pub(super) ndots: usize,
    pub(super) timeout: Duration,
    pub(super) attempts: usize,
    pub(super) use_tcp: bool,
}

impl ResolvConf {
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            use_tcp: false,
        };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(parse_server)),
                // The last of several lines counts; `domain` is a search list of one.
                Some("search" | "domain") => {
                    conf.search =
                        words.map(|domain| domain.trim_end_matches('.').to_ascii_lowercase()).collect();
                }
                Some("options") => words.for_each(|option| conf.apply_option(option)),
                _ => {}
            }
        }
        conf.servers.truncate(MAX_SERVERS);
        if conf.servers.is_empty() {
            conf.servers.push((Ipv4Addr::LOCALHOST, DNS_PORT).into());
        }
        conf
    }

    fn apply_option(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        let number = value.parse::<usize>().ok();
        match (name, number) {
            ("ndots", Some(number)) => self.ndots = number.min(MAX_NDOTS),
            ("timeout", Some(number)) => self.timeout = Duration::from_secs(number.clamp(1, 30) as u64),
            ("attempts", Some(number)) => self.attempts = number.clamp(1, 5),
            ("use-vc", None) => self.use_tcp = true,
            _ => {}
        }
    }

    /// The complete names to ask for, in order: as it is first if it has enough dots, else last.
    pub(super) fn candidates(&self, host: &str) -> Vec<String> {
        let in_search =
            self.search.iter().filter(|domain| !domain.is_empty()).map(|domain| format!("{host}.{domain}"));
        let is_complete = host.bytes().filter(|byte| *byte == b'.').count() >= self.ndots;
        let as_is = || std::iter::once(host.to_owned());
        if is_complete { as_is().chain(in_search).collect() } else { in_search.chain(as_is()).collect() }
    }

    /// Every server, as often as there are attempts.
    pub(super) fn servers_by_attempt(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        (0..self.attempts).flat_map(|_| self.servers.iter().copied())
    }
}

/// An address, or (for tests and odd set-ups) an address with a port.
fn parse_server(text: &str) -> Option<SocketAddr> {
    let without_scope = text.split('%').next().unwrap_or(text);
    match without_scope.parse::<IpAddr>() {
        Ok(address) => Some((address, DNS_PORT).into()),
        Err(_) => text.parse().ok(),
    }
}

/// All addresses that /etc/hosts gives a name, in the order of the file.
pub(super) fn addresses_in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|name| name.trim_end_matches('.').eq_ignore_ascii_case(host)) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_search_and_options_are_read() {
        let conf = ResolvConf::parse(
            "# by hand\nnameserver 10.0.0.1 # first\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver 127.0.0.1:5353\n\
             domain old.example\nsearch a.example. B.example\noptions ndots:2 timeout:1 attempts:9 use-vc rotate\n",
        );
        assert_eq!(
            conf.servers,
            ["10.0.0.1:53", "[fe80::1]:53", "127.0.0.1:5353"].map(|s| s.parse().unwrap())
        );
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts, conf.use_tcp), (2, 1, 5, true));
        assert_eq!(ResolvConf::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn short_names_are_searched_first_and_long_ones_last() {
        let conf = ResolvConf::parse("search a.example b.example\noptions ndots:2");
        assert_eq!(conf.candidates("reg"), ["reg.a.example", "reg.b.example", "reg"]);
        assert_eq!(conf.candidates("reg.x"), ["reg.x.a.example", "reg.x.b.example", "reg.x"]);
        assert_eq!(conf.candidates("q.reg.x"), ["q.reg.x", "q.reg.x.a.example", "q.reg.x.b.example"]);
    }

    #[test]
    fn hosts_give_every_address_of_a_name() {
        let text = "127.0.0.1 localhost\n::1 localhost ip6-localhost\nbad line\n10.0.0.9 Reg.Example alias # comment reg2\n";
        assert_eq!(addresses_in_hosts(text, "localhost").len(), 2);
        assert_eq!(addresses_in_hosts(text, "reg.example"), ["10.0.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses_in_hosts(text, "alias").len(), 1);
        assert!(addresses_in_hosts(text, "reg2").is_empty());
    }
}

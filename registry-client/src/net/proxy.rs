//! Which way to a host: directly or by a proxy. Pure.
//!
//! Start reading at [`ProxyRules::choose`]. The rules are those of Go's httpproxy, because administrators have written
//! their NO_PROXY for it. Speaking to the proxy is `connect.rs`. SOCKS is not spoken.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderValue, Uri};
use ipnet::IpNet;

use super::url::{bare_host, is_https, port_of};
use crate::config::{ConfigError, Proxies, mask_userinfo};

/// The administrator's proxies, read and checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProxyRules {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Direct>,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Where it listens; `https` if it is itself spoken to by TLS.
    pub(crate) uri: Uri,
    /// The value of `Proxy-Authorization`, marked as sensitive.
    pub(crate) authorization: Option<HeaderValue>,
}

/// What is reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Direct {
    Everything,
    Network(IpNet),
    /// A name and all below it, or (with `is_suffix_only`) only what is below it.
    Domain {
        name: String,
        port: Option<u16>,
        is_suffix_only: bool,
    },
    Address(IpAddr, Option<u16>),
}

impl ProxyRules {
    pub(crate) fn parse(proxies: &Proxies) -> Result<Self, ConfigError> {
        Ok(Self {
            http: parse_proxy(&proxies.http)?,
            https: parse_proxy(&proxies.https)?,
            direct: proxies.no_proxy.split(',').filter_map(parse_direct).collect(),
        })
    }

    /// The proxy for an address, if there is one.
    pub(crate) fn choose(&self, target: &Uri) -> Option<&Proxy> {
        let proxy = if is_https(target) { self.https.as_ref() } else { self.http.as_ref() }?;
        let host = bare_host(target.authority()?).to_ascii_lowercase();
        let port = port_of(target);
        let address = host.parse::<IpAddr>().ok();
        let is_local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let is_direct = is_local || self.direct.iter().any(|rule| rule.covers(&host, address, port));
        (!is_direct).then_some(proxy)
    }
}

impl Direct {
    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Self::Address(wanted, only) => address == Some(*wanted) && only.is_none_or(|only| only == port),
            Self::Domain { name, port: only, is_suffix_only } => {
                let is_below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                let is_itself = !is_suffix_only && host == name;
                (is_below || is_itself) && only.is_none_or(|only| only == port)
            }
        }
    }
}

fn parse_proxy(text: &str) -> Result<Option<Proxy>, ConfigError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || ConfigError::Proxy(mask_userinfo(text));
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let (userinfo, without_userinfo) = split_userinfo(&with_scheme);
    let uri: Uri = without_userinfo.parse().map_err(|_| wrong())?;
    let is_spoken = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_spoken || uri.host().is_none_or(str::is_empty) {
        return Err(wrong());
    }
    let authorization =
        userinfo.map(|userinfo| basic_authorization(&userinfo)).transpose().map_err(|_| wrong())?;
    Ok(Some(Proxy { uri, authorization }))
}

fn basic_authorization(userinfo: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let plain = format!("{}:{}", percent_decode(user), percent_decode(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(plain)))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Separates `user:password@` from the rest of an address.
fn split_userinfo(uri: &str) -> (Option<String>, String) {
    let Some((scheme, rest)) = uri.split_once("://") else { return (None, uri.to_owned()) };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((userinfo, host)) => (Some(userinfo.to_owned()), format!("{scheme}://{host}{}", &rest[end..])),
        None => (None, uri.to_owned()),
    }
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex_byte(*high, *low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

fn parse_direct(entry: &str) -> Option<Direct> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry.is_empty() {
        return None;
    }
    if entry == "*" {
        return Some(Direct::Everything);
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return Some(Direct::Network(network));
    }
    if let Ok(address) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(Direct::Address(address, None));
    }
    if let Ok(socket) = entry.parse::<std::net::SocketAddr>() {
        return Some(Direct::Address(socket.ip(), Some(socket.port())));
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (entry.as_str(), None),
    };
    let name = name.strip_prefix('*').unwrap_or(name);
    let is_suffix_only = name.starts_with('.');
    Some(Direct::Domain { name: name.trim_start_matches('.').to_owned(), port, is_suffix_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(no_proxy: &str) -> ProxyRules {
        let proxies = Proxies {
            http: "http://plain.example:3128".to_owned(),
            https: "https://us%40er:p%3Aw@tls.example".to_owned(),
            no_proxy: no_proxy.to_owned(),
        };
        ProxyRules::parse(&proxies).unwrap()
    }

    #[test]
    fn the_scheme_of_the_target_chooses_the_proxy() {
        let rules = rules("");
        let chosen = |target: &str| rules.choose(&target.parse().unwrap()).map(|proxy| proxy.uri.to_string());
        assert_eq!(chosen("http://reg.example/").as_deref(), Some("http://plain.example:3128/"));
        assert_eq!(chosen("https://reg.example/").as_deref(), Some("https://tls.example/"));
        for local in ["http://localhost:5000/", "https://127.0.0.2/", "https://[::1]:5000/"] {
            assert_eq!(chosen(local), None, "{local}");
        }
        assert!(ProxyRules::default().choose(&"https://reg.example/".parse().unwrap()).is_none());
    }

    #[test]
    fn no_proxy_means_what_it_means_in_go() {
        let rules = rules(
            "exact.example, .below.example,*.star.example,port.example:5000,10.0.0.0/8,192.0.2.1,[2001:db8::1]:443",
        );
        let is_direct = |target: &str| rules.choose(&target.parse().unwrap()).is_none();
        for target in [
            "https://exact.example/",
            "https://sub.EXACT.example/",
            "https://a.below.example/",
            "https://a.star.example/",
            "https://port.example:5000/",
            "https://10.1.2.3/",
            "https://192.0.2.1:5000/",
            "https://[2001:db8::1]/",
        ] {
            assert!(is_direct(target), "{target}");
        }
        for target in [
            "https://inexact.example/",
            "https://below.example/",
            "https://port.example/",
            "https://11.0.0.1/",
            "https://[2001:db8::1]:5000/",
        ] {
            assert!(!is_direct(target), "{target}");
        }
    }

    #[test]
    fn proxy_credentials_are_decoded_and_never_shown() {
        let rules = rules("");
        let proxy = rules.choose(&"https://reg.example/".parse().unwrap()).unwrap();
        assert_eq!(proxy.authorization.as_ref().unwrap(), "Basic dXNAZXI6cDp3");
        assert!(!format!("{proxy:?}").contains("dXNA"));
        let socks = Proxies { http: "socks5://u:secret@p".to_owned(), ..Proxies::default() };
        let message = ProxyRules::parse(&socks).unwrap_err().to_string();
        assert_eq!(message, r#"invalid proxy "socks5://u:xxxxx@p": must be an http:// or https:// URI"#);
    }
}

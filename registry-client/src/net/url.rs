//! Small questions about addresses: their parts, relative ones, how they are shown. Pure.
//!
//! Start reading at [`resolve_location`]. `http::Uri` holds the addresses; it neither resolves relative references nor
//! fills in ports, and that is all this file adds.

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

/// The port of an address, by its scheme if none is written.
pub(crate) fn port_of(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or_else(|| if is_https(uri) { 443 } else { 80 })
}

/// Whether an address asks for TLS.
pub(crate) fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// The host without the brackets of an IPv6 address.
pub(crate) fn bare_host(authority: &Authority) -> &str {
    authority.host().trim_start_matches('[').trim_end_matches(']')
}

/// Whether what stands behind the host is a port, if anything does. `http::uri` accepts any text there.
pub(crate) fn has_sane_port(authority: &Authority) -> bool {
    let after_userinfo = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port = after_userinfo.strip_prefix(authority.host()).unwrap_or_default();
    port.is_empty() || authority.port_u16().is_some()
}

/// Puts an address together.
pub(crate) fn build(scheme: &Scheme, authority: &Authority, path_and_query: &str) -> Option<Uri> {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme.clone());
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

/// The address that a `Location` header means, relative to the address of the request (RFC 3986, section 5).
///
/// `None` for anything that is not an `http` or `https` address with a host.
pub(crate) fn resolve_location(request: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = request.scheme()?;
    let authority = request.authority()?;
    let resolved = if let Some(after_scheme) = location.strip_prefix("//") {
        format!("{scheme}://{after_scheme}").parse().ok()?
    } else if location.starts_with('/') {
        build(scheme, authority, location)?
    } else if location.starts_with('?') {
        build(scheme, authority, &format!("{}{location}", request.path()))?
    } else if location.contains("://") {
        location.parse().ok()?
    } else {
        let directory = request.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        build(scheme, authority, &format!("{directory}/{location}"))?
    };
    is_absolute_http(&resolved).then_some(resolved)
}

/// Whether an address can be sent a request, and has nobody's name and password in it.
pub(crate) fn is_absolute_http(uri: &Uri) -> bool {
    let is_known = uri.scheme() == Some(&Scheme::HTTP) || is_https(uri);
    let is_plain = |authority: &Authority| {
        !authority.host().is_empty() && !authority.as_str().contains('@') && has_sane_port(authority)
    };
    is_known && uri.authority().is_some_and(is_plain)
}

/// Whether two addresses are served by the same party: credentials for one may go to the other.
pub(crate) fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    one.scheme() == other.scheme() && host(one) == host(other) && port_of(one) == port_of(other)
}

/// Adds parameters to the query, encoded.
pub(crate) fn with_query(uri: &Uri, parameters: &[(&str, &str)]) -> Option<Uri> {
    let mut path_and_query = uri.path().to_owned();
    let mut query = form_urlencoded::Serializer::new(uri.query().unwrap_or_default().to_owned());
    query.extend_pairs(parameters);
    let query = query.finish();
    if !query.is_empty() {
        path_and_query.push('?');
        path_and_query.push_str(&query);
    }
    build(uri.scheme()?, uri.authority()?, &path_and_query)
}

/// An address as errors show it: without the query, which may hold a signature or an upload's state.
pub(crate) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let authority = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{authority}{}", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn locations_are_resolved_against_the_request() {
        let request = uri("https://reg.example:5000/v2/a/blobs/uploads/?x=1");
        for (location, expected) in [
            ("https://cdn.example/b?sig=1", Some("https://cdn.example/b?sig=1")),
            ("http://cdn.example/b#frag", Some("http://cdn.example/b")),
            ("//cdn.example/b", Some("https://cdn.example/b")),
            ("/v2/up?state=1", Some("https://reg.example:5000/v2/up?state=1")),
            ("?digest=1", Some("https://reg.example:5000/v2/a/blobs/uploads/?digest=1")),
            ("uuid", Some("https://reg.example:5000/v2/a/blobs/uploads/uuid")),
            ("ftp://cdn.example/b", None),
            ("https://user:pw@cdn.example/", None),
            ("https://", None),
            ("https://cdn.example:port/", None),
            ("https://cdn.example:70000/", None),
            ("/with space", None),
        ] {
            assert_eq!(resolve_location(&request, location), expected.map(uri), "{location}");
        }
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        let base = uri("https://Reg.example/v2/");
        assert!(is_same_origin(&base, &uri("https://reg.example:443/x")));
        for other in ["http://reg.example/", "https://reg.example:444/", "https://reg.example.evil/"] {
            assert!(!is_same_origin(&base, &uri(other)), "{other}");
        }
    }

    #[test]
    fn queries_are_added_encoded_and_not_shown() {
        let full = with_query(
            &uri("https://t.example/token?a=b"),
            &[("scope", "repository:x/y:pull"), ("c", "d e")],
        )
        .unwrap();
        assert_eq!(full.to_string(), "https://t.example/token?a=b&scope=repository%3Ax%2Fy%3Apull&c=d+e");
        assert_eq!(shown(&full), "https://t.example/token");
    }
}

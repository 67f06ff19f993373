//! Files that are named by an address of their own: what `docker import URL` takes in.
//!
//! Start reading at [`Client::download`]. No registry is involved, but names are resolved, proxies chosen and certificates
//! checked as for one, by the same settings. Nothing is tried twice: the answer begins while it is being unpacked.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode, Uri};
use shoal_types::ErrorKind;

use crate::client::Client;
use crate::endpoint::Directory;
use crate::error::RegistryError;
use crate::net::connect::Connector;
use crate::net::transport::{Request, Response, Transport};
use crate::net::trust::Identity;
use crate::net::url::{is_absolute_http, is_https};

/// How much of what a server says with an error is shown.
const MAX_COMPLAINT: usize = 4 << 10;

/// A file that is being downloaded. Dropping it ends the download.
pub struct Download {
    response: Response,
}

impl Download {
    /// How long the file is, if the server says so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.response.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// The next piece, `None` at the end. A file that ends before its announced length, and a server that falls
    /// silent, are errors.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        self.response.chunk().await
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("url", &self.response.uri).finish_non_exhaustive()
    }
}

impl Client {
    /// Begins to download a file by `http` or `https`; an address without a scheme is one of `http`, as in dockerd.
    ///
    /// Redirects are followed; an error status is an error in dockerd's words.
    pub async fn download(&self, address: &str) -> Result<Download, RegistryError> {
        let uri = parse(address)?;
        let directory = self.directory();
        let transport = directory.transport_to(&uri).await?;
        let mut response = transport.send(Request::new(Method::GET, uri)).await?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let said = response.read_at_most(MAX_COMPLAINT).await.ok().flatten().unwrap_or_default();
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            return Err(RegistryError::FileStatus { address: address.to_owned(), status, said });
        }
        Ok(Download { response })
    }
}

impl Directory {
    /// A connection of its own to where the file is; nobody asks twice for the same.
    async fn transport_to(&self, uri: &Uri) -> Result<Transport, RegistryError> {
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let (tls, proxy_tls) = self.read_tls(authority, Identity::Proven).await?;
        let connector = Connector {
            resolver: Arc::clone(&self.resolver),
            proxies: Arc::clone(&self.proxies),
            tls,
            proxy_tls,
            only_networks: None,
            connect_timeout: self.config.timeouts.connect,
            tls_timeout: self.config.timeouts.tls_handshake,
        };
        Ok(Transport::new(connector, self.config.timeouts, self.user_agent.clone()))
    }
}

/// The kind of an error status, as dockerd sees it.
pub(crate) fn kind_of_status(status: StatusCode) -> ErrorKind {
    match status {
        StatusCode::NOT_FOUND => ErrorKind::NotFound,
        StatusCode::BAD_REQUEST => ErrorKind::InvalidArgument,
        StatusCode::UNAUTHORIZED => ErrorKind::Unauthorized,
        StatusCode::FORBIDDEN => ErrorKind::Forbidden,
        _ => ErrorKind::Internal,
    }
}

/// The address, with Go's words for what is none.
fn parse(address: &str) -> Result<Uri, RegistryError> {
    let whole = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let refused = |problem: String| RegistryError::InvalidRequest(format!("Get \"{whole}\": {problem}"));
    // A fragment is for whoever reads the file.
    let sent = whole.split('#').next().unwrap_or_default();
    if sent.ends_with("://") {
        return Err(refused("http: no Host in request URL".to_owned()));
    }
    let wrong = |error| RegistryError::InvalidRequest(format!("parse \"{whole}\": {error}"));
    let uri: Uri = sent.parse().map_err(wrong)?;
    if is_absolute_http(&uri) {
        return Ok(uri);
    }
    Err(match uri.scheme_str() {
        Some(scheme) if !is_https(&uri) && scheme != "http" => {
            refused(format!("unsupported protocol scheme \"{scheme}\""))
        }
        _ if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
            refused("credentials in the address are not sent".to_owned())
        }
        _ => refused("http: no Host in request URL".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_addresses_of_http_are_taken() {
        let cases = [
            ("http://a.example/x.tar", Ok("http://a.example/x.tar")),
            ("a.example:8080/x.tar#part", Ok("http://a.example:8080/x.tar")),
            ("https://a.example", Ok("https://a.example/")),
            ("ftp://a.example/x", Err("Get \"ftp://a.example/x\": unsupported protocol scheme \"ftp\"")),
            (
                "http://u:p@a.example/x",
                Err("Get \"http://u:p@a.example/x\": credentials in the address are not sent"),
            ),
        ];
        for (written, expected) in cases {
            let found = parse(written);
            match expected {
                Ok(uri) => assert_eq!(found.unwrap().to_string(), uri),
                Err(text) => assert_eq!(found.unwrap_err().to_string(), text),
            }
        }
        for nonsense in ["", "http://", "http:///x", "http://a b/", "file:///etc/passwd", "/etc/passwd"] {
            assert!(parse(nonsense).is_err(), "{nonsense}");
        }
    }
}

//! What `docker login` and `docker search` ask of a registry.
//!
//! Start reading at [`Client::login`] and [`Client::search`]. Neither concerns a repository, and neither goes to a
//! mirror. Texts are dockerd's (moby, daemon/pkg/registry).

use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;

use crate::auth::{Access, basic};
use crate::client::{Client, Login, SearchQuery, SearchResult};
use crate::config::DOCKER_HUB;
use crate::credentials::{Credentials, Secret};
use crate::endpoint::{Directory, Endpoint};
use crate::error::RegistryError;
use crate::failure::Failure;
use crate::hosts::{EndpointPlan, Purpose, Role, Security, parse_authority, security_of};
use crate::net::transport::Request;
use crate::net::url::with_query;

/// What dockerd answers.
const LOGIN_SUCCEEDED: &str = "Login Succeeded";
/// The other name of Docker Hub, in addresses for logins.
const HUB_INDEX: &str = "index.docker.io";
const MAX_SEARCH_ANSWER: usize = 4 << 20;
const DEFAULT_SEARCH_LIMIT: u32 = 25;

impl Client {
    /// Checks credentials as POST /auth does. `server_address` as in `AuthConfig`, empty for Docker Hub.
    pub async fn login(
        &self,
        server_address: &str,
        credentials: &Credentials,
    ) -> Result<Login, RegistryError> {
        let directory = self.directory();
        let domain = domain_of(server_address);
        let endpoints = directory.endpoints(&domain, Purpose::Push).await?;
        let endpoint = endpoints.first().ok_or_else(|| no_endpoint(&domain))?;
        let access = Access { credentials: credentials.clone(), scopes: Vec::new() };
        let refresh = match login_at(&directory, endpoint, &access).await {
            Ok(refresh) => refresh,
            Err(failure) => return Err(failure.error),
        };
        Ok(Login { status: LOGIN_SUCCEEDED, identity_token: refresh })
    }

    /// Searches Docker Hub, or another registry if the term begins with its name.
    pub async fn search(
        &self,
        query: &SearchQuery,
        credentials: &Credentials,
    ) -> Result<Vec<SearchResult>, RegistryError> {
        if query.term.contains("://") {
            let text =
                format!("invalid repository name: repository name ({}) should not have a scheme", query.term);
            return Err(RegistryError::InvalidRequest(text));
        }
        let limit = if query.limit == 0 { DEFAULT_SEARCH_LIMIT } else { query.limit };
        if limit > 100 {
            return Err(RegistryError::InvalidRequest(format!(
                "limit {limit} is outside the range of [1, 100]"
            )));
        }
        let directory = self.directory();
        let (domain, term) = split_term(&query.term);
        let endpoint = index_endpoint(&directory, domain).await?;
        endpoint.contact().await.map_err(|attempts| invalid_endpoint(&endpoint, &attempts))?;
        search_at(&directory, &endpoint, &Search { term, limit, credentials })
            .await
            .map_err(|failure| failure.error)
    }
}

/// One search, ready to be sent.
struct Search<'a> {
    term: &'a str,
    limit: u32,
    credentials: &'a Credentials,
}

#[derive(Deserialize)]
struct SearchAnswer {
    #[serde(default)]
    results: Option<Vec<SearchResult>>,
}

/// Gets a token if the registry has them, and asks for the API's root with what it wants to see.
async fn login_at(directory: &Directory, endpoint: &Endpoint, access: &Access) -> Result<Secret, Failure> {
    let base = endpoint.base().await?.clone();
    let mut request = Request::new(Method::GET, base.clone());
    let response = match endpoint.login(&directory.auth, access).await? {
        Some(grant) => {
            request.headers.insert(http::header::AUTHORIZATION, grant.access.clone());
            let response = endpoint.transport.send(request).await?;
            if response.status() == StatusCode::OK {
                return Ok(grant.refresh);
            }
            response.status()
        }
        None => match endpoint.exchange(&directory.auth, access, request).await {
            Ok(response) => response.status(),
            Err(Failure { status: Some(status), .. }) => status,
            Err(failure) => return Err(failure),
        },
    };
    if response == StatusCode::OK {
        return Ok(Secret::default());
    }
    Err(RegistryError::LoginStatus { url: base.to_string(), status: response }.into())
}

/// The registry's name in references, from any of the forms in which clients send it:
/// `https://index.docker.io/v1/`, `reg.example:5000`, `http://reg.example/v2/`.
fn domain_of(server_address: &str) -> String {
    let stripped = server_address.split_once("://").map_or(server_address, |(_, rest)| rest);
    let host = stripped.split('/').next().unwrap_or_default();
    match host {
        "" | HUB_INDEX | DOCKER_HUB => DOCKER_HUB.to_owned(),
        host => host.to_owned(),
    }
}

/// Separates the registry from the words, by dockerd's rule.
fn split_term(term: &str) -> (&str, &str) {
    let is_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    match term.split_once('/') {
        Some((first, rest)) if is_registry(first) => match first {
            HUB_INDEX | DOCKER_HUB => (DOCKER_HUB, official(rest)),
            first => (first, rest),
        },
        _ => (DOCKER_HUB, official(term)),
    }
}

fn official(term: &str) -> &str {
    term.strip_prefix("library/").unwrap_or(term)
}

/// The search API is the first version's, on Docker Hub at a host of its own.
async fn index_endpoint(
    directory: &Directory,
    domain: &str,
) -> Result<std::sync::Arc<Endpoint>, RegistryError> {
    let is_hub = domain == DOCKER_HUB;
    let host = if is_hub { directory.config.docker_hub.index.as_str() } else { domain };
    let authority: Authority = parse_authority(host)?;
    let security =
        if host == HUB_INDEX { Security::Secure } else { security_of(&directory.config, &authority) };
    let scheme: Option<Scheme> = (host == HUB_INDEX).then_some(Scheme::HTTPS);
    let plan = EndpointPlan { role: Role::Registry, authority, root: "/v1".to_owned(), scheme, security };
    directory.endpoint(plan).await.map_err(|(_, error)| error)
}

async fn search_at(
    directory: &Directory,
    endpoint: &Endpoint,
    search: &Search<'_>,
) -> Result<Vec<SearchResult>, Failure> {
    let uri: Uri = endpoint.uri("/search").await?;
    let limit = search.limit.to_string();
    let uri = with_query(&uri, &[("q", search.term), ("n", &limit)]);
    let uri = uri.ok_or_else(|| RegistryError::InvalidRequest("invalid search term".to_owned()))?;
    let mut request = Request::new(Method::GET, uri);
    request.headers.insert(HeaderName::from_static("x-docker-token"), HeaderValue::from_static("true"));
    let mut access = Access { credentials: search.credentials.clone(), scopes: Vec::new() };
    match &access.credentials {
        // The first version of the API wants them without asking; only over TLS, as dockerd.
        Credentials::Basic { username, password } if request.uri.scheme() == Some(&Scheme::HTTPS) => {
            let header = basic(username, password)
                .map_err(|failure| failure.for_request(&request.method, &request.uri))?;
            request.headers.insert(http::header::AUTHORIZATION, header);
        }
        _ => access.scopes.push("registry:catalog:search".to_owned()),
    }
    let mut response = match endpoint.exchange(&directory.auth, &access, request).await {
        Ok(response) => response,
        Err(Failure { status: Some(status), .. }) => {
            return Err(RegistryError::SearchStatus(status.as_u16()).into());
        }
        Err(failure) => return Err(failure),
    };
    let body = response.read_at_most(MAX_SEARCH_ANSWER).await?;
    let answer: Option<SearchAnswer> = body.and_then(|body| serde_json::from_slice(&body).ok());
    let answer = answer.ok_or_else(|| response.invalid("error decoding registry search results"))?;
    let mut results = answer.results.unwrap_or_default();
    results.truncate(usize::try_from(search.limit).unwrap_or(usize::MAX));
    Ok(results)
}

/// dockerd's texts, with its advice for a registry that is held to be secure.
fn invalid_endpoint(endpoint: &Endpoint, attempts: &[RegistryError]) -> RegistryError {
    let host = endpoint.authority.as_str();
    RegistryError::SearchEndpoint(match attempts {
        [secure, plain, ..] => {
            format!("\"http://{host}/v1/\". HTTPS attempt: {secure}. HTTP attempt: {plain}")
        }
        [only] => format!(
            "https://{host}/v1/: {only}. If this private registry supports only HTTP or HTTPS with an unknown CA \
             certificate, add `--insecure-registry {host}` to the daemon's arguments. In the case of HTTPS, if you have \
             access to the registry's CA certificate, no need for the flag; place the CA certificate at \
             /etc/docker/certs.d/{host}/ca.crt"
        ),
        [] => format!("{host:?}"),
    })
}

fn no_endpoint(domain: &str) -> RegistryError {
    RegistryError::InvalidRequest(format!("invalid registry address {domain:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses_name_registries() {
        for (address, domain) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("reg.example:5000", "reg.example:5000"),
            ("http://reg.example/v2/", "reg.example"),
        ] {
            assert_eq!(domain_of(address), domain, "{address}");
        }
    }

    #[test]
    fn search_terms_may_begin_with_a_registry() {
        for (term, split) in [
            ("redis", ("docker.io", "redis")),
            ("library/redis", ("docker.io", "redis")),
            ("bitnami/redis", ("docker.io", "bitnami/redis")),
            ("docker.io/library/redis", ("docker.io", "redis")),
            ("reg.example/a/b", ("reg.example", "a/b")),
            ("localhost/a", ("localhost", "a")),
        ] {
            assert_eq!(split_term(term), split, "{term}");
        }
    }
}

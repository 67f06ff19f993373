//! One address of one registry: first contact, authorised requests, and all endpoints that are in use.
//!
//! Start reading at [`Endpoint::exchange`]. An endpoint finds out by itself whether it is spoken to by TLS or plainly
//! and what it wants to see of credentials. [`Directory`] keeps endpoints for a short while, so that the layers of one
//! pull share connections. Which endpoints a registry has is decided in `hosts.rs`; which one is asked, and how often,
//! by the callers in `resolve.rs`, `pull.rs` and `push.rs`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::header::AUTHORIZATION;
use http::uri::Scheme;
use http::{HeaderValue, Method, StatusCode, Uri};
use ipnet::IpNet;
use tokio::sync::{OnceCell, Semaphore};

use crate::auth::challenge::{self, Challenge};
use crate::auth::{Access, AuthFailure, Authenticator, Counterpart, Grant};
use crate::config::RegistryConfig;
use crate::credentials::Credentials;
use crate::error::RegistryError;
use crate::failure::{Failure, refusal_of};
use crate::hosts::{EndpointPlan, Purpose, Role, Security, insecure_networks, plan};
use crate::net::connect::{Connector, OnlyNetworks};
use crate::net::dns::Resolver;
use crate::net::proxy::ProxyRules;
use crate::net::transport::{Payload, Request, Response, Transport};
use crate::net::trust::{Identity, SystemRoots, TrustInputs, client_config};
use crate::net::url::{bare_host, build, is_same_origin};

/// Endpoints that are kept. More than a node's registries; any user of the API can name new ones.
const MAX_ENDPOINTS: usize = 64;
/// What is read of the answer to the first request, so that its connection can be used again.
const MAX_PING_BODY: usize = 64 << 10;

/// Everything that the operations of one client share. Replaced as a whole when the settings change.
pub(crate) struct Directory {
    pub(crate) config: RegistryConfig,
    pub(crate) auth: Authenticator,
    /// Blobs being downloaded, of all pulls.
    pub(crate) downloads: Arc<Semaphore>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) proxies: Arc<ProxyRules>,
    networks: Arc<[IpNet]>,
    roots: Arc<SystemRoots>,
    pub(crate) user_agent: HeaderValue,
    open: Mutex<HashMap<EndpointPlan, (Instant, Arc<Endpoint>)>>,
}

impl Directory {
    /// Checks the settings. Opens nothing.
    pub(crate) fn new(config: RegistryConfig) -> Result<Self, RegistryError> {
        let user_agent = HeaderValue::try_from(config.user_agent.as_str())
            .map_err(|_| RegistryError::InvalidRequest("invalid user agent".to_owned()))?;
        Ok(Self {
            auth: Authenticator::default(),
            downloads: Arc::new(Semaphore::new(
                config.limits.downloads_overall.clamp(1, Semaphore::MAX_PERMITS),
            )),
            resolver: Arc::new(Resolver::new(config.name_service.clone())),
            proxies: Arc::new(ProxyRules::parse(&config.proxies)?),
            networks: insecure_networks(&config),
            roots: Arc::default(),
            user_agent,
            open: Mutex::default(),
            config,
        })
    }

    /// The endpoints of a registry, best first. A mirror that cannot be set up is passed over.
    pub(crate) async fn endpoints(
        &self,
        domain: &str,
        purpose: Purpose,
    ) -> Result<Vec<Arc<Endpoint>>, RegistryError> {
        let mut endpoints = Vec::new();
        for plan in plan(&self.config, domain, purpose)? {
            match self.endpoint(plan).await {
                Ok(endpoint) => endpoints.push(endpoint),
                Err((Role::Mirror, error)) => {
                    tracing::warn!(registry = domain, error = %error, "cannot use a mirror");
                }
                Err((Role::Registry, error)) => return Err(error),
            }
        }
        Ok(endpoints)
    }

    /// One endpoint, open already or opened now. Reopened after a while, so that new certificates are seen.
    pub(crate) async fn endpoint(&self, plan: EndpointPlan) -> Result<Arc<Endpoint>, (Role, RegistryError)> {
        let keep = self.config.timeouts.idle_connection;
        if let Ok(open) = self.open.lock()
            && let Some((since, endpoint)) = open.get(&plan)
            && since.elapsed() < keep
        {
            return Ok(Arc::clone(endpoint));
        }
        let role = plan.role;
        let endpoint = Arc::new(self.open(plan.clone()).await.map_err(|error| (role, error))?);
        if let Ok(mut open) = self.open.lock() {
            if open.len() >= MAX_ENDPOINTS {
                open.retain(|_, (since, _)| since.elapsed() < keep);
            }
            if open.len() < MAX_ENDPOINTS {
                open.insert(plan, (Instant::now(), Arc::clone(&endpoint)));
            }
        }
        Ok(endpoint)
    }

    async fn open(&self, plan: EndpointPlan) -> Result<Endpoint, RegistryError> {
        let host = bare_host(&plan.authority).to_owned();
        let (identity, only_networks) = match plan.security {
            Security::Secure => (Identity::Proven, None),
            Security::Insecure => (Identity::Unproven, None),
            Security::ByAddress if self.is_in_insecure_network(&host).await => {
                (Identity::Unproven, Some(OnlyNetworks { host, networks: Arc::clone(&self.networks) }))
            }
            Security::ByAddress => (Identity::Proven, None),
        };
        let (tls, proxy_tls) = self.read_tls(plan.authority.as_str().to_owned(), identity).await?;
        let connector = Connector {
            resolver: Arc::clone(&self.resolver),
            proxies: Arc::clone(&self.proxies),
            tls,
            proxy_tls,
            only_networks,
            connect_timeout: self.config.timeouts.connect,
            tls_timeout: self.config.timeouts.tls_handshake,
        };
        let schemes = match (plan.scheme, identity) {
            (Some(scheme), _) => vec![scheme],
            (None, Identity::Proven) => vec![Scheme::HTTPS],
            (None, Identity::Unproven) => vec![Scheme::HTTPS, Scheme::HTTP],
        };
        Ok(Endpoint {
            role: plan.role,
            authority: plan.authority,
            ping_path: if plan.root.ends_with("/v1") { "_ping" } else { "" },
            root: plan.root,
            schemes,
            identity,
            transport: Transport::new(connector, self.config.timeouts, self.user_agent.clone()),
            base: OnceCell::new(),
            challenges: Mutex::default(),
            rests_until: Mutex::default(),
        })
    }

    /// As in dockerd, one address inside is enough, and a name without an address is outside.
    async fn is_in_insecure_network(&self, host: &str) -> bool {
        let addresses = self.resolver.lookup(host).await.unwrap_or_default();
        addresses.iter().any(|address| self.networks.iter().any(|network| network.contains(address)))
    }

    /// Reads certificates, off the async threads.
    pub(crate) async fn read_tls(
        &self,
        registry: String,
        identity: Identity,
    ) -> Result<TlsPair, RegistryError> {
        let roots = Arc::clone(&self.roots);
        let (certs_dirs, extra_ca_files) =
            (self.config.certs_dirs.clone(), self.config.extra_ca_files.clone());
        let read = move || {
            let own = TrustInputs {
                registry: &registry,
                identity,
                certs_dirs: &certs_dirs,
                extra_ca_files: &extra_ca_files,
            };
            let tls = Arc::new(client_config(own, &roots)?);
            // A proxy proves itself even if the registry behind it need not; the system's roots are only read if
            // there is somebody who is proven by them.
            let for_proxy = TrustInputs { identity: Identity::Proven, certs_dirs: &[], ..own };
            let proxy_tls = match identity {
                Identity::Proven => Arc::clone(&tls),
                Identity::Unproven => {
                    Arc::new(client_config(for_proxy, &roots).unwrap_or_else(|_| (*tls).clone()))
                }
            };
            Ok((tls, proxy_tls))
        };
        let joined = tokio::task::spawn_blocking(read).await;
        joined.map_err(|error| RegistryError::Certificate(format!("reading certificates: {error}")))?
    }
}

pub(crate) type TlsPair = (Arc<rustls::ClientConfig>, Arc<rustls::ClientConfig>);

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("config", &self.config).finish_non_exhaustive()
    }
}

/// One address of one registry.
pub(crate) struct Endpoint {
    pub(crate) role: Role,
    pub(crate) authority: http::uri::Authority,
    root: String,
    /// What is asked for below the root to see whether somebody is there.
    ping_path: &'static str,
    /// In the order in which they are tried.
    schemes: Vec<Scheme>,
    pub(crate) identity: Identity,
    pub(crate) transport: Transport,
    /// The address of the API, once somebody has answered there.
    base: OnceCell<Uri>,
    /// What the registry last wanted to see.
    challenges: Mutex<Vec<Challenge>>,
    rests_until: Mutex<Option<Instant>>,
}

impl Endpoint {
    /// The address of something below the API's root, such as `/library/busybox/manifests/latest`.
    pub(crate) async fn uri(&self, path: &str) -> Result<Uri, RegistryError> {
        let base = self.base().await?;
        let full = format!("{}{path}", base.path().trim_end_matches('/'));
        let parts = base.scheme().zip(base.authority());
        let uri = parts.and_then(|(scheme, authority)| build(scheme, authority, &full));
        uri.ok_or_else(|| RegistryError::InvalidRequest(format!("invalid path {path:?}")))
    }

    /// Sends a request with the authorisation that the registry wants; a response that is no success is a failure.
    ///
    /// If the registry rejects the authorisation (a token has expired, or another scope is wanted) and the request can
    /// be repeated, it is repeated once with a new one.
    pub(crate) async fn exchange(
        &self,
        auth: &Authenticator,
        access: &Access,
        request: Request,
    ) -> Result<Response, Failure> {
        let response = self.send_authorised(auth, access, request).await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal_of(response).await) }
    }

    async fn send_authorised(
        &self,
        auth: &Authenticator,
        access: &Access,
        mut request: Request,
    ) -> Result<Response, Failure> {
        let (method, uri) = (request.method.clone(), request.uri.clone());
        let access = self.visible_access(access);
        let base = self.base().await?;
        // An upload may go on at another party's address, which has no business with our credentials.
        let is_ours = is_same_origin(base, &uri);
        let known = if is_ours { self.challenges() } else { Vec::new() };
        let explain = |failure: AuthFailure| failure.for_request(&method, &uri);
        let authorization =
            auth.authorization(self.counterpart(&known), &access, None).await.map_err(explain)?;
        let repeat = match &request.payload {
            Payload::Bytes(bytes) if is_ours => Some((request.headers.clone(), bytes.clone())),
            Payload::Bytes(_) | Payload::Stream { .. } => None,
        };
        if let Some(authorization) = authorization.clone().filter(|_| is_ours) {
            request.headers.insert(AUTHORIZATION, authorization);
        }
        let response = self.transport.send(request).await?;
        // Whoever a redirect has led to does not say where our credentials are to be sent.
        let wanted = if is_same_origin(base, &response.uri) {
            challenge::parse(&response.headers)
        } else {
            Vec::new()
        };
        if response.status() != StatusCode::UNAUTHORIZED || wanted.is_empty() {
            return Ok(response);
        }
        self.learn(&wanted);
        let Some((headers, bytes)) = repeat else { return Ok(response) };
        let counterpart = self.counterpart(&wanted);
        let renewed =
            auth.authorization(counterpart, &access, authorization.as_ref()).await.map_err(explain)?;
        match renewed.filter(|renewed| Some(renewed) != authorization.as_ref()) {
            Some(renewed) => {
                let payload = Payload::Bytes(bytes);
                let mut request = Request { method: method.clone(), uri: uri.clone(), headers, payload };
                request.headers.insert(AUTHORIZATION, renewed);
                Ok(self.transport.send(request).await?)
            }
            None => Ok(response),
        }
    }

    /// Checks credentials with the token server, if there is one.
    pub(crate) async fn login(
        &self,
        auth: &Authenticator,
        access: &Access,
    ) -> Result<Option<Grant>, Failure> {
        let base = self.base().await?.clone();
        let challenges = self.challenges();
        let grant = auth.login(self.counterpart(&challenges), access).await;
        grant.map_err(|failure| failure.for_request(&Method::GET, &base))
    }

    fn counterpart<'a>(&'a self, challenges: &'a [Challenge]) -> Counterpart<'a> {
        Counterpart { transport: &self.transport, identity: self.identity, challenges }
    }

    /// A mirror is asked anonymously, as the credentials are the registry's, and by the names that repositories have
    /// there.
    fn visible_access(&self, access: &Access) -> Access {
        match self.role {
            Role::Registry => access.clone(),
            Role::Mirror => {
                let project = self.root.split_once("/v2/").map_or("", |(_, project)| project);
                let rename = |scope: &String| match scope.strip_prefix("repository:") {
                    Some(rest) if !project.is_empty() => format!("repository:{project}/{rest}"),
                    _ => scope.clone(),
                };
                let scopes = access.scopes.iter().map(rename).collect();
                Access { credentials: Credentials::Anonymous, scopes }
            }
        }
    }

    /// The address of the API. The first call asks for it, as dockerd's ping does, and so finds out the scheme and what
    /// the registry wants to see.
    pub(crate) async fn base(&self) -> Result<&Uri, RegistryError> {
        self.contact().await.map_err(|attempts| {
            let address = self.authority.as_str();
            let last = attempts.into_iter().next_back();
            last.unwrap_or_else(|| {
                RegistryError::InvalidRequest(format!("invalid registry address {address:?}"))
            })
        })
    }

    /// As [`Endpoint::base`], with the failures of all schemes that were tried.
    pub(crate) async fn contact(&self) -> Result<&Uri, Vec<RegistryError>> {
        self.base.get_or_try_init(|| self.ping()).await
    }

    async fn ping(&self) -> Result<Uri, Vec<RegistryError>> {
        let mut attempts = Vec::new();
        for scheme in &self.schemes {
            let path = format!("{}/{}", self.root, self.ping_path);
            let Some(uri) = build(scheme, &self.authority, &path) else { continue };
            match self.transport.send(Request::new(Method::GET, uri.clone())).await {
                Ok(mut response) => {
                    if response.status() == StatusCode::UNAUTHORIZED {
                        self.learn(&challenge::parse(&response.headers));
                    }
                    // Whatever the body says, somebody who speaks HTTP is there.
                    let _ = response.read_at_most(MAX_PING_BODY).await;
                    let base = build(scheme, &self.authority, &format!("{}/", self.root));
                    return base.ok_or(attempts);
                }
                Err(error) => {
                    tracing::debug!(endpoint = %uri, error = %error, "no answer from a registry endpoint");
                    attempts.push(error);
                }
            }
        }
        Err(attempts)
    }

    /// Remembers what the registry wants to see, but for the scope: that was one request's.
    fn learn(&self, wanted: &[Challenge]) {
        if let Ok(mut challenges) = self.challenges.lock() {
            *challenges = wanted.to_vec();
            challenges.iter_mut().for_each(|challenge| {
                challenge.parameters.remove("scope");
            });
        }
    }

    fn challenges(&self) -> Vec<Challenge> {
        self.challenges.lock().map(|challenges| challenges.clone()).unwrap_or_default()
    }

    /// Whether the endpoint failed a moment ago and others should be asked first.
    pub(crate) fn is_resting(&self) -> bool {
        self.rests_until.lock().is_ok_and(|until| until.is_some_and(|until| Instant::now() < until))
    }

    /// Passes the endpoint over for a while.
    pub(crate) fn rest(&self, time: std::time::Duration) {
        if let Ok(mut until) = self.rests_until.lock() {
            *until = Some(Instant::now() + time);
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("role", &self.role)
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

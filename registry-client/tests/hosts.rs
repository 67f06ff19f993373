//! Mirrors, redirects, schemes and names: which address is asked, and what it gets to see.

use std::collections::BTreeMap;

use http::Method;
use registry_client::testing::{Fault, FaultyRegistry, Gate, RawServer, Rule, TokenPolicy, TunnelProxy};
use registry_client::{
    Client, Credentials, DOCKER_HUB, DockerHub, InsecureRegistry, ManifestTarget, Mirror, NameService,
    Proxies, RegistryConfig,
};
use shoal_types::Platform;

use crate::support::{
    RecordingSink, SinkEvent, basic, image_ref, layer, noise, quick_client, quick_config, repository,
    small_image,
};

fn tag(name: &str) -> ManifestTarget {
    ManifestTarget::Tag(name.to_owned())
}

/// A client for which this registry is Docker Hub.
pub(crate) fn client_with_hub(registry: &FaultyRegistry) -> Client {
    client_with_mirrors(registry, DOCKER_HUB, &[])
}

fn client_with_mirrors(hub: &FaultyRegistry, domain: &str, mirrors: &[String]) -> Client {
    let mirrors = mirrors.iter().map(|text| Mirror::parse(text).unwrap()).collect();
    Client::new(RegistryConfig {
        docker_hub: DockerHub { registry: hub.host(), index: hub.host() },
        mirrors: BTreeMap::from([(domain.to_owned(), mirrors)]),
        ..quick_config()
    })
    .unwrap()
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_registry_last() {
    let (first, second, hub) =
        (FaultyRegistry::start().await, FaultyRegistry::start().await, FaultyRegistry::start().await);
    let image = small_image("amd64");
    second.put_image("library/app", "1", &image);
    hub.put_image("library/app", "1", &image);
    hub.put_image("library/app", "only-here", &image);
    let client = client_with_mirrors(&hub, DOCKER_HUB, &[first.url(), second.url()]);
    let repository = client.repository(&image_ref("app"), Credentials::Anonymous);
    repository.resolve(&tag("1"), &Platform::new("linux", "amd64", "")).await.unwrap();
    assert_eq!(first.requests_to(&Method::GET, "/manifests/").len(), 1);
    assert!(hub.requests().is_empty(), "{:?}", hub.requests());
    repository.fetch_manifest(&tag("only-here")).await.unwrap();
    assert_eq!(hub.requests_to(&Method::GET, "/manifests/").len(), 1);
}

#[tokio::test]
async fn any_registry_may_have_mirrors_below_any_path() {
    let (mirror, hub, origin) =
        (FaultyRegistry::start().await, FaultyRegistry::start().await, FaultyRegistry::start().await);
    let image = small_image("amd64");
    mirror.put_image("proxy/app", "1", &image);
    mirror.set_gate(Gate::Token(TokenPolicy { allows_anonymous_pull: true, ..TokenPolicy::default() }));
    let root = format!("{}/v2/proxy", mirror.url());
    let client = client_with_mirrors(&hub, &origin.host(), &[root]);
    let repository = client.repository(&origin.image_ref("app"), Credentials::Anonymous);
    assert_eq!(repository.fetch_manifest(&tag("1")).await.unwrap(), image.manifest);
    assert!(origin.requests().is_empty());
    let asked = &mirror.requests_to(&Method::GET, "/token")[0].path;
    assert_eq!(
        asked, "/token?service=test&scope=repository%3Aproxy%2Fapp%3Apull",
        "the name that it has there"
    );
}

#[tokio::test]
async fn a_mirror_that_breaks_off_or_lies_only_costs_time() {
    let (mirror, hub) = (FaultyRegistry::start().await, FaultyRegistry::start().await);
    let bytes = noise(2 << 20, 4);
    for (fault, events) in [
        (Fault::CutAfter(1 << 20), vec![SinkEvent::Commit]),
        (Fault::Corrupt, vec![SinkEvent::Restart, SinkEvent::Commit]),
        (Fault::Replace(noise(10, 1)), vec![SinkEvent::Restart, SinkEvent::Commit]),
        (Fault::status(500), vec![SinkEvent::Commit]),
        (Fault::Endless, vec![SinkEvent::Restart, SinkEvent::Commit]),
    ] {
        mirror.put_blob("library/app", bytes.clone());
        hub.put_blob("library/app", bytes.clone());
        mirror.spoil(Rule::once("/blobs/", fault.clone()));
        let client = client_with_mirrors(&hub, DOCKER_HUB, &[mirror.url()]);
        let repository = client.repository(&image_ref("app"), Credentials::Anonymous);
        let mut sink = RecordingSink::default();
        repository.fetch_blob(&layer(&bytes), &mut sink, &()).await.unwrap();
        assert!(sink.bytes == bytes, "{fault:?}");
        assert_eq!(sink.events, events, "{fault:?}");
    }
    let ranges: Vec<String> =
        hub.requests_to(&Method::GET, "/blobs/").iter().map(|it| it.header("range").to_owned()).collect();
    assert_eq!(ranges[0], "bytes=1048576-", "the registry goes on where the mirror broke off");
}

#[tokio::test]
async fn a_mirror_in_trouble_is_passed_over_for_a_while() {
    let (mirror, hub) = (FaultyRegistry::start().await, FaultyRegistry::start().await);
    hub.put_image("library/app", "1", &small_image("amd64"));
    mirror.spoil(Rule::always("/manifests/", Fault::status(500)));
    let client = client_with_mirrors(&hub, DOCKER_HUB, &[mirror.url()]);
    for _ in 0..3 {
        let repository = client.repository(&image_ref("app"), Credentials::Anonymous);
        repository.fetch_manifest(&tag("1")).await.unwrap();
    }
    assert_eq!(mirror.requests_to(&Method::GET, "/manifests/").len(), 1);
}

#[tokio::test]
async fn mirrors_never_see_credentials_and_are_never_pushed_to() {
    let (mirror, hub) = (FaultyRegistry::start().await, FaultyRegistry::start().await);
    let gate = || Gate::Basic { username: "user".to_owned(), password: "hunter2".to_owned() };
    mirror.set_gate(gate());
    hub.set_gate(gate());
    let image = small_image("amd64");
    hub.put_image("library/app", "1", &image);
    let client = client_with_mirrors(&hub, DOCKER_HUB, &[mirror.url()]);
    let repository = client.repository(&image_ref("app"), basic("user", "hunter2"));
    repository.fetch_manifest(&tag("1")).await.unwrap();
    repository.push_manifest(&image.manifest, &tag("2")).await.unwrap();
    assert!(mirror.requests().iter().all(|request| request.header("authorization").is_empty()));
    assert!(mirror.requests_to(&Method::PUT, "/").is_empty());
}

#[tokio::test]
async fn redirects_are_followed_without_credentials() {
    let (registry, cdn) = (FaultyRegistry::start().await, FaultyRegistry::start().await);
    registry.set_gate(Gate::Basic { username: "user".to_owned(), password: "hunter2".to_owned() });
    let bytes = noise(2 << 20, 4);
    registry.put_blob("app", bytes.clone());
    cdn.put_blob("app", bytes.clone());
    registry.spoil(Rule::always("/blobs/", Fault::Redirect(cdn.url())));
    cdn.spoil(Rule::once("/blobs/", Fault::CutAfter(1 << 20)));
    let repository = quick_client().repository(&registry.image_ref("app"), basic("user", "hunter2"));
    let mut sink = RecordingSink::default();
    repository.fetch_blob(&layer(&bytes), &mut sink, &()).await.unwrap();
    assert!(sink.bytes == bytes);
    let (asked, served) =
        (registry.requests_to(&Method::GET, "/blobs/"), cdn.requests_to(&Method::GET, "/blobs/"));
    assert!(asked.iter().all(|request| request.header("authorization").starts_with("Basic ")));
    assert!(served.iter().all(|request| request.header("authorization").is_empty()), "{served:?}");
    assert_eq!(served[1].header("range"), "bytes=1048576-");
}

#[tokio::test]
async fn endless_and_nonsensical_redirects_end_in_an_error() {
    let registry = FaultyRegistry::start().await;
    registry.put_image("app", "1", &small_image("amd64"));
    registry.spoil(Rule::always("/manifests/", Fault::Redirect(registry.url())));
    let error = repository(&registry, "app").fetch_manifest(&tag("1")).await.unwrap_err();
    assert!(error.to_string().ends_with("stopped after 10 redirects"), "{error}");

    let registry = FaultyRegistry::start().await;
    registry.spoil(Rule::always("/manifests/", Fault::Redirect("gopher://x".to_owned())));
    let error = repository(&registry, "app").fetch_manifest(&tag("1")).await.unwrap_err();
    assert!(error.to_string().ends_with("invalid redirect location"), "{error}");
}

/// An /etc/hosts of its own for a test.
pub(crate) fn names(entries: &str) -> (tempfile::TempDir, NameService) {
    let dir = tempfile::tempdir().unwrap();
    let service =
        NameService { hosts: dir.path().join("hosts"), resolv_conf: dir.path().join("resolv.conf") };
    std::fs::write(&service.hosts, entries).unwrap();
    (dir, service)
}

#[tokio::test]
async fn a_name_on_loopback_is_spoken_to_plainly() {
    let registry = FaultyRegistry::start().await;
    let image = small_image("amd64");
    registry.put_image("app", "1", &image);
    let port = registry.host().rsplit_once(':').unwrap().1.to_owned();
    // A name is as insecure as the address that it leads to.
    let (_dir, name_service) = names("127.0.0.1 reg.example\n");
    let client = Client::new(RegistryConfig { name_service, ..quick_config() }).unwrap();
    let repository =
        client.repository(&image_ref(&format!("reg.example:{port}/app")), Credentials::Anonymous);
    repository.fetch_manifest(&tag("1")).await.unwrap();
}

#[tokio::test]
async fn a_name_elsewhere_is_spoken_to_plainly_only_if_it_is_listed() {
    let registry = FaultyRegistry::start().await;
    registry.put_image("app", "1", &small_image("amd64"));
    let proxy = TunnelProxy::start(&registry.host()).await;
    let (_dir, name_service) = names("192.0.2.1 reg.example\n");
    let fetch = async |insecure_registries: Vec<InsecureRegistry>| {
        let proxies = Proxies { http: proxy.url(), https: proxy.url(), ..Proxies::default() };
        let config = RegistryConfig {
            name_service: name_service.clone(),
            insecure_registries,
            proxies,
            ..quick_config()
        };
        let repository =
            Client::new(config).unwrap().repository(&image_ref("reg.example/app"), Credentials::Anonymous);
        repository.fetch_manifest(&tag("1")).await
    };
    let error = fetch(Vec::new()).await.unwrap_err().to_string();
    assert_eq!(error, r#"Get "https://reg.example/v2/": http: server gave HTTP response to HTTPS client"#);
    for insecure in ["reg.example", "192.0.2.0/24"] {
        fetch(vec![InsecureRegistry::parse(insecure).unwrap()]).await.unwrap();
    }
}

#[tokio::test]
async fn unknown_names_read_as_gos() {
    let (_dir, mut name_service) = names("");
    name_service.resolv_conf = "/nonexistent".into();
    let client = Client::new(RegistryConfig { name_service, ..quick_config() }).unwrap();
    let repository = client.repository(&image_ref("nowhere.invalid/app"), Credentials::Anonymous);
    let error = repository.fetch_manifest(&tag("1")).await.unwrap_err().to_string();
    let expected = r#"Get "https://nowhere.invalid/v2/": dial tcp: lookup nowhere.invalid on 127.0.0.1:53: "#;
    assert!(error.starts_with(expected), "{error}");
}

#[tokio::test]
async fn new_settings_hold_for_all_clones_at_once() {
    let (mirror, hub) = (FaultyRegistry::start().await, FaultyRegistry::start().await);
    let image = small_image("amd64");
    hub.put_image("library/app", "1", &image);
    mirror.put_image("library/app", "1", &image);
    let client = client_with_hub(&hub);
    let clone = client.clone();
    let fetch =
        async || clone.repository(&image_ref("app"), Credentials::Anonymous).fetch_manifest(&tag("1")).await;
    fetch().await.unwrap();
    assert!(mirror.requests().is_empty());
    client
        .reload(RegistryConfig {
            docker_hub: DockerHub { registry: hub.host(), index: hub.host() },
            mirrors: BTreeMap::from([(DOCKER_HUB.to_owned(), vec![Mirror::parse(&mirror.url()).unwrap()])]),
            ..quick_config()
        })
        .unwrap();
    fetch().await.unwrap();
    assert_eq!(mirror.requests_to(&Method::GET, "/manifests/").len(), 1);
}

#[tokio::test]
async fn proxies_are_used_except_for_loopback() {
    let registry = FaultyRegistry::start().await;
    registry.put_image("app", "1", &small_image("amd64"));
    let proxy =
        RawServer::start(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n".to_vec())
            .await;
    let proxies = Proxies {
        http: format!("http://{}", proxy.host()),
        https: format!("http://{}", proxy.host()),
        no_proxy: "direct.example".to_owned(),
    };
    let (_dir, name_service) = names("127.0.0.1 direct.example\n");
    let client = Client::new(RegistryConfig { proxies, name_service, ..quick_config() }).unwrap();
    let fetch = async |reference: &str| {
        client.repository(&image_ref(reference), Credentials::Anonymous).fetch_manifest(&tag("1")).await
    };
    fetch(&format!("{}/app", registry.host())).await.unwrap();
    let port = registry.host().rsplit_once(':').unwrap().1.to_owned();
    fetch(&format!("direct.example:{port}/app")).await.unwrap();
    let error = fetch("proxied.example/app").await.unwrap_err();
    assert_eq!(error.to_string(), r#"Get "https://proxied.example/v2/": Proxy Authentication Required"#);
}

//! Tokens and passwords: who gets to see what, and how often it is asked for.

use http::Method;
use registry_client::testing::{Fault, FaultyRegistry, Gate, Rule, TokenPolicy};
use registry_client::{
    Client, Credentials, Limits, ManifestTarget, PushedBlob, RegistryConfig, RegistryError, Secret,
};
use shoal_types::ErrorKind;

use crate::support::{
    RecordingSink, basic, layer, noise, quick_client, quick_config, repository, small_image,
};

fn latest() -> ManifestTarget {
    ManifestTarget::Tag("latest".to_owned())
}

async fn registry_with(gate: Gate) -> FaultyRegistry {
    let registry = FaultyRegistry::start().await;
    registry.put_image("app", "latest", &small_image("amd64"));
    registry.set_gate(gate);
    registry
}

fn policy() -> TokenPolicy {
    TokenPolicy {
        users: [("user".to_owned(), "pass".to_owned())].into(),
        refresh_tokens: ["refresh-1".to_owned()].into(),
        ..TokenPolicy::default()
    }
}

fn n_tokens(registry: &FaultyRegistry) -> usize {
    registry.requests_to(&Method::GET, "/token").len() + registry.requests_to(&Method::POST, "/token").len()
}

#[tokio::test]
async fn basic_credentials_are_sent_when_wanted() {
    let registry =
        registry_with(Gate::Basic { username: "user".to_owned(), password: "pass".to_owned() }).await;
    let client = quick_client();
    let image = registry.image_ref("app");
    client.repository(&image, basic("user", "pass")).fetch_manifest(&latest()).await.unwrap();

    let error =
        client.repository(&image, Credentials::Anonymous).fetch_manifest(&latest()).await.unwrap_err();
    let expected =
        format!("Get \"http://{}/v2/app/manifests/latest\": no basic auth credentials", registry.host());
    assert_eq!(error.to_string(), expected);

    let error =
        client.repository(&image, basic("user", "wrong")).fetch_manifest(&latest()).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("unauthorized: authentication required", ErrorKind::Unauthorized)
    );
}

#[tokio::test]
async fn nothing_is_sent_to_a_registry_that_asks_for_nothing() {
    let registry = registry_with(Gate::Open).await;
    quick_client()
        .repository(&registry.image_ref("app"), basic("user", "pass"))
        .fetch_manifest(&latest())
        .await
        .unwrap();
    assert!(registry.requests().iter().all(|request| request.header("authorization").is_empty()));
}

#[tokio::test]
async fn one_token_serves_a_whole_pull() {
    let registry = registry_with(Gate::Token(policy())).await;
    let client = quick_client();
    let repository = client.repository(&registry.image_ref("app"), basic("user", "pass"));
    let manifest = repository.fetch_manifest(&latest()).await.unwrap();
    let layers = manifest.as_image().unwrap().layers.clone();
    let fetches = layers.iter().map(|blob| {
        let repository = repository.clone();
        async move { repository.fetch_blob(blob, &mut RecordingSink::default(), &()).await }
    });
    for fetch in fetches {
        fetch.await.unwrap();
    }
    assert_eq!(n_tokens(&registry), 1);
    let asked = &registry.requests_to(&Method::GET, "/token")[0];
    assert_eq!(asked.path, "/token?service=test&scope=repository%3Aapp%3Apull&account=user");
    assert!(asked.header("authorization").starts_with("Basic "));
    assert!(
        registry
            .requests()
            .iter()
            .filter(|it| it.path.contains("/app/"))
            .all(|it| it.header("authorization") == "Bearer token-1")
    );
}

#[tokio::test]
async fn tasks_that_need_the_same_token_wait_for_one_request() {
    let registry = registry_with(Gate::Token(policy())).await;
    let client = Client::new(RegistryConfig {
        limits: Limits { downloads_per_pull: 8, ..Limits::default() },
        ..quick_config()
    })
    .unwrap();
    let repository = client.repository(&registry.image_ref("app"), basic("user", "pass"));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let repository = repository.clone();
            tokio::spawn(async move { repository.fetch_manifest(&latest()).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(n_tokens(&registry), 1);
}

#[tokio::test]
async fn anonymous_tokens_are_fetched_without_credentials() {
    let registry = registry_with(Gate::Token(TokenPolicy { allows_anonymous_pull: true, ..policy() })).await;
    repository(&registry, "app").fetch_manifest(&latest()).await.unwrap();
    assert_eq!(registry.requests_to(&Method::GET, "/token")[0].header("authorization"), "");
}

#[tokio::test]
async fn a_repository_that_nobody_may_see_reads_as_dockerds() {
    let registry = registry_with(Gate::Token(policy())).await;
    let error = repository(&registry, "app").fetch_manifest(&latest()).await.unwrap_err();
    let expected = format!(
        "pull access denied for {}/app, repository does not exist or may require 'docker login': \
         denied: requested access to the resource is denied",
        registry.host()
    );
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::NotFound));
}

#[tokio::test]
async fn wrong_passwords_read_as_dockerds() {
    let registry = registry_with(Gate::Token(policy())).await;
    let repository = quick_client().repository(&registry.image_ref("app"), basic("user", "hunter2"));
    let error = repository.fetch_manifest(&latest()).await.unwrap_err();
    let expected = format!(
        "Get \"http://{}/v2/app/manifests/latest\": unauthorized: incorrect username or password",
        registry.host()
    );
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::Unauthorized));
}

#[tokio::test]
async fn identity_tokens_are_exchanged_by_oauth_2() {
    let registry = registry_with(Gate::Token(policy())).await;
    let identity = |token: &str| Credentials::Identity(Secret::new(token));
    let client = quick_client();
    client
        .repository(&registry.image_ref("app"), identity("refresh-1"))
        .fetch_manifest(&latest())
        .await
        .unwrap();
    let asked = &registry.requests_to(&Method::POST, "/token")[0];
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    let error =
        client.repository(&registry.image_ref("app"), identity("other")).fetch_manifest(&latest()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn registry_tokens_are_sent_as_they_are() {
    let registry = registry_with(Gate::Token(policy())).await;
    let token = Credentials::RegistryToken(Secret::new("given"));
    let repository = quick_client().repository(&registry.image_ref("app"), token);
    repository.fetch_manifest(&latest()).await.unwrap_err();
    assert_eq!(n_tokens(&registry), 0);
    assert!(
        registry
            .requests_to(&Method::GET, "/manifests/")
            .iter()
            .all(|it| it.header("authorization") == "Bearer given")
    );
}

#[tokio::test]
async fn a_token_that_dies_in_the_middle_is_renewed() {
    let registry = registry_with(Gate::Token(policy())).await;
    let bytes = noise(3 << 20, 1);
    registry.put_blob("app", bytes.clone());
    let repository = quick_client().repository(&registry.image_ref("app"), basic("user", "pass"));
    repository.fetch_manifest(&latest()).await.unwrap();
    registry.revoke_tokens();
    registry.spoil(Rule::once("/blobs/", Fault::refusal(401, "UNAUTHORIZED", "")));
    let mut sink = RecordingSink::default();
    let error = repository.fetch_blob(&layer(&bytes), &mut sink, &()).await;
    assert!(error.is_err(), "a refusal without a challenge is final");
    repository.fetch_blob(&layer(&bytes), &mut sink, &()).await.unwrap();
    assert!(sink.bytes == bytes);
    assert_eq!(n_tokens(&registry), 2);
}

#[tokio::test]
async fn a_token_that_the_registry_no_longer_likes_is_replaced() {
    let registry = registry_with(Gate::Token(TokenPolicy { announced_life: Some(3600), ..policy() })).await;
    let repository = quick_client().repository(&registry.image_ref("app"), basic("user", "pass"));
    repository.fetch_manifest(&latest()).await.unwrap();
    registry.revoke_tokens();
    repository.fetch_manifest(&latest()).await.unwrap();
    assert_eq!(n_tokens(&registry), 2);
}

#[tokio::test]
async fn a_mount_asks_for_both_repositories() {
    let registry = registry_with(Gate::Token(policy())).await;
    let bytes = noise(1000, 1);
    registry.put_blob("library/origin", bytes.clone());
    let repository = quick_client().repository(&registry.image_ref("app"), basic("user", "pass"));
    let pushed =
        repository.push_blob(&layer(&bytes), &bytes, &["library/origin".to_owned()], &()).await.unwrap();
    assert_eq!(pushed, PushedBlob::Mounted { from: "library/origin".to_owned() });
    let scopes: Vec<String> =
        registry.requests_to(&Method::GET, "/token").into_iter().map(|it| it.path).collect();
    assert!(
        scopes
            .iter()
            .any(|path| path.contains("library%2Forigin%3Apull") && path.contains("app%3Apull%2Cpush")),
        "{scopes:?}"
    );
}

#[tokio::test]
async fn a_token_for_one_repository_asks_for_no_other() {
    let registry = registry_with(Gate::Token(policy())).await;
    registry.put_image("other", "latest", &small_image("amd64"));
    let client = quick_client();
    for name in ["app", "other", "app", "other"] {
        registry.revoke_tokens();
        client
            .repository(&registry.image_ref(name), basic("user", "pass"))
            .fetch_manifest(&latest())
            .await
            .unwrap();
    }
    let asked: Vec<String> =
        registry.requests_to(&Method::GET, "/token").into_iter().map(|it| it.path).collect();
    assert!(asked.len() >= 2 && asked.iter().all(|path| path.matches("scope=").count() == 1), "{asked:?}");
}

#[tokio::test]
async fn whoever_a_redirect_leads_to_cannot_ask_for_credentials() {
    let (registry, thief) = (
        registry_with(Gate::Basic { username: "user".to_owned(), password: "pass".to_owned() }).await,
        FaultyRegistry::start().await,
    );
    thief.set_gate(Gate::Token(policy()));
    registry.spoil(Rule::always("/manifests/", Fault::Redirect(thief.url())));
    let repository = quick_client().repository(&registry.image_ref("app"), basic("user", "pass"));
    repository.fetch_manifest(&latest()).await.unwrap_err();
    assert!(!thief.requests().is_empty());
    assert!(
        thief
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_empty() && !request.path.contains("user"))
    );
}

#[tokio::test]
async fn useless_answers_of_token_servers_are_errors() {
    let cases = [
        ("{}", "authorization server did not include a token in the response"),
        ("[", "unable to decode token response: invalid JSON at line 1 column 1"),
        (r#"{"token":"a\nb"}"#, "token is not a header value"),
    ];
    for (body, problem) in cases {
        let registry = registry_with(Gate::Token(policy())).await;
        let fault = Fault::Status { code: 200, headers: Vec::new(), body: body.to_owned() };
        registry.spoil(Rule::always("/token", fault));
        let error = repository(&registry, "app").fetch_manifest(&latest()).await.unwrap_err();
        assert!(matches!(error, RegistryError::TokenServer { .. }), "{error}");
        assert!(error.to_string().ends_with(problem), "{error}");
    }
    let registry = registry_with(Gate::Token(policy())).await;
    registry.spoil(Rule::always("/token", Fault::Endless));
    let error = repository(&registry, "app").fetch_manifest(&latest()).await.unwrap_err();
    assert!(error.to_string().ends_with("too long"), "{error}");
}

#[tokio::test]
async fn a_token_server_in_trouble_is_asked_again() {
    let registry = registry_with(Gate::Token(TokenPolicy { allows_anonymous_pull: true, ..policy() })).await;
    registry.spoil(Rule::once("/token", Fault::status(503)));
    registry.spoil(Rule::once("/token", Fault::Hangup));
    repository(&registry, "app").fetch_manifest(&latest()).await.unwrap();
}

#[tokio::test]
async fn secrets_appear_in_no_error_and_no_debug_output() {
    let registry = registry_with(Gate::Token(policy())).await;
    let client = quick_client();
    for credentials in [
        basic("user", "hunter2"),
        Credentials::Identity(Secret::new("hunter2")),
        Credentials::RegistryToken(Secret::new("hunter2")),
    ] {
        let repository = client.repository(&registry.image_ref("app"), credentials);
        let error = repository.fetch_manifest(&latest()).await.unwrap_err();
        let shown = format!("{error} {error:?} {repository:?} {client:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMg"), "{shown}");
    }
}

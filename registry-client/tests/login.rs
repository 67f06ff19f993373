//! Logins and searches.

use http::Method;
use registry_client::testing::{Fault, FaultyRegistry, Gate, Rule, TokenPolicy};
use registry_client::{Credentials, SearchQuery, SearchResult};
use serde_json::json;
use shoal_types::ErrorKind;

use crate::hosts::client_with_hub;
use crate::support::{basic, quick_client};

fn token_gate() -> Gate {
    Gate::Token(TokenPolicy {
        users: [("user".to_owned(), "pass".to_owned())].into(),
        refresh_tokens: ["refresh-1".to_owned()].into(),
        ..TokenPolicy::default()
    })
}

#[tokio::test]
async fn a_login_gets_the_refresh_token() {
    let registry = FaultyRegistry::start().await;
    registry.set_gate(token_gate());
    let login = quick_client().login(&registry.host(), &basic("user", "pass")).await.unwrap();
    assert_eq!((login.status, login.identity_token.expose()), ("Login Succeeded", "refresh-1"));
    let asked = &registry.requests_to(&Method::GET, "/token")[0];
    assert_eq!(asked.path, "/token?service=test&offline_token=true&client_id=docker&account=user");
}

#[tokio::test]
async fn docker_hub_is_meant_by_its_old_address_and_by_none() {
    let registry = FaultyRegistry::start().await;
    registry.set_gate(token_gate());
    let client = client_with_hub(&registry);
    for address in ["", "https://index.docker.io/v1/", "docker.io"] {
        client.login(address, &basic("user", "pass")).await.unwrap();
    }
}

#[tokio::test]
async fn wrong_credentials_read_as_dockerds() {
    let registry = FaultyRegistry::start().await;
    registry.set_gate(token_gate());
    let host = registry.host();
    let error = quick_client().login(&host, &basic("user", "hunter2")).await.unwrap_err();
    let expected = format!("Get \"http://{host}/v2/\": unauthorized: incorrect username or password");
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::Unauthorized));

    registry.set_gate(Gate::Basic { username: "user".to_owned(), password: "pass".to_owned() });
    quick_client().login(&host, &basic("user", "pass")).await.unwrap();
    let error = quick_client().login(&host, &basic("user", "hunter2")).await.unwrap_err();
    let expected = format!("login attempt to http://{host}/v2/ failed with status: 401 Unauthorized");
    assert_eq!((error.to_string(), error.kind()), (expected, ErrorKind::Internal));
    let error = quick_client().login(&host, &Credentials::Anonymous).await.unwrap_err();
    assert_eq!(error.to_string(), format!("Get \"http://{host}/v2/\": no basic auth credentials"));
}

#[tokio::test]
async fn a_registry_without_a_gate_lets_everybody_in() {
    let registry = FaultyRegistry::start().await;
    let login = quick_client()
        .login(&format!("http://{}/v1/", registry.host()), &basic("user", "pass"))
        .await
        .unwrap();
    assert_eq!(login.identity_token.expose(), "");
}

#[tokio::test]
async fn a_dead_registry_reads_as_dockerds() {
    let error = quick_client().login("127.0.0.1:1", &basic("user", "pass")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused"#
    );
}

#[tokio::test]
async fn search_finds_what_the_registry_tells() {
    let registry = FaultyRegistry::start().await;
    registry.set_search_results(json!([
        {"name": "redis", "description": "a store", "star_count": 7, "is_official": true, "is_automated": false, "pull_count": 9},
        {"name": "user/redis"},
    ]));
    let client = client_with_hub(&registry);
    let query = |term: &str, limit| SearchQuery { term: term.to_owned(), limit };
    let found = client.search(&query("redis", 0), &Credentials::Anonymous).await.unwrap();
    assert_eq!(found.len(), 2);
    let expected = SearchResult {
        name: "redis".to_owned(),
        description: "a store".to_owned(),
        star_count: 7,
        is_official: true,
        is_automated: false,
    };
    assert_eq!(found[0], expected);
    let term = format!("{}/team/app&x=y", registry.host());
    client.search(&query(&term, 1), &Credentials::Anonymous).await.unwrap();
    let asked: Vec<String> =
        registry.requests_to(&Method::GET, "/v1/search").into_iter().map(|it| it.path).collect();
    assert_eq!(asked, ["/v1/search?q=redis&n=25", "/v1/search?q=team%2Fapp%26x%3Dy&n=1"]);
}

#[tokio::test]
async fn senseless_searches_are_refused() {
    let registry = FaultyRegistry::start().await;
    let client = client_with_hub(&registry);
    let search = async |term: &str, limit| {
        let query = SearchQuery { term: term.to_owned(), limit };
        client.search(&query, &Credentials::Anonymous).await.unwrap_err()
    };
    let error = search("https://x/y", 0).await;
    assert_eq!(
        error.to_string(),
        "invalid repository name: repository name (https://x/y) should not have a scheme"
    );
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(search("x", 101).await.to_string(), "limit 101 is outside the range of [1, 100]");
    registry.spoil(Rule::once("/v1/search", Fault::status(404)));
    assert_eq!(search("x", 1).await.to_string(), "unexpected status code 404");
}

#[tokio::test]
async fn a_search_where_nobody_answers_reads_as_dockerds() {
    let query = SearchQuery { term: "127.0.0.1:1/x".to_owned(), limit: 0 };
    let error = quick_client().search(&query, &Credentials::Anonymous).await.unwrap_err();
    let expected = concat!(
        r#"invalid registry endpoint "http://127.0.0.1:1/v1/". "#,
        r#"HTTPS attempt: Get "https://127.0.0.1:1/v1/_ping": dial tcp 127.0.0.1:1: connect: connection refused. "#,
        r#"HTTP attempt: Get "http://127.0.0.1:1/v1/_ping": dial tcp 127.0.0.1:1: connect: connection refused"#,
    );
    assert_eq!(error.to_string(), expected);
}

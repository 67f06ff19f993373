//! What nobody would think of: bytes, and JSON whose keys are known and whose values are anything.
//!
//! Start reading at [`try_out`].
#![cfg(test)]

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use proptest::prelude::*;

use super::World;

const TARGETS: [(&str, &str); 14] = [
    ("POST", "/containers/create"),
    ("POST", "/containers/one/update"),
    ("POST", "/containers/one/exec"),
    ("POST", "/networks/create"),
    ("POST", "/networks/n/connect"),
    ("POST", "/volumes/create"),
    ("POST", "/commit"),
    ("POST", "/auth"),
    ("GET", "/containers/json"),
    ("GET", "/images/json"),
    ("GET", "/events"),
    ("GET", "/containers/one/logs"),
    ("POST", "/images/create"),
    ("POST", "/containers/one/wait"),
];

/// Sends something to one of the targets.
fn try_out(target: usize, query: &str, header: &[u8], body: Vec<u8>) {
    let (method, path) = TARGETS[target % TARGETS.len()];
    let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let request = Request::builder()
        .method(method)
        .uri(format!("{path}?filters={query}&since={query}&tag={query}&platform={query}&condition={query}&limit={query}"))
        .header("content-type", "application/json")
        .header("content-length", body.len())
        .header("x-registry-auth", header);
    let Ok(request) = request.body(Full::from(Bytes::from(body))) else { return };
    let (runtime, world) =
        (tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(), World::new());
    runtime.block_on(async {
        // A wait or a stream that has begun need not end.
        let asked = world.try_out(request, "drawn at random");
        let _ = tokio::time::timeout(std::time::Duration::from_secs(60), asked).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_make_a_handler_fail(
        target in 0_usize..14,
        query in ".{0,40}",
        header in proptest::collection::vec(0x20_u8..0x7f, 0..40),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        try_out(target, &query, &header, body);
    }

    #[test]
    fn no_json_makes_a_handler_fail(target in 0_usize..14, value in json_like(), query in filters_like()) {
        try_out(target, &query, b"e30=", value.into_bytes());
    }
}

/// Documents whose keys are those that handlers look for, with values of any kind.
fn json_like() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| number.to_string()),
        "[a-z0-9:/,=.-]{0,12}".prop_map(|text| format!("{text:?}")),
    ];
    let key = prop_oneof![
        Just("Image"),
        Just("HostConfig"),
        Just("Binds"),
        Just("Mounts"),
        Just("Type"),
        Just("Target"),
        Just("Source"),
        Just("PortBindings"),
        Just("80/tcp"),
        Just("HostPort"),
        Just("Memory"),
        Just("RestartPolicy"),
        Just("Name"),
        Just("NetworkingConfig"),
        Just("EndpointsConfig"),
        Just("n"),
        Just("IPAMConfig"),
        Just("IPv4Address"),
        Just("Healthcheck"),
        Just("Test"),
        Just("Interval"),
        Just("ExposedPorts"),
        Just("Tmpfs"),
        Just("SecurityOpt"),
        Just("Cmd"),
        Just("IPAM"),
        Just("Config"),
        Just("Subnet"),
        Just("ConsoleSize"),
        Just("Sysctls"),
    ];
    leaf.prop_recursive(4, 48, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((key.clone(), inner), 0..5).prop_map(|pairs| {
                let pairs: Vec<String> =
                    pairs.into_iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

fn filters_like() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("label"),
        Just("status"),
        Just("until"),
        Just("publish"),
        Just("dangling"),
        Just("x")
    ];
    (name, "[a-z0-9=/.-]{0,10}").prop_map(|(name, value)| format!("{{{name:?}:[{value:?}]}}"))
}

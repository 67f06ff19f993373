//! The form of errors, and how requests are read.

use integration_cli::http::Request;
use integration_cli::session::DockerClient;
use integration_cli::{Test, cases};
use serde_json::json;

cases![
    an_unknown_route_is_404_page_not_found,
    a_wrong_method_is_404_and_never_405,
    a_trailing_slash_is_another_route,
    options_is_answered_everywhere,
    errors_keep_angle_brackets_and_ampersands,
    clients_print_the_message_and_not_the_json,
    a_body_must_say_that_it_is_json,
    a_charset_beside_the_json_content_type_is_fine,
    broken_json_is_refused,
    text_after_the_json_value_is_refused,
    unknown_fields_are_ignored_and_known_ones_match_in_any_case,
    a_request_without_a_body_where_one_is_needed_is_refused,
    query_booleans_are_true_for_everything_but_five_words,
    a_chunked_request_body_is_read,
];

fn an_unknown_route_is_404_page_not_found(t: &Test) {
    for path in ["/nope", "/v1.41/nope", "/v1.41/containers/x/nope", "/", "/v1.41"] {
        let reply = t.http().send(&Request::new("GET", path)).unwrap();
        reply.expect_error(404, "page not found");
    }
}

fn a_wrong_method_is_404_and_never_405(t: &Test) {
    for (method, path) in
        [("POST", "/info"), ("PUT", "/containers/json"), ("GET", "/containers/create"), ("PATCH", "/_ping")]
    {
        t.send(Request::new(method, path)).expect_error(404, "page not found");
    }
    t.send(Request::new("HEAD", "/info")).expect(404);
}

fn a_trailing_slash_is_another_route(t: &Test) {
    t.get("/info/").expect_error(404, "page not found");
    t.get("/containers/json/").expect_error(404, "page not found");
    // The one twin that exists.
    t.get("/networks/").expect(200);
}

fn options_is_answered_everywhere(t: &Test) {
    for path in ["/info", "/v1.41/nope"] {
        let reply = t.send(Request::new("OPTIONS", path)).expect(200);
        assert_eq!(reply.text(), "");
    }
}

fn errors_keep_angle_brackets_and_ampersands(t: &Test) {
    let reply = t.get("/containers/%3Cx%3E%26/json").expect(404);
    assert_eq!(reply.text(), "{\"message\":\"No such container: <x>&\"}\n");
}

fn clients_print_the_message_and_not_the_json(t: &Test) {
    for client in DockerClient::all() {
        let session = t.with_client(&client);
        let stderr = session.docker("rm no-such-container").fails(1);
        // 20.10 says "Error: No such container", because that client hides the daemon's prefix for 404.
        assert!(stderr.trim_end().ends_with("No such container: no-such-container"), "{client:?}: {stderr}");
        assert!(!stderr.contains('{'), "{client:?}: {stderr}");
    }
}

fn a_body_must_say_that_it_is_json(t: &Test) {
    let body = br#"{"Image":"busybox","Cmd":["true"]}"#.to_vec();
    let request = Request::new("POST", &format!("/containers/create?name={}", t.name("c")));
    let reply = t.send(request.clone().header("Content-Type", "text/plain").bytes(body.clone()));
    reply.expect_error_holding(400, "must be 'application/json'");
    assert!(reply.message().contains("text/plain"), "{reply:?}");
    let reply = t.send(request.bytes(body));
    // Newer daemons tell a header that cannot be read, such as none at all, from one of another type.
    reply.expect_error_holding(400, t.by_age("mime: no media type", "must be 'application/json'"));
}

fn a_charset_beside_the_json_content_type_is_fine(t: &Test) {
    let body = br#"{"Image":"busybox","Cmd":["true"]}"#.to_vec();
    let request = Request::new("POST", &format!("/containers/create?name={}", t.name("c")));
    t.send(request.header("Content-Type", "application/json; charset=utf-8").bytes(body)).expect(201);
}

fn broken_json_is_refused(t: &Test) {
    for body in ["{", "{\"Image\":", "[]", "\"busybox\"", "{\"Image\":7}"] {
        let request = Request::new("POST", "/containers/create").header("Content-Type", "application/json");
        let reply = t.send(request.bytes(body.as_bytes().to_vec()));
        // The reference lets decoding errors through as 500.
        let status = t.by_age(400, if body == "{\"Image\":7}" { reply.status } else { 500 });
        reply.expect_error_holding(status, "");
        if t.api_at_least(1, 42) {
            assert!(reply.message().starts_with("invalid JSON: "), "{reply:?}");
        }
    }
}

fn text_after_the_json_value_is_refused(t: &Test) {
    t.newer_than_reference(1, 42, "the reference reads the first value and forgets the rest");
    let request = Request::new("POST", "/containers/create").header("Content-Type", "application/json");
    let reply = t.send(request.bytes(br#"{"Image":"busybox"} {"Image":"busybox"}"#.to_vec()));
    reply.expect_error(400, "unexpected content after JSON");
}

fn unknown_fields_are_ignored_and_known_ones_match_in_any_case(t: &Test) {
    let container = t.create_json(&json!({
        "image": "busybox", "CMD": ["echo", "hi"], "labels": {"a": "b"}, "NoSuchField": {"x": 1},
        "hostconfig": {"memory": 67_108_864, "NanoCPUs": 500_000_000, "DNS": ["192.0.2.1"], "AlsoUnknown": []},
    }));
    let inspected = t.inspect(&container);
    assert_eq!(inspected["Config"]["Cmd"], json!(["echo", "hi"]));
    assert_eq!(inspected["Config"]["Labels"]["a"], "b");
    assert_eq!(inspected["HostConfig"]["Memory"], 67_108_864);
    assert_eq!(inspected["HostConfig"]["NanoCpus"], 500_000_000);
    assert_eq!(inspected["HostConfig"]["Dns"], json!(["192.0.2.1"]));
}

fn a_request_without_a_body_where_one_is_needed_is_refused(t: &Test) {
    let reply = t.post(&format!("/containers/create?name={}", t.name("c")));
    // The reference runs into the end of the body while decoding: 500 EOF.
    reply.expect_error_holding(t.by_age(400, 500), t.by_age("invalid JSON: EOF", "EOF"));
}

fn query_booleans_are_true_for_everything_but_five_words(t: &Test) {
    let container = t.create("busybox true");
    let listed = |value: &str| {
        let containers = t.get(&format!("/containers/json?all={value}")).expect(200).json();
        containers.as_array().unwrap().iter().any(|item| item["Id"] == container.id.as_str())
    };
    for truth in ["1", "true", "True", "yes", "2", "banana"] {
        assert!(listed(truth), "all={truth} lists a container that never ran");
    }
    for falsehood in ["", "0", "no", "NO", "false", "none", "%20false%20"] {
        assert!(!listed(falsehood), "all={falsehood} lists only running containers");
    }
}

fn a_chunked_request_body_is_read(t: &Test) {
    use std::io::Write;
    let mut stream = t.http().connect().unwrap();
    let name = t.name("c");
    let head = format!(
        "POST /v1.41/containers/create?name={name} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    for part in ["{\"Image\":\"busy", "box\",\"Cmd\":[\"true\"]}"] {
        stream.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).unwrap();
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let exchange = integration_cli::http::Exchange::read_head("POST chunked create", stream).unwrap();
    exchange.into_reply().unwrap().expect(201);
}

//! `/_ping`: where every client begins.

use integration_cli::http::Request;
use integration_cli::{Test, cases};

cases![get_answers_ok_and_the_version_headers, head_has_no_body];

fn get_answers_ok_and_the_version_headers(t: &Test) {
    let reply = t.get("/_ping").expect(200);
    assert_eq!(reply.text(), "OK");
}

fn head_has_no_body(t: &Test) {
    let reply = t.send(Request::new("HEAD", "/_ping")).expect(200);
    assert_eq!(reply.text(), "");
    assert_eq!(t.run("busybox echo hi").ok(), "hi");
}

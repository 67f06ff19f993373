//! `GET /images/{name}/history`.

use integration_cli::{Test, cases};
use serde_json::{Value, json};

use super::{id_of, own_image};

cases![
    layers_are_listed_newest_first,
    a_commit_adds_a_line_with_command_and_comment,
    a_missing_image_has_no_history
];

fn history(t: &Test, image: &str) -> Vec<Value> {
    t.get(&format!("/images/{image}/history")).expect(200).json().as_array().unwrap().clone()
}

fn layers_are_listed_newest_first(t: &Test) {
    let name = format!("{}:v1", t.name("img"));
    t.load(&[own_image(t, &name)]);
    let lines = history(t, &name);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["Id"], id_of(t, &name));
    assert_eq!(lines[0]["Tags"], json!([name]));
    assert_eq!(lines[0]["CreatedBy"], "layer 1 of a fixture");
    assert_eq!(lines[1]["CreatedBy"], "layer 0 of a fixture");
    assert_eq!((&lines[1]["Id"], &lines[1]["Tags"]), (&json!("<missing>"), &Value::Null));
    assert_eq!(lines[1]["Comment"], "");
    assert_eq!(lines[1]["Created"], 1_706_933_106);
    assert!(lines[1]["Size"].as_i64().unwrap() > 10_000, "{lines:?}");
}

fn a_commit_adds_a_line_with_command_and_comment(t: &Test) {
    let name = t.name("img");
    let container = t.start("busybox sh -c 'echo x > /file'");
    t.wait(&container);
    t.docker_args(&["commit", "-m", "a comment", "-a", "An Author", &container.name, &name]).ok();
    let lines = history(t, &name);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["CreatedBy"], "sh -c echo x > /file");
    assert_eq!(lines[0]["Comment"], "a comment");
    assert_eq!(super::inspect(t, &name)["Author"], "An Author");
    let shown =
        t.docker_args(&["history", "--format", "{{.Comment}}|{{.CreatedBy}}", "--no-trunc", &name]).ok();
    assert_eq!(shown.lines().next(), Some("a comment|sh -c echo x > /file"));
}

fn a_missing_image_has_no_history(t: &Test) {
    t.get("/images/no-such-image/history").expect_error_holding(404, "No such image: no-such-image");
}

//! Bodies of scripts that are no text: archives, images, and what only looks like them.

use crate::images;

/// The content type and the bytes of the body called `name`; panics when there is none of that name.
#[must_use]
pub fn named(name: &str) -> (&'static str, Vec<u8>) {
    let tar = |bytes: Vec<u8>| ("application/x-tar", bytes);
    match name {
        "empty" => ("application/json", Vec::new()),
        "huge" => ("application/json", format!("{{\"Image\": \"{}\"}}", "x".repeat(1 << 20)).into_bytes()),
        "deep" => ("application/json", [b"[".repeat(50_000), b"]".repeat(50_000)].concat()),
        "binary" => ("application/json", (0..=255).collect()),
        "no-tar" => tar(b"this is no archive".repeat(64)),
        "tar" => tar(images::tar_of(&[
            images::directory("made", 0o755),
            images::file("made/file", 0o640, "content\n").owned_by(7, 8),
            images::symlink("made/link", "file"),
        ])),
        "cut-tar" => {
            let mut cut = images::tar_of(&[images::file("cut", 0o644, "x".repeat(4096))]);
            cut.truncate(1024);
            tar(cut)
        }
        "image" => {
            tar(images::archive(&[images::Image::on_busybox("loaded:one", &serde_json::json!({}), &[])]))
        }
        _ => panic!("there is no body @{name}"),
    }
}

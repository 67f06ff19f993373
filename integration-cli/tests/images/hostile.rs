//! Archives made to do harm are refused, and nothing of them stays.

use integration_cli::http::Request;
use integration_cli::images::{
    Entry, Image, architecture, archive, directory, file, sha256, symlink, tar_of,
};
use integration_cli::{Reply, Test, cases};
use serde_json::json;

cases![
    a_layer_cannot_write_outside_its_root,
    a_layer_cannot_write_through_a_link,
    a_hard_link_out_of_the_root_is_refused,
    an_archive_cannot_be_read_outside_its_directory,
    a_whiteout_cannot_remove_outside_its_root,
    an_archive_of_nonsense_leaves_nothing,
    a_manifest_that_asks_for_missing_layers_is_refused,
];

fn load(t: &Test, image: Image) -> Reply {
    let request = Request::new("POST", "/images/load?quiet=1").header("Content-Type", "application/x-tar");
    t.send(request.bytes(archive(&[image])))
}

fn image(t: &Test, layers: Vec<Vec<u8>>) -> (String, Image) {
    let name = format!("{}:latest", t.name("evil"));
    let image = Image {
        tags: vec![name.clone()],
        config: json!({}),
        layers,
        architecture: architecture().to_owned(),
    };
    (name, image)
}

/// A tar whose entry names are written as they are: the library would refuse these.
fn raw_tar(entries: &[(&str, u8, &str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, link, content) in entries {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"14527250000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = *kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(header);
        out.extend(*content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

/// Loads the image and asserts that it failed or did no harm: the file at `path` is as it was.
#[track_caller]
fn harmless(t: &Test, image: Image, path: &std::path::Path, before: &str) {
    let reply = load(t, image);
    let after = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(after, before, "{} was changed by {reply:?}", path.display());
}

fn a_layer_cannot_write_outside_its_root(t: &Test) {
    let victim = t.directory("victim").join("file");
    std::fs::write(&victim, "untouched").unwrap();
    let up = "../".repeat(30);
    for name in [
        format!("{up}{}", victim.display().to_string().trim_start_matches('/')),
        victim.display().to_string(),
    ] {
        let name = if name.len() > 99 { continue } else { name };
        let (_, evil) = image(t, vec![raw_tar(&[(&name, b'0', "", b"harm")])]);
        harmless(t, evil, &victim, "untouched");
    }
    let (_, evil) = image(t, vec![raw_tar(&[("../../../../escaped-from-test", b'0', "", b"harm")])]);
    load(t, evil);
    let found = t
        .host("find / -xdev -maxdepth 8 -name escaped-from-test 2>/dev/null | grep -v /diff/ | head -1")
        .stdout;
    assert_eq!(found, "");
}

fn a_layer_cannot_write_through_a_link(t: &Test) {
    let victim = t.directory("victim").join("file");
    std::fs::write(&victim, "untouched").unwrap();
    let directory_of = victim.parent().unwrap().to_str().unwrap().to_owned();
    // The link and what goes through it: in one layer, and in two.
    let link = || symlink("door", &directory_of);
    let through = || -> Entry { file("door/file", 0o644, "harm") };
    let (_, one) = image(t, vec![tar_of(&[link(), through()])]);
    harmless(t, one, &victim, "untouched");
    let (_, two) = image(t, vec![tar_of(&[link()]), tar_of(&[through()])]);
    harmless(t, two, &victim, "untouched");
}

fn a_hard_link_out_of_the_root_is_refused(t: &Test) {
    let victim = t.directory("victim").join("file");
    std::fs::write(&victim, "untouched").unwrap();
    let target = format!("../../../../../../../../../../../..{}", victim.display());
    if target.len() > 99 {
        return;
    }
    let (name, evil) = image(t, vec![raw_tar(&[("link", b'1', &target, b""), ("link", b'0', "", b"harm")])]);
    harmless(t, evil, &victim, "untouched");
    t.get(&format!("/images/{name}/json")).expect(404);
}

fn an_archive_cannot_be_read_outside_its_directory(t: &Test) {
    // The layer of the image is said to be a file of the machine.
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [sha256(b"")]},
    })
    .to_string();
    let name = format!("{}:latest", t.name("evil"));
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["../../../../../../../../../../etc/shadow"]}]);
    let evil = tar_of(&[
        file("config.json", 0o644, config.clone()),
        file("manifest.json", 0o644, manifest.to_string()),
    ]);
    let request = Request::new("POST", "/images/load?quiet=1").header("Content-Type", "application/x-tar");
    let reply = t.send(request.clone().bytes(evil));
    assert!(!reply.text().contains("Loaded image"), "{reply:?}");
    let link = tar_of(&[
        symlink("layer.tar", "/etc/shadow"),
        file("config.json", 0o644, config),
        file(
            "manifest.json",
            0o644,
            json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).to_string(),
        ),
    ]);
    let reply = t.send(request.bytes(link));
    assert!(!reply.text().contains("Loaded image"), "{reply:?}");
    t.get(&format!("/images/{name}/json")).expect(404);
}

fn a_whiteout_cannot_remove_outside_its_root(t: &Test) {
    let victim = t.directory("victim").join("file");
    std::fs::write(&victim, "untouched").unwrap();
    let directory_of = victim.parent().unwrap().to_str().unwrap().to_owned();
    let (_, evil) = image(
        t,
        vec![tar_of(&[symlink("door", &directory_of)]), tar_of(&[file("door/.wh.file", 0o644, "")])],
    );
    harmless(t, evil, &victim, "untouched");
    let (_, opaque) = image(
        t,
        vec![tar_of(&[symlink("door", &directory_of)]), tar_of(&[file("door/.wh..wh..opq", 0o644, "")])],
    );
    harmless(t, opaque, &victim, "untouched");
}

fn an_archive_of_nonsense_leaves_nothing(t: &Test) {
    let (name, evil) = image(t, vec![b"this is no tar".repeat(100)]);
    let reply = load(t, evil);
    assert!(!reply.text().contains("Loaded image"), "{reply:?}");
    t.get(&format!("/images/{name}/json")).expect(404);
    // A good image under the same name is loaded afterwards.
    let good = Image { layers: vec![tar_of(&[directory("d", 0o755)])], ..image(t, Vec::new()).1 };
    let tag = good.tags[0].clone();
    assert!(load(t, good).text().contains("Loaded image"));
    t.get(&format!("/images/{tag}/json")).expect(200);
}

fn a_manifest_that_asks_for_missing_layers_is_refused(t: &Test) {
    let name = format!("{}:latest", t.name("evil"));
    let config = json!({"architecture": architecture(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": [sha256(b"x")]}});
    for layers in [json!(["missing.tar"]), json!([])] {
        let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": layers}]);
        let evil = tar_of(&[
            file("config.json", 0o644, config.to_string()),
            file("manifest.json", 0o644, manifest.to_string()),
        ]);
        let request =
            Request::new("POST", "/images/load?quiet=1").header("Content-Type", "application/x-tar");
        let reply = t.send(request.bytes(evil));
        assert!(!reply.text().contains("Loaded image"), "{layers}: {reply:?}");
        t.get(&format!("/images/{name}/json")).expect(404);
    }
}

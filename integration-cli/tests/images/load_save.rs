//! `docker load` and `docker save`, alone and with skopeo on the other side.

use integration_cli::http::Request;
use integration_cli::images::{Image, archive, file, sha256, tar_of};
use integration_cli::process::{command, run};
use integration_cli::{Reply, Test, cases};
use serde_json::{Value, json};

use super::{id_of, inspect, own_image};

cases![
    load_says_what_it_loaded,
    several_images_come_from_one_archive,
    a_compressed_archive_is_loaded,
    an_image_survives_save_and_load,
    a_saved_archive_has_a_manifest_and_all_blobs,
    saving_by_id_saves_no_name,
    several_images_are_saved_into_one_archive,
    saving_a_missing_image_is_404,
    an_archive_without_a_manifest_is_refused_in_the_stream,
    a_torn_archive_is_refused_in_the_stream,
    a_layer_that_does_not_match_its_digest_is_refused,
    loading_again_moves_the_name,
    skopeo_reads_what_was_saved,
    what_skopeo_wrote_is_loaded,
    an_oci_layout_is_loaded,
    saving_and_loading_are_told_as_events,
];

fn load(t: &Test, archive: Vec<u8>) -> Reply {
    t.send(
        Request::new("POST", "/images/load?quiet=1")
            .header("Content-Type", "application/x-tar")
            .bytes(archive),
    )
}

fn load_says_what_it_loaded(t: &Test) {
    let name = format!("{}:v1", t.name("img"));
    let image = own_image(t, &name);
    let reply = load(t, archive(std::slice::from_ref(&image))).expect(200);
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    assert_eq!(reply.json_stream().last().unwrap()["stream"], format!("Loaded image: {name}\n"));
    let file = t.directory("archive").join("image.tar");
    std::fs::write(&file, archive(&[image])).unwrap();
    assert_eq!(t.docker(&format!("load -i {}", file.display())).ok(), format!("Loaded image: {name}"));
    let nameless = Image { tags: Vec::new(), ..own_image(t, &t.name("img")) };
    let said = load(t, archive(&[nameless])).expect(200).json_stream().last().unwrap()["stream"]
        .as_str()
        .unwrap()
        .to_owned();
    let id = said.trim_end().strip_prefix("Loaded image ID: ").unwrap_or_else(|| panic!("{said}")).to_owned();
    assert_eq!(inspect(t, &id)["RepoTags"], json!([]));
    t.docker(&format!("rmi {id}")).ok();
}

fn several_images_come_from_one_archive(t: &Test) {
    let names: Vec<String> = (0..3).map(|_| format!("{}:latest", t.name("img"))).collect();
    let images: Vec<Image> = names.iter().map(|name| own_image(t, name)).collect();
    let said = load(t, archive(&images)).expect(200).text();
    for name in &names {
        assert!(said.contains(&format!("Loaded image: {name}")), "{said}");
        inspect(t, name);
    }
}

fn a_compressed_archive_is_loaded(t: &Test) {
    use std::io::Write;
    let name = format!("{}:latest", t.name("img"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&archive(&[own_image(t, &name)])).unwrap();
    let said = load(t, encoder.finish().unwrap()).expect(200).text();
    assert!(said.contains(&format!("Loaded image: {name}")), "{said}");
}

fn save(t: &Test, images: &str) -> Vec<u8> {
    let file = t.directory("archive").join("saved.tar");
    t.docker(&format!("save -o {} {images}", file.display())).ok();
    std::fs::read(file).unwrap()
}

/// The regular files of a tar, by name.
fn files(archive: &[u8]) -> std::collections::BTreeMap<String, Vec<u8>> {
    use std::io::Read;
    let mut reader = tar::Archive::new(archive);
    let mut files = std::collections::BTreeMap::new();
    for entry in reader.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if entry.header().entry_type().is_file() {
            files.insert(path, content);
        }
    }
    files
}

fn an_image_survives_save_and_load(t: &Test) {
    let name = format!("{}:v1", t.name("img"));
    t.load(&[own_image(t, &name)]);
    let before = inspect(t, &name);
    let saved = save(t, &name);
    t.docker(&format!("rmi {name}")).ok();
    let said = load(t, saved).expect(200).text();
    assert!(said.contains(&format!("Loaded image: {name}")), "{said}");
    let after = inspect(t, &name);
    for key in ["Id", "RootFS", "Config", "Created", "Architecture"] {
        assert_eq!(after[key], before[key], "{key}");
    }
}

fn a_saved_archive_has_a_manifest_and_all_blobs(t: &Test) {
    let name = format!("{}:v1", t.name("img"));
    let image = own_image(t, &name);
    t.load(std::slice::from_ref(&image));
    let files = files(&save(t, &name));
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(manifest.as_array().unwrap().len(), 1);
    assert_eq!(manifest[0]["RepoTags"], json!([name]));
    let config = &files[manifest[0]["Config"].as_str().unwrap()];
    let config: Value = serde_json::from_slice(config).unwrap();
    assert_eq!(config["config"]["Labels"], json!({"of": t.prefix()}));
    let layers = manifest[0]["Layers"].as_array().unwrap();
    let digests: Vec<String> = layers.iter().map(|layer| sha256(&files[layer.as_str().unwrap()])).collect();
    // Layers are saved uncompressed, so that their digests are the diff ids.
    assert_eq!(json!(digests), config["rootfs"]["diff_ids"]);
}

fn saving_by_id_saves_no_name(t: &Test) {
    let name = t.name("img");
    t.load(&[own_image(t, &format!("{name}:latest"))]);
    let files = files(&save(t, &id_of(t, &name)));
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], Value::Null);
}

fn several_images_are_saved_into_one_archive(t: &Test) {
    let (one, two) = (format!("{}:latest", t.name("img")), format!("{}:latest", t.name("img")));
    t.load(&[own_image(t, &one), own_image(t, &two)]);
    let reply = t.get(&format!("/images/get?names={one}&names={two}")).expect(200);
    assert_eq!(reply.header("Content-Type"), Some("application/x-tar"));
    let manifest: Value = serde_json::from_slice(&files(&reply.body)["manifest.json"]).unwrap();
    let mut names: Vec<&str> =
        manifest.as_array().unwrap().iter().map(|image| image["RepoTags"][0].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, [one, two]);
}

fn saving_a_missing_image_is_404(t: &Test) {
    let reply = t.get("/images/no-such-image/get");
    // The reference words this one in its own way.
    assert_eq!(reply.status, 404, "{reply:?}");
    assert!(reply.message().contains("no-such-image"), "{reply:?}");
    t.docker("save no-such-image").fails_saying(1, "no-such-image");
}

fn in_stream_error(reply: Reply) -> String {
    let reply = reply.expect(200);
    let last = reply.json_stream().last().cloned().unwrap_or_else(|| panic!("{reply:?}"));
    assert_eq!(last["errorDetail"]["message"], last["error"], "{last}");
    last["error"].as_str().unwrap_or_else(|| panic!("{last}")).to_owned()
}

fn an_archive_without_a_manifest_is_refused_in_the_stream(t: &Test) {
    let reply = load(t, tar_of(&[file("hello", 0o644, "x")]));
    if reply.status == 200 && reply.body.is_empty() {
        // The reference takes it for an archive of the oldest form, which may be empty.
        assert!(!t.api_at_least(1, 42));
        return;
    }
    assert_ne!(in_stream_error(reply), "");
}

fn a_torn_archive_is_refused_in_the_stream(t: &Test) {
    let mut torn = archive(&[own_image(t, &format!("{}:latest", t.name("img")))]);
    torn.truncate(torn.len() / 2);
    let reply = load(t, torn);
    if reply.status == 200 {
        assert_ne!(in_stream_error(reply), "");
    } else {
        assert!(reply.status >= 400, "{reply:?}");
    }
    let reply = load(t, b"this is no archive at all".to_vec());
    if reply.status == 200 {
        assert_ne!(in_stream_error(reply), "");
    }
}

fn a_layer_that_does_not_match_its_digest_is_refused(t: &Test) {
    let name = format!("{}:latest", t.name("img"));
    let image = own_image(t, &name);
    let good = archive(std::slice::from_ref(&image));
    // One byte of a file in the first layer; the tar around it stays sound.
    let at = good
        .windows(5)
        .position(|window| window == b"t0-im" || window.starts_with(t.prefix().as_bytes()))
        .unwrap();
    let mut bad = good;
    bad[at] ^= 1;
    let error = in_stream_error(load(t, bad));
    let says_so = ["invalid diffID", "wrong diff id", "digest"].iter().any(|text| error.contains(text));
    assert!(says_so, "{error}");
    t.get(&format!("/images/{name}/json")).expect(404);
}

fn loading_again_moves_the_name(t: &Test) {
    let name = format!("{}:latest", t.name("img"));
    t.load(&[own_image(t, &name)]);
    let old = id_of(t, &name);
    let other = Image { config: json!({"Cmd": ["/other"]}), ..own_image(t, &name) };
    t.load(&[other]);
    assert_ne!(id_of(t, &name), old);
    assert_eq!(inspect(t, &old)["RepoTags"], json!([]));
    t.docker(&format!("rmi {old}")).ok();
}

fn skopeo(arguments: &[&str]) -> String {
    let mut skopeo = command("skopeo");
    skopeo.arg("--insecure-policy").args(arguments).env("HOME", "/root").env("TMPDIR", "/var/tmp");
    run(skopeo, b"").ok()
}

fn skopeo_reads_what_was_saved(t: &Test) {
    let name = format!("{}:v1", t.name("img"));
    let image = own_image(t, &name);
    t.load(std::slice::from_ref(&image));
    let directory = t.directory("archive");
    let saved = directory.join("saved.tar");
    std::fs::write(&saved, save(t, &name)).unwrap();
    let source = format!("docker-archive:{}", saved.display());
    let seen: Value = serde_json::from_str(&skopeo(&["inspect", "--config", &source])).unwrap();
    assert_eq!(seen["config"]["Labels"], json!({"of": t.prefix()}));
    skopeo(&["copy", "-q", &source, &format!("oci:{}:v1", directory.join("layout").display())]);
    assert!(directory.join("layout/index.json").exists());
}

fn what_skopeo_wrote_is_loaded(t: &Test) {
    let name = format!("{}:v1", t.name("img"));
    let image = own_image(t, &name);
    let directory = t.directory("archive");
    let (ours, theirs) = (directory.join("ours.tar"), directory.join("theirs.tar"));
    std::fs::write(&ours, archive(std::slice::from_ref(&image))).unwrap();
    skopeo(&[
        "copy",
        "-q",
        &format!("docker-archive:{}", ours.display()),
        &format!("docker-archive:{}:{name}", theirs.display()),
    ]);
    let said = t.docker(&format!("load -q -i {}", theirs.display())).ok();
    assert_eq!(said, format!("Loaded image: {name}"));
    assert_eq!(inspect(t, &name)["Config"]["Labels"], json!({"of": t.prefix()}));
}

fn an_oci_layout_is_loaded(t: &Test) {
    t.newer_than_reference(1, 44, "OCI archives in docker load");
    let name = format!("{}:v1", t.name("img"));
    let image = own_image(t, &name);
    let directory = t.directory("archive");
    let (ours, layout) = (directory.join("ours.tar"), directory.join("layout.tar"));
    std::fs::write(&ours, archive(std::slice::from_ref(&image))).unwrap();
    let target = format!("oci-archive:{}:docker.io/library/{name}", layout.display());
    skopeo(&["copy", "-q", &format!("docker-archive:{}", ours.display()), &target]);
    let said = t.docker(&format!("load -q -i {}", layout.display())).ok();
    assert!(said.contains("Loaded image"), "{said}");
}

fn saving_and_loading_are_told_as_events(t: &Test) {
    let name = format!("{}:v1", t.name("img"));
    t.load(&[own_image(t, &name)]);
    let id = id_of(t, &name);
    save(t, &name);
    let told = t.past_events(&json!({"type": ["image"]}));
    let about = |action: &str| {
        told.iter().any(|event| {
            event.action == action && (event.id == id || event.id == name || event.attribute("name") == name)
        })
    };
    assert!(about("load"), "{told:?}");
    assert!(about("save"), "{told:?}");
}

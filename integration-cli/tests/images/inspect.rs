//! `GET /images/{name}/json`.

use integration_cli::images::{CREATED, sha256};
use integration_cli::{Test, cases};
use serde_json::json;

use super::{id_of, inspect, own_image};

cases![
    inspect_describes_the_image,
    names_tags_ids_and_prefixes_find_an_image,
    a_missing_image_is_404,
    nonsense_is_refused,
    the_client_inspects_by_template,
];

fn inspect_describes_the_image(t: &Test) {
    let name = format!("{}:v1", t.name("img"));
    let image = own_image(t, &name);
    t.load(std::slice::from_ref(&image));
    let described = inspect(t, &name);
    assert_eq!(described["RepoTags"], json!([name]));
    assert_eq!(described["Os"], "linux");
    assert_eq!(described["Architecture"], integration_cli::images::architecture());
    assert_eq!(described["Created"], CREATED);
    assert_eq!(described["Config"]["Cmd"], json!(["/layer1"]));
    assert_eq!(described["Config"]["Labels"], json!({"of": t.prefix()}));
    let layers: Vec<String> = image.layers.iter().map(|layer| sha256(layer)).collect();
    assert_eq!(described["RootFS"], json!({"Type": "layers", "Layers": layers}));
    assert!(described["Size"].as_i64().unwrap() > 10_000);
    assert!(described["Id"].as_str().unwrap().starts_with("sha256:"));
    assert!(described["Metadata"]["LastTagTime"].is_string(), "{described}");
    if !t.api_at_least(1, 42) {
        // The classic store's id is the digest of the configuration; the containerd kind has the manifest's.
        assert_eq!(described["Id"], image.id());
    }
}

fn names_tags_ids_and_prefixes_find_an_image(t: &Test) {
    let name = t.name("img");
    t.load(&[own_image(t, &format!("{name}:latest"))]);
    let id = id_of(t, &name);
    let hex = &id[7..];
    for reference in [
        format!("{name}:latest"),
        format!("docker.io/library/{name}"),
        format!("docker.io/library/{name}:latest"),
        format!("library/{name}"),
        id.clone(),
        hex.to_owned(),
        hex[..12].to_owned(),
        format!("sha256:{}", &hex[..12]),
    ] {
        assert_eq!(id_of(t, &reference), id, "{reference}");
    }
}

fn a_missing_image_is_404(t: &Test) {
    t.get("/images/no-such-image/json").expect_error_holding(404, "No such image: no-such-image");
    t.get("/images/no-such-image:v1/json").expect_error_holding(404, "No such image: no-such-image:v1");
    let missing = format!("sha256:{}", "0".repeat(64));
    t.get(&format!("/images/{missing}/json")).expect_error_holding(404, "No such image");
    t.docker("image inspect no-such-image").fails_saying(1, "o such image: no-such-image");
}

fn nonsense_is_refused(t: &Test) {
    for name in ["UPPER", "a:b:c", "a@banana"] {
        let reply = t.get(&format!("/images/{name}/json"));
        // The reference takes some of them for names that are not there.
        let status = t.by_age(400, reply.status);
        assert!(matches!(reply.status, 400 | 404), "{reply:?}");
        reply.expect_error_holding(status, "");
    }
}

fn the_client_inspects_by_template(t: &Test) {
    let name = t.name("img");
    t.load(&[own_image(t, &format!("{name}:latest"))]);
    let shown =
        t.docker_args(&["inspect", "-f", "{{.Os}}/{{.Architecture}} {{index .RepoTags 0}}", &name]).ok();
    assert_eq!(shown, format!("linux/{} {name}:latest", integration_cli::images::architecture()));
}

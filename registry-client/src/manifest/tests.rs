//! What is read as a manifest and what is refused.

use proptest::prelude::*;
use shoal_types::Platform;

use super::*;

const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn descriptor(media_type: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{HEX}","size":7}}"#)
}

fn image(media_type: &str) -> String {
    let config = descriptor(media_type::OCI_CONFIG);
    let layer = descriptor(media_type::OCI_LAYER_GZIP);
    format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layer}]}}"#)
}

fn parse(declared: Option<&str>, json: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(declared, Bytes::copy_from_slice(json.as_bytes()))
}

#[test]
fn each_kind_is_recognised_by_its_own_or_its_declared_media_type() {
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    let bare = image("").replace(r#""mediaType":"","#, "");
    let cases = [
        (None, image(media_type::OCI_MANIFEST), ManifestKind::OciManifest),
        (Some("text/plain"), image(media_type::DOCKER_MANIFEST), ManifestKind::DockerManifest),
        (Some(media_type::OCI_MANIFEST), bare.clone(), ManifestKind::OciManifest),
        (
            Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
            bare.clone(),
            ManifestKind::OciManifest,
        ),
        (None, bare, ManifestKind::OciManifest),
        (Some(media_type::DOCKER_LIST), index.to_owned(), ManifestKind::DockerList),
        (None, index.to_owned(), ManifestKind::OciIndex),
    ];
    for (declared, json, kind) in cases {
        let manifest = parse(declared, &json).unwrap();
        assert_eq!(manifest.kind(), kind, "{declared:?} {json}");
        assert_eq!(manifest.descriptor.size, json.len() as u64);
        assert_eq!(&manifest.bytes[..], json.as_bytes());
    }
}

#[test]
fn documents_that_are_no_manifest_or_two_at_once_are_refused() {
    let both = image(media_type::OCI_MANIFEST).replace(r#""layers""#, r#""manifests":[],"layers""#);
    let schema1 = r#"{"schemaVersion":1,"fsLayers":[],"name":"x"}"#;
    let too_many = format!(r#"{{"schemaVersion":2,"manifests":[{}0]}}"#, "0,".repeat(MAX_DESCRIPTORS));
    let cases = [
        (None, "", "unsupported manifest format"),
        (None, "[]", "unsupported manifest format"),
        (None, "{}", "unsupported manifest format"),
        (None, both.as_str(), "unsupported manifest format"),
        (Some(media_type::OCI_INDEX), &image(media_type::OCI_MANIFEST), "unsupported manifest format"),
        (Some("text/html"), r#"{"a":1}"#, "unsupported media type text/html"),
        (None, &image("application/x-evil"), "unsupported media type application/x-evil"),
        (None, schema1, crate::SCHEMA1_TEXT),
        (Some(media_type::DOCKER_SCHEMA1_SIGNED), "{}", crate::SCHEMA1_TEXT),
        (None, &too_many, "manifest names 4097 blobs, more than the limit of 4096"),
    ];
    for (declared, json, message) in cases {
        assert_eq!(parse(declared, json).unwrap_err().to_string(), message, "{json:.100}");
    }
    let huge = Bytes::from(vec![b' '; MAX_MANIFEST_SIZE + 1]);
    assert!(matches!(Manifest::parse(None, huge), Err(ManifestError::TooLarge(_))));
}

#[test]
fn go_nulls_are_empty_and_foreign_digests_are_passed_over_in_an_index() {
    let sha512 = format!(r#"{{"digest":"sha512:{HEX}{HEX}","size":1}}"#);
    let readable = format!(
        r#"{{"mediaType":"{}","digest":"sha256:{HEX}","size":1,"urls":null,"annotations":null,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}}"#,
        media_type::OCI_MANIFEST
    );
    let manifest =
        parse(None, &format!(r#"{{"manifests":[{sha512},{readable}],"annotations":null}}"#)).unwrap();
    let index = manifest.as_index().unwrap();
    assert_eq!(index.manifests.len(), 1);
    let spec = index.manifests[0].platform.clone().unwrap();
    assert_eq!(spec.variant.as_deref(), Some("v8"));
    assert_eq!(spec.platform(), Platform::new("linux", "arm64", ""));
}

#[test]
fn the_best_platform_is_chosen_and_none_is_reported_in_dockers_words() {
    let entry = |n: u8, platform: &str| {
        format!(
            r#"{{"mediaType":"{}","digest":"sha256:{}","size":1,"platform":{platform}}}"#,
            media_type::OCI_MANIFEST,
            format!("{n:02x}").repeat(32)
        )
    };
    let entries = [
        entry(1, r#"{"os":"linux","architecture":"arm","variant":"v6"}"#),
        entry(2, r#"{"os":"unknown","architecture":"unknown"}"#),
        entry(3, r#"{"os":"linux","architecture":"arm","variant":"v7"}"#),
        entry(4, r#"{"os":"linux","architecture":"amd64"}"#),
    ];
    let manifest = parse(None, &format!(r#"{{"manifests":[{}]}}"#, entries.join(","))).unwrap();
    let index = manifest.as_index().unwrap();
    let chosen = |text: &str| {
        let platform: Platform = text.parse().unwrap();
        index.choose(&platform).map(|entry| entry.digest.as_bytes()[0]).map_err(|error| error.to_string())
    };
    assert_eq!(chosen("linux/amd64"), Ok(4));
    assert_eq!(chosen("linux/arm64"), Ok(3));
    assert_eq!(chosen("linux/arm/v6"), Ok(1));
    assert_eq!(
        chosen("linux/s390x"),
        Err("no matching manifest for linux/s390x in the manifest list entries".to_owned())
    );
}

#[test]
fn layers_say_how_they_are_packed() {
    let cases = [
        (media_type::OCI_LAYER, LayerCompression::None),
        (media_type::DOCKER_LAYER_GZIP, LayerCompression::Gzip),
        (media_type::OCI_LAYER_ZSTD, LayerCompression::Zstd),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", LayerCompression::Gzip),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", LayerCompression::Gzip),
        ("application/json", LayerCompression::Unknown),
    ];
    for (name, compression) in cases {
        assert_eq!(Descriptor::new(name, digest_of(b""), 0).compression(), compression, "{name}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = Manifest::parse(None, Bytes::from(bytes));
    }

    #[test]
    fn no_json_makes_the_reader_panic(key in "(schemaVersion|mediaType|layers|config|manifests|fsLayers)", value in "(null|-1|2|\"x\"|\\[\\]|\\[null\\]|\\{\\}|\\[\\{\"size\":-1\\}\\])") {
        let _ = Manifest::parse(None, Bytes::from(format!(r#"{{"{key}":{value}}}"#)));
        let _ = Manifest::parse(Some(media_type::OCI_INDEX), Bytes::from(format!(r#"{{"{key}":{value}}}"#)));
    }
}

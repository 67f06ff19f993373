//! Images: archives, tags, removal, registries.

mod attestations;
mod commit;
mod export_import;
mod history;
mod hostile;
mod inspect;
mod interop;
mod layers;
mod list;
mod load_save;
mod prune;
mod pull;
mod pull_access;
mod pull_faults;
mod push;
mod rm;
mod tag;

use integration_cli::images::{Entry, Image, architecture, file, tar_of};
use integration_cli::{Case, Session};
use serde_json::{Value, json};

pub(crate) fn cases() -> Vec<Case> {
    [
        attestations::cases(),
        commit::cases(),
        export_import::cases(),
        history::cases(),
        hostile::cases(),
        inspect::cases(),
        interop::cases(),
        layers::cases(),
        list::cases(),
        load_save::cases(),
        prune::cases(),
        pull::cases(),
        pull_access::cases(),
        pull_faults::cases(),
        push::cases(),
        rm::cases(),
        tag::cases(),
    ]
    .concat()
}

/// A small image that nobody else has: two layers whose content carries the test's own name.
fn own_image(t: &Session, tag: &str) -> Image {
    let layer = |number: u32| -> Vec<u8> {
        let text = format!("{} {tag} {number}\n", t.prefix()).repeat(2000);
        let entries: Vec<Entry> = vec![file(&format!("layer{number}"), 0o644, text)];
        tar_of(&entries)
    };
    Image {
        tags: vec![tag.to_owned()],
        config: json!({"Cmd": ["/layer1"], "Labels": {"of": t.prefix()}}),
        layers: vec![layer(1), layer(2)],
        architecture: architecture().to_owned(),
    }
}

/// Inspects an image.
#[track_caller]
fn inspect(t: &Session, image: &str) -> Value {
    t.get(&format!("/images/{image}/json")).expect(200).json()
}

/// The id of an image.
#[track_caller]
fn id_of(t: &Session, image: &str) -> String {
    inspect(t, image)["Id"].as_str().expect("an id").to_owned()
}

//! Records that an earlier version has written, or sends.
//!
//! Start reading at [`secret_as_before`].

use serde_json::{Value, json};
use shoal_types::SecretId;
use shoal_types::cluster::secret::{Secret, SecretSpec};

use super::super::network::SnapshotLine;
use super::super::types::{Entry, Proposal};
use crate::fixtures;
use crate::store::{Change, Object};

fn secret() -> Object {
    let spec = SecretSpec { name: "password".to_owned(), data: vec![0, 127, 255], ..SecretSpec::default() };
    Object::Secret(Secret { id: SecretId::from_u128(1), meta: fixtures::meta(), spec }.into())
}

/// The secret in JSON with its bytes as numbers, one by one.
fn secret_as_before() -> Value {
    let mut object = serde_json::to_value(secret()).unwrap();
    assert_eq!(object["secret"]["spec"]["data"], "AH//");
    object["secret"]["spec"]["data"] = json!([0, 127, 255]);
    object
}

#[test]
fn an_object_whose_bytes_are_numbers_is_read() {
    let read: Object = serde_json::from_value(secret_as_before()).unwrap();
    assert_eq!(read, secret());
}

#[test]
fn an_entry_of_the_log_whose_bytes_are_numbers_is_read() {
    let proposal = Proposal::from(vec![Change::Create(secret())]);
    let entry = Entry { payload: openraft::EntryPayload::Normal(proposal.clone()), ..Entry::default() };
    let mut written = serde_json::to_value(&entry).unwrap();
    written["payload"]["Normal"]["changes"][0]["create"] = secret_as_before();
    let read: Entry = serde_json::from_value(written).unwrap();
    let openraft::EntryPayload::Normal(read) = read.payload else { panic!("it is another payload") };
    assert_eq!(read, proposal);
}

#[test]
fn a_line_of_a_snapshot_whose_bytes_are_numbers_is_read() {
    let line = json!({ "object": secret_as_before() });
    let SnapshotLine::Object(read) = serde_json::from_value(line).unwrap() else {
        panic!("it is another line")
    };
    assert_eq!(read, secret());
}

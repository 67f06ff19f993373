//! The committed description and `coverage.toml` agree with the code.
#![cfg(test)]

use std::collections::BTreeSet;

use serde_json::Value;

#[test]
fn the_committed_description_is_up_to_date() {
    assert!(
        swagger::is_current(swagger::home()).unwrap(),
        "the description has changed: write it anew with `cargo xtask swagger generate`"
    );
}

#[test]
fn coverage_names_exactly_the_operations_that_are_refused() {
    let document = swagger::document(swagger::NEWEST);
    let mut refused = BTreeSet::new();
    let mut known = BTreeSet::new();
    for (_, methods) in document["paths"].as_object().unwrap() {
        for (_, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            if operation.get("x-shoal-support") == Some(&Value::from("refused")) {
                refused.insert(id.clone());
            }
            assert!(known.insert(id.clone()), "two operations are named {id}");
        }
    }
    let coverage = swagger::coverage().unwrap();
    assert_eq!(coverage.refused.keys().cloned().collect::<BTreeSet<_>>(), refused);
    for name in coverage.partial.keys() {
        assert!(known.contains(name), "coverage.toml names an operation that does not exist: {name}");
    }
}

#[test]
fn versions_have_the_fields_of_their_time() {
    let field = |minor: u16, schema: &str, name: &str| {
        swagger::document(minor)["components"]["schemas"][schema]["properties"].get(name).is_some()
    };
    for (schema, name, from, below) in [
        ("NetworkSettings", "IPAddress", 24, 52),
        ("EndpointSettings", "GwPriority", 48, 57),
        ("EndpointSettings", "DNSNames", 44, 57),
        ("ImageSummary", "VirtualSize", 24, 44),
        ("SystemInfo", "FirewallBackend", 49, 57),
    ] {
        for minor in [24, 43, 44, 47, 48, 49, 51, 52, 56] {
            assert_eq!(
                field(minor, schema, name),
                (from..below).contains(&minor),
                "{schema}.{name} in 1.{minor}"
            );
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn visit(document: &Value, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    assert!(document.pointer(&target[1..]).is_some(), "{target}");
                }
                map.values().for_each(|value| visit(document, value));
            }
            Value::Array(list) => list.iter().for_each(|value| visit(document, value)),
            _ => {}
        }
    }
    let document = swagger::document(swagger::NEWEST);
    visit(&document, &document);
}

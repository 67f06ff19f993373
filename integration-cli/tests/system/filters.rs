//! How filters are read, whatever they filter.

use integration_cli::session::with_filters;
use integration_cli::{Test, cases};
use serde_json::json;

cases![
    the_old_list_form_and_the_map_form_mean_the_same,
    filters_may_stand_in_the_query_as_they_are,
    a_value_mapped_to_false_counts_as_given,
    all_given_labels_must_match,
    several_values_of_one_key_are_alternatives,
    unknown_keys_are_refused_with_their_name,
    filters_that_are_no_json_are_refused,
    bad_values_are_refused_with_their_key,
];

fn the_old_list_form_and_the_map_form_mean_the_same(t: &Test) {
    let container = t.create("busybox true");
    let listed = t.list("/containers/json?all=1", &json!({"id": [container.id]}));
    let mapped = t.list("/containers/json?all=1", &json!({"id": {container.id: true}}));
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["Id"], mapped[0]["Id"]);
}

fn filters_may_stand_in_the_query_as_they_are(t: &Test) {
    let container = t.create("busybox true");
    // As scripts write it for curl: nothing is encoded.
    let reply =
        t.get(&format!("/containers/json?all=1&filters={{\"id\":[\"{}\"]}}", container.id)).expect(200);
    assert_eq!(reply.json()[0]["Id"], container.id);
    assert_eq!(reply.json().as_array().map(Vec::len), Some(1));
}

fn a_value_mapped_to_false_counts_as_given(t: &Test) {
    let container = t.create("busybox true");
    let mapped = t.list("/containers/json?all=1", &json!({"id": {container.id: false}}));
    assert_eq!(mapped.len(), 1, "{mapped:?}");
}

fn all_given_labels_must_match(t: &Test) {
    let both = t.create("--label team=red --label tier busybox true");
    let one = t.create("--label team=red busybox true");
    let named = |labels: serde_json::Value| {
        let filters = json!({"name": [t.prefix()], "label": labels});
        let mut ids: Vec<_> =
            t.list("/containers/json?all=1", &filters).iter().map(|c| c["Id"].to_string()).collect();
        ids.sort();
        ids
    };
    let mut expected = vec![json!(both.id).to_string(), json!(one.id).to_string()];
    expected.sort();
    assert_eq!(named(json!(["team=red"])), expected);
    assert_eq!(named(json!(["team"])), expected);
    assert_eq!(named(json!(["team=red", "tier"])), [json!(both.id).to_string()]);
    assert!(named(json!(["team=blue"])).is_empty());
}

fn several_values_of_one_key_are_alternatives(t: &Test) {
    let first = t.create("busybox true");
    let second = t.create("busybox true");
    t.create("busybox true");
    let found = t.list("/containers/json?all=1", &json!({"id": [first.id, second.id]}));
    assert_eq!(found.len(), 2);
}

fn unknown_keys_are_refused_with_their_name(t: &Test) {
    // Not those of events, which are not checked.
    for path in ["/containers/json", "/images/json", "/networks", "/volumes"] {
        let reply = t.get(&with_filters(path, &json!({"colour": ["red"]})));
        reply.expect_error(400, t.by_age("invalid filter 'colour'", "Invalid filter 'colour'"));
    }
}

fn filters_that_are_no_json_are_refused(t: &Test) {
    for path in ["/containers/json", "/images/json", "/networks", "/volumes"] {
        let reply = t.get(&format!("{path}?filters=banana"));
        // The reference answers with the decoder's words and, for most lists, 500.
        if t.api_at_least(1, 42) {
            reply.expect_error_holding(400, "invalid filter");
        } else {
            assert!(matches!(reply.status, 400 | 500), "{reply:?}");
            assert!(reply.message().contains("invalid character 'b'"), "{reply:?}");
        }
    }
}

fn bad_values_are_refused_with_their_key(t: &Test) {
    let reply = t.get(&with_filters("/networks", &json!({"dangling": ["banana"]})));
    reply.expect_error_holding(
        400,
        "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
    );
    for (path, key, reference) in [
        ("/containers/json", "status", "Invalid filter 'status=banana'"),
        ("/containers/json", "health", "Unrecognised filter value for health: banana"),
        ("/images/json", "dangling", "Invalid filter 'dangling=[banana]'"),
        ("/volumes", "dangling", "Invalid filter 'dangling=[banana]'"),
    ] {
        let reply = t.get(&with_filters(path, &json!({key: ["banana"]})));
        // Newer: `invalid filter 'status=[banana]'`, details may follow. The reference has a text for each kind.
        reply.expect_error_holding(400, &t.by_age(format!("invalid filter '{key}="), reference.to_owned()));
    }
}

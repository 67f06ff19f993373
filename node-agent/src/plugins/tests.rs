//! Plugins that answer, refuse, and are away.
//!
//! Start anywhere; `testing` has the plugin.

use serde_json::{Value, json};

use super::testing::FakePlugin;
use super::*;

fn volumes_only(method: &str, _: &Value) -> (u16, Value) {
    match method {
        "Plugin.Activate" => (200, json!({"Implements": ["VolumeDriver"]})),
        "Fails" => (500, json!({"Err": "it is broken"})),
        "Mutters" => (500, Value::String("no JSON".to_owned())),
        "Rambles" => (200, Value::String("no JSON".to_owned())),
        "Echo" => (200, json!({"Text": "x"})),
        _ => (404, json!({})),
    }
}

#[tokio::test]
async fn a_plugin_is_activated_once_and_serves_what_it_implements() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakePlugin::start(dir.path(), "vols", volumes_only);
    let plugins = fake.plugins();
    let plugin = plugins.get("vols", "VolumeDriver").await.unwrap();
    plugins.get("vols", "VolumeDriver").await.unwrap();
    let misfit = plugins.get("vols", "authz").await.unwrap_err();
    assert_eq!(misfit.to_string(), "plugin vols does not implement the requested interface authz");
    assert_eq!(fake.calls(), [("Plugin.Activate".to_owned(), Value::Null)]);
    assert_eq!(plugins.present("VolumeDriver").await, ["vols"]);
    assert!(plugins.present("authz").await.is_empty());
    let echoed: Value = plugin.call("Echo", &json!({"A": 1})).await.unwrap();
    assert_eq!(echoed, json!({"Text": "x"}));
    assert_eq!(fake.calls().pop(), Some(("Echo".to_owned(), json!({"A": 1}))));
}

#[tokio::test]
async fn failures_are_told_in_the_plugins_words() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakePlugin::start(dir.path(), "vols", volumes_only);
    let plugin = fake.plugins().get("vols", "VolumeDriver").await.unwrap();
    for (method, text) in
        [("Fails", "Fails: it is broken"), ("Mutters", "Mutters: no JSON"), ("Unknown", "Unknown: not found")]
    {
        let failed = plugin.call::<Value>(method, &()).await.unwrap_err();
        assert_eq!(failed.to_string(), text);
    }
    let failed = plugin.call::<Value>("Rambles", &()).await.unwrap_err();
    assert!(matches!(failed, PluginError::Nonsense { .. }), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_is_not_there_is_waited_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let plugins = Plugins::looking_in(vec![dir.path().to_owned()], Vec::new());
    let missing = plugins.get("vols", "VolumeDriver").await.unwrap_err();
    assert_eq!(
        (missing.kind(), missing.to_string().as_str()),
        (ErrorKind::NotFound, "plugin \"vols\" not found")
    );
    let plugin = Plugin::new("gone".to_owned(), client::address_of_nobody(dir.path()));
    let failed = plugin.call::<Value>("Echo", &()).await.unwrap_err();
    assert!(matches!(failed, PluginError::Unreachable { .. }), "{failed}");
}

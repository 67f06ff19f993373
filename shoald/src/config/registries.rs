//! What the configuration says of registries.
//!
//! Start reading at [`registry_settings`].

use std::collections::BTreeMap;

use super::{ConfigError, Settings};

/// Settings of registries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RegistrySettings {
    /// Mirrors of the default registry.
    pub(crate) mirrors: Vec<String>,
    /// Mirrors of other registries, from the file's key `shoal`.
    pub(crate) other_mirrors: BTreeMap<String, Vec<String>>,
    /// Registries, by name or network, without (proper) TLS.
    pub(crate) insecure: Vec<String>,
    /// Layers that one pull fetches at a time.
    pub(crate) concurrent_downloads: usize,
    /// Layers that one push sends at a time.
    pub(crate) concurrent_uploads: usize,
    /// Attempts to fetch a layer.
    pub(crate) download_attempts: u32,
    /// Proxies for HTTP, HTTPS, and hosts to reach without; empty takes the environment's.
    pub(crate) proxies: (String, String, String),
}

/// Makes sense of the settings.
pub(super) fn registry_settings(settings: &Settings) -> Result<RegistrySettings, ConfigError> {
    let count = |name: &str, default: i64| {
        let number = settings.int(name).unwrap_or(default);
        let wrong = || ConfigError::value(format!("invalid {}: {number}", name.replace('-', " ")));
        usize::try_from(number).ok().filter(|number| *number > 0).ok_or_else(wrong)
    };
    let proxy = |name: &str| settings.text(name).unwrap_or_default().to_owned();
    Ok(RegistrySettings {
        mirrors: settings.list("registry-mirrors"),
        other_mirrors: other_mirrors(settings)?,
        insecure: settings.list("insecure-registries"),
        concurrent_downloads: count("max-concurrent-downloads", 3)?,
        concurrent_uploads: count("max-concurrent-uploads", 5)?,
        download_attempts: u32::try_from(count("max-download-attempts", 5)?).unwrap_or(u32::MAX),
        proxies: (proxy("http-proxy"), proxy("https-proxy"), proxy("no-proxy")),
    })
}

/// `"shoal": {"registry-mirrors": {"quay.io": ["https://mirror"]}}`: what dockerd has no key for.
fn other_mirrors(settings: &Settings) -> Result<BTreeMap<String, Vec<String>>, ConfigError> {
    let Some(ours) = settings.get("shoal") else { return Ok(BTreeMap::new()) };
    let invalid = |what: &str| ConfigError::value(format!("invalid key shoal: {what}"));
    let ours = ours.as_object().ok_or_else(|| invalid("must be an object"))?;
    if let Some(unknown) = ours.keys().find(|key| *key != "registry-mirrors") {
        return Err(invalid(&format!("unknown key {unknown}")));
    }
    let Some(mirrors) = ours.get("registry-mirrors") else { return Ok(BTreeMap::new()) };
    serde_json::from_value(mirrors.clone()).map_err(|error| invalid(&format!("registry-mirrors: {error}")))
}

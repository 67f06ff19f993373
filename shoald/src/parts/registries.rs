//! Settings of registries.
//!
//! Start reading at [`registry_config`].

use registry_client::{ConfigError, DOCKER_HUB, InsecureRegistry, Mirror, Proxies, RegistryConfig};

use crate::config::Config;

/// What the configuration says to the registry client.
pub(crate) fn registry_config(config: &Config) -> Result<RegistryConfig, ConfigError> {
    let wanted = &config.registries;
    let mut registries = RegistryConfig::default();
    let parse =
        |texts: &[String]| texts.iter().map(|text| Mirror::parse(text)).collect::<Result<Vec<_>, _>>();
    for (registry, mirrors) in &wanted.other_mirrors {
        registries.mirrors.insert(registry.clone(), parse(mirrors)?);
    }
    if !wanted.mirrors.is_empty() {
        registries.mirrors.insert(DOCKER_HUB.to_owned(), parse(&wanted.mirrors)?);
    }
    registries.insecure_registries =
        wanted.insecure.iter().map(|text| InsecureRegistry::parse(text)).collect::<Result<_, _>>()?;
    registries.limits.downloads_per_pull = wanted.concurrent_downloads;
    registries.limits.uploads_per_push = wanted.concurrent_uploads;
    registries.limits.attempts = wanted.download_attempts;
    registries.proxies = proxies(config);
    Ok(registries)
}

/// The configured proxies, each over the environment's.
pub(crate) fn proxies(config: &Config) -> Proxies {
    let (http, https, no_proxy) = &config.registries.proxies;
    let environment = Proxies::from_environment();
    let or = |wanted: &String, default: String| if wanted.is_empty() { default } else { wanted.clone() };
    Proxies {
        http: or(http, environment.http),
        https: or(https, environment.https),
        no_proxy: or(no_proxy, environment.no_proxy),
    }
}

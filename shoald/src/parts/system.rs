//! What the daemon says of its settings.
//!
//! Start reading at [`settings`].

use node_agent::runtime::apparmor::Confinement;
use node_agent::system::Settings;
use shoal_types::container::security::SeccompChoice;

use super::registries::proxies;
use crate::config::{Config, EMBEDDED_RUNTIMES};

/// Networks whose registries need no proper TLS, always.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// What `info` shows of the configuration. `open` are listeners that anybody may use who reaches them.
pub(crate) fn settings(
    config: &Config,
    identity: &str,
    open: &[String],
    confinement: Confinement,
) -> Settings {
    let is_network = |text: &&String| text.parse::<ipnet::IpNet>().is_ok();
    let insecure = &config.registries.insecure;
    let networks =
        LOOPBACK.iter().map(|net| (*net).to_owned()).chain(insecure.iter().filter(is_network).cloned());
    let embedded = EMBEDDED_RUNTIMES.map(|name| {
        (name.to_owned(), (node_agent::containers::config::EMBEDDED_RUNTIME.to_owned(), Vec::new()))
    });
    let configured = config
        .containers
        .runtimes
        .iter()
        .map(|(name, program)| (name.clone(), (program.path.clone(), program.arguments.clone())));
    let proxies = proxies(config);
    Settings {
        apparmor: confinement == Confinement::AppArmor,
        user_namespaces: !config.ids.is_identity(),
        id: identity.to_owned(),
        data_root: config.data_root.display().to_string(),
        labels: config.labels.clone(),
        insecure_networks: networks.collect(),
        insecure_registries: insecure.iter().filter(|text| !is_network(text)).cloned().collect(),
        mirrors: config
            .registries
            .mirrors
            .iter()
            .map(|mirror| format!("{}/", mirror.trim_end_matches('/')))
            .collect(),
        runtimes: embedded.into_iter().chain(configured).collect(),
        default_runtime: match config.containers.runtime.as_str() {
            "" => "runc".to_owned(),
            name => name.to_owned(),
        },
        authorization_plugins: config.authorization_plugins.clone(),
        default_log_driver: config.containers.log_driver.clone(),
        init_binary: "docker-init".to_owned(),
        address_pools: config
            .network
            .address_pools
            .iter()
            .map(|(base, size)| (base.to_string(), *size))
            .collect(),
        proxies: (mask(&proxies.http), mask(&proxies.https), proxies.no_proxy),
        cdi_directories: config
            .containers
            .cdi_directories
            .iter()
            .map(|directory| directory.display().to_string())
            .collect(),
        seccomp_profile: match &config.containers.seccomp {
            SeccompChoice::Unconfined => "unconfined",
            SeccompChoice::Custom(_) => "custom",
            SeccompChoice::Builtin | SeccompChoice::DaemonDefault => "builtin",
        }
        .to_owned(),
        no_new_privileges: config.containers.no_new_privileges,
        debug: config.debug,
        warnings: warnings(config, open),
    }
}

/// Hides the credentials of a proxy's address.
fn mask(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}xxxxx:xxxxx{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

fn warnings(config: &Config, open: &[String]) -> Vec<String> {
    let mut warnings: Vec<String> = open
        .iter()
        .map(|name| {
            format!(
                "[DEPRECATION NOTICE]: API is accessible on {} without encryption. Access to the remote API is \
                 equivalent to root access on the host. Refer to docs/security.md for more information.",
                name.replace("tcp://", "http://")
            )
        })
        .collect();
    if !config.network.firewall_v4 {
        warnings.push("WARNING: firewall rules for IPv4 are left alone (--iptables=false)".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_a_proxy_are_never_shown() {
        assert_eq!(mask("http://user:secret@proxy:3128"), "http://xxxxx:xxxxx@proxy:3128");
        assert_eq!(mask("http://proxy:3128"), "http://proxy:3128");
        assert_eq!(mask(""), "");
    }
}

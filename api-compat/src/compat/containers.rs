//! Containers as older versions expect to see them.
//!
//! Start reading at [`inspect`] and [`details`].

use std::collections::BTreeMap;

use crate::model::container_inspect::{ContainerInspect, RootFsSnapshot, RootFsStorage, Storage};
use crate::model::container_summary::{SummaryDetails, SummaryFacts};
use crate::model::network_settings::{DefaultBridge, EndpointSettings, NetworkSettings};
use crate::version::ApiVersion;

/// Versions at which the shape of a list's entry changed, oldest first.
const SUMMARY_CHANGES: [u16; 5] = [44, 45, 46, 48, 52];

/// Which of the shapes of a list's entry a version has; versions with the same number see the same bytes.
pub(crate) fn summary_shape(version: ApiVersion) -> usize {
    SUMMARY_CHANGES.iter().filter(|&&minor| version.is_from(minor)).count()
}

/// Turns the first part of a list's entry back.
pub(crate) fn facts(facts: &mut SummaryFacts, version: ApiVersion) {
    if version.is_below(48) {
        facts.image_manifest_descriptor = None;
    }
}

/// Turns the second part of a list's entry back.
pub(crate) fn details(details: &mut SummaryDetails, short_id: &str, hostname: &str, version: ApiVersion) {
    endpoints(&mut details.network_settings.networks, short_id, hostname, version);
    if version.is_below(46) {
        details.host_config.annotations = None;
    }
    if version.is_below(52) {
        details.health = None;
    }
}

/// Turns the details of a container back.
pub(crate) fn inspect(inspect: &mut ContainerInspect, version: ApiVersion) {
    let short_id: String = inspect.id.chars().take(12).collect();
    let hostname = inspect.config.hostname.clone();
    endpoints(&mut inspect.network_settings.networks, &short_id, &hostname, version);
    if version.is_below(42) {
        inspect.host_config.resources.kernel_memory = Some(0);
        inspect.host_config.resources.kernel_memory_tcp = Some(0);
    }
    if version.is_below(43) {
        inspect.host_config.options.annotations = None;
    }
    if version.is_below(44)
        && let Some(health) = &mut inspect.config.healthcheck
    {
        health.start_interval = 0;
    }
    if version.is_below(48) {
        inspect.image_manifest_descriptor = None;
    }
    if version.is_below(52) {
        legacy_network_settings(&mut inspect.network_settings);
    } else {
        inspect.config.mac_address.clear();
        inspect.storage = inspect.graph_driver.take().map(|driver| Storage {
            root_fs: Some(RootFsStorage { snapshot: Some(RootFsSnapshot { name: driver.name }) }),
        });
    }
}

/// What was told beside the networks before 1.52: the endpoint on the default bridge, and fields that mean nothing.
fn legacy_network_settings(settings: &mut NetworkSettings) {
    settings.bridge = Some(String::new());
    settings.hairpin_mode = Some(false);
    settings.link_local_ipv6_address = Some(String::new());
    settings.link_local_ipv6_prefix_len = Some(0);
    settings.secondary_ip_addresses = Some(None);
    settings.secondary_ipv6_addresses = Some(None);
    let bridge = settings.networks.get("bridge").cloned().unwrap_or_default();
    settings.default_bridge = Some(DefaultBridge {
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: bridge.mac_address,
    });
}

/// Endpoints: the short id and the host name were among the aliases before they had a list of their own.
fn endpoints(
    endpoints: &mut BTreeMap<String, EndpointSettings>,
    short_id: &str,
    hostname: &str,
    version: ApiVersion,
) {
    for (name, settings) in endpoints {
        let is_user_defined = !matches!(name.as_str(), "bridge" | "host" | "none");
        if version.is_below(45) && is_user_defined {
            let aliases = settings.aliases.get_or_insert_default();
            for further in [short_id, hostname] {
                if !further.is_empty() && !aliases.iter().any(|alias| alias == further) {
                    aliases.push(further.to_owned());
                }
            }
        }
        if version.is_below(44) {
            settings.dns_names = None;
        }
        if version.is_below(48) {
            settings.gw_priority = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks() -> BTreeMap<String, EndpointSettings> {
        let settings = EndpointSettings {
            dns_names: Some(Some(vec!["c".into()])),
            gw_priority: Some(1),
            ..EndpointSettings::default()
        };
        BTreeMap::from([("bridge".to_owned(), settings.clone()), ("n".to_owned(), settings)])
    }

    #[test]
    fn endpoints_have_the_shape_of_their_version() {
        let seen = |minor: u16| {
            let mut networks = networks();
            endpoints(&mut networks, "0123456789ab", "h", ApiVersion::v1(minor));
            let user = &networks["n"];
            assert_eq!(networks["bridge"].aliases, None);
            (user.aliases.clone().map(|list| list.join(",")), user.dns_names.is_some(), user.gw_priority)
        };
        assert_eq!(seen(43), (Some("0123456789ab,h".into()), false, None));
        assert_eq!(seen(44), (Some("0123456789ab,h".into()), true, None));
        assert_eq!(seen(45), (None, true, None));
        assert_eq!(seen(48), (None, true, Some(1)));
    }

    #[test]
    fn versions_share_a_shape_until_something_changes() {
        assert_eq!(summary_shape(ApiVersion::v1(24)), summary_shape(ApiVersion::v1(43)));
        assert_ne!(summary_shape(ApiVersion::v1(43)), summary_shape(ApiVersion::v1(44)));
        assert_ne!(summary_shape(ApiVersion::v1(51)), summary_shape(ApiVersion::v1(52)));
        assert_eq!(summary_shape(ApiVersion::v1(52)), summary_shape(ApiVersion::v1(56)));
    }
}

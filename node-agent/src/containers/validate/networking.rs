//! PURE. Which network modes go with which other wishes.
//!
//! Start reading at [`check`]. Whether a network exists and what its driver can do is the implementation's of
//! [`crate::containers::ports::ContainerNetworks`].

use shoal_types::container::networking::NetworkMode;
use shoal_types::container::security::UtsMode;
use shoal_types::container::spec::ContainerSpec;

use crate::containers::host::Host;
use crate::error::NodeError;

/// Checks what the wishes about networks say together, and returns warnings.
pub(super) fn check(spec: &ContainerSpec, host: &Host) -> Result<Vec<String>, NodeError> {
    let networking = &spec.networking;
    let mut warnings = Vec::new();
    if spec.namespaces.uts == UtsMode::Host && !spec.process.hostname.is_empty() {
        return Err(NodeError::invalid("conflicting options: hostname and the UTS mode"));
    }
    match &networking.mode {
        NetworkMode::Container(of) => check_shared(spec, of)?,
        NetworkMode::Host => {
            if !networking.links.is_empty() {
                return Err(NodeError::invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                ));
            }
            if !networking.published.is_empty() {
                warnings.push("Published ports are discarded when using host network mode".to_owned());
            }
        }
        NetworkMode::DefaultBridge => {
            if !networking.links.is_empty() {
                warnings.push(
                    "Links on the default bridge network are deprecated and will be removed in a future release. Use a custom network instead."
                        .to_owned(),
                );
            }
        }
        NetworkMode::None | NetworkMode::Network(_) => {}
    }
    let needs_forwarding = matches!(networking.mode, NetworkMode::DefaultBridge | NetworkMode::Network(_));
    if needs_forwarding && !networking.disabled && !host.ipv4_forwarding {
        warnings.push("IPv4 forwarding is disabled. Networking will not work.".to_owned());
    }
    Ok(warnings)
}

/// A container that shares another's namespace has no network wishes of its own.
fn check_shared(spec: &ContainerSpec, of: &str) -> Result<(), NodeError> {
    let networking = &spec.networking;
    let has_resolver_wishes = !networking.dns_servers.is_empty()
        || !networking.dns_options.is_empty()
        || !networking.dns_search.is_empty();
    let conflicts = [
        (of.is_empty(), "invalid network mode: invalid container format container:<name|id>"),
        (!spec.process.hostname.is_empty(), "conflicting options: hostname and the network mode"),
        (
            !networking.links.is_empty(),
            "conflicting options: container type network can't be used with links. This would result in undefined behavior",
        ),
        (has_resolver_wishes, "conflicting options: dns and the network mode"),
        (
            !networking.extra_hosts.is_empty(),
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (
            !networking.published.is_empty() || networking.publish_all,
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            !networking.exposed.is_empty(),
            "conflicting options: port exposing and the container type network mode",
        ),
    ];
    match conflicts.into_iter().find(|(applies, _)| *applies) {
        Some((_, message)) => Err(NodeError::invalid(message)),
        None => Ok(()),
    }
}

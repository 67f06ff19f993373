//! Settings of networks, and starting netd.
//!
//! Start reading at [`network_config`].

use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

use node_agent::networks::{BridgeOwner, DefaultBridge, DirectRouting, NetworkConfig};
use node_agent::userns::namespaces::NamespaceMaker;
use overlay_net::dns::files::ResolvOverrides;
use overlay_net::host::Management;
use overlay_net::ipam::{BasePool, ula_base};

use crate::config::Config;

/// What the configuration says to the networks of this node. `identity` survives restarts; the node's own prefix of IPv6
/// subnets is made of it.
pub(crate) fn network_config(config: &Config, identity: &str) -> NetworkConfig {
    let wanted = &config.network;
    let default_bridge = wanted.bridge.as_ref().map(|interface| DefaultBridge {
        interface: interface.clone(),
        owner: if wanted.is_bridge_given { BridgeOwner::User } else { BridgeOwner::Daemon },
        address: wanted.bip,
        address_v6: wanted.bip6,
        range: wanted.fixed_cidr,
        subnet_v6: wanted.fixed_cidr_v6,
        gateway: wanted.gateway,
        gateway_v6: wanted.gateway_v6,
        ipv6: wanted.ipv6,
        icc: wanted.icc,
        masquerade: wanted.masquerade,
        mtu: wanted.mtu,
    });
    let managed = |is_managed: bool| if is_managed { Management::Managed } else { Management::LeftAlone };
    NetworkConfig {
        default_bridge,
        address_pools: wanted
            .address_pools
            .iter()
            .map(|(base, size)| BasePool { base: *base, size: *size })
            .collect(),
        ula: ula_base(global_id(identity)),
        default_options: wanted.default_options.clone(),
        publish_ip: wanted.publish_ip,
        direct_routing: if wanted.direct_routing { DirectRouting::Allowed } else { DirectRouting::Dropped },
        resolver: ResolvOverrides {
            servers: wanted.dns.clone(),
            search: wanted.dns_search.clone(),
            options: wanted.dns_options.clone(),
        },
        host_gateway: wanted.host_gateway.clone(),
        mechanism: overlay_net::Config {
            netns_dir: config.exec_root.join("netns"),
            netd_socket: config.exec_root.join("netd.sock"),
            spawn_netd: Arc::new(spawn_netd),
            make_remapped: {
                let maker = NamespaceMaker::new(config.ids.clone());
                Arc::new(move |peer| maker.network(peer))
            },
            firewall_v4: managed(wanted.firewall_v4),
            firewall_v6: managed(wanted.firewall_v6),
            forwarding: managed(wanted.forwarding),
            forward_policy: wanted.forward_policy,
            accepted_mark: wanted.accepted_mark,
            proxy: Management::Managed,
        },
    }
}

/// 40 bits of the daemon's identity (RFC 4193, section 3.2.2, asks for something that is most likely unique).
fn global_id(identity: &str) -> [u8; 5] {
    let digits = identity.bytes().filter_map(|byte| u8::try_from(char::from(byte).to_digit(16)?).ok());
    let mut id = [0; 5];
    for (place, digit) in digits.take(2 * id.len()).enumerate() {
        id[place / 2] = id[place / 2] << 4 | digit;
    }
    id
}

/// Starts netd, or the process that encrypts, so that it outlives us. It detaches itself. Those that were started before and
/// have ended leave the process table with the next.
#[expect(
    clippy::disallowed_methods,
    reason = "netd outlives the daemon and is no helper program; like a shim it is this binary again"
)]
fn spawn_netd(arguments: &[OsString]) -> std::io::Result<()> {
    use std::process::{Child, Stdio};
    static STARTED: Mutex<Vec<Child>> = Mutex::new(Vec::new());
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    started.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    let child = std::process::Command::new("/proc/self/exe")
        .arg("netd")
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    started.push(child);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_a_node_is_made_of_its_identity() {
        assert_eq!(global_id("01234567-89ab-cdef-0123-456789abcdef"), [0x01, 0x23, 0x45, 0x67, 0x89]);
        assert_eq!(global_id(""), [0; 5]);
    }
}

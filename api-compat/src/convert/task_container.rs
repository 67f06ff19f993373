//! What a container that the engine makes for a task was asked to be, in the shape that inspect shows.
//!
//! Start reading at [`request_of`]. A client's request is kept as it was sent; here there was none, so it is told from the spec.
//! Only what inspect does not take from the spec or from what was observed is written down.

use shoal_types::container::networking::PortPublish;
use shoal_types::container::security::SeccompChoice;
use shoal_types::container::spec::ContainerSpec;

use super::requested::Requested;
use super::service_mount;
use crate::model::host_config::{PortBinding, PortMap};

/// The text that the engine keeps for inspect.
pub fn request_of(spec: &ContainerSpec) -> String {
    requested(spec).to_text().unwrap_or_default()
}

fn requested(spec: &ContainerSpec) -> Requested {
    let mut kept = Requested::default();
    let options = &mut kept.host_config.options;
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let (security, networking) = (&spec.security, &spec.networking);
    options.cap_add = list(&security.cap_add);
    options.cap_drop = list(&security.cap_drop);
    options.readonly_rootfs = security.readonly_rootfs;
    options.security_opt = list(&security_options(spec));
    options.dns = Some(networking.dns_servers.iter().map(ToString::to_string).collect());
    options.dns_options = Some(networking.dns_options.clone());
    options.dns_search = Some(networking.dns_search.clone());
    options.extra_hosts = list(&networking.extra_hosts);
    options.group_add = list(&spec.process.groups);
    options.port_bindings = Some(port_bindings(&networking.published));
    options.sysctls = Some(spec.sysctls.clone()).filter(|sysctls| !sysctls.is_empty());
    options.init = spec.init;
    let mounts: Vec<_> = spec.mounts.iter().map(service_mount::shown).collect();
    options.mounts = Some(mounts).filter(|mounts| !mounts.is_empty());
    kept
}

fn security_options(spec: &ContainerSpec) -> Vec<String> {
    let security = &spec.security;
    let seccomp = match &security.seccomp {
        SeccompChoice::DaemonDefault => None,
        SeccompChoice::Builtin => Some("seccomp=builtin".to_owned()),
        SeccompChoice::Unconfined => Some("seccomp=unconfined".to_owned()),
        SeccompChoice::Custom(profile) => Some(format!("seccomp={profile}")),
    };
    let no_new_privileges =
        security.no_new_privileges.filter(|on| *on).map(|_| "no-new-privileges".to_owned());
    let apparmor = security.apparmor.as_ref().map(|profile| format!("apparmor={profile}"));
    let selinux = security.selinux_labels.iter().map(|label| format!("label={label}"));
    no_new_privileges.into_iter().chain(seccomp).chain(apparmor).chain(selinux).collect()
}

fn port_bindings(published: &[PortPublish]) -> PortMap {
    let mut ports = PortMap::new();
    for port in published {
        let binding = PortBinding {
            host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host_port: port.host_ports.map(|(first, _)| first.to_string()).unwrap_or_default(),
        };
        ports.entry(port.container_port.to_string()).or_default().get_or_insert_default().push(binding);
    }
    ports
}

#[cfg(test)]
mod tests {
    use shoal_types::container::networking::{PortSpec, Protocol};

    use super::*;

    #[test]
    fn what_only_a_request_would_tell_is_there() {
        let mut spec = ContainerSpec::default();
        spec.security.cap_add = vec!["NET_ADMIN".to_owned()];
        spec.security.no_new_privileges = Some(true);
        spec.networking.extra_hosts = vec!["db:10.0.0.1".to_owned()];
        let container_port = PortSpec { port: 80, protocol: Protocol::Tcp };
        spec.networking.published =
            vec![PortPublish { container_port, host_ip: None, host_ports: Some((8080, 8080)) }];
        let kept = Requested::from_text(&request_of(&spec));
        let options = &kept.host_config.options;
        assert_eq!(options.cap_add.as_deref(), Some(&["NET_ADMIN".to_owned()][..]));
        assert_eq!(options.security_opt.as_deref(), Some(&["no-new-privileges".to_owned()][..]));
        assert_eq!(options.extra_hosts.as_deref(), Some(&["db:10.0.0.1".to_owned()][..]));
        let ports = options.port_bindings.as_ref().unwrap();
        assert_eq!(ports["80/tcp"].as_ref().unwrap()[0].host_port, "8080");
    }
}

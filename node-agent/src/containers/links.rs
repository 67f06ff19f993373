//! PURE. Links of the old kind: who links to whom, and what a linking container is told of it.
//!
//! Start reading at [`Links`] (who) and [`environment`] (what). Addresses in /etc/hosts are the networks' business.

use std::collections::BTreeMap;

use shoal_types::ContainerId;
use shoal_types::container::networking::PortSpec;

use super::record::LinkRecord;
use crate::error::NodeError;

/// All links of this node.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// What each container links to.
    outgoing: BTreeMap<ContainerId, Vec<LinkRecord>>,
}

/// The links of one container, by names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Named {
    /// Names `parent/alias` under which others know it.
    pub(crate) incoming: Vec<String>,
    /// Whom it links to: present name and alias.
    pub(crate) outgoing: Vec<(String, String)>,
}

impl Links {
    /// Remembers the links of a container.
    pub(crate) fn insert(&mut self, from: ContainerId, links: &[LinkRecord]) {
        if !links.is_empty() {
            self.outgoing.insert(from, links.to_vec());
        }
    }

    /// Forgets the links of a container, and those of others to it.
    pub(crate) fn remove(&mut self, id: ContainerId) {
        self.outgoing.remove(&id);
        self.outgoing.retain(|_, links| {
            links.retain(|link| link.target != id);
            !links.is_empty()
        });
    }

    /// Forgets one link.
    pub(crate) fn unlink(&mut self, from: ContainerId, alias: &str) {
        let Some(links) = self.outgoing.get_mut(&from) else { return };
        links.retain(|link| link.alias != alias);
        if links.is_empty() {
            self.outgoing.remove(&from);
        }
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// What a container links to.
    pub(crate) fn of(&self, from: ContainerId) -> &[LinkRecord] {
        self.outgoing.get(&from).map(Vec::as_slice).unwrap_or_default()
    }

    /// Those who link to a container.
    pub(crate) fn to(&self, id: ContainerId) -> Vec<ContainerId> {
        let has_link = |links: &[LinkRecord]| links.iter().any(|link| link.target == id);
        self.outgoing.iter().filter(|(_, links)| has_link(links)).map(|(from, _)| *from).collect()
    }

    /// The links of a container, by the names that everybody has now.
    pub(crate) fn named(&self, id: ContainerId, name_of: impl Fn(ContainerId) -> Option<String>) -> Named {
        let mut named = Named::default();
        for link in self.of(id) {
            named.outgoing.extend(name_of(link.target).map(|name| (name, link.alias.clone())));
        }
        for (from, links) in &self.outgoing {
            for link in links.iter().filter(|link| link.target == id) {
                named.incoming.extend(name_of(*from).map(|name| format!("{name}/{}", link.alias)));
            }
        }
        named
    }
}

/// Reads `name[:alias]`; without an alias the name serves.
pub(crate) fn parse(link: &str) -> Result<(&str, &str), NodeError> {
    let invalid = || NodeError::invalid(format!("bad format for links: {link}"));
    let mut parts = link.split(':');
    let name = parts.next().filter(|name| !name.is_empty()).ok_or_else(invalid)?;
    let alias = parts.next().unwrap_or(name);
    if parts.next().is_some() || alias.is_empty() {
        return Err(invalid());
    }
    // Compose of old sends names as inspect shows them: `/name:/parent/alias`.
    let alias = alias.rsplit('/').next().filter(|alias| !alias.is_empty()).ok_or_else(invalid)?;
    Ok((name.trim_start_matches('/'), alias))
}

/// What is known of a linked container that runs.
#[derive(Debug, Clone)]
pub(crate) struct Linked<'a> {
    /// Name of the linking container.
    pub(crate) parent: &'a str,
    /// What it calls the other.
    pub(crate) alias: &'a str,
    /// The other's address.
    pub(crate) address: String,
    /// The other's ports.
    pub(crate) ports: &'a [PortSpec],
    /// The other's environment.
    pub(crate) env: &'a [String],
}

/// The variables by which a linking container finds the other, in Docker's order.
pub(crate) fn environment(linked: &Linked<'_>) -> Vec<String> {
    let alias = linked.alias.to_uppercase().replace('-', "_");
    let address = &linked.address;
    let mut ports = linked.ports.to_vec();
    ports.sort_by_key(|port| (port.port, port.protocol));
    let mut variables = Vec::new();
    if let Some(first) = ports.first() {
        variables.push(format!("{alias}_PORT={}://{address}:{}", first.protocol, first.port));
    }
    for port in &ports {
        let protocol = port.protocol.to_string();
        let prefix = format!("{alias}_PORT_{}_{}", port.port, protocol.to_uppercase());
        variables.push(format!("{prefix}={protocol}://{address}:{}", port.port));
        variables.push(format!("{prefix}_ADDR={address}"));
        variables.push(format!("{prefix}_PORT={}", port.port));
        variables.push(format!("{prefix}_PROTO={protocol}"));
    }
    variables.push(format!("{alias}_NAME=/{}/{}", linked.parent, linked.alias));
    for (key, value) in linked.env.iter().filter_map(|variable| variable.split_once('=')) {
        if key != "HOME" && key != "PATH" {
            variables.push(format!("{alias}_ENV_{key}={value}"));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ContainerId {
        ContainerId::from_bytes([byte; 32])
    }

    #[test]
    fn links_are_read_as_users_and_old_tools_write_them() {
        let cases = [("db", ("db", "db")), ("db:data", ("db", "data")), ("/db:/web/data", ("db", "data"))];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["", ":x", "a:", "a:b:c"] {
            assert_eq!(parse(text).unwrap_err().to_string(), format!("bad format for links: {text}"));
        }
    }

    #[test]
    fn links_are_named_by_present_names_and_end_with_either_side() {
        let mut links = Links::default();
        links.insert(id(1), &[LinkRecord { target: id(2), alias: "data".to_owned() }]);
        let name_of = |id: ContainerId| Some(format!("c{}", id.as_bytes()[0]));
        assert_eq!(links.named(id(2), name_of).incoming, ["c1/data"]);
        assert_eq!((links.to(id(2)), links.to(id(1))), (vec![id(1)], vec![]));
        assert_eq!(links.named(id(1), name_of).outgoing, [("c2".to_owned(), "data".to_owned())]);
        let mut unlinked = Links::default();
        unlinked.insert(id(1), &[LinkRecord { target: id(2), alias: "data".to_owned() }]);
        unlinked.unlink(id(1), "data");
        assert!(unlinked.is_empty());
        links.remove(id(2));
        assert!(links.is_empty());
    }

    #[test]
    fn a_linking_container_finds_ports_and_environment() {
        let ports: Vec<PortSpec> =
            ["553/udp", "8080/tcp", "80/tcp"].iter().map(|port| port.parse().unwrap()).collect();
        let env = ["A=1".to_owned(), "PATH=/bin".to_owned()];
        let linked = Linked {
            parent: "web",
            alias: "my-db",
            address: "172.17.0.2".to_owned(),
            ports: &ports,
            env: &env,
        };
        let variables = environment(&linked);
        assert_eq!(
            variables[..5],
            [
                "MY_DB_PORT=tcp://172.17.0.2:80",
                "MY_DB_PORT_80_TCP=tcp://172.17.0.2:80",
                "MY_DB_PORT_80_TCP_ADDR=172.17.0.2",
                "MY_DB_PORT_80_TCP_PORT=80",
                "MY_DB_PORT_80_TCP_PROTO=tcp",
            ]
        );
        assert_eq!(variables[variables.len() - 2..], ["MY_DB_NAME=/web/my-db", "MY_DB_ENV_A=1"]);
        assert!(variables.contains(&"MY_DB_PORT_553_UDP=udp://172.17.0.2:553".to_owned()));
    }
}

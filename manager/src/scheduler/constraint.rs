//! Placement constraints: `key == value` and `key != value`.
//!
//! Start reading at [`Constraint`]. Pure. Values are compared without regard to case; a label that is missing is an empty one.

use std::net::IpAddr;

use ipnet::IpNet;
use shoal_types::cluster::node::{Node, NodeRole};

/// A rule about one property of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    key: String,
    operator: Operator,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
}

/// Why a text is no constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseConstraintError {
    /// It has no operator.
    #[error("constraint expected one operator from ==, !=")]
    Operator,
    /// Its key cannot be one.
    #[error("key '{0}' is invalid")]
    Key(String),
    /// Its value cannot be one.
    #[error("value '{0}' is invalid")]
    Value(String),
}

/// Reads all constraints of a service.
pub fn parse_all(texts: &[String]) -> Result<Vec<Constraint>, ParseConstraintError> {
    texts.iter().map(|text| Constraint::parse(text)).collect()
}

/// Whether a node meets all constraints. One that cannot be read is met by no node.
pub fn meets_all(texts: &[String], node: &Node) -> bool {
    texts.iter().all(|text| Constraint::parse(text).is_ok_and(|constraint| constraint.is_met_by(node)))
}

impl Constraint {
    /// Reads one constraint.
    pub fn parse(text: &str) -> Result<Self, ParseConstraintError> {
        let split = [("==", Operator::Equal), ("!=", Operator::Unequal)]
            .into_iter()
            .find_map(|(sign, operator)| text.split_once(sign).map(|(key, value)| (key, operator, value)));
        let (key, operator, value) = split.ok_or(ParseConstraintError::Operator)?;
        let (key, value) = (key.trim(), value.trim());
        if !is_key(key) {
            return Err(ParseConstraintError::Key(key.to_owned()));
        }
        if !is_value(value) {
            return Err(ParseConstraintError::Value(value.to_owned()));
        }
        Ok(Self { key: key.to_owned(), operator, value: value.to_owned() })
    }

    /// Whether a node meets it. A key that nobody knows is met by no node, whatever the operator.
    pub fn is_met_by(&self, node: &Node) -> bool {
        let description = node.description.as_ref();
        let key = self.key.to_ascii_lowercase();
        let is_equal = match key.as_str() {
            "node.id" => self.is(&node.id.to_string()),
            "node.hostname" => self.is(description.map_or("", |node| &node.hostname)),
            "node.ip" => match self.is_address(&node.status.address) {
                Some(is_equal) => is_equal,
                None => return false,
            },
            "node.role" => self.is(match node.role {
                NodeRole::Worker => "worker",
                NodeRole::Manager => "manager",
            }),
            "node.platform.os" => self.is(description.map_or("", |node| &node.platform.os)),
            "node.platform.arch" => {
                let architecture = description.map_or("", |node| node.platform.architecture.as_str());
                self.is(architecture) || synonym(architecture).is_some_and(|name| self.is(name))
            }
            _ => match self.label_of(node) {
                Some(label) => self.is(label),
                None => return false,
            },
        };
        is_equal == (self.operator == Operator::Equal)
    }

    fn is(&self, value: &str) -> bool {
        self.value.to_lowercase() == value.to_lowercase()
    }

    /// Whether the node's address is the value or in the subnet that it is; `None` if it is neither.
    fn is_address(&self, address: &str) -> Option<bool> {
        let address: Option<IpAddr> = address.parse().ok();
        if let Ok(wanted) = self.value.parse::<IpAddr>() {
            return Some(address == Some(wanted));
        }
        let subnet: IpNet = self.value.parse().ok()?;
        Some(address.is_some_and(|address| subnet.contains(&address)))
    }

    /// The label that the key names; empty if the node does not have it, `None` if the key names no label.
    fn label_of<'a>(&self, node: &'a Node) -> Option<&'a str> {
        label(&self.key, node)
    }
}

/// The label of a node that `key` names (`node.labels.x` or `engine.labels.x`): empty if the node does not have it, `None` if
/// the key names no label.
pub(super) fn label<'a>(key: &str, node: &'a Node) -> Option<&'a str> {
    let strip = |prefix: &str| {
        key.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix))?;
        key.get(prefix.len()..).filter(|label| !label.is_empty())
    };
    if let Some(name) = strip("node.labels.") {
        return Some(node.spec.labels.get(name).map_or("", String::as_str));
    }
    let name = strip("engine.labels.")?;
    let labels = node.description.as_ref().map(|description| &description.engine_labels);
    Some(labels.and_then(|labels| labels.get(name)).map_or("", String::as_str))
}

/// The other name of an architecture: nodes of the stock engine say `x86_64`, images say `amd64`.
fn synonym(architecture: &str) -> Option<&'static str> {
    match architecture {
        "amd64" => Some("x86_64"),
        "arm64" => Some("aarch64"),
        _ => None,
    }
}

fn is_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && key.len() > 1
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_value(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_ \t.*()?+[]\\^$|/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::node;

    #[test]
    fn constraints_hold_as_in_swarm() {
        let mut node = node(7);
        node.spec.labels.insert("zone".to_owned(), "East".to_owned());
        if let Some(description) = &mut node.description {
            description.engine_labels.insert("disk".to_owned(), "ssd".to_owned());
        }
        let cases = [
            ("node.id == 0000000000000000000000007", true),
            ("node.hostname==HOST7", true),
            ("node.hostname != host7", false),
            ("node.role==worker", true),
            ("node.role!=manager", true),
            ("node.ip==192.0.2.7", true),
            ("node.ip==192.0.2.0/24", true),
            ("node.ip!=192.0.2.0/24", false),
            ("node.ip==somewhere", false),
            ("node.ip!=somewhere", false),
            ("node.platform.os==Linux", true),
            ("node.platform.arch==x86_64", true),
            ("node.platform.arch==amd64", true),
            ("node.platform.arch!=aarch64", true),
            ("node.labels.zone==east", true),
            ("node.labels.Zone==east", false),
            ("node.labels.rack!=r1", true),
            ("engine.labels.disk==ssd", true),
            ("engine.labels.disk != ssd", false),
            ("node.colour==red", false),
            ("node.colour!=red", false),
        ];
        for (text, expected) in cases {
            assert_eq!(Constraint::parse(text).unwrap().is_met_by(&node), expected, "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_constraint_are_refused_in_swarms_words() {
        let cases = [
            ("node.role=worker", "constraint expected one operator from ==, !="),
            ("node.role >= worker", "constraint expected one operator from ==, !="),
            ("1node == x", "key '1node' is invalid"),
            ("node.role ==", "value '' is invalid"),
            ("node.role == a;b", "value 'a;b' is invalid"),
        ];
        for (text, expected) in cases {
            assert_eq!(Constraint::parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}

//! What the configuration says of this machine as a node of a cluster.
//!
//! Start reading at [`swarm_settings`].

use shoal_types::cluster::service::GenericResource;

use super::{ConfigError, Settings};

/// Settings of this machine as a node of a cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct SwarmSettings {
    /// What to advertise unless a request says otherwise: an address or an interface; empty to find out.
    pub(crate) default_advertise: String,
    /// Named resources of this node: kind, and how many or which.
    pub(crate) generic: Vec<(String, GenericResource)>,
}

/// Makes sense of the settings.
pub(super) fn swarm_settings(settings: &Settings) -> Result<SwarmSettings, ConfigError> {
    let generic = settings.list("node-generic-resources");
    Ok(SwarmSettings {
        default_advertise: settings.text("swarm-default-advertise-addr").unwrap_or_default().to_owned(),
        generic: generic.iter().map(|text| generic_resource(text)).collect::<Result<_, _>>()?,
    })
}

/// `kind=number` is so many that are all alike, `kind=name` is a particular one.
fn generic_resource(text: &str) -> Result<(String, GenericResource), ConfigError> {
    let parts = text.split_once('=').filter(|(kind, value)| !kind.is_empty() && !value.is_empty());
    let (kind, value) = parts.ok_or_else(|| {
        ConfigError::value(format!("incorrect term {text}, missing '=' or malformed expression"))
    })?;
    let resource = match value.parse::<u64>() {
        Ok(count) => GenericResource::Discrete(count),
        Err(_) => GenericResource::Named(value.to_owned()),
    };
    Ok((kind.to_owned(), resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_resources_are_counted_or_called_by_name() {
        let parsed = |text: &str| generic_resource(text).unwrap();
        assert_eq!(parsed("SSD=4"), ("SSD".to_owned(), GenericResource::Discrete(4)));
        assert_eq!(parsed("GPU=UUID1"), ("GPU".to_owned(), GenericResource::Named("UUID1".to_owned())));
        for wrong in ["GPU", "=1", "GPU="] {
            assert!(generic_resource(wrong).is_err(), "{wrong}");
        }
    }
}

//! Creating a container: the request and the reply.
//!
//! Start reading at [`ContainerCreate`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::container_config::ContainerConfig;
use super::host_config::HostConfig;
use super::network_settings::EndpointSettings;
use crate::error::ApiError;
use crate::extract::shape;

/// A wish for a container. Its first part shares the JSON object with the names of the other two.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerCreate {
    /// What does not depend on the host.
    #[serde(flatten)]
    pub config: ContainerConfig,
    /// What depends on the host.
    pub host_config: HostConfig,
    /// Networks.
    pub networking_config: NetworkingConfig,
}

impl ContainerCreate {
    /// Reads it from parsed JSON. `None` if it says nothing about the container itself.
    pub(crate) fn from_json(value: &Value) -> Result<Option<Self>, ApiError> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase", rename = "CreateRequest")]
        struct Parts {
            host_config: HostConfig,
            networking_config: NetworkingConfig,
        }
        let config: ContainerConfig = shape(value)?;
        let Parts { host_config, networking_config } = shape(value)?;
        let is_empty = config == ContainerConfig::default();
        Ok((!is_empty).then_some(Self { config, host_config, networking_config }))
    }
}

/// Networks of a wish.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkingConfig {
    /// What is wished for at each network.
    pub endpoints_config: Option<BTreeMap<String, Option<EndpointSettings>>>,
}

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "PascalCase")]
pub struct ContainerCreateResponse {
    /// Its id.
    pub id: String,
    /// What could not be had.
    pub warnings: Vec<String>,
}

//! Ports: secrets and configs.
//!
//! Start reading at [`Secrets`]; [`Configs`] is the same for files that are no secret.

use async_trait::async_trait;
use shoal_types::cluster::secret::{Config, ConfigSpec, Secret, SecretSpec};
use shoal_types::{ConfigId, SecretId};

use super::{ClusterError, ObjectFilter};

/// Secrets of the cluster. Their content is never given back.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// Makes a secret.
    async fn create(&self, spec: SecretSpec) -> Result<SecretId, ClusterError>;

    /// Those that pass.
    async fn list(&self, filter: ObjectFilter) -> Result<Vec<Secret>, ClusterError>;

    /// One secret, without its content.
    async fn inspect(&self, name: &str) -> Result<Secret, ClusterError>;

    /// Changes labels, if `version` is the newest.
    async fn update(&self, name: &str, version: u64, spec: SecretSpec) -> Result<(), ClusterError>;

    /// Removes a secret that no service uses.
    async fn remove(&self, name: &str) -> Result<(), ClusterError>;
}

/// Configs of the cluster.
#[async_trait]
pub trait Configs: Send + Sync {
    /// Makes a config.
    async fn create(&self, spec: ConfigSpec) -> Result<ConfigId, ClusterError>;

    /// Those that pass.
    async fn list(&self, filter: ObjectFilter) -> Result<Vec<Config>, ClusterError>;

    /// One config.
    async fn inspect(&self, name: &str) -> Result<Config, ClusterError>;

    /// Changes labels, if `version` is the newest.
    async fn update(&self, name: &str, version: u64, spec: ConfigSpec) -> Result<(), ClusterError>;

    /// Removes a config that no service uses.
    async fn remove(&self, name: &str) -> Result<(), ClusterError>;
}

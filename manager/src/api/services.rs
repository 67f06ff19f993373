//! Ports: services.
//!
//! Start reading at [`Services`].

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use shoal_types::ServiceId;
use shoal_types::cluster::service::{RegistryCredentials, Service, ServiceSpec};

use super::{ClusterError, ObjectFilter};

/// Services of the cluster.
#[async_trait]
pub trait Services: Send + Sync {
    /// Makes a service. `credentials` are kept for the nodes that pull its image.
    async fn create(
        &self,
        spec: ServiceSpec,
        credentials: Option<RegistryCredentials>,
    ) -> Result<ServiceId, ClusterError>;

    /// Those that pass, with what their tasks do.
    async fn list(&self, filter: ServiceFilter) -> Result<Vec<(Service, TaskCounts)>, ClusterError>;

    /// One service.
    async fn inspect(&self, name: &str) -> Result<Service, ClusterError>;

    /// Changes a service, if `version` is the newest. Returns warnings.
    async fn update(&self, name: &str, update: ServiceUpdate) -> Result<Vec<String>, ClusterError>;

    /// Ends a service and its tasks.
    async fn remove(&self, name: &str) -> Result<(), ClusterError>;
}

/// Which services.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceFilter {
    /// By id, name and label.
    pub object: ObjectFilter,
    /// By mode, in swarm's names (`replicated`, `global-job`, …).
    pub modes: Vec<String>,
}

/// How many tasks of a service do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskCounts {
    /// Run.
    pub running: u64,
    /// Shall run.
    pub desired: u64,
    /// Have completed, of a job.
    pub completed: u64,
}

/// A change of a service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceUpdate {
    /// The version that the client has seen.
    pub version: u64,
    /// What it leads to.
    pub target: UpdateTarget,
    /// New credentials; `None` keeps those of `credentials_of`.
    pub credentials: Option<RegistryCredentials>,
    /// Whose credentials are kept.
    pub credentials_of: CredentialsOf,
}

/// What an update leads to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum UpdateTarget {
    /// This spec.
    Spec(Box<ServiceSpec>),
    /// The spec before.
    Previous,
}

/// Which spec's credentials are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CredentialsOf {
    /// The present one's.
    #[default]
    Spec,
    /// The one's before.
    PreviousSpec,
}

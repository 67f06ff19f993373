//! The ports of the cluster: what the front end may ask of it.
//!
//! Start reading at [`Cluster`], a bundle of handles without methods; each trait is one noun. Objects are found by full id, full
//! name or unique id prefix, in that order. Whoever is no manager answers [`crate::ClusterError::NotAMember`].

pub mod events;
pub mod logs;
pub mod membership;
pub mod networks;
pub mod nodes;
pub mod secrets;
pub mod services;
pub mod tasks;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::error::ClusterError;

/// Handles to everything that a cluster offers. It has fields and no methods.
#[derive(Clone)]
pub struct Cluster {
    /// Joining, leaving, settings.
    pub membership: Arc<dyn membership::Membership>,
    /// Services.
    pub services: Arc<dyn services::Services>,
    /// Tasks.
    pub tasks: Arc<dyn tasks::Tasks>,
    /// Nodes.
    pub nodes: Arc<dyn nodes::Nodes>,
    /// Networks.
    pub networks: Arc<dyn networks::Networks>,
    /// Logs of tasks.
    pub logs: Arc<dyn logs::Logs>,
    /// What has happened.
    pub events: Arc<dyn events::Events>,
    /// Secrets.
    pub secrets: Arc<dyn secrets::Secrets>,
    /// Configs.
    pub configs: Arc<dyn secrets::Configs>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

/// Restrictions on objects. Within a field one value must match; all fields must.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ObjectFilter {
    /// Ids or id prefixes.
    pub ids: Vec<String>,
    /// Names or beginnings of names.
    pub names: Vec<String>,
    /// Key, and the value if one was given; all must match.
    pub labels: Vec<(String, Option<String>)>,
}

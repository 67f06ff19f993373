//! Objects of the cluster: what users want, what the cluster wants now, what was observed.
//!
//! Start reading at [`service::ServiceSpec`], then [`task::Task`]. A spec is the user's and never edited by the system;
//! desired state and status are separate fields. Deciding is the manager's, running is the node's.

pub mod network;
pub mod node;
pub mod overlay;
pub mod secret;
pub mod service;
pub mod settings;
pub mod task;
pub mod task_state;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What every object of the cluster's store carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Index of the store at which the object was last changed; an update names the one it has seen.
    pub version: u64,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

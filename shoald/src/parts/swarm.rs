//! Settings of the swarm part.
//!
//! Start reading at [`membership_settings`].

use std::path::PathBuf;
use std::sync::Arc;

use node_agent::worker::{Overlays, TaskFiles};

use crate::config::Config;
use crate::membership::MembershipSettings;

/// What the configuration says to the swarm part.
pub(crate) fn membership_settings(config: &Config, overlays: Arc<dyn Overlays>) -> MembershipSettings {
    MembershipSettings {
        directory: config.data_root.join("swarm"),
        files: TaskFiles { directory: task_files(config), ids: config.ids.clone() },
        default_advertise: config.swarm.default_advertise.clone(),
        generic: config.swarm.generic.clone(),
        engine_version: crate::VERSION.to_owned(),
        overlays,
        describe: api_compat::request_of,
    }
}

/// Directory for secrets and configs of tasks.
pub(crate) fn task_files(config: &Config) -> PathBuf {
    config.exec_root.join("tasks")
}

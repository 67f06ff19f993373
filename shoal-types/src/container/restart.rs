//! What happens after a container has exited.
//!
//! Start reading at [`RestartPolicy`]. The decision and the back-off are `node-agent/src/containers/restart.rs`.

use serde::{Deserialize, Serialize};

/// Whether the engine starts a container again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "policy")]
pub enum RestartPolicy {
    /// It does not.
    #[default]
    No,
    /// After every exit, and when the daemon starts even if the user had stopped it.
    Always,
    /// After every exit, and when the daemon starts unless the user had stopped it.
    UnlessStopped,
    /// After an exit with another code than 0.
    OnFailure {
        /// How many times; 0 is without limit.
        max_retries: u32,
    },
}

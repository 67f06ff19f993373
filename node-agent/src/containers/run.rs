//! What the engine must know of one run to end it, written into the bundle: lost at a reboot, like the run.
//!
//! Start reading at [`RunRecord`]. It is written after the network is plumbed and before the program starts, and again
//! when a running container joins or leaves a network.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ports::{HostMount, NetworkFiles, NetworkRun};
use crate::runtime::bundle;

/// Name of the file in the bundle.
const RUN_FILE: &str = "run.json";

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    /// Its network; `None` when it shares another container's.
    pub(crate) network: Option<NetworkRun>,
    /// What of the host it has mounted.
    #[serde(default)]
    pub(crate) mounts: Vec<HostMount>,
    /// What was written into its files, to tell what its programs have changed since; `None` when they are another's.
    #[serde(default)]
    pub(crate) files: Option<NetworkFiles>,
}

impl RunRecord {
    /// Writes the record into a bundle, atomically. Blocks for a write to memory.
    pub(crate) fn write(&self, bundle: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        bundle::write_atomically(&bundle.join(RUN_FILE), &json)
    }

    /// Reads the record of a bundle; `None` when the run did not get that far.
    pub(crate) fn read(bundle: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(bundle.join(RUN_FILE)) {
            Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

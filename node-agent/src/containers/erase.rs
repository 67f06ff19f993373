//! Removing a container: everything that belongs to it alone, then its record.
//!
//! Start reading at [`Actor::erase`]. The intent is durable first, so that a crash in the middle is continued at boot; the
//! record and that of the writable layer go together, last.

use std::io;
use std::path::Path;
use std::time::Duration;

use shoal_types::container::state::MountPoint;

use super::actor::Actor;
use super::record::{ContainerRecord, StateRecord};
use crate::api::containers::OfVolumes;
use crate::crash_point::crash_point;
use crate::error::{ErrorChain, NodeError};
use crate::store::Batch;

/// How long a removal waits for the end of the container's log to be sent where it goes.
const LOG_PATIENCE: Duration = Duration::from_secs(10);

impl Actor {
    /// Removes everything. When it fails, what is left can be removed by trying again.
    pub(super) async fn erase(&mut self, volumes: OfVolumes) -> Result<(), NodeError> {
        let id = self.core.id;
        let key = id.to_string();
        let intent = StateRecord { condition: self.core.life.condition().clone() };
        self.shared.commit(Batch::new().put(key.clone(), &intent)?).await?;
        self.publish();
        self.core.attaching.clear();
        self.shared.forwarders.finish(id, LOG_PATIENCE).await;
        self.shared.seams.networks.forget(id).await;
        let batch = self.shared.seams.images.remove_rootfs(id, Batch::new()).await?;
        crash_point("removal: writable layer gone");
        let directory = self.shared.directory(id);
        let bundles = self.shared.bundles.clone();
        super::run_blocking(move || {
            bundles.delete(id)?;
            remove_directory(&directory)
        })
        .await?
        .map_err(|source| NodeError::failed("unable to remove filesystem", source))?;
        crash_point("removal: directory gone");
        let points: Vec<MountPoint> =
            self.core.record.mounts.iter().map(|mount| mount.point.clone()).collect();
        for error in self.shared.seams.volumes.release(id, &points, volumes).await {
            let error = ErrorChain(&error);
            tracing::error!(container.id = %id, %error, "volume of a removed container could not be removed");
        }
        crash_point("removal: volumes released");
        let batch = batch.delete::<ContainerRecord>(key.clone()).delete::<StateRecord>(key);
        self.shared.commit(batch).await?;
        self.shared.seams.images.release(id);
        self.shared.forget(id, &self.core.record);
        Ok(())
    }
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

//! Ending a run: everything it holds is given back, in the reverse order of its acquisition.
//!
//! Start reading at [`Actor::tear_down`]. It serves an exit, a start that failed, and a boot that finds leftovers. Errors
//! are logged and do not stop it: what is left is found again at the next boot, because nothing here depends on memory.

use std::time::Instant;

use shoal_types::container::state::MountPoint;

use super::actor::{Actor, Bundle, Holding, LiveRun};
use crate::crash_point::crash_point;
use crate::error::{ErrorChain, NodeError};
use crate::figures::Action;
use crate::shim_client::ShimError;

impl Actor {
    /// Gives back everything that the run in progress holds but its bundle. When anything could not be given back, the
    /// bundle is kept, so that the next boot finds it and tries again.
    pub(super) async fn tear_down(&mut self) {
        let Some(mut run) = self.core.run.take() else { return };
        self.shared.execs.forget_unstarted(self.core.id);
        // Nobody may find a shim that is about to end.
        self.publish();
        let mut errors = self.end_processes_and_network(&run).await;
        self.shared.forwarders.end_run(self.core.id);
        crash_point("end: shim and network gone");
        self.tell_of_networks(&run);
        while let Some(holding) = run.holdings.pop() {
            match holding {
                Holding::Shim | Holding::Network | Holding::Bundle => {}
                Holding::SharedMemory => {
                    let target = self.shared.shm_path(self.core.id);
                    errors.extend(self.shared.seams.mounter.unmount(&target).await.err());
                }
                Holding::Mounts => errors.extend(self.unmount_volumes(&run).await),
            }
            crash_point("end: a holding given back");
        }
        self.core.bundle = if errors.is_empty() { Bundle::Finished } else { Bundle::Kept };
        for error in errors {
            let error = ErrorChain(&error);
            tracing::error!(container.id = %self.core.id, %error, "leftover of a run could not be removed");
        }
    }

    /// Deletes the bundle of a run that was torn down completely.
    pub(super) async fn discard_bundle(&mut self) {
        if self.core.bundle != Bundle::Finished {
            return;
        }
        self.core.bundle = Bundle::None;
        let (bundles, id) = (self.shared.bundles.clone(), self.core.id);
        let deleted = super::run_blocking(move || bundles.delete(id)).await;
        let deleted = deleted
            .and_then(|deleted| deleted.map_err(|source| NodeError::failed("delete the bundle", source)));
        if let Err(error) = deleted {
            let error = ErrorChain(&error);
            tracing::error!(container.id = %self.core.id, %error, "bundle of a run could not be deleted");
        }
    }

    /// The shim and the network are the slow ones and do not need each other.
    async fn end_processes_and_network(&self, run: &LiveRun) -> Vec<NodeError> {
        let holds = |holding| run.holdings.contains(&holding);
        let network = async {
            if holds(Holding::Network) {
                let (seams, start) = (&self.shared.seams, Instant::now());
                let errors = seams.networks.disconnect(self.core.id).await;
                if errors.is_empty() {
                    seams.figures.note(Action::NetworkRelease, start);
                }
                errors
            } else {
                Vec::new()
            }
        };
        let shim = async { if holds(Holding::Shim) { self.end_shim(run).await } else { Ok(()) } };
        let (mut errors, shim_outcome) = tokio::join!(network, shim);
        errors.extend(shim_outcome.err());
        errors
    }

    async fn unmount_volumes(&self, run: &LiveRun) -> Vec<NodeError> {
        let points: Vec<MountPoint> =
            self.core.record.mounts.iter().map(|mount| mount.point.clone()).collect();
        let errors = self.shared.seams.volumes.unmount(self.core.id, &points).await;
        self.shared.tell_of_unmounts(self.core.id, &points, &run.record.mounts);
        errors
    }

    /// Ends the shim with all that is left of the container; when the shim is gone, its cleanup does.
    async fn end_shim(&self, run: &LiveRun) -> Result<(), NodeError> {
        if let Some(shim) = &run.shim {
            match shim.shut_down().await {
                Ok(()) => return Ok(()),
                Err(ShimError::Gone) => {}
                Err(error) => {
                    let error = ErrorChain(&error);
                    tracing::warn!(container.id = %self.core.id, %error, "a shim does not end; cleaning up");
                }
            }
        }
        let bundle = self.shared.bundles.path(self.core.id);
        let cleaned = self.shared.seams.shims.clean_up(&bundle).await;
        cleaned.map(drop).map_err(|source| NodeError::failed("clean up after the shim", source))
    }

    fn tell_of_networks(&self, run: &LiveRun) {
        for joined in run.record.network.iter().flat_map(|network| &network.joined) {
            self.shared.emit_network("disconnect", joined, self.core.id);
        }
    }
}

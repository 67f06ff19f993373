//! Networks that span nodes are written down, made again after a start, and repaired.
//!
//! Start reading at [`NetworkStore::watch_overlays`].

use std::time::Duration;

use overlay_net::Repaired;
use shoal_types::NetworkId;

use super::Overlay;
use crate::error::ErrorChain;
use crate::networks::{NetworkStore, run_blocking};
use crate::store::Batch;

/// How long changes of tables are gathered before they are written down. What is lost in between, managers tell again.
const GATHER: Duration = Duration::from_secs(1);
/// How often what there is, is compared with what there should be.
const REPAIR_EVERY: Duration = Duration::from_secs(60);

impl NetworkStore {
    /// Writes tables down when they have changed, repairs what others have changed in the kernel, and changes the keys of
    /// encrypted networks. Never returns; the composition root owns the task.
    pub async fn watch_overlays(&self) {
        tokio::join!(self.watch_tables(), self.watch_encryption());
    }

    async fn watch_tables(&self) {
        let mut repair = tokio::time::interval(REPAIR_EVERY);
        repair.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick is at once, and the daemon has just looked.
        repair.tick().await;
        loop {
            tokio::select! {
                () = self.shared.overlay.unsaved.notified() => {
                    // Gathering is waiting.
                    tokio::time::sleep(GATHER).await;
                    self.save_overlays(|_, overlay| overlay.is_unsaved).await;
                }
                _ = repair.tick() => self.repair_overlays().await,
            }
        }
    }

    /// Makes what was written down; for boot, once the sandboxes of containers are there.
    pub(in crate::networks) async fn restore_overlays(&self) {
        let _turn = self.shared.overlay.turn.lock().await;
        let steps = self.with_state(|state| {
            state.serve_all();
            let mut steps = state.all_steps(|_| true);
            steps.encryption = state.encryption_step();
            steps
        });
        if !steps.whole.is_empty() {
            self.carry_out(steps).await;
        }
        self.sync_ingress().await;
    }

    /// Writes down the networks that are meant.
    pub(super) async fn save_overlays(&self, is_meant: impl Fn(&NetworkId, &Overlay) -> bool) {
        let Some(member) = self.shared.overlay.member() else { return };
        let records = self.with_state(|state| {
            let meant = state.board.networks.iter_mut().filter(|(id, overlay)| is_meant(id, overlay));
            let mut records = Vec::new();
            for (id, overlay) in meant {
                overlay.is_unsaved = false;
                records.push((id.clone(), overlay.record(member.vtep)));
            }
            records
        });
        let mut batch = Batch::new();
        for (id, record) in &records {
            batch = match batch.put(id.as_str(), record) {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::error!(network.id = %id, error = %ErrorChain(&error), "network is not kept");
                    return;
                }
            };
        }
        if let Err(error) = self.shared.store.commit(batch).await {
            tracing::error!(error = %ErrorChain(&error), "networks that span nodes are not kept");
        }
    }

    async fn repair_overlays(&self) {
        let turn = self.shared.overlay.turn.lock().await;
        let failed = self.with_state(|state| {
            let steps = state.all_steps(|overlay| overlay.has_failed);
            state.board.networks.values_mut().for_each(|overlay| overlay.has_failed = false);
            steps
        });
        if self.with_state(|state| state.board.encryption.is_some()) {
            self.reapply_encryption().await;
        }
        self.carry_out(failed).await;
        let (networks, sandboxes) = self.with_state(|state| {
            let plans = state.plans.values().filter(|plan| state.is_in_overlay(plan));
            let mut sandboxes: Vec<_> = plans.filter_map(|plan| plan.sandbox_id()).collect();
            sandboxes.extend(state.ingress_sandbox());
            (state.board.networks.keys().cloned().collect::<Vec<_>>(), sandboxes)
        });
        let host = self.shared.host.clone();
        let repaired = run_blocking(move || {
            for id in networks {
                tell(&format!("network {id}"), host.repair_overlay(&id));
            }
            for id in sandboxes {
                tell(&format!("sandbox {id}"), host.repair_services(&id));
            }
        });
        if let Err(error) = repaired.await {
            tracing::error!(error = error.message(), "networks that span nodes cannot be looked at");
        }
        self.sync_ingress().await;
        drop(turn);
        self.tell_owed().await;
        self.drop_unwanted_overlays().await;
    }
}

fn tell(what: &str, outcome: Result<Repaired, overlay_net::NetError>) {
    match outcome {
        Ok(repaired) if repaired.is_nothing() => {}
        Ok(repaired) => {
            tracing::warn!(
                what,
                added = repaired.added,
                removed = repaired.removed,
                "networking was repaired"
            );
        }
        Err(error) => tracing::error!(what, error = %ErrorChain(&error), "networking cannot be repaired"),
    }
}

//! Leaving the cluster.
//!
//! Start reading at [`Owner::leave`].

use std::time::Duration;

use manager::ClusterError;
use manager::api::membership::LeaveForce;

use super::Owner;
use crate::membership::member::Member;
use crate::membership::unavailable;

/// How long saying goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
const LOCKED_LEAVE: &str =
    "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.";

impl Owner {
    pub(super) async fn leave(&mut self, force: LeaveForce) -> Result<(), ClusterError> {
        if self.is_locked && force == LeaveForce::No {
            return Err(unavailable(LOCKED_LEAVE));
        }
        if !self.is_locked && self.member.is_none() && self.work.is_none() {
            return Err(ClusterError::NothingToLeave);
        }
        if let Some(manager) = self.member.as_ref().and_then(|member| member.manager.as_ref())
            && force == LeaveForce::No
        {
            manager.check_leave()?;
        }
        self.leave_for_good().await;
        self.answer(Err(unavailable("this node has left the swarm")));
        Ok(())
    }

    /// Takes away everything that makes this machine a node.
    pub(super) async fn leave_for_good(&mut self) {
        self.give_up_work();
        self.failures = 0;
        if let Some(member) = self.member.take() {
            // Nothing shall be asked of it while it ends.
            self.publish();
            let Member { worker, client, manager, .. } = member;
            worker.leave().await;
            let goodbye = tokio::time::timeout(GOODBYE_LIMIT, client.say_goodbye()).await;
            if !matches!(goodbye, Ok(Ok(()))) {
                tracing::debug!("managers could not be told that this node leaves");
            }
            drop(client);
            if let Some(manager) = manager {
                manager.stop().await;
            }
        }
        self.is_locked = false;
        self.wipe().await;
        tracing::info!("this machine is no node of a cluster any more");
    }
}

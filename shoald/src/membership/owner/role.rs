//! Whether this node manages: what the leader says of it, the certificate for it, and the manager itself.
//!
//! Start reading at [`Owner::heed_session`]. The leader says which role the node shall have; the node renews its certificate for
//! that role, and starts or ends its manager when it has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use manager::ClusterError;
use manager::ca::Credentials;
use manager::node::{ManagerConfig, ManagerFate, ManagerNode};
use manager::worker_client::WorkerClient;
use shoal_types::cluster::node::NodeRole;

use super::patience::pause_after;
use super::standing::{keep, remove};
use super::{Outcome, Owner};
use crate::membership::member::manager_config;

impl Owner {
    /// Starts the manager of a node that should have one and has none: from disk, else by joining the others.
    pub(super) fn start_manager(&mut self) {
        let pause = pause_after(self.failures);
        let Some(member) = &self.member else { return };
        if member.manager.is_some() || member.credentials.role() != NodeRole::Manager {
            return;
        }
        let config = manager_config(&self.parts.settings, &member.record);
        let (credentials, remotes) = (Arc::clone(&member.credentials), member.known_managers());
        self.work(async move {
            // The back-off before a manager that has ended is started again.
            tokio::time::sleep(pause).await;
            Outcome::Managing(run_manager(config, credentials, remotes).await)
        });
        self.is_starting_manager = true;
    }

    /// Heeds what the leader says: which managers there are, and which role this node shall have.
    pub(super) fn heed_session(&mut self) {
        let Some(member) = &mut self.member else { return };
        let Some(message) = member.message() else { return };
        member.is_settled = true;
        let managers: Vec<SocketAddr> = message.managers.iter().map(|peer| peer.address).collect();
        if !managers.is_empty() && member.record.managers != managers {
            member.record.managers = managers;
            keep(&self.parts.settings.directory, &member.record);
        }
        let is_complete = member.credentials.role() == NodeRole::Worker || member.manager.is_some();
        let is_other_role = message.role != member.credentials.role();
        let id = member.node_id();
        let is_free = self.work.is_none() || (is_other_role && self.is_starting_manager);
        let must_renew = message.renew && member.renewed_in.as_ref() != Some(&message.id);
        if (must_renew || is_other_role) && is_free {
            // A renewal for another role alone fulfils no later wish for a certificate of another authority.
            if must_renew {
                member.renewed_in = Some(message.id.clone());
            }
            let client = Arc::clone(&member.client);
            let pause = pause_after(self.failures);
            self.work(renew(client, pause));
        }
        if is_complete {
            self.answer(Ok(id));
        }
    }

    /// The certificate is for the wanted role: starts or ends the manager.
    pub(super) async fn heed_role(&mut self) {
        let Some(member) = &self.member else { return };
        let role = member.credentials.role();
        let is_wanted = member.message().is_none_or(|message| message.role == role);
        match role {
            NodeRole::Manager => self.start_manager(),
            NodeRole::Worker => self.end_manager().await,
        }
        if is_wanted {
            self.failures = 0;
        } else {
            // The manager that issued was behind; it is asked again after a while.
            self.failures += 1;
        }
        // The leader may have said something else meanwhile.
        self.heed_session();
    }

    async fn end_manager(&mut self) {
        let Some(manager) = self.member.as_mut().and_then(|member| member.manager.take()) else { return };
        // Nobody shall be led to it any more while it ends.
        self.publish();
        manager.stop().await;
        tracing::info!("this node is no manager any more");
        let store = self.parts.settings.directory.join("manager");
        if let Err(error) = remove(&store).await {
            tracing::warn!(%error, "the manager's store cannot be removed");
        }
    }

    pub(super) async fn heed_fate(&mut self, fate: ManagerFate) {
        match fate {
            ManagerFate::Serving => {}
            // The role follows with the next word of the leader.
            ManagerFate::Removed => self.end_manager().await,
            ManagerFate::Failed(reason) => {
                tracing::error!(reason, "the manager of this node has failed and is started again");
                self.failures += 1;
                if let Some(manager) = self.member.as_mut().and_then(|member| member.manager.take()) {
                    manager.stop().await;
                }
                self.start_manager();
            }
        }
    }
}

async fn renew(client: Arc<WorkerClient>, pause: Duration) -> Outcome {
    // Until the certificate is old enough to be renewed.
    tokio::time::sleep(pause).await;
    Outcome::Renewed(client.renew().await)
}

async fn run_manager(
    config: ManagerConfig,
    credentials: Arc<Credentials>,
    remotes: Vec<SocketAddr>,
) -> Result<Arc<ManagerNode>, ClusterError> {
    match ManagerNode::start(config.clone(), Arc::clone(&credentials)).await {
        Err(ClusterError::NotBegun) => {
            let others = remotes.into_iter().filter(|remote| *remote != config.advertise).collect();
            ManagerNode::join(config, credentials, others).await
        }
        started => started,
    }
}

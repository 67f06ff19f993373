//! What this machine is, on disk and in memory: taken up at a start, kept when it becomes a node, taken away when it is none.
//!
//! Start reading at [`Owner::resume`].

use std::sync::Arc;

use manager::ClusterError;
use manager::ca::Credentials;
use manager::node::ManagerNode;

use super::Owner;
use crate::membership::member::Member;
use crate::membership::record::Record;

impl Owner {
    /// Takes up what the disk says that this machine is.
    pub(super) async fn resume(&mut self, key: Option<&str>) {
        let settings = self.parts.settings.clone();
        let credentials = match Credentials::load(&settings.directory.join("certificates"), key) {
            Ok(Some(credentials)) => credentials,
            Ok(None) => return self.wipe().await,
            Err(ClusterError::Locked) => {
                self.is_locked = true;
                return;
            }
            Err(error) => {
                tracing::error!(%error, "this node's certificate cannot be used");
                return;
            }
        };
        let record = match Record::load(&settings.directory) {
            Ok(Some(record)) => record,
            outcome => {
                tracing::error!(
                    ?outcome,
                    "this node's addresses are lost; it cannot take part in its cluster"
                );
                return;
            }
        };
        self.settle(record, credentials, None).await;
        if let Some(member) = &mut self.member {
            member.is_settled = true;
        }
    }

    pub(super) async fn unlock(&mut self, key: &str) -> Result<(), ClusterError> {
        if !self.is_locked {
            return Err(match self.member {
                Some(_) => ClusterError::NotLocked,
                None => ClusterError::NotAMember,
            });
        }
        let directory = self.parts.settings.directory.join("certificates");
        Credentials::load(&directory, Some(key))?;
        self.is_locked = false;
        self.resume(Some(key)).await;
        Ok(())
    }

    /// This machine has become a node: keeps that, starts its worker, and its manager if it is to have one.
    pub(super) async fn settle(
        &mut self,
        record: Record,
        credentials: Arc<Credentials>,
        manager: Option<Arc<ManagerNode>>,
    ) {
        keep(&self.parts.settings.directory, &record);
        let started =
            Member::start(&self.parts.node, &self.parts.store, &self.parts.settings, record, credentials)
                .await;
        match started {
            Ok(mut member) => {
                tracing::info!(node.id = %member.node_id(), "this machine is a node of a cluster");
                member.manager = manager;
                self.member = Some(member);
                self.start_manager();
            }
            Err(error) => {
                tracing::error!(%error, "the worker of this node cannot start");
                if let Some(manager) = manager {
                    manager.stop().await;
                }
                self.answer(Err(error));
            }
        }
    }

    /// Takes away what the disk says of a membership.
    pub(super) async fn wipe(&self) {
        if let Err(error) = remove(&self.parts.settings.directory).await {
            tracing::warn!(%error, "the swarm directory cannot be removed");
        }
    }
}

pub(super) fn keep(directory: &std::path::Path, record: &Record) {
    if let Err(error) = record.store(directory) {
        tracing::error!(%error, "this node's addresses cannot be kept");
    }
}

pub(super) async fn remove(directory: &std::path::Path) -> std::io::Result<()> {
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

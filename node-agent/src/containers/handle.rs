//! The way to one container: what others may know of it and ask of its owner.
//!
//! Start reading at [`Handle`]. Handles are cheap and may be kept; one of a container that was removed answers so.

use std::path::PathBuf;
use std::sync::Arc;

use shoal_types::ContainerId;
use tokio::sync::{oneshot, watch};

use super::lifecycle::Refusal;
use super::ports::{ContainerVolumes, Rootfs};
use super::request::{LifeWish, Request};
use super::slot::{Published, Slot};
use super::{Engine, Shared};
use crate::api::containers::ContainerView;
use crate::error::NodeError;
use crate::shim_client::Shim;
use crate::userns::IdMapping;

/// The way to one container.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, slot: Arc<Slot>) -> Self {
        Self { shared, slot }
    }

    /// The container's id.
    pub fn id(&self) -> ContainerId {
        self.slot.id()
    }

    /// The container as its owner last published it, without what only an inspection needs.
    pub fn view(&self) -> Arc<ContainerView> {
        self.slot.view()
    }

    /// The way to its shim, while it runs.
    pub fn shim(&self) -> Option<Arc<dyn Shim>> {
        self.slot.published().shim
    }

    /// The directories of its root file system, as they are now.
    pub async fn rootfs(&self) -> Result<Rootfs, NodeError> {
        self.shared.seams.images.rootfs(self.id()).await
    }

    /// Where its files and its log are, across reboots.
    pub fn directory(&self) -> PathBuf {
        self.shared.directory(self.id())
    }

    /// Whose ids those of files in containers are on the host.
    pub(crate) fn ids(&self) -> IdMapping {
        self.shared.config().ids.clone()
    }

    /// The engine that it belongs to.
    pub fn engine(&self) -> Engine {
        Engine { shared: Arc::clone(&self.shared) }
    }

    /// Who mounts its volumes.
    pub(crate) fn volumes(&self) -> Arc<dyn ContainerVolumes> {
        Arc::clone(&self.shared.seams.volumes)
    }

    /// Publishes an event about it.
    pub(crate) fn emit<const N: usize>(&self, action: &str, known: [(&str, String); N]) {
        self.shared.emit(&self.view(), action, known);
    }

    pub(crate) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Published> {
        self.slot.subscribe()
    }

    pub(crate) fn send(&self, request: Request) -> Result<(), NodeError> {
        self.slot.send(&self.shared, request)
    }

    /// Asks the owner for something about the container's life and waits for the answer.
    pub(crate) async fn ask(&self, wish: LifeWish) -> Result<Result<(), Refusal>, NodeError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Life(wish, reply))?;
        answer.await.map_err(|_| NodeError::NoSuchContainer(self.id().to_string()))
    }
}

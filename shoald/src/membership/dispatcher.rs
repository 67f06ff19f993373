//! The manager's client as the worker's port: where the two crates that do not know each other meet.
//!
//! Start reading at [`Managers`]. Nothing is decided here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use manager::ClusterError;
use manager::worker_client::{SessionHandle, WorkerClient, WorkerSession};
use node_agent::worker::{DispatchError, Dispatcher, Reports, Session};
use shoal_types::cluster::overlay::OverlayNetwork;
use shoal_types::protocol::{
    AttachReply, AttachRequest, DetachRequest, LogReport, SessionEvent, SessionRequest, StatusReport,
};

/// The managers, as the worker sees them.
#[derive(Debug, Clone)]
pub(super) struct Managers(pub(super) Arc<WorkerClient>);

#[derive(Debug)]
struct OpenSession(WorkerSession);

#[derive(Debug)]
struct Handle(SessionHandle);

fn told(error: &ClusterError) -> DispatchError {
    DispatchError::new(error.kind(), error.to_string())
}

#[async_trait]
impl Dispatcher for Managers {
    async fn open(&self, request: SessionRequest) -> Result<Box<dyn Session>, DispatchError> {
        let session = self.0.open_session(request).await.map_err(|error| told(&error))?;
        Ok(Box::new(OpenSession(session)))
    }
}

#[async_trait]
impl Session for OpenSession {
    async fn next(&mut self) -> Option<Result<SessionEvent, DispatchError>> {
        Some(self.0.next().await?.map_err(|error| told(&error)))
    }

    fn reports(&self) -> Arc<dyn Reports> {
        Arc::new(Handle(self.0.handle()))
    }
}

#[async_trait]
impl Reports for Handle {
    async fn heartbeat(&self) -> Result<Duration, DispatchError> {
        self.0.heartbeat().await.map_err(|error| told(&error))
    }

    async fn report(&self, report: StatusReport) -> Result<(), DispatchError> {
        self.0.report(report).await.map_err(|error| told(&error))
    }

    async fn acknowledge(&self, sequence: u64) -> Result<(), DispatchError> {
        self.0.acknowledge(sequence).await.map_err(|error| told(&error))
    }

    async fn publish_logs(&self, report: LogReport) -> Result<(), DispatchError> {
        self.0.publish_logs(report).await.map_err(|error| told(&error))
    }

    async fn look_up(&self, network: &str) -> Result<OverlayNetwork, DispatchError> {
        self.0.look_up(network).await.map_err(|error| told(&error))
    }

    async fn attach(&self, request: AttachRequest) -> Result<AttachReply, DispatchError> {
        self.0.attach(request).await.map_err(|error| told(&error))
    }

    async fn detach(&self, request: DetachRequest) -> Result<(), DispatchError> {
        self.0.detach(request).await.map_err(|error| told(&error))
    }
}

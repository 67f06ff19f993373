//! Shims that obey [`Faults`]: the fake shims of the shim client, with a fault before and after each call.
//!
//! Start reading at [`FaultyShims`].

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use node_shim::protocol::{
    AfterCheckpoint, AttachRequest, ConsoleSize, ExecRequest, ExitRecord, Failure, FailureKind, KillScope,
    ShimState, Target,
};
use shoal_types::ExecId;
use tokio::net::UnixStream;

use super::Faults;
use super::faults::CallGuard;
use crate::shim_client::fake::FakeShims;
use crate::shim_client::{FoundShim, RunningExec, Shim, ShimError, Shims};

/// Fake shims that fail and crash on demand.
#[derive(Debug)]
pub struct FaultyShims {
    faults: Faults,
    shims: Arc<FakeShims>,
}

impl FaultyShims {
    /// Lets these shims obey these faults.
    pub fn new(faults: Faults, shims: Arc<FakeShims>) -> Arc<Self> {
        Arc::new(Self { faults, shims })
    }

    fn wrap(&self, found: FoundShim) -> FoundShim {
        let shim = Arc::new(FaultyShim { faults: self.faults.clone(), shim: found.shim });
        FoundShim { shim, ..found }
    }
}

#[derive(Debug)]
struct FaultyShim {
    faults: Faults,
    shim: Arc<dyn Shim>,
}

async fn enter<'a>(faults: &'a Faults, call: &'static str) -> Result<CallGuard<'a>, ShimError> {
    let failed = |_| Failure::new(FailureKind::Internal, format!("{call}: injected failure")).into();
    faults.enter(call).await.map_err(failed)
}

#[async_trait]
impl Shims for FaultyShims {
    async fn spawn(&self, bundle: &Path) -> Result<FoundShim, ShimError> {
        let call = enter(&self.faults, "shims.spawn").await?;
        let found = self.shims.spawn(bundle).await?;
        call.done().await;
        Ok(self.wrap(found))
    }

    async fn find(&self, bundle: &Path) -> Result<Option<FoundShim>, ShimError> {
        Ok(self.shims.find(bundle).await?.map(|found| self.wrap(found)))
    }

    async fn clean_up(&self, bundle: &Path) -> Result<ExitRecord, ShimError> {
        let call = enter(&self.faults, "shims.clean_up").await?;
        let exit = self.shims.clean_up(bundle).await?;
        call.done().await;
        Ok(exit)
    }
}

#[async_trait]
impl Shim for FaultyShim {
    async fn create(&self) -> Result<u32, ShimError> {
        let call = enter(&self.faults, "shim.create").await?;
        let pid = self.shim.create().await?;
        call.done().await;
        Ok(pid)
    }

    async fn start(&self) -> Result<Timestamp, ShimError> {
        let call = enter(&self.faults, "shim.start").await?;
        let at = self.shim.start().await?;
        call.done().await;
        Ok(at)
    }

    async fn kill(&self, signal: i32, scope: KillScope) -> Result<(), ShimError> {
        let call = enter(&self.faults, "shim.kill").await?;
        self.shim.kill(signal, scope).await?;
        call.done().await;
        Ok(())
    }

    async fn pause(&self) -> Result<(), ShimError> {
        let call = enter(&self.faults, "shim.pause").await?;
        self.shim.pause().await?;
        call.done().await;
        Ok(())
    }

    async fn resume(&self) -> Result<(), ShimError> {
        let call = enter(&self.faults, "shim.resume").await?;
        self.shim.resume().await?;
        call.done().await;
        Ok(())
    }

    async fn checkpoint(&self, place: &Path, after: AfterCheckpoint) -> Result<(), ShimError> {
        let call = enter(&self.faults, "shim.checkpoint").await?;
        self.shim.checkpoint(place, after).await?;
        call.done().await;
        Ok(())
    }

    async fn resize(&self, target: Target, size: ConsoleSize) -> Result<(), ShimError> {
        self.shim.resize(target, size).await
    }

    async fn close_stdin(&self) -> Result<(), ShimError> {
        self.shim.close_stdin().await
    }

    async fn attach(&self, request: AttachRequest) -> Result<UnixStream, ShimError> {
        self.shim.attach(request).await
    }

    async fn exec(&self, request: ExecRequest) -> Result<RunningExec, ShimError> {
        let call = enter(&self.faults, "shim.exec").await?;
        let running = self.shim.exec(request).await?;
        call.done().await;
        Ok(running)
    }

    async fn signal_exec(&self, exec_id: ExecId, signal: i32) -> Result<(), ShimError> {
        self.shim.signal_exec(exec_id, signal).await
    }

    async fn acknowledge_exec(&self, exec_id: ExecId) -> Result<(), ShimError> {
        self.shim.acknowledge_exec(exec_id).await
    }

    async fn state(&self) -> Result<ShimState, ShimError> {
        self.shim.state().await
    }

    async fn shut_down(&self) -> Result<(), ShimError> {
        let call = enter(&self.faults, "shim.shut_down").await?;
        self.shim.shut_down().await?;
        call.done().await;
        Ok(())
    }
}

//! Containers, what is seen of them, their commands and checkpoints.
#![cfg(test)]

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use node_agent::NodeError;
use node_agent::api::Pruned;
use node_agent::api::checkpoints::*;
use node_agent::api::containers::*;
use node_agent::api::execs::*;
use node_agent::api::streams::Attachment;
use shoal_types::{ContainerId, ExecId};

use super::streams::echo;
use super::{EXEC, Fake};
use crate::objects;

#[async_trait]
impl Containers for Fake {
    async fn create(&self, request: CreateContainer) -> Result<Created, NodeError> {
        self.change(format!("create {request:?}"))?;
        let mut view = objects::created(request.name.as_deref().unwrap_or("invented"));
        view.spec = Arc::new(request.spec);
        view.requested = request.requested;
        let id = view.id;
        self.views.lock().unwrap().insert(0, Arc::new(view));
        Ok(Created { id, warnings: Vec::new() })
    }

    async fn start(&self, name: &str) -> Result<(), NodeError> {
        self.change_of(name, format!("start {name}"))
    }

    async fn stop(&self, name: &str, options: StopOptions) -> Result<(), NodeError> {
        self.change_of(name, format!("stop {name} {options:?}"))
    }

    async fn restart(&self, name: &str, options: StopOptions) -> Result<(), NodeError> {
        self.change_of(name, format!("restart {name} {options:?}"))
    }

    async fn kill(&self, name: &str, signal: Option<&str>) -> Result<(), NodeError> {
        self.change_of(name, format!("kill {name} {signal:?}"))
    }

    async fn pause(&self, name: &str) -> Result<(), NodeError> {
        self.change_of(name, format!("pause {name}"))
    }

    async fn unpause(&self, name: &str) -> Result<(), NodeError> {
        self.change_of(name, format!("unpause {name}"))
    }

    async fn rename(&self, name: &str, new_name: &str) -> Result<(), NodeError> {
        self.change_of(name, format!("rename {name} {new_name}"))
    }

    async fn update(&self, name: &str, update: ContainerUpdate) -> Result<Vec<String>, NodeError> {
        self.change_of(name, format!("update {name} {update:?}")).map(|_| Vec::new())
    }

    async fn remove(&self, name: &str, options: RemoveOptions) -> Result<(), NodeError> {
        self.change_of(name, format!("remove {name} {options:?}"))
    }

    async fn wait(&self, name: &str, condition: WaitCondition) -> Result<ExitFuture, NodeError> {
        self.note(format!("wait {name} {condition:?}"))?;
        self.find(name)?;
        if condition == WaitCondition::NextExit {
            return Ok(Box::pin(std::future::pending()));
        }
        Ok(Box::pin(async { Ok(ExitReport { code: 137, error: None }) }))
    }

    async fn prune(&self, filter: PruneFilter) -> Result<Pruned, NodeError> {
        self.change(format!("prune containers {filter:?}"))?;
        Ok(Pruned::default())
    }
}

#[async_trait]
impl ContainerViews for Fake {
    async fn list(&self, query: ListQuery) -> Result<Vec<Listed>, NodeError> {
        self.note(format!("list {query:?}"))?;
        let sizes = query.with_sizes.then_some(RootSizes { writable: 0, total: 1_982_312 });
        let views = self.views.lock().unwrap();
        Ok(views.iter().map(|view| Listed { view: Arc::clone(view), sizes }).collect())
    }

    async fn inspect(&self, name: &str) -> Result<Arc<ContainerView>, NodeError> {
        self.find(name)
    }

    async fn follow(&self, name: &str) -> Result<BoxStream<'static, Arc<ContainerView>>, NodeError> {
        let view = self.find(name)?;
        Ok(stream::iter([view]).boxed())
    }

    async fn sizes(&self, name: &str) -> Result<RootSizes, NodeError> {
        self.find(name).map(|_| RootSizes { writable: 0, total: 1_982_312 })
    }

    async fn top(&self, name: &str, ps_args: &str) -> Result<ProcessTable, NodeError> {
        self.note(format!("top {name} {ps_args}"))?;
        self.find(name)?;
        Ok(ProcessTable {
            titles: vec!["UID".into(), "PID".into()],
            processes: vec![vec!["root".into(), "1".into()]],
        })
    }
}

/// Refuses every id but that of the one command.
fn known(id: &str) -> Result<(), NodeError> {
    if id == ExecId::from_bytes(EXEC).to_string() {
        Ok(())
    } else {
        Err(NodeError::NoSuchExec(id.to_owned()))
    }
}

impl Fake {
    /// Notes a call that changes a command, if it is the one that there is.
    fn change_exec(&self, id: &str, call: String) -> Result<(), NodeError> {
        self.note(call.clone())?;
        known(id)?;
        self.changes.lock().unwrap().push(call);
        Ok(())
    }
}

#[async_trait]
impl Execs for Fake {
    async fn create(&self, container: &str, spec: ExecSpec) -> Result<ExecId, NodeError> {
        self.change_of(container, format!("exec {container} {spec:?}")).map(|_| ExecId::from_bytes(EXEC))
    }

    async fn check_start(&self, id: &str) -> Result<(), NodeError> {
        Execs::inspect(self, id).await.map(drop)
    }

    async fn start(&self, id: &str, options: ExecStart) -> Result<Attachment, NodeError> {
        self.change_exec(id, format!("exec start {id} {options:?}"))?;
        Ok(echo(false))
    }

    async fn start_detached(&self, id: &str) -> Result<(), NodeError> {
        self.change_exec(id, format!("exec detached {id}"))
    }

    async fn inspect(&self, id: &str) -> Result<ExecView, NodeError> {
        known(id)?;
        Ok(ExecView {
            id: ExecId::from_bytes(EXEC),
            container: ContainerId::from_bytes([1; 32]),
            spec: ExecSpec { command: vec!["echo".into(), "hi".into()], tty: true, ..ExecSpec::default() },
            running: false,
            exit_code: None,
            pid: 0,
        })
    }

    async fn resize(&self, id: &str, height: u16, width: u16) -> Result<(), NodeError> {
        self.change_exec(id, format!("exec resize {height} {width}"))
    }
}

#[async_trait]
impl Checkpoints for Fake {
    async fn checkpoint(&self, name: &str, wish: CheckpointWish) -> Result<(), NodeError> {
        let CheckpointWish { checkpoint, after } = wish;
        self.change(format!("checkpoint {name} {} {:?} {after:?}", checkpoint.name, checkpoint.root))
    }

    async fn checkpoints(&self, name: &str, root: Option<PathBuf>) -> Result<Vec<String>, NodeError> {
        self.note(format!("checkpoints {name} {root:?}"))?;
        Ok(vec!["first".to_owned()])
    }

    async fn remove_checkpoint(&self, name: &str, checkpoint: CheckpointName) -> Result<(), NodeError> {
        self.change(format!("remove checkpoint {name} {} {:?}", checkpoint.name, checkpoint.root))
    }

    async fn restore(&self, name: &str, checkpoint: CheckpointName) -> Result<(), NodeError> {
        self.change(format!("restore {name} {} {:?}", checkpoint.name, checkpoint.root))
    }
}

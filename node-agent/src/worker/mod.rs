//! The worker of a cluster: brings the tasks that managers assign to this machine to the state that is wanted of them.
//!
//! Start reading at [`Worker`], then follow an assignment:
//!
//! ```text
//! dispatcher.rs  port to the managers
//!  `- session.rs      opens sessions, beats, hands events on
//!      `- owner.rs        writes assignments down (assignments.rs: pure, record.rs: tables)
//!          `- task.rs         one actor for each task (step.rs, alone.rs: pure decisions)
//!              |- controller.rs   acts by the node's ports (container.rs, template/, values.rs: pure; files.rs: secrets, configs)
//!              `- reporter.rs     states, batched, back through the session
//! ```
//!
//! Which role the machine has and how it joins or leaves is not decided here but where worker and manager meet
//! (`shoald/src/membership.rs`). A worker needs no manager to keep its tasks running.

mod alone;
mod assignments;
pub mod connection;
mod container;
mod controller;
mod description;
pub mod dispatcher;
mod files;
mod logs;
pub mod overlays;
mod owner;
mod record;
mod reporter;
mod session;
mod step;
mod task;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_types::cluster::service::GenericResource;
use shoal_types::{NodeId, Platform};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use connection::{Connection, ConnectionState};
pub use container::check_templates;
pub use controller::DescribeRequest;
pub use dispatcher::{DispatchError, Dispatcher, Reports, Session};
pub use overlays::{OverlayMember, OverlayNews, Overlays};

use crate::api::Node;
use crate::error::NodeError;
use crate::store::Store;
use crate::userns::IdMapping;
use controller::{Controller, Host, Ports};
use description::Describer;
use owner::{Leave, Owner};
use reporter::Reporter;
use session::SessionKeeper;
use task::Surroundings;
use values::NodeFacts;

/// How many containers of tasks are made or started at once: enough to hide waiting, few enough to leave the machine to those
/// that run.
const PARALLEL_STARTS: usize = 16;

/// Takes the secrets and configs of all tasks away, below `directory`: no worker may run. Blocks.
pub fn clear_files(directory: &Path) -> std::io::Result<()> {
    owner::clear_orphaned_files(directory, &[])
}

/// What a worker is made of.
pub struct WorkerParts {
    /// The ports by which it acts.
    pub node: Node,
    /// Where it writes down what it was told.
    pub store: Store,
    /// The way to the managers.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// Networks that span nodes.
    pub overlays: Arc<dyn Overlays>,
    /// What writes down what a container was asked to be.
    pub describe: DescribeRequest,
    /// Who it is.
    pub identity: WorkerIdentity,
}

impl fmt::Debug for WorkerParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerParts").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Who a worker is.
#[derive(Debug, Clone)]
pub struct WorkerIdentity {
    /// The node's id.
    pub node: NodeId,
    /// Where it is reached; empty lets managers look.
    pub address: String,
    /// Its end of the tunnels between nodes.
    pub data_path: IpAddr,
    /// Where tasks see their secrets and configs.
    pub files: TaskFiles,
    /// Named resources that the administrator has given to the daemon.
    pub generic: Vec<(String, GenericResource)>,
    /// Version of the engine.
    pub engine_version: String,
}

/// Where and whose the files are in which tasks see their secrets and configs.
#[derive(Debug, Clone)]
pub struct TaskFiles {
    /// A directory below the runtime directory. Gone after a reboot.
    pub directory: PathBuf,
    /// Whose ids those of containers are on the host.
    pub ids: IdMapping,
}

/// A running worker. Dropping it, or [`Worker::stop`], leaves the tasks' containers running; [`Worker::leave`] takes them away.
#[derive(Debug)]
pub struct Worker {
    connection: watch::Receiver<Connection>,
    leaves: mpsc::Sender<Leave>,
    background: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Takes up the tasks that the daemon before had, without touching those that run, and opens a session.
    pub async fn start(parts: WorkerParts) -> Result<Self, NodeError> {
        let info = parts.node.system.info().await?;
        let identity = parts.identity;
        let describer = Describer {
            system: Arc::clone(&parts.node.system),
            generic: identity.generic,
            engine_version: identity.engine_version,
            data_path: identity.data_path,
            keys: parts.overlays.data_path_keys(),
        };
        let host = Arc::new(Host {
            ports: Ports::of(&parts.node),
            facts: NodeFacts { id: identity.node, hostname: info.hostname, platform: Platform::host() },
            files: identity.files,
            describe: parts.describe,
            starts: Semaphore::new(PARALLEL_STARTS),
            overlays: Arc::clone(&parts.overlays),
        });
        let (connection, connected) = watch::channel(Connection::closed());
        let (way, ways) = watch::channel(None);
        let reporter = Reporter::default();
        let around = Surroundings {
            controller: Controller::new(Arc::clone(&host)),
            store: parts.store,
            reporter: reporter.clone(),
            connection: connected.clone(),
        };
        let (node, vtep) = (identity.node, identity.data_path);
        parts.overlays.begin(OverlayMember { node, vtep, ways: ways.clone() }).await;
        let owner = Owner::restore(host, around, parts.overlays, ways.clone()).await?;
        // One event at a time: what comes next must find the one before written down.
        let (events, incoming) = mpsc::channel(1);
        let (leaves, leaving) = mpsc::channel(1);
        let keeper = SessionKeeper {
            dispatcher: parts.dispatcher,
            describer,
            address: identity.address,
            events,
            connection,
            way,
        };
        let background = vec![
            tokio::spawn(reporter.run(ways)),
            tokio::spawn(owner.run(incoming, leaving)),
            tokio::spawn(keeper.run()),
        ];
        Ok(Self { connection: connected, leaves, background })
    }

    /// Whether there is a session, and what it says.
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.connection.clone()
    }

    /// Ends the session and the actors; containers go on, and the next daemon takes them up.
    pub async fn stop(mut self) {
        for task in &self.background {
            task.abort();
        }
        for task in self.background.drain(..) {
            // Aborted, or ended before; either is what was wanted.
            let _ = task.await;
        }
    }

    /// Stops and removes the containers of all tasks, forgets the tasks, ends the session.
    pub async fn leave(self) {
        let (done, gone) = oneshot::channel();
        if self.leaves.send(done).await.is_ok() {
            // The owner ends after its answer; without one it has died, and there is nothing left to wait for.
            let _ = gone.await;
        }
        self.stop().await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for task in &self.background {
            task.abort();
        }
    }
}

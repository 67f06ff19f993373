//! Containers: the owner of their names and of one actor for each of them.
//!
//! Start reading at [`Engine`], then `create.rs` (how one is made), `actor.rs` (who owns it), `lifecycle/` (what decides),
//! `effects.rs` (what acts) and `launch.rs` (a start). [`ports::Seams`] is what it all stands on.
//!
//! | file | what |
//! |---|---|
//! | `port.rs`, `list.rs`, `streams.rs`, `exec/port.rs`, `connect.rs` | the node's ports |
//! | `index.rs`, `names.rs`, `links.rs`, `filter.rs` | PURE: who is called what, who links to whom, what lists show |
//! | `validate/`, `merge.rs`, `defaults.rs`, `mounts.rs` | PURE: from a client's wish to a complete spec |
//! | `slot.rs`, `request.rs`, `actor.rs` | one place and one owner for each container |
//! | `lifecycle/`, `restart.rs`, `health/mod.rs` | PURE: the machines |
//! | `effects.rs`, `launch.rs`, `teardown.rs`, `erase.rs` | doing what they want |
//! | `record.rs`, `run.rs` | what survives the daemon |
//! | `mounter.rs` | the kernel behind one of the seams: mounts on the host |
//! | `view.rs`, `wait.rs` | what everybody may see |
//!
//! Rules. Every change of a container runs in its actor; requests wait in the slot's inbox and survive their caller. What
//! is published is never waited for. No work grows with the number of containers, but for lists. Nothing here knows
//! overlayfs, netlink, or the OCI runtime.

mod actor;
mod attach;
mod checkpoints;
pub mod config;
mod connect;
mod create;
mod defaults;
mod effects;
mod erase;
mod exec;
#[cfg(any(test, feature = "testing"))]
pub mod fakes;
mod filter;
mod handle;
mod health;
pub mod host;
mod index;
mod launch;
mod lifecycle;
mod links;
mod list;
mod logging;
mod merge;
pub mod mounter;
pub(crate) mod mounts;
mod names;
pub(crate) mod paths;
mod peers;
mod port;
pub mod ports;
mod record;
mod request;
mod restart;
mod run;
mod shared;
mod signal;
mod slot;
mod stats;
mod streams;
mod teardown;
#[cfg(test)]
pub(crate) mod tests;
mod top;
mod update;
mod validate;
pub(crate) mod view;
mod wait;

use std::sync::Arc;

use tokio::sync::oneshot;

use self::config::EngineConfig;
pub use self::handle::Handle;
use self::host::Host;
use self::ports::Seams;
pub(crate) use self::shared::Shared;
use crate::error::NodeError;
use crate::figures::Figures;

/// The containers of this node. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// An engine that knows no containers yet; `crate::boot` fills it from the database and the world.
    pub fn new(seams: Seams, config: EngineConfig, host: Host) -> Self {
        Self { shared: Shared::new(seams, config, host) }
    }

    /// Finds a container by whole id, name, or unique prefix of its id.
    pub fn find(&self, name: &str) -> Result<Handle, NodeError> {
        self.shared.find(name)
    }

    /// Where this engine's actions are timed.
    pub(crate) fn figures(&self) -> &Figures {
        &self.shared.seams.figures
    }

    /// The engine's inside, for the boot of the daemon.
    pub(crate) fn boot_access(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Takes other settings; containers that run keep what they were started with.
    pub fn reconfigure(&self, config: EngineConfig) {
        self.shared.reconfigure(config);
    }

    /// Ends all tasks of the engine and waits for them. Containers go on; the next engine finds them. Requests are
    /// refused from the call on; those under way are given up where they wait, as in a crash, and continued at boot.
    pub async fn close(&self) {
        self.shared.close().await;
    }
}

/// What is tried with input from nowhere.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz_access {
    pub(crate) use super::attach::detach::DetachKeys;
    pub(crate) use super::links::parse as parse_link;
    pub(crate) use super::signal::parse as parse_signal;
    pub(crate) use crate::runtime::user::{Accounts, resolve as resolve_user};
}

/// What the boot of the daemon needs of the engine's inside.
pub(crate) mod boot_access {
    pub(crate) use super::actor::{Actor, Core, Holding, LiveRun, ended};
    pub(crate) use super::lifecycle::{BootWish, Input, Lifecycle, Observed, Refusal};
    pub(crate) use super::record::{ContainerRecord, StateRecord};
    pub(crate) use super::request::LifeWish;
    pub(crate) use super::run::RunRecord;
    pub(crate) use super::shared::Shared;
    pub(crate) use super::slot::Slot;
    pub(crate) use super::{run_blocking, view};
}

/// Waits for an owner's answer. It is dropped unanswered when the container is removed meanwhile.
async fn answered<T>(answer: oneshot::Receiver<Result<T, NodeError>>) -> Result<T, NodeError> {
    answer.await.unwrap_or_else(|_| Err(NodeError::conflict("the container was removed meanwhile")))
}

/// Runs blocking work on a thread that may block.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|source| NodeError::failed("run file system work", source))
}

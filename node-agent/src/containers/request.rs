//! What can be asked of a container's owner.
//!
//! Start reading at [`Request`]. Each carries the place for its answer; a caller that goes away drops its end, and the
//! request is carried out all the same.

use std::path::PathBuf;

use shoal_types::container::networking::EndpointSpec;
use shoal_types::network::NetworkScope;
use tokio::sync::oneshot;

use super::attach::Attached;
use super::lifecycle::{Refusal, StopPlan};
use crate::api::containers::{ContainerUpdate, OfRunning, OfVolumes};
use crate::error::NodeError;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, NodeError>>;

/// A wish, and the place for its answer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Something about its life.
    Life(LifeWish, oneshot::Sender<Result<(), Refusal>>),
    /// A start that goes on from the checkpoint in this directory.
    Restore(PathBuf, oneshot::Sender<Result<(), Refusal>>),
    /// Another name, already checked.
    Rename(String, Reply<()>),
    /// Other limits or another policy.
    Update(Box<ContainerUpdate>, Reply<Vec<String>>),
    /// One link of the old kind less, named by its alias.
    Unlink(String, Reply<()>),
    /// Streams of its init process: at once if it runs, else when it starts.
    Attach(node_shim::protocol::AttachRequest, Reply<Attached>),
    /// One more network.
    Join((String, NetworkScope), Box<EndpointSpec>, Reply<()>),
    /// One network less.
    Leave(String, Reply<()>),
    /// A container that it links to has another address.
    RenewFiles,
    /// An answer when everything that was asked before is done.
    Settle(oneshot::Sender<()>),
}

/// Something about a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LifeWish {
    /// Start.
    Start,
    /// Start because the daemon has just started.
    BootStart,
    /// Stop.
    Stop(StopPlan),
    /// Stop, then start.
    Restart(StopPlan),
    /// Send a signal.
    Kill(i32),
    /// Freeze.
    Pause,
    /// Thaw.
    Unpause,
    /// Remove.
    Remove(OfRunning, OfVolumes),
}

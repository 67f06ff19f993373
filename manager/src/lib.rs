//! The cluster: replicated managers that decide what runs on which node.
//!
//! Start reading at [`api`], what the front end may ask of the cluster, and at [`NotAMember`], the only state that there is
//! until a node can join: it answers every request by saying so. Nothing of the node is imported here; tasks travel to nodes as
//! `shoal_types::protocol` messages.

mod allocator;
pub mod api;
pub mod backup;
pub mod ca;
pub mod clock;
pub mod control;
pub mod decisions;
mod desk;
mod dispatcher;
pub mod error;
#[cfg(test)]
mod fixtures;
mod forward;
mod keys;
mod leader;
mod log_reader;
pub mod node;
mod not_a_member;
pub mod orchestrator;
mod overlay;
mod raft;
mod roles;
mod rpc;
pub mod scheduler;
mod seal;
mod settings;
#[cfg(test)]
mod simulation;
pub mod store;
pub mod worker_client;

pub use api::Cluster;
pub use error::ClusterError;
pub use not_a_member::NotAMember;

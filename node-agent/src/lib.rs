//! This machine: containers, images, volumes and networks, and the worker of a cluster.
//!
//! Start reading at [`api::Node`], what others may ask of it; then `containers`, which owns one task for each container.
//! Mechanisms are elsewhere: the kernel's networking in overlay-net, registries in registry-client, processes in
//! node-shim and node-runtime. Nothing here knows HTTP or Docker's JSON.
//!
//! | module | owns |
//! |---|---|
//! | [`api`] | the ports: what the front end, the builder and the worker may call |
//! | [`store`] | the embedded database |
//! | [`containers`] | the life of containers |
//! | [`boot`] | starting where the last daemon ended |
//! | [`logs`] | reading containers' logs |
//! | [`command`] | helper programs |
//! | [`runtime`] | what an OCI runtime is given |
//! | [`events`] | the event history |
//! | [`content`] | blobs by digest |
//! | [`files`] | files of containers: copied, exported, compared, committed |
//! | [`images`] | images, their names and transfers |
//! | [`layers`] | unpacked layers and the writable layers of containers |
//! | [`networks`] | networks, addresses, who is connected |
//! | [`system`] | the machine, the daemon's settings, what takes up disk |
//! | [`plugins`] | plugins of the old kind: where they are, how they are called |
//! | [`volumes`] | volumes, who uses them, when they are mounted |
//! | [`shim_client`] | the engine's side of a container's shim |
//! | [`worker`] | tasks of a cluster |

pub mod api;
pub mod boot;
pub mod command;
pub mod containers;
pub mod content;
mod crash_point;
pub mod error;
pub mod events;
pub mod figures;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod images;
pub mod layers;
pub mod logs;
pub mod networks;
pub mod plugins;
pub mod runtime;
pub mod shim_client;
pub mod sizes;
pub mod store;
pub mod system;
pub mod userns;
pub mod volumes;
pub mod worker;

pub use error::NodeError;

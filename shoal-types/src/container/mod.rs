//! What a container is asked to be, and what it is.
//!
//! Start reading at [`spec::ContainerSpec`]; the other files hold its groups. [`state`] is the observed side. Docker's
//! names for these things are in `api-compat`; how they become an OCI runtime spec is in `node-agent/src/runtime`.

pub mod health;
pub mod mounts;
pub mod networking;
pub mod resources;
pub mod restart;
pub mod security;
pub mod spec;
pub mod state;

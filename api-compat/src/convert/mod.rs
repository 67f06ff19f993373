//! Between Docker's JSON and the engine's types, one file for each noun, all of it pure.
//!
//! Start reading at [`container_create`]. What only the shape of a request can tell is refused here, in Docker's words;
//! what needs the host is the engine's. Versions are `compat`'s: here only the newest shape exists.

pub(crate) mod cluster;
pub(crate) mod container_config;
pub(crate) mod container_create;
pub(crate) mod container_inspect;
pub(crate) mod container_stats;
pub(crate) mod container_summary;
pub(crate) mod disk_usage;
pub(crate) mod exec;
pub(crate) mod host_config;
pub(crate) mod image;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod network_settings;
pub(crate) mod node;
pub(crate) mod requested;
pub(crate) mod secret;
pub(crate) mod security_opt;
pub(crate) mod service;
mod service_container;
mod service_mount;
pub(crate) mod system;
pub(crate) mod task;
pub(crate) mod task_container;
pub(crate) mod task_spec;
pub(crate) mod volume;

//! Overlay networks: containers of several nodes on one segment, by VXLAN tunnels with static tables.
//!
//! Start reading at [`spec`] (what is asked for) and at `host/overlay.rs` (what can be done). Each overlay network has a
//! namespace of its own on each node, pinned below the directory that [`Config::netns_dir`](crate::Config) is in under
//! the network's id, so that a daemon that comes back finds it.

pub mod spec;

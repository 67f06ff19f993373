//! Logs of containers: what their options mean, the side that reads, and the side that sends them elsewhere. The shim
//! writes.
//!
//! Start reading at [`settings`], from log options to what the shim is told; `read.rs` serves clients, `follow.rs` tells them
//! of news, `remote/` are the drivers that send, `forward.rs` when they do.

mod cursor;
pub(crate) mod follow;
pub(crate) mod forward;
pub(crate) mod read;
pub(crate) mod remote;
pub mod settings;

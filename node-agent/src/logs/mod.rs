//! Logs of containers: what their options mean, and the side that reads. The shim writes.
//!
//! Start reading at [`settings`], from log options to what the shim is told; `read.rs` serves clients, `follow.rs` tells them
//! of news.

pub(crate) mod follow;
pub(crate) mod read;
pub mod settings;

//! Logs of containers: what their options mean, and the side that reads. The shim writes.
//!
//! Start reading at [`settings`], from log options to what the shim is told.

pub(crate) mod settings;

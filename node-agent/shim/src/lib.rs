//! One small synchronous process per container, which owns the container's stdio, its log and its exit code, so
//! that a container never depends on the daemon.
//!
//! Start reading at [`protocol`]: what the daemon and the shim say to each other, and the files of the bundle.
//! The crate has no tokio and no threads: a shim is resident for as long as its container, so
//! every page counts. The daemon's side of the protocol is `node-agent/src/shim_client`.

pub mod protocol;

//! The shim as a process, with real containers of busybox under real runtimes. Needs root, busybox-static, and runc or
//! crun; what is missing is said loudly.
//!
//! Start reading at `support/`, which stands for the daemon. Each module is about one promise of the shim.
#![cfg(test)]

mod attach;
mod checkpoint;
mod exec;
mod lifecycle;
mod logs;
mod recovery;
mod support;
